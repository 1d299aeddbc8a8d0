/**
 * SmallHeap: small objects in one reservation with a limit, or, by `SmallHeap.wasm()`, in a
 * WebAssembly memory (wasm_heap.ts). zig/heap/small_heap.zig does the work of both.
 *
 * The native kind reserves addresses, touches them as they are used and gives pages back by `trim()`.
 * Its leases are those of any pool: revocable views, transfer, all Workers under one lock. Leases that
 * are locked, populated, alias or of special pages own whole pages outside of the reservation. Not
 * for speed with many threads, which is what GlobalAllocator is for.
 */
import { layouts, Status } from "./abi.gen.ts";
import { callError, keep, more, thread } from "./binding.ts";
import { type Caller, invalidArgType } from "./errors.ts";
import { type Figures, readFigures, writeFigures } from "./figures.ts";
import type { Handle } from "./handle.ts";
import { count } from "./options.ts";
import { type PoolFigures, PoolOwner } from "./pool_owner.ts";
import { WasmHeap, type WasmHeapOptions } from "./wasm_heap.ts";

export interface SmallHeapOptions {
  /** Bytes reserved, and the most that the heap can hold, rounded up to 64 KiB. Default 1 GiB. */
  limitBytes?: number | undefined;
}

/** A heap for another Worker: plain data for `postMessage`. */
export interface SmallHeapToken {
  readonly smallHeap: number;
}

/** Figures of a native small heap: its pool's and its own. */
export interface SmallHeapStats extends PoolFigures, Figures<typeof layouts.SmallStats> {}

class SmallHeapObject extends PoolOwner {
  constructor(options?: SmallHeapOptions) {
    if ((options as unknown) instanceof Known) {
      super((options as unknown as Known).id, false, "SmallHeap");
      return;
    }
    const id = Number(more().hf_small_create(thread, nativeOptions(options, SmallHeapObject)));
    if (id < 0) throw callError(id, "new SmallHeap", SmallHeapObject);
    super(id, false, "SmallHeap");
  }

  /** A heap in a WebAssembly memory, its own or one that is given. */
  static wasm(options?: WasmHeapOptions): WasmHeap {
    return new WasmHeap(options);
  }

  /** The heap of that token, which another Worker made with `share()`. */
  static attach(token: SmallHeapToken): SmallHeap {
    const id = (token as Partial<SmallHeapToken> | null)?.smallHeap;
    if (typeof id !== "number") {
      throw invalidArgType("token", "a SmallHeapToken from share()", token, SmallHeapObject.attach);
    }
    const heap = new SmallHeapObject(new Known(id | 0) as unknown as SmallHeapOptions);
    heap.stats();
    return heap;
  }

  /** A token by which other Workers reach this heap; it stays open until it is closed. */
  share(): SmallHeapToken {
    return { smallHeap: this.id };
  }

  /**
   * A new Handle of that length with the contents of `handle`, in place where there is room. The old
   * handle is FREED; if this throws, it is as it was, but its views are empty.
   */
  realloc(handle: Handle, byteLength: number): Handle {
    return this.renew(handle, byteLength, this.realloc);
  }

  /**
   * Figures of the heap; no system call is made. `mappedBytes` is the reservation, `residentBytes` what
   * the heap has grown to. Short leases that ended and wait for the next of their length are not in
   * `inUse`, but in the words.
   */
  stats(): SmallHeapStats {
    const pool = this.poolFigures(this.stats);
    const figures = this.#figures(pool.allocatedBytes, this.stats);
    const mappedBytes = pool.mappedBytes + figures.limitBytes;
    const residentBytes = pool.residentBytes + figures.totalWords * 4;
    const retainedBytes = mappedBytes - pool.activeBytes;
    return { ...pool, ...figures, mappedBytes, residentBytes, retainedBytes };
  }

  /** From now on `tripHighWater` is the most in use after this call. */
  resetTrip(): void {
    const status = more().hf_small_reset_trip(this.id);
    if (status < Status.ok) throw callError(status, "SmallHeap.resetTrip", this.resetTrip);
  }

  /** The heap's own figures on one line. */
  override toString(): string {
    const { allocatedBytes } = this.poolFigures(this.toString);
    const figures = this.#figures(allocatedBytes, this.toString);
    return Object.entries(figures)
      .map(([name, value]) => `${name}=${value}`)
      .join(" ");
  }

  #figures(inUse: number, caller: Caller): Figures<typeof layouts.SmallStats> {
    const out = new Uint8Array(layouts.SmallStats.size);
    const status = more().hf_small_stats(this.id, out);
    if (status < Status.ok) throw callError(status, "SmallHeap.stats", caller);
    return { ...readFigures(layouts.SmallStats, out), inUse };
  }
}

/** In place of options: a heap that there is already. */
class Known {
  constructor(readonly id: number) {}
}

function nativeOptions(
  options: SmallHeapOptions | undefined,
  caller: Caller,
): Uint8Array<ArrayBuffer> {
  if (options === undefined) return writeFigures(layouts.SmallOptions, {});
  if (typeof options !== "object" || options === null) {
    throw invalidArgType("options", "an object", options, caller);
  }
  const { limitBytes } = options;
  if (limitBytes === undefined) return writeFigures(layouts.SmallOptions, {});
  return writeFigures(layouts.SmallOptions, {
    limitBytes: count("limitBytes", limitBytes, 1, caller),
  });
}

export type SmallHeap = SmallHeapObject;
export const SmallHeap = keep("smallHeap", () => SmallHeapObject);
