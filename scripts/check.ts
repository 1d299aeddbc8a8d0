/**
 * `npm run check`: everything that needs no run. Zig formatting, all platforms compile, generated
 * files are fresh (`zig build check`), TypeScript types, lint and formatting of TypeScript.
 * Runs all of them, shows the output of those that fail, exit 1 if any did.
 */
import { join } from "node:path";
import { root, run, zigPath } from "./toolchain.ts";

const bin = (name: string) => join(root, "node_modules/.bin", name);

const checks: [name: string, command: string[]][] = [
  ["zig: format, platforms, generated files", [zigPath(), "build", "check"]],
  ["types", [process.execPath, bin("tsc"), "--noEmit", "-p", "."]],
  ["lint and format", [process.execPath, bin("biome"), "ci", "--colors=off", "."]],
];

let failed = 0;
for (const [name, command] of checks) {
  const start = performance.now();
  const { status, output } = await run(command);
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  console.log(`${status === 0 ? "ok    " : "FAILED"} ${name} (${seconds} s)`);
  if (status !== 0) {
    failed += 1;
    console.log(output);
  }
}
process.exit(failed === 0 ? 0 : 1);
