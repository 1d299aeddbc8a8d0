/**
 * The backend fills its memory with 0xFF before it hands it over: batches, records and the index work
 * as with zeroed memory.
 */
import type { ProofOptions } from "../../scripts/proofs.ts";
import { zigBuild } from "../fixtures/zig_build.ts";

export const name = "reclaiming-dirty";
export const issue = 4;
export const title =
  "memory that a backend hands over full of ones serves as well as zeroed memory";

export async function run({ size, log }: ProofOptions): Promise<void> {
  await zigBuild(log, "test", "-Dtest-filter=whose memory is full of ones");
  const seeds = size === "full" ? 20 : 1;
  const events = size === "full" ? 100_000 : 5_000;
  for (let seed = 1; seed <= seeds; seed++) {
    await zigBuild(log, "fuzz", "--", "reclaiming_dirty", `${seed}`, `--events=${events}`);
  }
}
