/**
 * What is tried before an allocation is refused: buffers that can be detached by now, memory that
 * the pools can give back, and one collection for leases that the program has dropped.
 *
 * A collection may take long and may be for nothing; so one that did not help is followed by a rest
 * of 100 times its duration, while one that helped may be repeated at once: a loop that drops its
 * leases is served, a server that stands at its limit spends 1 % of its time here.
 */
import { Status } from "./abi.gen.ts";
import { sweep } from "./alias.ts";
import { keep, more, thread } from "./binding.ts";
import { closing } from "./closing.ts";
import { unpark } from "./parked.ts";
import { emptyRing } from "./recent.ts";

const restFactor = 100;

const collector = keep("collector", () => ({ notBefore: 0 }));

/** Calls `attempt` again for as long as something was gained; answers its last result. */
export function recover(status: number, attempt: () => number): number {
  if (!isShortage(status)) return status;
  let result = status;
  const unparked = unpark();
  if (closing.run() || unparked) {
    result = attempt();
    if (!isShortage(result)) return result;
  }
  if (result === Status.out_of_memory && Number(more().hf_trim(thread)) > 0) {
    result = attempt();
    if (!isShortage(result)) return result;
  }
  const start = performance.now();
  if (start < collector.notBefore) return result;
  emptyRing();
  sweep();
  Bun.gc(true);
  const spentMs = performance.now() - start;
  result = attempt();
  collector.notBefore = isShortage(result) ? start + spentMs * (1 + restFactor) : 0;
  return result;
}

function isShortage(status: number): boolean {
  return status === Status.limit || status === Status.out_of_memory;
}
