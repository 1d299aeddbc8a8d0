// The native rows about objects: N4 to N6 the general allocator, N7 and N8 the reclaiming one, N9 the
// owner's slab.

import { readFileSync } from "node:fs";
import { type Comparison, compare, median } from "./comparison.ts";
import {
  against,
  againstBest,
  anySizePeers,
  besideLines,
  bestOf,
  type Judge,
  lines,
  type Options,
  type Outcome,
  opponentsOf,
  orders,
  run,
  size,
} from "./contest.ts";
import type { Face, PeerName, Work } from "./peers.ts";
import { targets } from "./targets.ts";

export type ObjectRow = "N4" | "N5" | "N6" | "N7" | "N8" | "N9";

/** Allocators of any size, the originals last. */
const generalPeers: readonly PeerName[] = [...anySizePeers, "buddy_slab_old", "buddy_slab"];
const reclaimingPeers: readonly PeerName[] = ["frusa", "glibc", "mimalloc3"];
const slabPeers: readonly PeerName[] = [
  "forge_slab",
  "forge_owner",
  "snmalloc",
  "mimalloc2",
  "mimalloc3",
  "glibc",
];

const kib = 1024;
const mib = 1 << 20;

export function objectRow(row: ObjectRow, options: Options): Promise<Comparison[]> {
  switch (row) {
    case "N4":
      return pairsRow(options);
    case "N5":
      return liveRow(options);
    case "N6":
      return threadsRow(options);
    case "N7":
      return reclaimingRow(options);
    case "N8":
      return reclaimRow(options);
    case "N9":
      return slabRow(options);
  }
}

function chosen(works: readonly Work[], options: Options, smokeCount: number): Work[] {
  const wanted = works.filter((work) => work.name.includes(options.work ?? ""));
  return options.smoke ? wanted.slice(0, smokeCount) : wanted;
}

/** Through the library by a direct record, which is what rows judge, by numbers, and linked in. */
const generalFaces: readonly Face[] = ["holdfast_direct", "holdfast_global", "holdfast_linked"];
/** Those that rows with threads show. */
const threadFaces: readonly Face[] = ["holdfast_direct", "holdfast_linked"];

/** N4: pairs, through the library by a direct record and linked in; both are held to the best peer of each size. */
async function pairsRow(options: Options): Promise<Comparison[]> {
  const sizes = [16, 64, 256, 1024, 2 * kib, 4 * kib, 16 * kib, 64 * kib];
  const works = sizes.map((bytes) => ({ name: `pair, ${size(bytes)}`, load: "pairs", bytes }));
  const result: Comparison[] = [];
  for (const work of chosen(works, options, 2)) {
    for (const outcome of await run("N4", work, generalFaces, generalPeers, options)) {
      result.push(...lines("N4", outcome, "holdfast_direct", againstBest(targets.N4.library)));
      result.push(...besideLines("N4", outcome, "holdfast_linked", targets.N4.linked));
      result.push(...besideLines("N4", outcome, "holdfast_global"));
    }
  }
  return result;
}

/** N5: live blocks of which the oldest or a random one is replaced. */
async function liveRow(options: Options): Promise<Comparison[]> {
  const { small, middle, large, many } = targets.N5;
  const bySize: [number, number][] = [
    [16, small],
    [64, small],
    [256, middle],
    [1024, middle],
    [4 * kib, large],
    [64 * kib, large],
  ];
  const judged: { work: Work; target: number | undefined }[] = [];
  for (const [bytes, target] of bySize) {
    judged.push({ work: ring(bytes, 1000, "insertion", false), target });
    judged.push({ work: ring(bytes, 1000, "random", false), target });
  }
  for (const bytes of [64, kib]) {
    judged.push({ work: ring(bytes, 10_000, "random", false), target: many });
    judged.push({ work: ring(bytes, 10_000, "random", true), target: undefined });
  }
  const result: Comparison[] = [];
  for (const work of chosen(
    judged.map((one) => one.work),
    options,
    2,
  )) {
    const target = judged.find((one) => one.work === work)?.target;
    for (const outcome of await run("N5", work, generalFaces, generalPeers, options)) {
      const judge = target === undefined ? against({}) : againstBest(target);
      result.push(...lines("N5", outcome, "holdfast_direct", judge));
      result.push(...besideLines("N5", outcome, "holdfast_linked"));
      result.push(...besideLines("N5", outcome, "holdfast_global"));
    }
  }
  return result;
}

function ring(bytes: number, live: number, order: "insertion" | "random", touch: boolean): Work {
  const which = order === "insertion" ? "oldest" : "random";
  const touched = touch ? ", first word written" : "";
  return {
    name: `${live.toLocaleString("en")} live of ${size(bytes)}, ${which} replaced${touched}`,
    load: "replace",
    bytes,
    extra: [live, orders[order], touch ? 1 : 0],
  };
}

