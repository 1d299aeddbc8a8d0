/**
 * Alias mode: views that outlive their lease, by promise and within bounds. A kept view never
 * faults and sees later alias tenants of its pool and nothing else; it gives no protection against
 * I/O in flight, which the program awaits before it frees.
 */
import { expect, test } from "bun:test";
import { randomFill } from "node:crypto";
import { allocUnsafe, type Handle, LargePool, stats } from "holdfast";
import { codeOf, collect, until } from "./fixtures/waiting.ts";

const MiB = 2 ** 20;
const size = 2 * MiB;
const alias = { views: "alias" } as const;

function ownPool(options = {}): LargePool {
  return new LargePool({ background: null, ...options });
}

test("the same view object comes back when the same length is asked again", () => {
  for (const bytes of [5000, size, 3 * MiB]) {
    const first = allocUnsafe(bytes, alias);
    const view = first.bytes;
    expect(first.bytes).toBe(view);
    expect(view.length).toBe(bytes);
    expect(first.free()).toBe("freed");
    const second = allocUnsafe(bytes, alias);
    expect(second.bytes).toBe(view);
    expect(second.address).toBe(first.freed ? second.address : 0);
    second.free();
    const longer = allocUnsafe(bytes + 100, alias);
    expect(longer.bytes).not.toBe(view);
    expect(longer.bytes.length).toBe(bytes + 100);
    longer.free();
  }
});

test("a kept view stays readable and sees the next alias tenant of its memory", () => {
  const pool = ownPool();
  const first = pool.allocUnsafe(size, alias);
  const kept = first.bytes;
  const { address } = first;
  first.free();
  const second = pool.allocUnsafe(size, alias);
  expect(second.address).toBe(address);
  second.bytes[7] = 77;
  expect(kept[7]).toBe(77);
  second.free();
  pool.close();
});

test("a kept view never sees a revoke lease, nor a lease of another pool", () => {
  const pool = ownPool();
  const other = ownPool();
  const kept: Uint8Array[] = [];
  const addresses = new Set<number>();
  for (let at = 0; at < 32; at++) {
    const handle = pool.allocUnsafe(size, alias);
    kept.push(handle.bytes);
    addresses.add(handle.address);
    handle.bytes.fill(1);
    handle.free();
  }
  const leases: Handle[] = [];
  for (let at = 0; at < 64; at++) {
    leases.push(pool.alloc(size), other.alloc(size, at % 2 ? alias : {}));
  }
  for (const lease of leases) {
    expect(addresses.has(lease.address)).toBe(false);
    lease.bytes.fill(0xbb);
  }
  for (const view of kept) expect(view.indexOf(0xbb)).toBe(-1);
  for (const lease of leases) lease.free();
  pool.close();
  other.close();
});

test("small and large alias leases are zero-filled by alloc at that moment", () => {
  const pool = ownPool();
  for (const bytes of [100, 4096, 70_000, size]) {
    for (let round = 0; round < 3; round++) {
      const handle = pool.alloc(bytes, alias);
      expect(Buffer.compare(handle.bytes, new Uint8Array(bytes))).toBe(0);
      const kept = handle.bytes;
      handle.free();
      // A stale write after free: the next alloc clears it.
      kept.fill(0xcc);
    }
  }
  pool.close();
});

test("typed views lie on the same buffer, checked like any", () => {
  using handle = allocUnsafe(size, alias);
  const floats = handle.view(Float64Array, 8, 4);
  floats[0] = 1.5;
  expect(handle.view(DataView).getFloat64(8, true)).toBe(1.5);
  expect(floats.buffer).toBe(handle.bytes.buffer);
  expect(codeOf(() => handle.view(Float64Array, 4))).toBe("ERR_OUT_OF_RANGE");
  expect(codeOf(() => handle.view(Uint8Array, 0, size + 1))).toBe("ERR_OUT_OF_RANGE");
});

test("leases longer than 4 GiB come in windows", () => {
  const GiB = 2 ** 30;
  const pool = ownPool();
  const handle = pool.allocUnsafe(5 * GiB, alias);
  expect(codeOf(() => handle.bytes)).toBe("ERR_OUT_OF_RANGE");
  const end = handle.view(Uint32Array, 5 * GiB - 8, 2);
  end[1] = 9;
  expect(handle.view(Uint32Array, 5 * GiB - 8, 2)[1]).toBe(9);
  handle.view(Uint8Array, 0, 10)[0] = 1;
  expect(handle.free()).toBe("freed");
  pool.close({ force: true });
});

test("handles dropped without free come back, kept views keep them", async () => {
  const pool = ownPool();
  const before = stats().leakedHandles;
  let kept: Uint8Array | undefined;
  (() => {
    for (let at = 0; at < 100; at++) {
      pool.allocUnsafe(size, alias).bytes[0] = 1;
      pool.allocUnsafe(size, alias);
      pool.allocUnsafe(5000, alias).bytes[0] = 1;
      pool.allocUnsafe(5000, alias);
    }
    kept = pool.allocUnsafe(size, alias).bytes;
  })();
  expect(pool.stats().liveHandles).toBeGreaterThan(0);
  await until("the dropped ones", () => pool.stats().liveHandles === 1);
  expect(stats().leakedHandles - before).toBeGreaterThanOrEqual(400);
  await collect();
  expect(kept?.length).toBe(size);
  expect(pool.stats().liveHandles).toBe(1);
  kept = undefined;
  await until("the last", () => pool.stats().liveHandles === 0);
  pool.close();
});

