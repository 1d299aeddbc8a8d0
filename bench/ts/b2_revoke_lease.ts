// B2: lease with revoke views, take the bytes, free: against the bare wrap and detach that this is
// made of. The collector's share belongs to both, so blocks are long enough to hold collections.

import { ptr, toArrayBuffer } from "bun:ffi";
import { allocUnsafe } from "../../src/index.ts";
import { type Comparison, compare } from "../comparison.ts";
import { targets } from "../targets.ts";
import { blockOptions, interleave, mib, pageBytes, rowOptions, sink } from "./blocks.ts";

const roundsMin = 21;
const options = rowOptions();
const memory = new Uint8Array(4 * mib).fill(1);
const address = ptr(memory);

function row(bytes: number, name: string): Comparison[] {
  const lease = {
    name: "lease",
    run(count: number) {
      for (let i = 0; i < count; i++) {
        const handle = allocUnsafe(bytes);
        sink(handle.bytes);
        handle.free();
      }
    },
  };
  const bareWrap = {
    name: "bareWrap",
    run(count: number) {
      for (let i = 0; i < count; i++) {
        const buffer = toArrayBuffer(address, 0, bytes);
        sink(buffer);
        buffer.transfer(0);
      }
    },
  };
  const wrapAndView = {
    name: "wrapAndView",
    run(count: number) {
      for (let i = 0; i < count; i++) {
        const buffer = toArrayBuffer(address, 0, bytes);
        sink(new Uint8Array(buffer));
        buffer.transfer(0);
      }
    },
  };
  const contenders = [lease, bareWrap, wrapAndView];
  const rounds = options.smoke ? options.rounds : Math.max(roundsMin, options.rounds);
  const samples = interleave(contenders, blockOptions({ ...options, rounds }, 50));
  const shared = {
    row: "B2",
    work: `revoke, ${name}: alloc, bytes, free`,
    ours: samples.lease ?? [],
  };
  return [
    compare({
      ...shared,
      against: "toArrayBuffer + transfer(0)",
      theirs: samples.bareWrap ?? [],
      target: targets.B2.bareWrap,
    }),
    compare({
      ...shared,
      against: "the same with a view",
      theirs: samples.wrapAndView ?? [],
    }),
  ];
}

console.log(JSON.stringify([...row(pageBytes, "4 KiB"), ...row(4 * mib, "4 MiB")]));
sink(memory);
