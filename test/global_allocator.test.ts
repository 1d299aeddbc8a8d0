/** The global allocator by its class: small leases, realloc, limits, closing, other Workers. */
import { expect, test } from "bun:test";
import {
  alloc,
  GlobalAllocator,
  Handle,
  HoldfastError,
  type HandleToken,
  LargePool,
  stats,
} from "holdfast";
import { LeaseWorker } from "./fixtures/lease_workers.ts";

test("small leases of one allocator lie in the same pages, whatever their size", () => {
  using allocator = new GlobalAllocator();
  const handles = Array.from({ length: 500 }, (_, i) => allocator.alloc(1 + (i % 100)));
  for (const [i, handle] of handles.entries()) {
    expect(handle.byteLength).toBe(1 + (i % 100));
    expect(handle.capacity).toBeGreaterThanOrEqual(handle.byteLength);
    expect(handle.bytes.every((byte) => byte === 0)).toBe(true);
    handle.bytes.fill(i);
  }
  for (const [i, handle] of handles.entries()) {
    expect(handle.bytes.every((byte) => byte === (i & 255))).toBe(true);
  }
  expect(allocator.allocatedBytes).toBe(
    handles.reduce((sum, handle) => sum + handle.byteLength, 0),
  );
  const views = handles.map((handle) => handle.bytes);
  for (const handle of handles) handle.free();
  expect(views.every((view) => view.length === 0)).toBe(true);
  expect(allocator.allocatedBytes).toBe(0);
  expect(allocator.stats().liveHandles).toBe(0);
});

test("a lease is aligned as asked and a view may begin anywhere in it", () => {
  using allocator = new GlobalAllocator();
  for (const align of [1, 16, 64, 256, 4096, 65536, 2 ** 21]) {
    const handle = allocator.alloc(24, { align });
    expect(handle.address % align).toBe(0);
    handle.view(Float64Array, 8, 2).set([1.5, 2.5]);
    expect(handle.view(Float64Array, 16, 1)[0]).toBe(2.5);
    handle.free();
  }
});

test("realloc makes a new handle with the contents, and the old one is freed", () => {
  using allocator = new GlobalAllocator();
  let handle = allocator.alloc(40);
  handle.bytes.set([1, 2, 3]);
  for (const length of [48, 41, 5000, 200_000, 3_000_000, 10, 0, 30]) {
    const old = handle;
    const view = old.bytes;
    handle = allocator.realloc(old, length);
    expect(handle).not.toBe(old);
    expect(handle.byteLength).toBe(length);
    expect(view.length).toBe(0);
    expect(() => old.bytes).toThrow(expect.objectContaining({ code: "ERR_HOLDFAST_FREED" }));
    if (length >= 10) expect([...handle.bytes.subarray(0, 3)]).toEqual([1, 2, 3]);
    if (length === 10) handle.bytes.fill(0);
    if (length === 0) {
      handle.free();
      handle = allocator.alloc(30);
      handle.bytes.set([1, 2, 3]);
    }
  }
  handle.free();
  expect(allocator.allocatedBytes).toBe(0);
});

test("realloc refuses what is not of this allocator and what is over", () => {
  using allocator = new GlobalAllocator();
  const foreign = LargePool.shared.alloc(100);
  expect(() => allocator.realloc(foreign, 200)).toThrow(
    expect.objectContaining({ code: "ERR_HOLDFAST_FOREIGN" }),
  );
  foreign.bytes[0] = 1;
  foreign.free();
  const own = allocator.alloc(100);
  own.free();
  expect(() => allocator.realloc(own, 200)).toThrow(HoldfastError);
  expect(() => allocator.realloc({} as Handle, 200)).toThrow(
    expect.objectContaining({ code: "ERR_INVALID_ARG_TYPE" }),
  );
});

test("a failed realloc leaves the old handle whole", () => {
  using allocator = new GlobalAllocator({ limitBytes: 16 * 2 ** 20 });
  const handle = allocator.alloc(64);
  handle.bytes.fill(7);
  expect(() => allocator.realloc(handle, 64 * 2 ** 20)).toThrow(
    expect.objectContaining({ code: "ERR_HOLDFAST_LIMIT" }),
  );
  expect(handle.bytes.every((byte) => byte === 7)).toBe(true);
  handle.free();
});

test("what small memory cannot do says so; asked for at the start it is whole pages", () => {
  using allocator = new GlobalAllocator();
  const small = allocator.alloc(100);
  expect(() => small.lock()).toThrow(expect.objectContaining({ code: "ERR_HOLDFAST_UNSUPPORTED" }));
  expect(small.locked).toBe(false);
  small.purge();
  small.prefetch();
  expect(small.pageKind).toBeOneOf(["base", "thp"]);
  const alias = allocator.alloc(100, { views: "alias" });
  alias.bytes[0] = 1;
  const populated = allocator.alloc(100, { prefault: true });
  expect(populated.capacity % 4096).toBe(0);
  for (const handle of [small, alias, populated]) handle.free();
});

test("the front door takes small requests from the shared allocator", () => {
  const before = GlobalAllocator.shared.allocatedBytes;
  const live = stats().liveHandles;
  const handle = alloc(100);
  expect(GlobalAllocator.shared.allocatedBytes).toBe(before + 100);
  expect(stats().liveHandles).toBe(live + 1);
  const long = alloc(5000);
  expect(GlobalAllocator.shared.allocatedBytes).toBe(before + 100);
  handle.free();
  long.free();
  expect(() => GlobalAllocator.shared.close()).toThrow(
    expect.objectContaining({ code: "ERR_HOLDFAST_UNSUPPORTED" }),
  );
});

