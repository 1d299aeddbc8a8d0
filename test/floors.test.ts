/**
 * The plan of the house, held: imports point downwards, across folders only through the index
 * file, dangerous calls are made in one place only, and every list that must be complete is.
 * The plan itself is zig/README.md.
 */
import { expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, dirname, join, normalize } from "node:path";
import { root } from "../scripts/toolchain.ts";
import { platforms } from "../src/library.ts";
import { VERSION } from "../src/version.ts";
import { faults } from "./faults.ts";

const read = (path: string) => readFileSync(join(root, path), "utf8");

function filesOf(folder: string, ending: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(ending))
    .map((name) => join(folder, name))
    .sort();
}

/** Without comments, so that a word in prose is no use of it. */
function code(path: string): string {
  return read(path)
    .replace(/\/\*[\s\S]*?\*\//g, "")
    .replace(/^\s*\/\/.*$/gm, "");
}

// ---------------------------------------------------------------------------------------------
// Zig

const zigFloors: Record<string, number> = { ds: 0, os: 1, region: 2, heap: 3, engine: 4 };
/** Files directly in zig/: the contract, and above it the roots of libraries and programs. */
const contractFloor = 5;
const rootFloor = 6;
/** Roots that list files inside folders, because that is what they are for. */
const registries = [
  "zig/unit_tests.zig",
  "zig/fuzz.zig",
  "zig/schedules.zig",
  "zig/race_tests.zig",
];
/** Not floors: programs of the build, and what only tests and fuzzers may import. */
const beside = ["tools", "testing"];

const zigFiles = filesOf("zig", ".zig");

function folderOf(path: string): string {
  return dirname(path) === "zig" ? "" : dirname(path).split("/")[1]!;
}

function zigFloor(path: string): number {
  const folder = folderOf(path);
  if (folder !== "") return zigFloors[folder] ?? Number.NaN;
  return basename(path) === "abi.zig" ? contractFloor : rootFloor;
}

function isForTests(path: string): boolean {
  return (
    /_(test|fuzz)\.zig$/.test(path) || folderOf(path) === "testing" || registries.includes(path)
  );
}

/** Imports by path: of the file, and of its test blocks and test-only declarations alone. */
function zigImports(path: string): { target: string; inTest: boolean }[] {
  const text = code(path);
  const withoutTests = text.replace(/^test\b[^\n]*\{\n[\s\S]*?^\}$/gm, "");
  const found = (source: string) =>
    [...source.matchAll(/@import\("([^"]+\.zig)"\)/g)].map((match) =>
      normalize(join(dirname(path), match[1]!)),
    );
  const outside = found(withoutTests);
  return found(text).map((target) => ({ target, inTest: !outside.includes(target) }));
}

test("every Zig file stands on a floor or beside them", () => {
  for (const path of zigFiles) {
    const placed = beside.includes(folderOf(path)) || !Number.isNaN(zigFloor(path));
    expect(placed, `${path} is in no folder that zig/README.md knows`).toBe(true);
  }
});

test("Zig imports point downwards, and across folders at index files only", () => {
  const wrong: string[] = [];
  for (const path of zigFiles) {
    if (registries.includes(path) || beside.includes(folderOf(path))) continue;
    for (const { target, inTest } of zigImports(path)) {
      const folder = folderOf(target);
      if (!existsSync(join(root, target))) wrong.push(`${path}: ${target} does not exist`);
      if (folder === folderOf(path) && folder !== "") continue;
      if (folder === "testing") {
        if (!inTest && !isForTests(path)) wrong.push(`${path} imports ${target} outside of tests`);
        continue;
      }
      if (zigFloor(target) >= zigFloor(path)) wrong.push(`${path} imports ${target}, not below it`);
      if (folder !== "" && basename(target) !== `${folder}.zig`) {
        wrong.push(`${path} imports ${target} past its index ${folder}.zig`);
      }
      if (folderOf(path) === "os") wrong.push(`${path} imports ${target}: os knows nothing of ds`);
    }
  }
  expect(wrong).toEqual([]);
});

test("every Zig file with a test is in unit_tests.zig", () => {
  const listed = zigImports("zig/unit_tests.zig").map(({ target }) => target);
  const missing = zigFiles.filter((path) => /^test\b/m.test(code(path)) && !listed.includes(path));
  expect(missing).toEqual([]);
});

test("every fuzzer is in fuzz.zig", () => {
  const listed = zigImports("zig/fuzz.zig").map(({ target }) => target);
  expect(zigFiles.filter((path) => path.endsWith("_fuzz.zig") && !listed.includes(path))).toEqual(
    [],
  );
});

test("every Zig file says what it is", () => {
  expect(zigFiles.filter((path) => !read(path).startsWith("//!"))).toEqual([]);
});

test("every fault that can be brought back names its test, and no other is named", () => {
  const switches = new Set<string>();
  for (const path of zigFiles) {
    for (const match of code(path).matchAll(/\bfault\("([^"]+)"\)/g)) switches.add(match[1]!);
  }
  expect([...switches].sort()).toEqual(faults.map(({ name }) => name).sort());
});

// ---------------------------------------------------------------------------------------------
// TypeScript

/** Each file may import those before it, and no other. */
const order = [
  "abi.gen.ts",
  "errors.ts",
  "version.ts",
  "platform.ts",
  "library.ts",
  "options.ts",
  "figures.ts",
  "view.ts",
  "memory.ts",
  "binding.ts",
  "closing.ts",
  "leaks.ts",
  "parked.ts",
  "alias.ts",
  "recent.ts",
  "recover.ts",
  "handle.ts",
  "pool_owner.ts",
  "large_pool.ts",
  "global_allocator.ts",
  "reclaiming_allocator.ts",
  "wasm_module.gen.ts",
  "wasm_heap.ts",
  "wasm.ts",
  "small_heap.ts",
  "layout.ts",
  "slab_memory.ts",
  "slab_waiters.ts",
  "slab_remote.ts",
  "slab_owner.ts",
  "alloc.ts",
  "index.ts",
];

const tsFiles = filesOf("src", ".ts").map((path) => basename(path));

test("every TypeScript file stands in the order of floors", () => {
  expect(tsFiles.filter((file) => !order.includes(file))).toEqual([]);
});

test("TypeScript imports point downwards", () => {
  const wrong: string[] = [];
  for (const file of tsFiles) {
    for (const [, target] of code(`src/${file}`).matchAll(/from "\.\/([^"]+)"/g)) {
      if (order.indexOf(target!) >= order.indexOf(file)) wrong.push(`${file} imports ${target}`);
    }
    for (const [, target] of code(`src/${file}`).matchAll(/from "([^."][^"]*)"/g)) {
      if (!/^(bun|node):|^bun$/.test(target!)) wrong.push(`${file} depends on ${target}`);
    }
  }
  expect(wrong).toEqual([]);
});

test("only library.ts opens a library, only memory.ts makes and detaches ArrayBuffers", () => {
  const uses = (pattern: RegExp) => tsFiles.filter((file) => pattern.test(code(`src/${file}`)));
  expect(uses(/\bdlopen\(/)).toEqual(["library.ts"]);
  expect(uses(/\btoArrayBuffer\b/)).toEqual(["memory.ts"]);
  expect(uses(/\.transfer\(0\)/)).toEqual(["memory.ts"]);
  expect(uses(/\bJSCallback\b/)).toEqual([]);
});

test("every TypeScript source says what it is", () => {
  const silent = tsFiles.filter((file) => !/^(\/\*\*|\/\/ Generated)/.test(read(`src/${file}`)));
  expect(silent).toEqual([]);
});

// ---------------------------------------------------------------------------------------------
// Lists

test("build.zig and library.ts know the same platforms", () => {
  const table = [
    ...read("build.zig").matchAll(/\.name = "([^"]+)", \.os = "([^"]+)", \.cpu = "([^"]+)"/g),
  ];
  expect(table.map((match) => match[1]!)).toEqual([...platforms]);
  for (const [, name, os, cpu] of table) expect(`${os}-${cpu}`).toBe(name!);
});

test("package.json and version.ts name the same version", () => {
  const { version } = JSON.parse(read("package.json"));
  expect(VERSION).toBe(version);
});

test("zig/README.md lists every folder and root of zig/", () => {
  const plan = read("zig/README.md");
  const names = readdirSync(join(root, "zig"), { withFileTypes: true })
    .map((entry) => (entry.isDirectory() ? `${entry.name}/` : entry.name))
    .filter((name) => name !== "README.md");
  expect(names.filter((name) => !plan.includes(name))).toEqual([]);
});

test("README.md lists every folder of the checkout", () => {
  const readme = read("README.md");
  const skipped = ["node_modules", "zig-out", ".zig-cache", ".git"];
  const folders = readdirSync(root, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && !skipped.includes(entry.name))
    .map((entry) => `${entry.name}/`);
  expect(folders.filter((name) => !readme.includes(name))).toEqual([]);
});

test("nothing is needed at run time but Bun", () => {
  const manifest = JSON.parse(read("package.json"));
  expect(manifest.dependencies).toBeUndefined();
  expect(Object.keys(manifest.scripts)).toContain("prove");
});
