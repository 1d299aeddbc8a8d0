/**
 * ReclaimingAllocator: slots of powers of two over any backend, that gives memory back on demand:
 * `reclaim()` returns whole free batches and what described them, while other threads go on.
 * zig/heap/reclaiming.zig does the work.
 *
 * Requests up to `maxSlotBytes` are slots, longer ones pass through to the backend and are counted.
 * Leases that are locked, populated, alias or of special pages own whole pages of its pool. All
 * Workers reach the allocator by its pool; an object of this class stays in its realm.
 */
import { layouts, Status } from "./abi.gen.ts";
import { callError, keep, more, thread } from "./binding.ts";
import { type Caller, invalidArgType, outOfRange } from "./errors.ts";
import { type Figures, readFigures, writeFigures } from "./figures.ts";
import type { Handle } from "./handle.ts";
import { count, flag } from "./options.ts";
import { idOf, type PoolFigures, PoolOwner } from "./pool_owner.ts";

export interface ReclaimingAllocatorOptions {
  /** The longest slot: 4096 or 2097152 bytes. Default 4096. */
  maxSlotBytes?: 4096 | 2097152 | undefined;
  /** Whose memory it divides: a LargePool or a GlobalAllocator. Default a pool of its own. */
  backend?: PoolOwner | undefined;
  /** Reclaims by itself so often, in milliseconds. Default never. */
  reclaimEveryMs?: number | undefined;
  /** Does so only if at least so much is free. Default 1 MiB. */
  minSlackBytes?: number | undefined;
  /** Does so from 4 KiB on while the kernel reports memory pressure. Default false. */
  underPressure?: boolean | undefined;
  /** Bound for page-rounded leases and resident cached bytes together. Default none. */
  limitBytes?: number | undefined;
}

/** An allocator for another Worker: plain data for `postMessage`. */
export interface ReclaimingAllocatorToken {
  readonly reclaimingAllocator: number;
}

/** Figures of one size of slots. */
export type ReclaimingClassStats = Figures<typeof layouts.ReclaimingClassStats>;

/** Figures of a reclaiming allocator: its pool's, its own, and those of each size of slots. */
export interface ReclaimingAllocatorStats
  extends PoolFigures,
    Figures<typeof layouts.ReclaimingStats> {
  classes: ReclaimingClassStats[];
}

const slackBytesDefault = 2 ** 20;
const intervalMsMax = 2 ** 32 - 1;

class ReclaimingAllocatorObject extends PoolOwner {
  constructor(options?: ReclaimingAllocatorOptions) {
    if ((options as unknown) instanceof Known) {
      super((options as unknown as Known).id, false, "ReclaimingAllocator");
      return;
    }
    const native = nativeOptions(options, ReclaimingAllocatorObject);
    const id = Number(more().hf_reclaiming_create(thread, native));
    if (id < 0) throw callError(id, "new ReclaimingAllocator", ReclaimingAllocatorObject);
    super(id, false, "ReclaimingAllocator");
  }

  /** The allocator of that token, which another Worker made with `share()`. */
  static attach(token: ReclaimingAllocatorToken): ReclaimingAllocator {
    const id = (token as Partial<ReclaimingAllocatorToken> | null)?.reclaimingAllocator;
    if (typeof id !== "number") {
      const expected = "a ReclaimingAllocatorToken from share()";
      throw invalidArgType("token", expected, token, ReclaimingAllocatorObject.attach);
    }
    const native = new Known(id | 0) as unknown as ReclaimingAllocatorOptions;
    const allocator = new ReclaimingAllocatorObject(native);
    allocator.stats();
    return allocator;
  }

  /** A token by which other Workers reach this allocator; it stays open until it is closed. */
  share(): ReclaimingAllocatorToken {
    return { reclaimingAllocator: this.id };
  }

  /**
   * A new Handle of that length with the contents of `handle`, in place within the same size of
   * slot. The old handle is FREED; if this throws, it is as it was, but its views are empty.
   */
  realloc(handle: Handle, byteLength: number): Handle {
    return this.renew(handle, byteLength, this.realloc);
  }

  /** Gives back to the backend what is wholly free; answers its bytes, metadata among them. */
  reclaim(): number {
    const bytes = Number(more().hf_reclaiming_reclaim(thread, this.id));
    if (bytes < 0) throw callError(bytes, "ReclaimingAllocator.reclaim", this.reclaim);
    return bytes;
  }

  /** Figures of the allocator; no system call is made. */
  stats(): ReclaimingAllocatorStats {
    const figures = this.poolFigures(this.stats);
    const out = new Uint8Array(layouts.ReclaimingStats.size);
    const status = more().hf_reclaiming_stats(this.id, out);
    if (status < Status.ok) throw callError(status, "ReclaimingAllocator.stats", this.stats);
    const classes: ReclaimingClassStats[] = [];
    const row = new Uint8Array(layouts.ReclaimingClassStats.size);
    while (more().hf_reclaiming_class_stats(this.id, classes.length, row) === Status.ok) {
      classes.push(readFigures(layouts.ReclaimingClassStats, row));
    }
    return { ...figures, ...readFigures(layouts.ReclaimingStats, out), classes };
  }
}

/** In place of options: an allocator that there is already. */
class Known {
  constructor(readonly id: number) {}
}

function nativeOptions(
  options: ReclaimingAllocatorOptions | undefined,
  caller: Caller,
): Uint8Array<ArrayBuffer> {
  const native: Partial<Figures<typeof layouts.ReclaimingOptions>> = {
    slackBytesMin: slackBytesDefault,
  };
  if (options === undefined) return writeFigures(layouts.ReclaimingOptions, native);
  if (typeof options !== "object" || options === null) {
    throw invalidArgType("options", "an object", options, caller);
  }
  const { maxSlotBytes, backend, reclaimEveryMs, minSlackBytes, underPressure, limitBytes } =
    options;
  if (maxSlotBytes !== undefined) {
    if (maxSlotBytes !== 4096 && maxSlotBytes !== 2 ** 21) {
      throw outOfRange("options.maxSlotBytes", "4096 or 2097152", maxSlotBytes, caller);
    }
    native.slotBytesMax = maxSlotBytes;
  }
  if (backend !== undefined) {
    if (!(backend instanceof PoolOwner)) {
      const expected = "a LargePool or a GlobalAllocator";
      throw invalidArgType("options.backend", expected, backend, caller);
    }
    native.backend = idOf(backend);
  }
  if (reclaimEveryMs !== undefined) {
    native.reclaimEveryMs = count("reclaimEveryMs", reclaimEveryMs, 1, caller, intervalMsMax);
  }
  if (minSlackBytes !== undefined) {
    native.slackBytesMin = count("minSlackBytes", minSlackBytes, 0, caller);
  }
  if (underPressure !== undefined) native.pressure = flag("underPressure", underPressure, caller);
  if (limitBytes !== undefined) native.limitBytes = count("limitBytes", limitBytes, 1, caller);
  return writeFigures(layouts.ReclaimingOptions, native);
}

export type ReclaimingAllocator = ReclaimingAllocatorObject;
export const ReclaimingAllocator = keep("reclaimingAllocator", () => ReclaimingAllocatorObject);
