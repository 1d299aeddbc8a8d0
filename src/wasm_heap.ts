/**
 * A SmallHeap in a WebAssembly memory, and its handles: no native code, so it runs in browsers too.
 *
 * The module (holdfast-import.wasm, embedded) is placed into the memory at the first request: at
 * its beginning if the memory is the heap's own, in a page grown for it if it was given, since the
 * rest may be another module's. From then on the heap grows the memory as it needs it; so may
 * others.
 *
 * Handles are always alias: a WebAssembly memory cannot be detached piece by piece. A view shows the
 * memory for as long as the memory does not grow; `bytes` and `view()` look each time and make a new
 * view after growth, so ask again instead of keeping one. What needs a system (lock, purge, pages,
 * prefault) or another thread (transfer) answers UNSUPPORTED.
 *
 * One thread: the heap belongs to the Worker that made it. Cost: 0.1 µs a lease beside the module's
 * own work. Not for much memory that lives long: linear memory never shrinks.
 */
import { type Caller, holdfastError, invalidArgType, outOfRange } from "./errors.ts";
import { checkInteger, makeView, type ViewConstructor, viewRange } from "./view.ts";
import { MODULE } from "./wasm_module.gen.ts";

export interface WasmHeapOptions {
  /** A memory to live in, others' use of it untouched. Default: one of its own. */
  memory?: WebAssembly.Memory | undefined;
  /** Pages of 64 KiB that a memory of its own starts with. Default 1. */
  initialPages?: number | undefined;
  /** Pages to which a memory of its own may grow. Default 65,536, which is 4 GiB. */
  maximumPages?: number | undefined;
}

export interface WasmAllocOptions {
  /** A power of two up to 1 GiB. Default 16. */
  align?: number | undefined;
}

/** Figures of a small heap; words are of 4 bytes. Bytes are those requested, words those given. */
export interface SmallHeapFigures {
  inUse: number;
  highWater: number;
  /** As `highWater`, since `resetTrip()`. */
  tripHighWater: number;
  /** Pieces of memory; more than one when someone else grew the memory in between. */
  regions: number;
  totalWords: number;
  allocatedWords: number;
  /** The free run at the top. */
  unusedWords: number;
  /** All other free runs, and their number. */
  fragmentWords: number;
  fragments: number;
  /** Pages of 64 KiB of large blocks, each block rounded up, and those that lie whole in free runs. */
  totalLargePages: number;
  unusedLargePages: number;
  allocatedLargePagesWords: number;
  heapStart: number;
}

export interface WasmHeapStats extends SmallHeapFigures {
  liveHandles: number;
  /** Handles that were dropped without `free()`. */
  leakedHandles: number;
  /** The sum of live `byteLength`. */
  allocatedBytes: number;
  /** The whole memory, others' part included. */
  mappedBytes: number;
}

interface Exports {
  alloc(bytes: number, alignment: number): number;
  free(address: number, bytes: number): void;
  realloc(address: number, oldBytes: number, newBytes: number, alignment: number): number;
  stats(): number;
  resetTrip(): void;
}

const pageBytes = 65_536;
const pagesMax = 65_536;
/** Above this the module refuses. */
const requestBytesMax = 2 ** 31 - 1;
const alignMax = 2 ** 30;
const alignDefault = 16;
/** What blocks have room for multiples of: short ones, which may have more, and those above 2 KiB. */
const granuleBytes = 16;
const sectorBytes = 512;
const shortBytesMax = 2048;
/** Room below the module's data; its code needs less. */
const stackBytes = 1024;

const figureNames = [
  "inUse",
  "highWater",
  "tripHighWater",
  "regions",
  "totalWords",
  "allocatedWords",
  "unusedWords",
  "fragmentWords",
  "fragments",
  "totalLargePages",
  "unusedLargePages",
  "allocatedLargePagesWords",
  "heapStart",
] as const satisfies readonly (keyof SmallHeapFigures)[];

let module: WebAssembly.Module | undefined;

