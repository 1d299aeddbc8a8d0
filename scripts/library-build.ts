/**
 * Builds the shared library when it is missing or older than a source. `demo`, `test`, `bench`,
 * `prove` and a bare `bun test` come through here, so nobody can measure or test an old library.
 *
 * The mark of a build is a file of its own, since Zig leaves the library untouched (and its time
 * old) when a change of the sources does not change it. A checkout that names a library by
 * `HOLDFAST_LIBRARY` builds nothing: what is named is what is tested.
 */
import { existsSync, mkdirSync, readdirSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root, toolEnvironment, zigPath } from "./toolchain.ts";

const file = process.platform === "darwin" ? "libholdfast.dylib" : "libholdfast.so";

/** Where the build puts the library. */
export const libraryPath = join(root, "zig-out/lib", file);

const markPath = join(root, "zig-out/lib/.built");

/** Builds if needed; answers the path of the library. Throws when the build fails. */
export function ensureLibrary(): string {
  const named = process.env.HOLDFAST_LIBRARY;
  if (named) return named;
  if (isStale()) buildLibrary();
  return libraryPath;
}

/** Whether the library is missing or a source is newer than its build. */
export function isStale(): boolean {
  if (!existsSync(libraryPath) || !existsSync(markPath)) return true;
  return newestSource() > statSync(markPath).mtimeMs;
}

function newestSource(): number {
  let newest = statSync(join(root, "build.zig")).mtimeMs;
  for (const name of readdirSync(join(root, "zig"), { recursive: true, encoding: "utf8" })) {
    if (name.endsWith(".zig")) newest = Math.max(newest, statSync(join(root, "zig", name)).mtimeMs);
  }
  return newest;
}

function buildLibrary(): void {
  const start = new Date();
  const built = Bun.spawnSync([zigPath(), "build"], {
    cwd: root,
    env: toolEnvironment(),
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  if (!built.success) {
    throw new Error(`"zig build" failed:\n${built.stdout.toString()}${built.stderr.toString()}`);
  }
  markBuilt(start);
}

/** Notes that the library contains all that the sources said at `start`. */
export function markBuilt(start: Date): void {
  mkdirSync(join(root, "zig-out/lib"), { recursive: true });
  writeFileSync(markPath, "");
  utimesSync(markPath, start, start);
}
