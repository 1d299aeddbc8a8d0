// T1: what a TypeScript program can have besides: Bun's own buffers, libsodium's, mapped files. One
// block obtained, its first and last byte written, given up. Nothing judges it.

import { dlopen } from "bun:ffi";
import { ftruncateSync, mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { allocUnsafe, libraryPath } from "../../src/index.ts";
import { type Comparison, compare, skipped } from "../comparison.ts";
import { blockOptions, type Contender, interleave, mib, rowOptions, sink } from "./blocks.ts";

interface Sodium {
  sodium_malloc(bytes: number): Uint8Array;
  sodium_free(buffer: Uint8Array): void;
}
interface MappedFiles {
  PROT_READ: number;
  PROT_WRITE: number;
  MAP_SHARED: number;
  map(bytes: number, protection: number, flags: number, fd: number): Uint8Array;
}

const options = rowOptions();
const sizes: [string, number][] = options.smoke
  ? [["4 KiB", 4096]]
  : [
      ["64 B", 64],
      ["4 KiB", 4096],
      ["64 KiB", 1 << 16],
      ["1 MiB", mib],
      ["4 MiB", 4 * mib],
    ];

const packages = join(import.meta.dir, "..", "npm", "node_modules");
const left: { name: string; why: string }[] = [];

async function optional<T>(name: string): Promise<T | undefined> {
  try {
    const loaded = (await import(join(packages, name))) as T & { default?: T };
    return loaded.default ?? loaded;
  } catch (error) {
    const built = String(error).includes("Release");
    const why = built ? `needs ${name} compiled here` : "needs npm ci --prefix bench/npm";
    left.push({ name, why });
    return undefined;
  }
}

const sodium = await optional<Sodium>("sodium-native");
const mapped = await optional<MappedFiles>("mmap-io");
const { hf_fingerprint: nothing } = dlopen(libraryPath(), {
  hf_fingerprint: { args: [], returns: "f64" },
}).symbols;

function use(bytes: Uint8Array): void {
  bytes[0] = 1;
  bytes[bytes.length - 1] = 1;
  sink(bytes);
}

function contender(name: string, once: () => void): Contender {
  return {
    name,
    run(count) {
      for (let i = 0; i < count; i++) once();
    },
  };
}

function contenders(bytes: number, fd: number): Contender[] {
  const result = [
    contender("holdfast, revoke", () => {
      const handle = allocUnsafe(bytes);
      use(handle.bytes);
      handle.free();
    }),
    contender("holdfast, alias", () => {
      const handle = allocUnsafe(bytes, { views: "alias" });
      use(handle.bytes);
      handle.free();
    }),
    contender("new Uint8Array", () => use(new Uint8Array(bytes))),
    contender("Buffer.alloc", () => use(Buffer.alloc(bytes))),
    contender("Buffer.allocUnsafe", () => use(Buffer.allocUnsafe(bytes))),
    contender("Buffer.allocUnsafeSlow", () => use(Buffer.allocUnsafeSlow(bytes))),
    contender("SharedArrayBuffer", () => use(new Uint8Array(new SharedArrayBuffer(bytes)))),
    contender("a call that does nothing", () => sink(nothing())),
  ];
  if (sodium) {
    result.push(
      contender("sodium_malloc", () => {
        const buffer = sodium.sodium_malloc(bytes);
        use(buffer);
        sodium.sodium_free(buffer);
      }),
    );
  }
  if (mapped) {
    const { PROT_READ, PROT_WRITE, MAP_SHARED } = mapped;
    result.push(
      contender("mmap-io", () => use(mapped.map(bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd))),
    );
  }
  return result;
}

const result: Comparison[] = [];
const folder = mkdtempSync(join(tmpdir(), "holdfast-bench-"));
try {
  const fd = openSync(join(folder, "mapped"), "w+");
  ftruncateSync(fd, 4 * mib);
  for (const [name, bytes] of sizes) {
    const samples = interleave(contenders(bytes, fd), blockOptions(options, 15));
    for (const own of ["revoke", "alias"]) {
      const ours = samples[`holdfast, ${own}`] ?? [];
      for (const [against, theirs] of Object.entries(samples)) {
        if (against.startsWith("holdfast")) continue;
        result.push(compare({ row: "T1", work: `${own}, ${name}`, against, ours, theirs }));
      }
    }
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
const works = "a block obtained, written, given up";
result.push(...left.map(({ name, why }) => skipped("T1", works, name, why)));
console.log(JSON.stringify(result));
