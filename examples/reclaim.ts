// Slots of powers of two over a pool, given back as a whole.
import { LargePool, ReclaimingAllocator } from "holdfast";

using pool = new LargePool({ limitBytes: 256 * 1024 ** 2 });
using allocator = new ReclaimingAllocator({ backend: pool });

const messages = Array.from({ length: 10_000 }, () => allocator.allocUnsafe(200));
console.log(allocator.stats().allocatedFromFallback > 10_000 * 256);

for (const message of messages) message.free();
console.log(allocator.reclaim() > 10_000 * 256); // bytes that went back to the pool
console.log(allocator.stats().allocatedFromFallback);

// Prints:
// true
// true
// 0