function compiled(): WebAssembly.Module {
  module ??= new WebAssembly.Module(Uint8Array.from(atob(MODULE), (char) => char.charCodeAt(0)));
  return module;
}

/** The module in `memory`, its stack and its data from `base` on. */
function place(memory: WebAssembly.Memory, base: number): Exports {
  const constant = (value: number) => new WebAssembly.Global({ value: "i32" }, value);
  const env = {
    memory,
    __indirect_function_table: new WebAssembly.Table({ initial: 0, element: "anyfunc" }),
    __stack_pointer: new WebAssembly.Global({ value: "i32", mutable: true }, base + stackBytes),
    __memory_base: constant(base + stackBytes),
    __table_base: constant(0),
  };
  return new WebAssembly.Instance(compiled(), { env }).exports as unknown as Exports;
}

/** What a block of that length takes at least. */
function roomOf(byteLength: number): number {
  const unit = byteLength > shortBytesMax ? sectorBytes : granuleBytes;
  return Math.ceil(byteLength / unit) * unit;
}

/** What of a heap its handles use; programs do not. */
interface Owner {
  readonly memory: WebAssembly.Memory;
  isOpen: boolean;
  resize(block: Block, byteLength: number, caller: Caller): void;
  release(handle: WasmHandle, block: Block): void;
}

/** A lease. Address and length 0 for one without memory. */
interface Block {
  address: number;
  byteLength: number;
  readonly align: number;
  /** The lease is not over. */
  isLive: boolean;
}

/** A lease on memory of a heap in WebAssembly; as `Handle`, with what is possible there. */
export class WasmHandle implements Disposable {
  readonly #owner: Owner;
  readonly #block: Block;
  #bytes: Uint8Array<ArrayBuffer> | null = null;

  /** For the heap; programs call `alloc`. */
  constructor(owner: Owner, block: Block) {
    this.#owner = owner;
    this.#block = block;
  }

  /** For the heap: what a handle leases, if it is of that heap. */
  static blockOf(handle: WasmHandle, owner: Owner): Block | null {
    return #owner in handle && handle.#owner === owner ? handle.#block : null;
  }

  /** Bytes that were asked for. */
  get byteLength(): number {
    return this.#block.byteLength;
  }

