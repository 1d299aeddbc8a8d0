/** The servers of examples/servers/: what they answer, and that every lease ends with its request. */
import { afterEach, expect, test } from "bun:test";
import { LargePool, stats } from "holdfast";
import { listenFrames, serveUploads } from "../examples/servers/receive.ts";
import { type Scratch, withScratch } from "../examples/servers/scratch.ts";
import { serveVectors } from "../examples/servers/vectors.ts";
import { codeOf, until } from "./fixtures/waiting.ts";

const MiB = 2 ** 20;
const ending: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ending.splice(0).reverse()) await end();
});

function pool(limitBytes = 256 * MiB): LargePool {
  const made = new LargePool({ limitBytes });
  ending.push(() => made.close({ force: true }));
  return made;
}

const live = () => stats().liveHandles + stats().closingHandles;

/** Serves one handler with scratch memory. */
function serve(handler: (request: Request, scratch: Scratch) => Response | Promise<Response>): URL {
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: withScratch(pool(), handler),
    error: (error) => new Response(error.message, { status: 500 }),
  });
  ending.push(() => server.stop(true));
  return server.url;
}

test("scratch memory of a request ends with it", async () => {
  const before = live();
  const url = serve((_, scratch) => {
    const lease = scratch.alloc(100_000);
    lease.bytes.fill(3);
    return new Response(lease.bytes.subarray(0, 10));
  });
  expect(await (await fetch(url)).bytes()).toEqual(new Uint8Array(10).fill(3));
  expect(live()).toBe(before);
});

test("a handler that throws frees its scratch memory", async () => {
  const before = live();
  const url = serve((_, scratch) => {
    scratch.alloc(MiB);
    throw new Error("no luck");
  });
  expect((await fetch(url)).status).toBe(500);
  expect(live()).toBe(before);
});

test("a lease is sent whole without a copy, then freed", async () => {
  const before = live();
  const byteLength = 8 * MiB + 17;
  const content = Buffer.alloc(byteLength, crypto.getRandomValues(new Uint8Array(65_521)));
  let during = 0;
  const url = serve((_, scratch) => {
    const lease = scratch.alloc(byteLength);
    lease.bytes.set(content);
    during = live();
    return new Response(scratch.send(lease));
  });
  const answers = await Promise.all([1, 2, 3].map(async () => (await fetch(url)).bytes()));
  for (const bytes of answers) {
    expect(Buffer.compare(bytes, content)).toBe(0);
  }
  expect(during).toBeGreaterThan(before);
  await until("the leases end", () => live() === before);
});

test("a client that leaves in the middle of the answer frees the lease", async () => {
  const before = live();
  const url = serve((_, scratch) => new Response(scratch.send(scratch.alloc(64 * MiB))));
  const leaving = new AbortController();
  const answer = await fetch(url, { signal: leaving.signal });
  await answer.body!.getReader().read();
  expect(live()).toBe(before + 1);
  leaving.abort();
  await until("the leases end", () => live() === before);
});

test("a client that leaves before the answer ends the leases of the running handler", async () => {
  const before = live();
  let code: string | undefined;
  const { promise: started, resolve: start } = Promise.withResolvers<void>();
  const url = serve(async (request, scratch) => {
    const lease = scratch.alloc(MiB);
    const gone = new Promise((resolve) => request.signal.addEventListener("abort", resolve));
    start();
    await gone;
    code = codeOf(() => lease.bytes);
    return new Response("too late");
  });
  const leaving = new AbortController();
  const asked = fetch(url, { signal: leaving.signal }).catch(() => {});
  await started;
  expect(live()).toBe(before + 1);
  leaving.abort();
  await asked;
  await until("it happens", () => code !== undefined);
  expect(code).toBe("ERR_HOLDFAST_FREED");
  expect(live()).toBe(before);
});

const hash = (bytes: Uint8Array) => Bun.hash(bytes).toString(16);

