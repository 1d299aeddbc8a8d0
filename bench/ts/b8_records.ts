// B8: a million records of { u32, f64, 24 bytes } filled here, read and freed by a Worker: slots of a
// slab, whose numbers travel 1000 at a time, against `postMessage` of objects.

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
  token?: SlabRemoteToken<typeof recordLayout>;
}
export interface Done {
  sum: number;
}

const batch = 1000;
const words = Int32Array.from({ length: 6 }, (_, index) => index + 1);

async function main(): Promise<void> {
  const options = rowOptions();
  const records = options.smoke ? 4_000 : 1_000_000;
  // Objects take a thousand times as long to send; fewer of them tell the same.
  const objects = options.smoke ? 2_000 : 50_000;
  const owner = new SlabOwner({ layout: recordLayout, capacity: 64 * batch });
  const remote = owner.remote();
  const { id, price, name } = owner.fields;
  const worker = new Worker(new URL("./b8_worker.ts", import.meta.url).href);
  let arrived: (done: Done) => void = () => {};
  worker.onmessage = ({ data }) => arrived(data as Done);
  const answer = () => new Promise<Done>((resolve) => (arrived = resolve));
  await answer();

  const send = {
    async slots(count: number) {
      let numbers = new Float64Array(batch);
      for (let i = 0; i < count; i++) {
        let slot: number;
        try {
          slot = owner.alloc();
        } catch {
          // All are on their way: the Worker gives back a thousand at once.
          slot = await owner.allocAsync();
        }
        id.set(slot, i);
        price.set(slot, 0.5);
        name.writeWords(slot, words);
        numbers[i % batch] = slot;
        if (i % batch !== batch - 1) continue;
        worker.postMessage(numbers, [numbers.buffer]);
        numbers = new Float64Array(batch);
      }
    },
    async single(count: number) {
      for (let i = 0; i < count; i++) worker.postMessage(record(i));
    },
    async arrays(count: number) {
      for (let i = 0; i < count; i += batch) {
        worker.postMessage(Array.from({ length: batch }, (_, k) => record(i + k)));
      }
    },
  };
  type Way = keyof typeof send;

  function record(i: number): RecordObject {
    return { id: i, price: 0.5, name: new Uint8Array(words.slice().buffer) };
  }

  async function run(way: Way): Promise<number> {
    const count = way === "slots" ? records : objects;
    worker.postMessage({ count, token: remote.token } satisfies Start);
    const done = answer();
    const start = Bun.nanoseconds();
    await send[way](count);
    const { sum } = await done;
    const ns = (Bun.nanoseconds() - start) / count;
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
    note: `theirs: ${objects.toLocaleString("en")} of them`,
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
