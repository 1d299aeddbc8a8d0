/**
 * The scenarios of the original's own tests, through TypeScript and Workers: round trips, usable size,
 * remote frees and their reuse, queues of 0, 1 and 2, four Workers with 32 frees each, an adaptive
 * threshold that moves both ways, an owner that closes, remotes that do not spin, and a mixed run of
 * four Workers with no corruption. At full size also the Zig tests, which hold the rest of the list:
 * levels, rests, floor and ceiling of the threshold, damaged lists, refusals of the backend.
 */
import { deepStrictEqual, ok, strictEqual, throws } from "node:assert/strict";
import { SlabOwner, SlabRemote } from "holdfast";
import type { ProofOptions } from "../../scripts/proofs.ts";
import { run as runCommand } from "../../scripts/toolchain.ts";
import { type Record, record, SlabWorker } from "../fixtures/slab_worker.ts";

export const name = "slab-scenarios";
export const issue = 6;
export const title = "every scenario of the original's tests holds, with a threshold that adapts";

export async function run({ size, log }: ProofOptions): Promise<void> {
  const held: string[] = [];
  for (const [what, scenario] of Object.entries(scenarios)) {
    await scenario();
    held.push(what);
  }
  log(held.join(", "));
  if (size !== "full") return;
  const { status, output } = await runCommand(
    [process.execPath, "scripts/zig-build.ts", "test", "-Dtest-filter=heap.owner"].concat(
      "--summary",
      "all",
    ),
  );
  ok(status === 0, output);
  log(/\d+\/\d+ tests passed/.exec(output)?.[0] ?? "the Zig tests pass");
}

const indexOf = (slot: number, capacity: number) => slot % 2 ** Math.ceil(Math.log2(capacity));

