/** LargePool from TypeScript: options, limit, figures, close. Its inside is tested in Zig. */
import { describe, expect, test } from "bun:test";
import { alloc, Handle, LargePool, stats, trim } from "holdfast";
import { codeOf, until } from "./fixtures/waiting.ts";

const MiB = 2 ** 20;

test("there are 16 size classes from 2 MiB to 64 GiB, each with a row of figures", () => {
  using pool = new LargePool();
  expect(LargePool.sizeClasses).toEqual(Array.from({ length: 16 }, (_, at) => 2 ** (21 + at)));
  const { classes } = pool.stats();
  expect(classes.map((row) => row.classBytes)).toEqual([...LargePool.sizeClasses]);
  const names =
    "classBytes areas areaTotalBytes freeRegions cleanRegions globalRegions threadRegions " +
    "allocations slowPath refill deallocations clearEagerTotal clearSlowTotal";
  for (const row of classes) {
    expect(Object.keys(row)).toEqual(names.split(" "));
    expect(Object.values(row).every((value) => typeof value === "number")).toBe(true);
  }
});

test("figures follow leases and frees", () => {
  using pool = new LargePool({ background: null });
  const handles = [pool.alloc(3 * MiB), pool.alloc(2 * MiB + 1), pool.alloc(5 * MiB - 7)];
  const during = pool.stats();
  expect(during.liveHandles).toBe(3);
  expect(during.allocatedBytes).toBe(10 * MiB - 6);
  expect(during.activeBytes).toBe(10 * MiB + 4096);
  expect(during.mappedBytes).toBeGreaterThanOrEqual(during.activeBytes);
  expect(during.classes[1]?.allocations).toBe(2);
  expect(during.classes[2]?.allocations).toBe(1);
  for (const handle of handles) handle.free();
  const after = pool.stats();
  expect(after.liveHandles).toBe(0);
  expect(after.allocatedBytes).toBe(0);
  expect(after.activeBytes).toBe(0);
  expect(after.classes[1]?.deallocations).toBe(2);
});

test("LargePool.shared is one pool, serves alloc, and is not closed", () => {
  expect(LargePool.shared).toBe(LargePool.shared);
  const before = LargePool.shared.stats().liveHandles;
  const handle = alloc(2 * MiB);
  expect(LargePool.shared.stats().liveHandles).toBe(before + 1);
  handle.free();
  expect(codeOf(() => LargePool.shared.close())).toBe("ERR_HOLDFAST_UNSUPPORTED");
  expect(codeOf(() => LargePool.shared.close({ force: true }))).toBe("ERR_HOLDFAST_UNSUPPORTED");
  LargePool.shared[Symbol.dispose]();
  alloc(1).free();
});

describe("limitBytes", () => {
  test("bounds page-rounded leases, frees make room, and the error has the numbers", () => {
    using pool = new LargePool({ limitBytes: 16 * MiB, background: null });
    const handles: Handle[] = [];
    for (let at = 0; at < 8; at++) handles.push(pool.allocUnsafe(2 * MiB));
    expect(codeOf(() => pool.allocUnsafe(2 * MiB))).toBe("ERR_HOLDFAST_LIMIT");
    expect(() => pool.allocUnsafe(2 * MiB)).toThrow(/2 MiB.*16 MiB/);
    expect(codeOf(() => pool.allocUnsafe(1))).toBe("ERR_HOLDFAST_LIMIT");
    handles.pop()?.free();
    handles.push(pool.allocUnsafe(2 * MiB));
    for (const handle of handles) handle.free();
    // Cached memory of one class does not stand in the way of another.
    pool.allocUnsafe(16 * MiB).free();
  });

  test("can be changed and lifted", () => {
    using pool = new LargePool({ limitBytes: 2 * MiB, background: null });
    const first = pool.allocUnsafe(2 * MiB);
    expect(codeOf(() => pool.allocUnsafe(2 * MiB))).toBe("ERR_HOLDFAST_LIMIT");
    pool.configure({ limitBytes: 4 * MiB });
    expect(pool.stats().limitBytes).toBe(4 * MiB);
    const second = pool.allocUnsafe(2 * MiB);
    pool.configure({ limitBytes: null });
    expect(pool.stats().limitBytes).toBeLessThan(0);
    const third = pool.allocUnsafe(64 * MiB);
    for (const handle of [first, second, third]) handle.free();
  });
});

test("a pool that is switched off refuses and can be switched on", () => {
  using pool = new LargePool({ enabled: false });
  expect(codeOf(() => pool.alloc(2 * MiB))).toBe("ERR_HOLDFAST_DISABLED");
  pool.configure({ enabled: true });
  pool.alloc(2 * MiB).free();
  pool.configure({ enabled: false });
  expect(codeOf(() => pool.alloc(2 * MiB))).toBe("ERR_HOLDFAST_DISABLED");
});

test("trim gives back what was resident, and called again gives 0", () => {
  using pool = new LargePool({ background: null });
  const handles = Array.from({ length: 4 }, () => pool.allocUnsafe(4 * MiB));
  for (const handle of handles) handle.bytes.fill(1);
  for (const handle of handles) handle.free();
  expect(pool.trim()).toBeGreaterThanOrEqual(16 * MiB);
  expect(pool.trim()).toBe(0);
  expect(pool.stats().residentBytes).toBe(0);
  expect(trim()).toBeGreaterThanOrEqual(0);
});

test("the background purges what stays unused, by the clock alone", async () => {
  using pool = new LargePool({ background: { intervalMs: 10 }, localBufferBytes: 0 });
  const handles = Array.from({ length: 8 }, () => pool.allocUnsafe(2 * MiB));
  for (const handle of handles) handle.bytes.fill(1);
  for (const handle of handles) handle.free();
  await until("the purge", () => pool.stats().residentBytes === 0);
});

