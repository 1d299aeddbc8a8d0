/**
 * SmallHeap.wasm and its handles, through `holdfast/wasm`: what a handle promises elsewhere it
 * promises here, views are never stale, and nothing of it needs Bun.
 */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { HoldfastError, SmallHeap, type WasmHandle, type WasmHeap } from "holdfast/wasm";
import { generator } from "../bench/comparison.ts";
import { root } from "../scripts/toolchain.ts";

const page = 65_536;

function codeOf(action: () => unknown): string | undefined {
  try {
    action();
  } catch (error) {
    return (error as { code?: string }).code;
  }
}

test("a heap touches no page of a memory before the first request", () => {
  const memory = new WebAssembly.Memory({ initial: 0, maximum: 10 });
  const heap = SmallHeap.wasm({ memory });
  expect(memory.buffer.byteLength).toBe(0);
  expect(heap.stats()).toMatchObject({ inUse: 0, regions: 0, liveHandles: 0, mappedBytes: 0 });
  heap.alloc(10).free();
  expect(memory.buffer.byteLength).toBeGreaterThan(0);
  heap.close();
});

test("what others grew before the first request stays theirs", () => {
  for (const memory of [undefined, new WebAssembly.Memory({ initial: 1, maximum: 100 })]) {
    using heap = SmallHeap.wasm({ memory, initialPages: 2 });
    const at = heap.memory.grow(1) * page;
    const theirs = () => new Uint8Array(heap.memory.buffer, at, page);
    theirs().fill(7);
    for (let i = 0; i < 100; i += 1) heap.alloc(5000).bytes.fill(1);
    expect(theirs().every((byte) => byte === 7)).toBe(true);
    heap.close({ force: true });
  }
});

test("alloc is zero-filled, keeps what is written, and honours the alignment", () => {
  using heap = SmallHeap.wasm();
  for (const align of [1, 16, 64, 4096, page]) {
    const dirty = heap.allocUnsafe(1000, { align });
    dirty.bytes.fill(0xff);
    expect(dirty.address % align).toBe(0);
    dirty.free();
    const handle = heap.alloc(1000, { align });
    expect(handle.bytes.every((byte) => byte === 0)).toBe(true);
    expect(handle.byteLength).toBe(1000);
    expect(handle.capacity).toBe(1008);
    handle.free();
  }
});

test("views are made anew after growth, and are the same object before", () => {
  using heap = SmallHeap.wasm({ initialPages: 1 });
  const handle = heap.alloc(64);
  const before = handle.bytes;
  const old = before.buffer;
  expect(handle.bytes).toBe(before);
  handle.view(Float64Array, 8, 2).set([1.5, 2.5]);
  const big = heap.alloc(10 * page);
  // The memory has grown: the old buffer is detached, and the handle does not hand it out.
  expect(heap.memory.buffer).not.toBe(old);
  expect(before.length).toBe(0);
  expect(handle.bytes.length).toBe(64);
  expect(handle.bytes.buffer).toBe(heap.memory.buffer as ArrayBuffer);
  expect([...handle.view(Float64Array, 8, 2)]).toEqual([1.5, 2.5]);
  expect(handle.bytes).toBe(handle.bytes);
  // Growth by someone else is noticed as well.
  const stale = handle.bytes;
  heap.memory.grow(1);
  expect(handle.bytes).not.toBe(stale);
  expect(handle.view(DataView).getFloat64(8, true)).toBe(1.5);
  big.free();
  handle.free();
});

test("views are checked for bounds and alignment", () => {
  using heap = SmallHeap.wasm();
  const handle = heap.alloc(100);
  expect(codeOf(() => handle.view(Float64Array, 4))).toBe("ERR_OUT_OF_RANGE");
  expect(codeOf(() => handle.view(Uint8Array, 90, 11))).toBe("ERR_OUT_OF_RANGE");
  expect(codeOf(() => handle.view(String as never))).toBe("ERR_INVALID_ARG_TYPE");
  expect(handle.view(Uint16Array, 98).length).toBe(1);
});

test("a freed handle answers FREED, a second free DOUBLE_FREE, dispose nothing", () => {
  using heap = SmallHeap.wasm();
  const handle = heap.alloc(100);
  expect(handle.freed).toBe(false);
  expect(handle.free()).toBe("freed");
  expect(handle.freed).toBe(true);
  expect(codeOf(() => handle.bytes)).toBe("ERR_HOLDFAST_FREED");
  expect(codeOf(() => handle.address)).toBe("ERR_HOLDFAST_FREED");
  expect(codeOf(() => handle.view(Uint8Array))).toBe("ERR_HOLDFAST_FREED");
  expect(codeOf(() => handle.resize(5))).toBe("ERR_HOLDFAST_FREED");
  expect(codeOf(() => heap.realloc(handle, 5))).toBe("ERR_HOLDFAST_FREED");
  expect(codeOf(() => handle.free())).toBe("ERR_HOLDFAST_DOUBLE_FREE");
  handle[Symbol.dispose]();
  expect(heap.stats()).toMatchObject({ inUse: 0, liveHandles: 0, allocatedBytes: 0 });
});

