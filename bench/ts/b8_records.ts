// B8: a million records of { u32, f64, 24 bytes } filled here, read and freed by a Worker: slots of a
// slab, whose numbers go through a ring of shared memory as docs/owner_slab.md shows it, against
// `postMessage` of objects.

import { SlabOwner, type SlabRemoteToken } from "../../src/index.ts";
import { compare, generator, shuffled } from "../comparison.ts";
import { targets } from "../targets.ts";
import { rowOptions } from "./blocks.ts";

export const recordLayout = { id: "u32", price: "f64", name: { bytes: 24 } } as const;

export interface RecordObject {
  id: number;
  price: number;
  name: Uint8Array<ArrayBuffer>;
}
export interface Start {
  count: number;
  slots?: {
    token: SlabRemoteToken<typeof recordLayout>;
    ring: SharedArrayBuffer;
    words: SharedArrayBuffer;
  };
}
export interface Done {
  sum: number;
}

/** Words of the ring, each in a cache line of its own: numbers put and taken so far. */
export const putWord = 0;
export const takenWord = 32;
const ringSlots = 8192;
/** Slot numbers that become visible to the Worker at once. */
const chunk = 256;
const batch = 1000;
const name24 = Int32Array.from({ length: 6 }, (_, index) => index + 1);

async function main(): Promise<void> {
  const options = rowOptions();
  const records = options.smoke ? 4_000 : 1_000_000;
  // Objects take a thousand times as long to send; fewer of them tell the same.
  const objects = options.smoke ? 2_000 : 50_000;
  const owner = new SlabOwner({ layout: recordLayout, capacity: 2 * ringSlots });
  const remote = owner.remote();
  const { id, price, name } = owner.fields;
  const ring = new Float64Array(new SharedArrayBuffer(ringSlots * 8));
  const words = new Int32Array(new SharedArrayBuffer(256));
  const worker = new Worker(new URL("./b8_worker.ts", import.meta.url).href);
  let arrived: (done: Done) => void = () => {};
  worker.onmessage = ({ data }) => arrived(data as Done);
  const answer = () => new Promise<Done>((resolve) => (arrived = resolve));
  await answer();

  const send = {
    async slots(count: number) {
      Atomics.store(words, takenWord, 0);
      Atomics.store(words, putWord, 0);
      worker.postMessage(start(count, true));
      for (let put = 0; put < count; ) {
        while (put - Atomics.load(words, takenWord) > ringSlots - chunk) Atomics.pause();
        put = fill(put, Math.min(count, put + chunk));
        Atomics.store(words, putWord, put);
        Atomics.notify(words, putWord);
      }
    },
    async single(count: number) {
      worker.postMessage(start(count, false));
      for (let i = 0; i < count; i++) worker.postMessage(record(i));
    },
    async arrays(count: number) {
      worker.postMessage(start(count, false));
      for (let i = 0; i < count; i += batch) {
        worker.postMessage(Array.from({ length: batch }, (_, k) => record(i + k)));
      }
    },
  };
  type Way = keyof typeof send;

  function fill(from: number, to: number): number {
    for (let i = from; i < to; i++) {
      const slot = owner.alloc();
      id.set(slot, i);
      price.set(slot, 0.5);
      name.writeWords(slot, name24);
      ring[i % ringSlots] = slot;
    }
    return to;
  }

  function start(count: number, isSlots: boolean): Start {
    const slots = { token: remote.token, ring: ring.buffer, words: words.buffer } as Start["slots"];
    return isSlots && slots ? { count, slots } : { count };
  }

  function record(i: number): RecordObject {
    return { id: i, price: 0.5, name: new Uint8Array(name24.slice().buffer) };
  }

  async function run(way: Way): Promise<number> {
    const count = way === "slots" ? records : objects;
    const done = answer();
    const begin = Bun.nanoseconds();
    await send[way](count);
    const { sum } = await done;
    const ns = (Bun.nanoseconds() - begin) / count;
    const expected = (count * (count - 1)) / 2 + count * 1.5;
    if (sum !== expected) throw new Error(`${way}: the sum is ${sum}, not ${expected}`);
    return ns;
  }

  const random = generator(options.seed);
  const ways: Way[] = ["slots", "single", "arrays"];
  const samples: Record<Way, number[]> = { slots: [], single: [], arrays: [] };
  for (let round = -1; round < options.rounds; round++) {
    for (const way of shuffled(ways, random)) {
      const ns = await run(way);
      if (round >= 0) samples[way].push(ns);
    }
  }
  worker.terminate();
  remote.close();
  owner.close();
  const shared = {
    row: "B8",
    work: `${records.toLocaleString("en")} records to a Worker, each`,
    ours: samples.slots,
  };
  console.log(
    JSON.stringify([
      compare({
        ...shared,
        against: "postMessage, one message a record",
        theirs: samples.single,
        target: targets.B8.single,
      }),
      compare({
        ...shared,
        against: `postMessage, arrays of ${batch}`,
        theirs: samples.arrays,
        target: targets.B8.arrays,
      }),
    ]),
  );
}

if (Bun.isMainThread && import.meta.main) await main();
