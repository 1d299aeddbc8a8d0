/**
 * 10^6 leases of mixed sizes from one GlobalAllocator, made and marked in four Workers, taken over,
 * checked and freed in random order by other Workers: no lease ever shows another's bytes, and the
 * allocator's figures are afterwards what they were.
 */
import { GlobalAllocator } from "holdfast";
import type { ProofOptions } from "../../scripts/proofs.ts";
import { AskedWorker } from "../fixtures/asked_worker.ts";
import type { MixedAnswer, MixedOrder, MixedParcel } from "../fixtures/mixed_worker.ts";
import { randomFrom, seedOfRun } from "../fixtures/waiting.ts";

export const name = "global-workers";
export const issue = 3;
export const title =
  "10^6 mixed leases cross 4 Workers, freed in random order by others than made them";

const workerCount = 4;
const batch = 1000;

export async function run({ size, log }: ProofOptions): Promise<void> {
  const leases = size === "full" ? 1_000_000 : 24_000;
  const seed = seedOfRun();
  log(`SEED=${seed}`);
  const random = randomFrom(seed);
  using allocator = new GlobalAllocator();
  const before = figures(allocator);
  const workers = Array.from(
    { length: workerCount },
    () => new AskedWorker<MixedOrder, MixedAnswer>("mixed_worker.ts"),
  );
  try {
    await Promise.all(
      workers.map((worker, at) =>
        worker.ask({ order: "start", allocator: allocator.share(), seed: seed + at }),
      ),
    );
    let peak = 0;
    let bytes = 0;
    for (let done = 0; done < leases; done += batch * workerCount) {
      const made = await Promise.all(
        workers.map((worker) => worker.ask({ order: "make", count: batch })),
      );
      const expected = made.reduce((sum, answer) => sum + answer.bytes, 0);
      bytes += expected;
      const { allocatedBytes } = allocator;
      if (allocatedBytes !== before.allocatedBytes + expected) {
        throw new Error(`allocatedBytes is ${allocatedBytes}, the leases have ${expected}`);
      }
      peak = Math.max(peak, allocatedBytes);
      const shares: MixedParcel[][] = workers.map(() => []);
      for (const [maker, { parcels }] of made.entries()) {
        for (const parcel of parcels) {
          const other = (maker + 1 + Math.floor(random() * (workerCount - 1))) % workerCount;
          (shares[other] as MixedParcel[]).push(parcel);
        }
      }
      await Promise.all(
        workers.map((worker, at) =>
          worker.ask({ order: "end", parcels: shares[at] as MixedParcel[] }),
        ),
      );
    }
    log(`${leases} leases of ${bytes} bytes together, ${peak} at once`);
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
  const after = figures(allocator);
  if (JSON.stringify(after) !== JSON.stringify(before)) {
    throw new Error(`${JSON.stringify(after)}\nnot\n${JSON.stringify(before)}`);
  }
}

function figures(allocator: GlobalAllocator) {
  const { allocatedBytes, activeBytes, liveHandles, closingHandles } = allocator.stats();
  return { allocatedBytes, activeBytes, liveHandles, closingHandles };
}
