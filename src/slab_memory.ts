/**
 * What one realm sees of an owner slab: its ArrayBuffers, their typed arrays, and the accessors of its
 * fields.
 *
 * Invariant: each ArrayBuffer is counted by native code before it is made, and keeps the slab's memory
 * until its own deallocator has run; so an accessor can read a freed slot's memory or throw, never
 * fault. `letGo` detaches them, after which every access throws.
 *
 * Cost of an access: one load of the slot's word and one compare with what its number says, then the
 * load or store itself; no call, no object. Accessors are made as source text with the slab's constants
 * in it: so each has code of its own, which the JIT specialises; 20 to 50 µs a field, once per layout.
 * Slabs that grow, or hold more than one piece of memory, look one array up more.
 */
import { layouts, SLAB_WORD_CARVED, Status } from "./abi.gen.ts";
import { callError, more } from "./binding.ts";
import { closing } from "./closing.ts";
import { holdfastError } from "./errors.ts";
import { type Figures, readFigures } from "./figures.ts";
import type { BytesKind, FieldKind, Layout, PlacedField, PlacedLayout } from "./layout.ts";
import { detach, wrap } from "./memory.ts";

/** A slot: index and generation in one number, never 0, never issued twice by its slab. */
export type Slot = number;

/** Reads and writes one number of a slot. */
export interface Field<Value> {
  /** FREED if the slot is not in use. */
  get(slot: Slot): Value;
  set(slot: Slot, value: Value): void;
}

/** Reads and writes bytes of a slot. */
export interface BytesField {
  readonly byteLength: number;
  /** Copies the bytes to `target[at]` and on. */
  read(slot: Slot, target: Uint8Array, at?: number): void;
  /** Copies from `source[at]` on; bytes that it does not have become 0. */
  write(slot: Slot, source: Uint8Array, at?: number): void;
  /** As `read` and `write`, four bytes at once, for fields at multiples of 4; else UNSUPPORTED. */
  readWords(slot: Slot, target: Int32Array | Uint32Array, at?: number): void;
  writeWords(slot: Slot, source: Int32Array | Uint32Array, at?: number): void;
  /** One byte. */
  get(slot: Slot, index: number): number;
  set(slot: Slot, index: number, value: number): void;
  /** The UTF-8 text up to the first zero byte. */
  getText(slot: Slot): string;
  /** Writes as many whole characters as fit, and zero bytes after them. */
  setText(slot: Slot, text: string): void;
}

export type Fields<L extends Layout> = {
  readonly [Name in keyof L]: L[Name] extends BytesKind
    ? BytesField
    : L[Name] extends "u64" | "i64"
      ? Field<bigint>
      : L[Name] extends FieldKind
        ? Field<number>
        : never;
};

const arrays = {
  u8: Uint8Array,
  i8: Int8Array,
  u16: Uint16Array,
  i16: Int16Array,
  u32: Uint32Array,
  i32: Int32Array,
  f32: Float32Array,
  f64: Float64Array,
  u64: BigUint64Array,
  i64: BigInt64Array,
} as const;
type ArrayName = keyof typeof arrays;

const noWords = new Int32Array(0);
const decoder = new TextDecoder();
const encoder = new TextEncoder();

export class SlabMemory {
  readonly id: number;
  readonly info: Figures<typeof layouts.SlabInfo>;
  readonly isSegmented: boolean;
  /** Generation << 2 | phase of each slot; 1 is live. */
  states: Int32Array = noWords;
  control: Int32Array = noWords;
  /** The owner's free indexes. */
  stack: Int32Array = noWords;
  /** Typed arrays over the segments, by kind. */
  readonly segments: Record<ArrayName, ArrayBufferView[]>;
  /** The same of the first segment. */
  first: Partial<Record<ArrayName, ArrayBufferView>> = {};
  #buffers: ArrayBuffer[] = [];
  #pieces: ArrayBuffer[] = [];
  #placed: PlacedLayout;
  #gone = false;

  constructor(id: number, placed: PlacedLayout, isOwner: boolean, operation: string) {
    const out = new Uint8Array(layouts.SlabInfo.size);
    const status = more().hf_slab_info(id, out);
    if (status < Status.ok) throw callError(status, operation);
    this.id = id;
    this.info = readFigures(layouts.SlabInfo, out);
    this.#placed = placed;
    const { capacityMax, segmentSlots, stride, statesOffset, stackOffset, marksOffset } = this.info;
    this.isSegmented = capacityMax > segmentSlots;
    this.segments = Object.fromEntries(
      Object.keys(arrays).map((name) => [name, []]),
    ) as unknown as Record<ArrayName, ArrayBufferView[]>;
    const meta = this.#wrap(this.info.metaAddress, isOwner ? marksOffset : stackOffset);
    this.control = new Int32Array(meta, 0, 3);
    this.states = new Int32Array(meta, statesOffset, capacityMax);
    if (isOwner) this.stack = new Int32Array(meta, stackOffset, capacityMax);
    if (placed.byteLength > stride) {
      this.letGo();
      throw holdfastError("ABI_MISMATCH", operation, {
        message: `the layout has ${placed.byteLength} bytes, the slots have ${stride}`,
      });
    }
    this.#addPieces(0);
  }

