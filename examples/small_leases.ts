// Many small leases from one allocator: figures, realloc, pages below 4 GiB.
import { GlobalAllocator } from "holdfast";

using allocator = new GlobalAllocator({ limitBytes: 64 * 1024 ** 2 });

const records = Array.from({ length: 1000 }, () => allocator.alloc(48)); // zeros, 48 bytes each
const first = records[0] as (typeof records)[0];
first.view(Float64Array, 8, 2).set([1.5, 2.5]);

const longer = allocator.realloc(first, 200); // a new handle with the contents
console.log(first.freed, longer.view(Float64Array, 8, 2)[1]);

const { slotsLive, allocatedBytes } = allocator.stats();
console.log(slotsLive, allocatedBytes);

allocator.addRegion(2 * 1024 ** 2, { low: true });
using table = allocator.allocPagesLow(4);
console.log(table.address + table.byteLength <= 2 ** 32);

longer.free();
for (const record of records.slice(1)) record.free();

// Prints:
// true 2.5
// 1000 48152
// true
