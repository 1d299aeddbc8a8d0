/**
 * A Handle: a lease on memory, its views, and their end.
 *
 * Invariant: memory is reused only after the native deallocator of every ArrayBuffer ever made over
 * it has run. Native code counts each buffer before it exists (`hf_wrap`), and ends a lease only
 * when that count is 0: at `free()`, or in the last deallocator after it. Three outcomes: detached,
 * so "freed"; pinned by I/O in flight, so "closing" and tried again (closing.ts); given away by the
 * program before, so "closing" until its new owner lets go.
 *
 * Whoever ends the views of a lease that goes on (`resize`, `transfer`, the first half of `free`)
 * takes a hold first: one wrap more, so that the last deallocator does not end it as a leak. A lease
 * dropped without `free()` comes back by its buffer's deallocator or, if never viewed, by the leak
 * registry (recent.ts, leaks.ts).
 *
 * Cost: 30-60 ns for a lease never viewed; the first view 0.4 µs and a share of a collection;
 * alias views tens of nanoseconds. Handle objects are never reused: one that was kept could free
 * another's memory. A Handle stays in its realm; `transfer()` makes a token for another Worker.
 */
import {
  BLOCK_ADDRESS,
  BLOCK_BYTE_LENGTH,
  BLOCK_CAPACITY,
  BLOCK_FLAGS,
  BLOCK_REGION,
  BLOCK_REGION_EPOCH,
  BLOCK_WRAPPING,
  LEASE_ALIAS,
  LEASE_LOCKED,
  OPTION_ALIAS,
  OPTION_ZERO,
  PARKED_BYTES_MAX,
  Pages,
  Status,
} from "./abi.gen.ts";
import {
  Anchor,
  bytesOf,
  freeLater,
  give,
  isMoved,
  RegionRecord,
  take,
  tie,
  windowOf,
} from "./alias.ts";
import { block, callError, keep, more, symbols, thread } from "./binding.ts";
import { closing } from "./closing.ts";
import { type Caller, holdfastError, invalidArgType, outOfRange } from "./errors.ts";
import { handleLost, reports, sampleLease, settleLease } from "./leaks.ts";
import { arrayBufferBytesMax, detach, renew as renewBuffer, tryDetach, wrap } from "./memory.ts";
import { type AllocOptions, optionBits } from "./options.ts";
import { add, find, hasRoom, parked, remove } from "./parked.ts";
import { type HandleSet, remember, revoke, settle } from "./recent.ts";
import { recover } from "./recover.ts";
import { checkInteger, makeView, type ViewConstructor, viewRange } from "./view.ts";

/** A handle on its way to another Worker: plain data for `postMessage`. One `adopt` succeeds. */
export interface HandleToken {
  readonly token: number;
  readonly byteLength: number;
}

/** Kind of pages that the kernel says a handle has. */
export type PageKind = "base" | "thp" | "hugetlb";

/** One of several ArrayBuffers over a handle too long for one. */
interface Window {
  start: number;
  buffer: ArrayBuffer;
}

const { hf_hold, hf_unhold, hf_park, hf_revive } = symbols;
const { hf_alloc, hf_free, hf_wrap, hf_unwrap, hf_describe } = symbols;
const deallocator = Number(symbols.hf_wrap_deallocator());
/** Low bits of a handle are its index in the native table. */
const indexMask = 2 ** 24 - 1;
/** Windows begin and end at multiples of this where they can, so that views share them. */
const windowBytes = 2 ** 30;
/** Values of `#id` that are no handle. */
const freedId = 0;
const transferredId = -1;

/**
 * Leases memory and makes its Handle; for the front door and the pools, not for programs. They
 * `return lease(...)`, a tail call: their own frames are gone, so errors cut the stack here.
 */
type MakeLease = (
  pool: number,
  byteLength: number,
  options: AllocOptions | undefined,
  zero: number,
  operation: string,
  owner: HandleSet | null,
) => HandleObject;

let makeLease: MakeLease;

/** `resize` into a new Handle; for the pools. The old one is over, or as it was if this throws. */
type RenewLease = (
  handle: HandleObject,
  pool: number,
  byteLength: number,
  operation: string,
  owner: HandleSet | null,
  caller: Caller,
) => HandleObject;

