// Builds what the benchmark needs and is not yet there: the library, the native harness, the peers
// of the Rust registry. Each is rebuilt when a file that it is made of has changed. Nothing here
// touches the library's own package: all results lie in zig-out/.

import { createHash } from "node:crypto";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import { arch } from "node:os";
import { join } from "node:path";
import { ensureLibrary } from "../scripts/library-build.ts";
import { root, toolEnvironment, zigPath } from "../scripts/toolchain.ts";

const output = join(root, "zig-out", "bench");

/** Each is a feature of the crate in peers/. */
export const registryPeers = [
  "lgalloc",
  "mimalloc2",
  "mimalloc3",
  "snmalloc",
  "buddy_slab_old",
  "buddy_slab",
  "frusa",
  "forge_slab",
  "forge_owner",
] as const;
export type RegistryPeer = (typeof registryPeers)[number];

/** A file that was built, or the reason why it cannot be. */
export type Built = { path: string } | { missing: string };

/** The native harness, bench/native.zig; the build system knows when it is stale. */
export function buildHarness(): string {
  const harness = join(root, "zig-out", "bin", "holdfast-bench");
  if (harnessIsBuilt) return harness;
  const built = Bun.spawnSync([zigPath(), "build", "bench"], { cwd: root, env: toolEnvironment() });
  if (!built.success) throw new Error(`"zig build bench" failed:\n${built.stderr.toString()}`);
  harnessIsBuilt = true;
  return harness;
}

let harnessIsBuilt = false;

/** One peer of the Rust registry, or what the machine lacks for it. */
export function buildPeer(peer: RegistryPeer): Built {
  const crate = join(import.meta.dir, "peers");
  const sources = ["Cargo.toml", "Cargo.lock", ...rustFiles(crate)].map((name) =>
    join(crate, name),
  );
  const path = join(output, `${peer}.so`);
  if (isFresh(path, sources)) return { path };
  const lacking = cargoLacking();
  if (lacking) return { missing: lacking };
  const target = join(output, "cargo");
  const options = ["--release", "--locked", "--features", peer, "--target-dir", target];
  // frusa names a feature that only the nightly compiler has, and does not use it.
  const env = peer === "frusa" ? { ...process.env, RUSTC_BOOTSTRAP: "1" } : process.env;
  const built = Bun.spawnSync(["cargo", "build", "--quiet", ...options], { cwd: crate, env });
  if (!built.success) {
    const last = built.stderr.toString().trim().split("\n").at(-1) ?? "";
    return { missing: `cargo could not build it: ${last}` };
  }
  mkdirSync(output, { recursive: true });
  copyFileSync(join(target, "release", "libholdfast_bench_peers.so"), path);
  stamp(path, sources);
  return { path };
}

function rustFiles(crate: string): string[] {
  const names = readdirSync(join(crate, "src"), { recursive: true, encoding: "utf8" });
  return names
    .filter((name) => name.endsWith(".rs"))
    .map((name) => join("src", name))
    .sort();
}

/** A shared library that Debian packages, wherever the system keeps it. */
export function findDebianLibrary(file: string, debianPackage: string): Built {
  const triple = arch() === "arm64" ? "aarch64-linux-gnu" : "x86_64-linux-gnu";
  const folders = [`/usr/lib/${triple}`, `/lib/${triple}`, "/usr/lib64", "/usr/lib"];
  for (const folder of folders) {
    const path = join(folder, file);
    if (existsSync(path)) return { path };
  }
  return { missing: `needs ${debianPackage}` };
}

function cargoLacking(): string | undefined {
  const needs = "needs cargo";
  if (!Bun.which("cargo")) return needs;
  const text = Bun.spawnSync(["cargo", "--version"]).stdout.toString();
  const [, major, minor] = /cargo (\d+)\.(\d+)/.exec(text) ?? [];
  const recent = Number(major) > 1 || (Number(major) === 1 && Number(minor) >= 85);
  return recent ? undefined : `${needs} 1.85 or newer, found ${text.trim()}`;
}

/** Whether `path` was built from sources of exactly this content. */
function isFresh(path: string, sources: readonly string[]): boolean {
  const mark = `${path}.sources`;
  return existsSync(path) && existsSync(mark) && readFileSync(mark, "utf8") === digest(sources);
}

function stamp(path: string, sources: readonly string[]): void {
  writeFileSync(`${path}.sources`, digest(sources));
}

function digest(sources: readonly string[]): string {
  const hash = createHash("sha256");
  for (const source of sources) hash.update(readFileSync(source));
  return hash.digest("hex");
}

if (import.meta.main) {
  console.log(ensureLibrary());
  console.log(buildHarness());
  for (const peer of registryPeers) console.log(peer, buildPeer(peer));
}