test("what needs a system or another thread answers UNSUPPORTED", () => {
  using heap = SmallHeap.wasm();
  const handle = heap.alloc(100);
  const refused = [
    () => handle.lock(),
    () => handle.unlock(),
    () => handle.purge(),
    () => handle.prefetch(),
    () => handle.transfer(),
    () => heap.alloc(1, { lock: "try" } as never),
    () => heap.alloc(1, { pages: "thp" } as never),
    () => heap.alloc(1, { prefault: true } as never),
    () => heap.alloc(1, { views: "revoke" } as never),
  ];
  for (const action of refused) expect(codeOf(action)).toBe("ERR_HOLDFAST_UNSUPPORTED");
  heap.alloc(1, { views: "alias", pages: "auto", lock: "none", prefault: false } as never).free();
  expect(handle.locked).toBe(false);
  expect(handle.pageKind).toBe("base");
  expect(heap.stats().liveHandles).toBe(1);
});

test("realloc answers a new handle with the contents; the old one is freed", () => {
  using heap = SmallHeap.wasm();
  const old = heap.alloc(100);
  old.bytes.fill(7);
  const handle = heap.realloc(old, 100_000);
  expect(old.freed).toBe(true);
  expect(handle.bytes.subarray(0, 100).every((byte) => byte === 7)).toBe(true);
  expect(heap.stats()).toMatchObject({ inUse: 100_000, liveHandles: 1, allocatedBytes: 100_000 });
  const none = heap.realloc(handle, 0);
  expect([none.byteLength, none.address, none.bytes.length]).toEqual([0, 0, 0]);
  heap.realloc(none, 50).free();
  expect(heap.stats()).toMatchObject({ inUse: 0, liveHandles: 0, allocatedBytes: 0 });
  const other = SmallHeap.wasm();
  expect(codeOf(() => heap.realloc(other.alloc(1), 2))).toBe("ERR_HOLDFAST_FOREIGN");
});

test("resize moves the contents and keeps the handle; a refusal leaves it as it was", () => {
  using heap = SmallHeap.wasm({ maximumPages: 4 });
  const handle = heap.alloc(1000);
  const wall = heap.alloc(16);
  handle.bytes.fill(9);
  handle.resize(50_000);
  expect(handle.bytes.subarray(0, 1000).every((byte) => byte === 9)).toBe(true);
  expect(codeOf(() => handle.resize(10 * page))).toBe("ERR_HOLDFAST_LIMIT");
  expect(codeOf(() => heap.realloc(handle, 10 * page))).toBe("ERR_HOLDFAST_LIMIT");
  expect(handle.byteLength).toBe(50_000);
  expect(handle.bytes[999]).toBe(9);
  wall.free();
});

test("refusals name what was asked and the bound", () => {
  using heap = SmallHeap.wasm({ initialPages: 1, maximumPages: 2 });
  try {
    heap.alloc(5 * page);
    expect.unreachable();
  } catch (error) {
    expect(error).toBeInstanceOf(HoldfastError);
    expect(error).toMatchObject({
      code: "ERR_HOLDFAST_LIMIT",
      operation: "SmallHeap.alloc",
      requestedBytes: 5 * page,
    });
    expect((error as Error).message).toContain("128 KiB");
  }
  expect(codeOf(() => heap.alloc(2 ** 31))).toBe("ERR_HOLDFAST_SIZE_CLASS");
  expect(codeOf(() => heap.alloc(-1))).toBe("ERR_OUT_OF_RANGE");
  expect(codeOf(() => heap.alloc("1" as never))).toBe("ERR_INVALID_ARG_TYPE");
  expect(codeOf(() => heap.alloc(1, { align: 3 }))).toBe("ERR_OUT_OF_RANGE");
  const wrong: unknown[] = [
    { memory: {} },
    { initialPages: -1 },
    { maximumPages: 2, initialPages: 3 },
  ];
  for (const options of wrong) {
    expect(codeOf(() => SmallHeap.wasm(options as never))).toMatch(/^ERR_(OUT_OF|INVALID)/);
  }
  const full = new WebAssembly.Memory({ initial: 1, maximum: 1 });
  expect(codeOf(() => SmallHeap.wasm({ memory: full }).alloc(1))).toBe(
    "ERR_HOLDFAST_OUT_OF_MEMORY",
  );
});

