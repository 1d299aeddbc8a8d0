// B8's Worker: reads records, adds them up, and gives them back; one answer when all have come.

import { SlabRemote } from "../../src/index.ts";
import { type Done, putWord, type RecordObject, type Start, takenWord } from "./b8_records.ts";

declare var self: Worker;

let expected = 0;
let seen = 0;
let sum = 0;
let readSlots: ((count: number) => number) | undefined;

/** Slot numbers that are read and freed together. */
const batchSlots = 256;
/** Looks at an empty ring before the Worker sleeps. */
const patience = 200;

function slots({ token, ring, words }: NonNullable<Start["slots"]>): (count: number) => number {
  const remote = SlabRemote.attach(token);
  const { id, price, name } = remote.fields;
  const numbers = new Float64Array(ring);
  const state = new Int32Array(words);
  const batch = new Float64Array(batchSlots);
  const text = new Int32Array(6);
  return (count) => {
    let total = 0;
    let idle = 0;
    for (let taken = 0; taken < count; ) {
      const ready = Math.min(Atomics.load(state, putWord) - taken, batchSlots);
      if (ready <= 0) {
        if (idle++ > patience) Atomics.wait(state, putWord, taken, 1);
        continue;
      }
      idle = 0;
      for (let i = 0; i < ready; i++) {
        const slot = numbers[(taken + i) % numbers.length] as number;
        batch[i] = slot;
        name.readWords(slot, text);
        total += id.get(slot) + price.get(slot) + (text[0] as number);
      }
      remote.freeMany(batch, ready);
      taken += ready;
      Atomics.store(state, takenWord, taken);
    }
    return total;
  };
}

function read(record: RecordObject): void {
  sum += record.id + record.price + (new Int32Array(record.name.buffer)[0] as number);
  seen++;
}

self.onmessage = ({ data }: MessageEvent<Start | RecordObject | RecordObject[]>) => {
  if (Array.isArray(data)) for (const record of data) read(record);
  else if ("count" in data) {
    expected = data.count;
    seen = 0;
    sum = 0;
    if (data.slots) {
      readSlots ??= slots(data.slots);
      self.postMessage({ sum: readSlots(expected) } satisfies Done);
    }
    return;
  } else read(data);
  if (seen === expected) self.postMessage({ sum } satisfies Done);
};
self.postMessage({ sum: 0 } satisfies Done);
