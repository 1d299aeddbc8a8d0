// B10: what the package costs before it does anything: its import and first allocation in a fresh
// process, over a process that runs an empty file; and the size of the library. The package is staged
// as an installation has it; the sources of the checkout, which Bun compiles at each start, are beside it.

import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compare, generator, median, shuffled } from "../comparison.ts";
import { stageInstalled } from "../../scripts/pack.ts";
import { targets } from "../targets.ts";
import { rowOptions } from "./blocks.ts";

const options = rowOptions();
const startsPerRound = options.smoke ? 1 : 5;
const folder = mkdtempSync(join(tmpdir(), "holdfast-bench-"));
const index = join(import.meta.dir, "..", "..", "src", "index.ts");
const first = (from: string) =>
  `import { allocUnsafe } from ${JSON.stringify(from)};\nallocUnsafe(4096).free();\n`;
const programs = [
  { name: "empty", path: join(folder, "empty.ts"), text: "" },
  { name: "first", path: join(folder, "first.ts"), text: first("holdfast") },
  { name: "sources", path: join(folder, "sources.ts"), text: first(index) },
] as const;
const { HOLDFAST_LIBRARY: library = "", ...environment } = process.env;

function start(path: string): number {
  const before = Bun.nanoseconds();
  const { success, stderr } = Bun.spawnSync([process.execPath, path], { env: environment });
  if (!success) throw new Error(stderr.toString());
  return Bun.nanoseconds() - before;
}

const samples = { empty: [] as number[], first: [] as number[], sources: [] as number[] };
try {
  await stageInstalled(folder, library);
  for (const { path, text } of programs) writeFileSync(path, text);
  const random = generator(options.seed);
  for (let round = -1; round < options.rounds; round++) {
    const turn = { empty: [] as number[], first: [] as number[], sources: [] as number[] };
    for (let i = 0; i < startsPerRound; i++) {
      for (const { name, path } of shuffled(programs, random)) turn[name].push(start(path));
    }
    if (round < 0) continue;
    samples.empty.push(median(turn.empty));
    samples.first.push(median(turn.first));
    samples.sources.push(median(turn.sources));
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}

const allowed = samples.empty.map((ns) => ns + targets.B10.overEmptyMs * 1e6);
const over = (of: number[]) =>
  `${((median(of) - median(samples.empty)) / 1e6).toFixed(1)} ms over an empty file`;
const libraryBytes = statSync(library).size;
const work = "import and first allocation, whole process";
console.log(
  JSON.stringify([
    compare({
      row: "B10",
      work,
      against: `an empty file + ${targets.B10.overEmptyMs} ms`,
      ours: samples.first,
      theirs: allowed,
      target: 1,
      note: over(samples.first),
    }),
    compare({
      row: "B10",
      work: "the same with the sources of a checkout",
      against: `an empty file + ${targets.B10.overEmptyMs} ms`,
      ours: samples.sources,
      theirs: allowed,
      note: over(samples.sources),
    }),
    compare({
      row: "B10",
      work: "size of the stripped library",
      against: "what it may be",
      unit: "KiB",
      ours: [libraryBytes / 1024],
      theirs: [targets.B10.libraryKiB],
      target: 1,
      repetitions: "exact",
    }),
  ]),
);
