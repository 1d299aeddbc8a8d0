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
/** Called once when a handle leaves the ring. */
export const settle: unique symbol = Symbol("holdfast.settle");
/** Ends the lease's use here after native code has ended the lease. */
export const revoke: unique symbol = Symbol("holdfast.revoke");

export interface Recent {
  [settle](): void;
  [revoke](owner: HandleSet): void;
}

const ringLength = 64;
const ringBytesMax = 64 * 2 ** 20;
/** Shorter handles are not counted: 64 of them are 4 MiB at most. */
const longBytesMin = 2 ** 16;
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

/** The ring. Handle and this module are made once in a realm, so its state may stand here. */
const handles: (Recent | null)[] = new Array(ringLength).fill(null);
let next = 0;
/** Bytes of the long handles since the ring was emptied. */
let longBytes = 0;
let timer: ReturnType<typeof setTimeout> | null = null;

/** Holds a new handle for a moment. */
export function remember(handle: Recent, byteLength: number): void {
  if (byteLength >= longBytesMin) {
    longBytes += byteLength;
    if (longBytes > ringBytesMax) emptyRing();
  }
  const at = next;
  const oldest = handles[at] as Recent | null;
  handles[at] = handle;
  next = (at + 1) & (ringLength - 1);
  if (oldest !== null) oldest[settle]();
  else if (timer === null) arm();
}

/** Lets go of all, so that a collection may find them. */
export function emptyRing(): void {
  longBytes = 0;
  for (let at = 0; at < ringLength; at++) {
    const handle = handles[at] as Recent | null;
    if (handle === null) continue;
    handles[at] = null;
    handle[settle]();
  }
}

function arm(): void {
  timer = setTimeout(() => {
    timer = null;
    emptyRing();
  }, emptyMs);
  timer.unref();
}
