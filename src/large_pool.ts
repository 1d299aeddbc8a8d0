/**
 * LargePool: recycled mappings of 2 MiB to 64 GiB on huge pages, with caches of each thread,
 * stealing between threads and purging by the clock. zig/heap/large_pool.zig does the work; this
 * file checks options and reads figures.
 *
 * A pool of one's own has its own limit and options; `LargePool.shared` is what `alloc` uses and
 * cannot be closed. All Workers reach every pool, but a LargePool object stays in its realm. Not
 * for many small objects: every lease takes whole pages.
 */
import { Fork, layouts, PoolField, Status } from "./abi.gen.ts";
import { callError, keep, more, symbols, thread } from "./binding.ts";
import { type Caller, invalidArgType } from "./errors.ts";
import { type Figures, readFigures, writeFigures } from "./figures.ts";
import { count, flag, named, pagesFrom } from "./options.ts";
import { type PoolFigures, PoolOwner } from "./pool_owner.ts";

/** Work done by the clock, in a thread of its own. */
export interface BackgroundOptions {
  /** Milliseconds between two ticks. Default 100. */
  intervalMs?: number | undefined;
  /** Bytes purged in one tick at most, over all classes. Default 256 MiB. */
  purgeBytes?: number | undefined;
  /** Purge with MADV_FREE: cheaper, but the kernel counts the memory until it takes it. */
  lazy?: boolean | undefined;
  /** Bytes of free dirty regions zeroed in one tick, so that `alloc` need not. Default 0: none. */
  scrubBytes?: number | undefined;
}

export interface LargePoolOptions {
  /** Whether allocations are served; `false` answers DISABLED. Default true. */
  enabled?: boolean | undefined;
  /** Bound for page-rounded leases and resident cached bytes together. Default none. */
  limitBytes?: number | null | undefined;
  /** Bytes of free regions that each thread keeps for itself, per class. Default 32 MiB. */
  localBufferBytes?: number | undefined;
  /** Slows the growth of areas: each grows by 1 + 1/(n+1). Default 0 doubles. */
  growthDampener?: number | undefined;
  /** Purge at once what exceeds the thread's share. Default false. */
  eagerReturn?: boolean | undefined;
  /** Purging by the clock; `null` switches it off. */
  background?: BackgroundOptions | null | undefined;
  /**
   * Pages of leases that do not say. Default "auto". `memfd` (Linux) puts each lease of 1 MiB and more
   * into a file of its own without a name, which `handle.file()` sends without a copy.
   */
  pages?: "auto" | "base" | "thp" | "hugetlb" | "memfd" | undefined;
  /**
   * What a forked child finds: a copy, no mapping, or zeros. Default "copy"; memory of `memfd` is then
   * shared with it, and cannot be zeros.
   */
  fork?: "copy" | "omit" | "wipe" | undefined;
  /**
   * Keeps an ArrayBuffer of that many untouched bytes alive, which raises the collector's budget.
   * With 64 MiB a revoke lease of 4 MiB costs 1.2 instead of 20 µs, but ordinary garbage peaks at
   * +358 instead of +193 MiB. Default 0.
   */
  gcHeadroomBytes?: number | undefined;
}

/** Figures of one size class. */
export type LargePoolClassStats = Figures<typeof layouts.ClassStats>;

/** Figures of a pool and of its 16 size classes, ascending. */
export interface LargePoolStats extends PoolFigures {
  classes: LargePoolClassStats[];
}

/** A pool for another Worker: plain data for `postMessage`. */
export interface LargePoolToken {
  readonly largePool: number;
}

const classLog2Min = 21;
const classCount = 16;
const headroomBytesMax = 2 ** 32;

class LargePoolObject extends PoolOwner {
  /** Never touched, so it costs addresses only. */
  #headroom: ArrayBuffer | null = null;

  constructor(options?: LargePoolOptions) {
    if ((options as unknown) instanceof KnownPool) {
      const { id } = options as unknown as KnownPool;
      super(id, id === sharedId, "LargePool");
      return;
    }
    const native = nativeOptions(options, LargePoolObject);
    const id = Number(more().hf_pool_create(thread, native));
    if (id < 0) throw callError(id, "new LargePool", LargePoolObject);
    super(id, false, "LargePool");
    this.#setHeadroom(options?.gcHeadroomBytes);
  }

  /** The pool of `alloc` and `allocUnsafe`, one for the process. It is never closed. */
  static get shared(): LargePool {
    return keep("sharedPool", () => known(sharedId));
  }

  /** The pool of that token, which another Worker made with `share()`. */
  static attach(token: LargePoolToken): LargePool {
    if (typeof token !== "object" || token === null || typeof token.largePool !== "number") {
      const expected = "a LargePoolToken from share()";
      throw invalidArgType("token", expected, token, LargePoolObject.attach);
    }
    const pool = known(token.largePool | 0);
    pool.stats();
    return pool;
  }

  /** A token by which other Workers reach this pool; it stays open in all of them until closed. */
  share(): LargePoolToken {
    return { largePool: this.id };
  }

  /** Bytes of the regions of each class, ascending. */
  static get sizeClasses(): readonly number[] {
    sizeClasses ??= Object.freeze(
      Array.from({ length: classCount }, (_, index) => 2 ** (classLog2Min + index)),
    );
    return sizeClasses;
  }

  /** Bytes of the ArrayBuffer that keeps the collector's budget up; 0 if there is none. */
  get gcHeadroomBytes(): number {
    return this.#headroom?.byteLength ?? 0;
  }

