/**
 * From the registry to a running program: all packages are published to a registry on loopback, and
 * in an empty folder `bun add holdfast` fetches the main package and that of this platform alone,
 * and the README's example runs. The same file then loads in a musl process, and the arm64 build
 * passes the native unit tests in an emulator.
 *
 * At smoke size the packages of this platform are installed from their tarballs instead, and the
 * emulator is left out.
 */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expectedOutput } from "../../scripts/docs.ts";
import { pack } from "../../scripts/pack.ts";
import type { ProofOptions, ProofResult } from "../../scripts/proofs.ts";
import {
  type Outcome,
  root,
  run as runCommand,
  toolEnvironment,
  zigPath,
} from "../../scripts/toolchain.ts";
import { platform, Workshop } from "../installed.ts";
import { installRegistry, startRegistry } from "../registry/registry.ts";

export const name = "registry";
export const issue = 7;
export const title =
  "published to a registry, `bun add holdfast` in an empty folder runs the README's example; the " +
  "same file loads in a musl process; the arm64 library passes its tests in an emulator";

type Log = (line: string) => void;

const example = join(root, "examples/first.ts");

export async function run({ size, log }: ProofOptions): Promise<ProofResult> {
  if (size === "smoke") {
    using workshop = new Workshop();
    const source = await Bun.file(example).text();
    const project = await workshop.project({ "first.ts": source });
    await expectExample(await project.bun("first.ts"));
    log("installed from tarballs, the README's example runs");
    // Awaited here: the workshop ends with this block.
    return await musl(installedLibrary(project.folder), log);
  }
  const base = mkdtempSync(join(tmpdir(), "holdfast-registry-"));
  try {
    const missing = await installRegistry();
    if (missing) return { skipped: missing };
    const folder = await publishAndAdd(base, log);
    return (await musl(installedLibrary(folder), log)) ?? (await emulated(log));
  } finally {
    rmSync(base, { recursive: true, force: true });
  }
}

/** Answers the folder in which the package was added. */
async function publishAndAdd(base: string, log: Log): Promise<string> {
  const { files } = await pack({ to: join(base, "npm") });
  await using registry = await startRegistry(join(base, "registry"));
  const env: Record<string, string | undefined> = {
    ...toolEnvironment(),
    HOME: base,
    BUN_INSTALL_CACHE_DIR: join(base, "cache"),
  };
  const bun = (cwd: string, ...args: string[]) =>
    runCommand([process.execPath, ...args], { cwd, env });

  const publisher = join(base, "publisher");
  mkdirSync(publisher);
  writeFileSync(join(publisher, ".npmrc"), registry.settings);
  writeFileSync(join(publisher, "package.json"), "{}\n");
  // Platforms first: the main package names them.
  for (const file of [...files.slice(1), files[0]!]) {
    succeeded(await bun(publisher, "publish", "--access", "public", file), `bun publish ${file}`);
  }
  log(`${files.length} packages published on loopback`);

  const folder = join(base, "empty");
  mkdirSync(folder);
  env.npm_config_registry = registry.url;
  succeeded(await bun(folder, "add", "holdfast"), "bun add holdfast");
  const installed = readdirSync(join(folder, "node_modules/@holdfast"));
  assert(installed.join() === platform, `for ${platform} came ${installed.join(", ")}`);
  const manifest = await Bun.file(join(folder, "package.json")).json();
  log(`bun add holdfast: ${manifest.dependencies.holdfast} and @holdfast/${installed}`);

  writeFileSync(join(folder, "first.ts"), await Bun.file(example).text());
  await expectExample(await bun(folder, "first.ts"));
  log("the README's example runs there");
  return folder;
}

function installedLibrary(folder: string): string {
  const files = join(folder, "node_modules/@holdfast", platform);
  const file = readdirSync(files).find((each) => each.startsWith("libholdfast"));
  assert(file, `no library in ${files}`);
  return join(files, file);
}

async function expectExample(ran: Outcome): Promise<void> {
  succeeded(ran, "the README's example");
  const expected = expectedOutput(await Bun.file(example).text());
  assert(ran.output === expected, `the example printed\n${ran.output}instead of\n${expected}`);
}

/** The installed file in a process of the other libc. */
async function musl(library: string, log: Log): Promise<ProofResult> {
  if (process.platform !== "linux") return { skipped: "musl is a libc of Linux" };
  if (!Bun.which("musl-gcc"))
    return { skipped: "musl-gcc is missing (apt-get install musl-tools)" };
  const program = join(root, "zig-out/test/musl");
  mkdirSync(join(root, "zig-out/test"), { recursive: true });
  succeeded(
    await runCommand(["musl-gcc", "-std=c11", "-D_GNU_SOURCE", "test/musl.c", "-o", program]),
    "musl-gcc",
  );
  const ran = await runCommand([program, library]);
  succeeded(ran, "the self-test in a musl process");
  log(`the same file in a musl process: ${ran.output.trim()}`);
}

/** The unit tests of linux-arm64; what the emulator has no effect for says so and is not counted. */
async function emulated(log: Log): Promise<ProofResult> {
  if (!Bun.which("qemu-aarch64-static") || !existsSync(zigPath())) {
    return { skipped: "qemu-aarch64-static is missing (apt-get install qemu-user-static)" };
  }
  const { status, output } = await runCommand([zigPath(), "build", "test-arm64"]);
  const summary = /^\d+ passed; \d+ skipped; \d+ failed\.$/m.exec(output)?.[0];
  const passed = summary ?? /^All \d+ tests passed\.$/m.exec(output)?.[0];
  if (status !== 0 || !passed) throw new Error(`the arm64 tests: ${output.slice(-4000)}`);
  for (const [, test] of output.matchAll(/^\d+\/\d+ (.*)\.\.\.SKIP$/gm)) {
    log(`skipped: emulator: ${test}`);
  }
  log(`linux-arm64 in the emulator: ${passed}`);
}

function succeeded({ status, output }: Outcome, what: string): void {
  assert(status === 0, `${what} ended with ${status}:\n${output}`);
}

function assert(holds: unknown, message: string): asserts holds {
  if (!holds) throw new Error(message);
}
