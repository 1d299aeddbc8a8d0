/**
 * `npm run test:faults [-- <name>...]`: brings back, one at a time, the faults of test/faults.ts by
 * `-Dfault=<name>` and shows that exactly the test named there turns red, and no other of the same
 * part. A fault that nothing notices, or that something else notices too, fails the run. The tests of
 * other parts are left out: what stands upon a broken part shows the fault as well.
 */
import { availableParallelism } from "node:os";
import { type Fault, faults, prefixes } from "../test/faults.ts";
import { run, zigPath } from "./toolchain.ts";

/** A fault may turn a wait into an endless one. */
const TEST_LIMIT = "60s";

const names = process.argv.slice(2);
const chosen = faults.filter((fault) => names.length === 0 || names.includes(fault.name));
const unknown = names.filter((name) => !faults.some((fault) => fault.name === name));
if (unknown.length > 0) {
  console.error(`no fault is called ${unknown.join(", ")}; there are:`);
  for (const fault of faults) console.error(`  ${fault.name}: ${fault.title}`);
  process.exit(2);
}

/** The files with a part's tests, by what their full names begin with. */
const files: Readonly<Record<string, readonly string[]>> = {
  "": ["heap.faults_test", "heap.large_pool_test", "region."],
  "buddy-": ["heap.buddy_test"],
  "global-": ["heap.global_test", "heap.slab"],
  "small-": ["heap.small_heap_test", "heap.small_layer_test"],
  "reclaiming-": ["heap.reclaiming_test"],
  "owner-": ["heap.owner_slab_test", "heap.owner_policy", "engine.owner_slabs_test"],
};

/** What the faults of the same part begin with. */
function prefixOf(name: string): string {
  return Object.values(prefixes).find((prefix) => name.startsWith(prefix)) ?? "";
}

let failed = 0;
const waiting = [...chosen];
// A build uses one processor most of the time, and faults know nothing of each other.
await Promise.all(Array.from({ length: Math.min(4, availableParallelism()) }, tryNext));

async function tryNext(): Promise<void> {
  for (let fault = waiting.shift(); fault; fault = waiting.shift()) {
    const problem = await tryFault(fault);
    if (problem) failed += 1;
    console.log(`${problem ? "FAILED" : "ok    "} ${fault.name}: ${problem ?? fault.title}`);
  }
}
console.log(`${chosen.length - failed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);

/** What is wrong, or undefined if exactly the fault's own test turned red. */
async function tryFault(fault: Fault): Promise<string | undefined> {
  const command = [
    zigPath(),
    "build",
    "test",
    `-Dfault=${fault.name}`,
    "--test-timeout",
    TEST_LIMIT,
  ];
  const filters = (files[prefixOf(fault.name)] ?? []).map((name) => `-Dtest-filter=${name}`);
  const { output } = await run([...command, ...filters]);
  // Fuzzers and stress of real threads may find any fault as well, or by chance not; what counts is
  // the test that was written for it.
  const red = [...output.matchAll(/^error: '(.*?)\.test\.(.*)' (?:failed|terminated|timed)/gm)]
    .filter((match) => !/(_fuzz|threads_test)$/.test(match[1] ?? ""))
    .map((match) => match[2]);
  if (red.length === 1 && red[0] === fault.test) return undefined;
  if (red.length > 0) return `red: ${red.join("; ")}. Expected only: ${fault.test}`;
  const compiled = output === "" || output.includes("tests passed");
  return compiled ? "no test noticed it" : `the build failed:\n${output}`;
}
