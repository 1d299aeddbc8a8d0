// Interleaved blocks: how every TypeScript row is measured.
//
// A contender is a loop over one operation. In each round every contender runs one block of about
// the same time, in an order drawn anew, with a full collection before each block, so that nobody
// pays for another's garbage and everybody pays for its own. The clock and the sink are mitata's.

import * as jsc from "bun:jsc";
import { do_not_optimize, gc, now } from "mitata/src/lib.mjs";
import { generator, shuffled } from "../comparison.ts";

export interface Contender {
  name: string;
  /** Carries the operation out `count` times. */
  run(count: number): void;
}

export interface BlockOptions {
  rounds: number;
  blockMs: number;
  seed: number;
}

/** What a child process is told by run.ts, as JSON in its first argument. */
export interface RowOptions {
  smoke: boolean;
  rounds: number;
  seed: number;
  /** Objects kept alive beside the work, for rows that ask for a full heap. */
  liveObjects: number;
}

/** One interruption in a block must not decide a median. */
const roundsMin = 15;

export const pageBytes = 4096;
export const mib = 1 << 20;

export function rowOptions(): RowOptions {
  const defaults: RowOptions = { smoke: true, rounds: 1, seed: 1, liveObjects: 0 };
  return { ...defaults, ...(JSON.parse(process.argv[2] ?? "{}") as Partial<RowOptions>) };
}

/** Blocks short enough for a smoke run, or long enough to hold collections, and enough of them. */
export function blockOptions(options: RowOptions, blockMs: number): BlockOptions {
  const { smoke, rounds, seed } = options;
  if (smoke) return { rounds, seed, blockMs: 0.2 };
  return { rounds: Math.max(roundsMin, rounds), seed, blockMs };
}

/** Nanoseconds per operation of each contender in each round; a first round is thrown away. */
export function interleave(
  contenders: readonly Contender[],
  options: BlockOptions,
): Record<string, number[]> {
  const random = generator(options.seed);
  const counts = new Map(contenders.map((one) => [one, countFor(one, options.blockMs * 1e6)]));
  const samples: Record<string, number[]> = {};
  for (const contender of contenders) samples[contender.name] = [];
  for (let round = -1; round < options.rounds; round++) {
    for (const contender of shuffled(contenders, random)) {
      const count = counts.get(contender) ?? 1;
      gc();
      const ns = blockNs(contender, count) / count;
      if (round >= 0) samples[contender.name]?.push(ns);
    }
  }
  return samples;
}

/**
 * How many operations fill a block. The first run faults memory in and is compiled while it runs,
 * so the count found with it is only a start: it is measured again, warm, until it fills half a
 * block.
 */
function countFor(contender: Contender, wantedNs: number): number {
  let count = 1;
  let ns = blockNs(contender, count);
  for (let attempt = 0; attempt < 40; attempt++) {
    ns = blockNs(contender, count);
    if (ns >= wantedNs / 2) break;
    count = Math.max(count + 1, Math.min(count * 8, Math.round((count * wantedNs) / ns)));
  }
  return Math.max(1, Math.round((count * wantedNs) / ns));
}

function blockNs(contender: Contender, count: number): number {
  const start = now();
  contender.run(count);
  return now() - start;
}

/** Writes one byte in every page, and gives one back so that the writes stay. */
export function touch(bytes: Uint8Array): number {
  const length = bytes.length;
  for (let offset = 0; offset < length; offset += pageBytes) bytes[offset] = 1;
  return bytes[length - 1] ?? 0;
}

// Inlined into each contender, the loop above is compiled once for each, and some of these
// compilations were seen to run at half the speed of the others. Kept whole, it is one code for
// all.
(jsc as unknown as { noInline(of: (bytes: Uint8Array) => number): void }).noInline(touch);

export function sink(value: unknown): void {
  do_not_optimize(value);
}

/** `count` objects that the collector has to look at for as long as the result is held. */
export function liveObjects(count: number): object[] {
  return Array.from({ length: count }, (_, index) => ({ index, next: null }));
}
