// B8's Worker: reads records, adds them up, and gives them back; one answer when all have come.

import { SlabRemote, type SlabRemoteToken } from "../../src/index.ts";
import type { Done, recordLayout, RecordObject, Start } from "./b8_records.ts";

declare var self: Worker;

let expected = 0;
let seen = 0;
let sum = 0;
let readSlots: ((slots: Float64Array) => void) | undefined;

function slots(token: SlabRemoteToken<typeof recordLayout>): (slots: Float64Array) => void {
  const remote = SlabRemote.attach(token);
  const { id, price, name } = remote.fields;
  const text = new Int32Array(6);
  return (batch) => {
    for (let i = 0; i < batch.length; i++) {
      const slot = batch[i] as number;
      name.readWords(slot, text);
      sum += id.get(slot) + price.get(slot) + (text[0] as number);
    }
    remote.freeMany(batch);
    seen += batch.length;
  };
}

function read(record: RecordObject): void {
  sum += record.id + record.price + (new Int32Array(record.name.buffer)[0] as number);
  seen++;
}

self.onmessage = ({ data }: MessageEvent<Start | Float64Array | RecordObject | RecordObject[]>) => {
  if (data instanceof Float64Array) readSlots?.(data);
  else if (Array.isArray(data)) for (const record of data) read(record);
  else if ("count" in data) {
    expected = data.count;
    seen = 0;
    sum = 0;
    if (data.token) readSlots ??= slots(data.token);
    return;
  } else read(data);
  if (seen === expected) self.postMessage({ sum } satisfies Done);
};
self.postMessage({ sum: 0 } satisfies Done);
