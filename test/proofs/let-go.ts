/**
 * Memory is reused only when JavaScript has let go. Views kept after `free()` are empty; memory
 * that a read pins, or that the program gave away, is not handed out while anyone can write to it
 * and comes back by itself; dropped handles come back after a collection; steady loops lose nothing.
 */
import { closeSync, mkdtempSync, openSync, read, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Handle, LargePool, stats } from "holdfast";
import type { ProofOptions } from "../../scripts/proofs.ts";
import { until } from "../fixtures/waiting.ts";

export const name = "let-go";
export const issue = 2;
export const title = "memory is reused only after every ArrayBuffer over it has been let go";

const MiB = 2 ** 20;
const size = 2 * MiB;
const poison = 0xee;

export async function run({ size: run, log }: ProofOptions): Promise<void> {
  const full = run === "full";
  keptViewsAreEmpty();
  log("kept views are empty after free()");
  const folder = mkdtempSync(join(tmpdir(), "holdfast-let-go-"));
  try {
    for (const byteLength of [4096, size]) await pinned(folder, byteLength, full ? 50 : 5);
    log("memory pinned by fs.read came back by itself, views held");
  } finally {
    rmSync(folder, { recursive: true });
  }
  for (const [way, give] of Object.entries(ways)) {
    for (const byteLength of [4096, size]) await givenAway(way, give, byteLength, full ? 20 : 3);
    log(`given away by ${way}: not handed out, came back`);
  }
  const dropped = full ? 10_000 : 1000;
  await drops(dropped);
  log(`${dropped} dropped handles, seen and not, came back`);
  const leases = full ? 1_000_000 : 30_000;
  steady(leases);
  log(`${leases} leases in a loop lost nothing`);
}

function check(holds: boolean, what: string): void {
  if (!holds) throw new Error(what);
}

function ownPool(): LargePool {
  return new LargePool({ background: null });
}

function keptViewsAreEmpty(): void {
  const pool = ownPool();
  for (const byteLength of [1, 100, 4096, 70_000, MiB, size, 5 * MiB]) {
    const handle = pool.alloc(byteLength);
    const views = [handle.bytes, handle.view(Uint8Array, 0, 1), handle.view(DataView)];
    check(handle.free() === "freed", "an idle handle is freed at once");
    for (const view of views.slice(0, 2)) check(view.byteLength === 0, "a kept view is not empty");
  }
  pool.close();
}

/** Leases that write all over: whoever shares memory with them is found. */
function tenants(pool: LargePool, byteLength: number, forbidden: number): Handle[] {
  const handles: Handle[] = [];
  for (let at = 0; at < 40; at++) {
    const handle = pool.allocUnsafe(byteLength);
    check(handle.address !== forbidden, "memory was handed out while somebody could write to it");
    handle.bytes.fill(at);
    handles.push(handle);
  }
  return handles;
}

function endTenants(handles: Handle[]): void {
  handles.forEach((handle, at) => {
    const { bytes } = handle;
    const same = Buffer.compare(bytes.subarray(1), bytes.subarray(0, -1)) === 0;
    check(bytes[0] === at && same, "somebody else wrote into a lease");
    handle.free();
  });
}

async function pinned(folder: string, byteLength: number, rounds: number): Promise<void> {
  const pool = ownPool();
  const path = join(folder, `pipe-${byteLength}`);
  Bun.spawnSync(["mkfifo", path]);
  for (let round = 0; round < rounds; round++) {
    const descriptor = openSync(path, "r+");
    const handle = pool.allocUnsafe(byteLength);
    const { address } = handle;
    const view = handle.bytes;
    const reading = new Promise<number>((resolve, reject) => {
      read(descriptor, view, 0, byteLength, null, (error, count) =>
        error ? reject(error) : resolve(count),
      );
    });
    check(handle.free() === "closing", "a pinned handle is closing");
    const others = tenants(pool, byteLength, address);
    writeSync(descriptor, new Uint8Array(4096).fill(poison));
    check((await reading) > 0, "the read itself went well");
    endTenants(others);
    await until("a pinned handle", () => pool.stats().closingHandles === 0);
    check(view.length === 0, "the view that was pinned is empty in the end");
    closeSync(descriptor);
  }
  pool.close();
}

