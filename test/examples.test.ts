/** Each file of examples/ runs and prints what its last comment says; the demo succeeds. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { expectedOutput, listExamples } from "../scripts/docs.ts";

const folder = join(import.meta.dir, "../examples");

for (const name of await listExamples()) {
  test(`examples/${name} prints what it says`, async () => {
    const path = join(folder, name);
    const run = Bun.spawn([process.execPath, path], { stdout: "pipe", stderr: "pipe" });
    const [stdout, stderr, status] = await Promise.all([
      run.stdout.text(),
      run.stderr.text(),
      run.exited,
    ]);
    expect(stderr).toBe("");
    expect(stdout).toBe(expectedOutput(await Bun.file(path).text()));
    expect(status).toBe(0);
  });
}

test("npm run demo ends with every hash right and the server small again", async () => {
  const path = join(folder, "blob-server/demo.ts");
  const run = Bun.spawn([process.execPath, path], { stdout: "pipe", stderr: "inherit" });
  const stdout = await run.stdout.text();
  expect(stdout).toMatch(/SHA-256 {2}(\d+) of \1 match\nok\n$/);
  expect(await run.exited).toBe(0);
}, 60_000);
