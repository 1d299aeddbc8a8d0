// B6: random reads over 1 GiB of doubles, on huge pages and on whatever `new Float64Array` gets.

import { allocUnsafe } from "../../src/index.ts";
import { compare } from "../comparison.ts";
import { targets } from "../targets.ts";
import { blockOptions, interleave, mib, rowOptions, sink } from "./blocks.ts";

const options = rowOptions();
const bytes = options.smoke ? 4 * mib : 1 << 30;
const readsPerBlock = options.smoke ? 10_000 : 3_000_000;
const elements = bytes / Float64Array.BYTES_PER_ELEMENT;

/** Sums doubles at places that no prefetcher can guess. */
function readRandomly(doubles: Float64Array, reads: number): number {
  const mask = doubles.length - 1;
  let place = 1;
  let sum = 0;
  for (let i = 0; i < reads; i++) {
    place = (Math.imul(place, 1664525) + 1013904223) >>> 0;
    // The low bits of such a sequence repeat early; the high ones choose the cache line.
    sum += doubles[(place >>> 3) & mask] ?? 0;
  }
  return sum;
}

const handle = allocUnsafe(bytes, { views: "alias", pages: options.smoke ? "auto" : "thp" });
const huge = handle.view(Float64Array).fill(1);
const plain = new Float64Array(elements).fill(1);

const hugePages = {
  name: "hugePages",
  run(count: number) {
    for (let i = 0; i < count; i++) sink(readRandomly(huge, readsPerBlock));
  },
};
const plainArray = {
  name: "plainArray",
  run(count: number) {
    for (let i = 0; i < count; i++) sink(readRandomly(plain, readsPerBlock));
  },
};
const samples = interleave([hugePages, plainArray], blockOptions(options, 1));
const perRead = (ns: readonly number[] = []) => ns.map((block) => block / readsPerBlock);
console.log(
  JSON.stringify([
    compare({
      row: "B6",
      work: `random reads over ${bytes / mib} MiB, pages obtained: ${handle.pageKind}`,
      against: "new Float64Array",
      ours: perRead(samples.hugePages),
      theirs: perRead(samples.plainArray),
      target: targets.B6.plainArray,
    }),
  ]),
);
handle.free();
