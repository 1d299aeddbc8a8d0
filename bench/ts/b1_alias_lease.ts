// B1: lease 4 MiB with alias views, take its bytes, free it; nothing else.

import { allocUnsafe } from "../../src/index.ts";
import { compare } from "../comparison.ts";
import { targets } from "../targets.ts";
import { blockOptions, interleave, mib, rowOptions, sink, touch } from "./blocks.ts";

const options = rowOptions();
const bytes = 4 * mib;
const buffer = new ArrayBuffer(bytes);

const lease = {
  name: "lease",
  run(count: number) {
    for (let i = 0; i < count; i++) {
      const handle = allocUnsafe(bytes, { views: "alias" });
      sink(handle.bytes);
      handle.free();
    }
  },
};
const bareView = {
  name: "bareView",
  run(count: number) {
    for (let i = 0; i < count; i++) sink(new Uint8Array(buffer, 0, bytes));
  },
};
const touchedArray = {
  name: "touchedArray",
  run(count: number) {
    for (let i = 0; i < count; i++) sink(touch(new Uint8Array(bytes)));
  },
};

const samples = interleave([lease, bareView, touchedArray], blockOptions(options, 40));
const shared = { row: "B1", work: "alias, 4 MiB: alloc, bytes, free", ours: samples.lease ?? [] };
console.log(
  JSON.stringify([
    compare({
      ...shared,
      against: "new Uint8Array(buffer, offset, length)",
      theirs: samples.bareView ?? [],
      target: targets.B1.bareView,
    }),
    compare({
      ...shared,
      against: "new Uint8Array(4 MiB), touched",
      theirs: samples.touchedArray ?? [],
      target: targets.B1.touchedArray,
    }),
  ]),
);
