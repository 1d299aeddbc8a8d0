// The rows that go through TypeScript, B1 to B10 and S1 to S3: each in a process of its own, so that every one
// starts with an empty heap and none inherits another's collections.

import { join } from "node:path";
import { type Comparison, failed } from "./comparison.ts";
import type { Options } from "./native_rows.ts";

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

export async function typeScriptRow(row: TypeScriptRow, options: Options): Promise<Comparison[]> {
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
  const process_ = Bun.spawn([process.execPath, file, argument, row], {
    // Without it a child gets the environment of this process's start, without the library's path.
    env: process.env,
    stdout: "pipe",
    stderr: "pipe",
  });
  const [output, errors] = await Promise.all([
    new Response(process_.stdout).text(),
    new Response(process_.stderr).text(),
  ]);
  const code = await process_.exited;
  if (code !== 0) {
    process.stderr.write(errors);
    const line = errors.split("\n").find((text) => /error/i.test(text)) ?? `exit code ${code}`;
    return [failed(row, files[row], "", line.trim())];
  }
  return JSON.parse(output) as Comparison[];
}
