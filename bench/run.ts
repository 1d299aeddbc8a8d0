// The benchmark's one entry.
//
//     bun bench/run.ts -- [row or group ...] [--all] [--json file] [--against file] [--rounds n]
//                         [--seed n] [--markdown file] [--smoke] [--list] [--work text]
//                         [--peers a,b] [--record] [--merge] [--readme]
//
// Rows and groups are those of targets.ts; without any, the group `large` runs. Exit 0 when no
// judged line is short, 1 when one is or a row could not run, 2 for a wrong command line. A smoke
// run judges nothing: it shows that every row still works. A row that fails is a line with its
// reason; the rows after it run. The JSON is written anew after each row, so that a run that is
// stopped keeps what it has. `--readme` measures nothing: it writes README.md's table and
// docs/benchmarks/all.md from docs/benchmarks/all.json.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { ensureLibrary } from "../scripts/library-build.ts";
import { type Comparison, failed } from "./comparison.ts";
import type { Options } from "./contest.ts";
import { instructionRow } from "./instructions.ts";
import { idleRow, timedRow } from "./native_rows.ts";
import { objectRow } from "./object_rows.ts";
import { writeReadme } from "./readme.ts";
import {
  changes,
  line,
  machine,
  markdown,
  mergeOlder,
  type Report,
  rowTable,
  serialized,
  source,
  table,
} from "./report.ts";
import { exitCode, rowResults, titles } from "./rows.ts";
import { groups, type RowName, targets } from "./targets.ts";
import { typeScriptRow } from "./ts_rows.ts";
import { workloadRow } from "./workload_rows.ts";

const roundsDefault = 7;

function runRow(row: RowName, options: Options): Promise<Comparison[]> {
  switch (row) {
    case "N1":
    case "N2":
    case "N3":
      return timedRow(row, options);
    case "N4":
    case "N5":
    case "N6":
    case "N7":
    case "N8":
    case "N9":
      return objectRow(row, options);
    case "N10":
      return idleRow(options);
    case "W1":
    case "W2":
    case "W3":
    case "W4":
    case "W5":
      return workloadRow(row, options);
    case "I1":
    case "I2":
    case "I3":
    case "I4":
    case "I5":
      return instructionRow(row, options);
    default:
      return typeScriptRow(row, options);
  }
}

function wrongCommandLine(text: string): never {
  console.error(text);
  process.exit(2);
}

function chosenRows(words: readonly string[]): RowName[] {
  const names = words.length === 0 ? ["large"] : words;
  const rows = names.flatMap((name) => {
    const row = Object.keys(targets).find((known) => known.toLowerCase() === name.toLowerCase());
    const members = row ? [row as RowName] : groups[name];
    const known = [...Object.keys(groups), ...Object.keys(targets)].join(", ");
    return members ?? wrongCommandLine(`no row or group named ${name}; there are ${known}`);
  });
  return [...new Set(rows)];
}

function commandLine() {
  try {
    return parseArgs({
      args: process.argv.slice(2).filter((word) => word !== "--"),
      allowPositionals: true,
      options: {
        all: { type: "boolean", default: false },
        json: { type: "string" },
        markdown: { type: "string" },
        against: { type: "string" },
        rounds: { type: "string" },
        seed: { type: "string" },
        work: { type: "string" },
        peers: { type: "string" },
        record: { type: "boolean", default: false },
        merge: { type: "boolean", default: false },
        smoke: { type: "boolean", default: false },
        list: { type: "boolean", default: false },
        readme: { type: "boolean", default: false },
      },
    });
  } catch (error) {
    wrongCommandLine((error as Error).message);
  }
}

const { values, positionals } = commandLine();

if (values.list) {
  for (const [row, numbers] of Object.entries(targets)) {
    console.log(row, titles[row as RowName], JSON.stringify(numbers));
  }
  for (const [group, rows] of Object.entries(groups)) console.log(`${group}: ${rows.join(" ")}`);
  process.exit(0);
}
if (values.readme) {
  const written = writeReadme();
  console.log(written.length > 0 ? `written: ${written.join(", ")}` : "nothing was out of date");
  process.exit(0);
}

const { smoke, work, record } = values;
const peers = values.peers?.split(",");
const rounds = Number(values.rounds ?? (smoke ? 1 : roundsDefault));
const seed = Number(values.seed ?? Date.now() % 2 ** 31);
if (!Number.isInteger(rounds) || rounds < 1 || !Number.isInteger(seed)) {
  wrongCommandLine("--rounds and --seed take whole numbers, rounds at least 1");
}
const rows = chosenRows([...(values.all ? ["all"] : []), ...positionals]);
// Read before the first minute is spent: a file that is not there is a wrong command line.
const older = values.against ? readReport(values.against) : undefined;
const kept = values.merge && values.json && existsSync(values.json) ? values.json : undefined;
const merged = kept ? readReport(kept) : undefined;

function readReport(file: string): Report {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as Report;
  } catch (error) {
    wrongCommandLine(`${file}: ${(error as Error).message}`);
  }
}

// One library for the whole run, also for the processes that the rows start.
process.env.HOLDFAST_LIBRARY = ensureLibrary();

const report: Report = {
  run: crypto.randomUUID(),
  date: new Date().toISOString(),
  smoke,
  rounds,
  seed,
  asked: rows,
  source: source(),
  machine: machine(),
  rows: [],
  comparisons: [],
};
const began = performance.now();
const seconds: Record<string, number> = {};
const since = (start: number) => (performance.now() - start) / 1000;

function write(): void {
  report.rows = rowResults(report.comparisons).map((result) => {
    const took = seconds[result.row];
    return took === undefined ? result : { ...result, seconds: Number(took.toFixed(1)) };
  });
  const shown = merged ? mergeOlder(report, merged) : report;
  if (values.json) writeFileSync(values.json, serialized(shown));
  if (values.markdown) writeFileSync(values.markdown, markdown(shown));
}

console.log(`run ${report.run}, rounds ${rounds}, seed ${seed}`);
console.log(JSON.stringify({ ...report.source, ...report.machine }));
for (const [at, row] of rows.entries()) {
  console.log(`\n[${at + 1}/${rows.length}, ${since(began).toFixed(0)} s] ${row}: ${titles[row]}`);
  const start = performance.now();
  let comparisons: Comparison[];
  try {
    comparisons = await runRow(row, { rounds, smoke, seed, work, peers, record });
  } catch (error) {
    comparisons = [failed(row, titles[row], "", String(error))];
  }
  seconds[row] = since(start);
  for (const comparison of comparisons) console.log(line(comparison));
  report.comparisons.push(...comparisons);
  write();
}

console.log(`\n${table(report.comparisons)}\n\n${rowTable(report.rows)}`);
if (older) console.log(`\n${changes(report, older)}`);

const count = (verdict: Comparison["verdict"]) =>
  report.comparisons.filter((one) => one.verdict === verdict).length;
const judged = smoke ? "" : `${count("ok")} ok, ${count("short")} short, `;
console.log(
  `\n${judged}${count("skipped")} skipped, ${count("failed")} failed, ${since(began).toFixed(0)} s`,
);
process.exit(exitCode(report));