  /** Changes the options that are given; the others stay. Background work that ended starts again. */
  configure(options: LargePoolOptions): void {
    if (options === undefined)
      throw invalidArgType("options", "an object", options, this.configure);
    const native = nativeOptions(options, this.configure, this.id);
    const status = more().hf_pool_configure(thread, this.id, native);
    if (status < Status.ok) throw callError(status, "LargePool.configure", this.configure);
    if (options.gcHeadroomBytes !== undefined) this.#setHeadroom(options.gcHeadroomBytes);
  }

  /** Figures of the pool; no system call is made. */
  stats(): LargePoolStats {
    const figures = this.poolFigures(this.stats);
    const rows = new Uint8Array(layouts.ClassStats.size * classCount);
    more().hf_pool_class_stats(this.id, rows);
    const classes: LargePoolClassStats[] = [];
    for (let row = 0; row < classCount; row++) {
      classes.push(readFigures(layouts.ClassStats, rows, row * layouts.ClassStats.size));
    }
    return { ...figures, classes };
  }

  protected override closing(): void {
    this.#setHeadroom(0);
  }

  #setHeadroom(byteLength: number | undefined): void {
    if (byteLength === undefined) return;
    this.#headroom = byteLength === 0 ? null : new ArrayBuffer(byteLength);
  }
}

/** In place of options: a pool that there is already. */
class KnownPool {
  constructor(readonly id: number) {}
}

function known(id: number): LargePoolObject {
  return new LargePoolObject(new KnownPool(id) as unknown as LargePoolOptions);
}

const sharedId = symbols.hf_pool_shared() | 0;
let sizeClasses: readonly number[] | undefined;

type NativeOptions = Figures<typeof layouts.PoolOptions>;

/** The options that are given, as native code reads them. `pool`: whose figures the rest keeps. */
function nativeOptions(
  options: LargePoolOptions | undefined,
  caller: Caller,
  pool?: number,
): Uint8Array<ArrayBuffer> {
  if (options === undefined) return writeFigures(layouts.PoolOptions, {});
  if (typeof options !== "object" || options === null) {
    throw invalidArgType("options", "an object", options, caller);
  }
  const native: Partial<NativeOptions> = { given: 0 };
  const give = (field: keyof typeof PoolField, name: keyof NativeOptions, value: number) => {
    native.given = (native.given as number) | PoolField[field];
    native[name] = value;
  };
  const { enabled, limitBytes, localBufferBytes, growthDampener, eagerReturn } = options;
  const { background, pages, fork, gcHeadroomBytes } = options;
  if (enabled !== undefined) give("enabled", "enabled", flag("enabled", enabled, caller));
  if (limitBytes !== undefined) {
    const unlimited = limitBytes === null || limitBytes === Number.POSITIVE_INFINITY;
    const bound = unlimited ? -1 : count("limitBytes", limitBytes, 0, caller);
    give("limit_bytes", "limitBytes", bound);
  }
  if (localBufferBytes !== undefined) {
    const bytes = count("localBufferBytes", localBufferBytes, 0, caller);
    give("local_buffer_bytes", "localBufferBytes", bytes);
  }
  if (growthDampener !== undefined) {
    const dampener = count("growthDampener", growthDampener, 0, caller, 2 ** 31 - 1);
    give("growth_dampener", "growthDampener", dampener);
  }
  if (eagerReturn !== undefined) {
    give("eager_return", "eagerReturn", flag("eagerReturn", eagerReturn, caller));
  }
  if (pages !== undefined) give("pages", "pages", named("pages", pages, pagesFrom(pages), caller));
  if (fork !== undefined) {
    const value = Object.hasOwn(Fork, fork) ? Fork[fork] : -1;
    give("fork", "fork", named("fork", fork, value, caller));
  }
  if (gcHeadroomBytes !== undefined) {
    count("gcHeadroomBytes", gcHeadroomBytes, 0, caller, headroomBytesMax);
  }
  if (background !== undefined) {
    native.given = (native.given as number) | PoolField.background;
    Object.assign(native, backgroundFigures(background, caller, pool));
  }
  return writeFigures(layouts.PoolOptions, native);
}

const backgroundDefaults = { intervalMs: 100, purgeBytes: 256 * 2 ** 20, lazy: 0, scrubBytes: 0 };

/** The background's figures: those given, else the pool's own, else the defaults. */
function backgroundFigures(
  background: BackgroundOptions | null,
  caller: Caller,
  pool: number | undefined,
): Partial<NativeOptions> {
  const now: Partial<NativeOptions> = { ...backgroundDefaults, ...currentBackground(pool) };
  if (background === null) return { ...now, background: 0 };
  if (typeof background !== "object") {
    throw invalidArgType("options.background", "an object or null", background, caller);
  }
  const { intervalMs, purgeBytes, lazy, scrubBytes } = background;
  if (intervalMs !== undefined) {
    now.intervalMs = count("background.intervalMs", intervalMs, 1, caller, 2 ** 31 - 1);
  }
  if (purgeBytes !== undefined) {
    now.purgeBytes = count("background.purgeBytes", purgeBytes, 0, caller);
  }
  if (lazy !== undefined) now.lazy = flag("background.lazy", lazy, caller);
  if (scrubBytes !== undefined) {
    now.scrubBytes = count("background.scrubBytes", scrubBytes, 0, caller);
  }
  return { ...now, background: 1 };
}

function currentBackground(pool: number | undefined): Partial<NativeOptions> {
  if (pool === undefined) return {};
  const out = new Uint8Array(layouts.PoolOptions.size);
  if (more().hf_pool_options(pool, out) < Status.ok) return {};
  const { intervalMs, purgeBytes, lazy, scrubBytes } = readFigures(layouts.PoolOptions, out);
  return intervalMs >= 1 ? { intervalMs, purgeBytes, lazy, scrubBytes } : {};
}

export type LargePool = LargePoolObject;
export const LargePool = keep("largePool", () => LargePoolObject);
