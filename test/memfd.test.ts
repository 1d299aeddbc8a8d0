/** Pools whose leases are files: what a server sends is the lease, whatever becomes of it meanwhile. */
import { afterEach, expect, test } from "bun:test";
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { connect } from "node:net";
import { alloc, Handle, type HandleToken, LargePool, type LargePoolOptions } from "holdfast";
import { startServer } from "../examples/blob-server/server.ts";
import { LeaseWorker } from "./fixtures/lease_workers.ts";
import { codeOf, until } from "./fixtures/waiting.ts";

const MiB = 2 ** 20;
const ending: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ending.splice(0).reverse()) await end();
});

const linux = process.platform === "linux";

function memfdPool(options: LargePoolOptions = {}): LargePool {
  const pool = new LargePool({ pages: "memfd", background: null, ...options });
  ending.push(() => pool.close({ force: true }));
  return pool;
}

/** Numbers of the descriptors that lead to memory of pools. */
function descriptors(): number[] {
  return readdirSync("/proc/self/fd")
    .filter((name) => {
      try {
        return readlinkSync(`/proc/self/fd/${name}`).includes("memfd:holdfast");
      } catch {
        return false;
      }
    })
    .map(Number);
}

function filled(pool: LargePool, byteLength: number, value: number): Handle {
  const handle = pool.allocUnsafe(byteLength);
  handle.bytes.fill(value);
  return handle;
}

test.if(linux)("the file is exactly the lease, and shows what is written later", async () => {
  const pool = memfdPool();
  for (const byteLength of [MiB, 3 * MiB + 17, 8 * MiB]) {
    using handle = filled(pool, byteLength, 3);
    const file = handle.file({ type: "image/png" });
    expect(file.size).toBe(byteLength);
    expect(file.type).toBe("image/png");
    expect(Buffer.compare(await file.bytes(), handle.bytes)).toBe(0);
    handle.bytes[byteLength - 1] = 9;
    expect((await handle.file().bytes()).at(-1)).toBe(9);
  }
});

test.if(linux)("memory without a file of its own says so", () => {
  const pool = memfdPool();
  const others = [
    alloc(4 * MiB),
    pool.alloc(0),
    pool.alloc(4096),
    pool.alloc(2 * MiB, { views: "alias" }),
    pool.alloc(2 * MiB, { pages: "base" }),
  ];
  for (const handle of others) {
    expect(codeOf(() => handle.file())).toBe("ERR_HOLDFAST_UNSUPPORTED");
    handle.free();
  }
  expect(codeOf(() => others[0]!.file())).toBe("ERR_HOLDFAST_FREED");
  expect(codeOf(() => alloc(2 * MiB, { pages: "memfd" as "base" }))).toBe("ERR_OUT_OF_RANGE");
  expect(codeOf(() => new LargePool({ pages: "memfd", fork: "wipe" }))).toStartWith("ERR_");
});

test.if(linux)("alloc gives zeros also where another lease was, and the limit holds", () => {
  const pool = memfdPool({ limitBytes: 16 * MiB });
  for (let round = 0; round < 4; round++) {
    filled(pool, 4 * MiB, 255).free();
    using handle = pool.alloc(4 * MiB);
    expect(handle.bytes.every((byte) => byte === 0)).toBe(true);
  }
  const held = [1, 2, 3].map(() => pool.alloc(4 * MiB));
  expect(codeOf(() => pool.alloc(8 * MiB))).toBe("ERR_HOLDFAST_LIMIT");
  for (const handle of held) handle.free();
  pool.alloc(16 * MiB).free();
});

test.if(linux)("a lease that was shown keeps its place; resize moves it into other memory", () => {
  const pool = memfdPool();
  using handle = filled(pool, 2 * MiB, 5);
  const { address } = handle;
  handle.file();
  handle.resize(2 * MiB);
  expect(handle.address).toBe(address);
  handle.resize(2 * MiB - 4096);
  expect(handle.address).not.toBe(address);
  expect(handle.bytes.every((byte) => byte === 5)).toBe(true);
  expect(handle.file().size).toBe(2 * MiB - 4096);
});

test.if(linux)(
  "a response that has begun is whole though its lease ended and others came",
  async () => {
    const pool = memfdPool();
    const byteLength = 32 * MiB;
    let lease: Handle | undefined;
    const server = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      fetch: () => {
        lease = filled(pool, byteLength, 7);
        return new Response(lease.file());
      },
    });
    ending.push(() => server.stop(true));

    // A client that reads nothing until we say so.
    const socket = connect({ port: server.port as number, host: "127.0.0.1" });
    await new Promise((resolve) => socket.once("connect", resolve));
    socket.pause();
    socket.write("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    await until("the handler runs", () => lease !== undefined);
    await Bun.sleep(5);
    expect(lease!.free()).toBe("freed");
    for (let round = 0; round < 3; round++) {
      const others = [1, 2].map(() => filled(pool, byteLength, 9));
      for (const other of others) other.free();
      pool.trim();
    }
    const pieces: Buffer[] = [];
    socket.on("data", (piece: Buffer) => pieces.push(piece));
    socket.resume();
    await new Promise((resolve) => socket.once("close", resolve));
    const answer = Buffer.concat(pieces);
    const body = answer.subarray(answer.indexOf("\r\n\r\n") + 4);
    expect(body.length).toBe(byteLength);
    expect(body.every((byte) => byte === 7)).toBe(true);
  },
  20_000,
);

