/**
 * What this Bun does with memory that is not its own, as far as lifetimes rest on it. Each fact is
 * tried on plain external ArrayBuffers, without a lease in between, so that a new Bun that copies,
 * pins, moves or queues something else fails here, by name, before it corrupts anything.
 */
import { afterAll, describe, expect, test } from "bun:test";
import { toArrayBuffer } from "bun:ffi";
import {
  closeSync,
  createWriteStream,
  mkdtempSync,
  openSync,
  promises,
  read,
  readv,
  rmSync,
  write,
  writeFile,
  writev,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { brotliCompress, deflate, gunzip, gzip, gzipSync } from "node:zlib";
import { allocUnsafe } from "holdfast";
import { binding } from "../src/binding.ts";
import { until } from "./fixtures/waiting.ts";

const bytes = 256 * 1024;
const folder = mkdtempSync(join(tmpdir(), "holdfast-facts-"));
afterAll(() => rmSync(folder, { recursive: true }));

type Wrap = (
  address: number,
  offset: number,
  length: number,
  context?: number,
  deallocator?: number,
) => ArrayBuffer;
const wrap = toArrayBuffer as unknown as Wrap;
const { symbols, thread } = binding;

/** Memory of its own for each fact, and an external ArrayBuffer over it with no deallocator. */
function external(length = bytes): {
  buffer: ArrayBuffer;
  view: Uint8Array<ArrayBuffer>;
  address: number;
} {
  const { address } = keepLease(length);
  const buffer = wrap(address, 0, length);
  const view = new Uint8Array(buffer).fill(0x41);
  return { buffer, view, address };
}

const leases: { free(): unknown }[] = [];
afterAll(() => {
  for (const lease of leases) lease.free();
});

function keepLease(length: number) {
  const lease = allocUnsafe(length);
  leases.push(lease);
  return lease;
}

/** Whether a detach right now works. */
function detaches(buffer: ArrayBuffer): boolean {
  buffer.transfer(0);
  return buffer.detached;
}

describe("transfer(0)", () => {
  test("detaches every view and runs the native deallocator synchronously", () => {
    const handle = symbols.hf_alloc(thread, symbols.hf_pool_shared(), bytes, 0) as number;
    const address = binding.block[0] as number;
    symbols.hf_wrap(thread, handle);
    const context = (handle & 0xffffff) + 1;
    const buffer = wrap(address, 0, bytes, context, Number(symbols.hf_wrap_deallocator()));
    const views = [new Uint8Array(buffer), new Float64Array(buffer, 8, 2)];
    expect(symbols.hf_free(thread, handle)).toBe(1);
    buffer.transfer(0);
    expect(buffer.detached).toBe(true);
    expect(views.map((view) => view.length)).toEqual([0, 0]);
    // The deallocator has ended the lease: the next one of that size gets the same memory.
    const next = symbols.hf_alloc(thread, symbols.hf_pool_shared(), bytes, 0) as number;
    expect(binding.block[0]).toBe(address);
    symbols.hf_free(thread, next);
  });

  test("of a whole buffer keeps the address and the deallocator", () => {
    const { buffer, address } = external();
    const moved = buffer.transfer();
    expect(buffer.detached).toBe(true);
    new Uint8Array(moved)[0] = 0x77;
    expect(new Uint8Array(wrap(address, 0, 1))[0]).toBe(0x77);
  });
});

test("a context of 0 is refused, so contexts start at 1", () => {
  const lease = keepLease(bytes);
  const deallocator = Number(symbols.hf_wrap_deallocator());
  expect(() => wrap(lease.address, 0, 16, 0, deallocator)).toThrow();
});

test("an ArrayBuffer is at most 4 GiB long", () => {
  const lease = keepLease(5 * 2 ** 30);
  expect(wrap(lease.address, 0, 2 ** 32).byteLength).toBe(2 ** 32);
  expect(() => wrap(lease.address, 0, 2 ** 32 + 1)).toThrow();
});

test("an external buffer counts with its full length in the collector's figures", () => {
  const lease = keepLease(512 * 2 ** 20);
  Bun.gc(true);
  const before = process.memoryUsage().external;
  const buffer = wrap(lease.address, 0, 512 * 2 ** 20);
  expect(process.memoryUsage().external - before).toBeGreaterThan(500 * 2 ** 20);
  buffer.transfer(0);
});

test("Atomics work on external memory, but not wait", () => {
  const { buffer } = external(64);
  const words = new Int32Array(buffer).fill(0);
  expect(Atomics.add(words, 0, 5)).toBe(0);
  expect(Atomics.load(words, 0)).toBe(5);
  expect(() => Atomics.wait(words, 0, 5, 1)).toThrow(TypeError);
});

test("a FinalizationRegistry that globalThis reaches calls back", async () => {
  let calls = 0;
  const key = Symbol("registry");
  const realm = globalThis as unknown as Record<symbol, FinalizationRegistry<number>>;
  realm[key] = new FinalizationRegistry(() => calls++);
  (() => {
    for (let at = 0; at < 500; at++) realm[key]?.register({}, at);
  })();
  await until("callbacks", () => calls >= 490);
  delete realm[key];
});

/** Calls that pin: nothing is detached while they run, and everything when they are done. */
const pinning: Record<string, (view: Uint8Array<ArrayBuffer>, path: string) => Promise<unknown>> = {
  "fs.read": (view) => viaPipe((fd, done) => read(fd, view, 0, view.length, null, done)),
  "fs.readv": (view) => viaPipe((fd, done) => readv(fd, [view], done)),
  "fs.write": (view, path) =>
    promised((done) => write(openSync(path, "w"), view, 0, view.length, null, done)),
  "fs.writev": (view, path) => promised((done) => writev(openSync(path, "w"), [view], done)),
  "fs.writeFile": (view, path) => promised((done) => writeFile(path, view, done)),
  "fs.promises.writeFile": (view, path) => promises.writeFile(path, view),
  "fs.promises.appendFile": (view, path) => promises.appendFile(path, view),
  "zlib.gzip": (view) => promised((done) => gzip(view, done)),
  "zlib.deflate": (view) => promised((done) => deflate(view, done)),
  "zlib.brotliCompress": (view) => promised((done) => brotliCompress(view, done)),
  "zlib.gunzip": (view) => {
    view.set(gzipSync(new Uint8Array(2 ** 20)));
    return promised((done) => gunzip(view, () => done(null)));
  },
  "Bun.zstdCompress": (view) => Bun.zstdCompress(view),
};

function promised(start: (done: (error: unknown) => void) => void): Promise<void> {
  return new Promise((resolve, reject) => start((error) => (error ? reject(error) : resolve())));
}

/** A read that waits for a pipe, which is written 50 ms later. */
function viaPipe(start: (fd: number, done: (error: unknown) => void) => void): Promise<void> {
  const path = join(folder, `pipe-${Math.random()}`);
  Bun.spawnSync(["mkfifo", path]);
  const descriptor = openSync(path, "r+");
  setTimeout(() => write(descriptor, new Uint8Array(8), () => {}), 50);
  return promised((done) => start(descriptor, done)).finally(() => closeSync(descriptor));
}

describe("pins its argument until it is done:", () => {
  for (const [name, start] of Object.entries(pinning)) {
    test(name, async () => {
      // Long enough that the call is still at work when we look.
      const { buffer, view } = external(name === "Bun.zstdCompress" ? 16 * bytes : 4 * bytes);
      crypto.getRandomValues(view.subarray(0, 65536));
      const working = start(view, join(folder, `${Math.random()}`));
      expect(detaches(buffer)).toBe(false);
      expect(view.length).toBeGreaterThan(0);
      await working;
      await until("the unpin", () => detaches(buffer));
      expect(view.length).toBe(0);
    });
  }
});

/**
 * Calls that copy: detached and poisoned right after the call, the receiver still has what was
 * there. `over` does that; a call that returns a promise calls it as soon as the call has returned.
 */
type Send = (
  view: Uint8Array<ArrayBuffer>,
  over: () => void,
  path: string,
) => Promise<ArrayLike<number>>;

const copying: Record<string, Send> = {
  "new Response": (view, over) => after(new Response(view), over).bytes(),
  "new Blob": (view, over) => after(new Blob([view]), over).bytes(),
  "new Request": (view, over) =>
    after(new Request("http://localhost/", { method: "POST", body: view }), over).bytes(),
  structuredClone: async (view, over) => after(structuredClone(view), over),
  "postMessage without transfer": (view, over) => {
    const { port1, port2 } = new MessageChannel();
    const { promise, resolve } = Promise.withResolvers<Uint8Array>();
    port2.onmessage = ({ data }) => {
      port1.close();
      resolve(data);
    };
    port1.postMessage(view);
    over();
    return promise;
  },
  "Bun.write": async (view, over, path) => {
    await after(Bun.write(path, view), over);
    return Bun.file(path).bytes();
  },
  "Bun.file().writer()": async (view, over, path) => {
    const writer = Bun.file(path).writer();
    after(writer.write(view), over);
    await writer.end();
    return Bun.file(path).bytes();
  },
  "crypto.subtle.digest": async (view, over) => {
    const expected = new Bun.CryptoHasher("sha256").update(view.slice()).digest();
    const digest = await after(crypto.subtle.digest("SHA-256", view), over);
    expect(Buffer.compare(new Uint8Array(digest), expected)).toBe(0);
    return view41();
  },
  "Bun.serve body": async (view, over) => {
    using server = Bun.serve({ port: 0, fetch: () => after(new Response(view), over) });
    return (await fetch(server.url)).bytes();
  },
  "fetch body": async (view, over) => {
    using server = Bun.serve({
      port: 0,
      fetch: async (request) => new Response(await request.bytes()),
    });
    return (await after(fetch(server.url, { method: "POST", body: view }), over)).bytes();
  },
  "WebSocket.send": async (view, over) => {
    using server = Bun.serve({
      port: 0,
      fetch: (request, self) => (self.upgrade(request) ? undefined : new Response("no")),
      websocket: { message: (socket, message) => void socket.send(message) },
    });
    const socket = new WebSocket(server.url.href.replace("http", "ws"));
    socket.binaryType = "arraybuffer";
    await new Promise((resolve) => socket.addEventListener("open", resolve));
    const { promise, resolve } = Promise.withResolvers<Uint8Array>();
    socket.addEventListener("message", ({ data }) => resolve(new Uint8Array(data)));
    socket.send(view);
    over();
    // Awaited here: the server lives as long as this block.
    const got = await promise;
    socket.close();
    return got;
  },
  "net.Socket.end when connected": async (view, over) => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const server = createServer((socket) => {
      socket.end(view);
      over();
    }).listen(0, "127.0.0.1");
    await new Promise((listening) => server.once("listening", listening));
    const { port } = server.address() as { port: number };
    const chunks: Uint8Array[] = [];
    const data = (_: unknown, chunk: Uint8Array) => void chunks.push(new Uint8Array(chunk));
    await Bun.connect({ hostname: "127.0.0.1", port, socket: { data, close: () => resolve() } });
    await promise;
    server.close();
    return Buffer.concat(chunks);
  },
  "Bun.spawn stdin": (view, over) =>
    after(Bun.spawn(["cat"], { stdin: view, stdout: "pipe" }), over).stdout.bytes(),
};

