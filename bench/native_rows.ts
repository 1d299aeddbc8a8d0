// The rows that go through the C ABI: N1, N2, N3 and N10 of the targets.

import { type Comparison, compare, failed, generator, skipped } from "./comparison.ts";
import {
  findPeer,
  interleave,
  MissingFace,
  type PeerName,
  PeerProcess,
  readyPeers,
  type Source,
  type Work,
} from "./peers.ts";
import { targets } from "./targets.ts";

export interface Options {
  rounds: number;
  smoke: boolean;
  seed: number;
  /** Only works whose name contains this. */
  work?: string | undefined;
  /** Only these opponents. */
  peers?: readonly string[] | undefined;
  /** Write the counted instructions down as the committed ones. */
  record?: boolean;
}

/** Who is measured beside holdfast where regions are allocated. */
const regionPeers: readonly PeerName[] = [
  "glibc",
  "jemalloc",
  "tcmalloc",
  "lgalloc",
  "mimalloc2",
  "mimalloc3",
];

const mib = 1 << 20;
const burstBytes = 1 << 30;
const burstIdleMs = 2000;

const timedRows = {
  N1: { load: "pairs", work: "pair", sizes: [2, 4, 32] },
  N2: { load: "batches", work: "64 live, then freed", sizes: [2, 32] },
  N3: { load: "handover", work: "A allocates 64, B frees", sizes: [2, 32] },
} as const satisfies Record<string, { load: string; work: string; sizes: readonly number[] }>;

type TimedRow = keyof typeof timedRows;

export async function timedRow(row: TimedRow, options: Options): Promise<Comparison[]> {
  const { load, work, sizes } = timedRows[row];
  const random = generator(options.seed);
  const own = [findPeer("holdfast"), findPeer("holdfast_numbers")];
  const sources = [...own, ...sourcesFor(options, regionPeers)];
  const result: Comparison[] = [];
  for (const size of options.smoke ? sizes.slice(0, 1) : sizes) {
    const name = `${work}, ${size} MiB`;
    const { peers, left } = await startAll(row, name, sources);
    try {
      const work = { name, load, bytes: size * mib };
      const samples = await interleave(peers, work, { ...options, random });
      result.push(...judge(row, name, peers, samples), ...left);
    } catch (error) {
      result.push(failed(row, name, "", String(error)), ...left);
    } finally {
      for (const peer of peers) await peer.end();
    }
  }
  return result;
}

/**
 * N1 is judged against lgalloc, the others against whoever was best in this run. The face by numbers
 * is shown beside that opponent.
 */
function judge(
  row: TimedRow,
  work: string,
  peers: readonly PeerProcess[],
  samples: Map<string, number[]>,
): Comparison[] {
  const ours = samples.get("holdfast") ?? [];
  const lines = peers
    .filter((peer) => !peer.name.startsWith("holdfast"))
    .map((peer) => ({
      name: peer.name,
      measured: { row, work, against: peer.label, ours, theirs: samples.get(peer.name) ?? [] },
    }));
  const judged =
    row === "N1"
      ? { line: lines.find((line) => line.name === "lgalloc"), target: targets.N1.lgalloc }
      : { line: best(lines), target: targets[row].best };
  const beside = { work: `${work}, by numbers`, ours: samples.get("holdfast_numbers") ?? [] };
  return lines.flatMap(({ measured }) =>
    measured === judged.line?.measured
      ? [compare({ ...measured, target: judged.target }), compare({ ...measured, ...beside })]
      : [compare(measured)],
  );
}

function best<T extends { measured: { ours: number[]; theirs: number[] } }>(
  lines: T[],
): T | undefined {
  return lines.toSorted((a, b) => compareMedian(a) - compareMedian(b))[0];
}

function compareMedian(line: { measured: { ours: number[]; theirs: number[] } }): number {
  return compare({ row: "", work: "", against: "", ...line.measured }).theirs ?? Number.NaN;
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
        other && "path" in other ? burst(other, total, idleMs) : undefined,
      ]);
      starts.push(ours.start);
      ends.push(ours.end);
      if (other && "missing" in other) result.push(skipped("N10", work, other.name, other.missing));
      if (theirs) {
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

/** Smoke runs leave out the peers that would have to be compiled first. */
export function sourcesFor(options: Options, names: readonly PeerName[]): Source[] {
  const ready: readonly string[] = readyPeers;
  return names
    .filter((name) => !options.smoke || ready.includes(name))
    .filter((name) => !options.peers || options.peers.includes(name))
    .map(findPeer);
}

export async function startAll(row: string, work: string, sources: readonly Source[]) {
  const peers: PeerProcess[] = [];
  const left: Comparison[] = [];
  for (const source of sources) {
    if ("missing" in source) {
      if (source.name === "holdfast") throw new Error(source.missing);
      left.push(skipped(row, work, source.name, source.missing));
      continue;
    }
    try {
      peers.push(await PeerProcess.start(source));
    } catch (error) {
      const make = error instanceof MissingFace ? skipped : failed;
      const text = error instanceof MissingFace ? error.message : String(error);
      left.push(make(row, work, source.name, text));
    }
  }
  return { peers, left };
}

export type { Work };
