/** Nothing is lost: steady loops leave figures and mappings as they were, leaks are reported. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { alloc, allocUnsafe, type LeakReport, LargePool, leakReports, stats } from "holdfast";
import { codeOf, until } from "./fixtures/waiting.ts";

const MiB = 2 ** 20;
const linux = process.platform === "linux";

function mappings(): number {
  return readFileSync("/proc/self/maps", "utf8").split("\n").length;
}

test("10,000 cycles of every kind leave the figures where they were", () => {
  const cycle = (at: number): void => {
    const handle = alloc(1 + ((at * 7919) % (3 * MiB)));
    handle.bytes[0] = at;
    handle.free();
    const unseen = allocUnsafe(1 + ((at * 104729) % 100_000));
    unseen.resize(5000);
    unseen.free();
    const alias = allocUnsafe(1 + ((at * 31) % (3 * MiB)), { views: "alias" });
    alias.bytes[0] = at;
    alias.free();
  };
  for (let at = 0; at < 300; at++) cycle(at);
  const before = stats();
  for (let at = 0; at < 3400; at++) cycle(at);
  const after = stats();
  for (const name of ["allocatedBytes", "activeBytes", "liveHandles", "leakedHandles"] as const) {
    expect([name, after[name]]).toEqual([name, before[name]]);
  }
});

test.if(linux)("pools that come and go leave no mapping and no thread behind", async () => {
  const round = (): void => {
    using pool = new LargePool({ background: null });
    const handles = [pool.alloc(2 * MiB), pool.alloc(5000), pool.alloc(64 * MiB)];
    for (const handle of handles) handle.bytes[0] = 1;
    for (const handle of handles) handle.free();
  };
  for (let at = 0; at < 20; at++) round();
  const before = mappings();
  for (let at = 0; at < 200; at++) round();
  expect(mappings() - before).toBeLessThan(20);
});

test("live memory stays near what is asked for in a loop that never waits", () => {
  using pool = new LargePool({ limitBytes: 256 * MiB, background: null });
  for (let at = 0; at < 20_000; at++) {
    const handle = pool.allocUnsafe(4 * MiB);
    handle.bytes[0] = at;
    handle.free();
  }
  expect(pool.stats().residentBytes).toBeLessThan(64 * MiB);
  // Two seconds of collections, more on a busy machine.
}, 60_000);

test("leak reports name the allocation of a dropped handle, and only of that", async () => {
  const leaks: LeakReport[] = [];
  leakReports({ every: 1, report: (leak) => leaks.push(leak) });
  try {
    (function dropsHandles() {
      for (let at = 0; at < 20; at++) alloc(1234);
      for (let at = 0; at < 20; at++) alloc(777).bytes[0] = 1;
      for (let at = 0; at < 20; at++) alloc(555).free();
    })();
    await until("reports", () => leaks.length >= 38);
    expect(new Set(leaks.map((leak) => leak.byteLength))).toEqual(new Set([1234, 777]));
    for (const { stack } of leaks) expect(stack.split("\n")[0]).toContain("leak.test.ts");
  } finally {
    leakReports({ every: 0 });
  }
});

test("leak reports sample every n-th allocation and check their options", async () => {
  const leaks: LeakReport[] = [];
  leakReports({ every: 10, report: (leak) => leaks.push(leak) });
  (() => {
    for (let at = 0; at < 200; at++) alloc(100);
  })();
  await until("reports", () => leaks.length >= 18);
  expect(leaks.length).toBeLessThanOrEqual(20);
  leakReports({ every: 0 });
  expect(codeOf(() => leakReports({ every: -1 }))).toBe("ERR_OUT_OF_RANGE");
  expect(codeOf(() => leakReports(null as never))).toBe("ERR_INVALID_ARG_TYPE");
  expect(codeOf(() => leakReports({ every: 1, report: 1 as never }))).toBe("ERR_INVALID_ARG_TYPE");
});

test("a report that throws ends the reports and nothing else", async () => {
  let calls = 0;
  leakReports({
    every: 1,
    report: () => {
      calls++;
      throw new Error("in a report");
    },
  });
  (() => {
    for (let at = 0; at < 50; at++) alloc(100);
  })();
  await until("one report", () => calls === 1);
  const before = stats().liveHandles;
  (() => {
    for (let at = 0; at < 50; at++) alloc(100);
  })();
  await until("the leaks", () => stats().liveHandles <= before);
  expect(calls).toBe(1);
});
