// The fast, trusting mode: no ArrayBuffer per lease, and nothing dies at free().
import { LargePool } from "holdfast";

using pool = new LargePool();
const options = { views: "alias" } as const;

const first = pool.allocUnsafe(4 * 1024 ** 2, options);
const kept = first.bytes;
kept[0] = 1;
first.free();

const second = pool.allocUnsafe(4 * 1024 ** 2, options);
second.bytes[0] = 2;
// The view that was kept can never fault, but it sees the next alias tenant of its pool:
console.log(kept.length > 0 && (kept[0] === 1 || kept[0] === 2));
second.free();

// Await every read or write of a buffer before you free it: nothing else protects it here.

// Prints:
// true
