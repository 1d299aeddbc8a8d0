/** Handles between Workers, and what is left of a Worker that ends. */
import { afterAll, expect, test } from "bun:test";
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { alloc, allocUnsafe, Handle, type HandleToken, stats, trim } from "holdfast";
import { LeaseWorker } from "./fixtures/lease_workers.ts";
import { codeOf, until } from "./fixtures/waiting.ts";

const MiB = 2 ** 20;
const folder = mkdtempSync(join(tmpdir(), "holdfast-workers-"));
afterAll(() => rmSync(folder, { recursive: true }));

test("a handle goes to a Worker and back without a copy", async () => {
  const worker = new LeaseWorker();
  for (const byteLength of [1, 4096, 3 * MiB]) {
    const handle = alloc(byteLength);
    const { address } = handle;
    handle.bytes[0] = 10;
    const kept = handle.bytes;
    const { token } = await worker.ask<{ token: HandleToken }>({
      order: "giveBack",
      token: handle.transfer(),
    });
    expect(kept.length).toBe(0);
    using back = Handle.adopt(token);
    expect(back.address).toBe(address);
    expect(back.bytes[0]).toBe(11);
    expect(back.byteLength).toBe(byteLength);
  }
  await worker.terminate();
});

test("of two Workers that adopt one token exactly one has it", async () => {
  const workers = [new LeaseWorker(), new LeaseWorker()] as const;
  for (let round = 0; round < 50; round++) {
    const token = alloc(4096).transfer();
    const answers = await Promise.all(
      workers.map((worker) =>
        worker.ask<{ code?: string; found?: number }>({ order: "adopt", token, mark: 1 }),
      ),
    );
    expect(answers.filter((answer) => answer.found === 0).length).toBe(1);
    expect(answers.filter((answer) => answer.code === "ERR_HOLDFAST_FREED").length).toBe(1);
    expect(codeOf(() => Handle.adopt(token))).toBe("ERR_HOLDFAST_FREED");
  }
  await Promise.all(workers.map((worker) => worker.terminate()));
});

test("memory made in a Worker that has ended since is adopted whole", async () => {
  const worker = new LeaseWorker();
  const { token } = await worker.ask<{ token: HandleToken }>({
    order: "make",
    byteLength: 2 * MiB,
    mark: 7,
  });
  await worker.terminate();
  using handle = Handle.adopt(token);
  expect(handle.bytes.every((byte) => byte === 7)).toBe(true);
});

test("two Workers in turn see each other's atomics", async () => {
  const workers = [new LeaseWorker(), new LeaseWorker()] as const;
  let token = alloc(4096).transfer();
  for (let round = 0; round < 10; round++) {
    for (const worker of workers) {
      ({ token } = await worker.ask<{ token: HandleToken }>({ order: "add", token, count: 1000 }));
    }
  }
  using handle = Handle.adopt(token);
  expect(handle.view(Int32Array)[0]).toBe(20_000);
  await Promise.all(workers.map((worker) => worker.terminate()));
});

for (const way of ["terminate", "process.exit"] as const) {
  test(`a Worker that ends by ${way} gives back what it leased, seen or not`, async () => {
    const before = stats();
    const worker = new LeaseWorker();
    const hold = { order: "hold", count: 100 } as const;
    await worker.ask({ ...hold, byteLength: 5000, viewed: false });
    await worker.ask({ ...hold, byteLength: 5000, viewed: true });
    await worker.ask({ ...hold, byteLength: 2 * MiB, viewed: true });
    await worker.ask({ ...hold, byteLength: 2 * MiB, viewed: false, alias: true });
    await worker.ask({ ...hold, byteLength: 2 * MiB, viewed: true, alias: true });
    await worker.ask({ ...hold, byteLength: 5000, viewed: true, alias: true });
    expect(stats().liveHandles - before.liveHandles).toBe(600);
    if (way === "terminate") {
      await worker.terminate();
    } else {
      worker.tell({ order: "exit" });
      await worker.closed;
    }
    await until("its leases", () => stats().liveHandles === before.liveHandles);
    expect(stats().leakedHandles - before.leakedHandles).toBe(600);
    expect(stats().threads).toBe(before.threads);
  });
}

test("a token that a Worker never adopted is visible, and reclaimed by trim after its maker's end", async () => {
  const before = stats();
  const worker = new LeaseWorker();
  await worker.ask<{ token: HandleToken }>({ order: "make", byteLength: 4096, mark: 1 });
  expect(stats().pendingTokens - before.pendingTokens).toBe(1);
  trim();
  expect(stats().pendingTokens - before.pendingTokens).toBe(1);
  await worker.terminate();
  await until("the end of its thread", () => stats().threads === before.threads);
  trim();
  expect(stats().pendingTokens).toBe(before.pendingTokens);
});

test("a Worker terminated while it spins on leases leaves nothing", async () => {
  const before = stats();
  for (let round = 0; round < 5; round++) {
    const worker = new LeaseWorker();
    await worker.ask({ order: "spin" });
    await worker.terminate();
  }
  await until("its leases", () => stats().liveHandles === before.liveHandles);
});

test("memory that a terminated Worker still reads into is not handed out", async () => {
  const before = stats();
  const path = join(folder, "pipe");
  Bun.spawnSync(["mkfifo", path]);
  const descriptor = openSync(path, "r+");
  const worker = new LeaseWorker();
  const byteLength = 2 * MiB;
  const { address } = await worker.ask<{ address: number }>({
    order: "read",
    path,
    byteLength,
    free: true,
  });
  const ending = worker.terminate();
  await Bun.sleep(50);
  const others = Array.from({ length: 32 }, () => allocUnsafe(byteLength));
  expect(others.some((other) => other.address === address)).toBe(false);
  for (const other of others) other.bytes.fill(0);
  writeSync(descriptor, new Uint8Array(16).fill(0xee));
  await ending;
  for (const other of others) expect(other.bytes.indexOf(0xee)).toBe(-1);
  for (const other of others) other.free();
  await until("the read", () => stats().closingHandles === before.closingHandles);
  closeSync(descriptor);
});

test("Workers that come and go leave no thread record in use", async () => {
  const before = stats();
  for (let round = 0; round < 5; round++) {
    const workers = Array.from({ length: 8 }, () => new LeaseWorker());
    const hold = { order: "hold", count: 3, byteLength: 70_000, viewed: true } as const;
    await Promise.all(workers.map((worker) => worker.ask(hold)));
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
  await until("their leases", () => stats().liveHandles === before.liveHandles);
  expect(stats().threads).toBe(before.threads);
});
