/**
 * Random plans of waiting, giving up and freeing, against a model (fast-check): whoever waits gets a
 * slot in the order of coming, and one that is aborted or whose time is over never takes a slot with
 * it: at the end every slot is free or in the hands of a waiter that was served.
 */
import { ok, strictEqual } from "node:assert/strict";
import fc from "fast-check";
import { SlabOwner } from "holdfast";
import type { ProofOptions } from "../../scripts/proofs.ts";
import { seedOfRun } from "../fixtures/waiting.ts";

export const name = "slab-waiters";
export const issue = 6;
export const title = "a waiter that is aborted or times out never swallows a slot";

type Step =
  | { step: "wait"; timeoutMs: number | undefined }
  | { step: "abort"; which: number }
  | { step: "free" | "freeRemote"; which: number }
  | { step: "alloc" }
  | { step: "turn" };

const steps = fc.array(
  fc.oneof<fc.Arbitrary<Step>[]>(
    fc.record({
      step: fc.constant("wait" as const),
      timeoutMs: fc.option(fc.integer({ min: 0, max: 6 }), { nil: undefined }),
    }),
    fc.record({ step: fc.constant("abort" as const), which: fc.nat(20) }),
    fc.record({ step: fc.constantFrom("free" as const, "freeRemote" as const), which: fc.nat(20) }),
    fc.record({ step: fc.constant("alloc" as const) }),
    fc.record({ step: fc.constant("turn" as const) }),
  ),
  { maxLength: 60 },
);

export async function run({ size, log }: ProofOptions): Promise<void> {
  const seed = seedOfRun();
  const numRuns = size === "full" ? 1500 : 60;
  let served = 0;
  let gaveUp = 0;
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 4 }), steps, async (capacity, plan) => {
      const result = await follow(capacity, plan);
      served += result.served;
      gaveUp += result.gaveUp;
    }),
    { seed, numRuns },
  );
  log(`SEED=${seed}: ${numRuns} plans, ${served} waiters served, ${gaveUp} gave up`);
  ok(served > 0 && gaveUp > 0, "the plans did too little");
}

interface Waiting {
  number: number;
  abort: AbortController;
  over: boolean;
}

async function follow(capacity: number, plan: Step[]): Promise<{ served: number; gaveUp: number }> {
  const owner = new SlabOwner({ slotBytes: 8, capacity });
  const remote = owner.remote();
  // Nothing is free at first, so that who waits really waits.
  const held = Array.from({ length: capacity }, () => owner.alloc());
  const waiting: Waiting[] = [];
  const settled: Promise<void>[] = [];
  let gaveUp = 0;
  let served = 0;
  let lastServed = -1;
  for (const step of plan) {
    if (step.step === "wait") {
      const abort = new AbortController();
      const waiter: Waiting = { number: waiting.length, abort, over: false };
      waiting.push(waiter);
      const options = { signal: abort.signal, timeoutMs: step.timeoutMs };
      const end = owner.allocAsync(options).then(
        (slot) => {
          waiter.over = true;
          served++;
          ok(waiter.number > lastServed, "served out of turn");
          lastServed = waiter.number;
          ok(owner.isLive(slot) && !held.includes(slot), "a slot that somebody has");
          held.push(slot);
        },
        (error) => {
          waiter.over = true;
          gaveUp++;
          ok(error === "enough" || error.code === "ERR_HOLDFAST_LIMIT", String(error));
        },
      );
      settled.push(end);
    } else if (step.step === "abort") {
      const open = waiting.filter(({ over }) => !over);
      open[step.which % open.length]?.abort.abort("enough");
    } else if (step.step === "turn") {
      await Bun.sleep(1);
    } else if (step.step === "alloc") {
      try {
        held.push(owner.alloc());
      } catch (error) {
        strictEqual((error as { code: string }).code, "ERR_HOLDFAST_LIMIT");
      }
    } else if (held.length > 0) {
      const [slot] = held.splice(step.which % held.length, 1);
      if (step.step === "free") owner.free(slot!);
      else ok(remote.tryFree(slot!));
    }
  }
  // Slots that served waiters hold are freed until all others are served too.
  while (waiting.some(({ over }) => !over)) {
    while (held.length > 0) owner.free(held.pop()!);
    await Bun.sleep(0);
  }
  await Promise.all(settled);
  owner.drain();
  strictEqual(owner.stats().liveSlots, held.length, "a slot is in nobody's hands");
  for (const slot of held) owner.free(slot);
  // Every slot can be had again.
  for (let i = 0; i < capacity; i++) owner.alloc();
  strictEqual(owner.stats().liveSlots, capacity);
  remote.close();
  owner.close();
  return { served, gaveUp };
}
