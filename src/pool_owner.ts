/**
 * What all owners of memory have in common: leases, figures, trimming and closing by the engine's
 * number of a pool. `LargePool`, `GlobalAllocator` and the others extend it.
 *
 * Invariant: an owner that can be closed knows its handles (weakly), so that a close by force leaves
 * no view of this realm behind. The shared owners know none and are never closed.
 *
 * Cost: none beyond the lease's. An object stays in its realm; the pool behind it serves all Workers.
 */
import { layouts, OPTION_ZERO, Status } from "./abi.gen.ts";
import { callError, more, thread } from "./binding.ts";
import { type Caller, holdfastError } from "./errors.ts";
import { type Figures, readFigures } from "./figures.ts";
import { type Handle, lease, renew } from "./handle.ts";
import type { AllocOptions } from "./options.ts";
import { unpark } from "./parked.ts";
import { HandleSet } from "./recent.ts";

/** Figures that every owner has. */
export interface PoolFigures extends Figures<typeof layouts.PoolStats> {
  /** Mapped less active. */
  retainedBytes: number;
}

/** The engine's number of an owner's pool; for owners that stand over another. */
export let idOf: (owner: PoolOwner) => number;

export abstract class PoolOwner implements Disposable {
  static {
    idOf = (owner) => owner.id;
  }

  /** The engine's number of the pool, an int32: a double would cost more to pass. */
  protected readonly id: number;
  /** Handles to empty when the pool is closed by force; null for a shared one. */
  protected readonly handles: HandleSet | null;
  readonly #name: string;
  readonly #alloc: string;
  readonly #allocUnsafe: string;
  #closed = false;

  protected constructor(id: number, isShared: boolean, name: string) {
    this.id = id | 0;
    this.handles = isShared ? null : new HandleSet();
    this.#name = name;
    this.#alloc = `${name}.alloc`;
    this.#allocUnsafe = `${name}.allocUnsafe`;
  }

  /** Leases zero-filled memory. */
  alloc(byteLength: number, options?: AllocOptions): Handle {
    return lease(this.id, byteLength, options, OPTION_ZERO, this.#alloc, this.handles);
  }

  /** Leases memory with undefined contents. */
  allocUnsafe(byteLength: number, options?: AllocOptions): Handle {
    return lease(this.id, byteLength, options, 0, this.#allocUnsafe, this.handles);
  }

  /** Gives back what no lease uses; answers the bytes that were resident there. */
  trim(): number {
    unpark();
    const bytes = Number(more().hf_pool_trim(thread, this.id));
    if (bytes < 0) throw callError(bytes, `${this.#name}.trim`, this.trim);
    return bytes;
  }

  /**
   * Closes the owner. With live leases: BUSY and their count, or with `force` they end, their views
   * are empty, and memory in use by I/O follows by itself. Closing it again does nothing.
   */
  close(options?: { force?: boolean }): void {
    if (this.#closed) return;
    const operation = `${this.#name}.close`;
    if (this.handles === null) {
      const message = `${this.#name}.shared serves the whole process and cannot be closed`;
      throw holdfastError("UNSUPPORTED", operation, { message }, this.close);
    }
    this.closing();
    unpark();
    const live = Number(more().hf_pool_close(thread, this.id, options?.force ? 1 : 0));
    if (live > 0) throw holdfastError("BUSY", operation, { current: live }, this.close);
    // Closed in another realm before: what is left is to empty the views of this one.
    if (live < 0 && live !== Status.closed) throw callError(live, operation, this.close);
    this.#closed = true;
    this.handles.revokeAll();
  }

  /** Closes the owner and ends what it still leases; nothing for a shared one. */
  [Symbol.dispose](): void {
    if (this.handles !== null) this.close({ force: true });
  }

  /** Called before the close. */
  protected closing(): void {}

  /** A new Handle with the contents of `handle`, which is over; as it was if this throws. */
  protected renew(handle: Handle, byteLength: number, caller: Caller): Handle {
    return renew(handle, this.id, byteLength, `${this.#name}.realloc`, this.handles, caller);
  }

  protected poolFigures(caller: Caller): PoolFigures {
    const out = new Uint8Array(layouts.PoolStats.size);
    const status = more().hf_pool_stats(this.id, out);
    if (status < Status.ok) throw callError(status, `${this.#name}.stats`, caller);
    const figures = readFigures(layouts.PoolStats, out);
    return { ...figures, retainedBytes: figures.mappedBytes - figures.activeBytes };
  }
}
