/**
 * Each fault of the large pool's model, brought back by its switch, turns its own test red and no
 * other. At smoke size one fault, chosen at random; its name is printed.
 */
import type { ProofOptions } from "../../scripts/proofs.ts";
import { proveFaults } from "../fixtures/fault_proof.ts";

export const name = "faults-1";
export const issue = 2;
export const title = "each fault that was designed out, brought back, turns exactly its test red";

export function run(options: ProofOptions): Promise<void> {
  return proveFaults(["large_pool"], options);
}
