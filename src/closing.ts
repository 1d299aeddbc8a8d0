/**
 * The buffers that could not be detached, tried again until they can.
 *
 * A buffer is pinned while Bun reads or writes it in the background; `free()` then answers
 * "closing" and the buffer comes here. The list holds it, so the memory comes back even when the
 * program keeps the view, and no other way is left to it: a collection comes too late.
 *
 * The budget is 1 % of a core. A failed detach copies the whole buffer, so one tick stops after
 * 1 ms of failures (or one try), and the next comes after 100 times what was spent, at least after
 * 1, 2, 4 .. 100 ms; a success costs 0.1 µs, counts for nothing and starts again at 1 ms. Who has
 * waited longest is tried first; who fails goes to the end, so that a buffer pinned for hours does
 * not starve the others. The one timer does not keep the process alive and is armed only while
 * something waits. Buffers that the program has given away meanwhile leave the list: only their
 * deallocator can release those.
 */
import { keep } from "./binding.ts";
import { detach } from "./memory.ts";

const tickBudgetMs = 1;
const emergencyBudgetMs = 20;
const delayMsMin = 1;
const delayMsMax = 100;
/** Time waited for each unit of time spent failing: 1 % of a core. */
const restFactor = 100;

class ClosingList {
  #buffers: ArrayBuffer[] = [];
  #delayMs = delayMsMin;
  #timer: ReturnType<typeof setTimeout> | null = null;

  get size(): number {
    return this.#buffers.length;
  }

  /** Takes a buffer whose detach has just failed. */
  add(buffer: ArrayBuffer): void {
    this.#buffers.push(buffer);
    if (this.#timer === null) this.#arm(this.#delayMs);
  }

  /** Tries all once now, within 20 ms of failures: for a caller that is out of memory. */
  run(): boolean {
    return this.#buffers.length > 0 && this.#pass(emergencyBudgetMs).released > 0;
  }

  #tick(): void {
    this.#timer = null;
    const { released, spentMs } = this.#pass(tickBudgetMs);
    if (this.#buffers.length === 0) {
      this.#delayMs = delayMsMin;
      return;
    }
    const wait = released > 0 ? delayMsMin : this.#delayMs;
    this.#delayMs = Math.min(wait * 2, delayMsMax);
    this.#arm(Math.max(wait, restFactor * spentMs));
  }

  #pass(budgetMs: number): { released: number; spentMs: number } {
    const waiting = this.#buffers;
    const failed: ArrayBuffer[] = [];
    let released = 0;
    let spentMs = 0;
    let next = 0;
    while (next < waiting.length && spentMs < budgetMs) {
      const buffer = waiting[next++] as ArrayBuffer;
      if (buffer.detached) continue;
      const start = performance.now();
      if (detach(buffer)) {
        released++;
      } else {
        spentMs += performance.now() - start;
        failed.push(buffer);
      }
    }
    this.#buffers = next < waiting.length ? waiting.slice(next).concat(failed) : failed;
    return { released, spentMs };
  }

  #arm(delayMs: number): void {
    this.#timer = setTimeout(() => this.#tick(), delayMs);
    this.#timer.unref();
  }
}

export const closing: ClosingList = keep("closing", () => new ClosingList());
