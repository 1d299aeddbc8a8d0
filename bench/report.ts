// How a result looks: a table for the terminal, JSON for whatever comes after.

import { readFileSync } from "node:fs";
import { cpus, loadavg, release, totalmem } from "node:os";
import type { Comparison } from "./comparison.ts";

export interface Report {
  date: string;
  smoke: boolean;
  rounds: number;
  seed: number;
  machine: Record<string, string | number>;
  comparisons: Comparison[];
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
  const rows = [headers, ...comparisons.map(cells)];
  const widths = headers.map((_, column) =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0)),
  );
  const lines = rows.map((row) =>
    row
      .map((text, column) => {
        const width = widths[column] ?? 0;
        return rightAligned.has(column) ? text.padStart(width) : text.padEnd(width);
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
    "Written by `npm run bench -- ... --markdown <file>`; [README.md](README.md) says how to read it.",
    "",
    `${report.date}, ${report.rounds} rounds, seed ${report.seed}: ${facts.join(", ")}.`,
    "",
    row(headers.map((header) => header || "verdict")),
    row(headers.map((_, column) => (rightAligned.has(column) ? "---:" : "---"))),
    ...report.comparisons.map((one) => row(cells(one))),
    "",
  ].join("\n");
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
    one.ratio === undefined ? "" : ratio(one.ratio),
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

function ratio(value: number): string {
  if (value >= 100) return value.toFixed(0);
  return value >= 0.1 ? value.toFixed(2) : value.toPrecision(2);
}

/** How each line's ratio changed against an older report of the same rows. */
export function changes(report: Report, older: Report): string {
  const before = new Map(older.comparisons.map((one) => [key(one), one]));
  const lines = report.comparisons.flatMap((one) => {
    const old = before.get(key(one));
    if (old?.ratio === undefined || one.ratio === undefined) return [];
    const factor = (one.ratio / old.ratio).toFixed(2);
    return [
      `${one.row}  ${one.work}  ${one.against}: ${ratio(old.ratio)} -> ${ratio(one.ratio)} (x${factor})`,
    ];
  });
  return lines.join("\n");
}

/** The same line in two reports, whatever the opponent's version. */
function key(one: Comparison): string {
  return `${one.row}|${one.work}|${one.against.split(" ")[0]}`;
}
