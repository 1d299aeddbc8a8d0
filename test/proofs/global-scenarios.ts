/**
 * Every scenario of the model's list, buddy, slabs, the allocator above them, lists and stress, is a
 * test of its own, and passes. The list below says which test shows which.
 */
import { ok } from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { ProofOptions } from "../../scripts/proofs.ts";
import { root } from "../../scripts/toolchain.ts";
import { zigBuild } from "../fixtures/zig_build.ts";

export const name = "global-scenarios";
export const issue = 3;
export const title = "every scenario of buddy, slabs and the allocator above them holds";

const buddy = "zig/heap/buddy_test.zig";
const heap = "zig/heap/global_test.zig";
const classes = "zig/heap/slab_class.zig";
const fuzz = "zig/heap/global_fuzz.zig";

/** Scenario, file, and the names of its tests. */
const scenarios: [scenario: string, file: string, ...tests: string[]][] = [
  ["pages come and go", buddy, "pages come, are alone, and go, at three page sizes"],
  ["alignment", buddy, "a run of a large alignment has it whatever the section's start"],
  ["exhaustion and recovery", buddy, "a region is used to its last page, and recovers"],
  ["coalescing", buddy, "neighbours that were freed in any order become one block again"],
  ["fragmentation", buddy, "fragmentation refuses a large run until the gaps close"],
  [
    "second region first-fit, free finds its section, sums",
    buddy,
    "the second region serves when the first is used up, and each free finds its own",
  ],
  ["overlap", buddy, "an overlapping region is refused"],
  ["low memory", buddy, "low pages are found by a translation that knows no neighbours"],
  ["recorded count used on free", buddy, "five pages cost five"],
  [
    "all classes, many objects, reuse",
    heap,
    "every class fills slabs, and its slots are used again",
  ],
  [
    "size classes",
    classes,
    "a slot wastes less than an eighth above 128 bytes, and no smaller class would do",
    "an aligned class has all its slots aligned",
  ],
  ["second initialisation", heap, "a second initialisation is refused and changes nothing"],
  ["a second live instance", heap, "two heaps live side by side, and each knows its own"],
  [
    "failed initialisation, region too small",
    heap,
    "an initialisation that failed can be tried again",
  ],
  ["small, large, mixed", heap, "every size comes aligned, alone and with its contents"],
  ["alignments", heap, "alignments up to a mebibyte are absolute"],
  [
    "remote frees: counted, rounds on one slab, whole slab",
    heap,
    "one slab goes through rounds of remote frees, whole and in parts",
  ],
  [
    "full, remote and local at once",
    heap,
    "a full slab that owner and others free at the same time comes back whole",
  ],
  ["small churn, then large", heap, "after small blocks come and go, a large one finds room"],
  [
    "low memory in pieces",
    heap,
    "low pages come from the low region alone, also when it is in pieces",
  ],
  [
    "hot-add, discontiguous regions",
    heap,
    "regions are added while in use, far from one another, and each serves",
  ],
  ["empty slabs are counted", heap, "empty slabs are kept, age, and go; sections follow them"],
  [
    "exhaustion of a slice",
    heap,
    "a caller's slice is used to its last slot by several owners, and recovers",
  ],
  ["no walk without remote frees", heap, "a miss walks no slabs"],
  ["one look brings every slab home", heap, "remote frees in many slabs all come home at once"],
  ["owners that end", heap, "an ended thread's slots are freed and used by others"],
  ["every refusal of the backend", heap, "each call of the backend refused in turn loses nothing"],
  [
    "realloc",
    heap,
    "realloc stays within the class, grows into free pages, and leaves the old when refused",
  ],
  [
    "stress, one thread",
    fuzz,
    "the general allocator agrees with the model over random operations",
  ],
  [
    "stress, four threads",
    fuzz,
    "threads that share a heap, free each other's blocks, end and begin lose nothing",
  ],
  ["stress of pages, added regions", buddy, "threads share pages while regions are added"],
];

export async function run({ size, log }: ProofOptions): Promise<void> {
  for (const [scenario, file, ...tests] of scenarios) {
    const text = readFileSync(join(root, file), "utf8");
    for (const test of tests) ok(text.includes(`test "${test}"`), `${scenario}: no test "${test}"`);
  }
  log(`${scenarios.length} scenarios`);
  const filters = ["heap.buddy", "heap.global", "heap.slab_class"];
  for (let round = 0; round < (size === "full" ? 20 : 1); round += 1) {
    await zigBuild(log, "test", ...filters.map((text) => `-Dtest-filter=${text}`));
  }
}
