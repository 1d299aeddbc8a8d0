/** Runs a program of this checkout with an up-to-date library: `bun scripts/run.ts <file> [args]`. */
import { ensureLibrary } from "./library-build.ts";
import { runHere } from "./toolchain.ts";

const [file, ...args] = process.argv.slice(2);
if (!file) {
  console.error("usage: bun scripts/run.ts <file> [args]");
  process.exit(2);
}
ensureLibrary();
process.exit(await runHere([process.execPath, file, ...args]));
