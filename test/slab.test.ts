/** SlabOwner and SlabRemote in one thread: slots, fields, wrong numbers, queues, growth, ends. */
import { expect, test } from "bun:test";
import {
  GlobalAllocator,
  LargePool,
  ReclaimingAllocator,
  SlabOwner,
  type SlabOwnerOptions,
  SlabRemote,
} from "holdfast";
import { codeOf, until } from "./fixtures/waiting.ts";

const record = { id: "u32", price: "f64", name: { bytes: 24 } } as const;

test("fields lie where a C compiler puts them", () => {
  using owner = new SlabOwner({
    layout: { a: "u8", b: "u16", c: "u8", d: "f64", e: { bytes: 3 }, f: "i32", g: "u64" },
    capacity: 4,
  });
  // 0, 2, 4, 8, 16, 20, 24: as offsetof says of the same struct.
  expect(owner.usableSize).toBe(32);
  const { fields } = owner;
  const slot = owner.alloc();
  fields.a.set(slot, 255);
  fields.b.set(slot, 65535);
  fields.c.set(slot, 300);
  fields.d.set(slot, Math.PI);
  fields.e.write(slot, new Uint8Array([1, 2, 3, 4]));
  fields.f.set(slot, -5);
  fields.g.set(slot, 2n ** 64n - 1n);
  expect(fields.a.get(slot)).toBe(255);
  expect(fields.b.get(slot)).toBe(65535);
  expect(fields.c.get(slot)).toBe(44);
  expect(fields.d.get(slot)).toBe(Math.PI);
  const bytes = new Uint8Array(5);
  fields.e.read(slot, bytes, 1);
  expect([...bytes]).toEqual([0, 1, 2, 3, 0]);
  expect(fields.f.get(slot)).toBe(-5);
  expect(fields.g.get(slot)).toBe(2n ** 64n - 1n);
  expect(codeOf(() => fields.e.read(slot, bytes, 3))).toBe("ERR_OUT_OF_RANGE");
});

test("bytes are text, words, and single bytes too", () => {
  using owner = new SlabOwner({ layout: record, capacity: 4 });
  const { name } = owner.fields;
  const slot = owner.alloc();
  for (const text of ["", "plain", "häuser", "x".repeat(24), "日本語のとても長い名前です"]) {
    name.setText(slot, text);
    expect(text.startsWith(name.getText(slot))).toBe(true);
    // Three bytes a character: eight of them fit.
    expect(Buffer.byteLength(name.getText(slot))).toBe(Math.min(Buffer.byteLength(text), 24));
  }
  const words = new Int32Array([1, 2, 3, 4, 5, -6]);
  name.writeWords(slot, words);
  const back = new Int32Array(6);
  name.readWords(slot, back);
  expect(back).toEqual(words);
  expect(name.get(slot, 4)).toBe(2);
  name.set(slot, 4, 9);
  expect(name.get(slot, 4)).toBe(9);
  name.set(slot, 24, 1);
  expect(name.get(slot, -1)).toBeUndefined();
  using odd = new SlabOwner({ layout: { a: "u8", b: { bytes: 6 } }, capacity: 1 });
  expect(codeOf(() => odd.fields.b.readWords(odd.alloc(), back))).toBe("ERR_HOLDFAST_UNSUPPORTED");
});

test("a slab of plain bytes has the field bytes", () => {
  using owner = new SlabOwner({ slotBytes: 100, capacity: 3 });
  const slots = [owner.alloc(), owner.alloc(), owner.alloc()];
  for (const slot of slots) owner.fields.bytes.write(slot, new Uint8Array(100).fill(slot & 255));
  const target = new Uint8Array(100);
  for (const slot of slots) {
    owner.fields.bytes.read(slot, target);
    expect(target.every((byte) => byte === (slot & 255))).toBe(true);
  }
  expect(owner.usableSize).toBe(104);
  expect(owner.capacityBytes).toBe(312);
  expect(owner.byteLength).toBe(312);
  expect(owner.address).toBeGreaterThan(0);
});

