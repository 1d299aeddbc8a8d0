/** Slabs between Workers: fields, frees, ends of owners and of holders, hand-over, waiting. */
import { expect, test } from "bun:test";
import { SlabOwner, SlabRemote, stats, trim } from "holdfast";
import { record, SlabWorker } from "./fixtures/slab_worker.ts";
import { codeOf, until } from "./fixtures/waiting.ts";

test("a Worker sees the same fields, and what it frees comes back", async () => {
  using owner = new SlabOwner({ layout: record, capacity: 100 });
  using remote = owner.remote();
  const worker = new SlabWorker();
  await worker.ask({ order: "attach", token: remote.token });
  const slots = Array.from({ length: 50 }, (_, i) => {
    const slot = owner.alloc();
    owner.fields.id.set(slot, i);
    owner.fields.price.set(slot, i / 4);
    owner.fields.name.setText(slot, `number ${i}`);
    return slot;
  });
  const { rows } = await worker.ask({ order: "read", slots });
  expect(rows?.[49]).toEqual({ id: 49, price: 49 / 4, name: "number 49" });
  const { freed } = await worker.ask({ order: "free", slots });
  expect(freed?.every((done) => done === true)).toBe(true);
  const again = await worker.ask({ order: "free", slots });
  expect(again.freed?.every((done) => done === "ERR_HOLDFAST_DOUBLE_FREE")).toBe(true);
  expect(owner.drain()).toBe(50);
  expect(owner.stats().liveSlots).toBe(0);
  await worker.terminate();
});

test("an owner whose Worker ends closes its slab; the remote reads on, and frees answer false", async () => {
  for (const graceful of [true, false]) {
    const worker = new SlabWorker();
    const { slots, token } = await worker.ask({ order: "own", capacity: 10, count: 3 });
    using remote = SlabRemote.attach(token!);
    expect(remote.tryFree(slots![0]!)).toBe(true);
    if (graceful) await worker.ask({ order: "close" });
    await worker.terminate();
    await until("the end of the owner", () => remote.tryFree(slots![1]!) === false);
    expect(remote.free(slots![1]!)).toBe(false);
    expect(remote.fields.id.get(slots![2]!)).toBe(2);
    remote.close();
    expect(codeOf(() => SlabRemote.attach(token!))).toBe("ERR_HOLDFAST_CLOSED");
  }
});

test("a slab goes to a Worker, back, and its tokens are reclaimed if nobody adopts", async () => {
  const worker = new SlabWorker();
  const owner = new SlabOwner({ layout: record, capacity: 10 });
  using remote = owner.remote();
  const first = owner.alloc();
  const { slot } = await worker.ask({ order: "adopt", token: owner.transfer() });
  expect(slot).not.toBe(first);
  // Frees go to the new owner.
  expect(remote.tryFree(first)).toBe(true);
  const back = await worker.ask({ order: "transfer" });
  const again = SlabOwner.adopt(back.owner!);
  expect(again.isLive(slot!)).toBe(true);
  expect(again.drain()).toBe(1);
  const before = stats().pendingTokens;
  await worker.ask({ order: "adopt", token: again.transfer() });
  await worker.ask({ order: "transfer" });
  expect(stats().pendingTokens).toBe(before + 1);
  await worker.terminate();
  await until("the token's end", () => {
    trim();
    return stats().pendingTokens === before;
  });
  expect(remote.tryFree(slot!)).toBe(false);
});

test("slots of a Worker that ended are listed and taken back", async () => {
  using owner = new SlabOwner({ layout: record, capacity: 20, leases: true });
  using remote = owner.remote();
  const worker = new SlabWorker();
  const { holder } = await worker.ask({ order: "attach", token: remote.token });
  const slots = Array.from({ length: 10 }, () => owner.alloc());
  await worker.ask({ order: "hold", slots: slots.slice(0, 4) });
  for (const slot of slots.slice(4, 6)) owner.lend(slot, holder!);
  await worker.ask({ order: "free", slots: [slots[0]!] });
  expect(owner.held(holder)).toEqual(slots.slice(1, 6));
  expect(owner.held()).toEqual([]);
  await worker.terminate();
  await until("the Worker's end", () => owner.held().length === 5);
  expect(owner.takeBack()).toBe(5);
  expect(owner.stats().liveSlots).toBe(4);
  using plain = new SlabOwner({ slotBytes: 8, capacity: 1 });
  expect(codeOf(() => plain.held())).toBe("ERR_HOLDFAST_UNSUPPORTED");
  expect(codeOf(() => plain.lend(plain.alloc(), 1))).toBe("ERR_HOLDFAST_UNSUPPORTED");
});

test("an owner in a Worker blocks for a slot, and is woken by a free", async () => {
  const worker = new SlabWorker();
  const { slots, token } = await worker.ask({ order: "own", capacity: 2, count: 2 });
  using remote = SlabRemote.attach(token!);
  const late = await worker.ask({ order: "waitAlloc", timeoutMs: 30 }).catch((e) => e.code);
  expect(late).toBe("ERR_HOLDFAST_LIMIT");
  const waiting = worker.ask({ order: "waitAlloc", timeoutMs: 5000 });
  await Bun.sleep(50);
  remote.tryFree(slots![0]!);
  const { slot, waitedMs } = await waiting;
  expect(slot).toBeGreaterThan(0);
  expect(slot).not.toBe(slots![0]);
  expect(waitedMs).toBeLessThan(2000);
  await worker.terminate();
});

test("a Worker that waits for a slot can be terminated", async () => {
  const worker = new SlabWorker();
  await worker.ask({ order: "own", capacity: 1, count: 1 });
  worker.ask({ order: "waitAlloc", timeoutMs: 60_000 }).catch(() => {});
  await Bun.sleep(20);
  const start = performance.now();
  await worker.terminate();
  expect(performance.now() - start).toBeLessThan(5000);
});
