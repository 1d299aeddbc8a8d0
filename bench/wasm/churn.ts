// The work of rows S2 and S3, in whatever runs WebAssembly: 10^6 operations on a fresh instance of
// each allocator, in an order drawn anew each round.

import { generator, shuffled } from "../comparison.ts";

export interface ChurnOptions {
  rounds: number;
  seed: number;
  operations: number;
}

/** Samples of one allocator. */
export interface Churned {
  /** Nanoseconds of one operation, by round. */
  ns: number[];
  /** Bytes of linear memory at the end, by round, and the most that was live. */
  memoryBytes: number[];
  peakBytes: number[];
}

type Alloc = (bytes: number, alignment: number) => number;
type Free = (address: number, bytes: number) => void;

interface Heap {
  memory: WebAssembly.Memory;
  alloc?: Alloc;
  free?: Free;
  heap_alloc?: Alloc;
  heap_free?: Free;
  _initialize?(): void;
}

interface Driver {
  memory: WebAssembly.Memory;
  lengthsAt(): number;
  seed(value: number): void;
  run(operations: number): number;
  peakLive(): number;
}

const lengthsCount = 1 << 14;
const shortest = 8;
const longest = 32_768;

/** `modules`: the bytes of each allocator, by name. */
export function churn(
  modules: Record<string, Uint8Array<ArrayBuffer>>,
  driver: Uint8Array<ArrayBuffer>,
  options: ChurnOptions,
): Record<string, Churned> {
  const { rounds, seed, operations } = options;
  const random = generator(seed);
  // As many of 8 to 16 bytes as of 16 to 32 KiB.
  const lengths = Uint32Array.from({ length: lengthsCount }, () =>
    Math.floor(shortest * (longest / shortest) ** random()),
  );
  const driving = new WebAssembly.Module(driver);
  const compiled = Object.entries(modules).map(([name, bytes]) => ({
    name,
    module: new WebAssembly.Module(bytes),
  }));
  const results: Record<string, Churned> = {};
  for (const { name } of compiled) results[name] = { ns: [], memoryBytes: [], peakBytes: [] };
  // The first two rounds warm up: the engines compile in steps.
  for (let round = -2; round < rounds; round += 1) {
    for (const { name, module } of shuffled(compiled, random)) {
      const heap = new WebAssembly.Instance(module, wasi).exports as unknown as Heap;
      heap._initialize?.();
      const calls = {
        alloc: (heap.heap_alloc ?? heap.alloc) as Alloc,
        free: (heap.heap_free ?? heap.free) as Free,
      };
      const run = new WebAssembly.Instance(driving, { heap: calls }).exports as unknown as Driver;
      new Uint32Array(run.memory.buffer, run.lengthsAt(), lengthsCount).set(lengths);
      run.seed(seed + round + 1000);
      const start = performance.now();
      const sum = run.run(operations);
      const ms = performance.now() - start;
      if (sum === 0) throw new Error(`${name} refused a request`);
      if (round < 0) continue;
      const result = results[name] as Churned;
      result.ns.push((ms * 1e6) / operations);
      result.memoryBytes.push(heap.memory.buffer.byteLength);
      result.peakBytes.push(run.peakLive());
    }
  }
  return results;
}

/** What a module that is linked to a libc may ask for and never calls. */
const wasi = {
  wasi_snapshot_preview1: new Proxy({}, { get: () => () => 0 }) as Record<string, () => number>,
};
