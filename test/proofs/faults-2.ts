/**
 * Each fault of the buddy's and slabs' model, brought back by its switch, turns its own test red and no
 * other. At smoke size one fault, chosen at random; its name is printed.
 */
import { ok } from "node:assert/strict";
import type { ProofOptions } from "../../scripts/proofs.ts";
import { run as runCommand } from "../../scripts/toolchain.ts";
import { faultsOf } from "../faults.ts";

export const name = "faults-2";
export const issue = 3;
export const title = "each fault that was designed out, brought back, turns exactly its test red";

export async function run({ size, log }: ProofOptions): Promise<void> {
  const faults = [...faultsOf("buddy"), ...faultsOf("global")];
  ok(faultsOf("buddy").length > 0 && faultsOf("global").length > 0, "no fault is registered");
  const one = faults[Math.floor(Math.random() * faults.length)]!;
  const names = size === "full" ? faults.map((fault) => fault.name) : [one.name];
  const { status, output } = await runCommand([process.execPath, "scripts/faults.ts", ...names]);
  for (const line of output.trim().split("\n")) log(line);
  ok(status === 0, output);
}
