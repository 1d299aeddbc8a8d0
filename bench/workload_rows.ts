// Rows W1 to W5: how cost grows with size and with the number of live blocks, tails, threads that come
// and go, regions with touch. No target judges them; the charts of docs/benchmarks are drawn from them.

import { type Comparison, compare, median } from "./comparison.ts";
import {
  anySizePeers,
  lines,
  type Options,
  type Outcome,
  opponentsOf,
  orders,
  regionPeers,
  run,
  size,
} from "./contest.ts";
import type { Face, PeerName, Work } from "./peers.ts";

export type WorkloadRow = "W1" | "W2" | "W3" | "W4" | "W5";

const mib = 1 << 20;

export async function workloadRow(row: WorkloadRow, options: Options): Promise<Comparison[]> {
  const face: Face = row === "W5" ? "holdfast" : "holdfast_direct";
  const works = worksOf(row, options).filter((work) => work.name.includes(options.work ?? ""));
  const result: Comparison[] = [];
  for (const work of options.smoke ? works.slice(0, 2) : works) {
    const opponents = row === "W5" ? regionPeers : anySizePeers;
    for (const outcome of await run(row, work, [face], opponents, options)) {
      const measured = lines(row, outcome, face, () => undefined);
      result.push(...measured.map((line) => withPeak(line, outcome, face)));
    }
  }
  if (row === "W3" && "latency".includes(options.work ?? "latency")) {
    result.push(...(await tails(face, options)));
  }
  return result;
}

function worksOf(row: WorkloadRow, options: Options): Work[] {
  switch (row) {
    case "W1":
      return [16, 64, 256, 1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, mib].map((bytes) => ({
        name: `pair, ${size(bytes)}`,
        load: "pairs",
        bytes,
      }));
    case "W2":
      return sweeps(options);
    case "W3": {
      const mixed = (live: number): Work => ({
        name: `${live.toLocaleString("en")} live of recorded sizes, random replaced`,
        load: "mixed",
        bytes: 0,
        extra: [live],
      });
      return options.smoke ? [mixed(1000)] : [mixed(1000), mixed(100_000)];
    }
    case "W4": {
      const few = options.smoke;
      return [
        {
          name: "growth stampede: 4 threads, 64 B",
          load: "stampede",
          bytes: 64,
          count: few ? 1000 : 1_000_000,
        },
        {
          name: "thread churn: 100 of 64 B in a thread's life",
          load: "churn",
          bytes: 64,
          count: few ? 1000 : 100_000,
        },
        { name: "cache-scratch", load: "scratch", bytes: 8, count: few ? 100 : 50_000 },
        { name: "cache-thrash", load: "thrash", bytes: 8, count: few ? 100 : 50_000 },
      ];
    }
    case "W5":
      return [2, 4, 16, 64].map((n) => ({
        name: `region of ${n} MiB, touched`,
        load: "touched",
        bytes: n * mib,
        count: options.smoke ? 2 : Math.max(8, 256 / n),
      }));
  }
}

/** `live` blocks allocated, then all freed in an order. */
function sweeps(options: Options): Work[] {
  const counts = options.smoke ? [1000] : [1000, 10_000, 100_000, 1_000_000, 4_000_000];
  return Object.entries(orders).flatMap(([order, number]) =>
    counts.map((live) => ({
      name: `${live.toLocaleString("en")} of 64 B, then freed, ${order} order`,
      load: "sweep",
      bytes: 64,
      extra: [live, number, 1],
      ...(live >= 1_000_000 ? { count: live } : {}),
    })),
  );
}

/** Peaks of resident memory beside the time. */
function withPeak(line: Comparison, { peaks, labels }: Outcome, face: Face): Comparison {
  const peer = [...labels].find(([, label]) => label === line.against)?.[0];
  if (!peer || line.ratio === undefined) return line;
  const of = (name: PeerName) => `${((peaks.get(name) ?? 0) / mib).toFixed(1)} MiB`;
  return { ...line, note: `peak ${of(face)}, theirs ${of(peer)}` };
}

const percentiles = ["p50", "p99", "p99.9"] as const;

/** Percentiles of one free and the allocation after it, each clocked alone. */
async function tails(face: Face, options: Options): Promise<Comparison[]> {
  const live = 10_000;
  const count = options.smoke ? 1000 : 500_000;
  const work: Work = { name: "latency", load: "latency", bytes: 0, count, extra: [live] };
  const result: Comparison[] = [];
  const [outcome] = await run(
    "W3",
    work,
    [face],
    anySizePeers,
    { ...options, rounds: 1 },
    [],
    true,
  );
  if (!outcome) return [];
  const { samples, labels, left } = outcome;
  const ours = samples.get(face);
  if (!ours) return left;
  for (const peer of opponentsOf(samples)) {
    percentiles.forEach((percentile, at) => {
      result.push(
        compare({
          row: "W3",
          work: `one operation among ${live.toLocaleString("en")} of recorded sizes: ${percentile}`,
          against: labels.get(peer) ?? peer,
          ours: every(ours, at),
          theirs: every(samples.get(peer) ?? [], at),
        }),
      );
    });
  }
  return [...result, ...left];
}

/** Of triples laid end to end, the middle of those at one place, in nanoseconds. */
function every(values: readonly number[], at: number): number[] {
  return [median(values.filter((_, index) => index % percentiles.length === at)) / 100];
}
