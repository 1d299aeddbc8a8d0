/**
 * After everything is freed and `reclaim()`, while the threads that freed are alive and idle, the backend
 * holds nothing, metadata included; and what a thread keeps for itself is there for the others when the
 * backend refuses.
 */
import type { ProofOptions } from "../../scripts/proofs.ts";
import { zigBuild } from "../fixtures/zig_build.ts";

export const name = "reclaiming-empty";
export const issue = 4;
export const title = "after everything is freed, reclaim leaves the backend nothing to hold";

export async function run({ size, log }: ProofOptions): Promise<void> {
  const tests = ["nothing is left at the backend", "what one thread keeps is there for another"];
  await zigBuild(log, "test", ...tests.map((test) => `-Dtest-filter=${test}`));
  const seeds = size === "full" ? 20 : 1;
  const events = size === "full" ? 50_000 : 5_000;
  for (let seed = 1; seed <= seeds; seed++) {
    await zigBuild(log, "fuzz", "--", "reclaiming_threads", `${seed}`, `--events=${events}`);
  }
}
