// Lease memory, look at it, give it back.
import { alloc, HoldfastError, LargePool } from "holdfast";

using pool = new LargePool({ limitBytes: 256 * 1024 ** 2 });

const frame = pool.alloc(8 * 1024 ** 2, { lock: "try" }); // zeros, off the JavaScript heap
const samples = frame.view(Float64Array); // at an address that does not change
samples.fill(0.5);
console.log(`${samples.length} samples`);

console.log(frame.free()); // the memory is back in the pool, still warm for the next lease
console.log(`${samples.length} samples`); // and the view that we kept sees nothing any more
try {
  frame.bytes;
} catch (error) {
  if (error instanceof HoldfastError) console.log(error.code);
}

{
  using scratch = alloc(100_000); // from the pool that the process shares
  scratch.bytes.set([1, 2, 3]);
} // freed here

// Prints:
// 1048576 samples
// freed
// 0 samples
// ERR_HOLDFAST_FREED
