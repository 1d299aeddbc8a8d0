/**
 * The front door: memory of any size, picked by size, and the figures of the process.
 *
 * Up to 2 KiB a lease without options is an object of `GlobalAllocator.shared`; longer ones, and those
 * that ask for anything of their pages, come from `LargePool.shared`: below 1 MiB a run of whole
 * pages, from 1 MiB on a region of its own. Cost and lifetimes: handle.ts.
 */
import { layouts, OPTION_ZERO, Status } from "./abi.gen.ts";
import { binding, callError, more, symbols, thread } from "./binding.ts";
import { type Figures, readFigures } from "./figures.ts";
import { type Handle, lease } from "./handle.ts";
import type { AllocOptions } from "./options.ts";
import { unpark } from "./parked.ts";

/** Figures of the whole process, in bytes unless the name says otherwise. */
export type HoldfastStats = Figures<typeof layouts.Stats>;

const shared = symbols.hf_pool_shared() | 0;
const sharedGlobal = symbols.hf_global_shared() | 0;
/** Longest lease that is an object: a run of pages would waste half of its page. */
const objectBytesMax = 2048;

/** Leases zero-filled memory. */
export function alloc(byteLength: number, options?: AllocOptions): Handle {
  const pool = byteLength <= objectBytesMax && options === undefined ? sharedGlobal : shared;
  return lease(pool, byteLength, options, OPTION_ZERO, "alloc", null);
}

/** Leases memory with undefined contents, as Buffer.allocUnsafe does. */
export function allocUnsafe(byteLength: number, options?: AllocOptions): Handle {
  const pool = byteLength <= objectBytesMax && options === undefined ? sharedGlobal : shared;
  return lease(pool, byteLength, options, 0, "allocUnsafe", null);
}

/**
 * Figures of the whole process. With `resident` the kernel is asked for resident, locked and huge
 * bytes; otherwise no system call is made and native code allocates nothing.
 */
export function stats(options?: { resident?: boolean }): HoldfastStats {
  const out = new Uint8Array(layouts.Stats.size);
  const status = more().hf_stats(out, options?.resident ? 1 : 0);
  if (status < Status.ok) throw callError(status, "stats", stats);
  return readFigures(layouts.Stats, out);
}

/** Gives back what no lease uses; answers the bytes that were resident there. */
export function trim(): number {
  unpark();
  const bytes = Number(more().hf_trim(thread));
  if (bytes < 0) throw callError(bytes, "trim", trim);
  return bytes;
}

/** File of the engine that this process uses. */
export function libraryPath(): string {
  return binding.path;
}
