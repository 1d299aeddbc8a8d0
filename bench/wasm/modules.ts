// The modules of rows S1 to S3: holdfast's two columns, the opponents, and the driver, each built by
// the compiler of this checkout for size. A module's hash is printed with every figure of it.

import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { root, toolEnvironment, zigPath } from "../../scripts/toolchain.ts";

export interface Module {
  name: string;
  bytes: Uint8Array<ArrayBuffer>;
  /** First digits of its SHA-256. */
  hash: string;
}

const output = join(root, "zig-out/bench/wasm");
const source = (name: string) => join(import.meta.dir, name);
const freestanding = ["-target", "wasm32-freestanding", "-mcpu", "baseline+bulk_memory"];
const asExecutable = ["-fno-entry", "-rdynamic", "-fstrip", "--stack", "4096"];
/** As build.zig links holdfast.wasm. */
const asHoldfast = [
  ...["--export-dynamic", "--gc-sections", "-O2", "--strip-all", "--compress-relocations"],
  ...["-z", "stack-size=4096", "--no-entry", "--global-base=16"],
];
/** Debian's wasi-libc has dlmalloc; the one of the compiler wraps the compiler's own allocator. */
const debianLibc = "/usr/lib/wasm32-wasi/libc.a";
const exportsOf = ["heap_alloc", "heap_free", "heap_realloc"].map((name) => `--export=${name}`);

/** `bare` has alloc, free and realloc; `full` statistics as well. */
export function holdfastModules(): { bare: Module; full: Module } {
  compile([zigPath(), "build", "wasm"]);
  return {
    bare: read("holdfast-bare", join(root, "zig-out/holdfast-bare.wasm")),
    full: read("holdfast", join(root, "zig-out/holdfast.wasm")),
  };
}

/** The two opponents of the rows, and dlmalloc where the machine has it. */
export function opponents(): { judged: Module[]; shown: Module[] } {
  mkdirSync(output, { recursive: true });
  const std = join(output, "std_heap.wasm");
  const half = join(output, "std_heap.o");
  const zig = [zigPath(), "build-obj", source("std_heap.zig"), ...freestanding, "-fstrip"];
  compile([...zig, "-O", "ReleaseSmall", `-femit-bin=${half}`]);
  compile([zigPath(), "wasm-ld", ...asHoldfast, half, "-o", std]);
  const wasi = join(output, "wasi_malloc.wasm");
  const c = [zigPath(), "cc", "-target", "wasm32-wasi", "-mexec-model=reactor", "-Oz", "-s"];
  compile([...c, source("wasi_malloc.c"), "-o", wasi, ...exportsOf.map((flag) => `-Wl,${flag}`)]);
  const compiler = `Zig ${zigVersion()}`;
  const judged = [
    read(`std.heap.wasm_allocator, ${compiler}`, std),
    read(`wasi-libc malloc, of ${compiler}`, wasi),
  ];
  if (!existsSync(debianLibc)) return { judged, shown: [] };
  const dlmalloc = join(output, "dlmalloc.wasm");
  const object = join(output, "dlmalloc.o");
  compile([...c.slice(0, 4), "-Oz", "-c", source("wasi_malloc.c"), "-o", object]);
  const link = [zigPath(), "build-exe", object, debianLibc, ...freestanding, "-fno-entry"];
  compile([...link, "-fstrip", "-O", "ReleaseSmall", ...exportsOf, `-femit-bin=${dlmalloc}`]);
  return { judged, shown: [read(`wasi-libc dlmalloc, Debian ${debianVersion()}`, dlmalloc)] };
}

export function driver(): Module {
  mkdirSync(output, { recursive: true });
  const path = join(output, "churn.wasm");
  const zig = [zigPath(), "build-exe", source("churn.zig"), ...freestanding, ...asExecutable];
  compile([...zig, "-O", "ReleaseFast", `-femit-bin=${path}`]);
  return read("churn", path);
}

function zigVersion(): string {
  return Bun.spawnSync([zigPath(), "version"]).stdout.toString().trim();
}

function debianVersion(): string {
  if (!Bun.which("dpkg-query")) return "of unknown version";
  const status = Bun.spawnSync(["dpkg-query", "--status", "wasi-libc"]).stdout.toString();
  return /^Version: (.*)$/m.exec(status)?.[1] ?? "of unknown version";
}

function compile(command: string[]): void {
  const done = Bun.spawnSync(command, { cwd: root, env: toolEnvironment() });
  if (!done.success) throw new Error(`${command.join(" ")}:\n${done.stderr.toString()}`);
}

function read(name: string, path: string): Module {
  const bytes = new Uint8Array(readFileSync(path));
  const hash = createHash("sha256").update(bytes).digest("hex").slice(0, 12);
  return { name, bytes, hash };
}
