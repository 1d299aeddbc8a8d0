// Rows I1 to I5: instructions of the hot paths, counted by valgrind's callgrind.
//
// A count does not depend on what else the machine does, so a regression shows where nanoseconds
// would drown in noise. Each path is run twice, a few times and many times, and what is shown is the
// difference over the difference of the operations: start and end of the process cancel out. It is
// compared with the committed counts of instructions.json, which are of one architecture and of the
// compiler that package.json names; `npm run bench -- instructions --record` writes them anew.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { arch } from "node:os";
import { join } from "node:path";
import { buildHarness } from "./build.ts";
import { type Comparison, compare, failed, skipped } from "./comparison.ts";
import type { Options } from "./contest.ts";
import { type Face, findPeer } from "./peers.ts";
import { targets } from "./targets.ts";

export type InstructionRow = "I1" | "I2" | "I3" | "I4" | "I5";

interface Path {
  work: string;
  face: Face;
  /** The harness's words before and after the count. */
  load: string;
  bytes: number;
  extra?: string;
}

const paths: Record<InstructionRow, readonly Path[]> = {
  I1: [
    { work: "pool: pair, 2 MiB", face: "holdfast", load: "pairs", bytes: 2 << 20 },
    {
      work: "pool, by numbers: pair, 2 MiB",
      face: "holdfast_numbers",
      load: "pairs",
      bytes: 2 << 20,
    },
  ],
  I2: [
    { work: "general: pair, 64 B", face: "holdfast_direct", load: "pairs", bytes: 64 },
    { work: "general, by numbers: pair, 64 B", face: "holdfast_global", load: "pairs", bytes: 64 },
    { work: "general, linked in: pair, 64 B", face: "holdfast_linked", load: "pairs", bytes: 64 },
    {
      work: "general: 1,000 live of 64 B, random replaced",
      face: "holdfast_direct",
      load: "replace",
      bytes: 64,
      extra: "1000 2 0",
    },
    { work: "general: pair, 16 KiB", face: "holdfast_direct", load: "pairs", bytes: 16 << 10 },
  ],
  I3: [
    {
      work: "reclaiming: pair, 64 B",
      face: "holdfast_reclaiming_direct",
      load: "pairs",
      bytes: 64,
    },
    {
      work: "reclaiming, by numbers: pair, 64 B",
      face: "holdfast_reclaiming",
      load: "pairs",
      bytes: 64,
    },
    {
      work: "reclaiming: 1,000 live of 64 B, random replaced",
      face: "holdfast_reclaiming_direct",
      load: "replace",
      bytes: 64,
      extra: "1000 2 0",
    },
  ],
  I4: [{ work: "owner's slab: pair, 8 B", face: "holdfast_slab", load: "pairs", bytes: 8 }],
  I5: [
    { work: "lease: alloc and free, 4 MiB", face: "holdfast_lease", load: "pairs", bytes: 4 << 20 },
    { work: "lease: alloc and free, 64 B", face: "holdfast_lease", load: "pairs", bytes: 64 },
  ],
};

const few = 1_000;
const many = 51_000;
const manySmoke = 2_000;

const baselineFile = join(import.meta.dir, "instructions.json");

/** Counts by architecture and work. */
type Baseline = Record<string, Record<string, number>>;

function baseline(): Baseline {
  if (!existsSync(baselineFile)) return {};
  return JSON.parse(readFileSync(baselineFile, "utf8")) as Baseline;
}

export async function instructionRow(row: InstructionRow, options: Options): Promise<Comparison[]> {
  const result: Comparison[] = [];
  for (const path of paths[row].slice(0, options.smoke ? 1 : undefined)) {
    if (!path.work.includes(options.work ?? "")) continue;
    result.push(await count(row, path, options));
  }
  return result;
}

async function count(row: InstructionRow, path: Path, options: Options): Promise<Comparison> {
  if (!Bun.which("valgrind")) return skipped(row, path.work, "callgrind", "needs valgrind");
  const known = baseline()[arch()]?.[path.work];
  try {
    const least = await instructions(path, few);
    const most = await instructions(path, options.smoke ? manySmoke : many);
    if (typeof least === "string" || typeof most === "string") {
      return skipped(row, path.work, path.face, String(typeof least === "string" ? least : most));
    }
    const counted = (most.total - least.total) / (most.operations - least.operations);
    // The harness is compiled for this machine's processor, and what is linked in is part of it.
    const judged = known !== undefined && !options.smoke && path.face !== "holdfast_linked";
    if (options.record) record(path.work, counted);
    return compare({
      row,
      work: path.work,
      against: known === undefined ? "no committed count" : "the committed count",
      unit: "instructions",
      ours: [counted],
      theirs: [known ?? counted],
      repetitions: "exact",
      target: judged ? targets[row].committed : undefined,
    });
  } catch (error) {
    return failed(row, path.work, "callgrind", String(error));
  }
}

/** Instructions of a whole process and the operations it carried out; or why it has none. */
async function instructions(path: Path, operations: number) {
  const source = findPeer(path.face);
  if ("missing" in source) return source.missing;
  const tool = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"];
  const child = Bun.spawn([...tool, buildHarness(), path.face, source.path], {
    stdin: new Blob([`${path.load} ${path.bytes} ${operations} 0 ${path.extra ?? ""}\n`]),
    stdout: "pipe",
    stderr: "pipe",
  });
  const [output, notes] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  await child.exited;
  const [hello = "", answer = ""] = output.split("\n");
  if (hello.startsWith("missing")) {
    return `needs ${hello.slice("missing ".length)} that this checkout does not have yet`;
  }
  const total = Number(/Collected\s*:\s*(\d+)/.exec(notes)?.[1]);
  if (!answer.startsWith("ok") || !Number.isFinite(total)) {
    throw new Error(`${answer || notes.trim().split("\n").at(-1)}`);
  }
  // The workload's own warm-up is a tenth.
  return { total, operations: operations + Math.floor(operations / 10) };
}

function record(work: string, counted: number): void {
  const all = baseline();
  const own = { ...all[arch()], [work]: Number(counted.toFixed(1)) };
  const sorted = Object.fromEntries(Object.entries(own).sort(([a], [b]) => (a < b ? -1 : 1)));
  writeFileSync(baselineFile, `${JSON.stringify({ ...all, [arch()]: sorted }, null, 2)}\n`);
}