test("every access to a freed slot throws FREED, by the owner and by remotes", () => {
  using owner = new SlabOwner({ layout: record, capacity: 100 });
  using remote = owner.remote();
  const slot = owner.alloc();
  owner.fields.id.set(slot, 5);
  expect(remote.fields.id.get(slot)).toBe(5);
  owner.free(slot);
  const again = owner.alloc();
  expect(again).not.toBe(slot);
  for (const { fields } of [owner, remote]) {
    for (const wrong of [slot, 0, 1, -1, again + 1, 2 ** 40 + again, Number.NaN, 2 ** 53]) {
      expect(codeOf(() => fields.id.get(wrong))).toBe("ERR_HOLDFAST_FREED");
      expect(codeOf(() => fields.price.set(wrong, 1))).toBe("ERR_HOLDFAST_FREED");
      expect(codeOf(() => fields.name.getText(wrong))).toBe("ERR_HOLDFAST_FREED");
    }
    expect(fields.id.get(again)).toBeNumber();
  }
  expect(owner.isLive(again)).toBe(true);
  expect(owner.isLive(slot)).toBe(false);
  expect(remote.isLive(slot)).toBe(false);
});

test("wrong frees are refused, named and counted", () => {
  using owner = new SlabOwner({ slotBytes: 8, capacity: 8 });
  using remote = owner.remote();
  const slot = owner.alloc();
  owner.free(slot);
  expect(codeOf(() => owner.free(slot))).toBe("ERR_HOLDFAST_DOUBLE_FREE");
  expect(codeOf(() => remote.tryFree(slot))).toBe("ERR_HOLDFAST_DOUBLE_FREE");
  expect(codeOf(() => remote.free(slot))).toBe("ERR_HOLDFAST_DOUBLE_FREE");
  for (const wrong of [0, 3, -1, 1e15, 2.5, Number.NaN, Number.POSITIVE_INFINITY]) {
    expect(codeOf(() => owner.free(wrong))).toBe("ERR_HOLDFAST_FOREIGN");
    expect(codeOf(() => remote.tryFree(wrong))).toBe("ERR_HOLDFAST_FOREIGN");
  }
  expect(owner.corruptionEvents).toBe(17);
  expect(owner.stats().liveSlots).toBe(0);
});

test("slots past 2^31 are as good as small ones", () => {
  // 2^20 indexes leave eleven bits for generations below 2^31.
  using owner = new SlabOwner({ layout: { n: "u32" }, capacity: 2 ** 20 });
  let slot = 0;
  for (let i = 0; i < 5000; i++) {
    slot = owner.alloc();
    owner.fields.n.set(slot, i);
    expect(owner.fields.n.get(slot)).toBe(i);
    owner.free(slot);
  }
  expect(slot).toBeGreaterThan(2 ** 31);
  expect(codeOf(() => owner.fields.n.get(slot))).toBe("ERR_HOLDFAST_FREED");
  expect(codeOf(() => owner.free(slot))).toBe("ERR_HOLDFAST_DOUBLE_FREE");
});

test("an exhausted slab says so, and takes in what remotes freed before it does", () => {
  using owner = new SlabOwner({ slotBytes: 8, capacity: 40 });
  using remote = owner.remote();
  const slots = Array.from({ length: 40 }, () => owner.alloc());
  expect(codeOf(() => owner.alloc())).toBe("ERR_HOLDFAST_LIMIT");
  for (const slot of slots) expect(remote.tryFree(slot)).toBe(true);
  expect(new Set(Array.from({ length: 40 }, () => owner.alloc())).size).toBe(40);
  expect(codeOf(() => owner.alloc())).toBe("ERR_HOLDFAST_LIMIT");
});

test("a bounded queue refuses what is too much, and free waits for nobody on the owner's thread", () => {
  for (const queueCapacity of [0, 1, 2]) {
    using owner = new SlabOwner({ slotBytes: 8, capacity: 8, queueCapacity });
    using remote = owner.remote();
    const slots = Array.from({ length: 4 }, () => owner.alloc());
    // The owner's own thread puts what the queue refuses into its list.
    for (const slot of slots) expect(remote.free(slot)).toBe(true);
    expect(owner.stats().liveSlots).toBe(0);
    expect(owner.drain()).toBeLessThanOrEqual(queueCapacity);
    expect(owner.corruptionEvents).toBe(0);
  }
});

test("freeMany frees in order, until one is refused", () => {
  using owner = new SlabOwner({ slotBytes: 8, capacity: 100 });
  using remote = owner.remote();
  const slots = Float64Array.from({ length: 50 }, () => owner.alloc());
  expect(remote.freeMany(slots, 20)).toBe(20);
  expect(remote.freeMany(slots)).toBe(0);
  expect(remote.freeMany(slots.subarray(20))).toBe(30);
  expect(owner.drain()).toBe(50);
});