  /** The accessors of the layout's fields. */
  fields<L extends Layout>(): Fields<L> {
    const fields: Record<string, unknown> = {};
    for (const field of this.#placed.fields) fields[field.name] = makeField(this, field);
    return Object.freeze(fields) as Fields<L>;
  }

  /** The typed array of a segment that this realm has not looked at yet. */
  segment(name: ArrayName, ordinal: number): ArrayBufferView {
    this.#addPieces(ordinal);
    return this.segments[name][ordinal] as ArrayBufferView;
  }

  /** The error for a slot that is not in use. */
  stale(slot: unknown, operation: string): Error {
    if (this.#gone)
      return holdfastError("CLOSED", operation, { message: "the slab is closed here" });
    const message = `slot ${String(slot)} is not in use: it was freed, or was never one of this slab`;
    return holdfastError("FREED", operation, { message });
  }

  isLive(slot: Slot): boolean {
    const { bits } = this.info;
    const index = slot % 2 ** bits;
    return this.states[index] === ((slot - index) / 2 ** bits) * 4 + 1;
  }

  /** Slots that have been used, so that an index can be one. */
  get carved(): number {
    return this.control[SLAB_WORD_CARVED] ?? 0;
  }

  /** Ends all views; the memory may go. */
  letGo(): void {
    this.#gone = true;
    this.control = this.states = this.stack = noWords;
    this.first = {};
    for (const views of Object.values(this.segments)) views.length = 0;
    for (const buffer of this.#buffers) {
      if (!buffer.detached && !detach(buffer)) closing.add(buffer);
    }
    this.#buffers = [];
    this.#pieces = [];
  }

  #addPieces(last: number): void {
    const { segmentSlots, stride, capacityMax } = this.info;
    for (let ordinal = this.#pieces.length; ordinal <= last; ordinal++) {
      const address = more().hf_slab_segment(this.id, ordinal) as number;
      if (address < 0) throw callError(address, "SlabRemote");
      const slots = Math.min(segmentSlots, capacityMax - ordinal * segmentSlots);
      const piece = this.#wrap(address, slots * stride);
      this.#pieces.push(piece);
      for (const field of this.#placed.fields) {
        for (const name of arraysOf(field)) {
          const views = this.segments[name];
          if (views.length > ordinal) continue;
          // A stride that is no multiple of 4 leaves bytes at the end, which no field of words has.
          const type = arrays[name];
          const length = Math.floor(piece.byteLength / type.BYTES_PER_ELEMENT);
          views.push(new type(piece, 0, length));
          if (ordinal === 0) this.first[name] = views[0] as ArrayBufferView;
        }
      }
    }
  }

  #wrap(address: number, byteLength: number): ArrayBuffer {
    const status = more().hf_slab_retain(this.id);
    if (status < Status.ok) throw callError(status, "SlabRemote.attach");
    try {
      const deallocator = Number(more().hf_slab_deallocator());
      const buffer = wrap(address, byteLength, this.info.context, deallocator);
      this.#buffers.push(buffer);
      return buffer;
    } catch (error) {
      more().hf_slab_release(this.id);
      throw error;
    }
  }
}

/** Kinds of typed arrays that a field is reached by. */
function arraysOf(field: PlacedField): ArrayName[] {
  if (field.kind !== "bytes") return [field.kind];
  return hasWords(field) ? ["u8", "i32"] : ["u8"];
}

function hasWords(field: PlacedField): boolean {
  return field.byteOffset % 4 === 0 && field.byteLength % 4 === 0;
}

/** Copies up to this long are written out, longer ones are loops. */
const unrolledMax = 32;

