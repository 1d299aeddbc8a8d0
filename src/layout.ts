/**
 * Declared layouts: the fields of a slot, their kinds, and where each lies, as a C compiler would
 * place them.
 *
 * `{ id: "u32", price: "f64", name: { bytes: 24 } }`: each field begins at a multiple of its own
 * alignment, in the order of declaration, and the whole is rounded up to the largest of them. So the
 * same memory is a struct for C and Zig. Pure data, no state; a layout passes by `postMessage`.
 */
import { type Caller, invalidArgType, outOfRange } from "./errors.ts";

/** Numbers that a field can hold; 64-bit integers are BigInts in JavaScript. */
export type FieldKind = "u8" | "i8" | "u16" | "i16" | "u32" | "i32" | "f32" | "f64" | "u64" | "i64";

/** A field of that many bytes. */
export interface BytesKind {
  readonly bytes: number;
}

export type Layout = Readonly<Record<string, FieldKind | BytesKind>>;

/** Where a field lies in its slot. */
export interface PlacedField {
  readonly name: string;
  readonly kind: FieldKind | "bytes";
  readonly byteOffset: number;
  readonly byteLength: number;
}

export interface PlacedLayout {
  readonly fields: readonly PlacedField[];
  readonly byteLength: number;
  readonly alignment: number;
}

const kindBytes: Readonly<Record<FieldKind, number>> = {
  u8: 1,
  i8: 1,
  u16: 2,
  i16: 2,
  u32: 4,
  i32: 4,
  f32: 4,
  f64: 8,
  u64: 8,
  i64: 8,
};
/** As zig/heap/owner_slab.zig has it. */
export const slotBytesMax = 2 ** 30;
/** Alignment of slots of plain bytes: what a C struct of any numbers needs. */
const bytesAlignmentMax = 8;

/** Places the fields of a layout. */
export function placeLayout(layout: Layout, caller: Caller): PlacedLayout {
  if (typeof layout !== "object" || layout === null) {
    throw invalidArgType("options.layout", "an object of fields", layout, caller);
  }
  const fields: PlacedField[] = [];
  let end = 0;
  let alignment = 1;
  for (const [name, kind] of Object.entries(layout)) {
    const isBytes = typeof kind === "object" && kind !== null;
    if (!isBytes && !Object.hasOwn(kindBytes, kind)) {
      const known = `one of ${Object.keys(kindBytes).join(", ")}, or { bytes }`;
      throw outOfRange(`options.layout.${name}`, known, kind, caller);
    }
    const byteLength = isBytes ? kind.bytes : kindBytes[kind];
    if (isBytes) checkBytes(`options.layout.${name}.bytes`, byteLength, caller);
    const own = isBytes ? 1 : byteLength;
    const byteOffset = Math.ceil(end / own) * own;
    fields.push({ name, kind: isBytes ? "bytes" : kind, byteOffset, byteLength });
    end = byteOffset + byteLength;
    alignment = Math.max(alignment, own);
  }
  if (fields.length === 0) {
    throw outOfRange("options.layout", "at least one field", layout, caller);
  }
  const byteLength = Math.ceil(end / alignment) * alignment;
  checkBytes("bytes of options.layout", byteLength, caller);
  return { fields, byteLength, alignment };
}

/** The layout of slots of plain bytes. */
export function placeBytes(byteLength: number, caller: Caller): PlacedLayout {
  checkBytes("options.slotBytes", byteLength, caller);
  let alignment = 1;
  while (alignment < bytesAlignmentMax && alignment * 2 <= byteLength) alignment *= 2;
  const fields = [{ name: "bytes", kind: "bytes", byteOffset: 0, byteLength }] as const;
  return { fields, byteLength, alignment };
}

function checkBytes(name: string, value: unknown, caller: Caller): void {
  if (typeof value !== "number") throw invalidArgType(name, "a number", value, caller);
  if (!Number.isInteger(value) || value < 1 || value > slotBytesMax) {
    throw outOfRange(name, `a whole number from 1 to ${slotBytesMax}`, value, caller);
  }
}
