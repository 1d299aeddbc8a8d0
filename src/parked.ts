/**
 * Short leases that ended a moment ago, each with its ArrayBuffer, for the next lease of that length.
 *
 * Making an ArrayBuffer over memory and detaching it is most of what a small lease costs. So `free()`
 * moves the buffer away from all views instead (they have length 0 at once, as after any free),
 * tells the engine that the lease is over (`hf_park`), and the next lease of the same pool and
 * length begins with that buffer (`hf_revive`), under a number of its own.
 *
 * Invariant: the buffer of a parked lease is reachable from here only, so nobody can write; to the
 * engine its memory is free but kept. What is here goes when nothing was parked or revived for
 * 100 ms, when memory is short, at `trim()`, and when a pool closes: the buffers are detached and
 * their deallocators give the memory back. At most 32 leases of 64 KiB a realm.
 *
 * Cost: 2 ns to find the lease. Realm's own; not for alias, locked or specially paged leases, nor
 * from 64 KiB on, where moving a buffer costs more than a new one.
 */
import { keep } from "./binding.ts";
import { tryDetach } from "./memory.ts";

const depth = 32;
/** How many are looked at, newest first. */
const reach = 4;
const idleMs = 100;

interface Parked {
  count: number;
  ids: Float64Array;
  addresses: Float64Array;
  lengths: Int32Array;
  pools: Int32Array;
  buffers: (ArrayBuffer | null)[];
  /** Raised at each use; a timer that finds it unchanged empties the list. */
  uses: number;
  timer: ReturnType<typeof setTimeout> | null;
}

/** The list; `handle.ts` reads an entry after `find` and then calls `remove`. */
export const parked = keep<Parked>("parked", () => ({
  count: 0,
  ids: new Float64Array(depth),
  addresses: new Float64Array(depth),
  lengths: new Int32Array(depth),
  pools: new Int32Array(depth),
  buffers: new Array(depth).fill(null),
  uses: 0,
  timer: null,
}));

/** Whether one more can be parked. */
export function hasRoom(): boolean {
  return parked.count < depth;
}

/** Keeps a lease that the engine has parked. Needs room. */
export function add(
  id: number,
  address: number,
  byteLength: number,
  pool: number,
  buffer: ArrayBuffer,
): void {
  const at = parked.count;
  parked.ids[at] = id;
  parked.addresses[at] = address;
  parked.lengths[at] = byteLength;
  parked.pools[at] = pool;
  parked.buffers[at] = buffer;
  parked.count = at + 1;
  parked.uses += 1;
  if (parked.timer === null) arm();
}

/** Place of a lease of that pool and length, -1 if there is none among the newest. */
export function find(pool: number, byteLength: number): number {
  const { count, lengths, pools } = parked;
  const stop = count > reach ? count - reach : 0;
  for (let at = count - 1; at >= stop; at--) {
    if (lengths[at] === byteLength && pools[at] === pool) return at;
  }
  return -1;
}

/** Takes an entry out; its buffer is the caller's. */
export function remove(at: number): ArrayBuffer {
  const buffer = parked.buffers[at] as ArrayBuffer;
  const last = parked.count - 1;
  if (at !== last) {
    parked.ids[at] = parked.ids[last] as number;
    parked.addresses[at] = parked.addresses[last] as number;
    parked.lengths[at] = parked.lengths[last] as number;
    parked.pools[at] = parked.pools[last] as number;
    parked.buffers[at] = parked.buffers[last] as ArrayBuffer;
  }
  parked.buffers[last] = null;
  parked.count = last;
  parked.uses += 1;
  return buffer;
}

/** Lets all go. True if there were any. */
export function unpark(): boolean {
  const { count, buffers } = parked;
  for (let at = 0; at < count; at++) {
    tryDetach(buffers[at] as ArrayBuffer);
    buffers[at] = null;
  }
  parked.count = 0;
  return count > 0;
}

function arm(): void {
  const uses = parked.uses;
  parked.timer = setTimeout(() => {
    parked.timer = null;
    if (parked.uses === uses) unpark();
    else if (parked.count > 0) arm();
  }, idleMs);
  parked.timer.unref();
}
