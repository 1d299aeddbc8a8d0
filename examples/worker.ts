// A lease moves to a Worker without a copy: the same memory, one owner at a time.
import { alloc, Handle, type HandleToken } from "holdfast";

declare var self: Worker;

if (Bun.isMainThread) {
  const lease = alloc(16 * 1024 ** 2);
  const mine = lease.view(Uint32Array);
  mine[0] = 41;
  const worker = new Worker(import.meta.url);
  worker.onmessage = ({ data }: MessageEvent<HandleToken>) => {
    using back = Handle.adopt(data);
    console.log(`${back.view(Uint32Array)[0]} came back`);
    worker.terminate();
  };
  worker.postMessage(lease.transfer()); // our handle is dead from here on
  console.log(`${mine.length} words in the old view, freed: ${lease.freed}`);
} else {
  self.onmessage = ({ data }: MessageEvent<HandleToken>) => {
    const lease = Handle.adopt(data); // exactly one adopt succeeds
    const words = lease.view(Uint32Array);
    words[0] = (words[0] as number) + 1;
    self.postMessage(lease.transfer());
  };
}

// Prints:
// 0 words in the old view, freed: true
// 42 came back
