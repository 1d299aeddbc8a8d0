/**
 * Every scenario that users of small heaps know: round trips, foreign growth that begins a second
 * region, runs of pages that split and merge to exactly their sum, blocks at the edge of pages, the
 * trip high water. The scenarios are the tests of zig/heap/small_heap_test.zig; this proof demands
 * that each of them is there and green, and that two adjacent freed large blocks become one run.
 */
import { deepEqual, ok } from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { ProofOptions } from "../../scripts/proofs.ts";
import { root } from "../../scripts/toolchain.ts";
import { WasmHeap } from "../../src/wasm_heap.ts";
import { zigBuild } from "../fixtures/zig_build.ts";

export const name = "small-scenarios";
export const issue = 5;
export const title = "the small heap does what users of such heaps know, scenario by scenario";

/** What each scenario is called in the test file. */
const scenarios = [
  "a heap takes no page before the first request",
  "32 bytes go round",
  "three blocks of 16 KiB and one of 15 fit in one page, another of 15 does not",
  "growth by someone else begins a second region, and its page is handed to nobody",
  "96 KiB count as two large pages, and as unused when freed",
  "a freed large run is used again by what fits in it",
  "writing every byte of blocks at the edge of pages damages no neighbour",
  "a run of three pages splits in three and merges again, the outer first",
  "two large blocks side by side merge to exactly their sum",
  "small blocks live around a large one and take its space when it goes",
  "the trip high water follows from the last reset",
  "the histogram counts live blocks by words, and those above in the last row",
  "a large block lies at any alignment that is asked",
  "a request above the bound of 32-bit counts is refused",
  "a block grows where it lies when there is room behind it",
  "new growth joins the free end of the memory",
  "pages inside free runs go back to the system that lent them",
];

export async function run({ log }: ProofOptions): Promise<void> {
  const source = readFileSync(join(root, "zig/heap/small_heap_test.zig"), "utf8");
  const missing = scenarios.filter((scenario) => !source.includes(`test "${scenario}"`));
  deepEqual(missing, []);
  const filter = "-Dtest-filter=heap.small_heap_test";
  await zigBuild(log, "test", filter);
  log(`${scenarios.length} scenarios hold in a memory in miniature and over a reservation`);
  mergesInWasm();
  log("and two freed blocks of 96 KiB in WebAssembly merge to 192 KiB, not one byte more");
}

/** The merge once more, through the module that browsers get. */
function mergesInWasm(): void {
  const bytes = 96 * 1024;
  using heap = new WasmHeap();
  const [one, two] = [heap.alloc(bytes), heap.alloc(bytes)];
  const wall = heap.alloc(16);
  const { address } = one;
  ok(two.address === address + bytes, "the blocks do not touch");
  const before = heap.stats();
  two.free();
  one.free();
  const after = heap.stats();
  const freeWords = ({ fragmentWords, unusedWords }: typeof after) => fragmentWords + unusedWords;
  deepEqual((freeWords(after) - freeWords(before)) * 4, 2 * bytes);
  ok(after.fragments <= before.fragments + 1, "the blocks did not merge");
  const both = heap.alloc(2 * bytes);
  deepEqual(both.address, address);
  both.bytes.fill(0xff);
  ok(wall.bytes.every((byte) => byte === 0));
}
