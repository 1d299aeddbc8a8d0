// What is made of docs/benchmarks/all.json and of nothing else: README.md's table, one line for each
// row that has a target, and all.md, every line. `npm run bench -- --readme` writes both; a proof
// fails while they are out of date.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "../scripts/toolchain.ts";
import { judgedRatio, markdown, type Report } from "./report.ts";
import { type RowResult, titles } from "./rows.ts";
import { groups } from "./targets.ts";

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
  const results = new Map(report.rows.map((one) => [one.row, one]));
  const met = asked.filter((row) => results.get(row)?.verdict === "met").length;
  const row = (texts: readonly string[]) => `| ${texts.join(" | ")} |`;
  return [
    `${met} of ${asked.length} rows reach their target. ${provenance(report)}`,
    "",
    row(["row", "what is done", "the line that has least room", "ratio", "target", ""]),
    row(["---", "---", "---", "---:", "---:", "---"]),
    ...asked.map((name) => row([name, titles[name], ...cells(results.get(name))])),
    ...remarks(report),
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

function cells(result: RowResult | undefined): string[] {
  if (!result) return ["", "", "", "not run"];
  const { verdict, judged, met, worst } = result;
  const verdicts = {
    met: "met",
    short: `short: ${met} of ${judged} lines met`,
    failed: "failed",
    open: "not judged",
  };
  if (!worst) return ["", "", "", verdicts[verdict]];
  const { work, against, ratio, target } = worst;
  return [
    `${work}, against ${against}`,
    judgedRatio(ratio, target),
    String(Number(target.toPrecision(3))),
    verdicts[verdict],
  ];
}

/** What the lines above do not say: opponents that are missing, and rows of other days. */
function remarks(report: Report): string[] {
  const result: string[] = [];
  const left = Map.groupBy(
    report.rows.flatMap(({ row, notes }) => notes.map((note) => ({ row, note: firstLine(note) }))),
    ({ note }) => note,
  );
  if (left.size > 0) {
    const named = Array.from(
      left,
      ([note, of]) => `${note} (${of.map(({ row }) => row).join(", ")})`,
    );
    result.push(`Left out or failed: ${named.join("; ")}.`);
  }
  const earlier = Map.groupBy(
    report.comparisons.filter(({ run }) => run !== undefined),
    ({ date }) => date,
  );
  for (const [day, lines] of earlier) {
    const rows = new Set(lines.map(({ row }) => row));
    result.push(`Measured in other runs, on ${day}: ${[...rows].join(", ")}.`);
  }
  return result.flatMap((text) => ["", text]);
}

function firstLine(text: string): string {
  return text.split("\n")[0] ?? "";
}
