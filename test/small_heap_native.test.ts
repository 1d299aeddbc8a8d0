/**
 * The native SmallHeap: small objects behind handles, its limit, its figures, and pages that go back.
 */
import { expect, test } from "bun:test";
import { type Handle, SmallHeap } from "holdfast";
import { generator } from "../bench/comparison.ts";

const mib = 2 ** 20;

function codeOf(action: () => unknown): string | undefined {
  try {
    action();
  } catch (error) {
    return (error as { code?: string }).code;
  }
}

test("small leases lie side by side and keep what is written", () => {
  using heap = new SmallHeap({ limitBytes: mib });
  const handles = Array.from({ length: 100 }, (_, i) => {
    const handle = heap.alloc(40);
    handle.bytes.fill(i);
    return handle;
  });
  expect((handles[1] as Handle).address - (handles[0] as Handle).address).toBe(64);
  for (const [i, handle] of handles.entries()) {
    expect(handle.bytes.every((byte) => byte === i)).toBe(true);
    expect(handle.capacity).toBe(48);
    expect(handle.free()).toBe("freed");
  }
  // Some of them wait for the next of their length; a trim ends that.
  heap.trim();
  expect(heap.stats()).toMatchObject({ inUse: 0, allocatedBytes: 0, liveHandles: 0, fragments: 0 });
});

test("views are empty after free, as everywhere", () => {
  using heap = new SmallHeap();
  const handle = heap.alloc(100);
  const { bytes } = handle;
  handle.free();
  expect(bytes.length).toBe(0);
  expect(codeOf(() => handle.free())).toBe("ERR_HOLDFAST_DOUBLE_FREE");
  expect(codeOf(() => handle.bytes)).toBe("ERR_HOLDFAST_FREED");
});

test("the limit is kept, and a refusal names it", () => {
  using heap = new SmallHeap({ limitBytes: mib });
  const handle = heap.alloc(700_000);
  expect(codeOf(() => heap.alloc(700_000))).toBe("ERR_HOLDFAST_LIMIT");
  handle.free();
  heap.alloc(700_000).free();
  expect(heap.stats().limitBytes).toBe(mib);
});

test("pages go back on trim, and none the second time", () => {
  using heap = new SmallHeap({ limitBytes: 16 * mib });
  const handle = heap.alloc(8 * mib);
  handle.bytes.fill(1);
  handle.free();
  expect(heap.trim()).toBeGreaterThan(7 * mib);
  expect(heap.trim()).toBe(0);
});

test("realloc moves the contents or grows in place; the old handle is over", () => {
  using heap = new SmallHeap({ limitBytes: 4 * mib });
  const old = heap.alloc(100);
  old.bytes.fill(7);
  const handle = heap.realloc(old, 100_000);
  expect(old.freed).toBe(true);
  expect(handle.bytes.subarray(0, 100).every((byte) => byte === 7)).toBe(true);
  expect(codeOf(() => heap.realloc(handle, 8 * mib))).toBe("ERR_HOLDFAST_LIMIT");
  expect(handle.byteLength).toBe(100_000);
  handle.free();
});

test("figures count bytes requested, print on one line, and the trip restarts", () => {
  using heap = new SmallHeap();
  expect(heap.stats()).toMatchObject({ inUse: 0, regions: 0, totalWords: 0, residentBytes: 0 });
  const one = heap.alloc(1001);
  heap.alloc(3000).free();
  expect(heap.stats()).toMatchObject({ inUse: 1001, highWater: 4001, tripHighWater: 4001 });
  heap.resetTrip();
  expect(heap.stats()).toMatchObject({ highWater: 4001, tripHighWater: 1001, liveBlocks: 1 });
  expect(heap.toString()).toStartWith("inUse=1001 highWater=4001 tripHighWater=1001 regions=1 ");
  expect(heap.toString()).not.toContain("\n");
  one.free();
});

test("a heap with live handles closes by force only, and its views are empty", () => {
  const heap = new SmallHeap({ limitBytes: mib });
  const handle = heap.alloc(100);
  const { bytes } = handle;
  expect(codeOf(() => heap.close())).toBe("ERR_HOLDFAST_BUSY");
  heap.close({ force: true });
  expect(bytes.length).toBe(0);
  expect(codeOf(() => heap.alloc(1))).toBe("ERR_HOLDFAST_CLOSED");
  expect(codeOf(() => heap.stats())).toBe("ERR_HOLDFAST_CLOSED");
});

test("bad options are refused by name", () => {
  expect(codeOf(() => new SmallHeap({ limitBytes: -1 }))).toBe("ERR_OUT_OF_RANGE");
  expect(codeOf(() => new SmallHeap({ limitBytes: "1" as never }))).toBe("ERR_INVALID_ARG_TYPE");
  expect(codeOf(() => SmallHeap.attach({} as never))).toBe("ERR_INVALID_ARG_TYPE");
});

test("SmallHeap.wasm makes the kind that lives in a WebAssembly memory", () => {
  using heap = SmallHeap.wasm({ initialPages: 1 });
  const handle = heap.alloc(10);
  expect(handle.bytes.buffer).toBe(heap.memory.buffer as ArrayBuffer);
  handle.free();
});

test("random leases agree with a model", () => {
  const seed = Date.now() % 2 ** 31;
  const random = generator(seed);
  const below = (bound: number) => Math.floor(random() * bound);
  using heap = new SmallHeap({ limitBytes: 8 * mib });
  const live: { handle: Handle; tag: number }[] = [];
  for (let step = 0; step < 3000; step += 1) {
    if (below(5) < 3 || live.length === 0) {
      const handle = heap.alloc(1 + below(1 << (4 + below(12))), { align: 2 ** below(10) });
      const tag = 1 + below(255);
      handle.bytes.fill(tag);
      live.push({ handle, tag });
      continue;
    }
    const [{ handle, tag }] = live.splice(below(live.length), 1) as [(typeof live)[number]];
    expect(
      handle.bytes.every((byte) => byte === tag),
      `seed ${seed} step ${step}`,
    ).toBe(true);
    handle.free();
  }
  const sum = live.reduce((total, { handle }) => total + handle.byteLength, 0);
  expect(heap.stats()).toMatchObject({ inUse: sum, allocatedBytes: sum });
  for (const { handle } of live) handle.free();
  heap.trim();
  expect(heap.stats()).toMatchObject({ inUse: 0, allocatedWords: 0 });
});
