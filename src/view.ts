/**
 * Typed views: which constructors there are, and whether a range of a handle fits one.
 *
 * Pure checks over numbers; no memory is touched here. Every refusal is Node's `ERR_OUT_OF_RANGE`
 * or `ERR_INVALID_ARG_TYPE` and names the argument.
 */
import { type Caller, invalidArgType, outOfRange } from "./errors.ts";

/** Longest ArrayBuffer that the JavaScript engine makes. */
export const arrayBufferBytesMax = 2 ** 32;

/** A typed-array constructor or `DataView`, or a subclass of one. */
export interface ViewConstructor<View extends ArrayBufferView = ArrayBufferView> {
  new (buffer: ArrayBuffer, byteOffset?: number, length?: number): View;
  readonly prototype: ArrayBufferView;
}

/** A range of a handle, in bytes, and as many elements as `length` tells. */
export interface ViewRange {
  byteOffset: number;
  byteLength: number;
  length: number;
}

const TypedArray = Object.getPrototypeOf(Uint8Array) as { prototype: object };

/** Bytes of an element of that constructor's views: 1 for DataView. */
export function elementBytes(type: ViewConstructor, caller: Caller): number {
  if (typeof type === "function") {
    const prototype = type.prototype as object | undefined;
    if (type === (DataView as unknown) || prototype instanceof DataView) return 1;
    if (prototype instanceof (TypedArray as unknown as new () => object)) {
      return (type as unknown as { BYTES_PER_ELEMENT: number }).BYTES_PER_ELEMENT;
    }
  }
  throw invalidArgType("type", "a typed-array constructor or DataView", type, caller);
}

/** Checks a view of `length` elements (default: up to the end) at `byteOffset` of a handle. */
export function viewRange(
  type: ViewConstructor,
  byteOffset: number,
  length: number | undefined,
  handleBytes: number,
  caller: Caller,
): ViewRange {
  const size = elementBytes(type, caller);
  checkInteger("byteOffset", byteOffset, handleBytes, caller);
  if (byteOffset % size !== 0) {
    const range = `a multiple of ${size}, the bytes of an element`;
    throw outOfRange("byteOffset", range, byteOffset, caller);
  }
  const room = Math.floor((handleBytes - byteOffset) / size);
  if (length !== undefined) checkInteger("length", length, room, caller);
  const count = length ?? room;
  const byteLength = count * size;
  if (byteLength > arrayBufferBytesMax) {
    const range = `at most ${Math.floor(arrayBufferBytesMax / size)} for one view (4 GiB); view such a handle in windows`;
    throw outOfRange("length", range, count, caller);
  }
  return { byteOffset, byteLength, length: count };
}

/** Makes a view; `Buffer`, where there is one, has a factory: its constructor is deprecated. */
export function makeView<View extends ArrayBufferView>(
  type: ViewConstructor<View>,
  buffer: ArrayBuffer,
  byteOffset: number,
  length: number,
): View {
  if (typeof Buffer !== "undefined" && (type as unknown) === Buffer) {
    return Buffer.from(buffer, byteOffset, length) as unknown as View;
  }
  return new type(buffer, byteOffset, length);
}

/** Refuses what is no whole number from 0 to `max`. */
export function checkInteger(name: string, value: unknown, max: number, caller: Caller): void {
  if (typeof value !== "number") throw invalidArgType(name, "a number", value, caller);
  if (!Number.isInteger(value) || value < 0 || value > max) {
    throw outOfRange(name, `a whole number from 0 to ${max}`, value, caller);
  }
}
