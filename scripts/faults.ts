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

/**
 * Tests of the folders that a fault can reach, by the beginning of their full names; simulated
 * schedules of the structures below take long and know no faults.
 */
const houses = ["ds.", "os.", "region.", "heap.", "engine."].map((name) => `-Dtest-filter=${name}`);

/** The beginning of the faults of the part that a test's file belongs to; "" for the large pool. */
function partOf(file: string): string {
  if (/^heap\.(global|slab)/.test(file)) return "global-";
  if (/^heap\.buddy/.test(file)) return "buddy-";
  if (/^heap\.small/.test(file)) return "small-";
  if (/^heap\.reclaiming/.test(file)) return "reclaiming-";
  if (/^(heap|engine)\.owner/.test(file)) return "owner-";
  if (/^heap\.shared_pool/.test(file)) return "file-";
  return file.startsWith("engine.layered") ? "layered-" : "";
}

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
  const { output } = await run([...command, ...houses]);
  // Fuzzers and stress of real threads may find any fault as well, or by chance not; what counts is
  // the test that was written for it.
  const red = [...output.matchAll(/^error: '(.*?)\.test\.(.*)' (?:failed|terminated|timed)/gm)]
    .filter((match) => !/(_fuzz|threads_test)$/.test(match[1] ?? ""))
    .filter((match) => partOf(match[1] ?? "") === prefixOf(fault.name))
    .map((match) => match[2]);
  if (red.length === 1 && red[0] === fault.test) return undefined;
  if (red.length > 0) return `red: ${red.join("; ")}. Expected only: ${fault.test}`;
  const compiled = output === "" || output.includes("tests passed");
  return compiled ? "no test noticed it" : `the build failed:\n${output}`;
}
