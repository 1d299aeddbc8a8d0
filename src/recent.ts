/**
 * The latest handles of this realm, held for a moment, and those of closable pools, held weakly.
 *
 * Registering every lease for leaks would cost more than the lease. Most live shortly; so a ring
 * holds the latest 64 (or 64 MiB), and a handle is settled only when it leaves the ring alive: one
 * that was never viewed is registered for leaks, one of a pool that can be closed by force goes
 * into that pool's set, so that the close can empty its views. A timer that does not keep the
 * process alive empties the ring, so a dropped handle is held 100 ms at most.
 *
 * Cost: 4 ns a lease; a settled one some 150 ns. Alias leases are never here: their buffers tell.
 */
import { keep } from "./binding.ts";

/** Called once when a handle leaves the ring. */
export const settle: unique symbol = Symbol("holdfast.settle");
/** Ends the lease's use here after native code has ended the lease. */
export const revoke: unique symbol = Symbol("holdfast.revoke");

export interface Recent {
  readonly byteLength: number;
  [settle](): void;
  [revoke](owner: HandleSet): void;
}

const ringLength = 64;
const ringBytesMax = 64 * 2 ** 20;
const emptyMs = 100;
const pruneMin = 256;

/** Handles of one owner that outlived the ring, held weakly. */
export class HandleSet {
  #references = new Set<WeakRef<Recent>>();
  #pruneAt = pruneMin;

  add(handle: Recent): void {
    if (this.#references.size >= this.#pruneAt) this.#prune();
    this.#references.add(new WeakRef(handle));
  }

  /** Revokes all handles of this owner, those in the ring too. */
  revokeAll(): void {
    emptyRing();
    for (const reference of this.#references) reference.deref()?.[revoke](this);
    this.#references.clear();
  }

  #prune(): void {
    for (const reference of this.#references) {
      const handle = reference.deref();
      if (handle === undefined || (handle as { freed?: boolean }).freed) {
        this.#references.delete(reference);
      }
    }
    this.#pruneAt = Math.max(pruneMin, this.#references.size * 2);
  }
}

interface Ring {
  handles: (Recent | null)[];
  next: number;
  bytes: number;
  timer: ReturnType<typeof setTimeout> | null;
}

const ring = keep<Ring>("recent", () => ({
  handles: new Array(ringLength).fill(null),
  next: 0,
  bytes: 0,
  timer: null,
}));
const { handles } = ring;

/** Holds a new handle for a moment. */
export function remember(handle: Recent): void {
  const at = ring.next;
  const oldest = handles[at] as Recent | null;
  ring.next = (at + 1) & (ringLength - 1);
  ring.bytes += handle.byteLength;
  if (oldest !== null) {
    ring.bytes -= oldest.byteLength;
    oldest[settle]();
  }
  if (ring.bytes > ringBytesMax) emptyRing();
  handles[at] = handle;
  if (ring.timer === null) arm();
}

/** Lets go of all, so that a collection may find them. */
export function emptyRing(): void {
  ring.bytes = 0;
  for (let at = 0; at < ringLength; at++) {
    const handle = handles[at] as Recent | null;
    if (handle === null) continue;
    handles[at] = null;
    handle[settle]();
  }
}

function arm(): void {
  ring.timer = setTimeout(() => {
    ring.timer = null;
    emptyRing();
  }, emptyMs);
  ring.timer.unref();
}
