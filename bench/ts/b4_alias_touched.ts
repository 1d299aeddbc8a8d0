// B4: lease with alias views, write one byte per page, free: against touching memory that is
// resident already, which is the floor, and against a fresh array.

import { allocUnsafe } from "../../src/index.ts";
import { type Comparison, compare } from "../comparison.ts";
import { targets } from "../targets.ts";
import { blockOptions, interleave, mib, rowOptions, sink, touch } from "./blocks.ts";

const options = rowOptions();
const sizes = options.smoke ? [2] : [2, 4, 16, 64];

function row(size: number): Comparison[] {
  const bytes = size * mib;
  const lease = {
    name: "lease",
    run(count: number) {
      for (let i = 0; i < count; i++) {
        const handle = allocUnsafe(bytes, { views: "alias" });
        sink(touch(handle.bytes));
        handle.free();
      }
    },
  };
  // The floor lies on the same kind of pages as the lease: another region of the pool, kept.
  const kept = allocUnsafe(bytes, { views: "alias" });
  const resident = kept.bytes;
  touch(resident);
  const residentTouch = {
    name: "residentTouch",
    run(count: number) {
      for (let i = 0; i < count; i++) sink(touch(resident));
    },
  };
  const touchedArray = {
    name: "touchedArray",
    run(count: number) {
      for (let i = 0; i < count; i++) sink(touch(new Uint8Array(bytes)));
    },
  };
  const contenders = [lease, residentTouch, touchedArray];
  const samples = interleave(contenders, blockOptions(options, 40));
  kept.free();
  const shared = {
    row: "B4",
    work: `alias, ${size} MiB: alloc, touch, free`,
    ours: samples.lease ?? [],
  };
  return [
    compare({
      ...shared,
      against: "touching a resident view",
      theirs: samples.residentTouch ?? [],
      target: targets.B4.residentTouch,
    }),
    compare({
      ...shared,
      against: `new Uint8Array(${size} MiB), touched`,
      theirs: samples.touchedArray ?? [],
      target: targets.B4.touchedArray,
    }),
  ];
}

console.log(JSON.stringify(sizes.flatMap(row)));