test.if(linux)(
  "a file kept after free() shows the old bytes or nothing, never a later lease",
  async () => {
    const pool = memfdPool();
    const kept = [1, 2, 3, 4].map(() => {
      const handle = filled(pool, 2 * MiB, 1);
      const file = handle.file();
      handle.free();
      return file;
    });
    for (let round = 0; round < 20; round++) {
      const others = [1, 2, 3, 4, 5].map(() => filled(pool, 2 * MiB, 2));
      for (const other of others) other.file();
      for (const file of kept) {
        const bytes = await file.bytes().catch(() => new Uint8Array(0));
        expect(bytes.includes(2)).toBe(false);
      }
      for (const other of others) other.free();
      if (round % 3 === 0) pool.trim();
    }
  },
);

test.if(linux)(
  "descriptors are closed with their memory and no program inherits them",
  async () => {
    const before = descriptors().length;
    const pool = memfdPool();
    for (let round = 0; round < 300; round++) {
      const handle = filled(pool, MiB, 1);
      if (round % 2 === 0) handle.file();
      handle.free();
    }
    // At most what lies free in the caches.
    expect(descriptors().length - before).toBeLessThan(40);
    const held = filled(pool, 2 * MiB, 1);
    held.file();
    for (const number of descriptors()) {
      const flags = /flags:\s+(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${number}`, "utf8"))![1]!;
      expect(Number.parseInt(flags, 8) & 0o2000000).toBe(0o2000000);
    }
    const child = Bun.spawnSync(["ls", "-l", "/proc/self/fd"]);
    expect(child.stdout.toString()).not.toContain("memfd:holdfast");
    held.free();
    pool.trim();
    expect(descriptors().length).toBe(before);
  },
);

test.if(linux)(
  "without descriptors an alloc is refused, and half of them are left for others",
  async () => {
    const program = `
    import { LargePool } from "holdfast";
    import { openSync } from "node:fs";
    const pool = new LargePool({ pages: "memfd" });
    let made = 0, code;
    try { for (;; made++) pool.alloc(2 ** 20); } catch (error) { code = error.code + " " + error.syscall; }
    for (let i = 0; i < 20; i++) openSync("/dev/null");
    pool.close({ force: true });
    console.log(JSON.stringify({ made, code }));`;
    // Bun raises the soft limit to the hard one.
    const command = [
      "sh",
      "-c",
      'ulimit -Sn 200; ulimit -Hn 200; exec "$0" -e "$1"',
      process.execPath,
      program,
    ];
    const child = Bun.spawn(command, { stdout: "pipe", stderr: "pipe", cwd: import.meta.dir });
    const [stdout, stderr] = await Promise.all([child.stdout.text(), child.stderr.text()]);
    expect(stderr).toBe("");
    expect(JSON.parse(stdout)).toEqual({
      made: 100,
      code: "ERR_HOLDFAST_OUT_OF_MEMORY memfd_create",
    });
  },
);

test.if(linux)("a file goes with its lease to another Worker", async () => {
  const pool = memfdPool();
  const handle = filled(pool, 2 * MiB, 4);
  handle.file();
  const worker = new LeaseWorker();
  const { token } = await worker.ask<{ token: HandleToken }>({
    order: "giveBack",
    token: handle.transfer(),
  });
  using back = Handle.adopt(token);
  const bytes = await back.file().bytes();
  expect(bytes.length).toBe(2 * MiB);
  expect(bytes[1]).toBe(4);
  await worker.terminate();
});

test.if(linux)("a descriptor of ours can be opened by path and outlives the lease", () => {
  const pool = memfdPool();
  const handle = filled(pool, 2 * MiB, 6);
  const opened = openSync(handle.file().name!, "r");
  handle.free();
  pool.trim();
  expect(readFileSync(opened).every((byte) => byte === 6)).toBe(true);
  closeSync(opened);
});

test.if(!linux)("elsewhere the pool says that there is no such memory", () => {
  const pool = memfdPool();
  expect(codeOf(() => pool.alloc(2 * MiB))).toStartWith("ERR_HOLDFAST_");
});

test.if(linux)(
  "a blob server of files: every answer is one whole blob, while others replace it",
  async () => {
    await using server = startServer({ files: true, limitBytes: 512 * MiB });
    const url = (name: number) => new URL(`blobs/${name}`, server.url);
    const byteLength = 2 * MiB;
    const stored = [1, 2, 3, 4].map((value) => new Uint8Array(byteLength).fill(value));
    const names = [0, 1];
    for (const name of names) await fetch(url(name), { method: "PUT", body: stored[0]! });
    let left = 120;
    const lane = async (number: number) => {
      while (left-- > 0) {
        const name = names[left % 2]!;
        if (number % 2 === 0) {
          const put = await fetch(url(name), { method: "PUT", body: stored[left % 4]! });
          expect(put.status).toBeLessThan(300);
        } else {
          const answer = await fetch(url(name));
          expect(answer.status).toBe(200);
          expect(answer.headers.get("content-length")).toBe(String(byteLength));
          const bytes = await answer.bytes();
          expect(bytes.length).toBe(byteLength);
          expect(Buffer.compare(bytes, stored[bytes[0]! - 1]!)).toBe(0);
        }
      }
    };
    await Promise.all([0, 1, 2, 3, 4, 5, 6, 7].map(lane));
    for (const name of names) await fetch(url(name), { method: "DELETE" });
    await until("all blobs are free", () => server.store.pool.stats().liveHandles === 0);
  },
  20_000,
);
