/**
 * SlabOwner: slots of one size that this thread hands out and any Worker gives back.
 *
 * `alloc` and `free` are JavaScript over the slab's own tables: a stack of free indexes and one word a
 * slot with its generation and phase, which only the owner writes while nobody else has the slot. Every
 * few operations one call into native code looks at what others have freed (zig/heap/owner_slab.zig).
 *
 * Invariant: a slot's number is never issued twice, and each access through `fields` compares it with
 * the slot's word. A closed or transferred owner has no tables any more, so its calls take the slow
 * path, which refuses.
 *
 * Cost: a pair of alloc and free 11 to 14 ns (an empty foreign call: 4; 2-vCPU VM, November 2026); 8
 * bytes a slot beside its own. Not for objects that every Worker allocates, nor for strings and graphs:
 * fields are numbers and bytes.
 */
import { layouts, SLAB_WORD_CREDIT, SLAB_WORD_TOP, Status } from "./abi.gen.ts";
import { callError, more, thread } from "./binding.ts";
import { type Caller, holdfastError, invalidArgType, outOfRange } from "./errors.ts";
import { type Figures, readFigures, writeFigures } from "./figures.ts";
import { type BytesKind, type Layout, placeBytes, placeLayout } from "./layout.ts";
import { type Fields, SlabMemory, type Slot } from "./slab_memory.ts";
import { SlabRemote } from "./slab_remote.ts";
import { checkWait, timedOut, Waiters, type WaitOptions } from "./slab_waiters.ts";

/** Who can back a slab: a LargePool, GlobalAllocator or ReclaimingAllocator, whose regions it takes. */
export interface SlabBackend {
  share():
    | { readonly largePool: number }
    | { readonly globalAllocator: number }
    | { readonly reclaimingAllocator: number };
}

export interface SlabOwnerOptions<L extends Layout = Layout> {
  /** The fields of a slot; or else `slotBytes`. */
  layout?: L;
  /** Bytes of a slot without declared fields. */
  slotBytes?: number;
  /** Slots there are room for at first. */
  capacity: number;
  /** Slots there may be: above `capacity`, the slab grows by segments. Default: it does not grow. */
  capacityMax?: number;
  /** When the owner takes in what others have freed. Default `{ fixed: 64 }`. */
  batch?: { fixed: number } | "adaptive";
  /** Remote frees that wait at most. Default: no bound. */
  queueCapacity?: number;
  /** Where the memory comes from. Default: the system. */
  backend?: SlabBackend;
  /** Remember who holds each slot, so that those of a Worker that ended can be taken back. */
  leases?: boolean;
}

/** The ownership of a slab for another Worker: plain data for `postMessage`. One `adopt` succeeds. */
export interface OwnerToken<L extends Layout = Layout> {
  readonly slabOwner: number;
  readonly layout: L | number;
}

/** Figures of a slab, exact while nobody frees. */
export interface SlabStats extends Omit<Figures<typeof layouts.SlabStats>, "adaptive" | "closed"> {
  adaptive: boolean;
  closed: boolean;
}

/** Of a slab without declared fields. */
export type PlainLayout = { readonly bytes: BytesKind };

/** In place of options: a slab that there is already. */
class KnownSlab {
  constructor(
    readonly id: number,
    readonly layout: Layout | number,
  ) {}
}

const noWords = new Int32Array(2);
const capacityLimit = 2 ** 24 - 9;
/** Blocking waits are cut into pieces of this length, so that a Worker can be terminated. */
const waitPieceMs = 20;
/** Words from here on are of a slot's last generation. */
const lastLive = (2 ** 29 - 1) * 4 + 1;

export class SlabOwner<L extends Layout = PlainLayout> implements Disposable {
  /** Accessors of each field; of a slab made with `slotBytes` the one field `bytes`. */
  readonly fields: Fields<L>;
  /** Bytes of a slot that can be used: the layout's, rounded up to its alignment. */
  readonly usableSize: number;
  #id: number;
  #layout: Layout | number;
  #memory: SlabMemory;
  #states: Int32Array;
  #stack: Int32Array;
  /** The slab's first words; two zeros while every call must take the slow path. */
  #control: Int32Array;
  #mask: number;
  #bits: number;
  #unit: number;
  #waiters: Waiters;

