// B5: zero-filled `alloc(4 MiB)` of a region that was used before.
//
// Three lines: the clearing itself against `fill(0)`; the whole lease, touched, against a fresh array;
// and the same with the scrubber on and idle time between two leases, where the clearing was done
// while nobody waited. Alias views, so that the line is about zeroing and not about collections.

import { now } from "mitata/src/lib.mjs";
import { alloc, LargePool } from "../../src/index.ts";
import { type Comparison, compare, median } from "../comparison.ts";
import { targets } from "../targets.ts";
import { blockOptions, interleave, mib, rowOptions, sink, touch } from "./blocks.ts";

const options = rowOptions();
const bytes = 4 * mib;
const intervalMs = 10;
const idleMs = options.smoke ? 20 : 40;
const idleOperations = options.smoke ? 2 : 15;

function warm(): Comparison[] {
  // Two kept regions: `fill` works on pages of the same kind as the lease.
  const kept = alloc(bytes, { views: "alias" });
  const resident = kept.bytes;
  touch(resident);
  const zeroed = {
    name: "zeroed",
    run(count: number) {
      for (let i = 0; i < count; i++) {
        const handle = alloc(bytes, { views: "alias" });
        const view = handle.bytes;
        sink(view[bytes - 1]);
        view[bytes - 1] = 1;
        handle.free();
      }
    },
  };
  const fill = {
    name: "fill",
    run(count: number) {
      for (let i = 0; i < count; i++) {
        resident.fill(0);
        sink(resident[bytes - 1]);
      }
    },
  };
  const zeroedTouched = {
    name: "zeroedTouched",
    run(count: number) {
      for (let i = 0; i < count; i++) {
        const handle = alloc(bytes, { views: "alias" });
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
  const contenders = [zeroed, fill, zeroedTouched, touchedArray];
  const samples = interleave(contenders, blockOptions(options, 60));
  kept.free();
  return [
    compare({
      row: "B5",
      work: "alloc(4 MiB) zero-filled, recycled",
      against: "fill(0) of a resident view",
      ours: samples.zeroed ?? [],
      theirs: samples.fill ?? [],
      target: targets.B5.fill,
    }),
    compare({
      row: "B5",
      work: "alloc(4 MiB) zero-filled, recycled, touched",
      against: "new Uint8Array(4 MiB), touched",
      ours: samples.zeroedTouched ?? [],
      theirs: samples.touchedArray ?? [],
      target: targets.B5.touchedArray,
    }),
  ];
}

/** Single operations with idle time before each; a round's figure is the median of its operations. */
async function scrubbed(): Promise<Comparison> {
  const background = { intervalMs, scrubBytes: 64 * mib };
  const pool = new LargePool({ background });
  const ours: number[] = [];
  const theirs: number[] = [];
  for (let round = -1; round < options.rounds; round++) {
    const leases: number[] = [];
    const arrays: number[] = [];
    for (let i = 0; i < idleOperations; i++) {
      await Bun.sleep(idleMs);
      let start = now();
      const handle = pool.alloc(bytes, { views: "revoke" });
      sink(touch(handle.bytes));
      handle.free();
      leases.push(now() - start);
      start = now();
      sink(touch(new Uint8Array(bytes)));
      arrays.push(now() - start);
    }
    if (round < 0) continue;
    ours.push(median(leases));
    theirs.push(median(arrays));
  }
  pool.close();
  return compare({
    row: "B5",
    work: "alloc(4 MiB) zero-filled, scrubbed in idle time, touched",
    against: "new Uint8Array(4 MiB), touched",
    ours,
    theirs,
    target: targets.B5.scrubbed,
  });
}

console.log(JSON.stringify([...warm(), await scrubbed()]));
