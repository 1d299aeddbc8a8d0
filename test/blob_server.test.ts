/**
 * The blob server's promises: what was stored is what is sent, whatever ends an upload or a
 * response early, and no way of ending one keeps or loses memory.
 */
import { afterEach, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { heapStats } from "bun:jsc";
import { connect } from "node:net";
import { LargePool } from "holdfast";
import type { ServerReport } from "../examples/blob-server/client.ts";
import { type BlobServer, failure, startServer } from "../examples/blob-server/server.ts";
import { receive, WrongLength } from "../examples/blob-server/store.ts";

const MIB = 1024 ** 2;
const LIMIT_BYTES = 64 * MIB;

setDefaultTimeout(30_000);

let pool: LargePool;
let server: BlobServer;

beforeEach(() => {
  pool = new LargePool({ limitBytes: LIMIT_BYTES });
  server = startServer({ pool, idleSeconds: 5 });
});

afterEach(async () => {
  await server.stop();
  await until("everything is free", () => pool.stats().liveHandles === 0);
  pool.close();
});

/** Bytes that differ from place to place and from seed to seed, so that mixed-up pages show. */
function pattern(byteLength: number, seed = 1): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(Math.ceil(byteLength / 4));
  let state = seed >>> 0;
  for (let i = 0; i < words.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    words[i] = state;
  }
  return new Uint8Array(words.buffer, 0, byteLength);
}

const sha = (bytes: Uint8Array) => new Bun.CryptoHasher("sha256").update(bytes).digest("hex");
const url = (name: string) => new URL(`blobs/${encodeURIComponent(name)}`, server.url);
const put = (name: string, body: Bun.BodyInit) => fetch(url(name), { method: "PUT", body });
const del = (name: string) => fetch(url(name), { method: "DELETE" });
const get = async (name: string) => (await fetch(url(name))).bytes();

/** A body without a content-length, in pieces of 100,000 bytes. */
function chunked(bytes: Uint8Array): ReadableStream<Uint8Array> {
  let offset = 0;
  return new ReadableStream({
    pull(controller) {
      if (offset === bytes.byteLength) return controller.close();
      const end = Math.min(offset + 100_000, bytes.byteLength);
      controller.enqueue(bytes.slice(offset, end));
      offset = end;
    },
  });
}

async function until(what: string, holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`not within 10 s: ${what}`);
    await Bun.sleep(5);
  }
}

/** Sends bytes as they are; resolves with all that came back when the server closes, or at once. */
async function raw(pieces: string[], end: "destroy" | "half-close"): Promise<string> {
  const socket = connect(server.port, "127.0.0.1");
  let answer = "";
  socket.on("data", (data) => {
    answer += data.toString("latin1");
  });
  const closed = new Promise<void>((resolve) => socket.on("close", () => resolve()));
  socket.on("error", () => {});
  for (const piece of pieces) {
    socket.write(piece);
    await Bun.sleep(50);
  }
  if (end === "destroy") socket.destroy();
  else socket.end();
  await closed;
  return answer;
}

for (const byteLength of [0, 1, 4095, 256 * 1024, 256 * 1024 + 1, 3 * MIB + 7, 20 * MIB]) {
  test(`a body of ${byteLength} bytes comes back as it was sent`, async () => {
    const bytes = pattern(byteLength);
    expect((await put("whole", bytes)).status).toBe(201);
    expect((await put("in chunks", chunked(bytes))).status).toBe(201);
    expect(sha(await get("whole"))).toBe(sha(bytes));
    expect(sha(await get("in chunks"))).toBe(sha(bytes));
    const head = await fetch(url("whole"), { method: "HEAD" });
    expect(head.headers.get("content-length")).toBe(String(byteLength));
    expect(pool.stats().allocatedBytes).toBe(2 * byteLength);
  });
}

test("a name may hold any characters", async () => {
  const name = "a/b c?d#é%";
  await put(name, "text");
  expect(Buffer.from(await get(name)).toString()).toBe("text");
});

test("a deleted blob is gone and its memory is free", async () => {
  await put("a", pattern(5 * MIB));
  expect(pool.stats().liveHandles).toBe(1);
  expect((await del("a")).status).toBe(204);
  expect(pool.stats().liveHandles).toBe(0);
  expect((await fetch(url("a"))).status).toBe(404);
  expect((await del("a")).status).toBe(404);
});

test("replacing a name frees the blob that had it", async () => {
  expect((await put("a", pattern(5 * MIB, 1))).status).toBe(201);
  expect((await put("a", pattern(7 * MIB, 2))).status).toBe(200);
  expect(pool.stats().liveHandles).toBe(1);
  expect(pool.stats().allocatedBytes).toBe(7 * MIB);
  expect(sha(await get("a"))).toBe(sha(pattern(7 * MIB, 2)));
});

