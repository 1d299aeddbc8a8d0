/**
 * What is packed, and what is said when an installation is not whole. The ways of running an
 * installed package are the proof `ways`, the tools that judge it are the proof `lint-package`.
 */
import { afterAll, expect, test } from "bun:test";
import { chmodSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from "node:fs";
import { join, relative } from "node:path";
import { pack } from "../scripts/pack.ts";
import { root, run } from "../scripts/toolchain.ts";
import { platforms } from "../src/library.ts";
import { platform, Workshop } from "./installed.ts";

const workshop = new Workshop();
afterAll(() => workshop[Symbol.dispose]());

const importing = 'import { alloc } from "holdfast";\nconsole.log(alloc(1).byteLength);\n';

const unpacked = async () => {
  await workshop.packed();
  return join(workshop.folder, "npm/stage/holdfast");
};

test("the packed manifest has what users need and nothing of the checkout", async () => {
  const manifest = JSON.parse(readFileSync(join(await unpacked(), "package.json"), "utf8"));
  expect(manifest.scripts).toBeUndefined();
  expect(manifest.dependencies).toBeUndefined();
  expect(manifest.devDependencies).toBeUndefined();
  const pinned = platforms.map((name) => [`@holdfast/${name}`, manifest.version]);
  expect(manifest.optionalDependencies).toEqual(Object.fromEntries(pinned));
  expect(manifest.engines.bun).toBe(">=1.4.0");
  expect(manifest.exports["."].types).toBe("./types/index.d.ts");
  expect(manifest.exports["./package.json"]).toBe("./package.json");
});

test("Bun reads one bundle and what it shares with holdfast/wasm; its map names the sources", async () => {
  const folder = await unpacked();
  const manifest = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  expect(manifest.exports["."].bun).toBe("./dist/index.js");
  expect(manifest.exports["./wasm"].bun).toBe("./dist/wasm.js");
  const files = readdirSync(join(folder, "dist")).filter((name) => name.endsWith(".js"));
  expect(files.sort()).toEqual(["index.js", "platform.js", "shared.js", "wasm.js"]);
  for (const name of files) {
    if (name === "platform.js") continue;
    const map = JSON.parse(readFileSync(join(folder, "dist", `${name}.map`), "utf8"));
    expect(map.sourcesContent.every((text: unknown) => text === null)).toBe(true);
    for (const source of map.sources) {
      const path = relative(folder, join(folder, "dist", source));
      expect(path === "src/shared.ts" || statSync(join(root, path)).isFile()).toBe(true);
    }
  }
});

test("holdfast and holdfast/wasm have the same classes", async () => {
  const program = `import * as all from "holdfast";
    import * as wasm from "holdfast/wasm";
    const names = ["HoldfastError", "WasmHandle", "WasmHeap"];
    console.log(JSON.stringify(names.filter((name) => all[name] === wasm[name])));`;
  const project = await workshop.project({ "program.ts": program });
  expect(await project.answer<string[]>([process.execPath, "program.ts"])).toHaveLength(3);
});

test("a platform's package names its library, its system and its processor", async () => {
  const { version } = await workshop.packed();
  const folder = join(workshop.folder, "npm/stage", platform);
  const manifest = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  expect(manifest).toMatchObject({ name: `@holdfast/${platform}`, version });
  expect(manifest.os).toEqual([process.platform]);
  expect(manifest.cpu).toEqual([process.arch]);
  expect(manifest.libc).toBeUndefined();
  expect(manifest.scripts).toBeUndefined();
});

test("packed twice, the tarballs are the same byte for byte", async () => {
  const { files } = await workshop.packed();
  const again = await pack({ only: platform, to: join(workshop.folder, "again") });
  for (const [index, file] of files.entries()) {
    expect(readFileSync(file).equals(readFileSync(again.files[index]!))).toBe(true);
  }
});

test("sideEffects names every module that does something when it is imported", async () => {
  const { sideEffects } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  for (const path of sideEffects) expect(statSync(join(root, path)).isFile()).toBe(true);
  // Assigning to globalThis and throwing are effects; asking the library a question is none.
  const effects = /^(throw|globalThis|.*realm\[)/m;
  for (const name of readdirSync(join(root, "src"))) {
    const code = readFileSync(join(root, "src", name), "utf8").replace(/\/\*[\s\S]*?\*\//g, "");
    if (effects.test(code)) expect(sideEffects).toContain(`./src/${name}`);
  }
});

test("a bundler may drop what is not used, and what is used still works", async () => {
  const project = await workshop.project({ "program.ts": importing });
  const built = await project.bun("build", "program.ts", "--target=bun", "--outdir=dist");
  expect(built.status).toBe(0);
  expect(await project.answer<number>([process.execPath, "dist/program.js"])).toBe(1);
});

test("Node gets one clear error, by import and by require", async () => {
  const node = Bun.which("node", { PATH: process.env.PATH?.replaceAll("node_modules", "") });
  if (!node) return console.log("skipped: node is not on PATH");
  const files = { "a.mjs": importing, "b.cjs": 'require("holdfast");\n' };
  const project = await workshop.project(files);
  const [major = 0, minor = 0] = (await run([node, "-p", "process.versions.node"])).output
    .split(".")
    .map(Number);
  // Older ones say for themselves that they cannot require a module.
  const names = major > 22 || (major === 22 && minor >= 12) ? ["a.mjs", "b.cjs"] : ["a.mjs"];
  for (const name of names) {
    const { status, output } = await project.run([node, name]);
    expect(status).not.toBe(0);
    expect(output).toContain("holdfast runs in Bun 1.4 or newer");
    expect(output).toContain("ERR_HOLDFAST_UNSUPPORTED");
  }
});

test("holdfast/wasm works in Bun and in Node", async () => {
  const program = `import { SmallHeap } from "holdfast/wasm";
    const heap = SmallHeap.wasm();
    const handle = heap.alloc(100);
    handle.bytes.fill(2);
    console.log(handle.bytes.reduce((sum, byte) => sum + byte));`;
  const project = await workshop.project({ "wasm.mjs": program });
  expect(await project.answer<number>([process.execPath, "wasm.mjs"])).toBe(200);
  const node = Bun.which("node", { PATH: process.env.PATH?.replaceAll("node_modules", "") });
  if (!node) return console.log("skipped: node is not on PATH");
  expect(await project.answer<number>([node, "wasm.mjs"])).toBe(200);
});

test("installed without optional packages, the error says how to install", async () => {
  const project = await workshop.project({ "program.ts": importing });
  rmSync(join(project.folder, "node_modules/@holdfast"), { recursive: true });
  const { status, output } = await project.bun("program.ts");
  expect(status).not.toBe(0);
  expect(output).toContain(`@holdfast/${platform}: Cannot find`);
  expect(output).toContain("bun add holdfast");
});

test("with another machine's node_modules, the error names what is there", async () => {
  const project = await workshop.project({ "program.ts": importing });
  const other = platforms.find((name) => name !== platform)!;
  const packages = join(project.folder, "node_modules/@holdfast");
  renameSync(join(packages, platform), join(packages, other));
  const { status, output } = await project.bun("program.ts");
  expect(status).not.toBe(0);
  expect(output).toContain(`another platform is installed (${other})`);
  expect(output).toContain("install here");
});

test("the packages load where nothing may be written", async () => {
  const project = await workshop.project({ "program.ts": importing });
  for (const name of readdirSync(project.folder, { recursive: true, encoding: "utf8" })) {
    const path = join(project.folder, name);
    chmodSync(path, statSync(path).mode & 0o555);
  }
  expect(await project.answer<number>([process.execPath, "program.ts"])).toBe(1);
});
