// B3: lease with revoke views, write one byte per page, free: against a fresh array of that size.
// Run once over an empty heap and once beside `liveObjects` that every collection has to walk.

import { allocUnsafe } from "../../src/index.ts";
import { type Comparison, compare } from "../comparison.ts";
import { targets } from "../targets.ts";
import { blockOptions, interleave, liveObjects, mib, rowOptions, sink, touch } from "./blocks.ts";

const options = rowOptions();
const kept = liveObjects(options.liveObjects);
const sizes = options.smoke ? [2] : [2, 4, 16, 64];

function row(size: number): Comparison {
  const bytes = size * mib;
  const lease = {
    name: "lease",
    run(count: number) {
      for (let i = 0; i < count; i++) {
        const handle = allocUnsafe(bytes);
        sink(touch(handle.bytes));
        handle.free();
      }
    },
  };
  const touchedArray = {
    name: "touchedArray",
    run(count: number) {
      for (let i = 0; i < count; i++) sink(touch(new Uint8Array(bytes)));
    },
  };
  const samples = interleave([lease, touchedArray], blockOptions(options, 60));
  const heap = kept.length === 0 ? "empty heap" : `${kept.length / 1e6} million live objects`;
  return compare({
    row: "B3",
    work: `revoke, ${size} MiB touched, ${heap}`,
    against: `new Uint8Array(${size} MiB), touched`,
    ours: samples.lease ?? [],
    theirs: samples.touchedArray ?? [],
    target: targets.B3.touchedArray,
  });
}

console.log(JSON.stringify(sizes.map(row)));
sink(kept);
