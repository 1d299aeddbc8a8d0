/**
 * The scenarios of the reclaiming heap and of its successor, one named test each, and random runs of
 * all its operations against an obvious model.
 */
import type { ProofOptions } from "../../scripts/proofs.ts";
import { zigBuild } from "../fixtures/zig_build.ts";

export const name = "reclaiming-scenarios";
export const issue = 4;
export const title = "every scenario of the reclaiming heap and of its successor holds";

export async function run({ size, log }: ProofOptions): Promise<void> {
  await zigBuild(log, "test", "-Dtest-filter=heap.reclaiming_test");
  const seeds = size === "full" ? 40 : 1;
  const events = size === "full" ? 100_000 : 5_000;
  for (let seed = 1; seed <= seeds; seed++) {
    await zigBuild(log, "fuzz", "--", "reclaiming", `${seed}`, `--events=${events}`);
  }
}