  constructor(options: SlabOwnerOptions<L>) {
    const known = (options as unknown) instanceof KnownSlab;
    const slab = known ? (options as unknown as KnownSlab) : create(options, SlabOwner);
    const { id, layout } = slab;
    const placed =
      typeof layout === "number" ? placeBytes(layout, SlabOwner) : placeLayout(layout, SlabOwner);
    try {
      this.#memory = new SlabMemory(id, placed, true, "new SlabOwner");
    } catch (error) {
      more().hf_slab_close(thread, id);
      throw error;
    }
    this.#id = id;
    this.#layout = layout;
    const { info } = this.#memory;
    this.#states = this.#memory.states;
    this.#stack = this.#memory.stack;
    this.#control = this.#memory.control;
    this.#bits = info.bits;
    this.#unit = 2 ** info.bits;
    this.#mask = this.#unit - 1;
    this.usableSize = info.stride;
    this.fields = this.#memory.fields();
    this.#waiters = new Waiters(() => more().hf_slab_alloc(thread, id) as number);
  }

  /** Takes over a slab from another Worker. Of all adopters of a token one succeeds. */
  static adopt<L extends Layout = PlainLayout>(token: OwnerToken<L>): SlabOwner<L> {
    if (typeof token !== "object" || token === null || typeof token.slabOwner !== "number") {
      throw invalidArgType("token", "an OwnerToken from transfer()", token, SlabOwner.adopt);
    }
    const id = more().hf_slab_adopt(thread, token.slabOwner) as number;
    if (id < 0) {
      const message = "the token was adopted before, or the slab was reclaimed";
      throw callError(id, "SlabOwner.adopt", SlabOwner.adopt, { message });
    }
    return new SlabOwner(new KnownSlab(id | 0, token.layout) as unknown as SlabOwnerOptions<L>);
  }

  /** A free slot, contents undefined. LIMIT if all are in use. */
  alloc(): Slot {
    const control = this.#control;
    const top = control[SLAB_WORD_TOP] as number;
    const credit = control[SLAB_WORD_CREDIT] as number;
    if (top === 0 || credit === 0) return this.#allocSlow();
    const index = this.#stack[top - 1] as number;
    const word = this.#states[index] as number;
    // Not the word of a free slot: native code skips the entry and counts it.
    if (!(word > 3) || (word & 3) !== 0) return this.#allocSlow();
    control[SLAB_WORD_TOP] = top - 1;
    control[SLAB_WORD_CREDIT] = credit - 1;
    this.#states[index] = word | 1;
    return (word >> 2) * this.#unit + index;
  }

