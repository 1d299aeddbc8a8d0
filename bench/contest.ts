// One work of a native row, carried out by all peers in turn: who takes part, what came out, and the
// lines that are made of it.

import { type Comparison, compare, failed, generator, median, skipped } from "./comparison.ts";
import {
  type Face,
  findPeer,
  interleave,
  MissingFace,
  type PeerName,
  PeerProcess,
  readyPeers,
  type Source,
  type Work,
} from "./peers.ts";

const kib = 1 << 10;
const mib = 1 << 20;

/** Who is measured beside holdfast where regions are allocated. */
export const regionPeers: readonly PeerName[] = [
  "glibc",
  "jemalloc",
  "tcmalloc",
  "lgalloc",
  "mimalloc2",
  "mimalloc3",
];

/** Who is measured beside holdfast where objects of any size are. */
export const anySizePeers: readonly PeerName[] = [
  "glibc",
  "smp",
  "jemalloc",
  "tcmalloc",
  "mimalloc2",
  "mimalloc3",
  "snmalloc",
];

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

/** What came out for one work: a median line for each peer. */
export interface Outcome {
  work: Work;
  samples: Map<PeerName, number[]>;
  labels: Map<PeerName, string>;
  peaks: Map<PeerName, number>;
  left: Comparison[];
}

/** Runs one work by all peers in turn; every peer is a process of its own, made for this work. */
export async function run(
  row: string,
  work: Work,
  faces: readonly Face[],
  opponents: readonly PeerName[],
  options: Options,
  further: readonly Work[] = [],
  raw = false,
): Promise<Outcome[]> {
  const random = generator(options.seed);
  const sources = [...faces.map(findPeer), ...sourcesFor(options, opponents)];
  const { peers, left } = await startAll(row, work.name, sources);
  const labels = new Map(peers.map((peer) => [peer.name, peer.label]));
  const outcomes: Outcome[] = [];
  try {
    for (const each of [work, ...further]) {
      const dropped = new Map<PeerName, string>();
      const samples = await interleave(peers, each, { ...options, random, raw }, dropped);
      const lost = [...dropped].map(([name, why]) =>
        lostLine(row, each.name, name, labels.get(name) ?? name, why),
      );
      const peaks = new Map(peers.map((peer) => [peer.name, peer.peakBytes]));
      const first = outcomes.length === 0 ? left : [];
      outcomes.push({ work: each, samples, labels, peaks, left: [...first, ...lost] });
    }
  } finally {
    for (const peer of peers) await peer.end();
  }
  return outcomes;
}

/** A failure of holdfast fails the row; an opponent's leaves the row without it, by name. */
function lostLine(row: string, work: string, name: PeerName, label: string, why: string) {
  return name.startsWith("holdfast")
    ? failed(row, work, label, why)
    : skipped(row, work, label, `it failed: ${why}`);
}

export type Judge = (name: PeerName, best: PeerName | undefined) => number | undefined;

/** What a line says of a face that is not the row's first. */
const asides: Partial<Record<Face, string>> = {
  holdfast_linked: ", linked in",
  holdfast_global: ", by numbers",
  holdfast_numbers: ", by numbers",
};

/** One line per opponent, each against `ours`; `judge` says which of them decide. */
export function lines(row: string, outcome: Outcome, ours: Face, judge: Judge): Comparison[] {
  const { work, samples, labels, left } = outcome;
  const own = samples.get(ours);
  if (!own) return [...theirsOnly(row, outcome), ...left];
  const best = bestOf(samples);
  const name = `${work.name}${asides[ours] ?? ""}`;
  const measured = opponentsOf(samples).map((peer) =>
    compare({
      row,
      work: name,
      against: labels.get(peer) ?? peer,
      ours: own,
      theirs: samples.get(peer) ?? [],
      target: judge(peer, best),
    }),
  );
  return [...measured, ...left];
}

/** A further face of holdfast against the best peer alone, judged if there is a target. */
export function besideLines(
  row: string,
  outcome: Outcome,
  face: Face,
  target?: number,
): Comparison[] {
  const { samples } = outcome;
  const best = bestOf(samples);
  if (!samples.has(face) || !best) return [];
  const shown = new Map([face, best].map((name) => [name, samples.get(name) ?? []]));
  const alone = { ...outcome, samples: shown, left: [] };
  return lines(row, alone, face, target ? againstBest(target) : () => undefined);
}

/** The field as it stands, where this checkout has nothing to compare yet. */
function theirsOnly(row: string, { work, samples, labels }: Outcome): Comparison[] {
  return opponentsOf(samples).map((peer) => ({
    row,
    work: work.name,
    against: labels.get(peer) ?? peer,
    unit: "ns" as const,
    theirs: median(samples.get(peer) ?? []),
    verdict: "info" as const,
  }));
}

export function opponentsOf(samples: Map<PeerName, number[]>): PeerName[] {
  return [...samples.keys()].filter((peer) => !peer.startsWith("holdfast"));
}

export function bestOf(samples: Map<PeerName, number[]>): PeerName | undefined {
  const middle = (peer: PeerName) => median(samples.get(peer) ?? []);
  return opponentsOf(samples).toSorted((a, b) => middle(a) - middle(b))[0];
}

/** A judge that holds us to the best of all. */
export function againstBest(target: number): Judge {
  return (peer, best) => (peer === best ? target : undefined);
}

export function against(targets_: Partial<Record<PeerName, number>>): Judge {
  return (peer) => targets_[peer];
}

export function size(bytes: number): string {
  if (bytes < kib) return `${bytes} B`;
  return bytes < mib ? `${bytes / kib} KiB` : `${bytes / mib} MiB`;
}

/** The orders of `replace` and `sweep` in the harness. */
export const orders = { insertion: 0, reverse: 1, random: 2 } as const;

/** The opponents; a smoke run names those that would have to be compiled first, and skips them. */
export function sourcesFor(options: Options, names: readonly PeerName[]): Source[] {
  const ready: readonly string[] = readyPeers;
  return names
    .filter((name) => !options.peers || options.peers.includes(name))
    .map((name) =>
      options.smoke && !ready.includes(name)
        ? { name, missing: "needs to be compiled, which a smoke run does not wait for" }
        : findPeer(name),
    );
}

async function startAll(row: string, work: string, sources: readonly Source[]) {
  const peers: PeerProcess[] = [];
  const left: Comparison[] = [];
  for (const source of sources) {
    if ("missing" in source) {
      left.push(skipped(row, work, source.name, source.missing));
      continue;
    }
    try {
      peers.push(await PeerProcess.start(source));
    } catch (error) {
      left.push(
        error instanceof MissingFace
          ? skipped(row, work, source.name, error.message)
          : lostLine(row, work, source.name, source.name, String(error)),
      );
    }
  }
  return { peers, left };
}