function after<T>(result: T, over: () => void): T {
  over();
  return result;
}

function view41(): Uint8Array {
  return new Uint8Array(bytes).fill(0x41);
}

describe("copies its argument at the call:", () => {
  for (const [name, send] of Object.entries(copying)) {
    test(name, async () => {
      const { buffer, view, address } = external();
      const over = (): void => {
        expect(detaches(buffer)).toBe(true);
        new Uint8Array(wrap(address, 0, bytes)).fill(0xee);
      };
      const got = await send(view, over, join(folder, `${Math.random()}`));
      expect(buffer.detached).toBe(true);
      expect(Buffer.compare(Buffer.from(got), view41())).toBe(0);
    });
  }
});

/** Calls that take the buffer away: detached when they return, its memory alive elsewhere. */
const moving: Record<string, (view: Uint8Array<ArrayBuffer>) => unknown> = {
  "structuredClone with transfer": (view) =>
    structuredClone(view.buffer, { transfer: [view.buffer] }),
  "ArrayBuffer.transfer": (view) => view.buffer.transfer(),
  "postMessage with transfer": (view) => {
    const { port1 } = new MessageChannel();
    port1.postMessage(view.buffer, [view.buffer]);
    port1.close();
  },
  "enqueue on a byte stream": (view) =>
    new ReadableStream({ type: "bytes", start: (controller) => controller.enqueue(view) }),
  "a BYOB read": (view) =>
    new ReadableStream({ type: "bytes" }).getReader({ mode: "byob" }).read(view),
};

