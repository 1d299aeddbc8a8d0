/**
 * The README's table is what `npm run bench -- --readme` makes of docs/benchmarks/all.json, the page
 * beside it says the same, and docs/benchmarks/short.md has a section for every row that is short.
 * All three are out of date as soon as the report says something else.
 */
import { deepStrictEqual, notStrictEqual, ok, strictEqual } from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { committedReport, pageFile, withTable } from "../../bench/readme.ts";
import { markdown, type Report } from "../../bench/report.ts";
import { rowResults } from "../../bench/rows.ts";
import type { ProofOptions } from "../../scripts/proofs.ts";
import { root } from "../../scripts/toolchain.ts";
import { reportFaults } from "../fixtures/bench_report.ts";

export const name = "bench-readme";
export const issue = 8;
export const title =
  "the README's table is made from the committed report, and every short row is written up";

export function run({ log }: ProofOptions): void {
  const report = committedReport();
  strictEqual(report.smoke, false, "the committed report is of a smoke run");
  deepStrictEqual(reportFaults(report, false), []);

  const readme = textOf("README.md");
  strictEqual(readme, withTable(readme, report), 'out of date: "npm run bench -- --readme"');
  strictEqual(textOf(pageFile), markdown(report), `${pageFile} is out of date`);
  deepStrictEqual(rowsWithout(report, textOf("docs/benchmarks/short.md")), []);

  const worse = withoutGain(report);
  notStrictEqual(withTable(readme, worse), readme, "another figure makes no other table");
  ok(rowsWithout(worse, "").length > 0, "a row without a section is not noticed");
  const count = (verdict: string) => report.rows.filter((one) => one.verdict === verdict).length;
  log(`${count("met")} rows met, ${count("short")} short and written up, of ${report.date}`);
}

function textOf(path: string): string {
  return readFileSync(join(root, path), "utf8");
}

/** The short rows that no heading begins with: `## N5: live objects`. */
function rowsWithout(report: Report, page: string): string[] {
  const headings = Array.from(page.matchAll(/^## (\w+):/gm), ([, row]) => row);
  return report.rows
    .filter(({ row, verdict }) => verdict === "short" && !headings.includes(row))
    .map(({ row }) => row);
}

/** The same report with every judged line at three times its target. */
function withoutGain(report: Report): Report {
  const comparisons = report.comparisons.map((one) =>
    one.target === undefined ? one : { ...one, ratio: one.target * 3, verdict: "short" as const },
  );
  return { ...report, comparisons, rows: rowResults(comparisons) };
}
