// B7: a slot taken, its fields written, given back, all by the owner: against a call into the library
// that does nothing, and against a free list of indexes in plain JavaScript.

import { dlopen } from "bun:ffi";
import { libraryPath, SlabOwner } from "../../src/index.ts";
import { compare } from "../comparison.ts";
import { targets } from "../targets.ts";
import { blockOptions, interleave, rowOptions, sink } from "./blocks.ts";

const options = rowOptions();
const capacity = 4096;
const owner = new SlabOwner({ layout: { id: "u32", price: "f64" }, capacity });
const { id, price } = owner.fields;
const { hf_fingerprint: nothing } = dlopen(libraryPath(), {
  hf_fingerprint: { args: [], returns: "f64" },
}).symbols;

const ids = new Uint32Array(capacity);
const prices = new Float64Array(capacity);
const free = Int32Array.from({ length: capacity }, (_, index) => index);
let top = capacity;

const slab = {
  name: "slab",
  run(count: number) {
    for (let i = 0; i < count; i++) {
      const slot = owner.alloc();
      id.set(slot, i);
      price.set(slot, 0.5);
      owner.free(slot);
    }
  },
};
const bareCall = {
  name: "bareCall",
  run(count: number) {
    for (let i = 0; i < count; i++) sink(nothing());
  },
};
const freeList = {
  name: "freeList",
  run(count: number) {
    for (let i = 0; i < count; i++) {
      const index = free[--top] as number;
      ids[index] = i;
      prices[index] = 0.5;
      free[top++] = index;
    }
  },
};

const samples = interleave([slab, bareCall, freeList], blockOptions(options, 20));
sink(ids[0]);
const shared = { row: "B7", work: "SlabOwner: alloc, two fields, free", ours: samples.slab ?? [] };
console.log(
  JSON.stringify([
    compare({
      ...shared,
      against: "a call that does nothing",
      theirs: samples.bareCall ?? [],
      target: targets.B7.bareCall,
    }),
    compare({
      ...shared,
      against: "an index free list in JavaScript",
      theirs: samples.freeList ?? [],
    }),
  ]),
);
owner.close();