interface Owner {
  /** Writes into the memory as whoever has it now; does nothing where only Bun can write. */
  write(): void | Promise<void>;
}

const idle: Owner = { write() {} };

/** An owner of a whole buffer: writes into it once and lets go of it. */
function ownerOf(buffer: ArrayBuffer): Owner {
  let owned: ArrayBuffer | null = buffer;
  return {
    write() {
      if (owned) new Uint8Array(owned).fill(poison);
      owned = null;
    },
  };
}

/** The five ways to give a buffer away. */
const ways: Record<string, (view: Uint8Array<ArrayBuffer>) => Owner> = {
  structuredClone: (view) => ownerOf(structuredClone(view.buffer, { transfer: [view.buffer] })),
  postMessage: (view) => {
    const { port1, port2 } = new MessageChannel();
    const { promise, resolve } = Promise.withResolvers<void>();
    port2.onmessage = ({ data }) => {
      ownerOf(data).write();
      port1.close();
      port2.close();
      resolve();
    };
    port1.postMessage(view.buffer, [view.buffer]);
    return { write: () => promise };
  },
  "ArrayBuffer.transfer": (view) => ownerOf(view.buffer.transfer()),
  "a byte stream's enqueue": (view) => {
    const stream = new ReadableStream({
      type: "bytes",
      start(controller) {
        controller.enqueue(view);
        controller.close();
      },
    });
    return {
      async write() {
        const { value } = await stream.getReader().read();
        (value as Uint8Array).fill(poison);
      },
    };
  },
  "a BYOB read": (view) => {
    let controller: ReadableByteStreamController | undefined;
    const stream = new ReadableStream({
      type: "bytes",
      start(given) {
        controller = given;
      },
    });
    const reading = stream.getReader({ mode: "byob" }).read(view);
    return {
      async write() {
        controller?.enqueue(new Uint8Array(4096).fill(poison));
        await reading;
      },
    };
  },
};

async function givenAway(
  way: string,
  give: (view: Uint8Array<ArrayBuffer>) => Owner,
  byteLength: number,
  rounds: number,
): Promise<void> {
  const pool = ownPool();
  for (let round = 0; round < rounds; round++) {
    let owner = idle;
    let address = 0;
    (() => {
      const handle = pool.allocUnsafe(byteLength);
      address = handle.address;
      owner = give(handle.bytes);
      check(handle.free() === "closing", `${way}: the handle is closing`);
    })();
    const others = tenants(pool, byteLength, address);
    Bun.gc(true);
    await owner.write();
    endTenants(others);
    owner = idle;
    await until(`${way}: the last deallocator`, () => pool.stats().closingHandles === 0);
  }
  pool.close();
}

async function drops(count: number): Promise<void> {
  const pool = ownPool();
  const leaked = stats().leakedHandles;
  for (const views of ["revoke", "alias"] as const) {
    (() => {
      for (let at = 0; at < count; at++) {
        // Mostly small: 10,000 regions of 2 MiB at once would need their frames at once.
        const handle = pool.allocUnsafe(at % 50 === 0 ? size : 100 + at, { views });
        if (at % 2 === 0) handle.bytes[0] = 1;
      }
    })();
    await until(`dropped ${views} handles`, () => pool.stats().liveHandles === 0, 30_000);
  }
  check(stats().leakedHandles - leaked >= 2 * count, "each of them is counted as leaked");
  pool.close();
}

function steady(count: number): void {
  const pool = new LargePool({ background: null, limitBytes: 256 * MiB });
  const before = stats();
  for (let at = 0; at < count; at++) {
    const byteLength = at % 64 === 0 ? size : 1 + ((at * 7919) % 60_000);
    const handle = pool.allocUnsafe(byteLength, at % 3 === 0 ? { views: "alias" } : undefined);
    if (at % 4 !== 1) handle.bytes[0] = at;
    handle.free();
  }
  const after = stats();
  check(after.leakedHandles === before.leakedHandles, "a steady loop leaks");
  check(after.liveHandles === before.liveHandles, "a steady loop leaves handles");
  const figures = pool.stats();
  check(figures.liveHandles + figures.closingHandles === 0, "a steady loop leaves leases");
  check(figures.residentBytes < 64 * MiB, `a steady loop holds ${figures.residentBytes} bytes`);
  pool.close();
}
