/**
 * holdfast.wasm, as anyone's module would use it: it instantiates in Bun, hands out memory that
 * keeps what is written, survives growth by its host, and stays within its size.
 */
import { beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { root, run, zigPath } from "../scripts/toolchain.ts";
import { MODULE } from "../src/wasm_module.gen.ts";

/** What the module exports; addresses are offsets into its memory, 0 says "refused". */
interface Exports {
  memory?: WebAssembly.Memory;
  alloc(bytes: number, alignment: number): number;
  free(address: number, bytes: number): void;
  realloc(address: number, oldBytes: number, newBytes: number, alignment: number): number;
  stats?(): number;
  resetTrip?(): void;
}

const PAGE = 65_536;
/** Largest modules: alloc, free and realloc; with statistics. */
const bounds = { "holdfast-bare": 2048, holdfast: 4096 };

const bytesOf = (name: string) => readFileSync(join(root, "zig-out", `${name}.wasm`));

async function open(
  name: string,
  imports: Parameters<typeof WebAssembly.instantiate>[1] = {},
): Promise<Exports> {
  const { instance } = await WebAssembly.instantiate(bytesOf(name), imports);
  return instance.exports as unknown as Exports;
}

/** in_use, high_water, trip_high_water, regions. */
function figures(heap: Exports, memory: WebAssembly.Memory): number[] {
  const address = heap.stats?.() ?? 0;
  return [...new BigUint64Array(memory.buffer, address, 13)].map(Number);
}

beforeAll(async () => {
  const { status, output } = await run([zigPath(), "build", "wasm"]);
  if (status !== 0) throw new Error(output);
}, 120_000);

test("the modules are small and import nothing that they do not need", () => {
  for (const [name, bound] of Object.entries(bounds)) {
    const bytes = bytesOf(name);
    expect(bytes.length).toBeLessThanOrEqual(bound);
    expect(WebAssembly.Module.imports(new WebAssembly.Module(bytes))).toEqual([]);
  }
});

test("the module in src/ is the one that is built", () => {
  expect(MODULE).toBe(bytesOf("holdfast-import").toString("base64"));
});

test("blocks keep their contents while the heap grows", async () => {
  const heap = await open("holdfast");
  const memory = heap.memory as WebAssembly.Memory;
  const blocks: { address: number; bytes: number; tag: number }[] = [];
  for (let i = 0; i < 300; i += 1) {
    const bytes = 1 + ((i * 7919) % 9000);
    const address = heap.alloc(bytes, 16);
    expect(address % 16).toBe(0);
    new Uint8Array(memory.buffer, address, bytes).fill(i & 0xff);
    blocks.push({ address, bytes, tag: i & 0xff });
  }
  for (const { address, bytes, tag } of blocks) {
    expect(new Uint8Array(memory.buffer, address, bytes).every((byte) => byte === tag)).toBe(true);
  }
  const sum = blocks.reduce((total, { bytes }) => total + bytes, 0);
  expect(figures(heap, memory).slice(0, 4)).toEqual([sum, sum, sum, 1]);
  for (const { address, bytes } of blocks) heap.free(address, bytes);
  heap.resetTrip?.();
  expect(figures(heap, memory).slice(0, 3)).toEqual([0, sum, 0]);
});

test("a block moves with its contents, or grows where it is", async () => {
  const heap = await open("holdfast-bare");
  const memory = heap.memory as WebAssembly.Memory;
  const address = heap.alloc(3000, 8);
  new Uint8Array(memory.buffer, address, 100).fill(7);
  expect(heap.realloc(address, 3000, 9000, 8)).toBe(address);
  const wall = heap.alloc(100, 8);
  expect(heap.realloc(wall, 100, 128, 8)).toBe(wall);
  const moved = heap.realloc(address, 9000, 300_000, 8);
  expect(moved).not.toBe(address);
  expect(new Uint8Array(memory.buffer, moved, 100).every((byte) => byte === 7)).toBe(true);
  heap.free(moved, 300_000);
  heap.free(wall, 128);
});

test("a bad alignment and a request that no memory can hold are refused", async () => {
  const heap = await open("holdfast");
  const memory = heap.memory as WebAssembly.Memory;
  for (const alignment of [0, 3, 48]) expect(heap.alloc(100, alignment)).toBe(0);
  expect(heap.alloc(0x8000_0000, 8)).toBe(0);
  expect(heap.alloc(0xffff_ffff, 8)).toBe(0);
  expect(figures(heap, memory)[0]).toBe(0);
});

test("in a memory of someone else the heap lies where it was put, and its owner may grow", async () => {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 64 });
  new Uint8Array(memory.buffer).fill(0x55);
  const base = memory.grow(1) * PAGE;
  const constant = (value: number) => new WebAssembly.Global({ value: "i32" }, value);
  const heap = await open("holdfast-import", {
    env: {
      memory,
      __indirect_function_table: new WebAssembly.Table({ initial: 0, element: "anyfunc" }),
      __stack_pointer: new WebAssembly.Global({ value: "i32", mutable: true }, base + 1024),
      __memory_base: constant(base + 1024),
      __table_base: constant(0),
    },
  });
  const first = heap.alloc(60_000, 8);
  const foreign = memory.grow(1) * PAGE;
  new Uint8Array(memory.buffer, foreign, PAGE).fill(0x77);
  const blocks = Array.from({ length: 20 }, () => heap.alloc(30_000, 8));
  for (const address of blocks) {
    expect(address).toBeGreaterThan(base);
    expect(address + 30_000 <= foreign || address >= foreign + PAGE).toBe(true);
    new Uint8Array(memory.buffer, address, 30_000).fill(1);
  }
  const untouched = (from: number, byte: number) =>
    new Uint8Array(memory.buffer, from, PAGE).every((each) => each === byte);
  expect([untouched(0, 0x55), untouched(foreign, 0x77)]).toEqual([true, true]);
  for (const address of blocks) heap.free(address, 30_000);
  heap.free(first, 60_000);
  expect(figures(heap, memory)[0]).toBe(0);
  // A maximum that is reached is a refusal, not a trap.
  expect(heap.alloc(64 * PAGE, 8)).toBe(0);
});