/** Operations of each shape, at full size: some 0.1 s of the faster peers. */
const shapes: Record<string, number> = {
  larson: 1_000_000,
  xmalloc: 2_000_000,
  mstress: 1_000_000,
  rptest: 1_000_000,
  mlarge: 60,
};

/** N6: what crosses threads, and the known shapes with their peaks of resident memory. */
async function threadsRow(options: Options): Promise<Comparison[]> {
  const result: Comparison[] = [];
  const wanted = (name: string) => name.includes(options.work ?? "");
  const face: Face = "holdfast_direct";
  const remote: Work = { name: "64 B: A allocates 512, B frees", load: "handover512", bytes: 64 };
  if (wanted(remote.name)) {
    for (const outcome of await run("N6", remote, threadFaces, generalPeers, options)) {
      result.push(...lines("N6", outcome, face, againstBest(targets.N6.remote)));
      result.push(...besideLines("N6", outcome, "holdfast_linked"));
    }
  }
  if (wanted("2 threads")) {
    const target = targets.N6.twoThreads;
    result.push(...(await twoThreads("N6", face, generalPeers, target, options)));
  }
  const outcomes: Outcome[] = [];
  for (const [load, full] of Object.entries(shapes)) {
    if (!wanted(load)) continue;
    const count = options.smoke ? Math.min(full, 10_000) : full;
    const work: Work = {
      name: load,
      load,
      bytes: 0,
      count: load === "mlarge" && options.smoke ? 4 : count,
    };
    outcomes.push(...(await run("N6", work, threadFaces, generalPeers, options)));
  }
  for (const outcome of outcomes) {
    result.push(
      ...lines("N6", outcome, face, against({})),
      ...besideLines("N6", outcome, "holdfast_linked"),
    );
    result.push(...peakLines(outcome, face, options.rounds));
  }
  result.push(...means(outcomes, face, options.rounds));
  return result;
}

/** Two threads on pairs of their own against one thread of the same allocator. */
async function twoThreads(
  row: ObjectRow,
  face: Face,
  opponents: readonly PeerName[],
  target: number,
  options: Options,
): Promise<Comparison[]> {
  const one: Work = { name: "pair, 64 B, 1 thread", load: "pairs", bytes: 64 };
  const two: Work = { name: "pair, 64 B, 2 threads on their own", load: "twice", bytes: 64 };
  const [alone, both] = await run(row, one, [face], opponents, options, [two]);
  if (!alone || !both) return [];
  const own = alone.samples.get(face);
  const ours = both.samples.get(face);
  const left = [...alone.left, ...both.left];
  if (!own || !ours) return left;
  const note = `CPUs 0 and 1 ${areSiblings() ? "are" : "are not"} siblings`;
  const shared = { row, work: two.name, ours };
  return [
    compare({ ...shared, against: "its own 1 thread", theirs: own, target, note }),
    ...lines(row, { ...both, left }, face, against({})),
  ];
}

/** Whether the two CPUs that the threads are pinned to share a core. */
function areSiblings(): boolean {
  try {
    const list = "/sys/devices/system/cpu/cpu0/topology/thread_siblings_list";
    const spans = readFileSync(list, "utf8").trim().split(",");
    return spans.some((span) => {
      const [first = 0, last = first] = span.split("-").map(Number);
      return first <= 1 && 1 <= last;
    });
  } catch {
    return false;
  }
}

/** Peak resident memory of a shape, held to the peer that needed least. */
function peakLines(outcome: Outcome, face: Face, repetitions: number): Comparison[] {
  const { work, samples, labels, peaks } = outcome;
  if (!samples.has(face)) return [];
  const others = opponentsOf(samples);
  const least = others.toSorted((a, b) => (peaks.get(a) ?? 0) - (peaks.get(b) ?? 0))[0];
  return others.map((peer) =>
    compare({
      row: "N6",
      work: `${work.name}: peak resident`,
      against: labels.get(peer) ?? peer,
      unit: "MiB",
      ours: [(peaks.get(face) ?? Number.NaN) / mib],
      theirs: [(peaks.get(peer) ?? Number.NaN) / mib],
      target: peer === least ? targets.N6.shapeResident : undefined,
      // The peak of a process that ran all of them.
      repetitions,
    }),
  );
}