const scenarios: { [name: string]: () => void | Promise<void> } = {
  "local round trip"() {
    using owner = new SlabOwner({ layout: record, capacity: 4 });
    const slots = [owner.alloc(), owner.alloc(), owner.alloc(), owner.alloc()];
    strictEqual(new Set(slots).size, 4);
    throws(() => owner.alloc(), { code: "ERR_HOLDFAST_LIMIT" });
    owner.free(slots[2]!);
    strictEqual(indexOf(owner.alloc(), 4), indexOf(slots[2]!, 4));
  },

  "usable size is the stride"() {
    using owner = new SlabOwner({ layout: record, capacity: 100 });
    strictEqual(owner.usableSize, 40);
    strictEqual(owner.capacityBytes, 4000);
    strictEqual(owner.byteLength, 4000);
    ok(owner.address % 8 === 0);
  },

  "remote free, then reuse"() {
    using owner = new SlabOwner({ layout: record, capacity: 1 });
    using remote = owner.remote();
    const slot = owner.alloc();
    ok(remote.tryFree(slot));
    strictEqual(indexOf(owner.alloc(), 1), indexOf(slot, 1));
  },

  async "queues of 0, 1 and 2"() {
    for (const queueCapacity of [0, 1, 2]) {
      using owner = new SlabOwner({ layout: record, capacity: 8, queueCapacity });
      const worker = await attached(owner);
      const slots = [owner.alloc(), owner.alloc(), owner.alloc(), owner.alloc()];
      const { freed } = await worker.ask({ order: "free", slots });
      deepStrictEqual(
        freed,
        slots.map((_, i) => i < queueCapacity),
      );
      // What was refused is in use as before; the others come in by themselves.
      for (let i = 0; i < 200; i++) owner.free(owner.alloc());
      strictEqual(owner.stats().queuedSlots, 0);
      strictEqual(owner.stats().liveSlots, 4 - queueCapacity);
      await worker.terminate();
    }
  },

  async "four Workers free 32 each, and exactly those come again"() {
    using owner = new SlabOwner({ layout: record, capacity: 128 });
    const slots = Array.from({ length: 128 }, () => owner.alloc());
    const workers = await Promise.all([1, 2, 3, 4].map(() => attached(owner)));
    await Promise.all(
      workers.map((worker, i) =>
        worker.ask({ order: "free", slots: slots.slice(i * 32, i * 32 + 32) }),
      ),
    );
    const again = Array.from({ length: 128 }, () => indexOf(owner.alloc(), 128));
    strictEqual(new Set(again).size, 128);
    throws(() => owner.alloc(), { code: "ERR_HOLDFAST_LIMIT" });
    strictEqual(owner.corruptionEvents, 0);
    await Promise.all(workers.map((worker) => worker.terminate()));
  },

  "an adaptive threshold moves both ways at a queue of 1024"() {
    using owner = new SlabOwner({
      layout: record,
      capacity: 4096,
      queueCapacity: 1024,
      batch: "adaptive",
    });
    using remote = owner.remote();
    const slots = Array.from({ length: 4000 }, () => owner.alloc());
    const work = (pairs: number) => {
      for (let i = 0; i < pairs; i++) owner.free(owner.alloc());
    };
    strictEqual(owner.adaptiveThreshold, 64);
    work(4000);
    strictEqual(owner.adaptiveThreshold, 64, "it moved while nobody freed");
    while (slots.length > 1000) {
      for (const slot of slots.splice(0, 4)) remote.tryFree(slot);
      work(1);
    }
    strictEqual(owner.adaptiveThreshold, 128);
    for (const slot of slots) {
      remote.tryFree(slot);
      work(8);
    }
    ok(owner.adaptiveThreshold! <= 32, `${owner.adaptiveThreshold} for a trickle`);
  },

  async "an owner that closes takes in what came, and no remote spins afterwards"() {
    const owner = new SlabOwner({ layout: record, capacity: 64, queueCapacity: 8 });
    const worker = await attached(owner);
    const remote = owner.remote();
    const slots = Array.from({ length: 16 }, () => owner.alloc());
    await worker.ask({ order: "free", slots: slots.slice(0, 8) });
    owner.close();
    const start = performance.now();
    strictEqual(remote.free(slots[8]!), false);
    const { freed } = await worker.ask({ order: "free", slots: slots.slice(8) });
    ok(freed!.every((done) => done === false));
    ok(performance.now() - start < 1000, "a free waited for nobody");
    remote.close();
    await worker.terminate();
  },

  async "four Workers free while the owner works"() {
    using owner = new SlabOwner({ layout: record, capacity: 600, batch: "adaptive" });
    const workers = await Promise.all([1, 2, 3, 4].map(() => attached(owner)));
    for (let round = 0; round < 20; round++) {
      const lots = workers.map(() => Array.from({ length: 100 }, () => owner.alloc()));
      const ends = workers.map((worker, i) => worker.ask({ order: "free", slots: lots[i]! }));
      for (let i = 0; i < 500; i++) owner.free(owner.alloc());
      for (const { freed } of await Promise.all(ends)) ok(freed!.every((done) => done === true));
    }
    owner.drain();
    strictEqual(owner.stats().liveSlots, 0);
    strictEqual(owner.corruptionEvents, 0);
    await Promise.all(workers.map((worker) => worker.terminate()));
  },

  "a remote may outlive its owner"() {
    const owner = new SlabOwner({ layout: record, capacity: 4 });
    const slot = owner.alloc();
    owner.fields.id.set(slot, 9);
    const remote = SlabRemote.attach(owner.remote().token);
    owner.close();
    strictEqual(remote.fields.id.get(slot), 9);
    remote.close();
    throws(() => remote.fields.id.get(slot), { code: "ERR_HOLDFAST_CLOSED" });
  },
};

async function attached(owner: SlabOwner<Record>): Promise<SlabWorker> {
  const worker = new SlabWorker();
  await worker.ask({ order: "attach", token: owner.remote().token });
  return worker;
}
