// Draws the charts of docs/benchmarks from a report: cost against size, cost against the number of
// live blocks, tails, and the shapes with their memory.
//
//     npm ci --prefix bench/charts
//     npm run bench -- W1 W2 W3 N6 --json docs/benchmarks/workloads.json
//     bun bench/charts/draw.ts docs/benchmarks/workloads.json
//
// A chart is written for each of these rows that the report has, beside the report. Its subtitle says
// machine and date, its legend the versions.

import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Report } from "../report.ts";

/** What is used of vega and vega-lite, which this folder's own lockfile brings. */
interface Vega {
  parse(specification: unknown): unknown;
  View: new (flow: unknown, options: { renderer: "none" }) => { toSVG(): Promise<string> };
}
interface VegaLite {
  compile(specification: unknown): { spec: unknown };
}

interface Point {
  who: string;
  /** The figure: nanoseconds or MiB. */
  y: number;
  /** Bytes, or live blocks, or what else stands on the axis. */
  x: number | string;
  /** The panel that the point is drawn in. */
  panel?: string;
}

const units: Record<string, number> = { B: 1, KiB: 1 << 10, MiB: 1 << 20 };

/** Both sides of the lines that `place` gives a place, each allocator's once at each place. */
function points(
  report: Report,
  row: string,
  place: (work: string) => Omit<Point, "who" | "y"> | undefined,
): Point[] {
  const found = new Map<string, Point>();
  const add = (who: string, y: number | undefined, at: Omit<Point, "who" | "y">) => {
    if (y !== undefined && y > 0) found.set(`${who}|${at.x}|${at.panel}`, { who, y, ...at });
  };
  for (const one of report.comparisons) {
    const at = one.row === row ? place(one.work) : undefined;
    if (!at || one.against.startsWith("its own") || one.against.startsWith("the best")) continue;
    add("holdfast", one.ours, at);
    add(one.against, one.theirs, at);
  }
  return [...found.values()];
}

function bySize(work: string): Omit<Point, "who" | "y"> | undefined {
  const [, number, unit = ""] = /^pair, (\d+) (B|KiB|MiB)$/.exec(work) ?? [];
  return number ? { x: Number(number) * (units[unit] ?? 1) } : undefined;
}

function byNumber(work: string): Omit<Point, "who" | "y"> | undefined {
  const [, number, order] = /^([\d,]+) of 64 B, then freed, (\w+) order$/.exec(work) ?? [];
  return number && order ? { x: Number(number.replaceAll(",", "")), panel: order } : undefined;
}

function byPercentile(work: string): Omit<Point, "who" | "y"> | undefined {
  const [, percentile] = /: (p[\d.]+)$/.exec(work) ?? [];
  return percentile ? { x: percentile } : undefined;
}

const shapeNames = ["larson", "xmalloc", "mstress", "rptest", "mlarge"];

function byShape(work: string): Omit<Point, "who" | "y"> | undefined {
  const [name = "", rest] = work.split(": ");
  if (!shapeNames.includes(name)) return undefined;
  if (rest === undefined) return { x: name, panel: "time, ns" };
  return rest === "peak resident" ? { x: name, panel: "peak resident, MiB" } : undefined;
}

const log = { type: "log" };
const who = {
  field: "who",
  type: "nominal",
  title: null,
  sort: null,
  scale: { scheme: "tableau10" },
  legend: { labelLimit: 300 },
};
const nanoseconds = {
  field: "y",
  type: "quantitative",
  title: "ns, one allocation and free",
  scale: log,
};

function lineChart(title: string, values: Point[]): object {
  const panels = values.some((point) => point.panel);
  return {
    data: { values },
    ...(panels ? { facet: { column: { field: "panel", title: null } } } : {}),
    ...inPanel(panels, {
      width: panels ? 260 : 640,
      height: 360,
      mark: { type: "line", point: true },
      encoding: {
        x: {
          field: "x",
          type: "quantitative",
          title,
          scale: log,
          axis: { format: "~s", labelOverlap: true },
        },
        y: nanoseconds,
        color: who,
        strokeWidth: { condition: { test: "datum.who === 'holdfast'", value: 4 }, value: 1.5 },
      },
    }),
  };
}

function pointChart(values: Point[], yTitle: string | null): object {
  const panels = values.some((point) => point.panel);
  return {
    data: { values },
    ...(panels ? { facet: { row: { field: "panel", title: null } } } : {}),
    ...inPanel(panels, {
      width: 760,
      height: 260,
      // Points: a bar has no foot on a logarithmic axis.
      mark: { type: "point", filled: true, size: 110, opacity: 1 },
      encoding: {
        x: { field: "x", type: "nominal", title: null, sort: null, axis: { labelAngle: 0 } },
        xOffset: { field: "who", sort: null },
        y: { field: "y", type: "quantitative", title: yTitle, scale: log },
        color: who,
        shape: {
          condition: { test: "datum.who === 'holdfast'", value: "diamond" },
          value: "circle",
        },
      },
    }),
    ...(panels ? { resolve: { scale: { y: "independent" } } } : {}),
  };
}

function inPanel(panels: boolean, unit: object): object {
  return panels ? { spec: unit } : unit;
}

const [file] = process.argv.slice(2);
if (!file) {
  console.error("usage: bun bench/charts/draw.ts <report.json>");
  process.exit(2);
}
const report = JSON.parse(readFileSync(file, "utf8")) as Report;
const load = async <T>(name: string): Promise<T> => {
  try {
    return (await import(name)) as T;
  } catch {
    console.error(`${name} is not installed: npm ci --prefix bench/charts`);
    process.exit(2);
  }
};
const vega = await load<Vega>("vega");
const vegaLite = await load<VegaLite>("vega-lite");

const charts: { name: string; title: string; points: Point[]; draw(values: Point[]): object }[] = [
  {
    name: "cost-by-size",
    title: "One object allocated and freed, by size",
    points: points(report, "W1", bySize),
    draw: (values) => lineChart("bytes", values),
  },
  {
    name: "cost-by-number",
    title: "Objects of 64 bytes allocated, then all freed, by their number",
    points: points(report, "W2", byNumber),
    draw: (values) => lineChart("live objects", values),
  },
  {
    name: "tails",
    title: "One free and allocation among 10,000 of recorded sizes",
    points: points(report, "W3", byPercentile),
    draw: (values) => pointChart(values, "ns"),
  },
  {
    name: "shapes",
    title: "Known workloads: time of one allocation and free, and peak memory",
    points: points(report, "N6", byShape),
    draw: (values) => pointChart(values, null),
  },
];

const { cpu, cpus, kernel } = report.machine as Record<string, string | number>;
const subtitle = `${report.date.slice(0, 10)}, ${cpu}, ${cpus} CPUs, Linux ${kernel}, ${report.rounds} rounds, lower is better`;
for (const chart of charts) {
  if (chart.points.length === 0) continue;
  const specification = {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    background: "white",
    title: { text: chart.title, subtitle, anchor: "start" },
    ...chart.draw(chart.points),
  };
  const flow = vega.parse(vegaLite.compile(specification).spec);
  const svg = await new vega.View(flow, { renderer: "none" }).toSVG();
  const path = join(dirname(file), `${chart.name}.svg`);
  writeFileSync(path, `${svg}\n`);
  console.log(path);
}
