/**
 * GlobalAllocator: memory of any size and alignment. Small requests are objects of slabs owned by
 * threads, longer ones pages of a buddy, the longest regions of a large pool; zig/heap/global.zig
 * does the work.
 *
 * `alloc` and `allocUnsafe` of the package take their small requests from `GlobalAllocator.shared`.
 * Leases that are locked, populated, alias or of special pages own whole pages, whatever their size.
 * All Workers reach the allocator by its pool; an object of this class stays in its realm.
 */
import { layouts } from "./abi.gen.ts";
import { callError, keep, symbols, thread } from "./binding.ts";
import { type Caller, invalidArgType } from "./errors.ts";
import { writeFigures } from "./figures.ts";
import type { Handle } from "./handle.ts";
import { count } from "./options.ts";
import { type PoolFigures, PoolOwner } from "./pool_owner.ts";

export interface GlobalAllocatorOptions {
  /** Bytes of the sections that are taken from the system, rounded up to 2 MiB. */
  regionBytes?: number | undefined;
  /** Bound for page-rounded leases and resident cached bytes together. Default none. */
  limitBytes?: number | undefined;
}

/** An allocator for another Worker: plain data for `postMessage`. */
export interface GlobalAllocatorToken {
  readonly globalAllocator: number;
}

export interface GlobalAllocatorStats extends PoolFigures {}

class GlobalAllocatorObject extends PoolOwner {
  constructor(options?: GlobalAllocatorOptions) {
    if ((options as unknown) instanceof Known) {
      const { id } = options as unknown as Known;
      super(id, id === sharedId, "GlobalAllocator");
      return;
    }
    const native = nativeOptions(options, GlobalAllocatorObject);
    const id = Number(symbols.hf_global_create(thread, native));
    if (id < 0) throw callError(id, "new GlobalAllocator", GlobalAllocatorObject);
    super(id, false, "GlobalAllocator");
  }

  /** The allocator of small requests of the whole process. It is never closed. */
  static get shared(): GlobalAllocator {
    return keep("sharedGlobal", () => known(sharedId));
  }

  /** The allocator of that token, which another Worker made with `share()`. */
  static attach(token: GlobalAllocatorToken): GlobalAllocator {
    if (typeof token !== "object" || token === null || typeof token.globalAllocator !== "number") {
      const expected = "a GlobalAllocatorToken from share()";
      throw invalidArgType("token", expected, token, GlobalAllocatorObject.attach);
    }
    const allocator = known(token.globalAllocator | 0);
    allocator.stats();
    return allocator;
  }

  /** A token by which other Workers reach this allocator; it stays open until it is closed. */
  share(): GlobalAllocatorToken {
    return { globalAllocator: this.id };
  }

  /**
   * A new Handle of that length with the contents of `handle`, in place where there is room. The old
   * handle is FREED; if this throws, it is as it was, but for its views, which are empty.
   */
  realloc(handle: Handle, byteLength: number): Handle {
    return this.renew(handle, byteLength, this.realloc);
  }

  /** Sum of the lengths of live leases. */
  get allocatedBytes(): number {
    return this.poolFigures(this.stats).allocatedBytes;
  }

  /** Figures of the allocator; no system call is made. */
  stats(): GlobalAllocatorStats {
    return this.poolFigures(this.stats);
  }
}

/** In place of options: an allocator that there is already. */
class Known {
  constructor(readonly id: number) {}
}

function known(id: number): GlobalAllocatorObject {
  return new GlobalAllocatorObject(new Known(id) as unknown as GlobalAllocatorOptions);
}

const sharedId = symbols.hf_global_shared() | 0;

function nativeOptions(
  options: GlobalAllocatorOptions | undefined,
  caller: Caller,
): Uint8Array<ArrayBuffer> {
  if (options === undefined) return writeFigures(layouts.GlobalOptions, {});
  if (typeof options !== "object" || options === null) {
    throw invalidArgType("options", "an object", options, caller);
  }
  const { regionBytes, limitBytes } = options;
  const native: { regionBytes?: number; limitBytes?: number } = {};
  if (regionBytes !== undefined) native.regionBytes = count("regionBytes", regionBytes, 1, caller);
  if (limitBytes !== undefined) native.limitBytes = count("limitBytes", limitBytes, 1, caller);
  return writeFigures(layouts.GlobalOptions, native);
}

export type GlobalAllocator = GlobalAllocatorObject;
export const GlobalAllocator = keep("globalAllocator", () => GlobalAllocatorObject);
