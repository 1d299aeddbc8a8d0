/**
 * Workers share one pool under a seeded plan against a model (fixtures/plan_worker.ts): they
 * allocate, transfer, adopt and free, check every handle's mark whenever they touch it, and some
 * are terminated in the middle, some of those during an `fs.read`. Nobody ever finds another's
 * bytes in a handle, and when all is over every counter is where it began.
 */
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Handle, LargePool, stats, trim } from "holdfast";
import type { ProofOptions } from "../../scripts/proofs.ts";
import { AskedWorker } from "../fixtures/asked_worker.ts";
import type { Counts, Parcel, PlanAnswer, PlanOrder } from "../fixtures/plan_worker.ts";
import { randomFrom, seedOfRun, until } from "../fixtures/waiting.ts";

export const name = "workers";
export const issue = 2;
export const title =
  "Workers allocate, transfer, adopt and free, some terminated in the middle; every counter balances";

const workerCount = 4;
const stepsPerSlice = 64;
const parcelsPerSlice = 8;

type Random = () => number;
type PlanWorker = AskedWorker<PlanOrder, PlanAnswer>;

export async function run({ size, log }: ProofOptions): Promise<void> {
  const seconds = size === "full" ? 60 : 3;
  const seed = seedOfRun();
  log(`SEED=${seed}`);
  const folder = mkdtempSync(join(tmpdir(), "holdfast-plan-"));
  const before = balance();
  const pool = new LargePool({ background: { intervalMs: 5 } });
  try {
    const plan = new Plan(pool, folder, randomFrom(seed));
    const end = performance.now() + seconds * 1000;
    await Promise.all(Array.from({ length: workerCount }, () => plan.drive(end)));
    plan.endParcels();
    log(
      `${plan.slices} slices, ${plan.terminated} Workers terminated, ${plan.reads} during a read`,
    );
    log(
      Object.entries(plan.counts)
        .map(([what, count]) => `${count} ${what}`)
        .join(", "),
    );
    if (plan.terminated === 0 || plan.reads === 0) throw new Error("no Worker was terminated");
  } finally {
    rmSync(folder, { recursive: true });
  }
  await until(
    "the end of all leases",
    () => {
      trim();
      const { liveHandles, closingHandles } = pool.stats();
      return liveHandles + closingHandles === 0 && balance() === before;
    },
    20_000,
  ).catch((error) => {
    throw new Error(`${balance()}\nnot\n${before}`, { cause: error });
  });
  const { allocatedBytes, activeBytes, classes } = pool.stats();
  if (allocatedBytes !== 0 || activeBytes !== 0) throw new Error("bytes are left");
  pool.trim();
  for (const row of pool.stats().classes) {
    if (row.allocations !== row.deallocations) {
      throw new Error(`class ${row.classBytes}: ${row.allocations} out, ${row.deallocations} back`);
    }
  }
  if (pool.stats().residentBytes !== 0) throw new Error("resident bytes are left after a trim");
  const regions = classes.reduce((sum, row) => sum + row.allocations, 0);
  log(`${regions} regions went out and came back; no lease, token or thread is left`);
  pool.close();
}

/** What must be the same before and after. */
function balance(): string {
  const { allocatedBytes, activeBytes, liveHandles, closingHandles, pendingTokens, threads } =
    stats();
  return JSON.stringify({
    allocatedBytes,
    activeBytes,
    liveHandles,
    closingHandles,
    pendingTokens,
    threads,
  });
}

class Plan {
  readonly counts: Partial<Counts> = {};
  slices = 0;
  terminated = 0;
  reads = 0;
  #parcels: Parcel[] = [];
  #pool: LargePool;
  #folder: string;
  #random: Random;

  constructor(pool: LargePool, folder: string, random: Random) {
    this.#pool = pool;
    this.#folder = folder;
    this.#random = random;
  }

  /** Drives one Worker after another until the time is over. */
  async drive(end: number): Promise<void> {
    while (performance.now() < end) {
      const worker = new AskedWorker<PlanOrder, PlanAnswer>("plan_worker.ts");
      await worker.ask({ order: "start", pool: this.#pool.share() });
      const slices = 1 + Math.floor(this.#random() * 12);
      for (let slice = 0; slice < slices && performance.now() < end; slice++) {
        await this.#slice(worker);
      }
      if (performance.now() >= end || this.#random() < 0.2) {
        this.#count(await worker.ask({ order: "finish" }));
        await worker.terminate();
      } else if (this.terminated++ % 3 === 0) {
        await this.#terminateReader(worker);
      } else {
        await this.#terminateInSlice(worker);
      }
    }
  }

  /** Adopts and frees what nobody took. */
  endParcels(): void {
    for (const parcel of this.#parcels.splice(0)) this.#endParcel(parcel);
  }

  async #slice(worker: PlanWorker): Promise<void> {
    const parcels = this.#parcels.splice(0, parcelsPerSlice);
    const answer = await worker.ask(this.#order(parcels));
    this.slices++;
    this.#count(answer);
    this.#parcels.push(...answer.parcels);
  }

  #order(parcels: Parcel[]): PlanOrder {
    const seed = Math.floor(this.#random() * 2 ** 32);
    return { order: "slice", seed, steps: stepsPerSlice, parcels };
  }

  async #terminateInSlice(worker: PlanWorker): Promise<void> {
    const parcels = this.#parcels.splice(0, parcelsPerSlice);
    void worker.ask(this.#order(parcels));
    await Bun.sleep(this.#random() * 20);
    await worker.terminate();
    // What it has not taken over is still ours to take.
    for (const parcel of parcels) this.#endParcel(parcel);
  }

  async #terminateReader(worker: PlanWorker): Promise<void> {
    const path = join(this.#folder, `pipe-${this.terminated}`);
    Bun.spawnSync(["mkfifo", path]);
    const descriptor = openSync(path, "r+");
    this.#count(await worker.ask({ order: "read", path }));
    const ending = worker.terminate();
    await Bun.sleep(this.#random() * 50);
    // The read of a Worker that is over lands now: in memory that nobody else has.
    writeSync(descriptor, new Uint8Array(4096).fill(0));
    await ending;
    closeSync(descriptor);
    this.reads++;
  }

  #endParcel({ token, mark }: Parcel): void {
    let handle: Handle;
    try {
      handle = Handle.adopt(token);
    } catch (error) {
      if ((error as { code?: string }).code === "ERR_HOLDFAST_FREED") return;
      throw error;
    }
    const { bytes } = handle;
    if (bytes[0] !== mark || bytes[bytes.length - 1] !== mark) {
      throw new Error(`a handle on its way carries ${bytes[0]}, not ${mark}`);
    }
    handle.free();
  }

  #count({ counts }: { counts: Counts }): void {
    for (const [what, count] of Object.entries(counts) as [keyof Counts, number][]) {
      this.counts[what] = (this.counts[what] ?? 0) + count;
    }
  }
}
