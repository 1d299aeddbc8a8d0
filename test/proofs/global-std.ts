/**
 * std's own conformance tests for allocators pass on the general allocator, and a large JSON text
 * parsed by std with it gives what it gives with std's own fast allocator.
 */
import { ok } from "node:assert/strict";
import type { ProofOptions } from "../../scripts/proofs.ts";
import { run as runCommand, zigPath } from "../../scripts/toolchain.ts";

export const name = "global-std";
export const issue = 3;
export const title = "std's allocator tests pass, and a large JSON parsed with it is the same";

export async function run({ size, log }: ProofOptions): Promise<void> {
  const filters = ["std's allocator conformance tests pass", "a large JSON"];
  const rounds = size === "full" ? 5 : 1;
  for (let round = 0; round < rounds; round += 1) {
    const { status, output } = await runCommand([
      zigPath(),
      "build",
      "test",
      "-Doptimize=ReleaseSafe",
      ...filters.map((text) => `-Dtest-filter=${text}`),
    ]);
    ok(status === 0, output);
  }
  log(`${rounds} rounds`);
}
