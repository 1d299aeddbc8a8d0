/**
 * Each fault of the owner slab's model, brought back by its switch, turns its own test red and no
 * other: small queues that never drain, a threshold that only rises, double frees that pass, and the
 * rest of its list. At smoke size one fault, chosen at random; its name is printed.
 */
import type { ProofOptions } from "../../scripts/proofs.ts";
import { proveFaults } from "../fixtures/fault_proof.ts";

export const name = "faults-5";
export const issue = 6;
export const title =
  "each fault of the owner slab's model, brought back, turns exactly its test red";

export function run(options: ProofOptions): Promise<void> {
  return proveFaults(["owner_slab"], options);
}