test("a limit holds, names itself, and what is freed can be had again", () => {
  using allocator = new GlobalAllocator({ limitBytes: 24 * 2 ** 20 });
  const handles: Handle[] = [];
  const fill = () => {
    for (;;) handles.push(allocator.allocUnsafe(30_000));
  };
  expect(fill).toThrow(expect.objectContaining({ code: "ERR_HOLDFAST_LIMIT" }));
  const most = handles.length;
  expect(most).toBeGreaterThan(100);
  for (const handle of handles.splice(0)) handle.free();
  expect(fill).toThrow(expect.objectContaining({ code: "ERR_HOLDFAST_LIMIT" }));
  expect(handles.length).toBeGreaterThan(most * 0.9);
  for (const handle of handles) handle.free();
});

test("a close with live leases is BUSY; by force it ends them and empties their views", () => {
  const allocator = new GlobalAllocator();
  const handle = allocator.alloc(100);
  const view = handle.bytes;
  expect(() => allocator.close()).toThrow(expect.objectContaining({ code: "ERR_HOLDFAST_BUSY" }));
  view[0] = 1;
  allocator.close({ force: true });
  expect(view.length).toBe(0);
  expect(handle.freed).toBe(true);
  expect(() => allocator.alloc(1)).toThrow(
    expect.objectContaining({ code: "ERR_HOLDFAST_CLOSED" }),
  );
});

test("a small lease goes to another Worker by its token and comes back", async () => {
  const before = GlobalAllocator.shared.allocatedBytes;
  const handle = GlobalAllocator.shared.alloc(64);
  const { address } = handle;
  handle.bytes[0] = 10;
  const worker = new LeaseWorker();
  const { token } = await worker.ask<{ token: HandleToken }>({
    order: "giveBack",
    token: handle.transfer(),
  });
  using back = Handle.adopt(token);
  expect(back.address).toBe(address);
  expect(back.bytes[0]).toBe(11);
  back.free();
  expect(GlobalAllocator.shared.allocatedBytes).toBe(before);
  await worker.terminate();
});

test("pages are exact, aligned as asked, and low where they must be", () => {
  using allocator = new GlobalAllocator();
  expect(() => allocator.allocPagesLow(1)).toThrow(
    expect.objectContaining({ code: "ERR_HOLDFAST_OUT_OF_MEMORY" }),
  );
  expect(allocator.sections()).toEqual([]);
  allocator.addRegion(5 * 2 ** 20, { low: true });
  const [low] = allocator.sections();
  expect(low).toMatchObject({ low: true });
  expect(low?.byteLength).toBeGreaterThan(5 * 2 ** 20);
  expect((low?.address ?? 0) + (low?.byteLength ?? 0)).toBeLessThanOrEqual(2 ** 32);
  const pages = allocator.allocPages(5);
  expect(pages.byteLength).toBe(5 * 4096);
  expect(pages.capacity).toBe(5 * 4096);
  expect(pages.address).toBeGreaterThan(2 ** 32);
  pages.bytes.fill(1);
  const aligned = allocator.allocPages(3, 65536);
  expect(aligned.address % 65536).toBe(0);
  const inLow = allocator.allocPagesLow(7, 8192);
  expect(inLow.address % 8192).toBe(0);
  expect(inLow.address + inLow.byteLength).toBeLessThanOrEqual(2 ** 32);
  expect(inLow.bytes.every((byte) => byte === 0)).toBe(true);
  expect(allocator.managedBytes).toBe(
    allocator.sections().reduce((sum, section) => sum + section.byteLength, 0),
  );
  for (const handle of [pages, aligned, inLow]) handle.free();
  allocator.trim();
  expect(allocator.sections().map((section) => section.low)).toEqual([true]);
  expect(() => allocator.allocPages(0)).toThrow(
    expect.objectContaining({ code: "ERR_OUT_OF_RANGE" }),
  );
  expect(() => allocator.allocPages(1, 3)).toThrow(
    expect.objectContaining({ code: "ERR_OUT_OF_RANGE" }),
  );
  expect(() => allocator.addRegion(0)).toThrow(
    expect.objectContaining({ code: "ERR_OUT_OF_RANGE" }),
  );
});

test("the figures tell slots, slabs and peak; after a trim nothing is held", () => {
  using allocator = new GlobalAllocator();
  const handles = Array.from({ length: 1000 }, () => allocator.alloc(48));
  const full = allocator.stats();
  expect(full.slotsLive).toBe(1000);
  expect(full.slotsLiveBytes).toBeGreaterThanOrEqual(48_000);
  expect(full.slotsCapacity).toBeGreaterThanOrEqual(1000);
  expect(full.slabs).toBeGreaterThan(0);
  expect(full.peakBytes).toBeGreaterThan(0);
  for (const handle of handles) handle.free();
  expect(allocator.trim()).toBeGreaterThan(0);
  const empty = allocator.stats();
  expect(empty.slotsLive).toBe(0);
  expect(empty.sections).toBe(0);
  expect(allocator.trim()).toBe(0);
  allocator.resetPeak();
  expect(allocator.stats().peakBytes).toBe(0);
});
