/**
 * The only place where an address becomes an ArrayBuffer, and where one is detached.
 *
 * Invariant: an ArrayBuffer over memory that can be freed is made with a native deallocator, after
 * native code has counted it; that deallocator running is the only proof that JavaScript has let
 * go. Memory of the engine that lives as long as the process is wrapped without one.
 *
 * Cost in Bun 1.4.5: a wrap and its detach 0.35 µs together, plus the length's share of a
 * collection. A detach of a buffer that Bun has pinned does nothing, but copies the whole buffer
 * first: 0.3 ms at 4 MiB.
 */
import { toArrayBuffer } from "bun:ffi";

export { arrayBufferBytesMax } from "./view.ts";

/** Bun takes five parameters; its declaration (1.4.4) knows three. */
const wrapNative = toArrayBuffer as unknown as (
  address: number,
  byteOffset: number,
  byteLength: number,
  context?: number,
  deallocator?: number,
) => ArrayBuffer;

/** An ArrayBuffer over memory that is never freed. */
export function wrapStatic(address: number, byteLength: number): ArrayBuffer {
  return wrapNative(address, 0, byteLength);
}

/**
 * An ArrayBuffer over a lease or a region; `deallocator(address, context)` runs once, when the
 * buffer is detached or collected, wherever it has been transferred to. `context` is not 0.
 */
export function wrap(
  address: number,
  byteLength: number,
  context: number,
  deallocator: number,
): ArrayBuffer {
  return wrapNative(address, 0, byteLength, context, deallocator);
}

/**
 * Detaches a buffer, so that every view of it has length 0 and its deallocator runs. False if it is
 * pinned by I/O in flight: then nothing has changed. Call it on buffers that are not detached.
 */
export function detach(buffer: ArrayBuffer): boolean {
  buffer.transfer(0);
  return buffer.detached;
}

/** `detach` for a caller who learns the outcome otherwise; the look at `detached` costs 5 ns. */
export function tryDetach(buffer: ArrayBuffer): void {
  buffer.transfer(0);
}

/**
 * Moves a buffer's memory into a new one of the same length, so that all views of the old one are
 * empty; its deallocator goes along and does not run. If the old buffer is not detached afterwards
 * it was pinned: what came back is a copy, to be thrown away.
 */
export function renew(buffer: ArrayBuffer): ArrayBuffer {
  return buffer.transfer();
}