let renewLease: RenewLease;

/** The Handle of a lease that the block describes; for owners that lease by a call of their own. */
type WrapLease = (id: number, owner: HandleSet | null) => HandleObject;

let wrapLease: WrapLease;

class HandleObject implements Disposable {
  #id: number;
  #address: number;
  #byteLength: number;
  /** The ArrayBuffer of the views, unless alias or in windows. */
  #buffer: ArrayBuffer | null = null;
  #bytes: Uint8Array<ArrayBuffer> | null = null;
  /** In alias mode: what the views lie on. */
  #held: RegionRecord | Anchor | null = null;
  #windows: Window[] | null = null;
  /** Whether the program has ever been given the buffer. */
  #shown = false;
  /** The pool, if the lease may be parked when it ends; 0 if not. */
  #pool = 0;
  /** The pool's set, if the pool can be closed by force. */
  #owner: HandleSet | null;
  /** The leak registry knows it. */
  #watched = false;

  private constructor(id: number, address: number, byteLength: number, owner: HandleSet | null) {
    this.#id = id;
    this.#address = address;
    this.#byteLength = byteLength;
    this.#owner = owner;
  }

  static {
    /** The lease of that length that ended last, with its buffer; null if there is none. */
    const revive = (
      pool: number,
      byteLength: number,
      bits: number,
      owner: HandleSet | null,
    ): HandleObject | null => {
      const at = find(pool, byteLength);
      if (at < 0) return null;
      const id = hf_revive(thread, pool, parked.ids[at] as number, bits) as number;
      const address = parked.addresses[at] as number;
      const buffer = remove(at);
      if (id < 0) {
        tryDetach(buffer);
        return null;
      }
      const handle = new HandleObject(id, address, byteLength, owner);
      handle.#pool = pool;
      handle.#buffer = buffer;
      // Its buffer tells when the handle is dropped; only a close by force must find it.
      if (owner !== null) remember(handle, byteLength);
      return handle;
    };

    makeLease = (pool, byteLength, options, zero, operation, owner) => {
      if (typeof byteLength !== "number") {
        throw invalidArgType("byteLength", "a number", byteLength, makeLease);
      }
      const bits = options === undefined ? zero : zero | optionBits(options, makeLease);
      const plain = (bits & ~OPTION_ZERO) === 0;
      if (plain && parked.count !== 0 && byteLength <= PARKED_BYTES_MAX) {
        const revived = revive(pool, byteLength, bits, owner);
        if (revived !== null) {
          if (reports.every !== 0) sampleLease(revived, byteLength, makeLease);
          return revived;
        }
      }
      let id = hf_alloc(thread, pool, byteLength, bits) as number;
      if (id < 0) id = allocSlow(id, pool, byteLength, bits, operation);
      const address = block[BLOCK_ADDRESS] as number;
      const handle = new HandleObject(id, address, byteLength, owner);
      if (plain && byteLength <= PARKED_BYTES_MAX && byteLength !== 0) handle.#pool = pool;
      if ((bits & OPTION_ALIAS) === 0) remember(handle, byteLength);
      else if (byteLength !== 0) handle.#hold(id);
      if (reports.every !== 0) sampleLease(handle, byteLength, makeLease);
      return handle;
    };
  }

