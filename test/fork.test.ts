/**
 * What a real fork leaves: a C program that uses every allocator from three threads forks 40 times in
 * the middle of it. Bun cannot fork; programs that load the library beside it can.
 */
import { expect, test } from "bun:test";
import { copyFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { libraryPath } from "../scripts/library-build.ts";
import { root, run, zigPath } from "../scripts/toolchain.ts";

test.skipIf(process.platform !== "linux")(
  "a forked child is refused everywhere, never hangs, and finds the memory as the pool promises",
  async () => {
    const folder = join(root, "zig-out/test/fork");
    mkdirSync(folder, { recursive: true });
    // Linked against, the library is looked for by its soname.
    const library = join(folder, "libholdfast.so.1");
    copyFileSync(process.env.HOLDFAST_LIBRARY ?? libraryPath, library);
    const program = join(folder, "fork");
    const strict = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"];
    const options = [...strict, "-O1", "-fno-sanitize=undefined", "-Iinclude"];
    const compiled = await run([
      zigPath(),
      "cc",
      ...options,
      "test/fork.c",
      library,
      "-Wl,-rpath,$ORIGIN",
      "-o",
      program,
    ]);
    expect(compiled.output).toBe("");
    const ran = await run([program]);
    expect(ran.output.trim()).toBe("40 forks");
    expect(ran.status).toBe(0);
  },
  120_000,
);
