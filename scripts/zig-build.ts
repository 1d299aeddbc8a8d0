/**
 * `npm run zig-build [-- <zig build arguments>]`: the compiler of this checkout on build.zig.
 * Without arguments it builds zig-out/lib/libholdfast.so, optimised and stripped, as users get it.
 */
import { markBuilt } from "./library-build.ts";
import { runHere, zigPath } from "./toolchain.ts";

const args = process.argv.slice(2);
const start = new Date();
const status = await runHere([zigPath(), "build", ...args]);
if (status === 0 && args.length === 0) markBuilt(start);
process.exit(status);