  /** Bytes that can be had without moving. */
  get capacity(): number {
    return roomOf(this.#live("Handle.capacity").byteLength);
  }

  /** Offset in the memory; 0 for a handle of length 0. */
  get address(): number {
    return this.#live("Handle.address").address;
  }

  /** All bytes; the same object each time, and a new one after the memory has grown. */
  get bytes(): Uint8Array<ArrayBuffer> {
    const { address, byteLength } = this.#live("Handle.bytes");
    const { buffer } = this.#owner.memory as { buffer: ArrayBuffer };
    let bytes = this.#bytes;
    if (bytes === null || bytes.buffer !== buffer || bytes.byteOffset !== address) {
      bytes = new Uint8Array(buffer, address, byteLength);
      this.#bytes = bytes;
    }
    return bytes;
  }

  /** A typed array or DataView over `length` elements from `byteOffset` on; default: to the end. */
  view<View extends ArrayBufferView>(
    type: ViewConstructor<View>,
    byteOffset = 0,
    length?: number,
  ): View {
    const { address, byteLength } = this.#live("Handle.view", this.view);
    const range = viewRange(type, byteOffset, length, byteLength, this.view);
    const { buffer } = this.#owner.memory as { buffer: ArrayBuffer };
    return makeView(type, buffer, address + byteOffset, range.length);
  }

  /** Changes the length, in place where there is room, else by moving the contents. */
  resize(byteLength: number): void {
    const block = this.#live("Handle.resize", this.resize);
    checkInteger("byteLength", byteLength, Number.MAX_SAFE_INTEGER, this.resize);
    this.#owner.resize(block, byteLength, this.resize);
    this.#bytes = null;
  }

  /** Ends the lease. A view that is kept shows what comes to lie there next. */
  free(): "freed" {
    const block = this.#live("Handle.free", this.free);
    this.#bytes = null;
    this.#owner.release(this, block);
    return "freed";
  }

  get freed(): boolean {
    return !(this.#block.isLive && this.#owner.isOpen);
  }

  [Symbol.dispose](): void {
    if (!this.freed) this.free();
  }

  /** Nothing can be locked here. */
  get locked(): boolean {
    this.#live("Handle.locked");
    return false;
  }

  get pageKind(): "base" {
    this.#live("Handle.pageKind");
    return "base";
  }

  lock(): never {
    throw this.#unsupported("Handle.lock", this.lock);
  }

  unlock(): never {
    throw this.#unsupported("Handle.unlock", this.unlock);
  }

  prefetch(_byteOffset?: number, _byteLength?: number): never {
    throw this.#unsupported("Handle.prefetch", this.prefetch);
  }

  purge(_mode?: "now" | "lazy"): never {
    throw this.#unsupported("Handle.purge", this.purge);
  }

  transfer(): never {
    throw this.#unsupported("Handle.transfer", this.transfer);
  }

  #live(operation: string, caller?: Caller): Block {
    const block = this.#block;
    if (block.isLive && this.#owner.isOpen) return block;
    const code = operation === "Handle.free" ? "DOUBLE_FREE" : "FREED";
    throw holdfastError(code, operation, undefined, caller);
  }

  #unsupported(operation: string, caller: Caller): Error {
    if (this.freed) return holdfastError("FREED", operation, undefined, caller);
    return unsupported(operation, "memory of WebAssembly has no pages of its own", caller);
  }
}

/** A heap for small objects in a WebAssembly memory; `SmallHeap.wasm()` makes one. */
export class WasmHeap implements Disposable {
  readonly #owner: Owner;
  /** Length of a memory of its own at the beginning; 0 for one that was given. */
  readonly #ownBytes: number;
  readonly #maximumPages: number | undefined;
  #exports: Exports | null = null;
  #leaked = 0;
  /** Live leases without memory. */
  #empty = 0;
  #allocated = 0;
  readonly #live = new Map<number, Block>();
  /** Frees what is dropped. */
  readonly #dropped = new FinalizationRegistry((block: Block) => {
    if (!block.isLive) return;
    this.#leaked += 1;
    this.#end(block);
  });

  constructor(options: WasmHeapOptions = {}) {
    const caller = WasmHeap;
    if (typeof options !== "object" || options === null) {
      throw invalidArgType("options", "an object", options, caller);
    }
    const { memory, initialPages = 1, maximumPages } = options;
    if (memory !== undefined && !(memory instanceof WebAssembly.Memory)) {
      throw invalidArgType("options.memory", "a WebAssembly.Memory", memory, caller);
    }
    checkInteger("options.initialPages", initialPages, pagesMax, caller);
    if (maximumPages !== undefined) {
      checkInteger("options.maximumPages", maximumPages, pagesMax, caller);
      if (maximumPages < initialPages) {
        const range = `at least initialPages, which is ${initialPages}`;
        throw outOfRange("options.maximumPages", range, maximumPages, caller);
      }
    }
    this.#ownBytes = memory === undefined ? initialPages * pageBytes : 0;
    this.#maximumPages = memory === undefined ? maximumPages : undefined;
    const descriptor = { initial: initialPages, maximum: maximumPages ?? pagesMax };
    this.#owner = {
      memory: memory ?? new WebAssembly.Memory(descriptor),
      isOpen: true,
      resize: (block, byteLength, of) => this.#resize(block, byteLength, "Handle.resize", of),
      release: (handle, block) => {
        this.#dropped.unregister(handle);
        this.#end(block);
      },
    };
  }

  /** The memory that the heap lives in. */
  get memory(): WebAssembly.Memory {
    return this.#owner.memory;
  }

  /** Zero-filled memory. */
  alloc(byteLength: number, options?: WasmAllocOptions): WasmHandle {
    const block = this.#take(byteLength, options, "SmallHeap.alloc", this.alloc);
    if (byteLength !== 0) new Uint8Array(this.memory.buffer, block.address, byteLength).fill(0);
    return this.#handle(block);
  }

  /** Memory whose contents are undefined. */
  allocUnsafe(byteLength: number, options?: WasmAllocOptions): WasmHandle {
    return this.#handle(this.#take(byteLength, options, "SmallHeap.allocUnsafe", this.allocUnsafe));
  }

  /** A new handle with the contents; the old one is freed. After a failure it is as it was. */
  realloc(handle: WasmHandle, byteLength: number): WasmHandle {
    const operation = "SmallHeap.realloc";
    this.#check(operation, this.realloc);
    if (!(handle instanceof WasmHandle)) {
      throw invalidArgType("handle", "a handle of this heap", handle, this.realloc);
    }
    const block = WasmHandle.blockOf(handle, this.#owner);
    if (block === null) throw holdfastError("FOREIGN", operation, foreign, this.realloc);
    if (!block.isLive) throw holdfastError("FREED", operation, undefined, this.realloc);
    checkInteger("byteLength", byteLength, Number.MAX_SAFE_INTEGER, this.realloc);
    this.#resize(block, byteLength, operation, this.realloc);
    this.#dropped.unregister(handle);
    const next = { ...block };
    block.isLive = false;
    if (next.address !== 0) this.#live.set(next.address, next);
    return this.#handle(next);
  }

  stats(): WasmHeapStats {
    this.#check("SmallHeap.stats", this.stats);
    return {
      ...this.#figures(),
      liveHandles: this.#live.size + this.#empty,
      leakedHandles: this.#leaked,
      allocatedBytes: this.#allocated,
      mappedBytes: this.memory.buffer.byteLength,
    };
  }

  /** From now on `tripHighWater` is the most in use after this call. */
  resetTrip(): void {
    this.#check("SmallHeap.resetTrip", this.resetTrip);
    this.#exports?.resetTrip();
  }

  /** All figures on one line. */
  toString(): string {
    if (!this.#owner.isOpen) return "closed";
    const figures = this.#figures();
    return figureNames.map((name) => `${name}=${figures[name]}`).join(" ");
  }

  /** BUSY with live handles; with `force` they end. A memory that was given keeps its pages. */
  close(options?: { force?: boolean }): void {
    if (!this.#owner.isOpen) return;
    const live = this.#live.size + this.#empty;
    if (live > 0 && options?.force !== true) {
      throw holdfastError("BUSY", "SmallHeap.close", { current: live }, this.close);
    }
    this.#owner.isOpen = false;
    for (const block of [...this.#live.values()]) this.#end(block);
    this.#exports = null;
  }

  [Symbol.dispose](): void {
    this.close({ force: true });
  }

  #check(operation: string, caller: Caller): void {
    if (!this.#owner.isOpen) throw holdfastError("CLOSED", operation, undefined, caller);
  }

  #handle(block: Block): WasmHandle {
    const handle = new WasmHandle(this.#owner, block);
    this.#dropped.register(handle, block, handle);
    return handle;
  }

  #take(
    byteLength: number,
    options: WasmAllocOptions | undefined,
    operation: string,
    caller: Caller,
  ): Block {
    this.#check(operation, caller);
    checkInteger("byteLength", byteLength, Number.MAX_SAFE_INTEGER, caller);
    const align = options === undefined ? alignDefault : alignOf(options, operation, caller);
    if (byteLength === 0) {
      this.#empty += 1;
      return { address: 0, byteLength: 0, align, isLive: true };
    }
    const address = this.#request(0, 0, byteLength, align, operation, caller);
    const block: Block = { address, byteLength, align, isLive: true };
    this.#live.set(address, block);
    this.#allocated += byteLength;
    return block;
  }

  /** Of the module: a new block, or another length for one. */
  #request(
    address: number,
    oldBytes: number,
    bytes: number,
    align: number,
    operation: string,
    caller: Caller,
  ): number {
    if (bytes > requestBytesMax) {
      const details = { requestedBytes: bytes, bound: requestBytesMax };
      throw holdfastError("SIZE_CLASS", operation, details, caller);
    }
    const heap = this.#open();
    const found =
      heap === null
        ? 0
        : address === 0
          ? heap.alloc(bytes, align)
          : heap.realloc(address, oldBytes, bytes, align);
    // Above 2 GiB an i32 comes back negative.
    if (found !== 0) return found >>> 0;
    const bound = this.#maximumPages === undefined ? undefined : this.#maximumPages * pageBytes;
    const details = {
      requestedBytes: bytes,
      current: this.memory.buffer.byteLength,
      ...(bound === undefined ? {} : { bound }),
    };
    throw holdfastError(
      bound === undefined ? "OUT_OF_MEMORY" : "LIMIT",
      operation,
      details,
      caller,
    );
  }

  /** Places the module at the first request. Null: there is no page for it. */
  #open(): Exports | null {
    if (this.#exports !== null) return this.#exports;
    const { memory } = this;
    let base = 0;
    try {
      // A memory that someone else uses: whatever lies in it, a new page is ours.
      const isWhole = memory.buffer.byteLength === this.#ownBytes && this.#ownBytes !== 0;
      if (!isWhole) base = memory.grow(1) * pageBytes;
    } catch {
      return null;
    }
    this.#exports = place(memory, base);
    return this.#exports;
  }

  #resize(block: Block, byteLength: number, operation: string, caller: Caller): void {
    const { address, byteLength: before, align } = block;
    if (byteLength === 0) {
      if (address === 0) return;
      this.#exports?.free(address, before);
      this.#live.delete(address);
      this.#empty += 1;
      block.address = 0;
    } else {
      const next = this.#request(address, before, byteLength, align, operation, caller);
      if (address === 0) this.#empty -= 1;
      else if (next !== address) this.#live.delete(address);
      if (next !== address) this.#live.set(next, block);
      block.address = next;
    }
    block.byteLength = byteLength;
    this.#allocated += byteLength - before;
  }

  #end(block: Block): void {
    block.isLive = false;
    const { address, byteLength } = block;
    if (address === 0) {
      this.#empty -= 1;
      return;
    }
    this.#live.delete(address);
    this.#allocated -= byteLength;
    this.#exports?.free(address, byteLength);
  }

  #figures(): SmallHeapFigures {
    const address = this.#exports?.stats();
    const words =
      address === undefined
        ? new BigUint64Array(figureNames.length)
        : new BigUint64Array(this.memory.buffer, address >>> 0, figureNames.length);
    const figures = figureNames.map((name, index) => [name, Number(words[index])]);
    return Object.fromEntries(figures) as SmallHeapFigures;
  }
}

