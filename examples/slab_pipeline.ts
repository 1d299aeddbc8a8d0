// A pipeline of Workers: records stay where they are, only their slot numbers travel. The lines of a
// large file go through two stages, and the totals are those of a plain loop.
import { readFileSync } from "node:fs";
import { SlabOwner, SlabRemote, type SlabRemoteToken } from "holdfast";

const line = { number: "u32", words: "u32", text: { bytes: 160 } } as const;
type Stage = { stage: "count" | "sum"; token: SlabRemoteToken<typeof line>; port: MessagePort };
declare var self: Worker;

const words = (text: string) => text.split(/\s+/).filter((word) => word !== "").length;
const batchSlots = 256;

if (Bun.isMainThread) {
  const file = new URL("../node_modules/bun-types/bun.d.ts", import.meta.url);
  // Cut to what a slot holds, for both ways alike.
  const lines = readFileSync(file, "utf8")
    .split("\n")
    .map((text) => text.replace(/[^ -~]/g, "?").slice(0, line.text.bytes));

  const owner = new SlabOwner({ layout: line, capacity: 2048 });
  const remote = owner.remote();
  const toCount = new MessageChannel();
  const toSum = new MessageChannel();
  const sum = Promise.withResolvers<{ lines: number; words: number }>();
  const stages = (["count", "sum"] as const).map((stage) => {
    const worker = new Worker(import.meta.url);
    worker.onmessage = ({ data }) => sum.resolve(data);
    const port = stage === "count" ? toCount.port2 : toSum.port2;
    worker.postMessage({ stage, token: remote.token, port }, [port]);
    return worker;
  });
  // The first stage sends on to the second.
  toCount.port1.postMessage(toSum.port1, [toSum.port1]);

  let batch: number[] = [];
  const send = () => {
    toCount.port1.postMessage(Float64Array.from(batch));
    batch = [];
  };
  for (const [number, text] of lines.entries()) {
    // Waits while all slots are on their way: a fast reader does not run ahead of slow stages.
    const slot = await owner.allocAsync();
    owner.fields.number.set(slot, number);
    owner.fields.text.setText(slot, text);
    if (batch.push(slot) === batchSlots) send();
  }
  send();
  toCount.port1.postMessage("end");

  const found = await sum.promise;
  const plain = { lines: lines.length, words: lines.reduce((all, text) => all + words(text), 0) };
  owner.drain();
  console.log("same totals:", found.lines === plain.lines && found.words === plain.words);
  console.log(`more than ${Math.floor(plain.lines / 1000)},000 lines`);
  console.log(`slots in use at the end: ${owner.stats().liveSlots}`);
  for (const worker of stages) worker.terminate();
  toCount.port1.close();
  remote.close();
  owner.close();
} else {
  self.onmessage = ({ data }: MessageEvent<Stage>) => {
    const { stage, token, port } = data;
    const remote = SlabRemote.attach(token);
    const { number, words: count, text } = remote.fields;
    let next: MessagePort | undefined;
    const total = { lines: 0, words: 0 };
    port.onmessage = (event) => {
      const slots = event.data as Float64Array | MessagePort | "end";
      if (slots instanceof MessagePort) {
        next = slots;
      } else if (slots === "end") {
        if (stage === "count") next?.postMessage(slots);
        else self.postMessage(total);
      } else if (stage === "count") {
        for (const slot of slots) count.set(slot, words(text.getText(slot)));
        next?.postMessage(slots);
      } else {
        for (const slot of slots) {
          if (number.get(slot) !== total.lines++) throw new Error("out of order");
          total.words += count.get(slot);
        }
        remote.freeMany(slots);
      }
    };
  };
}

// Prints:
// same totals: true
// more than 11,000 lines
// slots in use at the end: 0
