/**
 * The general allocator against a model: 10^7 operations of four owners on one thread, where the seed
 * decides everything and each live block is known, with a backend that refuses; and 10^7 on four real
 * threads that free each other's blocks, end and begin again. Afterwards every byte is back. The full
 * size adds ThreadSanitizer and the seeded scheduler.
 */
import type { ProofOptions } from "../../scripts/proofs.ts";
import { zigBuild } from "../fixtures/zig_build.ts";

export const name = "global-model";
export const issue = 3;
export const title =
  "10^7 mixed operations of four threads: nothing overlaps, nothing is lost, everything comes back";

export async function run({ size, log }: ProofOptions): Promise<void> {
  const full = size === "full";
  const build = (...words: string[]) => zigBuild(log, ...words);
  const seed = `${Math.floor(Math.random() * 2 ** 32)}`;
  // Each seed leaves other operations out.
  for (let part = 0; part < (full ? 10 : 1); part += 1) {
    const own = `${Number(seed) + part}`;
    await build("fuzz", "--", "global", own, `--events=${full ? 1_000_000 : 50_000}`);
  }
  await build("fuzz", "--", "global_threads", seed, `--events=${full ? 10_000_000 : 400_000}`);
  if (!full) return;
  await build("schedules", "--", "--only=global", "--schedules=1000000");
  await build("race");
}
