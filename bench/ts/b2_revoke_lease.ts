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

function row(bytes: number, name: string): Comparison {
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
  const rounds = options.smoke ? options.rounds : Math.max(roundsMin, options.rounds);
  const samples = interleave([lease, bareWrap], blockOptions({ ...options, rounds }, 50));
  return compare({
    row: "B2",
    work: `revoke, ${name}: alloc, bytes, free`,
    against: "toArrayBuffer + transfer(0)",
    ours: samples.lease ?? [],
    theirs: samples.bareWrap ?? [],
    target: targets.B2.bareWrap,
  });
}

console.log(JSON.stringify([row(pageBytes, "4 KiB"), row(4 * mib, "4 MiB")]));
sink(memory);
