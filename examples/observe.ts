// Where the memory is, by the pool's own books and by the kernel's.
import { LargePool, stats } from "holdfast";

using pool = new LargePool({ background: null }); // purge only when we say so
const lease = pool.alloc(32 * 1024 ** 2);
lease.bytes.fill(1);
const mib = (bytes: number) => Math.round(bytes / 1024 ** 2);

console.log(`leased: ${mib(pool.stats().allocatedBytes)} MiB`);
lease.free();
console.log(`leased: ${mib(pool.stats().allocatedBytes)} MiB`);
console.log(`kept warm: ${mib(pool.stats().residentBytes)} MiB`);
console.log(`given back by trim: ${mib(pool.trim())} MiB`);
console.log(`given back by trim at once again: ${mib(pool.trim())} MiB`);
console.log(`the kernel agrees: ${stats({ resident: true }).residentBytes < 1024 ** 2}`);

// Prints:
// leased: 32 MiB
// leased: 0 MiB
// kept warm: 32 MiB
// given back by trim: 32 MiB
// given back by trim at once again: 0 MiB
// the kernel agrees: true