test("the scrubber zeroes dirty regions in idle time", async () => {
  using pool = new LargePool({
    background: { intervalMs: 5, purgeBytes: 0, scrubBytes: 64 * MiB },
    localBufferBytes: 0,
  });
  const handles = Array.from({ length: 4 }, () => pool.allocUnsafe(2 * MiB));
  for (const handle of handles) handle.bytes.fill(1);
  for (const handle of handles) handle.free();
  await until("the scrubber", () => pool.stats().scrubbedRegions >= 1);
  const handle = pool.alloc(2 * MiB);
  expect(Buffer.compare(handle.bytes, new Uint8Array(2 * MiB))).toBe(0);
  handle.free();
});

test("options are checked and named", () => {
  const type = "ERR_INVALID_ARG_TYPE";
  const range = "ERR_OUT_OF_RANGE";
  const made = (options: object) => codeOf(() => new LargePool(options as never));
  expect(codeOf(() => new LargePool(5 as never))).toBe(type);
  expect(made({ enabled: 1 })).toBe(type);
  expect(made({ limitBytes: -1 })).toBe(range);
  expect(made({ limitBytes: "1" })).toBe(type);
  expect(made({ localBufferBytes: 1.5 })).toBe(range);
  expect(made({ growthDampener: -1 })).toBe(range);
  expect(made({ eagerReturn: "yes" })).toBe(type);
  expect(made({ pages: "large" })).toBe(range);
  expect(made({ fork: "share" })).toBe(range);
  expect(made({ background: 5 })).toBe(type);
  expect(made({ background: { intervalMs: 0 } })).toBe(range);
  expect(made({ background: { lazy: 1 } })).toBe(type);
  expect(made({ gcHeadroomBytes: -1 })).toBe(range);
  expect(() => new LargePool({ background: { purgeBytes: -5 } })).toThrow(/background.purgeBytes/);
});

test("configure keeps what is not given", () => {
  using pool = new LargePool({ limitBytes: 8 * MiB, background: null });
  pool.configure({ eagerReturn: true });
  expect(pool.stats().limitBytes).toBe(8 * MiB);
  pool.configure({ background: { lazy: true } });
  pool.configure({ background: null });
});

test("gcHeadroomBytes holds an untouched ArrayBuffer for as long as the pool is open", () => {
  const rss = process.memoryUsage().rss;
  const pool = new LargePool({ gcHeadroomBytes: 64 * MiB });
  expect(pool.gcHeadroomBytes).toBe(64 * MiB);
  expect(process.memoryUsage().rss - rss).toBeLessThan(32 * MiB);
  pool.configure({ gcHeadroomBytes: 0 });
  expect(pool.gcHeadroomBytes).toBe(0);
  pool.close();
});

test("using closes a pool; a closed one answers CLOSED", () => {
  let closed: LargePool;
  {
    using pool = new LargePool();
    closed = pool;
    pool.alloc(4096);
  }
  expect(codeOf(() => closed.alloc(1))).toBe("ERR_HOLDFAST_CLOSED");
  expect(codeOf(() => closed.stats())).toBe("ERR_HOLDFAST_CLOSED");
  expect(codeOf(() => closed.trim())).toBe("ERR_HOLDFAST_CLOSED");
  expect(codeOf(() => closed.configure({}))).toBe("ERR_HOLDFAST_CLOSED");
  expect(codeOf(() => closed.close())).toBeUndefined();
});

test("a token reaches the same pool from elsewhere", () => {
  using pool = new LargePool({ limitBytes: 4 * MiB, background: null });
  const attached = LargePool.attach(structuredClone(pool.share()));
  const handle = attached.alloc(4 * MiB);
  expect(pool.stats().liveHandles).toBe(1);
  expect(codeOf(() => pool.alloc(1))).toBe("ERR_HOLDFAST_LIMIT");
  const { bytes } = handle;
  attached.close({ force: true });
  expect(bytes.length).toBe(0);
  expect(codeOf(() => pool.stats())).toBe("ERR_HOLDFAST_CLOSED");
  expect(codeOf(() => LargePool.attach(pool.share()))).toBe("ERR_HOLDFAST_CLOSED");
  expect(codeOf(() => LargePool.attach({} as never))).toBe("ERR_INVALID_ARG_TYPE");
});

test("pools come and go without an end", () => {
  for (let round = 0; round < 1000; round++) {
    const pool = new LargePool({ background: null });
    pool.alloc(4096).free();
    pool.close();
  }
  expect(stats().pools).toBeLessThan(100);
});

test("stats() has the figures of the whole process, as plain numbers", () => {
  const names =
    "allocatedBytes activeBytes mappedBytes retainedBytes residentBytes lockedBytes hugeBytes " +
    "lazyFreeBytes metadataBytes liveHandles leakedHandles closingHandles pendingTokens mappings " +
    "systemRefusals";
  const before = stats();
  for (const name of names.split(" ")) {
    expect(typeof before[name as keyof typeof before]).toBe("number");
  }
  const handle = alloc(4 * MiB, { prefault: true });
  const token = handle.transfer();
  const during = stats();
  expect(during.pendingTokens - before.pendingTokens).toBe(1);
  expect(during.allocatedBytes - before.allocatedBytes).toBe(4 * MiB);
  expect(during.retainedBytes).toBe(during.mappedBytes - during.activeBytes);
  const kernel = stats({ resident: true });
  expect(kernel.residentBytes).toBeGreaterThanOrEqual(4 * MiB);
  expect(token.byteLength).toBe(4 * MiB);
  Handle.adopt(token).free();
  expect(stats().pendingTokens).toBe(before.pendingTokens);
});
