// The benchmark's smoke size: every row still runs and yields finite figures. How fast anything is,
// is not asked here.

import { expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compare, generator, median, shuffled } from "../bench/comparison.ts";
import type { Report } from "../bench/report.ts";
import { groups, targets } from "../bench/targets.ts";

const entry = join(import.meta.dir, "..", "bench", "run.ts");

function bench(...words: string[]) {
  return Bun.spawnSync([process.execPath, entry, "--", ...words], { stderr: "pipe" });
}

test("every row of the benchmark runs and yields finite ratios", () => {
  const folder = mkdtempSync(join(tmpdir(), "holdfast-bench-"));
  const file = join(folder, "out.json");
  try {
    const run = bench("all", "workloads", "--smoke", "--json", file);
    const output = run.stdout.toString() + run.stderr.toString();
    expect({ code: run.exitCode, output: run.exitCode === 0 ? "" : output }).toEqual({
      code: 0,
      output: "",
    });
    const report = JSON.parse(readFileSync(file, "utf8")) as Report;
    for (const row of [...(groups.all ?? []), ...(groups.workloads ?? [])]) {
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
