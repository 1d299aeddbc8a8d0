/**
 * Those who wait for a free slot without blocking their thread, first come, first served.
 *
 * Invariant: a waiter leaves the line once: with a slot, by its signal, by its time, or because the
 * slab closed. A slot is taken only for the waiter that then gets it, in the same step; so one that
 * gave up never has a slot that nobody frees.
 *
 * Cost: one timer for the whole line, which looks every millisecond, and less often the longer nothing
 * comes, since frees of other threads cannot call into JavaScript. Not for Workers that have nothing
 * else to do: they block in `waitAlloc`, which a free wakes at once.
 */
import { holdfastError, invalidArgType } from "./errors.ts";

export interface WaitOptions {
  /** Milliseconds to wait at most; default: no bound. Then the promise is rejected with LIMIT. */
  timeoutMs?: number | undefined;
  /** Ends the wait; the promise is rejected with its reason. */
  signal?: AbortSignal | undefined;
}

interface Waiter {
  resolve(slot: number): void;
  reject(reason: unknown): void;
  timer: ReturnType<typeof setTimeout> | undefined;
  leave(): void;
}

const lookMsMin = 1;
const lookMsMax = 8;
/** Looks in vain before they become rarer. */
const patience = 64;

export class Waiters {
  #line: Waiter[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #vain = 0;
  /** A free slot's number, or below 1. */
  #take: () => number;

  constructor(take: () => number) {
    this.#take = take;
  }

  get length(): number {
    return this.#line.length;
  }

  /** Joins the line, behind all who came before. */
  join({ timeoutMs, signal }: WaitOptions): Promise<number> {
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    const waiter: Waiter = {
      resolve,
      reject,
      timer: undefined,
      leave: () => {
        clearTimeout(waiter.timer);
        signal?.removeEventListener("abort", onAbort);
        const at = this.#line.indexOf(waiter);
        if (at >= 0) this.#line.splice(at, 1);
        if (this.#line.length === 0) this.#rest();
      },
    };
    const onAbort = () => {
      waiter.leave();
      reject(signal?.reason);
    };
    signal?.addEventListener("abort", onAbort);
    if (timeoutMs !== undefined) {
      waiter.timer = setTimeout(() => {
        waiter.leave();
        reject(timedOut(timeoutMs, "SlabOwner.allocAsync"));
      }, timeoutMs);
    }
    this.#line.push(waiter);
    this.#vain = 0;
    this.#arm();
    return promise;
  }

  /** Serves the line as far as there are slots. */
  serve(): void {
    while (this.#line.length > 0) {
      const slot = this.#take();
      if (slot < 1) return;
      const first = this.#line[0] as Waiter;
      first.leave();
      first.resolve(slot);
      this.#vain = 0;
    }
  }

  /** Ends the line. */
  refuse(reason: () => unknown): void {
    for (const waiter of [...this.#line]) {
      waiter.leave();
      waiter.reject(reason());
    }
  }

  #arm(): void {
    if (this.#timer !== undefined) return;
    const wait = this.#vain++ < patience ? lookMsMin : lookMsMax;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.serve();
      if (this.#line.length > 0) this.#arm();
    }, wait);
  }

  #rest(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}

/** What a wait that took too long ends with. */
export function timedOut(timeoutMs: number, operation: string): Error {
  const message = `no slot became free within ${timeoutMs} ms`;
  return holdfastError("LIMIT", operation, { message });
}

/** Checks the options of a wait. */
export function checkWait(
  options: WaitOptions,
  // biome-ignore lint/complexity/noBannedTypes: as in errors.ts.
  caller: Function,
): void {
  if (typeof options !== "object" || options === null) {
    throw invalidArgType("options", "an object", options, caller);
  }
  const { timeoutMs, signal } = options;
  if (timeoutMs !== undefined && (typeof timeoutMs !== "number" || !(timeoutMs >= 0))) {
    throw invalidArgType("options.timeoutMs", "a number of at least 0", timeoutMs, caller);
  }
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw invalidArgType("options.signal", "an AbortSignal", signal, caller);
  }
}
