/**
 * The backend fills its memory with 0xFF before it hands it over: batches, records and the index work
 * as with zeroed memory.
 */
import { ok } from "node:assert/strict";
import type { ProofOptions } from "../../scripts/proofs.ts";
import { run as runCommand, zigPath } from "../../scripts/toolchain.ts";

export const name = "reclaiming-dirty";
export const issue = 4;
export const title =
  "memory that a backend hands over full of ones serves as well as zeroed memory";

export async function run({ size, log }: ProofOptions): Promise<void> {
  await zig(log, "test", "-Dtest-filter=whose memory is full of ones");
  const seeds = size === "full" ? 20 : 1;
  const events = size === "full" ? 100_000 : 5_000;
  for (let seed = 1; seed <= seeds; seed++) {
    await zig(log, "fuzz", "--", "reclaiming_dirty", `${seed}`, `--events=${events}`);
  }
}

async function zig(log: ProofOptions["log"], ...args: string[]): Promise<void> {
  const { status, output } = await runCommand([zigPath(), "build", ...args]);
  const last = output.trim().split("\n").at(-1);
  log(`${args.join(" ")}: ${status === 0 ? last || "passed" : "failed"}`);
  ok(status === 0, output);
}
