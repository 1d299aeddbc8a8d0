/** Every proof holds at smoke size; `npm run prove -- <name>` runs it in full. */
import { expect, test } from "bun:test";
import { loadProof, proofNames } from "../scripts/proofs.ts";

const TIMEOUT_MS = 240_000;

for (const name of proofNames()) {
  const { title, run } = await loadProof(name);
  test(
    `${name}: ${title}`,
    async () => {
      const result = await run({ size: "smoke", log: () => {} });
      if (result) console.log(`skipped: ${name}: ${result.skipped}`);
    },
    TIMEOUT_MS,
  );
}

test("the registry is not empty", () => {
  expect(proofNames().length).toBeGreaterThan(0);
});
