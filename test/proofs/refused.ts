/**
 * Each system call refused at each of its calls in a random workload: the documented answer, no page
 * lost, and the engine works on. Runs the fuzzer `refused`, which drives the whole engine over the
 * deterministic fake system, once for each call and seed.
 */
import type { ProofOptions } from "../../scripts/proofs.ts";
import { zigBuild } from "../fixtures/zig_build.ts";

export const name = "refused";
export const issue = 2;
export const title = "every system call may be refused at any time: nothing is lost, all works on";

export async function run({ size, log }: ProofOptions): Promise<void> {
  const seeds = size === "full" ? [1, 2, 3, 4, 5] : [1];
  const events = size === "full" ? 300 : 60;
  for (const seed of seeds) {
    await zigBuild(log, "fuzz", "--", "refused", `${seed}`, `--events=${events}`);
  }
}
