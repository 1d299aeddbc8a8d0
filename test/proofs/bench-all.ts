/**
 * `npm run bench -- --all --json out.json` in a fresh clone measures every row that has a target
 * against all of its opponents, in one run, and ends with 1 while a row is short; a row that fails is
 * a line with its reason, and the others run. At smoke size it runs in this checkout, with tiny
 * blocks and without the opponents that would have to be compiled.
 *
 * The proof is about the report, not about speed: it holds while rows are short, if they are said to
 * be. At full size it takes as long as the benchmark, and first the time of building all opponents.
 */
import { deepStrictEqual, ok, strictEqual } from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Report } from "../../bench/report.ts";
import { exitCode } from "../../bench/rows.ts";
import { groups } from "../../bench/targets.ts";
import type { ProofOptions, ProofResult } from "../../scripts/proofs.ts";
import { root } from "../../scripts/toolchain.ts";
import { reportFaults } from "../fixtures/bench_report.ts";

export const name = "bench-all";
export const issue = 8;
export const title =
  "one command measures every row against its opponents and ends with 1 while a row is short";

type Log = (line: string) => void;

export async function run({ size, log }: ProofOptions): Promise<ProofResult> {
  if (!Bun.which("npm")) return { skipped: "npm is not on PATH" };
  const folder = mkdtempSync(join(tmpdir(), "holdfast-bench-"));
  try {
    const full = size === "full";
    if (full && !existsSync(join(root, ".git"))) return { skipped: "this is not a git checkout" };
    const checkout = full ? await freshClone(join(folder, "holdfast"), log) : root;
    await whole(checkout, join(folder, "out.json"), full ? [] : ["--smoke"], log);
    await withFailingRow(checkout, join(folder, "failing.json"));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function whole(checkout: string, file: string, more: string[], log: Log): Promise<void> {
  const status = await bench(checkout, ["--all", ...more, "--json", file], log);
  const report = JSON.parse(readFileSync(file, "utf8")) as Report;
  deepStrictEqual(reportFaults(report, true), []);
  deepStrictEqual(report.asked, groups.all);
  strictEqual(status, exitCode(report), "the exit code does not fit the report");
  strictEqual(report.smoke, more.includes("--smoke"));
  if (report.smoke) {
    const failed = report.comparisons.filter(({ verdict }) => verdict === "failed");
    deepStrictEqual(failed, []);
  }
  const rows = (verdict: string) => report.rows.filter((one) => one.verdict === verdict).length;
  const figures = `${report.comparisons.length} lines, exit ${status}, run ${report.run}`;
  log(report.smoke ? figures : `${rows("met")} rows met, ${rows("short")} short; ${figures}`);
}

/** B10 needs a temporary folder and has none; B7 after it has its figures all the same. */
async function withFailingRow(checkout: string, file: string): Promise<void> {
  const none = { TMPDIR: join(root, "no-such-folder") };
  const status = await bench(checkout, ["B10", "B7", "--smoke", "--json", file], () => {}, none);
  strictEqual(status, 1);
  const { rows, comparisons } = JSON.parse(readFileSync(file, "utf8")) as Report;
  const [failing, after] = ["B10", "B7"].map((row) => comparisons.filter((one) => one.row === row));
  deepStrictEqual(
    rows.map(({ row, verdict }) => [row, verdict === "failed"]),
    [
      ["B7", false],
      ["B10", true],
    ],
  );
  ok(
    failing?.every(({ verdict, note }) => verdict === "failed" && /no-such-folder/.test(`${note}`)),
  );
  ok(after?.every(({ ratio }) => Number(ratio) > 0));
}

/** Runs the benchmark as the README says; answers the exit code. Lines about progress are logged. */
async function bench(
  checkout: string,
  words: string[],
  log: Log,
  environment: Record<string, string> = {},
): Promise<number> {
  const child = Bun.spawn(["npm", "run", "--silent", "bench", "--", ...words], {
    cwd: checkout,
    env: { ...outside(), ...environment },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const errors = child.stderr.text();
  let pending = "";
  for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
    const lines = `${pending}${text}`.split("\n");
    pending = lines.pop() ?? "";
    for (const line of lines) if (line.startsWith("[")) log(line);
  }
  const status = await child.exited;
  if (status > 1) throw new Error(`the benchmark ended with ${status}:\n${await errors}`);
  return status;
}

/** The last commit, with packages of its own: changes that are not committed are not in it. */
async function freshClone(path: string, log: Log): Promise<string> {
  for (const [command, cwd] of [
    [["git", "clone", "--quiet", "--no-hardlinks", root, path], root],
    [["npm", "ci", "--silent"], path],
  ] as const) {
    const child = Bun.spawn([...command], { cwd, env: outside(), stderr: "pipe" });
    const errors = await child.stderr.text();
    if ((await child.exited) !== 0) throw new Error(`${command.join(" ")}:\n${errors}`);
    log(command.join(" "));
  }
  return path;
}

/** The environment without what this checkout's own commands have put there. */
function outside(): Record<string, string | undefined> {
  const own = /^(npm_|HOLDFAST_|BUN_|ZIG_)/i;
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !own.test(name)));
}
