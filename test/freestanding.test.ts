/**
 * The general allocator without a system: a WebAssembly module that imports nothing, over a part of
 * its own memory, with owners that the host counts. (The build links it for bare x86-64, too.)
 */
import { beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { root, run, zigPath } from "../scripts/toolchain.ts";

interface Exports {
  memory: WebAssembly.Memory;
  setup(address: number, bytes: number): number;
  add(address: number, bytes: number): number;
  alloc(owner: number, bytes: number, alignment: number): number;
  release(owner: number, address: number): number;
  usable(address: number): number;
  trim(owner: number): void;
  live(): number;
}

const PAGE = 65_536;
const FOREIGN = 1;
const DOUBLE_FREE = 2;
/** An owner's index that stands for "from anywhere". */
const ANYWHERE = 99;

let module: WebAssembly.Module;

beforeAll(async () => {
  const { status, output } = await run([zigPath(), "build", "freestanding"]);
  if (status !== 0) throw new Error(output);
  module = new WebAssembly.Module(readFileSync(join(root, "zig-out/freestanding.wasm")));
}, 240_000);

function open(pages: number) {
  const heap = new WebAssembly.Instance(module, {}).exports as unknown as Exports;
  const start = heap.memory.grow(pages) * PAGE;
  return { heap, start, bytes: pages * PAGE };
}

test("the module imports nothing, so it makes no system call", () => {
  expect(WebAssembly.Module.imports(module)).toEqual([]);
});

test("blocks of any size come from the caller's slice, and all of it comes back", () => {
  const { heap, start, bytes } = open(256);
  expect(heap.alloc(0, 10, 0)).toBe(0);
  expect(heap.setup(start, 1000)).toBe(0);
  expect(heap.setup(start, bytes)).toBe(1);
  expect(heap.setup(start, bytes)).toBe(0);
  const blocks: [address: number, bytes: number][] = [];
  for (let i = 0; i < 400; i += 1) {
    const size = 1 + ((i * i * 31) % 9000);
    const address = heap.alloc(i % 3, size, 0);
    if (address === 0) throw new Error(`refused ${size}`);
    expect(address % 16).toBe(0);
    expect(address >= start && address + size <= start + bytes).toBe(true);
    expect(heap.usable(address)).toBeGreaterThanOrEqual(size);
    new Uint8Array(heap.memory.buffer, address, size).fill(i);
    blocks.push([address, size]);
  }
  for (const [i, [address, size]] of blocks.entries()) {
    const view = new Uint8Array(heap.memory.buffer, address, size);
    expect(view.every((byte) => byte === i % 256)).toBe(true);
    const freer = i % 4 === 3 ? ANYWHERE : i % 4;
    expect(heap.release(freer, address)).toBe(0);
    expect(heap.release(freer, address)).toBe(DOUBLE_FREE);
    expect(heap.release(freer, address + 1)).toBe(FOREIGN);
  }
  for (const owner of [0, 1, 2]) heap.trim(owner);
  expect(heap.live()).toBe(0);
  const large = heap.alloc(0, 2 << 20, 4096);
  expect(large % 4096).toBe(0);
  expect(large).not.toBe(0);
});

test("memory is added while in use", () => {
  const { heap, start, bytes } = open(16);
  expect(heap.setup(start, bytes)).toBe(1);
  let count = 0;
  while (heap.alloc(0, 5000, 0) !== 0) count += 1;
  expect(count).toBeGreaterThan(100);
  const more = heap.memory.grow(16) * PAGE;
  expect(heap.add(more, bytes)).toBe(1);
  expect(heap.add(more, bytes)).toBe(0);
  expect(heap.alloc(0, 5000, 0)).toBeGreaterThanOrEqual(more);
});
