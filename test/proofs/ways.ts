/**
 * The package, installed from its tarballs in an empty folder, works in every way that Bun runs a
 * program; the compiled executable runs after its sources and packages are gone.
 */
import { availableParallelism } from "node:os";
import type { ProofOptions, ProofResult } from "../../scripts/proofs.ts";
import { Workshop } from "../installed.ts";
import { ways } from "../ways.ts";

export const name = "ways";
export const issue = 7;
export const title =
  "installed from its tarballs the package works in run, test, Workers, reloads, bundles, " +
  "executables, workspaces, and as two copies in one process";

export async function run({ log }: ProofOptions): Promise<ProofResult> {
  if (process.platform !== "linux") return { skipped: "threads are counted in /proc" };
  using workshop = new Workshop();
  await workshop.packed();
  const left = Object.entries(ways);
  const one = async () => {
    for (let way = left.shift(); way; way = left.shift()) {
      const [name, use] = way;
      const start = performance.now();
      try {
        await use(workshop);
      } catch (error) {
        throw new Error(`${name}: ${(error as Error).message}`, { cause: error });
      }
      log(`${name}: works (${((performance.now() - start) / 1000).toFixed(1)} s)`);
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, one));
}
