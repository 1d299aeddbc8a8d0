/**
 * The end of a lease: memory in use by I/O or given away stays until its deallocator has run, and
 * comes back by itself. The five ways to give a buffer away are those of docs/lifetimes.md.
 */
import { afterAll, describe, expect, test } from "bun:test";
import { closeSync, openSync, read, write } from "node:fs";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import { alloc, type Handle, LargePool } from "holdfast";
import { codeOf, collect, until } from "./fixtures/waiting.ts";

const MiB = 2 ** 20;
const size = 2 * MiB;
const folder = mkdtempSync(join(tmpdir(), "holdfast-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** A pool whose memory a test can count, without purging behind its back. */
function ownPool(): LargePool {
  return new LargePool({ background: null });
}

/** A named pipe; a read of it waits until `release` writes. */
function makePipe(name: string): { descriptor: number; release(bytes: Uint8Array): void } {
  const path = join(folder, name);
  Bun.spawnSync(["mkfifo", path]);
  const descriptor = openSync(path, "r+");
  return {
    descriptor,
    release(bytes) {
      write(descriptor, bytes, () => {});
    },
  };
}

/** Starts a read that pins the view until the pipe is written. */
function startRead(descriptor: number, view: Uint8Array): Promise<number> {
  return new Promise((resolve, reject) => {
    read(descriptor, view, 0, view.length, null, (error, bytes) =>
      error ? reject(error) : resolve(bytes),
    );
  });
}

describe("a pinned handle", () => {
  test("is closing, is not handed out, and comes back when the read is over", async () => {
    const pool = ownPool();
    const pipe = makePipe("pinned");
    const handle = pool.allocUnsafe(size);
    const { address } = handle;
    const view = handle.bytes;
    const reading = startRead(pipe.descriptor, view);
    await Bun.sleep(10);
    expect(handle.free()).toBe("closing");
    expect(handle.freed).toBe(true);
    expect(codeOf(() => handle.free())).toBe("ERR_HOLDFAST_DOUBLE_FREE");
    expect(pool.stats().closingHandles).toBe(1);
    expect(view.length).toBe(size);
    const others: Handle[] = [];
    for (let at = 0; at < 64; at++) others.push(pool.allocUnsafe(size));
    expect(others.some((other) => other.address === address)).toBe(false);
    for (const other of others) other.bytes.fill(0x55);
    await collect();
    expect(pool.stats().closingHandles).toBe(1);
    pipe.release(new Uint8Array([1, 2, 3, 4]));
    expect(await reading).toBe(4);
    // The program still holds the view; only the retry can bring the memory back.
    await until("the retry", () => pool.stats().closingHandles === 0);
    expect(view.length).toBe(0);
    expect(others.every((other) => other.bytes[0] === 0x55)).toBe(true);
    for (const other of others) other.free();
    closeSync(pipe.descriptor);
    pool.close();
  });

  test("is BUSY for resize and transfer, and stays as it was", async () => {
    const pipe = makePipe("busy");
    const handle = alloc(size);
    const view = handle.bytes;
    const reading = startRead(pipe.descriptor, view);
    await Bun.sleep(10);
    expect(codeOf(() => handle.resize(2 * size))).toBe("ERR_HOLDFAST_BUSY");
    expect(codeOf(() => handle.transfer())).toBe("ERR_HOLDFAST_BUSY");
    expect(handle.byteLength).toBe(size);
    expect(handle.bytes).toBe(view);
    pipe.release(new Uint8Array([42]));
    await reading;
    expect(handle.bytes[0]).toBe(42);
    handle.resize(2 * size);
    expect(handle.bytes[0]).toBe(42);
    closeSync(pipe.descriptor);
    expect(handle.free()).toBe("freed");
  });

  test("that many reads pin come back within the budget of one timer", async () => {
    const pool = ownPool();
    const work: Promise<unknown>[] = [];
    const views: Uint8Array[] = [];
    for (let at = 0; at < 50; at++) {
      const handle = pool.alloc(size);
      views.push(handle.bytes);
      work.push(promisify(gzip)(handle.bytes));
      handle.free();
    }
    await Promise.all(work);
    await until("all of them", () => pool.stats().closingHandles === 0);
    expect(views.every((view) => view.length === 0)).toBe(true);
    pool.close();
  });
});

/** Ways to give a handle's ArrayBuffer away before `free()`; each answers who has it then. */
const waysToMove: Record<string, (view: Uint8Array<ArrayBuffer>) => unknown> = {
  "structuredClone with transfer": (view) =>
    structuredClone(view.buffer, { transfer: [view.buffer] }),
  "postMessage with transfer": (view) => {
    const { port1, port2 } = new MessageChannel();
    const got: { buffer?: ArrayBuffer } = {};
    port2.onmessage = ({ data }) => {
      got.buffer = data;
      port1.close();
    };
    port1.postMessage(view.buffer, [view.buffer]);
    return got;
  },
  "ArrayBuffer.transfer": (view) => view.buffer.transfer(),
  "enqueue on a byte stream": (view) => {
    const stream = new ReadableStream({
      type: "bytes",
      start(controller) {
        controller.enqueue(view);
      },
    });
    return stream;
  },
  "a BYOB read": (view) => {
    const stream = new ReadableStream({ type: "bytes" });
    return { reading: stream.getReader({ mode: "byob" }).read(view), stream };
  },
};

describe("a handle whose buffer was given away", () => {
  for (const [way, move] of Object.entries(waysToMove)) {
    test(`by ${way} is closing, is not handed out, and comes back at the new owner's end`, async () => {
      const pool = ownPool();
      let holder: unknown;
      let address = 0;
      const give = (): void => {
        const handle = pool.allocUnsafe(size);
        address = handle.address;
        const view = handle.bytes;
        view.fill(0x11);
        holder = move(view);
        expect(view.length).toBe(0);
        expect(codeOf(() => handle.resize(1))).toBe("ERR_HOLDFAST_BUSY");
        expect(codeOf(() => handle.transfer())).toBe("ERR_HOLDFAST_BUSY");
        expect(codeOf(() => handle.view(Uint8Array))).toBe("ERR_HOLDFAST_BUSY");
        expect(handle.free()).toBe("closing");
      };
      give();
      await collect();
      expect(holder).toBeDefined();
      expect(pool.stats().closingHandles).toBe(1);
      for (let at = 0; at < 64; at++) {
        const other = pool.allocUnsafe(size);
        expect(other.address).not.toBe(address);
        expect(other.bytes.length).toBe(size);
        if (at % 2 === 0) other.free();
        else other.transfer();
      }
      holder = undefined;
      await until(`the deallocator after ${way}`, () => pool.stats().closingHandles === 0);
      pool.close({ force: true });
    });
  }

  test("is freed already if the new owner let go before free()", async () => {
    const handle = alloc(size);
    handle.bytes.buffer.transfer(0);
    expect(handle.freed).toBe(true);
    expect(handle.free()).toBe("freed");
    expect(codeOf(() => handle.free())).toBe("ERR_HOLDFAST_DOUBLE_FREE");
  });

  test("shows what the new owner writes only to the new owner", async () => {
    const pool = ownPool();
    const handle = pool.alloc(size);
    const taken = new Uint8Array(
      structuredClone(handle.bytes.buffer, { transfer: [handle.bytes.buffer] }),
    );
    handle.free();
    const other = pool.alloc(size);
    taken.fill(0xee);
    expect(other.bytes.indexOf(0xee)).toBe(-1);
    other.free();
    taken.buffer.transfer(0);
    expect(pool.stats().closingHandles).toBe(0);
    pool.close();
  });
});

describe("a handle dropped without free()", () => {
  test("comes back after a collection, with and without a view", async () => {
    const pool = ownPool();
    const drop = (): void => {
      for (let at = 0; at < 500; at++) {
        const handle = pool.allocUnsafe(4096);
        if (at % 2 === 0) handle.bytes[0] = 1;
      }
      for (let at = 0; at < 20; at++) pool.allocUnsafe(size).bytes[0] = 1;
    };
    drop();
    expect(pool.stats().liveHandles).toBe(520);
    await until("all of them", () => pool.stats().liveHandles === 0);
    pool.close();
  });

  test("stays leased while a view of it is held", async () => {
    const pool = ownPool();
    const view = (() => pool.alloc(size).view(Uint32Array))();
    view[0] = 7;
    await Bun.sleep(120);
    await collect();
    expect(pool.stats().liveHandles).toBe(1);
    const other = pool.alloc(size);
    other.bytes.fill(1);
    expect(view[0]).toBe(7);
    other.free();
    pool.close({ force: true });
  });
});

test("a pool closed by force empties the views of its handles in this realm", async () => {
  const pool = ownPool();
  const handles: Handle[] = [];
  for (let at = 0; at < 200; at++) handles.push(pool.alloc(at % 3 === 0 ? size : 5000));
  const views = handles.map((handle) => handle.bytes);
  expect(codeOf(() => pool.close())).toBe("ERR_HOLDFAST_BUSY");
  expect(() => pool.close()).toThrow(/200/);
  pool.close({ force: true });
  expect(views.every((view) => view.length === 0)).toBe(true);
  expect(handles.every((handle) => handle.freed)).toBe(true);
  const [first] = handles as [Handle];
  expect(codeOf(() => first.bytes)).toBe("ERR_HOLDFAST_FREED");
  expect(codeOf(() => pool.alloc(1))).toBe("ERR_HOLDFAST_CLOSED");
  pool.close();
});

test("a using block frees at its end, also when it throws", () => {
  const pool = ownPool();
  expect(() => {
    using handle = pool.alloc(100);
    handle.bytes[0] = 1;
    throw new Error("work");
  }).toThrow("work");
  expect(pool.stats().liveHandles).toBe(0);
  pool.close();
});

test("shortage is mended by what can be had back: a closing read that is over", async () => {
  const pool = new LargePool({ background: null, limitBytes: 4 * size });
  const handles = Array.from({ length: 4 }, () => pool.allocUnsafe(size));
  const work = handles.map((handle) => promisify(gzip)(handle.bytes));
  for (const handle of handles) handle.free();
  expect(codeOf(() => pool.allocUnsafe(size))).toBe("ERR_HOLDFAST_LIMIT");
  await Promise.all(work);
  const again = pool.allocUnsafe(size);
  again.free();
  pool.close();
});

test("bun --hot evaluates every module again; handles, classes and the thread stay", async () => {
  const path = join(folder, "hot.ts");
  const program = `
    import { alloc, Handle, LargePool, stats } from ${JSON.stringify(join(import.meta.dir, "../src/index.ts"))};
    const kept = (globalThis.kept ??= { rounds: 0, Handle, LargePool, handle: alloc(5000), pool: new LargePool() });
    kept.rounds++;
    kept.handle.bytes[0] += 1;
    if (kept.rounds < 3) {
      setTimeout(() => require("node:fs").appendFileSync(import.meta.path, " "), 50);
    } else {
      const same = kept.Handle === Handle && kept.LargePool === LargePool;
      const isHandle = kept.handle instanceof Handle && alloc(1) instanceof Handle;
      const mark = kept.handle.bytes[0];
      const { threads } = stats();
      kept.pool.close();
      console.log(JSON.stringify({ same, isHandle, mark, threads, freed: kept.handle.free() }));
      process.exit(0);
    }`;
  await Bun.write(path, program);
  const child = Bun.spawn([process.execPath, "--hot", path], { stdout: "pipe", stderr: "pipe" });
  const output = await child.stdout.text();
  expect(JSON.parse(output.trim().split("\n").at(-1) ?? "")).toEqual({
    same: true,
    isHandle: true,
    mark: 3,
    threads: 1,
    freed: "freed",
  });
});
