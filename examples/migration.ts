// From Buffer.allocUnsafe to a lease: what changes is who ends it.
import { alloc, allocUnsafe } from "holdfast";

const length = 4 * 1024 ** 2;

function before(): number {
  const buffer = Buffer.allocUnsafe(length); // fresh memory, faulted in page by page
  buffer.fill(1);
  return buffer.readUInt32LE(0); // freed some time after a collection
}

function after(): number {
  using lease = allocUnsafe(length); // memory that was used before, if there is any
  lease.bytes.fill(1);
  return lease.view(DataView).getUint32(0, true); // freed here
}
console.log(before() === after());

// Code that wants a Buffer gets one over the same bytes.
const lease = alloc(1024);
const { buffer, byteOffset } = lease.bytes;
const asBuffer = Buffer.from(buffer, byteOffset, lease.byteLength);
asBuffer.write("hello");
console.log(lease.bytes[0] === asBuffer[0]);

// What leaves the block must be a copy: the view is empty after free().
const copy = lease.bytes.slice(0, 5);
lease.free();
console.log(asBuffer.length, new TextDecoder().decode(copy));

// Prints:
// true
// true
// 0 hello
