// The benchmark's one entry.
//
//     bun bench/run.ts -- [row or group ...] [--json file] [--against file] [--rounds n] [--seed n]
//                         [--markdown file] [--smoke] [--list] [--work text] [--peers a,b]
//                         [--record] [--merge]
//
// Rows and groups are those of targets.ts; without any, the group `large` runs. Exit 0 when no
// judged line is short, 1 when one is or a row could not run, 2 for a wrong command line. A smoke
// run judges nothing: it shows that every row still works.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { ensureLibrary } from "../scripts/library-build.ts";
import { type Comparison, failed } from "./comparison.ts";
import { instructionRow } from "./instructions.ts";
import { idleRow, type Options, timedRow } from "./native_rows.ts";
import { objectRow } from "./object_rows.ts";
import { changes, line, machine, markdown, type Report, table } from "./report.ts";
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

function chosenRows(words: readonly string[]): RowName[] {
  const names = words.length === 0 ? ["large"] : words;
  const rows = names.flatMap((name) => {
    const row = Object.keys(targets).find((known) => known.toLowerCase() === name.toLowerCase());
    const members = row ? [row as RowName] : groups[name];
    if (!members) {
      const known = [...Object.keys(groups), ...Object.keys(targets)].join(", ");
      console.error(`no row or group named ${name}; there are ${known}`);
      process.exit(2);
    }
    return members;
  });
  return [...new Set(rows)];
}

const { values, positionals } = parseArgs({
  args: process.argv.slice(2).filter((word) => word !== "--"),
  allowPositionals: true,
  options: {
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
  },
});

if (values.list) {
  for (const [row, numbers] of Object.entries(targets)) console.log(row, JSON.stringify(numbers));
  for (const [group, rows] of Object.entries(groups)) console.log(`${group}: ${rows.join(" ")}`);
  process.exit(0);
}

const smoke = values.smoke;
const rounds = Number(values.rounds ?? (smoke ? 1 : roundsDefault));
const seed = Number(values.seed ?? Date.now() % 2 ** 31);
if (!Number.isInteger(rounds) || rounds < 1 || !Number.isInteger(seed)) {
  console.error("--rounds and --seed take whole numbers, rounds at least 1");
  process.exit(2);
}

const { work, record } = values;
const peers = values.peers?.split(",");

// One library for the whole run, also for the processes that the rows start.
process.env.HOLDFAST_LIBRARY = ensureLibrary();

const report: Report = {
  date: new Date().toISOString(),
  smoke,
  rounds,
  seed,
  machine: machine(),
  comparisons: [],
};
console.log(`rounds ${rounds}, seed ${seed}, ${JSON.stringify(report.machine)}`);
for (const row of chosenRows(positionals)) {
  let comparisons: Comparison[];
  try {
    comparisons = await runRow(row, { rounds, smoke, seed, work, peers, record });
  } catch (error) {
    comparisons = [failed(row, "", "", String(error))];
  }
  for (const comparison of comparisons) console.log(line(comparison));
  report.comparisons.push(...comparisons);
}

console.log(`\n${table(report.comparisons)}`);
// Rows of an earlier run that were not run now stay in the file, with the date of their own run.
if (values.merge && values.json && existsSync(values.json)) {
  const older = JSON.parse(readFileSync(values.json, "utf8")) as Report;
  const now = new Set(report.comparisons.map((one) => one.row));
  const kept = older.comparisons.filter((one) => !now.has(one.row));
  for (const one of kept) one.date ??= older.date.slice(0, 10);
  const order = Object.keys(targets);
  report.comparisons = [...kept, ...report.comparisons].sort(
    (a, b) => order.indexOf(a.row) - order.indexOf(b.row),
  );
}
if (values.json) writeFileSync(values.json, `${JSON.stringify(report, null, 2)}\n`);
if (values.markdown) writeFileSync(values.markdown, markdown(report));
if (values.against) {
  const older = JSON.parse(readFileSync(values.against, "utf8")) as Report;
  console.log(`\nratios against ${older.date}:\n${changes(report, older)}`);
}

const count = (verdict: Comparison["verdict"]) =>
  report.comparisons.filter((one) => one.verdict === verdict).length;
const judged = smoke ? "" : `${count("ok")} ok, ${count("short")} short, `;
console.log(`\n${judged}${count("skipped")} skipped, ${count("failed")} failed`);
process.exit(count("failed") > 0 || (!smoke && count("short") > 0) ? 1 : 0);