  static {
    wrapLease = (id, owner) => {
      const byteLength = block[BLOCK_BYTE_LENGTH] as number;
      const handle = new HandleObject(id, block[BLOCK_ADDRESS] as number, byteLength, owner);
      remember(handle, byteLength);
      if (reports.every !== 0) sampleLease(handle, byteLength, wrapLease);
      return handle;
    };

    renewLease = (handle, pool, byteLength, operation, owner, caller) => {
      if (!(handle instanceof HandleObject)) {
        throw invalidArgType("handle", "a Handle", handle, caller);
      }
      const id = handle.#id;
      if (id <= 0) throw handle.#gone(operation, caller);
      checkInteger("byteLength", byteLength, Number.MAX_SAFE_INTEGER, caller);
      if (handle.#held !== null && isMoved(handle.#held)) throw moved(operation, caller);
      if (handle.#withdraw(operation, caller)) {
        hf_unhold(thread, id);
        handle.#watch(id);
      }
      handle.#bytes = null;
      const attempt = () => more().hf_realloc(thread, pool, id, byteLength) as number;
      const fresh = recover(attempt(), attempt);
      if (fresh < 0) throw callError(fresh, operation, caller);
      if (reports.every !== 0) settleLease(handle);
      const address = block[BLOCK_ADDRESS] as number;
      const result = new HandleObject(fresh, address, byteLength, owner);
      const isAlias = ((block[BLOCK_FLAGS] as number) & LEASE_ALIAS) !== 0;
      if (handle.#held !== null) give(handle.#held);
      handle.#end();
      if (!isAlias) remember(result, byteLength);
      else if (byteLength !== 0) result.#hold(fresh);
      return result;
    };
  }

  /** Takes over a lease from another Worker. Of all adopters of a token one succeeds. */
  static adopt(token: HandleToken): Handle {
    if (typeof token !== "object" || token === null || typeof token.token !== "number") {
      throw invalidArgType("token", "a HandleToken from transfer()", token, HandleObject.adopt);
    }
    const id = more().hf_adopt(thread, token.token) as number;
    if (id < 0) {
      const message =
        id === Status.freed
          ? "the token was adopted before, or its memory was reclaimed"
          : undefined;
      throw callError(id, "Handle.adopt", HandleObject.adopt, message ? { message } : undefined);
    }
    const address = block[BLOCK_ADDRESS] as number;
    const byteLength = block[BLOCK_BYTE_LENGTH] as number;
    const handle = new HandleObject(id, address, byteLength, null);
    remember(handle, byteLength);
    return handle;
  }

  /** Bytes that were asked for. */
  get byteLength(): number {
    return this.#byteLength;
  }

  /** Bytes that can be had without moving: whole pages, or the slot of a small lease. */
  get capacity(): number {
    this.#describe("Handle.capacity");
    return block[BLOCK_CAPACITY] as number;
  }

  /** Where the memory lies; 0 for a handle of length 0. It stays there until `resize` or `free`. */
  get address(): number {
    if (this.#id <= 0) throw this.#gone("Handle.address");
    return this.#address;
  }

  /** All bytes; the same object each time. */
  get bytes(): Uint8Array<ArrayBuffer> {
    const bytes = this.#bytes;
    return bytes !== null ? bytes : this.#firstBytes();
  }

  /** A typed array or DataView over `length` elements from `byteOffset` on; default: to the end. */
  view<View extends ArrayBufferView>(
    type: ViewConstructor<View>,
    byteOffset = 0,
    length?: number,
  ): View {
    if (this.#id <= 0) throw this.#gone("Handle.view", this.view);
    const range = viewRange(type, byteOffset, length, this.#byteLength, this.view);
    const held = this.#held;
    if (held !== null) {
      if (isMoved(held)) throw moved("Handle.view", this.view);
      const at = windowOf(held, this.#address + byteOffset, range.byteLength);
      const view = makeView(type, at.buffer, at.byteOffset, range.length);
      tie(view, held);
      return view;
    }
    if (this.#byteLength > arrayBufferBytesMax) {
      const { start, buffer } = this.#window(byteOffset, range.byteLength);
      return makeView(type, buffer, byteOffset - start, range.length);
    }
    const buffer = this.#buffer ?? this.#firstBuffer();
    this.#shown = true;
    if (buffer.detached) throw moved("Handle.view", this.view);
    return makeView(type, buffer, byteOffset, range.length);
  }

  /**
   * Changes the length, in place up to `capacity`, else by moving the contents. Views made before
   * are empty afterwards (alias views show memory that may be another's), also if the length stays:
   * `resize(byteLength)` takes the ArrayBuffer off memory that only rests. BUSY while I/O uses a
   * view; a failure leaves the handle as it was.
   */
  resize(byteLength: number): void {
    const id = this.#id;
    if (id <= 0) throw this.#gone("Handle.resize", this.resize);
    checkInteger("byteLength", byteLength, Number.MAX_SAFE_INTEGER, this.resize);
    if (this.#held !== null && isMoved(this.#held)) throw moved("Handle.resize", this.resize);
    if (this.#withdraw("Handle.resize", this.resize)) {
      hf_unhold(thread, id);
      // Until now its buffer's deallocator told when the handle was dropped.
      this.#watch(id);
    }
    const attempt = () => more().hf_resize(thread, id, byteLength);
    const status = recover(attempt(), attempt);
    if (status < Status.ok) throw callError(status, "Handle.resize", this.resize);
    this.#address = block[BLOCK_ADDRESS] as number;
    this.#byteLength = byteLength;
    this.#bytes = null;
    this.#holdAgain(id);
  }

  /** Whether the pages are locked in RAM now. */
  get locked(): boolean {
    this.#describe("Handle.locked");
    return ((block[BLOCK_FLAGS] as number) & LEASE_LOCKED) !== 0;
  }

  /** What the kernel says at least 90 % of the resident bytes are; untouched memory is "base". */
  get pageKind(): PageKind {
    const id = this.#id;
    if (id <= 0) throw this.#gone("Handle.pageKind");
    const kind = more().hf_page_kind(thread, id);
    if (kind < 0) throw callError(kind, "Handle.pageKind");
    return kind === Pages.hugetlb ? "hugetlb" : kind === Pages.thp ? "thp" : "base";
  }

  /**
   * Locks the pages in RAM; LOCK_LIMIT if the system does not allow it, UNSUPPORTED for a lease that
   * shares its pages with others (a small one: ask for `lock` when it is allocated).
   */
  lock(): void {
    const id = this.#id;
    if (id <= 0) throw this.#gone("Handle.lock", this.lock);
    const attempt = more().hf_lock(thread, id);
    if (attempt < Status.ok) throw callError(attempt, "Handle.lock", this.lock);
  }

  /** Unlocks the pages; nothing happens if they are not locked. */
  unlock(): void {
    const id = this.#id;
    if (id <= 0) throw this.#gone("Handle.unlock", this.unlock);
    const status = more().hf_unlock(thread, id);
    if (status < Status.ok) throw callError(status, "Handle.unlock", this.unlock);
  }

  /** Asks the kernel to have the range in RAM soon; rounded outward to pages. */
  prefetch(byteOffset = 0, byteLength?: number): void {
    const id = this.#id;
    if (id <= 0) throw this.#gone("Handle.prefetch", this.prefetch);
    checkInteger("byteOffset", byteOffset, this.#byteLength, this.prefetch);
    const room = this.#byteLength - byteOffset;
    if (byteLength !== undefined) checkInteger("byteLength", byteLength, room, this.prefetch);
    const status = more().hf_prefetch(thread, id, byteOffset, byteLength ?? room);
    if (status < Status.ok) throw callError(status, "Handle.prefetch", this.prefetch);
  }

  /**
   * Gives the frames back and keeps the addresses; rounded inward to pages. `now`: the contents are
   * zero afterwards. `lazy`: the kernel takes them when it needs them; until then they may stay.
   */
  purge(mode: "now" | "lazy" = "now"): void {
    const id = this.#id;
    if (id <= 0) throw this.#gone("Handle.purge", this.purge);
    if (mode !== "now" && mode !== "lazy") {
      throw outOfRange("mode", '"now" or "lazy"', mode, this.purge);
    }
    const status = more().hf_purge(thread, id, 0, this.#byteLength, mode === "lazy" ? 1 : 0);
    if (status < Status.ok) throw callError(status, "Handle.purge", this.purge);
  }

  /**
   * The lease as a file, which a `Response` sends without a copy: for leases of 1 MiB and more of a
   * pool with `pages: "memfd"`, else UNSUPPORTED. From then on the lease's length is fixed (`resize`
   * moves it into other memory), and nothing else is ever put where it lies. Bun opens the file when
   * the handler has returned: from then on the response is sent whole whatever becomes of the lease.
   * So free it in a `setImmediate` or later; opened after `free()`, the file has the old bytes, or
   * is gone, but never shows another lease.
   */
  file(options?: { type?: string }): Blob & { readonly name?: string } {
    const id = this.#id;
    if (id <= 0) throw this.#gone("Handle.file", this.file);
    const descriptor = more().hf_file(thread, id);
    if (descriptor < Status.ok) throw callError(descriptor, "Handle.file", this.file);
    return Bun.file(`/proc/self/fd/${descriptor}`, options);
  }

  /**
   * Ends the lease. "freed": the memory is back and every view is empty. "closing": I/O in flight
   * or a new owner of the ArrayBuffer still uses it; it comes back by itself when they are done.
   */
  free(): "freed" | "closing" {
    const id = this.#id;
    if (id <= 0) throw this.#gone("Handle.free", this.free);
    if (reports.every !== 0) settleLease(this);
    if (this.#held !== null) return this.#freeAlias(id, this.#held);
    const buffer = this.#buffer;
    if (buffer === null) {
      const status = hf_free(thread, id);
      if (status !== Status.ok) return this.#freeRare(status);
      this.#id = freedId;
      return "freed";
    }
    const bytes = this.#bytes;
    const isGone = bytes === null ? buffer.detached : bytes.length === 0;
    if (!isGone && this.#pool !== 0 && hasRoom()) return this.#park(id, buffer);
    if (isGone || hf_hold(thread, id) !== Status.ok) return this.#freeRare(hf_free(thread, id));
    // With a hold over the detach the lease ends by the call below, on the warm path of its thread;
    // ended first, it would end in the deallocator, which costs 120 ns more.
    tryDetach(buffer);
    hf_unhold(thread, id);
    const status = hf_free(thread, id);
    this.#id = freedId;
    this.#buffer = null;
    this.#bytes = null;
    if (status === Status.ok) return "freed";
    if (!buffer.detached) closing.add(buffer);
    return "closing";
  }

  /** Ends a short lease and keeps its memory and buffer for the next one (parked.ts). */
  #park(id: number, buffer: ArrayBuffer): "freed" | "closing" {
    const moved = this.#shown ? renewBuffer(buffer) : buffer;
    if (buffer.detached || !this.#shown) {
      if (hf_park(thread, id) === Status.ok) {
        add(id, this.#address, this.#byteLength, this.#pool, moved);
        this.#id = freedId;
        this.#buffer = null;
        this.#bytes = null;
        return "freed";
      }
      // Other buffers show the lease, or it is locked, or over: end it in the usual way.
      this.#buffer = moved;
    }
    this.#pool = 0;
    this.#bytes = null;
    return this.#freeRare(hf_free(thread, id));
  }

  /** Whether the lease has ended: by `free`, `transfer`, or the close of its pool. */
  get freed(): boolean {
    return this.#id <= 0 || hf_describe(thread, this.#id) !== Status.ok;
  }

  [Symbol.dispose](): void {
    if (this.#id > 0) this.free();
  }

  /**
   * Makes a token for another Worker and ends this handle. BUSY while I/O uses a view or after an
   * ArrayBuffer was given away; UNSUPPORTED for alias views.
   */
  transfer(): HandleToken {
    const id = this.#id;
    if (id <= 0) throw this.#gone("Handle.transfer", this.transfer);
    if (this.#held !== null) {
      const message =
        'a handle with views: "alias" cannot be transferred; allocate it with "revoke"';
      throw holdfastError("UNSUPPORTED", "Handle.transfer", { message }, this.transfer);
    }
    const held = this.#withdraw("Handle.transfer", this.transfer);
    const token = more().hf_transfer(thread, id, held ? 1 : 0) as number;
    if (token < 0) {
      if (held) hf_unhold(thread, id);
      throw callError(token, "Handle.transfer", this.transfer, {});
    }
    if (reports.every !== 0) settleLease(this);
    this.#id = transferredId;
    return { token, byteLength: this.#byteLength };
  }

  /** @internal For recent.ts: the handle leaves the ring. */
  [settle](): void {
    const id = this.#id;
    if (id <= 0) return;
    if (this.#buffer === null && this.#windows === null) this.#watch(id);
    this.#owner?.add(this);
  }

  /** @internal For recent.ts: the pool was closed by force, the lease is closing already. */
  [revoke](owner: HandleSet): void {
    if (this.#id <= 0 || this.#owner !== owner) return;
    this.#letGo();
  }

  /** Registers the handle for leaks, once. */
  #watch(id: number): void {
    if (this.#watched) return;
    this.#watched = true;
    handleLost(this, id);
  }

  #describe(operation: string): void {
    if (this.#id <= 0) throw this.#gone(operation);
    const status = hf_describe(thread, this.#id);
    if (status < Status.ok) throw callError(status, operation);
  }

  #gone(operation: string, caller?: Caller): Error {
    if (this.#id === transferredId) {
      const message = "the handle was transferred; the Worker that adopts its token has the memory";
      return holdfastError("FREED", operation, { message }, caller);
    }
    const code = operation === "Handle.free" ? "DOUBLE_FREE" : "FREED";
    return holdfastError(code, operation, undefined, caller);
  }

  #firstBytes(): Uint8Array<ArrayBuffer> {
    if (this.#id <= 0) throw this.#gone("Handle.bytes", this.#firstBytes);
    const byteLength = this.#byteLength;
    if (byteLength > arrayBufferBytesMax) {
      const range = `at most ${arrayBufferBytesMax} (4 GiB) for "bytes"; use view(type, byteOffset, length)`;
      throw outOfRange("byteLength", range, byteLength, this.#firstBytes);
    }
    const held = this.#held;
    if (held !== null) {
      if (isMoved(held)) throw moved("Handle.bytes", this.#firstBytes);
      this.#bytes = bytesOf(held, this.#address, byteLength);
    } else {
      const buffer = this.#buffer ?? this.#firstBuffer();
      this.#shown = true;
      if (buffer.detached && byteLength !== 0) throw moved("Handle.bytes", this.#firstBytes);
      this.#bytes = new Uint8Array(buffer);
    }
    return this.#bytes;
  }

  /** Makes the one ArrayBuffer over exactly this handle's bytes. */
  #firstBuffer(): ArrayBuffer {
    const buffer =
      this.#byteLength === 0 ? new ArrayBuffer(0) : this.#wrapRange(0, this.#byteLength);
    this.#buffer = buffer;
    return buffer;
  }

  #wrapRange(byteOffset: number, byteLength: number): ArrayBuffer {
    const id = this.#id;
    const status = hf_wrap(thread, id);
    if (status < Status.ok) throw callError(status, "Handle.view");
    try {
      const buffer = wrap(
        this.#address + byteOffset,
        byteLength,
        (id & indexMask) + 1,
        deallocator,
      );
      // A Worker that is terminated before this line leaves the count to the engine.
      block[BLOCK_WRAPPING] = 0;
      return buffer;
    } catch (error) {
      hf_unwrap(thread, id);
      throw error;
    }
  }

  /** A live window that covers the range; made wide enough that neighbours can share it. */
  #window(byteOffset: number, byteLength: number): Window {
    this.#windows ??= [];
    const end = byteOffset + byteLength;
    for (const window of this.#windows) {
      const { start, buffer } = window;
      if (!buffer.detached && start <= byteOffset && end <= start + buffer.byteLength)
        return window;
    }
    let start = Math.floor(byteOffset / windowBytes) * windowBytes;
    let last = Math.min(Math.ceil(end / windowBytes) * windowBytes, this.#byteLength);
    if (last - start > arrayBufferBytesMax) {
      start = byteOffset;
      last = end;
    }
    const window = { start, buffer: this.#wrapRange(start, last - start) };
    this.#windows.push(window);
    return window;
  }

  /** Takes what the alias views of the lease in the block lie on. */
  #hold(id: number): void {
    try {
      this.#held = take(id);
    } catch (error) {
      this.#id = freedId;
      hf_free(thread, id);
      throw error;
    }
  }

  /** After a resize: the lease in the block may lie in another region. */
  #holdAgain(id: number): void {
    const held = this.#held;
    if (held instanceof RegionRecord) {
      if (held.region === block[BLOCK_REGION] && held.epoch === block[BLOCK_REGION_EPOCH]) return;
    }
    if (held !== null) give(held);
    this.#held = null;
    if (((block[BLOCK_FLAGS] as number) & LEASE_ALIAS) !== 0) this.#hold(id);
  }

  /**
   * Ends all views but not the lease. True if there were any: then one wrap is left as a hold,
   * which the caller consumes. Throws BUSY, with the lease untouched, if one cannot be ended.
   */
  #withdraw(operation: string, caller: Caller): boolean {
    if (this.#buffer === null && this.#windows === null) return false;
    const status = hf_hold(thread, this.#id);
    if (status < Status.ok) throw callError(status, operation, caller);
    const busy = this.#detachAll();
    if (busy === null) return true;
    hf_unhold(thread, this.#id);
    throw busy === "moved"
      ? moved(operation, caller)
      : holdfastError("BUSY", operation, {}, caller);
  }

  #detachAll(): "moved" | "pinned" | null {
    const buffer = this.#buffer;
    if (buffer !== null) {
      if (buffer.detached) return "moved";
      if (!detach(buffer)) return "pinned";
      this.#buffer = null;
      this.#bytes = null;
    }
    const windows = this.#windows ?? [];
    while (windows.length > 0) {
      const { buffer: last } = windows[windows.length - 1] as Window;
      if (last.detached) return "moved";
      if (!detach(last)) return "pinned";
      windows.pop();
    }
    this.#windows = null;
    return null;
  }

  #freeAlias(id: number, held: RegionRecord | Anchor): "freed" | "closing" {
    if (isMoved(held)) {
      if (held instanceof Anchor) {
        freeLater(held, id);
        this.#end();
        return "closing";
      }
      // One wrap more keeps the region from everybody until the buffer's new owner lets go.
      const wrapped = hf_wrap(thread, id);
      block[BLOCK_WRAPPING] = 0;
      if (wrapped === Status.forked) throw callError(wrapped, "Handle.free", this.free);
      this.#end();
      if (wrapped < Status.ok) return "freed";
      return hf_free(thread, id) === Status.closing ? "closing" : "freed";
    }
    const status = hf_free(thread, id);
    if (status === Status.forked) throw callError(status, "Handle.free", this.free);
    this.#end();
    if (status >= Status.ok) give(held);
    return status === Status.closing ? "closing" : "freed";
  }

  /** The free of a handle without a view, with windows, or whose lease has ended by itself. */
  #freeRare(status: number): "freed" | "closing" {
    if (status === Status.forked) throw callError(status, "Handle.free", this.free);
    const outcome = this.#letGo();
    // A lease that is gone already: the buffer was given away, and its new owner has let go of it.
    return status === Status.closing ? outcome : "freed";
  }

  #letGo(): "freed" | "closing" {
    const windows = this.#windows ?? [];
    if (this.#buffer !== null) windows.push({ start: 0, buffer: this.#buffer });
    this.#end();
    let outcome: "freed" | "closing" = "freed";
    for (const { buffer } of windows) {
      if (!buffer.detached) {
        if (detach(buffer)) continue;
        closing.add(buffer);
      }
      outcome = "closing";
    }
    return outcome;
  }

  #end(): void {
    this.#id = freedId;
    this.#buffer = null;
    this.#bytes = null;
    this.#windows = null;
    this.#held = null;
  }
}

function allocSlow(
  status: number,
  pool: number,
  byteLength: number,
  bits: number,
  operation: string,
): number {
  const attempt = () => hf_alloc(thread, pool, byteLength, bits) as number;
  const result = recover(status, attempt);
  if (result >= 0) return result;
  if (result === Status.out_of_range) {
    const range = `a whole number from 0 to ${Number.MAX_SAFE_INTEGER}`;
    throw outOfRange("byteLength", range, byteLength, makeLease);
  }
  throw callError(result, operation, makeLease);
}

function moved(operation: string, caller?: Caller): Error {
  const message =
    "the ArrayBuffer of this handle was given away (postMessage, structuredClone, transfer(), " +
    "a byte stream). Free the handle; its memory comes back when the new owner lets go";
  return holdfastError("BUSY", operation, { message }, caller);
}

const kept = keep("handle", () => ({
  Handle: HandleObject,
  lease: makeLease,
  renew: renewLease,
  wrap: wrapLease,
}));

/** A lease on memory; made by `alloc` and the pools. */
export type Handle = HandleObject;
export const Handle = kept.Handle as typeof HandleObject;
export const lease = kept.lease;
export const renew = kept.renew;
export const wrapLeased = kept.wrap;
