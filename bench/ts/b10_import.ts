// B10: what the package costs before it does anything: its import and first allocation in a fresh
// process, over a process that runs an empty file; and the size of the library.

import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compare, generator, median, shuffled } from "../comparison.ts";
import { targets } from "../targets.ts";
import { rowOptions } from "./blocks.ts";

const options = rowOptions();
const startsPerRound = options.smoke ? 1 : 5;
const folder = mkdtempSync(join(tmpdir(), "holdfast-bench-"));
const index = join(import.meta.dir, "..", "..", "src", "index.ts");
const first = `import { allocUnsafe } from ${JSON.stringify(index)};\nallocUnsafe(4096).free();\n`;
const programs = [
  { name: "empty", path: join(folder, "empty.ts"), text: "" },
  { name: "first", path: join(folder, "first.ts"), text: first },
] as const;

function start(path: string): number {
  const before = Bun.nanoseconds();
  const { success, stderr } = Bun.spawnSync([process.execPath, path], { env: process.env });
  if (!success) throw new Error(stderr.toString());
  return Bun.nanoseconds() - before;
}

const samples = { empty: [] as number[], first: [] as number[] };
try {
  for (const { path, text } of programs) writeFileSync(path, text);
  const random = generator(options.seed);
  for (let round = -1; round < options.rounds; round++) {
    const turn = { empty: [] as number[], first: [] as number[] };
    for (let i = 0; i < startsPerRound; i++) {
      for (const { name, path } of shuffled(programs, random)) turn[name].push(start(path));
    }
    if (round < 0) continue;
    samples.empty.push(median(turn.empty));
    samples.first.push(median(turn.first));
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}

const allowed = samples.empty.map((ns) => ns + targets.B10.overEmptyMs * 1e6);
const over = (median(samples.first) - median(samples.empty)) / 1e6;
const libraryBytes = statSync(process.env.HOLDFAST_LIBRARY ?? "").size;
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
      note: `${over.toFixed(1)} ms over an empty file`,
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
