/**
 * Each fault of the reclaiming heap's model, brought back by its switch, turns its own test red and no
 * other. At smoke size one fault, chosen at random; its name is printed.
 */
import type { ProofOptions } from "../../scripts/proofs.ts";
import { proveFaults } from "../fixtures/fault_proof.ts";

export const name = "faults-4";
export const issue = 4;
export const title = "each fault that was designed out, brought back, turns exactly its test red";

export function run(options: ProofOptions): Promise<void> {
  return proveFaults(["reclaiming"], options);
}
