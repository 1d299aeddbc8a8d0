/**
 * GlobalAllocator: memory of any size and alignment. Small requests are objects of slabs owned by
 * threads, longer ones pages of a buddy, the longest regions of a large pool; zig/heap/global.zig
 * does the work.
 *
 * `alloc` and `allocUnsafe` of the package take their small requests from `GlobalAllocator.shared`.
 * Leases that are locked, populated, alias or of special pages own whole pages, whatever their size.
 * All Workers reach the allocator by its pool; an object of this class stays in its realm.
 */
import { layouts, OPTION_ALIGN_SHIFT, Status } from "./abi.gen.ts";
import { callError, keep, more, symbols, thread } from "./binding.ts";
import { type Caller, invalidArgType, outOfRange } from "./errors.ts";
import { type Figures, readFigures, writeFigures } from "./figures.ts";
import { type Handle, wrapLeased } from "./handle.ts";
import { count, optionBits } from "./options.ts";
import { type PoolFigures, PoolOwner } from "./pool_owner.ts";
import { recover } from "./recover.ts";
import { checkInteger } from "./view.ts";

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

/** Figures of a global allocator: its pool's and its own. */
export interface GlobalAllocatorStats extends PoolFigures, Figures<typeof layouts.GlobalStats> {}

/** One section: memory that the allocator divides. */
export interface GlobalAllocatorSection {
  /** First address that can be leased. */
  address: number;
  /** Bytes that can be leased. */
  byteLength: number;
  /** Bytes of free pages. */
  freeBytes: number;
  /** Below 4 GiB, and kept for `allocPagesLow` as long as other sections can serve. */
  low: boolean;
}

class GlobalAllocatorObject extends PoolOwner {
  constructor(options?: GlobalAllocatorOptions) {
    if ((options as unknown) instanceof Known) {
      const { id } = options as unknown as Known;
      super(id, id === sharedId, "GlobalAllocator");
      return;
    }
    const native = nativeOptions(options, GlobalAllocatorObject);
    const id = Number(more().hf_global_create(thread, native));
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

  /**
   * Takes a section from the system now, of `byteLength` rounded up to 2 MiB; with `low` at addresses
   * below 4 GiB, for `allocPagesLow`. It stays until the allocator is closed. LIMIT: 8 were added.
   */
  addRegion(byteLength: number, options?: { low?: boolean }): void {
    checkInteger("byteLength", byteLength, Number.MAX_SAFE_INTEGER, this.addRegion);
    const low = options?.low ? 1 : 0;
    const status = more().hf_global_add_region(thread, this.id, byteLength, low);
    if (status < Status.ok) throw callError(status, "GlobalAllocator.addRegion", this.addRegion);
  }

  /** Leases `count` whole zero-filled pages; `align` is a power of two in bytes, default a page. */
  allocPages(count: number, align?: number): Handle {
    return this.#pages(count, align, 0, "GlobalAllocator.allocPages", this.allocPages);
  }

  /** The same at addresses below 4 GiB: from sections added with `low`, else OUT_OF_MEMORY. */
  allocPagesLow(count: number, align?: number): Handle {
    return this.#pages(count, align, 1, "GlobalAllocator.allocPagesLow", this.allocPagesLow);
  }

  #pages(
    pages: number,
    align: number | undefined,
    low: number,
    operation: string,
    caller: Caller,
  ): Handle {
    checkInteger("count", pages, Number.MAX_SAFE_INTEGER, caller);
    if (pages === 0) throw outOfRange("count", "at least 1", pages, caller);
    const bits = align === undefined ? 0 : optionBits({ align }, caller);
    const log2 = bits >> OPTION_ALIGN_SHIFT;
    const attempt = () => more().hf_global_pages(thread, this.id, pages, log2, low) as number;
    const id = recover(attempt(), attempt);
    if (id < 0) throw callError(id, operation, caller);
    return wrapLeased(id, this.handles);
  }

  /** The sections, by address. */
  sections(): GlobalAllocatorSection[] {
    const out = new Uint8Array(layouts.SectionStats.size);
    const sections: GlobalAllocatorSection[] = [];
    for (let index = 0; ; index++) {
      const status = more().hf_global_section(this.id, index, out);
      if (status === Status.out_of_range) return sections;
      if (status < Status.ok) throw callError(status, "GlobalAllocator.sections", this.sections);
      const { address, bytes, freeBytes, low } = readFigures(layouts.SectionStats, out);
      sections.push({ address, byteLength: bytes, freeBytes, low: low === 1 });
    }
  }

  /** Bytes that can be leased, metadata excluded. */
  get managedBytes(): number {
    return this.#own(this.stats).managedBytes;
  }

  /** Sum of the lengths of live leases. */
  get allocatedBytes(): number {
    return this.poolFigures(this.stats).allocatedBytes;
  }

  /** Figures of the allocator; no system call is made. */
  stats(): GlobalAllocatorStats {
    return { ...this.poolFigures(this.stats), ...this.#own(this.stats) };
  }

  /** Lets `peakBytes` begin anew. */
  resetPeak(): void {
    const status = more().hf_global_reset_peak(this.id);
    if (status < Status.ok) throw callError(status, "GlobalAllocator.resetPeak", this.resetPeak);
  }

  #own(caller: Caller): Figures<typeof layouts.GlobalStats> {
    const out = new Uint8Array(layouts.GlobalStats.size);
    const status = more().hf_global_stats(this.id, out);
    if (status < Status.ok) throw callError(status, "GlobalAllocator.stats", caller);
    return readFigures(layouts.GlobalStats, out);
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