test("a heap with live handles closes by force only, and its handles end", () => {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 20 });
  const heap = SmallHeap.wasm({ memory });
  const handles = [heap.alloc(100), heap.alloc(0), heap.alloc(50_000)];
  expect(codeOf(() => heap.close())).toBe("ERR_HOLDFAST_BUSY");
  heap.close({ force: true });
  expect(handles.map((handle) => handle.freed)).toEqual([true, true, true]);
  for (const handle of handles) handle[Symbol.dispose]();
  expect(codeOf(() => heap.alloc(1))).toBe("ERR_HOLDFAST_CLOSED");
  expect(codeOf(() => heap.stats())).toBe("ERR_HOLDFAST_CLOSED");
  heap.close();
});

test("figures have their names, print on one line, and the trip restarts", () => {
  using heap = SmallHeap.wasm();
  const one = heap.alloc(1000);
  heap.alloc(3000).free();
  expect(heap.stats()).toMatchObject({
    inUse: 1000,
    highWater: 4000,
    tripHighWater: 4000,
    regions: 1,
    allocatedWords: 256,
    allocatedBytes: 1000,
    liveHandles: 1,
    leakedHandles: 0,
  });
  heap.resetTrip();
  expect(heap.stats()).toMatchObject({ highWater: 4000, tripHighWater: 1000 });
  expect(heap.toString()).toStartWith("inUse=1000 highWater=4000 tripHighWater=1000 regions=1 ");
  expect(heap.toString()).not.toContain("\n");
  one.free();
});

test("a handle that is dropped comes back and is counted", async () => {
  using heap = SmallHeap.wasm();
  (() => {
    for (let i = 0; i < 100; i += 1) heap.alloc(1000);
  })();
  for (let i = 0; i < 100 && heap.stats().leakedHandles < 50; i += 1) {
    Bun.gc(true);
    await Bun.sleep(5);
  }
  const { leakedHandles, liveHandles, inUse } = heap.stats();
  expect(leakedHandles).toBeGreaterThanOrEqual(50);
  expect(liveHandles).toBe(100 - leakedHandles);
  expect(inUse).toBe(liveHandles * 1000);
});

test("random operations over a memory that others grow agree with a model", () => {
  const seed = Date.now() % 2 ** 31;
  const random = generator(seed);
  const below = (bound: number) => Math.floor(random() * bound);
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 200 });
  const heap: WasmHeap = SmallHeap.wasm({ memory });
  const live: { handle: WasmHandle; tag: number }[] = [];
  const intact = ({ handle, tag }: (typeof live)[number], length = handle.byteLength) =>
    handle.bytes.subarray(0, length).every((byte) => byte === tag);
  for (let step = 0; step < 3000; step += 1) {
    const what = below(10);
    if (what < 5) {
      const handle = heap.alloc(1 + below(4000), { align: 2 ** below(8) });
      const tag = 1 + below(255);
      handle.bytes.fill(tag);
      live.push({ handle, tag });
    } else if (what < 8 && live.length > 0) {
      const [entry] = live.splice(below(live.length), 1);
      expect(intact(entry!), `seed ${seed} step ${step}`).toBe(true);
      entry!.handle.free();
    } else if (what === 8 && live.length > 0) {
      const entry = live[below(live.length)]!;
      const kept = entry.handle.byteLength;
      const next = 1 + below(8000);
      entry.handle = heap.realloc(entry.handle, next);
      expect(intact(entry, Math.min(kept, next)), `seed ${seed} step ${step}`).toBe(true);
      entry.handle.bytes.fill(entry.tag);
    } else if (below(100) === 0) memory.grow(1);
  }
  const sum = live.reduce((total, { handle }) => total + handle.byteLength, 0);
  expect(heap.stats()).toMatchObject({ inUse: sum, liveHandles: live.length });
  for (const entry of live) {
    expect(intact(entry), `seed ${seed}`).toBe(true);
    entry.handle.free();
  }
  expect(heap.stats()).toMatchObject({ inUse: 0, allocatedWords: 0, liveHandles: 0 });
  heap.close();
});

test("the entry for browsers carries nothing of Bun or Node", async () => {
  const built = await Bun.build({ entrypoints: [join(root, "src/wasm.ts")], target: "browser" });
  expect(built.success).toBe(true);
  const text = await built.outputs[0]!.text();
  expect(text).not.toMatch(/"bun:|"node:|\bBun\.\w+\(|\bprocess\./);
});
