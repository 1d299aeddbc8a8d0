/**
 * The registry of proofs: every module of test/proofs/ is one. A proof holds when `run` ends
 * without throwing; it runs at full size by `npm run prove -- <name>` and at smoke size by
 * `npm test`. What the machine cannot show (no huge pages, no second user) is answered as
 * `{ skipped: why }`, never as success.
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { root } from "./toolchain.ts";

export interface ProofOptions {
  /** smoke: seconds, for every test run; full: as long as the claim needs. */
  size: "smoke" | "full";
  /** A line about progress or a figure that was found. */
  log(line: string): void;
}

// biome-ignore lint/suspicious/noConfusingVoidType: a proof that holds returns nothing.
export type ProofResult = void | { skipped: string };

export interface Proof {
  name: string;
  /** Number of the issue whose "Must be shown" asks for it. */
  issue: number;
  /** The claim in one sentence. */
  title: string;
  run(options: ProofOptions): Promise<ProofResult> | ProofResult;
}

const folder = join(root, "test/proofs");

/** Name of each proof, which is the name of its file. */
export function proofNames(): string[] {
  return readdirSync(folder)
    .filter((file) => file.endsWith(".ts"))
    .map((file) => file.slice(0, -3))
    .sort();
}

export async function loadProof(name: string): Promise<Proof> {
  const proof = (await import(join(folder, `${name}.ts`))) as Proof;
  if (proof.name !== name || typeof proof.run !== "function" || !proof.title || !proof.issue) {
    throw new Error(`test/proofs/${name}.ts must export name "${name}", issue, title and run`);
  }
  return proof;
}
