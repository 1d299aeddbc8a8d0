/**
 * Eight threads allocate, free and hand over beside a reclaimer, while the backend refuses one call in
 * five: contents stay, every slot and span comes back. At full size for a minute, then under
 * ThreadSanitizer, and every order of memory operations by the seeded scheduler.
 */
import type { ProofOptions } from "../../scripts/proofs.ts";
import { zigBuild } from "../fixtures/zig_build.ts";

export const name = "reclaiming-model";
export const issue = 4;
export const title = "threads, a reclaimer and a refusing backend lose nothing";

const FULL_MS = 60_000;

export async function run({ size, log }: ProofOptions): Promise<void> {
  const events = size === "full" ? 100_000 : 5_000;
  const end = performance.now() + (size === "full" ? FULL_MS : 0);
  let seed = 1;
  do {
    await zigBuild(log, "fuzz", "--", "reclaiming_threads", `${seed}`, `--events=${events}`);
    seed += 1;
  } while (performance.now() < end);
  if (size === "smoke") return;
  await zigBuild(log, "race");
  await zigBuild(log, "schedules", "--", "--only=reclaiming", "--schedules=200000");
}