/** The accessor of one field, as code of its own; see the head of this file. */
function makeField(memory: SlabMemory, field: PlacedField): unknown {
  const { bits, segmentShift, stride } = memory.info;
  const mask = 2 ** bits - 1;
  const word = `(slot <= 0x7fffffff ? (slot >>> ${bits}) << 2 | 1 : Math.floor(slot / ${2 ** bits}) * 4 + 1)`;
  const name = JSON.stringify(field.name);
  const check = (operation: string) => `
    const index = slot & ${mask};
    if (memory.states[index] !== ${word}) throw memory.stale(slot, ${name} + ".${operation}");`;
  /** Declares `view` and `at`, the field's place in it. */
  const find = (array: ArrayName) => {
    const size = arrays[array].BYTES_PER_ELEMENT;
    // Strides are multiples of what a field of numbers needs; words of bytes may be off.
    const place = (index: string) =>
      stride % size === 0
        ? `${index} * ${stride / size} + ${field.byteOffset / size}`
        : `(${index} * ${stride} + ${field.byteOffset}) / ${size}`;
    if (!memory.isSegmented) {
      return `const view = memory.first.${array}; const at = ${place("index")};`;
    }
    const segment = `index >> ${segmentShift}`;
    return `let view = memory.segments.${array}[${segment}];
    if (view === undefined) view = memory.segment("${array}", ${segment});
    const at = ${place(`(index & ${2 ** segmentShift - 1})`)};`;
  };
  if (field.kind !== "bytes") {
    return build(
      memory,
      `get(slot) {${check("get")} ${find(field.kind)} return view[at]; },
       set(slot, value) {${check("set")} ${find(field.kind)} view[at] = value; },`,
    );
  }
  const { byteLength } = field;
  const copy = (count: number, one: (i: string) => string) =>
    count <= unrolledMax
      ? Array.from({ length: count }, (_, i) => one(String(i))).join(" ")
      : `for (let i = 0; i < ${count}; i++) { ${one("i")} }`;
  const words = hasWords(field) && stride % 4 === 0;
  const noWordsHere = `throw unsupported(${name})`;
  return build(
    memory,
    `byteLength: ${byteLength},
     read(slot, target, to = 0) {${check("read")} ${find("u8")}
       if (to + ${byteLength} > target.length) throw room(target.length - to, ${byteLength});
       ${copy(byteLength, (i) => `target[to + ${i}] = view[at + ${i}];`)} },
     write(slot, source, from = 0) {${check("write")} ${find("u8")}
       if (source.length - from >= ${byteLength}) {
         ${copy(byteLength, (i) => `view[at + ${i}] = source[from + ${i}];`)}
       } else for (let i = 0; i < ${byteLength}; i++) view[at + i] = from + i < source.length ? source[from + i] : 0; },
     readWords(slot, target, to = 0) {${
       words
         ? `${check("readWords")} ${find("i32")}
       if (to + ${byteLength / 4} > target.length) throw room((target.length - to) * 4, ${byteLength});
       ${copy(byteLength / 4, (i) => `target[to + ${i}] = view[at + ${i}];`)}`
         : noWordsHere
     } },
     writeWords(slot, source, from = 0) {${
       words
         ? `${check("writeWords")} ${find("i32")}
       if (from + ${byteLength / 4} > source.length) throw room((source.length - from) * 4, ${byteLength});
       ${copy(byteLength / 4, (i) => `view[at + ${i}] = source[from + ${i}];`)}`
         : noWordsHere
     } },
     get(slot, i) {${check("get")} ${find("u8")} return i >= 0 && i < ${byteLength} ? view[at + i] : undefined; },
     set(slot, i, value) {${check("set")} ${find("u8")} if (i >= 0 && i < ${byteLength}) view[at + i] = value; },
     getText(slot) {${check("getText")} ${find("u8")}
       let end = at; const stop = at + ${byteLength};
       while (end < stop && view[end] !== 0) end++;
       return decode(view.subarray(at, end)); },
     setText(slot, text) {${check("setText")} ${find("u8")}
       const { length } = text;
       let i = 0;
       if (length <= ${byteLength}) for (; i < length; i++) {
         const code = text.charCodeAt(i);
         if (code > 127) break;
         view[at + i] = code;
       }
       if (i < length) i = encode(text, view.subarray(at, at + ${byteLength}));
       for (; i < ${byteLength}; i++) view[at + i] = 0; },`,
  );
}

type Make = (memory: SlabMemory, ...helpers: unknown[]) => unknown;
/** By source text: slabs of one layout share code, which is compiled once. */
const made = new Map<string, Make>();

function build(memory: SlabMemory, members: string): unknown {
  let make = made.get(members);
  if (make === undefined) {
    const body = `"use strict"; return Object.freeze({ ${members} });`;
    make = new Function("memory", "decode", "encode", "room", "unsupported", body) as Make;
    made.set(members, make);
  }
  return make(memory, decode, encode, room, unsupported);
}

function decode(bytes: Uint8Array): string {
  return decoder.decode(bytes);
}

function encode(text: string, bytes: Uint8Array): number {
  return encoder.encodeInto(text, bytes).written;
}

function room(has: number, needs: number): Error {
  const message = `there is room for ${Math.max(0, has)} bytes, the field has ${needs}`;
  return Object.assign(new RangeError(message), { code: "ERR_OUT_OF_RANGE" });
}

function unsupported(name: string): Error {
  const message = `"${name}" does not begin and end at multiples of 4. Declare it after a u32, or use read`;
  return holdfastError("UNSUPPORTED", `${name}.readWords`, { message });
}
