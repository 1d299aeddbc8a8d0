// What is made of docs/benchmarks/all.json and of nothing else: README.md's table, one line for each
// row that has a target, and all.md, every line. `npm run bench -- --readme` writes both; a proof
// fails while they are out of date.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "../scripts/toolchain.ts";
import { judgedRatio, markdown, type Report, ratio } from "./report.ts";
import { type RowResult, titles } from "./rows.ts";
import { groups, type RowName } from "./targets.ts";

const reportFile = "docs/benchmarks/all.json";
export const pageFile = "docs/benchmarks/all.md";
const start = `<!-- made by "npm run bench -- --readme" from ${reportFile} -->`;
const end = "<!-- end of what is made -->";

export function committedReport(): Report {
  return JSON.parse(readFileSync(join(root, reportFile), "utf8")) as Report;
}

/** Writes what is out of date; answers its names. */
export function writeReadme(): string[] {
  const report = committedReport();
  const readme = readFileSync(join(root, "README.md"), "utf8");
  const made = { "README.md": withTable(readme, report), [pageFile]: markdown(report) };
  const stale = Object.entries(made).filter(
    ([name, text]) =>
      !existsSync(join(root, name)) || readFileSync(join(root, name), "utf8") !== text,
  );
  for (const [name, text] of stale) writeFileSync(join(root, name), text);
  return stale.map(([name]) => name);
}

/** The text with the report's table between its marks. */
export function withTable(text: string, report: Report): string {
  const from = text.indexOf(start);
  const to = text.indexOf(end);
  if (from < 0 || to < from)
    throw new Error(`there is no place for the table: ${start} ... ${end}`);
  return `${text.slice(0, from + start.length)}\n\n${readmeTable(report)}\n\n${text.slice(to)}`;
}

/** Where, when and how; a line a row; what is missing from it. */
export function readmeTable(report: Report): string {
  const asked = groups.all ?? [];
  const results = report.rows.filter((one) => asked.includes(one.row as RowName));
  const known = new Set(results.map((one) => one.row));
  const unknown = asked.filter((row) => !known.has(row));
  const met = results.filter((one) => one.verdict === "met").length;
  const row = (texts: readonly string[]) => `| ${texts.join(" | ")} |`;
  return [
    `${met} of ${asked.length} rows reach their target. ${provenance(report)}`,
    "",
    row(["row", "what is done", "furthest from its target", "ratio", "target", ""]),
    row(["---", "---", "---", "---:", "---:", "---"]),
    ...results.map((one) => row(cells(one))),
    ...unknown.map((name) => row([name, titles[name], "", "", "", "not run"])),
    ...remarks(report, results, unknown),
  ].join("\n");
}

function provenance(report: Report): string {
  const { cpu, cpus, memoryGiB, kernel, transparentHugePages, bun } = report.machine;
  const { holdfast, commit } = report.source;
  return [
    `Measured ${report.date.slice(0, 10)} on ${cpus} processors (${cpu}), ${memoryGiB} GiB,`,
    `Linux ${kernel}, huge pages \`${transparentHugePages}\`, Bun ${bun}:`,
    `holdfast ${holdfast} at ${commit}, ${report.rounds} rounds, seed ${report.seed}.`,
  ].join(" ");
}

function cells({ row, verdict, judged, met, worst }: RowResult): string[] {
  const verdicts = {
    met: "met",
    short: `short: ${met} of ${judged} lines met`,
    failed: "failed",
    open: "not judged",
  };
  return [
    row,
    titles[row as RowName],
    worst ? `${worst.work}, against ${worst.against}` : "",
    worst ? judgedRatio(worst.ratio, worst.target) : "",
    worst ? ratio(worst.target) : "",
    verdicts[verdict],
  ];
}

function remarks(report: Report, results: readonly RowResult[], unknown: readonly string[]) {
  const result: string[] = [];
  if (unknown.length > 0) result.push(`Not run: ${unknown.join(", ")}.`);
  const earlier = new Map(
    report.comparisons.filter((one) => one.run).map((one) => [one.row, one.date]),
  );
  if (earlier.size > 0) {
    const named = Array.from(earlier, ([row, day]) => `${row} (${day})`);
    result.push(`Measured in other runs: ${named.join(", ")}.`);
  }
  const left = results.flatMap((one) => one.notes.map((note) => `${one.row} ${firstLine(note)}`));
  if (left.length > 0) result.push(`Left out or failed: ${left.join("; ")}.`);
  return result.flatMap((text) => ["", text]);
}

function firstLine(text: string): string {
  return text.split("\n")[0] ?? "";
}