test("a stored blob that nobody reads weighs nothing on the JavaScript heap", async () => {
  Bun.gc(true);
  const before = heapStats().extraMemorySize;
  await put("a", pattern(16 * MIB));
  await get("a");
  Bun.gc(true);
  await until("the heap is as light as before", () => {
    Bun.gc(true);
    return heapStats().extraMemorySize < before + 4 * MIB;
  });
  expect(pool.stats().allocatedBytes).toBe(16 * MIB);
});

for (const [what, replace] of [
  ["deleted", (): Promise<Response> => del("a")],
  ["replaced", (): Promise<Response> => put("a", pattern(MIB, 2))],
] as const) {
  test(`a response under way is whole when its blob is ${what}, and frees it at its end`, async () => {
    const bytes = pattern(24 * MIB);
    await put("a", bytes);
    const response = await fetch(url("a"));
    await replace();
    const next = await put("b", pattern(20 * MIB, 3));
    expect(next.status).toBe(201);
    expect(sha(await response.bytes())).toBe(sha(bytes));
    const left = what === "replaced" ? 2 : 1;
    await until("the old blob is free", () => pool.stats().liveHandles === left);
  });
}

test("a client that leaves in the middle of a response frees a deleted blob", async () => {
  await put("a", pattern(32 * MIB));
  const leaving = new AbortController();
  const response = await fetch(url("a"), { signal: leaving.signal });
  await response.body?.getReader().read();
  await del("a");
  leaving.abort();
  await until("the blob is free", () => pool.stats().liveHandles === 0);
});

test("stalled downloads cost no copies of their blob", async () => {
  await put("a", pattern(16 * MIB));
  Bun.gc(true);
  const before = process.memoryUsage.rss();
  const sockets = Array.from({ length: 24 }, () => {
    const socket = connect(server.port, "127.0.0.1");
    socket.pause();
    socket.write("GET /blobs/a HTTP/1.1\r\nHost: x\r\n\r\n");
    return socket;
  });
  await Bun.sleep(300);
  // A copy for each would be 384 MiB.
  expect(process.memoryUsage.rss() - before).toBeLessThan(96 * MIB);
  await del("a");
  expect(pool.stats().liveHandles).toBe(1);
  for (const socket of sockets) socket.destroy();
  await until("the blob is free", () => pool.stats().liveHandles === 0);
});

test("a full pool answers 507, loses nothing, and works on", async () => {
  const bytes = pattern(40 * MIB);
  await put("a", bytes);
  for (const body of [pattern(30 * MIB, 2), chunked(pattern(30 * MIB, 2))]) {
    const refused = await put("b", body);
    expect(refused.status).toBe(507);
    expect(await refused.text()).toContain("limit");
  }
  await until("the refused uploads are free", () => pool.stats().liveHandles === 1);
  expect(pool.stats().allocatedBytes).toBe(40 * MIB);
  expect((await fetch(url("b"))).status).toBe(404);
  expect(sha(await get("a"))).toBe(sha(bytes));
  expect((await put("b", pattern(4 * MIB))).status).toBe(201);
});

test("a refused replacement leaves the old blob in place", async () => {
  const bytes = pattern(40 * MIB);
  await put("a", bytes);
  expect((await put("a", pattern(40 * MIB, 2))).status).toBe(507);
  expect(sha(await get("a"))).toBe(sha(bytes));
});

test("a body longer than the pool's limit is refused before it is read", async () => {
  const head = `PUT /blobs/a HTTP/1.1\r\nHost: x\r\nContent-Length: ${LIMIT_BYTES + 1}\r\n\r\n`;
  expect(await raw([head], "half-close")).toStartWith("HTTP/1.1 413");
  expect(pool.stats().liveHandles).toBe(0);
});

test("a pool without a limit takes bodies longer than Bun's own default", async () => {
  await using unlimited = startServer({ pool: new LargePool() });
  const body = pattern(130 * MIB);
  const target = new URL("blobs/a", unlimited.url);
  expect((await fetch(target, { method: "PUT", body })).status).toBe(201);
  expect(sha(await (await fetch(target)).bytes())).toBe(sha(body));
});

for (const end of ["destroy", "half-close"] as const) {
  for (const [kind, header, body] of [
    ["content-length", "Content-Length: 5000000", "not five million bytes"],
    ["chunked", "Transfer-Encoding: chunked", "5\r\nhello\r\n10\r\nthis"],
  ] as const) {
    test(`an upload that ends early (${kind}, ${end}) frees its lease`, async () => {
      const head = `PUT /blobs/a HTTP/1.1\r\nHost: x\r\n${header}\r\n\r\n`;
      const answer = raw([head, body], end);
      await until("the upload has its lease", () => pool.stats().liveHandles === 1);
      await answer;
      await until("the lease is free", () => pool.stats().liveHandles === 0);
      expect(server.store.stats()).toEqual({ blobs: 0, bytes: 0, uploads: 0 });
    });
  }
}

