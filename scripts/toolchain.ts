/**
 * Where this checkout's tools are and how they are run. Everything comes from node_modules: a
 * machine needs nothing but npm or Bun. The compiler is started directly, not through the
 * `node_modules/.bin/zig` launcher, which is a Node program and not every machine has Node.
 *
 * Zig's caches lie inside the checkout, so that removing the checkout removes all of it.
 */
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";

export const root = resolve(import.meta.dir, "..");

/** The Zig compiler that npm or Bun installed. */
export function zigPath(): string {
  const platform = `${process.platform}-${process.arch}`;
  const path = join(root, "node_modules/@zigc", platform, "bin/zig");
  if (existsSync(path)) return path;
  throw new Error(`${path} is missing: run "npm ci" (or "bun install") in ${root}`);
}

/** The environment of every command that is started here. */
export function toolEnvironment(): Record<string, string | undefined> {
  return {
    ...process.env,
    ZIG_GLOBAL_CACHE_DIR: process.env.ZIG_GLOBAL_CACHE_DIR ?? join(root, ".zig-cache/global"),
    PATH: `${join(root, "node_modules/.bin")}:${process.env.PATH ?? ""}`,
  };
}

export interface Outcome {
  status: number;
  /** Standard output and error, as they came. */
  output: string;
}

/** Runs a command to its end; with `show`, its output also appears here as it comes. */
export async function run(
  command: string[],
  options: { show?: boolean; cwd?: string; env?: Record<string, string | undefined> } = {},
): Promise<Outcome> {
  const child = Bun.spawn(command, {
    cwd: options.cwd ?? root,
    env: options.env ?? toolEnvironment(),
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  let output = "";
  const collect = async (stream: ReadableStream<Uint8Array>, to: NodeJS.WriteStream) => {
    const decoder = new TextDecoder();
    for await (const chunk of stream) {
      const text = decoder.decode(chunk, { stream: true });
      output += text;
      if (options.show) to.write(text);
    }
  };
  await Promise.all([collect(child.stdout, process.stdout), collect(child.stderr, process.stderr)]);
  return { status: await child.exited, output };
}

/** Runs a command with this terminal as its own and answers its exit status. */
export async function runHere(command: string[]): Promise<number> {
  const child = Bun.spawn(command, {
    cwd: root,
    env: toolEnvironment(),
    stdio: ["inherit", "inherit", "inherit"],
  });
  return (await child.exited) ?? 1;
}