test("a synchronous loop that drops every lease is served within the limit", () => {
  const pool = ownPool({ limitBytes: 64 * MiB });
  for (let at = 0; at < 2000; at++) pool.allocUnsafe(size, alias).bytes[0] = at;
  expect(pool.stats().liveHandles).toBeLessThanOrEqual(32);
  pool.close({ force: true });
});

test("a region whose buffer was given away serves nobody until it is let go", async () => {
  const pool = ownPool();
  let taken: Uint8Array | undefined;
  let address = 0;
  (() => {
    const handle = pool.allocUnsafe(size, alias);
    address = handle.address;
    const { buffer } = handle.bytes;
    taken = new Uint8Array(structuredClone(buffer, { transfer: [buffer] }));
    expect(codeOf(() => handle.view(Uint8Array))).toBe("ERR_HOLDFAST_BUSY");
    expect(codeOf(() => handle.resize(10))).toBe("ERR_HOLDFAST_BUSY");
    expect(handle.free()).toBe("closing");
  })();
  for (let at = 0; at < 40; at++) {
    const other = pool.allocUnsafe(size, alias);
    expect(other.address).not.toBe(address);
    other.bytes.fill(2);
    taken?.fill(3);
    expect(other.bytes.indexOf(3)).toBe(-1);
    if (at % 3 === 0) other.free();
  }
  expect(pool.stats().closingHandles).toBe(1);
  taken = undefined;
  await until("its deallocator", () => pool.stats().closingHandles === 0);
  pool.close({ force: true });
});

test("pages whose buffer was given away come back when it is let go", async () => {
  const pool = ownPool();
  let taken: ArrayBuffer | undefined;
  let address = 0;
  (() => {
    const handle = pool.allocUnsafe(5000, alias);
    address = handle.address;
    const { buffer } = handle.bytes;
    taken = structuredClone(buffer, { transfer: [buffer] });
    expect(handle.free()).toBe("closing");
    expect(codeOf(() => handle.free())).toBe("ERR_HOLDFAST_DOUBLE_FREE");
  })();
  const others = Array.from({ length: 20 }, () => pool.allocUnsafe(5000, alias));
  expect(others.some((other) => other.address === address)).toBe(false);
  for (const other of others) other.free();
  await collect(60);
  expect(taken?.byteLength).toBeGreaterThan(0);
  expect(pool.stats().liveHandles).toBe(1);
  taken = undefined;
  await until("its deallocator", () => pool.stats().liveHandles === 0);
  pool.close();
});

test("resize moves between regions and keeps the bytes", () => {
  const pool = ownPool();
  const handle = pool.allocUnsafe(5000, alias);
  handle.bytes.fill(4);
  for (const bytes of [size, size - 10, 8 * MiB, 100, 3 * MiB, 0, 4096]) {
    const both = Math.min(bytes, handle.byteLength);
    handle.resize(bytes);
    expect(handle.bytes.length).toBe(bytes);
    expect(handle.bytes.subarray(0, both).every((byte) => byte === 4)).toBe(true);
    handle.bytes.fill(4);
  }
  handle.free();
  expect(pool.stats().liveHandles).toBe(0);
  pool.close();
});

test("purged regions drop their wraps: a trim leaves no stale view on reused memory", async () => {
  const pool = ownPool();
  const views: Uint8Array[] = [];
  const held: Handle[] = [];
  for (let at = 0; at < 20; at++) held.push(pool.allocUnsafe(size, alias));
  for (const handle of held) {
    views.push(handle.bytes);
    handle.bytes.fill(1);
    handle.free();
  }
  pool.trim();
  await Bun.sleep(600);
  // Whatever the trim did with the wraps, a read of a kept view does not fault.
  for (const view of views) expect(view.length === 0 || view[0] === 0 || view[0] === 1).toBe(true);
  const again = pool.allocUnsafe(size, alias);
  expect(again.bytes.length).toBe(size);
  again.free();
  pool.close();
});

test("gives no protection against I/O in flight: what is not awaited writes into the next tenant", async () => {
  const pool = ownPool();
  const first = pool.allocUnsafe(size, alias);
  first.bytes.fill(0);
  const filling = new Promise<void>((resolve, reject) =>
    randomFill(first.bytes, (error) => (error ? reject(error) : resolve())),
  );
  expect(first.free()).toBe("freed");
  const second = pool.allocUnsafe(size, alias);
  await filling;
  // The documented price of the mode, seen: await I/O before free().
  expect(second.bytes.some((byte) => byte !== 0)).toBe(true);
  second.free();
  pool.close();
});