describe("takes the buffer away:", () => {
  for (const [name, move] of Object.entries(moving)) {
    test(name, () => {
      const { buffer, view } = external();
      const owner = move(view);
      expect(buffer.detached).toBe(true);
      expect(view.length).toBe(0);
      void owner;
    });
  }
});

describe("keeps the view, not its bytes, until it flows:", () => {
  test("PassThrough", async () => {
    const { buffer, view } = external();
    const stream = new PassThrough();
    stream.write(view);
    expect(detaches(buffer)).toBe(true);
    const chunk = stream.read() as Uint8Array | null;
    expect(chunk === null || chunk.length === 0).toBe(true);
  });

  test("fs.createWriteStream before it is open", async () => {
    const { buffer, view } = external();
    const path = join(folder, "stream");
    const stream = createWriteStream(path);
    stream.on("error", () => {});
    stream.write(view);
    expect(detaches(buffer)).toBe(true);
    await Bun.sleep(50);
    expect(Bun.file(path).size).toBe(0);
    stream.destroy();
  });

  test("a web stream's queue", async () => {
    const { buffer, view } = external();
    const stream = new ReadableStream({ start: (controller) => controller.enqueue(view) });
    expect(detaches(buffer)).toBe(true);
    const { value } = await stream.getReader().read();
    expect(value.length).toBe(0);
  });
});
