/**
 * Random operations against a model on both hosts: blocks never overlap and keep their contents,
 * and when everything is freed there is one free run per region.
 *
 * The fuzzer drives the Zig code over a memory in miniature (others grow it, one growth in four is
 * refused) and over a reservation; the loop below drives the module itself, in a memory that
 * somebody else grows and that reaches its maximum.
 */
import { deepEqual, ok } from "node:assert/strict";
import type { ProofOptions } from "../../scripts/proofs.ts";
import { type WasmHandle, WasmHeap } from "../../src/wasm_heap.ts";
import { zigBuild } from "../fixtures/zig_build.ts";

export const name = "small-model";
export const issue = 5;
export const title =
  "10^7 operations on each host agree with a model, and everything merges at the end";

export async function run({ size, log }: ProofOptions): Promise<void> {
  const seed = Date.now() % 2 ** 31;
  // The fuzzer gives half of its events to each host.
  const events = size === "full" ? 20_000_000 : 100_000;
  await zigBuild(log, "fuzz", "--", "small_heap", `${seed}`, `--events=${events}`);
  module(seed, size === "full" ? 1_000_000 : 20_000, log);
}

interface Live {
  handle: WasmHandle;
  tag: number;
}

/** Pages of the memory. */
const maximum = 128;

/** The module in a memory of 8 MiB that others grow at random, up to its maximum. */
function module(seed: number, steps: number, log: ProofOptions["log"]): void {
  let state = seed | 1;
  const below = (bound: number) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % bound;
  };
  const memory = new WebAssembly.Memory({ initial: 1, maximum });
  const heap = new WasmHeap({ memory });
  const live: Live[] = [];
  let foreign = 0;
  let refused = 0;
  const attempt = (action: () => void) => {
    try {
      action();
    } catch (error) {
      if ((error as { code?: string }).code !== "ERR_HOLDFAST_OUT_OF_MEMORY") throw error;
      refused += 1;
    }
  };
  const bytes = () => 1 + below(1 << (4 + below(14)));
  const mark = ({ handle, tag }: Live) => {
    const { bytes: all } = handle;
    all[0] = tag;
    all[all.length - 1] = tag;
  };
  const check = ({ handle, tag }: Live) => {
    const { bytes: all } = handle;
    ok(all[0] === tag && all[all.length - 1] === tag, `seed ${seed}: contents lost`);
  };
  for (let step = 0; step < steps; step += 1) {
    const what = below(16);
    if (what < 9) {
      attempt(() => {
        const entry = { handle: heap.allocUnsafe(bytes()), tag: 1 + below(255) };
        mark(entry);
        live.push(entry);
      });
    } else if (what < 14 && live.length > 0) {
      const at = below(live.length);
      const entry = live[at]!;
      check(entry);
      entry.handle.free();
      live[at] = live[live.length - 1]!;
      live.pop();
    } else if (what === 14 && live.length > 0) {
      const entry = live[below(live.length)]!;
      check(entry);
      attempt(() => {
        entry.handle = heap.realloc(entry.handle, bytes());
        mark(entry);
      });
    } else if (foreign < 32 && below(64) === 0) {
      if (memory.buffer.byteLength < maximum * 65_536) memory.grow(1);
      foreign += 1;
    }
    // Leases only accumulate until the maximum is met; then half of them go.
    if (refused % 64 === 63) {
      for (const entry of live.splice(0, live.length >> 1)) entry.handle.free();
      refused += 1;
    }
  }
  for (const entry of live) {
    check(entry);
    entry.handle.free();
  }
  const { inUse, allocatedWords, fragments, unusedWords, regions } = heap.stats();
  deepEqual([inUse, allocatedWords], [0, 0]);
  const runs = fragments + (unusedWords > 0 ? 1 : 0);
  ok(runs <= regions, `${runs} free runs in ${regions} regions`);
  log(`in WebAssembly: ${steps} operations, ${foreign} pages grown by others, ${refused} refused`);
  log(`at the end ${runs} free runs in ${regions} regions`);
  heap.close();
}
