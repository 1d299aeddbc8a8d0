// A small heap in a WebAssembly memory. In a browser it is the same.
import { SmallHeap } from "holdfast/wasm";

using heap = SmallHeap.wasm({ maximumPages: 256 });
const point = heap.alloc(24);
const xyz = point.view(Float64Array);
xyz.set([1, 2, 3]);

// A megabyte more, and the memory has grown: the view from before is empty, a new one is not.
const image = heap.alloc(2 ** 20);
console.log(xyz.length, [...point.view(Float64Array)]);

// In place where there is room, else the contents move. The old handle is over.
const path = heap.realloc(point, 2400);
console.log(point.freed, path.view(Float64Array, 0, 3).join());

path.free();
image.free();
console.log(heap.stats().inUse, "of", heap.memory.buffer.byteLength / 65_536, "pages");

// Prints:
// 0 [ 1, 2, 3 ]
// true 1,2,3
// 0 of 17 pages
