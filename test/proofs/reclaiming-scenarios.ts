/**
 * The scenarios of the reclaiming heap and of its successor, one named test each, and random runs of
 * all its operations against an obvious model.
 */
import { ok } from "node:assert/strict";
import type { ProofOptions } from "../../scripts/proofs.ts";
import { run as runCommand, zigPath } from "../../scripts/toolchain.ts";

export const name = "reclaiming-scenarios";
export const issue = 4;
export const title = "every scenario of the reclaiming heap and of its successor holds";

export async function run({ size, log }: ProofOptions): Promise<void> {
  await zig(log, "test", "-Dtest-filter=heap.reclaiming_test");
  const seeds = size === "full" ? 40 : 1;
  const events = size === "full" ? 100_000 : 5_000;
  for (let seed = 1; seed <= seeds; seed++) {
    await zig(log, "fuzz", "--", "reclaiming", `${seed}`, `--events=${events}`);
  }
}

async function zig(log: ProofOptions["log"], ...args: string[]): Promise<void> {
  const { status, output } = await runCommand([zigPath(), "build", ...args]);
  const last = output.trim().split("\n").at(-1);
  log(`${args.join(" ")}: ${status === 0 ? last || "passed" : "failed"}`);
  ok(status === 0, output);
}