test("bytes beyond the content-length are not part of the blob and answer 400", async () => {
  const head = "PUT /blobs/a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n";
  const answer = await raw([`${head}helloand more than was said\r\n\r\n`], "half-close");
  expect(answer).toContain("HTTP/1.1 400");
  expect(server.store.get("a")?.byteLength ?? 5).toBe(5);
});

for (const [lie, declaredBytes] of [
  ["shorter", 2 * MIB + 1],
  ["longer", 2 * MIB - 1],
] as const) {
  test(`a body ${lie} than its content-length is a 400 and frees its lease`, async () => {
    const body = chunked(pattern(2 * MIB));
    const error = await receive(pool, body, declaredBytes).catch((error: unknown) => error);
    expect(error).toBeInstanceOf(WrongLength);
    expect(failure(error).status).toBe(400);
    expect(pool.stats().liveHandles).toBe(0);
  });
}

test("a body that fails in the middle frees its lease and passes the error on", async () => {
  const broken = (async function* () {
    yield pattern(MIB);
    throw new Error("the source failed");
  })();
  await expect(receive(pool, broken, 4 * MIB)).rejects.toThrow("the source failed");
  expect(pool.stats().liveHandles).toBe(0);
});

test("of many uploads of one name at once one stays whole and the others are freed", async () => {
  const bodies = Array.from({ length: 16 }, (_, i) => pattern(MIB + 4096 * i + i, i + 1));
  const responses = await Promise.all(
    bodies.map((body, i) => put("a", i % 2 ? body : chunked(body))),
  );
  expect(responses.every((response) => response.ok)).toBe(true);
  expect(bodies.map(sha)).toContain(sha(await get("a")));
  expect(server.store.stats().blobs).toBe(1);
  expect(pool.stats().liveHandles).toBe(1);
});

test("uploads, responses and deletions of the same names at once keep every byte", async () => {
  const seed = Number(process.env.HOLDFAST_SEED ?? Math.floor(Math.random() * 2 ** 32));
  let state = seed;
  const next = (bound: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 8) % bound;
  };
  const bodies = Array.from({ length: 6 }, (_, i) => pattern(300_000 * (i + 1) + i, i + 1));
  const known = new Set(bodies.map(sha));
  const client = async () => {
    for (let step = 0; step < 40; step++) {
      const name = String(next(3));
      const action = next(4);
      if (action === 0) await del(name);
      else if (action === 1) await put(name, bodies[next(bodies.length)] as Bun.BodyInit);
      else {
        const response = await fetch(url(name));
        const bytes = await response.bytes();
        if (response.ok && !known.has(sha(bytes))) throw new Error(`damaged, seed ${seed}`);
      }
    }
  };
  await Promise.all(Array.from({ length: 6 }, client));
  expect(pool.stats().liveHandles).toBe(server.store.stats().blobs);
});

test("a server that is stopped in the middle of its work leaves no lease", async () => {
  await put("a", pattern(24 * MIB));
  const download = (await fetch(url("a"))).body?.getReader();
  await download?.read();
  const head = "PUT /blobs/b HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\n\r\n";
  const upload = raw([head, "the first bytes"], "half-close");
  await until("the upload has its lease", () => pool.stats().liveHandles === 2);
  await server.stop();
  await until("everything is free", () => pool.stats().liveHandles === 0);
  await upload;
  await download?.cancel().catch(() => {});
});

test("a server closes the pool that it made", async () => {
  await using own = startServer({ limitBytes: 8 * MIB });
  const { pool: ownPool } = own.store;
  await fetch(new URL("blobs/a", own.url), { method: "PUT", body: pattern(MIB) });
  await own.stop();
  expect(() => ownPool.alloc(1)).toThrow("closed");
});

test("stats show the store, the pool and the process", async () => {
  await put("a", pattern(3 * MIB));
  const report = (await (await fetch(new URL("stats", server.url))).json()) as ServerReport;
  expect(report.store).toEqual({ blobs: 1, bytes: 3 * MIB, uploads: 0 });
  expect(report.pool.allocatedBytes).toBe(3 * MIB);
  expect(report.pool.liveHandles).toBe(1);
  expect(report.rssBytes).toBeGreaterThan(3 * MIB);
  expect(report.peakRssBytes).toBeGreaterThanOrEqual(report.rssBytes);
});
