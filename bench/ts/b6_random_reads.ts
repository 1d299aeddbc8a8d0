// B6: random reads over 1 GiB of doubles, on huge pages and on whatever `new Float64Array` gets.

import { allocUnsafe } from "../../src/index.ts";
import { compare, generator } from "../comparison.ts";
import { targets } from "../targets.ts";
import { blockOptions, interleave, mib, rowOptions, sink } from "./blocks.ts";

const options = rowOptions();
const bytes = options.smoke ? 4 * mib : 1 << 30;
const readsPerBlock = options.smoke ? 10_000 : 3_000_000;
const elements = bytes / Float64Array.BYTES_PER_ELEMENT;

/** Places drawn beforehand: the row compares reads, not generators of random numbers. */
const random = generator(options.seed);
const places = Uint32Array.from({ length: readsPerBlock }, () => Math.floor(random() * elements));

function readAll(doubles: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < places.length; i++) sum += doubles[places[i] ?? 0] ?? 0;
  return sum;
}

const handle = allocUnsafe(bytes, { views: "alias", pages: options.smoke ? "auto" : "thp" });
const huge = handle.view(Float64Array).fill(1);
const plain = new Float64Array(elements).fill(1);

const hugePages = {
  name: "hugePages",
  run(count: number) {
    for (let i = 0; i < count; i++) sink(readAll(huge));
  },
};
const plainArray = {
  name: "plainArray",
  run(count: number) {
    for (let i = 0; i < count; i++) sink(readAll(plain));
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
