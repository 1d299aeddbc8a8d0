/**
 * Each fault of the buddy's and slabs' model, brought back by its switch, turns its own test red and no
 * other. At smoke size one fault, chosen at random; its name is printed.
 */
import type { ProofOptions } from "../../scripts/proofs.ts";
import { proveFaults } from "../fixtures/fault_proof.ts";

export const name = "faults-2";
export const issue = 3;
export const title = "each fault that was designed out, brought back, turns exactly its test red";

export function run(options: ProofOptions): Promise<void> {
  return proveFaults(["buddy", "global"], options);
}