test("a slab grows by segments, and remotes see what is new", () => {
  using owner = new SlabOwner({ layout: record, capacity: 100, capacityMax: 1000 });
  using remote = owner.remote();
  expect(owner.stats().capacity).toBe(128);
  const slots = Array.from({ length: 1000 }, (_, i) => {
    const slot = owner.alloc();
    owner.fields.id.set(slot, i);
    owner.fields.name.setText(slot, `name ${i}`);
    return slot;
  });
  expect(codeOf(() => owner.alloc())).toBe("ERR_HOLDFAST_LIMIT");
  slots.forEach((slot, i) => {
    expect(remote.fields.id.get(slot)).toBe(i);
    expect(remote.fields.name.getText(slot)).toBe(`name ${i}`);
    expect(remote.tryFree(slot)).toBe(true);
  });
  expect(owner.stats().segments).toBe(8);
});

test("a slab lives in a pool, within its limit", () => {
  using pool = new LargePool({ limitBytes: 64 * 2 ** 20 });
  const owner = new SlabOwner({ layout: record, capacity: 10_000, backend: pool });
  expect(pool.stats().residentBytes).toBeGreaterThan(400_000);
  const slot = owner.alloc();
  owner.fields.id.set(slot, 1);
  expect(owner.fields.id.get(slot)).toBe(1);
  expect(codeOf(() => new SlabOwner({ slotBytes: 1000, capacity: 100_000, backend: pool }))).toBe(
    "ERR_HOLDFAST_OUT_OF_MEMORY",
  );
  owner.close();
  pool.trim();
  expect(pool.stats().residentBytes).toBe(0);
});

test("a slab outlives the close of what backs it", () => {
  for (const backend of [new LargePool(), new GlobalAllocator(), new ReclaimingAllocator()]) {
    const owner = new SlabOwner({ layout: record, capacity: 1000, backend });
    const slots = Array.from({ length: 1000 }, () => owner.alloc());
    backend.close();
    for (const slot of slots) owner.fields.price.set(slot, slot);
    for (const slot of slots) expect(owner.fields.price.get(slot)).toBe(slot);
    for (const slot of slots) owner.free(slot);
    owner.close();
  }
});

test("after close, remotes read, are told that frees are too late, and keep the memory", () => {
  const owner = new SlabOwner({ layout: record, capacity: 10 });
  const remote = owner.remote();
  const slots = [owner.alloc(), owner.alloc()] as const;
  owner.fields.id.set(slots[1], 77);
  expect(remote.tryFree(slots[0])).toBe(true);
  owner.close();
  owner.close();
  expect(codeOf(() => owner.fields.id.get(slots[1]))).toBe("ERR_HOLDFAST_CLOSED");
  expect(codeOf(() => owner.alloc())).toBe("ERR_HOLDFAST_CLOSED");
  expect(codeOf(() => owner.free(slots[1]))).toBe("ERR_HOLDFAST_CLOSED");
  expect(codeOf(() => owner.remote())).toBe("ERR_HOLDFAST_CLOSED");
  expect(remote.fields.id.get(slots[1])).toBe(77);
  expect(remote.tryFree(slots[1])).toBe(false);
  expect(remote.free(slots[1])).toBe(false);
  const { token } = remote;
  SlabRemote.attach(token).close();
  remote.close();
  expect(codeOf(() => SlabRemote.attach(token))).toBe("ERR_HOLDFAST_CLOSED");
  expect(remote.tryFree(slots[1])).toBe(false);
});

test("the memory of a dropped remote comes back by a collection", async () => {
  const pool = new LargePool();
  (() => {
    const owner = new SlabOwner({ slotBytes: 64, capacity: 1000, backend: pool });
    owner.remote();
    owner.close();
  })();
  await until("the end of the slab", () => {
    pool.trim();
    return pool.stats().mappedBytes === 0;
  });
  pool.close();
});

test("a transferred slab belongs to whoever adopts it, once", () => {
  const first = new SlabOwner({ layout: record, capacity: 10 });
  using remote = first.remote();
  const slot = first.alloc();
  first.fields.id.set(slot, 3);
  const token = first.transfer();
  expect(codeOf(() => first.alloc())).toBe("ERR_HOLDFAST_CLOSED");
  // On its way it takes frees.
  expect(remote.tryFree(slot)).toBe(true);
  using second = SlabOwner.adopt(token);
  expect(codeOf(() => SlabOwner.adopt(token))).toBe("ERR_HOLDFAST_FREED");
  expect(second.drain()).toBe(1);
  const again = second.alloc();
  second.fields.id.set(again, 4);
  expect(remote.fields.id.get(again)).toBe(4);
  const third = SlabOwner.adopt(second.transfer());
  expect(third.isLive(again)).toBe(true);
  third.close();
});