const foreign = { message: "the handle is of another heap. Give it to the heap that made it" };

/** The alignment; options that only a system can fulfil are refused, their defaults are not. */
function alignOf(options: WasmAllocOptions, operation: string, caller: Caller): number {
  if (typeof options !== "object" || options === null) {
    throw invalidArgType("options", "an object", options, caller);
  }
  const { views, pages, lock, prefault } = options as Record<string, unknown>;
  if (views !== undefined && views !== "alias") {
    throw unsupported(operation, 'views are always "alias" in a WebAssembly memory', caller);
  }
  if (
    (pages !== undefined && pages !== "auto") ||
    (lock !== undefined && lock !== "none") ||
    (prefault !== undefined && prefault !== false)
  ) {
    const message = "a WebAssembly memory has no pages to choose, lock or populate";
    throw unsupported(operation, message, caller);
  }
  const { align = alignDefault } = options;
  if (typeof align !== "number") throw invalidArgType("options.align", "a number", align, caller);
  const isPower = align >= 1 && align <= alignMax && ((align | 0) & (align - 1)) === 0;
  if (!isPower || !Number.isInteger(align)) {
    throw outOfRange("options.align", `a power of two from 1 to ${alignMax}`, align, caller);
  }
  return align;
}

function unsupported(operation: string, message: string, caller: Caller): Error {
  return holdfastError("UNSUPPORTED", operation, { message }, caller);
}