  /** Ends a slot. DOUBLE_FREE, FOREIGN. */
  free(slot: Slot): void {
    const control = this.#control;
    const credit = control[SLAB_WORD_CREDIT] as number;
    const index = slot & this.#mask;
    const word =
      slot <= 0x7fffffff ? ((slot >>> this.#bits) << 2) | 1 : Math.floor(slot / this.#unit) * 4 + 1;
    if (credit === 0 || this.#states[index] !== word || word === lastLive || slot < 0) {
      this.#freeSlow(slot);
      return;
    }
    const top = control[SLAB_WORD_TOP] as number;
    // Free, and of the next generation.
    this.#states[index] = word + 3;
    this.#stack[top] = index;
    control[SLAB_WORD_TOP] = top + 1;
    control[SLAB_WORD_CREDIT] = credit - 1;
  }

  /** As `alloc`; when all slots are in use it waits, behind those who waited before. */
  allocAsync(options: WaitOptions = {}): Promise<Slot> {
    checkWait(options, this.allocAsync);
    if (options.signal?.aborted) return Promise.reject(options.signal.reason);
    this.#check("SlabOwner.allocAsync", this.allocAsync);
    this.#waiters.serve();
    if (this.#waiters.length === 0) {
      const slot = more().hf_slab_alloc(thread, this.#id) as number;
      if (slot > 0) return Promise.resolve(slot);
    }
    const waiting = this.#waiters.join(options);
    // While someone waits, each alloc and free looks at the line first.
    this.#control = noWords;
    return waiting;
  }

  /**
   * As `alloc`; when all slots are in use it blocks until another thread frees one. In Workers; the
   * main thread uses `allocAsync`.
   */
  waitAlloc(options: WaitOptions = {}): Slot {
    checkWait(options, this.waitAlloc);
    options.signal?.throwIfAborted();
    if (Bun.isMainThread) {
      const message = "the main thread does not block. Use allocAsync";
      throw holdfastError("UNSUPPORTED", "SlabOwner.waitAlloc", { message }, this.waitAlloc);
    }
    this.#check("SlabOwner.waitAlloc", this.waitAlloc);
    const { timeoutMs = Number.POSITIVE_INFINITY } = options;
    const end = performance.now() + timeoutMs;
    while (true) {
      this.#waiters.serve();
      const slot =
        this.#waiters.length === 0 ? (more().hf_slab_alloc(thread, this.#id) as number) : 0;
      if (slot > 0) return slot;
      const left = end - performance.now();
      if (left <= 0) throw timedOut(timeoutMs, "SlabOwner.waitAlloc");
      more().hf_slab_wait(thread, this.#id, Math.ceil(Math.min(left, waitPieceMs)));
    }
  }

  /** A remote of this slab; its `token` goes to other Workers. */
  remote(): SlabRemote<L> {
    this.#check("SlabOwner.remote", this.remote);
    return SlabRemote.attach({ slab: this.#id, layout: this.#layout as L | number });
  }

  /** Takes in everything that others have freed; answers how many slots. */
  drain(): number {
    const count = more().hf_slab_drain(thread, this.#id) as number;
    if (count < 0) throw this.#gone("SlabOwner.drain", this.drain);
    this.#serve();
    return count;
  }

  /** Gives the slab to whoever adopts the token first. This object is closed; remotes go on. */
  transfer(): OwnerToken<L> {
    const token = more().hf_slab_transfer(thread, this.#id) as number;
    if (token < 0) throw this.#gone("SlabOwner.transfer", this.transfer);
    this.#letGo();
    return { slabOwner: token, layout: this.#layout as L | number };
  }

  /** Whether the slot is in use. */
  isLive(slot: Slot): boolean {
    return this.#memory.isLive(slot);
  }

  /** Says who holds a slot: the `holder` of a remote. Only with `leases: true`. */
  lend(slot: Slot, holder: number): void {
    const status = more().hf_slab_hold(thread, this.#id, slot, holder);
    if (status === Status.unsupported)
      throw callError(status, "SlabOwner.lend", this.lend, noLeases);
    if (status < Status.ok) throw this.#memory.stale(slot, "SlabOwner.lend");
  }

  /** Slots in use of that holder; without one, of holders whose Workers have ended. */
  held(holder = 0): Slot[] {
    const slots: Slot[] = [];
    let from = 0;
    while (true) {
      const slot = more().hf_slab_held(thread, this.#id, from, holder) as number;
      if (slot === 0) return slots;
      if (slot < 0) throw callError(slot, "SlabOwner.held", this.held, noLeases);
      slots.push(slot);
      from = (slot % this.#unit) + 1;
    }
  }

  /** Frees what `held` lists; answers how many slots. */
  takeBack(holder = 0): number {
    const slots = this.held(holder);
    for (const slot of slots) this.free(slot);
    return slots.length;
  }

  /** Queued frees at which they are taken in, where that adapts; null where it is fixed. */
  get adaptiveThreshold(): number | null {
    const { adaptive, threshold } = this.stats();
    return adaptive ? threshold : null;
  }

  /** Wrong frees and damaged entries found so far. */
  get corruptionEvents(): number {
    return this.stats().corruptionEvents;
  }

  /** Slots times `usableSize`, as far as there is memory for them. */
  get capacityBytes(): number {
    const { capacity, strideBytes } = this.stats();
    return capacity * strideBytes;
  }

  /** First address of the slots; of the first segment, where there are several. */
  get address(): number {
    this.#check("SlabOwner.address");
    return this.#memory.info.address;
  }

  /** Bytes from `address` on that are slots. */
  get byteLength(): number {
    this.#check("SlabOwner.byteLength");
    const { segmentSlots, capacityMax, stride } = this.#memory.info;
    return Math.min(segmentSlots, capacityMax) * stride;
  }

  stats(): SlabStats {
    const out = new Uint8Array(layouts.SlabStats.size);
    this.#check("SlabOwner.stats", this.stats);
    const status = more().hf_slab_stats(this.#id, out);
    if (status < Status.ok) throw this.#gone("SlabOwner.stats", this.stats);
    const figures = readFigures(layouts.SlabStats, out);
    return { ...figures, adaptive: figures.adaptive === 1, closed: figures.closed === 1 };
  }

  /** Refuses further frees and takes in those that wait; the memory goes with the last remote. */
  close(): void {
    if (this.#id === 0) return;
    more().hf_slab_close(thread, this.#id);
    this.#letGo();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #allocSlow(): Slot {
    if (this.#waiters.length > 0) this.#serve();
    const slot =
      this.#waiters.length > 0 ? Status.limit : (more().hf_slab_alloc(thread, this.#id) as number);
    if (slot > 0) return slot;
    if (slot !== Status.limit) throw this.#gone("SlabOwner.alloc", this.alloc);
    const { capacityMax } = this.#memory.info;
    const message = `all ${capacityMax} slots are in use. Free some, wait with allocAsync, or make the slab larger`;
    throw holdfastError("LIMIT", "SlabOwner.alloc", { message }, this.alloc);
  }

  #freeSlow(slot: Slot): void {
    const status = more().hf_slab_free(thread, this.#id, slot);
    if (status === Status.ok) {
      if (this.#waiters.length > 0) this.#serve();
      return;
    }
    if (status === Status.closed) throw this.#gone("SlabOwner.free", this.free);
    const message =
      status === Status.double_free
        ? `slot ${slot} was freed before`
        : `slot ${slot} was never issued by this slab`;
    throw callError(status, "SlabOwner.free", this.free, { message });
  }

  /** Serves those who wait; with none left, alloc and free are quick again. */
  #serve(): void {
    this.#waiters.serve();
    if (this.#waiters.length === 0 && this.#id !== 0) this.#control = this.#memory.control;
  }

  #letGo(): void {
    this.#id = 0;
    this.#control = noWords;
    this.#states = this.#stack = noWords;
    this.#memory.letGo();
    this.#waiters.refuse(() => this.#gone("SlabOwner.allocAsync"));
  }

  #check(operation: string, caller?: Caller): void {
    if (this.#id === 0) throw this.#gone(operation, caller);
  }

  #gone(operation: string, caller?: Caller): Error {
    const message = "the slab was closed or transferred, or belongs to another thread";
    return holdfastError("CLOSED", operation, { message }, caller);
  }
}

const noLeases = { message: "the slab was made without leases: true" };

/** Makes the native slab that the options ask for. */
function create(options: SlabOwnerOptions, caller: Caller): KnownSlab {
  if (typeof options !== "object" || options === null) {
    throw invalidArgType("options", "an object", options, caller);
  }
  const { layout, slotBytes, capacity, capacityMax = 0, queueCapacity, backend } = options;
  const { batch = { fixed: 64 }, leases = false } = options;
  if ((layout === undefined) === (slotBytes === undefined)) {
    throw invalidArgType("options", "an object with either layout or slotBytes", options, caller);
  }
  const placed =
    layout === undefined ? placeBytes(slotBytes as number, caller) : placeLayout(layout, caller);
  count("capacity", capacity, 1, capacityLimit, caller);
  if (capacityMax !== 0) count("capacityMax", capacityMax, capacity, capacityLimit, caller);
  if (queueCapacity !== undefined && queueCapacity !== Number.POSITIVE_INFINITY) {
    count("queueCapacity", queueCapacity, 0, Number.MAX_SAFE_INTEGER, caller);
  }
  if (batch !== "adaptive") {
    if (typeof batch !== "object" || batch === null) {
      throw invalidArgType("options.batch", '{ fixed: n } or "adaptive"', batch, caller);
    }
    count("batch.fixed", batch.fixed, 1, 2 ** 31 - 1, caller);
  }
  if (backend !== undefined && typeof backend?.share !== "function") {
    throw invalidArgType("options.backend", "a LargePool or GlobalAllocator", backend, caller);
  }
  const native = writeFigures(layouts.SlabOptions, {
    slotBytes: placed.byteLength,
    alignment: placed.alignment,
    capacity,
    capacityMax,
    queueCapacity:
      queueCapacity === undefined || queueCapacity === Number.POSITIVE_INFINITY
        ? -1
        : queueCapacity,
    batch: batch === "adaptive" ? 0 : batch.fixed,
    pool: backend === undefined ? 0 : (Object.values(backend.share())[0] as number),
    leases: leases ? 1 : 0,
  });
  const id = more().hf_slab_create(thread, native) as number;
  if (id < 0) throw callError(id, "new SlabOwner", caller);
  return new KnownSlab(id | 0, layout ?? (slotBytes as number));
}

function count(name: string, value: unknown, min: number, max: number, caller: Caller): void {
  if (typeof value !== "number") {
    throw invalidArgType(`options.${name}`, "a number", value, caller);
  }
  if (!Number.isInteger(value) || value < min || value > max) {
    throw outOfRange(`options.${name}`, `a whole number from ${min} to ${max}`, value, caller);
  }
}
