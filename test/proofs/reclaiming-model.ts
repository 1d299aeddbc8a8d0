/**
 * Eight threads allocate, free and hand over beside a reclaimer, while the backend refuses one call in
 * five: contents stay, every slot and span comes back. At full size for a minute, then under
 * ThreadSanitizer, and every order of memory operations by the seeded scheduler.
 */
import { ok } from "node:assert/strict";
import type { ProofOptions } from "../../scripts/proofs.ts";
import { run as runCommand, zigPath } from "../../scripts/toolchain.ts";

export const name = "reclaiming-model";
export const issue = 4;
export const title = "threads, a reclaimer and a refusing backend lose nothing";

const FULL_MS = 60_000;

export async function run({ size, log }: ProofOptions): Promise<void> {
  const events = size === "full" ? 100_000 : 5_000;
  const end = performance.now() + (size === "full" ? FULL_MS : 0);
  let seed = 1;
  do {
    await zig(log, "fuzz", "--", "reclaiming_threads", `${seed}`, `--events=${events}`);
    seed += 1;
  } while (performance.now() < end);
  if (size === "smoke") return;
  await zig(log, "race");
  await zig(log, "schedules", "--", "--only=reclaiming", "--schedules=200000");
}

async function zig(log: ProofOptions["log"], ...args: string[]): Promise<void> {
  const { status, output } = await runCommand([zigPath(), "build", ...args]);
  const last = output.trim().split("\n").at(-1);
  log(`${args.join(" ")}: ${status === 0 ? last || "passed" : "failed"}`);
  ok(status === 0, output);
}
