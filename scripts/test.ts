/**
 * `npm test [-- <bun test arguments>]`: all suites, each with its own line, and as the last line
 * `N passed, N failed` over all of them. Exit 1 if anything failed or a suite could not run.
 *
 * Zig's unit tests, a short run of each fuzzer, then `bun test` (which has the C and type tests
 * and every proof at smoke size). With arguments only `bun test` runs, with them. Something that
 * this machine cannot run says `skipped: why` and is counted as that.
 */
import { ensureLibrary } from "./library-build.ts";
import { type Outcome, run, zigPath } from "./toolchain.ts";

interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

interface Suite {
  name: string;
  command: string[];
  count(outcome: Outcome): Counts | undefined;
}

const filters = process.argv.slice(2);

const suites: Suite[] = [
  {
    name: "zig unit tests",
    command: [zigPath(), "build", "test", "--summary", "all"],
    count: countZig,
  },
  {
    name: "fuzz smoke",
    command: [zigPath(), "build", "fuzz", "--", "smoke"],
    count: countPlain,
  },
  {
    name: "bun test",
    command: [process.execPath, "test", ...filters],
    count: countBun,
  },
];

/** "Build Summary: ...; 2/6 tests passed (1 skipped, 2 failed, 1 crashed)" */
function countZig({ output }: Outcome): Counts | undefined {
  const summary = [...output.matchAll(/(\d+)\/(\d+) tests passed(?: \(([^)]*)\))?/g)].at(-1);
  if (!summary) return undefined;
  const passed = Number(summary[1]);
  const skipped = Number(/(\d+) skipped/.exec(summary[3] ?? "")?.[1] ?? 0);
  return { passed, skipped, failed: Number(summary[2]) - passed - skipped };
}

function countPlain({ output }: Outcome): Counts | undefined {
  const line = [...output.matchAll(/^(\d+) passed, (\d+) failed$/gm)].at(-1);
  return line && { passed: Number(line[1]), failed: Number(line[2]), skipped: 0 };
}

/** " 12 pass", " 1 fail", " 2 skip"; "1 error" is a failure outside any test. */
function countBun({ output }: Outcome): Counts | undefined {
  const found = (word: string) =>
    Number([...output.matchAll(new RegExp(`^ *(\\d+) ${word}s?$`, "gm"))].at(-1)?.[1] ?? 0);
  if (!/^ *\d+ pass$/m.test(output)) return undefined;
  const reported = output.match(/^skipped: /gm)?.length ?? 0;
  return {
    passed: found("pass") - reported,
    failed: found("fail") + found("error"),
    skipped: found("skip") + found("todo") + reported,
  };
}

ensureLibrary();
const total: Counts = { passed: 0, failed: 0, skipped: 0 };
const lines: string[] = [];
for (const suite of filters.length > 0 ? suites.slice(-1) : suites) {
  console.log(`\n== ${suite.name}`);
  const start = performance.now();
  const outcome = await run(suite.command, { show: true });
  const counts = suite.count(outcome) ?? { passed: 0, failed: 0, skipped: 0 };
  // A suite that ends badly without naming a test, or runs no test, has failed as a whole.
  if (counts.failed === 0 && (outcome.status !== 0 || counts.passed === 0)) counts.failed = 1;
  total.passed += counts.passed;
  total.failed += counts.failed;
  total.skipped += counts.skipped;
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  lines.push(`${suite.name}: ${format(counts)} (${seconds} s)`);
}
console.log(`\n${lines.join("\n")}`);
console.log(format(total));
process.exit(total.failed === 0 ? 0 : 1);

function format({ passed, failed, skipped }: Counts): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
}