/** Geometric means over the shapes: time against the best peer of each, peaks against mimalloc 3. */
function means(outcomes: readonly Outcome[], face: Face, repetitions: number): Comparison[] {
  const with_ = outcomes.filter((outcome) => outcome.samples.has(face));
  if (with_.length < 2) return [];
  const names = with_.map((outcome) => outcome.work.name).join(", ");
  const figure = (outcome: Outcome, peer: PeerName | undefined) =>
    median(outcome.samples.get(peer ?? face) ?? []);
  const result = [
    compare({
      row: "N6",
      work: `${names}: geometric mean`,
      against: "the best peer of each",
      ours: [geometricMean(with_.map((outcome) => figure(outcome, face)))],
      theirs: [geometricMean(with_.map((outcome) => figure(outcome, bestOf(outcome.samples))))],
      target: targets.N6.shapesTime,
      repetitions,
    }),
  ];
  const label = with_[0]?.labels.get("mimalloc3");
  if (label) {
    const peak = (peer: PeerName) =>
      geometricMean(with_.map((outcome) => (outcome.peaks.get(peer) ?? Number.NaN) / mib));
    result.push(
      compare({
        row: "N6",
        work: `${names}: geometric mean of the peaks`,
        against: label,
        unit: "MiB",
        ours: [peak(face)],
        theirs: [peak("mimalloc3")],
        target: targets.N6.shapesResident,
        repetitions,
      }),
    );
  }
  return result;
}

function geometricMean(values: readonly number[]): number {
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
}

/** N7: the reclaiming allocator against its original and glibc. */
async function reclaimingRow(options: Options): Promise<Comparison[]> {
  const { pair, few, many, manyGlibc, growth, twoThreads: two } = targets.N7;
  const face: Face = "holdfast_reclaiming_direct";
  const pairs: Work = { name: "pair, 64 B", load: "pairs", bytes: 64 };
  const fewWork = ring(64, 4096, "random", false);
  const manyWork = ring(64, options.smoke ? 8192 : 262_144, "random", false);
  const judges = new Map<Work, Judge>([
    [pairs, against({ frusa: pair })],
    [fewWork, against({ frusa: few })],
    [manyWork, against({ frusa: many, glibc: manyGlibc })],
  ]);
  const result: Comparison[] = [];
  const own = new Map<Work, number[]>();
  for (const [work, judge] of judges) {
    if (!work.name.includes(options.work ?? "")) continue;
    for (const outcome of await run("N7", work, [face], reclaimingPeers, options)) {
      result.push(...lines("N7", outcome, face, judge));
      const samples = outcome.samples.get(face);
      if (samples) own.set(work, samples);
    }
  }
  const [theirs, ours] = [own.get(fewWork), own.get(manyWork)];
  if (theirs && ours) {
    const work = `${manyWork.name}: growth`;
    result.push(
      compare({ row: "N7", work, against: "its own at 4,096", ours, theirs, target: growth }),
    );
  }
  if ("2 threads".includes(options.work ?? "")) {
    result.push(...(await twoThreads("N7", face, reclaimingPeers, two, options)));
  }
  return result;
}

/** N8: what giving memory back costs, after 10,000 frees and with nothing to do. */
async function reclaimRow(options: Options): Promise<Comparison[]> {
  const face: Face = "holdfast_reclaiming_direct";
  const after: Work = {
    name: "reclaim() after 10,000 of 64 B freed",
    load: "reclaim",
    bytes: 64,
    extra: [10_000],
    count: options.smoke ? 1 : 50,
  };
  const idle: Work = { name: "reclaim() when idle", load: "idle", bytes: 0 };
  const stats: Work = { name: "stats()", load: "stats", bytes: 0 };
  const result: Comparison[] = [];
  for (const outcome of await run("N8", after, [face], ["frusa"], options)) {
    result.push(...lines("N8", outcome, face, against({ frusa: targets.N8.reclaim })));
  }
  const [own, theirs] = await run("N8", idle, [face], [], options, [stats]);
  const [ours, floor] = [own?.samples.get(face), theirs?.samples.get(face)];
  if (ours && floor) {
    const shared = { row: "N8", work: idle.name, ours };
    const target = targets.N8.idle;
    result.push(compare({ ...shared, against: "its own stats()", theirs: floor, target }));
  }
  result.push(...(own?.left ?? []), ...(theirs?.left ?? []));
  return result;
}

/** N9: slots of eight bytes, local pairs and handed to another thread. */
async function slabRow(options: Options): Promise<Comparison[]> {
  const face: Face = "holdfast_slab";
  const pairs: Work = { name: "pair, 8 B", load: "pairs", bytes: 8 };
  const remote: Work = { name: "8 B: owner allocates 512, B frees", load: "handover512", bytes: 8 };
  const result: Comparison[] = [];
  for (const outcome of await run("N9", pairs, [face], slabPeers, options)) {
    result.push(...lines("N9", outcome, face, against({ forge_slab: targets.N9.pair })));
  }
  const remotes = slabPeers.filter((peer) => peer !== "forge_slab");
  for (const outcome of await run("N9", remote, [face], remotes, options)) {
    result.push(...lines("N9", outcome, face, againstBest(targets.N9.handover)));
  }
  return result;
}
