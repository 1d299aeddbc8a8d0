/**
 * What is packed is clean by the tools that people check packages with: `publint --strict` and
 * "are the types wrong" find nothing, a strict compiler accepts the declarations, and the tarballs
 * are small. At full size all platforms are packed, twice, from an empty compiler cache the second
 * time, and must be the same byte for byte.
 */
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { type Packed, pack } from "../../scripts/pack.ts";
import type { ProofOptions, ProofResult } from "../../scripts/proofs.ts";
import { root, run as runCommand, toolEnvironment } from "../../scripts/toolchain.ts";
import { platforms } from "../../src/library.ts";
import { Workshop } from "../installed.ts";

export const name = "lint-package";
export const issue = 7;
export const title =
  "publint --strict and are-the-types-wrong find nothing, the main package is under 150 KiB and " +
  "each platform's under 300 KiB";

const mainBytesMax = 150 * 1024;
const platformBytesMax = 300 * 1024;

export async function run({ size, log }: ProofOptions): Promise<ProofResult> {
  using workshop = new Workshop();
  const packed = size === "full" ? await pack() : await workshop.packed();
  const count = size === "full" ? platforms.length : 1;
  assert(packed.files.length === count + 1, `${packed.files.length} tarballs`);
  for (const [index, file] of packed.files.entries()) {
    const bytes = statSync(file).size;
    const bound = index === 0 ? mainBytesMax : platformBytesMax;
    log(`${basename(file)}: ${(bytes / 1024).toFixed(1)} KiB`);
    assert(bytes < bound, `${file} has ${bytes} bytes, the bound is ${bound}`);
  }
  await Promise.all(packed.files.map((file) => lint(file, log)));
  await compile(workshop, log);
  if (size === "full") await packAgain(packed, log);
}

async function lint(file: string, log: (line: string) => void): Promise<void> {
  const bin = (tool: string) => join(root, "node_modules/.bin", tool);
  const publint = await runCommand([process.execPath, bin("publint"), "run", file, "--strict"]);
  const clean = publint.status === 0 && publint.output.includes("All good!");
  assert(clean, `publint: ${publint.output}`);
  // The package is for Bun, whose resolution is that of bundlers; there is no CommonJS in it.
  const options = ["--profile", "esm-only", "--no-definitely-typed", "--quiet"];
  const types = await runCommand([process.execPath, bin("attw"), file, ...options]);
  assert(types.status === 0, `are-the-types-wrong: ${types.output}`);
  log(`${basename(file)}: publint and are-the-types-wrong find nothing`);
}

const user = `
import { alloc, type AllocOptions, Handle, type HoldfastStats, LargePool, stats } from "holdfast";
import { SmallHeap, type WasmHandle } from "holdfast/wasm";
const small: WasmHandle = SmallHeap.wasm().alloc(16);
const options: AllocOptions = { pages: "thp", lock: "try" };
const handle: Handle = alloc(4096, options);
const view: Float64Array<ArrayBuffer> = handle.view(Float64Array, 8, 2);
const seen: HoldfastStats = stats();
using pool = new LargePool({ limitBytes: seen.liveHandles });
// @ts-expect-error sizes are numbers
pool.alloc("1");
export default [small, view, handle.free() satisfies "freed" | "closing"];
`;

/** A user's compiler, which checks declarations too, under each way of resolving. */
async function compile(workshop: Workshop, log: (line: string) => void): Promise<void> {
  const project = await workshop.project({ "user.ts": user });
  for (const [module, resolution] of [
    ["Preserve", "Bundler"],
    ["NodeNext", "NodeNext"],
  ]) {
    const options = ["--strict", "--skipLibCheck", "false", "--target", "ESNext", "--types", ""];
    const how = ["--module", module!, "--moduleResolution", resolution!];
    const tsc = join(root, "node_modules/.bin/tsc");
    const command = [process.execPath, tsc, "--noEmit", ...options, ...how, "user.ts"];
    const { status, output } = await project.run(command);
    assert(status === 0, `tsc, ${resolution}: ${output}`);
  }
  log("a strict program without @types/bun compiles against the declarations");
}

/** Again with nothing remembered: the same bytes. */
async function packAgain(first: Packed, log: (line: string) => void): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "holdfast-pack-"));
  const hash = (file: string) => createHash("sha256").update(readFileSync(file)).digest("hex");
  try {
    const to = join(folder, "npm");
    const script = `import { pack } from ${JSON.stringify(join(root, "scripts/pack.ts"))}; await pack(${JSON.stringify({ to })});`;
    const env = {
      ...toolEnvironment(),
      ZIG_LOCAL_CACHE_DIR: join(folder, "cache"),
      ZIG_GLOBAL_CACHE_DIR: join(folder, "global"),
    };
    const again = await runCommand(
      ["sh", "-c", `umask 077; exec "$0" -e "$1"`, process.execPath, script],
      { env },
    );
    assert(again.status === 0, again.output);
    for (const file of first.files) {
      const other = join(to, basename(file));
      assert(hash(file) === hash(other), `${basename(file)} differs from its first build`);
    }
    log("packed again from an empty cache, all are the same byte for byte");
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function assert(holds: boolean, message: string): asserts holds {
  if (!holds) throw new Error(message);
}
