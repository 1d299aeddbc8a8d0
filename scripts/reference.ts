/**
 * `npm run reference`: the API reference as pages, from the comments in src/, into
 * zig-out/reference/. It is made from the declarations that users get, so that it has every public
 * name and no other. Fails when a comment links to what is not there.
 *
 * typedoc does not accept the TypeScript of this checkout, so both live in scripts/reference/ with a
 * lock file of their own, and are installed at the first run.
 */
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { writeDeclarations } from "./pack.ts";
import { root, run } from "./toolchain.ts";

const folder = join(root, "scripts/reference");
const declarations = join(root, "zig-out/declarations");

async function command(argv: string[], cwd: string): Promise<void> {
  const { status, output } = await run(argv, { cwd });
  if (status !== 0) throw new Error(`"${argv.join(" ")}" ended with ${status}:\n${output}`);
}

const typedoc = join(folder, "node_modules/typedoc/bin/typedoc");
if (!existsSync(typedoc)) await command(["npm", "ci", "--ignore-scripts"], folder);
rmSync(declarations, { recursive: true, force: true });
await writeDeclarations(declarations);
await command([process.execPath, typedoc, "--options", "typedoc.json"], folder);
console.log(join(root, "zig-out/reference/index.html"));
