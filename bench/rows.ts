// The rows by their names: what each is about, which of them a report has, and how each came out.

import type { Comparison } from "./comparison.ts";
import { type RowName, targets } from "./targets.ts";

export const titles: Record<RowName, string> = {
  B1: "4 MiB leased, viewed and freed, alias views",
  B2: "4 KiB and 4 MiB leased, viewed and freed, revoke views",
  B3: "2 to 64 MiB leased, touched and freed, revoke views",
  B4: "2 to 64 MiB leased, touched and freed, alias views",
  B5: "4 MiB of zeros, recycled",
  B6: "random reads over 1 GiB",
  B7: "a slot taken, two fields written, freed",
  B8: "a million records to a Worker",
  B9: "blob server, 8 MiB bodies",
  B10: "import and first allocation; size of the library",
  I1: "instructions of the pool",
  I2: "instructions of the general allocator",
  I3: "instructions of the reclaiming allocator",
  I4: "instructions of the owner's slab",
  I5: "instructions of a lease",
  N1: "one region of 2 to 32 MiB, allocated and freed",
  N2: "64 regions of 2 and 32 MiB, then all freed",
  N3: "64 regions allocated by one thread, freed by another",
  N4: "one object of 16 B to 64 KiB, allocated and freed",
  N5: "1,000 and 10,000 live objects, one replaced",
  N6: "objects across threads; known workloads, time and memory",
  N7: "the reclaiming allocator: pairs, many live, two threads",
  N8: "`reclaim()` after 10,000 frees, and with nothing to do",
  N9: "slots of 8 B: pairs, and freed by another thread",
  N10: "resident memory 2 s after a burst to 1 GiB",
  S1: "size of the WebAssembly module",
  S2: "a million operations in WebAssembly",
  S3: "linear memory at the end of them",
  T1: "one block, beside Bun's own buffers",
  W1: "pairs of 16 B to 1 MiB",
  W2: "1,000 to 4 million live, then freed",
  W3: "recorded sizes, with the tails",
  W4: "threads that come and go",
  W5: "regions touched",
};

interface JudgedLine {
  work: string;
  against: string;
  ratio: number;
  target: number;
}

/** How a row came out: by its judged lines, of which the one furthest from its target is named. */
export interface RowResult {
  row: string;
  /** "open" has no judged line: nothing judges the row, or whoever it is judged against is missing. */
  verdict: "met" | "short" | "failed" | "open";
  judged: number;
  met: number;
  worst?: JudgedLine;
  /** What was left out and why, or what failed. */
  notes: string[];
  /** How long the row took. */
  seconds?: number;
}

/** One result for each row that the lines speak of, in the order of `targets`. */
export function rowResults(comparisons: readonly Comparison[]): RowResult[] {
  const order = Object.keys(targets);
  const names = [...new Set(comparisons.map((one) => one.row))];
  return names
    .sort((a, b) => order.indexOf(a) - order.indexOf(b))
    .map((row) =>
      resultOf(
        row,
        comparisons.filter((one) => one.row === row),
      ),
    );
}

function resultOf(row: string, lines: readonly Comparison[]): RowResult {
  const judged = lines.filter((one) => one.verdict === "ok" || one.verdict === "short");
  const met = judged.filter((one) => one.verdict === "ok").length;
  const notes = lines
    .filter((one) => one.verdict === "failed" || one.verdict === "skipped")
    .map((one) => [one.against, one.note].filter(Boolean).join(" "));
  const worst = furthest(judged);
  return {
    row,
    verdict: verdictOf(lines, judged.length, met),
    judged: judged.length,
    met,
    ...(worst ? { worst } : {}),
    notes: [...new Set(notes)],
  };
}

function verdictOf(lines: readonly Comparison[], judged: number, met: number) {
  if (lines.some((one) => one.verdict === "failed")) return "failed";
  if (met < judged) return "short";
  return judged > 0 ? "met" : "open";
}

/** The line that is furthest above its target, as a factor. */
function furthest(lines: readonly Comparison[]): JudgedLine | undefined {
  let worst: JudgedLine | undefined;
  for (const { work, against, ratio, target } of lines) {
    if (ratio === undefined || target === undefined) continue;
    if (!worst || ratio / target > worst.ratio / worst.target) {
      worst = { work, against, ratio, target };
    }
  }
  return worst;
}

/**
 * 1 while a row is short or a line failed. A smoke run is too short to judge: it only shows that
 * every row still works.
 */
export function exitCode(report: { smoke: boolean; comparisons: readonly Comparison[] }): 0 | 1 {
  const bad = report.comparisons.some(
    ({ verdict }) => verdict === "failed" || (verdict === "short" && !report.smoke),
  );
  return bad ? 1 : 0;
}
