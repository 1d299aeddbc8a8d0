/**
 * Each system call refused at each of its calls in a random workload: the documented answer, no page
 * lost, and the allocator works on. Runs zig/tools/refused.zig, which drives the whole engine over
 * the deterministic fake system.
 */
import { ok } from "node:assert/strict";
import type { ProofOptions } from "../../scripts/proofs.ts";
import { run as runCommand, zigPath } from "../../scripts/toolchain.ts";

export const name = "refused";
export const issue = 2;
export const title = "every system call may be refused at any time: nothing is lost, all works on";

export async function run({ size, log }: ProofOptions): Promise<void> {
  const command = [zigPath(), "build", "refused", "--", `--size=${size}`];
  const { status, output } = await runCommand(command);
  for (const line of output.trim().split("\n").slice(-12)) log(line);
  ok(status === 0, output);
}
