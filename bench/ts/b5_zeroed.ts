// B5: zero-filled `alloc(4 MiB)` of a region that was used before.
//
// The clearing itself against `fill(0)` and against a fresh array, whose zeros come when it is
// first touched; then with the scrubber on and idle time between, where the clearing was done while
// nobody waited. The first with alias views, so that they are about zeroing and not about
// collections; the scrubber leaves regions alone over which an alias ArrayBuffer lives, so the last
// with revoke.

import { now } from "mitata/src/lib.mjs";
import { alloc, LargePool } from "../../src/index.ts";
import { type Comparison, compare, median } from "../comparison.ts";
import { targets } from "../targets.ts";
import { blockOptions, interleave, mib, rowOptions, sink, touch } from "./blocks.ts";

const options = rowOptions();
const bytes = 4 * mib;
// Idle long enough for a tick to find the thread at rest, not for the ten after which it purges.
const intervalMs = 25;
const idleMs = options.smoke ? 20 : 60;
const idleBursts = options.smoke ? 2 : 8;
const burst = 8;

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
  const touchedArray = {
    name: "touchedArray",
    run(count: number) {
      for (let i = 0; i < count; i++) sink(touch(new Uint8Array(bytes)));
    },
  };
  const contenders = [zeroed, fill, touchedArray];
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
      work: "alloc(4 MiB) zero-filled, recycled",
      against: "new Uint8Array(4 MiB), touched",
      ours: samples.zeroed ?? [],
      theirs: samples.touchedArray ?? [],
      target: targets.B5.touchedArray,
    }),
  ];
}

/**
 * Bursts of leases after idle time, all held, then freed. One single lease would measure how long a
 * sleeping CPU takes to wake; a burst shares that out, for both sides alike. The judged line is the
 * allocation alone; the other also touches what it got, to show that the memory is there.
 */
async function scrubbed(touched: boolean): Promise<Comparison> {
  const background = { intervalMs, scrubBytes: burst * bytes };
  const pool = new LargePool({ background });
  const leaseBurst = () => {
    const handles = Array.from({ length: burst }, () => {
      const handle = pool.alloc(bytes);
      const view = handle.bytes;
      sink(touched ? touch(view) : view[bytes - 1]);
      // Written to, so that the next tick has work to do.
      view[0] = 1;
      return handle;
    });
    for (const handle of handles) handle.free();
  };
  const arrayBurst = () => {
    for (let i = 0; i < burst; i++) sink(touch(new Uint8Array(bytes)));
  };
  const ours: number[] = [];
  const theirs: number[] = [];
  for (let round = -1; round < options.rounds; round++) {
    const leases: number[] = [];
    const arrays: number[] = [];
    for (let i = 0; i < idleBursts; i++) {
      for (const [run, samples] of [
        [leaseBurst, leases],
        [arrayBurst, arrays],
      ] as const) {
        await Bun.sleep(idleMs);
        const start = now();
        run();
        samples.push((now() - start) / burst);
      }
    }
    if (round < 0) continue;
    ours.push(median(leases));
    theirs.push(median(arrays));
  }
  const { scrubbedRegions } = pool.stats();
  pool.close();
  const work = `alloc(4 MiB) zero-filled, ${burst} after idle time with the scrubber`;
  return compare({
    row: "B5",
    work: touched ? `${work}, touched` : work,
    against: "new Uint8Array(4 MiB), touched",
    ours,
    theirs,
    target: touched ? undefined : targets.B5.scrubbed,
    note: `${scrubbedRegions} regions scrubbed`,
  });
}

const idle = [await scrubbed(false), await scrubbed(true)];
console.log(JSON.stringify([...warm(), ...idle]));
