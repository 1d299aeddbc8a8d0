// The rows that go through TypeScript, B1 to B10 and S1 to S3: each in a process of its own, so that every one
// starts with an empty heap and none inherits another's collections.

import { join } from "node:path";
import { type Comparison, failed } from "./comparison.ts";
import type { Options } from "./contest.ts";

const files = {
  B1: "b1_alias_lease.ts",
  B2: "b2_revoke_lease.ts",
  B3: "b3_revoke_touched.ts",
  B4: "b4_alias_touched.ts",
  B5: "b5_zeroed.ts",
  B6: "b6_random_reads.ts",
  B7: "b7_slab_pair.ts",
  B8: "b8_records.ts",
  B9: "b9_blob_server.ts",
  B10: "b10_import.ts",
  S1: "s1_size.ts",
  S2: "s2_churn.ts",
  S3: "s2_churn.ts",
  T1: "t1_against_bun.ts",
} as const;

export type TypeScriptRow = keyof typeof files;

const manyObjects = 2_000_000;
const smokeObjects = 1_000;
/** A row that takes longer does not move any more. */
const patienceMs = { full: 600_000, smoke: 120_000 };

/** S2 and S3 are two figures of the same work: what it gave for both. */
let churned: Promise<Comparison[]> | undefined;

export async function typeScriptRow(row: TypeScriptRow, options: Options): Promise<Comparison[]> {
  if (row === "S2" || row === "S3") {
    churned ??= child(row, options, 0);
    const lines = await churned;
    const failure = lines.find((one) => one.verdict === "failed");
    return failure ? [{ ...failure, row }] : lines.filter((one) => one.row === row);
  }
  if (row !== "B3") return child(row, options, 0);
  const objects = options.smoke ? smokeObjects : manyObjects;
  return [...(await child(row, options, 0)), ...(await child(row, options, objects))];
}

async function child(
  row: TypeScriptRow,
  options: Options,
  liveObjects: number,
): Promise<Comparison[]> {
  const file = join(import.meta.dir, "ts", files[row]);
  const { rounds, smoke, seed } = options;
  const argument = JSON.stringify({ rounds, smoke, seed, liveObjects });
  const process_ = Bun.spawn([process.execPath, file, argument], {
    // Without it a child gets the environment of this process's start, without the library's path.
    env: process.env,
    stdout: "pipe",
    stderr: "pipe",
    timeout: smoke ? patienceMs.smoke : patienceMs.full,
  });
  const [output, errors] = await Promise.all([
    new Response(process_.stdout).text(),
    new Response(process_.stderr).text(),
  ]);
  const code = await process_.exited;
  if (code !== 0) {
    process.stderr.write(errors);
    const ended = process_.signalCode ? `ended by ${process_.signalCode}` : `exit code ${code}`;
    const line = errors.split("\n").find((text) => /error|^E[A-Z]+:/i.test(text)) ?? ended;
    return [failed(row, files[row], "", line.trim())];
  }
  return JSON.parse(output) as Comparison[];
}
