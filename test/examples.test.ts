/** Each file of examples/ runs, and prints what its last comment says. */
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
