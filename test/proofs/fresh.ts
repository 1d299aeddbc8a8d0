/**
 * A machine with only Node and npm: in a clone, with an empty npm cache and neither Bun nor Zig on
 * PATH, the two commands of the README work. At smoke size the packages are this checkout's, and the
 * clone only builds and leases memory once, since `npm test` inside `npm test` would not end.
 *
 * What is cloned is the last commit: changes that are not committed are not in it.
 */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import type { ProofOptions, ProofResult } from "../../scripts/proofs.ts";
import { root } from "../../scripts/toolchain.ts";

export const name = "fresh";
export const issue = 2;
export const title =
  "a clone with an empty npm cache and no Bun or Zig on PATH runs the demo and the tests";

/** Set for what runs inside the clone, so that the proof does not start itself again. */
const GUARD = "HOLDFAST_INSIDE_FRESH";

/** What npm says when there is no registry to ask; then nothing can be shown either way. */
const NO_REGISTRY = /ENOTFOUND|ECONNREFUSED|EAI_AGAIN|ETIMEDOUT|ENOTCACHED|ENETUNREACH/;

export async function run({ size, log }: ProofOptions): Promise<ProofResult> {
  if (process.env[GUARD]) return { skipped: "this is the clone of that proof" };
  for (const tool of ["git", "npm", "node"]) {
    if (!Bun.which(tool)) return { skipped: `${tool} is not on PATH` };
  }
  if (!existsSync(join(root, ".git"))) return { skipped: "this is not a git checkout" };
  const base = mkdtempSync(join(tmpdir(), "holdfast-fresh-"));
  try {
    const clone = join(base, "holdfast");
    const env = cleanEnvironment(base, size === "full");
    await command(["git", "clone", "--quiet", "--no-hardlinks", root, clone], base, env, log);
    if (size === "smoke") symlinkSync(join(root, "node_modules"), join(clone, "node_modules"));
    const steps = size === "full" ? full : smoke;
    for (const [install, then] of steps) {
      const installed = await command(["sh", "-c", install!], clone, env, log, true);
      if (NO_REGISTRY.test(installed)) return { skipped: "npm reaches no registry" };
      await command(["sh", "-c", then!], clone, env, log);
    }
  } finally {
    rmSync(base, { recursive: true, force: true });
  }
}

/** Exactly what the README says. */
const full = [
  ["npm ci", "npm run demo"],
  ["npm ci", "npm test"],
];

/** Builds what is missing, then one allocation by the package's own name. */
const leaseOnce =
  "require('./scripts/library-build.ts').ensureLibrary(); const { alloc } = await import('holdfast');" +
  " const handle = alloc(4194304); handle.bytes.fill(1); if (handle.free() !== 'freed') process.exit(1)";

/** The lock file fits package.json; the packages themselves are those of this checkout. */
const smoke = [["npm ci --dry-run --prefer-offline", `npx --no-install bun -e "${leaseOnce}"`]];

/** A home, a cache and a PATH of their own. */
function cleanEnvironment(base: string, emptyCache: boolean): Record<string, string> {
  const env: Record<string, string> = { [GUARD]: "1" };
  for (const [key, value] of Object.entries(process.env)) {
    // npm hands its settings and the script's name down; ZIG_* would share caches.
    if (value !== undefined && !/^(npm_|ZIG_|HOLDFAST_|BUN_|NODE_)/i.test(key)) env[key] = value;
  }
  env.PATH = pathWithout(["bun", "bunx", "zig"], base);
  // Where the registry is may stand in the user's file.
  env.npm_config_userconfig = join(homedir(), ".npmrc");
  if (emptyCache) {
    env.HOME = join(base, "home");
    env.npm_config_cache = join(base, "npm-cache");
    mkdirSync(env.HOME);
  } else {
    env.ZIG_GLOBAL_CACHE_DIR = join(root, ".zig-cache/global");
  }
  return env;
}

/** PATH with links to everything that was on it, except the named programs. */
function pathWithout(programs: string[], base: string): string {
  const kept: string[] = [];
  for (const folder of (process.env.PATH ?? "").split(":")) {
    if (folder === "" || folder.includes("node_modules") || !existsSync(folder)) continue;
    const names = readdirSync(folder);
    if (!names.some((program) => programs.includes(program))) {
      kept.push(folder);
      continue;
    }
    const links = join(base, `bin-${kept.length}`);
    mkdirSync(links);
    for (const program of names) {
      if (!programs.includes(program)) symlinkSync(join(folder, program), join(links, program));
    }
    kept.push(links);
  }
  return kept.join(":");
}

/** Runs to the end and answers the output; an exit that is not 0 throws with its last lines. */
async function command(
  argv: string[],
  cwd: string,
  env: Record<string, string>,
  log: (line: string) => void,
  mayLackRegistry = false,
): Promise<string> {
  const start = performance.now();
  const child = Bun.spawn(argv, { cwd, env, stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const [stdout, stderr, status] = await Promise.all([
    child.stdout.text(),
    child.stderr.text(),
    child.exited,
  ]);
  const shown = argv[0] === "sh" ? argv[2]! : argv.join(" ");
  log(
    `${shown.slice(0, 60)}: exit ${status} after ${((performance.now() - start) / 1000).toFixed(1)} s`,
  );
  const output = `${stdout}\n${stderr}`;
  if (status !== 0 && !(mayLackRegistry && NO_REGISTRY.test(output))) {
    throw new Error(
      `"${shown}" ended with ${status}:\n${output.split("\n").slice(-40).join("\n")}`,
    );
  }
  return status === 0 ? "" : output;
}