test("frames that arrive in any pieces are answered in order", async () => {
  const before = live();
  const frameBytesMax = 300_000;
  const server = listenFrames({ pool: pool(), frameBytesMax, answer: hash });
  ending.push(() => server.stop(true));
  const lengths = [0, 1, 5, 70_000, 4096, frameBytesMax, 3];
  const frames = lengths.map((length) => crypto.getRandomValues(new Uint8Array(length % 65_536)));
  const whole = frames.map((part, index) => Buffer.concat([part], lengths[index]));
  const stream = Buffer.concat(
    whole.flatMap((frame) => {
      const head = Buffer.alloc(4);
      head.writeUInt32BE(frame.byteLength);
      return [head, frame];
    }),
  );
  let answered = "";
  const client = await Bun.connect({
    hostname: "127.0.0.1",
    port: server.port,
    socket: { data: (_, text) => void (answered += text.toString()) },
  });
  for (let from = 0, size = 1; from < stream.length; size = (size * 7) % 50_021) {
    from += client.write(stream.subarray(from, from + size));
    await Bun.sleep(0);
  }
  const wanted = whole.map((frame) => `${hash(frame)}\n`).join("");
  await until("it happens", () => answered.length >= wanted.length);
  expect(answered).toBe(wanted);
  expect(live()).toBe(before + 1);
  client.end();
  await until("the leases end", () => live() === before);
});

test("a frame that is too long closes its connection and frees its buffer", async () => {
  const before = live();
  const server = listenFrames({ pool: pool(), frameBytesMax: 1000, answer: hash });
  ending.push(() => server.stop(true));
  let closed = false;
  const client = await Bun.connect({
    hostname: "127.0.0.1",
    port: server.port,
    socket: { data() {}, close: () => void (closed = true) },
  });
  const frame = Buffer.alloc(2000);
  frame.writeUInt32BE(1500);
  client.write(frame);
  await until("it happens", () => closed);
  await until("the leases end", () => live() === before);
});

test("an upload by WebSocket is put together in one lease", async () => {
  const before = live();
  const server = serveUploads({ pool: pool(), uploadBytesMax: 4 * MiB, answer: hash });
  ending.push(() => server.stop(true));
  const socket = new WebSocket(`ws://127.0.0.1:${server.port}`);
  const answers: string[] = [];
  socket.onmessage = ({ data }) => answers.push(data);
  await new Promise((resolve) => (socket.onopen = resolve));
  const pieces = [1, 100_000, 0, 900_000].map((length) => Buffer.alloc(length, length % 200));
  for (let round = 0; round < 2; round++) {
    for (const piece of pieces) socket.send(piece);
    socket.send("done");
  }
  await until("it happens", () => answers.length === 2);
  const wanted = hash(Buffer.concat(pieces));
  expect(answers).toEqual([wanted, wanted]);
  expect(live()).toBe(before + 1);

  const { promise: closed, resolve: close } = Promise.withResolvers<CloseEvent>();
  socket.onclose = close;
  for (let sent = 0; sent < 5; sent++) socket.send(Buffer.alloc(MiB));
  expect((await closed).code).toBe(1009);
  await until("the leases end", () => live() === before);
});

test("a matrix shared out to Workers is searched whole, and ends with them", async () => {
  const before = live();
  const rows = 20_000;
  const dimensions = 64;
  const value = (row: number, column: number) =>
    Math.sin(row * 12.9898 + column * 78.233 + row * column) < 0 ? -1 : 1;
  {
    await using server = serveVectors({
      rows,
      dimensions,
      workers: 3,
      fill: (row, index) => row.set(row.map((_, column) => value(index, column))),
    });
    expect(server.pageKinds.length).toBe(3);
    for (const row of [0, 7_000, rows - 1]) {
      const query = Float32Array.from({ length: dimensions }, (_, column) => value(row, column));
      const answer = await fetch(new URL("/search?k=3", server.url), {
        method: "POST",
        body: query,
      });
      const found = (await answer.json()) as { row: number; score: number }[];
      expect(found.length).toBe(3);
      expect(found[0]!.row).toBe(row);
      expect(found[0]!.score).toBeGreaterThanOrEqual(found[1]!.score);
    }
    const short = await fetch(new URL("/search", server.url), { method: "POST", body: "123" });
    expect(short.status).toBe(400);
  }
  await until("the leases end", () => live() === before);
});