test("a threshold that adapts is shown, a fixed one is not", () => {
  using fixed = new SlabOwner({ slotBytes: 8, capacity: 1000 });
  expect(fixed.adaptiveThreshold).toBe(null);
  expect(fixed.stats().threshold).toBe(64);
  using adaptive = new SlabOwner({ slotBytes: 8, capacity: 1000, batch: "adaptive" });
  expect(adaptive.adaptiveThreshold).toBe(64);
  using small = new SlabOwner({ slotBytes: 8, capacity: 9, batch: "adaptive", queueCapacity: 4 });
  expect(small.adaptiveThreshold).toBeLessThanOrEqual(2);
});

test("waiting: a slot that is there is given at once, one that is freed to who came first", async () => {
  using owner = new SlabOwner({ slotBytes: 8, capacity: 2 });
  using remote = owner.remote();
  const a = await owner.allocAsync();
  const b = owner.alloc();
  const order: string[] = [];
  const waiting = ["first", "second"].map((name) =>
    owner.allocAsync().then((slot) => {
      order.push(name);
      return slot;
    }),
  );
  expect(codeOf(() => owner.alloc())).toBe("ERR_HOLDFAST_LIMIT");
  remote.tryFree(a);
  await waiting[0];
  owner.free(b);
  await waiting[1];
  expect(order).toEqual(["first", "second"]);
  expect(owner.stats().liveSlots).toBe(2);
});

test("waiting ends by its signal, by its time, and by the slab's end", async () => {
  const owner = new SlabOwner({ slotBytes: 8, capacity: 1 });
  const slot = owner.alloc();
  const abort = new AbortController();
  const aborted = owner.allocAsync({ signal: abort.signal }).catch((error) => error);
  const late = owner.allocAsync({ timeoutMs: 5 }).catch((error) => error.code);
  const closed = owner.allocAsync().catch((error) => error.code);
  abort.abort("no more");
  expect(await aborted).toBe("no more");
  expect(await late).toBe("ERR_HOLDFAST_LIMIT");
  expect(await owner.allocAsync({ signal: AbortSignal.abort("before") }).catch((e) => e)).toBe(
    "before",
  );
  owner.close();
  expect(await closed).toBe("ERR_HOLDFAST_CLOSED");
  expect(codeOf(() => owner.waitAlloc())).toBe("ERR_HOLDFAST_UNSUPPORTED");
  expect(slot).toBeGreaterThan(0);
});

test("options that do not go together are refused by name", () => {
  const wrong: [unknown, string][] = [
    [undefined, "ERR_INVALID_ARG_TYPE"],
    [{ capacity: 1 }, "ERR_INVALID_ARG_TYPE"],
    [{ capacity: 1, slotBytes: 1, layout: { a: "u8" } }, "ERR_INVALID_ARG_TYPE"],
    [{ slotBytes: 0, capacity: 1 }, "ERR_OUT_OF_RANGE"],
    [{ slotBytes: 8, capacity: 0 }, "ERR_OUT_OF_RANGE"],
    [{ slotBytes: 8, capacity: "1" }, "ERR_INVALID_ARG_TYPE"],
    [{ slotBytes: 8, capacity: 2 ** 24 }, "ERR_OUT_OF_RANGE"],
    [{ slotBytes: 8, capacity: 8, capacityMax: 4 }, "ERR_OUT_OF_RANGE"],
    [{ slotBytes: 8, capacity: 8, queueCapacity: -1 }, "ERR_OUT_OF_RANGE"],
    [{ slotBytes: 8, capacity: 8, batch: { fixed: 0 } }, "ERR_OUT_OF_RANGE"],
    [{ slotBytes: 8, capacity: 8, batch: "fast" }, "ERR_INVALID_ARG_TYPE"],
    [{ slotBytes: 8, capacity: 8, backend: {} }, "ERR_INVALID_ARG_TYPE"],
    [{ layout: {}, capacity: 8 }, "ERR_OUT_OF_RANGE"],
    [{ layout: { a: "u7" }, capacity: 8 }, "ERR_OUT_OF_RANGE"],
    [{ layout: { a: { bytes: 0.5 } }, capacity: 8 }, "ERR_OUT_OF_RANGE"],
  ];
  for (const [options, code] of wrong) {
    expect(codeOf(() => new SlabOwner(options as SlabOwnerOptions))).toBe(code);
  }
});
