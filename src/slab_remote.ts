/**
 * SlabRemote: the right to read, write and free slots of another thread's SlabOwner.
 *
 * It is reached by the owner's number: `remote().token` is plain data for `postMessage`, `attach` makes
 * a remote of it in any Worker. A free is one call into native code, which cannot be interrupted in the
 * middle by the end of a Worker: it claims the slot's word and marks its block for the owner, without a
 * lock.
 *
 * Invariant: a remote's ArrayBuffers keep the slab's memory after its owner closed or ended; frees
 * answer false from then on. The memory goes when the last remote is closed or collected.
 *
 * Not for allocating: a remote that wants slots asks the owner for them.
 */
import { Status } from "./abi.gen.ts";
import { callError, more, thread } from "./binding.ts";
import { holdfastError, invalidArgType } from "./errors.ts";
import { type Layout, placeBytes, placeLayout } from "./layout.ts";
import { type Fields, SlabMemory, type Slot } from "./slab_memory.ts";

/** A remote for another Worker: plain data for `postMessage`. */
export interface SlabRemoteToken<L extends Layout = Layout> {
  readonly slab: number;
  readonly layout: L | number;
}

/** How long `free` rests between two tries on a full queue, in milliseconds. */
const restMsMax = 4;
const nothing = new Int32Array(new SharedArrayBuffer(4));

export class SlabRemote<L extends Layout = Layout> implements Disposable {
  /** Accessors of each field. */
  readonly fields: Fields<L>;
  /** Plain data from which other Workers make remotes of the same slab. */
  readonly token: SlabRemoteToken<L>;
  #id: number;
  #memory: SlabMemory;

  private constructor(token: SlabRemoteToken<L>) {
    const { slab, layout } = token;
    const operation = "SlabRemote.attach";
    const placed =
      typeof layout === "number"
        ? placeBytes(layout, SlabRemote.attach)
        : placeLayout(layout, SlabRemote.attach);
    // Held over the making of the ArrayBuffers, which hold it then.
    const status = more().hf_slab_retain(slab);
    if (status < Status.ok) throw callError(status, operation, SlabRemote.attach, gone);
    try {
      this.#memory = new SlabMemory(slab, placed, false, operation);
    } finally {
      more().hf_slab_release(slab);
    }
    this.#id = slab;
    this.token = token;
    this.fields = this.#memory.fields();
  }

  /** A remote of the slab that the token names. CLOSED if its memory is gone. */
  static attach<L extends Layout = Layout>(token: SlabRemoteToken<L>): SlabRemote<L> {
    if (typeof token !== "object" || token === null || typeof token.slab !== "number") {
      const expected = "a token of SlabOwner.remote()";
      throw invalidArgType("token", expected, token, SlabRemote.attach);
    }
    return new SlabRemote(token);
  }

  /** Number that names this thread where the owner says who holds a slot. */
  get holder(): number {
    return more().hf_slab_holder(thread);
  }

  /** Whether the slot is in use. */
  isLive(slot: Slot): boolean {
    return this.#memory.isLive(slot);
  }

  /**
   * Frees a slot. False: the owner's queue is full, and the slot is in use as before; or the owner is
   * gone, and the slot with it. A slot that is not in use is DOUBLE_FREE or FOREIGN.
   */
  tryFree(slot: Slot): boolean {
    const status = more().hf_slab_free_remote(thread, this.#id, slot);
    return status === Status.ok ? true : this.#refused(status, slot, "SlabRemote.tryFree");
  }

  /** As `tryFree`, but waits while the queue is full. False: the owner is gone. */
  free(slot: Slot): boolean {
    let rest = 0;
    while (true) {
      const status = more().hf_slab_free_remote(thread, this.#id, slot);
      if (status === Status.ok) return true;
      if (status !== Status.busy) return this.#refused(status, slot, "SlabRemote.free");
      // In native code nothing waits, so that the end of a Worker is not held up.
      rest = Math.min(rest + 0.05, restMsMax);
      Atomics.wait(nothing, 0, 0, rest);
    }
  }

  /** Frees the first `count` slots of the array; answers how many until one was refused. */
  freeMany(slots: Float64Array, count = slots.length): number {
    if (!(slots instanceof Float64Array)) {
      throw invalidArgType("slots", "a Float64Array", slots, this.freeMany);
    }
    const most = Math.min(count, slots.length);
    return most <= 0 ? 0 : more().hf_slab_free_many(thread, this.#id, slots as never, most);
  }

  /**
   * Says that this Worker holds the slot, so that the owner finds it if the Worker ends. Only in slabs
   * made with `leases: true`.
   */
  hold(slot: Slot): void {
    const status = more().hf_slab_hold(thread, this.#id, slot, 0);
    if (status < Status.ok) throw this.#memory.stale(slot, "SlabRemote.hold");
  }

  /** Lets the slab go: accessors throw, and its memory may end. Twice is harmless. */
  close(): void {
    this.#memory.letGo();
    this.#id = 0;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #refused(status: number, slot: Slot, operation: string): false {
    if (status === Status.busy || status === Status.closed) return false;
    if (status === Status.double_free) {
      const message = `slot ${slot} was freed before`;
      throw holdfastError("DOUBLE_FREE", operation, { message });
    }
    const message = `slot ${slot} was never issued by this slab`;
    throw holdfastError("FOREIGN", operation, { message });
  }
}

const gone = { message: "the slab is closed and its memory gone" };
