// The rows that go through the C ABI: N1, N2, N3 and N10 of the targets.

import { type Comparison, compare, failed, skipped } from "./comparison.ts";
import {
  against,
  againstBest,
  besideLines,
  lines,
  type Options,
  regionPeers,
  run,
  sourcesFor,
} from "./contest.ts";
import { type Face, findPeer, PeerProcess, type Source, type Work } from "./peers.ts";
import { targets } from "./targets.ts";

const mib = 1 << 20;
const burstBytes = 1 << 30;
const burstIdleMs = 2000;

const timedRows = {
  N1: { load: "pairs", work: "pair", sizes: [2, 4, 32] },
  N2: { load: "batches", work: "64 live, then freed", sizes: [2, 32] },
  N3: { load: "handover", work: "A allocates 64, B frees", sizes: [2, 32] },
} as const satisfies Record<string, { load: string; work: string; sizes: readonly number[] }>;

const faces: readonly Face[] = ["holdfast", "holdfast_numbers"];

type TimedRow = keyof typeof timedRows;

/**
 * N1 is judged against lgalloc, the others against whoever was best in this run, beside which the
 * face by numbers is shown too.
 */
export async function timedRow(row: TimedRow, options: Options): Promise<Comparison[]> {
  const { load, work, sizes } = timedRows[row];
  const judge =
    row === "N1" ? against({ lgalloc: targets.N1.lgalloc }) : againstBest(targets[row].best);
  const works = sizes
    .map((size): Work => ({ name: `${work}, ${size} MiB`, load, bytes: size * mib }))
    .filter(({ name }) => name.includes(options.work ?? ""));
  const result: Comparison[] = [];
  for (const each of options.smoke ? works.slice(0, 1) : works) {
    for (const outcome of await run(row, each, faces, regionPeers, options)) {
      result.push(...lines(row, outcome, "holdfast", judge));
      result.push(...besideLines(row, outcome, "holdfast_numbers"));
    }
  }
  return result;
}

/**
 * N10: a burst, everything freed, two seconds without a call. A process gives one sample, since
 * what a burst leaves behind would be the next one's start; opponents, whose figure is only there
 * to be read, run once each, beside a repetition of holdfast.
 */
export async function idleRow(options: Options): Promise<Comparison[]> {
  const [total, idleMs] = options.smoke ? [128 * mib, 50] : [burstBytes, burstIdleMs];
  const work = `burst to ${total / mib} MiB, freed, idle ${idleMs} ms: resident against start`;
  const others = sourcesFor(options, regionPeers);
  const starts: number[] = [];
  const ends: number[] = [];
  const result: Comparison[] = [];
  try {
    for (let round = 0; round < Math.max(options.rounds, others.length); round++) {
      const other = others[round];
      const [ours, theirs] = await Promise.all([
        burst(findPeer("holdfast"), total, idleMs),
        other && "path" in other ? opponentsBurst(other, total, idleMs) : undefined,
      ]);
      starts.push(ours.start);
      ends.push(ours.end);
      if (other && "missing" in other) result.push(skipped("N10", work, other.name, other.missing));
      if (typeof theirs === "string") {
        result.push(skipped("N10", work, other?.name ?? "", `it failed: ${theirs}`));
      } else if (theirs) {
        const { label, start, end } = theirs;
        result.push(
          compare({
            row: "N10",
            work,
            against: `${label}: its end`,
            unit: "MiB",
            ours: [ours.end],
            theirs: [end],
            note: `it started at ${start.toFixed(1)} MiB`,
          }),
        );
      }
    }
  } catch (error) {
    return [failed("N10", work, "", String(error)), ...result];
  }
  const own = {
    row: "N10",
    work,
    against: "its own start",
    unit: "MiB" as const,
    ours: ends,
    theirs: starts,
  };
  // A smoke run does not wait for the purge, so it judges nothing.
  const target = options.smoke ? undefined : targets.N10.startResident;
  return [compare({ ...own, target }), ...result];
}

/** An opponent that fails is named, and fails nothing. */
function opponentsBurst(source: Source, total: number, idleMs: number) {
  return burst(source, total, idleMs).catch((error: unknown) => String(error));
}

async function burst(source: Source, total: number, idleMs: number) {
  if ("missing" in source) throw new Error(source.missing);
  const peer = await PeerProcess.start(source);
  try {
    const [start = 0, peak = 0, end = 0] = await peer.command("burst", total, idleMs, 0);
    if (peak < total) throw new Error(`${peer.name} held less than the burst: ${peak}`);
    return { label: peer.label, start: start / mib, end: end / mib };
  } finally {
    await peer.end();
  }
}
