/** The reclaiming allocator by its class: slots, pass-through, reclaim, backends, its own policy. */
import { expect, test } from "bun:test";
import { GlobalAllocator, type Handle, LargePool, ReclaimingAllocator } from "holdfast";
import { codeOf, until } from "./fixtures/waiting.ts";

test("slots are powers of two, aligned to themselves, and zero where asked", () => {
  using allocator = new ReclaimingAllocator();
  for (const [length, slot] of [
    [1, 16],
    [17, 32],
    [100, 128],
    [4096, 4096],
  ] as const) {
    const handle = allocator.alloc(length);
    expect(handle.capacity).toBe(slot);
    expect(handle.address % slot).toBe(0);
    expect(handle.bytes.every((byte) => byte === 0)).toBe(true);
    handle.bytes.fill(1);
    handle.free();
    expect(codeOf(() => handle.free())).toBe("ERR_HOLDFAST_DOUBLE_FREE");
  }
  const { classes, passedTotal } = allocator.stats();
  expect(classes.map((row) => row.slotBytes)).toEqual([
    16, 32, 64, 128, 256, 512, 1024, 2048, 4096,
  ]);
  expect(passedTotal).toBe(0);
});

test("longer requests pass through and are counted", () => {
  using allocator = new ReclaimingAllocator();
  const handle = allocator.alloc(5000);
  expect(allocator.stats()).toMatchObject({ passed: 1, passedTotal: 1 });
  handle.bytes.fill(3);
  handle.free();
  // Its memory is kept with its buffer for a moment.
  allocator.trim();
  expect(allocator.stats()).toMatchObject({ passed: 0, passedTotal: 1, passedBytes: 0 });
  using large = new ReclaimingAllocator({ maxSlotBytes: 2097152 });
  const slot = large.alloc(5000);
  expect(slot.capacity).toBe(8192);
  expect(large.stats().passedTotal).toBe(0);
  slot.free();
});

test("after reclaim nothing is held, metadata included, and it can be used again", () => {
  for (const backend of [undefined, new LargePool(), new GlobalAllocator()]) {
    using allocator = new ReclaimingAllocator(backend === undefined ? {} : { backend });
    for (let round = 0; round < 3; round++) {
      const handles: Handle[] = [];
      for (let at = 0; at < 3000; at++) {
        const handle = allocator.allocUnsafe(16 << (at % 9));
        handle.bytes.fill(at);
        handles.push(handle);
      }
      for (const [at, handle] of handles.entries()) {
        expect(handle.bytes[handle.byteLength - 1]).toBe(at & 255);
      }
      expect(allocator.stats().allocatedBytes).toBe(
        handles.reduce((sum, handle) => sum + handle.byteLength, 0),
      );
      for (const handle of handles) handle.free();
      // Short leases may be parked with their buffers for a moment: trim() lets them go.
      allocator.trim();
      allocator.reclaim();
      expect(allocator.stats()).toMatchObject({
        allocatedFromFallback: 0,
        allocatedMetadata: 0,
        inUse: 0,
        liveHandles: 0,
      });
      expect(allocator.reclaim()).toBe(0);
    }
    allocator.close();
    backend?.close();
  }
});

test("realloc stays in place within a slot, else moves the contents", () => {
  using allocator = new ReclaimingAllocator();
  let handle = allocator.alloc(70);
  handle.bytes.fill(9);
  const { address } = handle;
  handle = allocator.realloc(handle, 128);
  expect(handle.address).toBe(address);
  handle = allocator.realloc(handle, 10_000);
  expect([...handle.bytes.subarray(0, 70)]).toEqual(new Array(70).fill(9));
  handle.free();
});

test("it reclaims by itself where asked to", async () => {
  using allocator = new ReclaimingAllocator({ reclaimEveryMs: 20, minSlackBytes: 4096 });
  const handles = Array.from({ length: 5000 }, () => allocator.allocUnsafe(256));
  for (const handle of handles) handle.free();
  await until("a reclaim", () => allocator.stats().allocatedFromFallback < 256 * 100, 5000);
});

test("wrong options are named", () => {
  expect(codeOf(() => new ReclaimingAllocator({ maxSlotBytes: 8192 as 4096 }))).toBe(
    "ERR_OUT_OF_RANGE",
  );
  expect(codeOf(() => new ReclaimingAllocator({ backend: {} as LargePool }))).toBe(
    "ERR_INVALID_ARG_TYPE",
  );
  const closed = new LargePool();
  closed.close();
  expect(codeOf(() => new ReclaimingAllocator({ backend: closed }))).toBe("ERR_HOLDFAST_CLOSED");
});

test("a backend is BUSY while it is divided, and closes when the allocator over it has", () => {
  const backend = new GlobalAllocator();
  const allocator = new ReclaimingAllocator({ backend });
  const handle = allocator.alloc(100);
  expect(codeOf(() => backend.close())).toBe("ERR_HOLDFAST_BUSY");
  expect(codeOf(() => backend.close({ force: true }))).toBe("ERR_HOLDFAST_BUSY");
  handle.bytes[0] = 1;
  handle.free();
  allocator.close();
  backend.close();
});
