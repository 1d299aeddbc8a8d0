// The benchmark itself: rows that no target judges run at smoke size (those with a target are the proof
// bench-all), and medians, verdicts, results and merging are right. How fast anything is, is not
// asked here.

import { expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type Comparison,
  compare,
  failed,
  generator,
  median,
  shuffled,
  skipped,
} from "../bench/comparison.ts";
import { changes, judgedRatio, mergeOlder, type Report } from "../bench/report.ts";
import { exitCode, rowResults } from "../bench/rows.ts";
import { groups, targets } from "../bench/targets.ts";

const entry = join(import.meta.dir, "..", "bench", "run.ts");

function bench(...words: string[]) {
  return Bun.spawnSync([process.execPath, entry, "--", ...words], { stderr: "pipe" });
}

test("every row without a target runs and yields finite ratios", () => {
  const folder = mkdtempSync(join(tmpdir(), "holdfast-bench-"));
  const file = join(folder, "out.json");
  try {
    const run = bench("instructions", "workloads", "--smoke", "--json", file);
    const output = run.stdout.toString() + run.stderr.toString();
    expect({ code: run.exitCode, output: run.exitCode === 0 ? "" : output }).toEqual({
      code: 0,
      output: "",
    });
    const report = JSON.parse(readFileSync(file, "utf8")) as Report;
    for (const row of [...(groups.instructions ?? []), ...(groups.workloads ?? [])]) {
      const ofRow = report.comparisons.filter((one) => one.row === row);
      const lines = ofRow.filter((one) => one.ratio !== undefined);
      // An allocator that this checkout does not have yet is named, not left out.
      const later = ofRow.some(
        (one) => one.verdict === "skipped" && one.against.startsWith("holdfast"),
      );
      if (later) continue;
      expect(lines, `row ${row} has no ratio`).not.toBeEmpty();
      for (const { work, against, ours, theirs, ratio } of lines) {
        const figures = [ours, theirs, ratio];
        const finite = figures.every((figure) => Number.isFinite(figure) && Number(figure) > 0);
        expect(finite, `${row} ${work} against ${against}: ${figures}`).toBe(true);
      }
    }
    for (const { row, verdict, against, note } of report.comparisons) {
      if (verdict === "skipped") expect(note, `${row} ${against}`).toMatch(/needs |it failed: /);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}, 240_000);

test("charts are drawn from a report, with machine, versions and date", () => {
  const charts = join(import.meta.dir, "..", "bench", "charts");
  if (!existsSync(join(charts, "node_modules"))) {
    console.log("skipped: charts: needs npm ci --prefix bench/charts");
    return;
  }
  const folder = mkdtempSync(join(tmpdir(), "holdfast-bench-"));
  try {
    const file = join(folder, "out.json");
    expect(bench("W1", "--smoke", "--json", file).exitCode).toBe(0);
    const drawn = Bun.spawnSync([process.execPath, join(charts, "draw.ts"), file]);
    expect(drawn.stdout.toString()).toContain("cost-by-size.svg");
    const svg = readFileSync(join(folder, "cost-by-size.svg"), "utf8");
    const { date, machine } = JSON.parse(readFileSync(file, "utf8")) as Report;
    for (const text of [date.slice(0, 10), String(machine.cpu), "glibc 2."]) {
      expect(svg).toContain(text);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}, 60_000);

test("an unknown row is refused with the names that exist", () => {
  const run = bench("N99");
  expect(run.exitCode).toBe(2);
  expect(run.stderr.toString()).toContain("N10");
});

test("a ratio above its target is short, at its target it is ok", () => {
  const measured = { row: "X", work: "w", against: "a", ours: [3, 1, 2], theirs: [4, 4, 4] };
  expect(compare({ ...measured, target: 0.5 })).toMatchObject({ ratio: 0.5, verdict: "ok" });
  expect(compare({ ...measured, target: 0.49 }).verdict).toBe("short");
  expect(compare(measured).verdict).toBe("info");
});

test("a figure that is missing is a failure, not a ratio", () => {
  const measured = { row: "X", work: "w", against: "a", ours: [1], theirs: [] };
  expect(compare({ ...measured, target: 2 })).toMatchObject({ verdict: "failed" });
});

test("the median of an even number of samples lies between the middle two", () => {
  expect(median([4, 1, 3, 2])).toBe(2.5);
  expect(median([5, 1, 3])).toBe(3);
  expect(median([])).toBeNaN();
});

test("a seed repeats the order of the rounds, and an order loses nobody", () => {
  const names = ["a", "b", "c", "d", "e", "f"];
  const orders = (seed: number) => {
    const random = generator(seed);
    return Array.from({ length: 8 }, () => shuffled(names, random).join(""));
  };
  expect(orders(7)).toEqual(orders(7));
  expect(orders(7)).not.toEqual(orders(8));
  for (const order of orders(9)) expect([...order].sort()).toEqual(names);
});

test("every group names rows that have a target", () => {
  const known = new Set(Object.keys(targets));
  for (const rows of Object.values(groups)) {
    for (const row of rows) expect(known).toContain(row);
  }
});

const line = (row: string, ratio: number, target?: number) =>
  compare({
    row,
    work: `w ${ratio}`,
    against: "a",
    ours: [ratio],
    theirs: [1],
    ...(target === undefined ? {} : { target }),
  });

test("a row is short while one of its lines is, and names the one furthest from its target", () => {
  const lines = [line("N2", 2, 4), line("N2", 3, 1), line("N2", 0.9, 0.2), line("N1", 9)];
  const [first, second] = rowResults([...lines, line("N3", 1, 1)]);
  expect(first).toMatchObject({ row: "N1", verdict: "open", judged: 0 });
  expect(second).toMatchObject({ row: "N2", verdict: "short", judged: 3, met: 1 });
  expect(second?.worst).toMatchObject({ work: "w 0.9", ratio: 0.9, target: 0.2 });
  const missing = [failed("N3", "w", "holdfast", "it fell"), line("N3", 1, 1)];
  expect(rowResults(missing)).toMatchObject([{ verdict: "failed", notes: ["holdfast it fell"] }]);
});

test("a ratio is shown with the digits that tell on which side of its target it is", () => {
  expect(judgedRatio(1.153, 1.15)).toBe("1.153");
  expect(judgedRatio(1.1496, 1.15)).toBe("1.15");
  expect(judgedRatio(0.0104, 0.01)).toBe("0.01040");
  expect(judgedRatio(2.614, 1)).toBe("2.61");
  expect(judgedRatio(2.614, Number.NaN)).toBe("2.61");
});

test("a run ends with 1 while a line is short or failed; a smoke run only for a failed one", () => {
  const met = [line("N1", 1, 2), skipped("N1", "w", "b", "needs cargo")];
  const codes = (comparisons: Comparison[]) =>
    [false, true].map((smoke) => exitCode({ smoke, comparisons }));
  expect(codes(met)).toEqual([0, 0]);
  expect(codes([...met, line("N2", 3, 2)])).toEqual([1, 0]);
  expect(codes([...met, failed("N2", "w", "a", "it fell")])).toEqual([1, 1]);
});

const reportOf = (run: string, comparisons: Comparison[]): Report => ({
  run,
  date: `2026-01-0${run}T00:00:00.000Z`,
  smoke: false,
  rounds: 7,
  seed: 1,
  asked: comparisons.map(({ row }) => row),
  source: { holdfast: "0", commit: `commit${run}`, zig: "0" },
  machine: {},
  rows: rowResults(comparisons),
  comparisons,
});

test("two commits are compared line by line, whatever versions their opponents have", () => {
  const of = (against: string, ours: number) =>
    compare({ row: "N1", work: "pair", against, ours: [ours], theirs: [1], target: 2 });
  const older = reportOf("1", [of("glibc 2.36", 1), of("lgalloc 0.6", 2)]);
  const text = changes(reportOf("2", [of("lgalloc 0.7", 3), of("jemalloc 5", 1)]), older);
  expect(text.split("\n")).toEqual([
    "ratios of commit1 of 2026-01-01T00:00:00.000Z -> commit2 of 2026-01-02T00:00:00.000Z",
    "N1  pair  lgalloc 0.7: 2.00 -> 3.00 (x1.50), ok -> short",
  ]);
});

test("rows that a later run did not measure stay, with the id and day of their own", () => {
  const older = reportOf("1", [line("N1", 1, 2), line("N2", 1, 2)]);
  const merged = mergeOlder(reportOf("2", [line("N1", 3, 2)]), older);
  expect(merged.comparisons).toMatchObject([
    { row: "N1", ratio: 3 },
    { row: "N2", ratio: 1, run: "1", date: "2026-01-01" },
  ]);
  expect(merged.comparisons[0]).not.toHaveProperty("run");
  expect(merged.rows.map(({ verdict }) => verdict)).toEqual(["short", "met"]);
  expect(merged.asked).toEqual(["N1", "N2"]);
});
