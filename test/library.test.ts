/**
 * How the library is found, and what is said when it is not. Each case is a process of its own,
 * since a process opens the library once and keeps it; most run on a copy of src/ in a temporary
 * folder, where neither a checkout's build nor packages lie about unless the case puts them there.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { libraryPath } from "../scripts/library-build.ts";
import { root, run, zigPath } from "../scripts/toolchain.ts";

const library = process.env.HOLDFAST_LIBRARY ?? libraryPath;
const platform = `${process.platform}-${process.arch}`;
let base = "";
let folders = 0;

beforeAll(() => {
  base = mkdtempSync(join(tmpdir(), "holdfast-library-"));
});
afterAll(() => rmSync(base, { recursive: true, force: true }));

/** A copy of src/ without anything around it. */
function copyOfSources(): string {
  const folder = join(base, `${(folders += 1)}`);
  cpSync(join(root, "src"), join(folder, "src"), { recursive: true });
  return folder;
}

function addPlatformPackage(folder: string, name: string): void {
  const packageFolder = join(folder, "node_modules/@holdfast", name);
  mkdirSync(packageFolder, { recursive: true });
  const manifest = { name: `@holdfast/${name}`, type: "module", exports: "./index.js" };
  writeFileSync(join(packageFolder, "package.json"), JSON.stringify(manifest));
  const file = basename(library);
  writeFileSync(
    join(packageFolder, "index.js"),
    `import path from "./${file}" with { type: "file" };\nexport default path;\n`,
  );
  cpSync(library, join(packageFolder, file));
}

const script = (folder: string) => `
  const { openLibrary } = await import(${JSON.stringify(join(folder, "src/library.ts"))});
  try {
    const { path, symbols } = openLibrary();
    console.log(JSON.stringify({ path, fingerprint: symbols.hf_fingerprint() }));
  } catch (error) {
    const { name, code, message, operation, stack } = error;
    console.log(JSON.stringify({ name, code, message, operation, stack }));
  }`;

interface Answer {
  path?: string;
  fingerprint?: number;
  name?: string;
  code?: string;
  message?: string;
  operation?: string;
}

/** Opens the library of `folder` in a fresh process. */
function open(folder: string, env: Record<string, string> = {}, before = ""): Answer {
  return lastLine([process.execPath, "-e", `${before}\n${script(folder)}`], folder, env);
}

function lastLine(command: string[], cwd: string, env: Record<string, string>): Answer {
  const child = Bun.spawnSync(command, {
    cwd,
    env: { ...process.env, HOLDFAST_LIBRARY: "", ...env },
  });
  const line = child.stdout.toString().trim().split("\n").at(-1);
  if (!line) throw new Error(child.stderr.toString());
  return JSON.parse(line);
}

test("a checkout uses its own build", () => {
  const answer = open(root);
  expect(answer.path).toBe(libraryPath);
  expect(answer.fingerprint).toBeGreaterThan(0);
});

test("HOLDFAST_LIBRARY comes before everything else", () => {
  const copy = join(base, "named.so");
  cpSync(library, copy);
  expect(open(root, { HOLDFAST_LIBRARY: copy }).path).toBe(copy);
});

test("a named file that is not there or not a library is named in the error", () => {
  const text = join(base, "text.so");
  writeFileSync(text, "not a library");
  for (const path of [join(base, "missing.so"), text]) {
    const answer = open(root, { HOLDFAST_LIBRARY: path });
    expect(answer.code).toBe("ERR_HOLDFAST_SYSTEM");
    expect(answer.name).toBe("HoldfastError");
    expect(answer.operation).toBe("import holdfast");
    expect(answer.message).toContain(path);
    expect(answer.message).toContain(platform);
  }
});

test("a library without our functions is of another version", async () => {
  const source = join(base, "other.c");
  const other = join(base, "other.so");
  writeFileSync(source, "int other(void) { return 0; }\n");
  const compiled = await run([zigPath(), "cc", "-shared", "-nostdlib", source, "-o", other]);
  expect(compiled.status).toBe(0);
  const answer = open(root, { HOLDFAST_LIBRARY: other });
  expect(answer.code).toBe("ERR_HOLDFAST_ABI_MISMATCH");
  expect(answer.message).toContain(other);
}, 60_000);

test("a library built from another contract is refused before it is used", () => {
  const folder = copyOfSources();
  const table = join(folder, "src/abi.gen.ts");
  const text = readFileSync(table, "utf8");
  writeFileSync(table, text.replace(/FINGERPRINT = \d+/, "FINGERPRINT = 1"));
  const answer = open(folder, { HOLDFAST_LIBRARY: library });
  expect(answer.code).toBe("ERR_HOLDFAST_ABI_MISMATCH");
  expect(answer.message).toContain(library);
  expect(answer.message).toContain("npm run zig-build");
});

test("without the JIT the error says how to switch it on", () => {
  const answer = open(root, { BUN_JSC_useJIT: "0" });
  expect(answer.code).toBe("ERR_HOLDFAST_UNSUPPORTED");
  expect(answer.message).toContain("BUN_JSC_useJIT");
});

test("without a library the error lists what was tried and what mends it", () => {
  const answer = open(copyOfSources());
  expect(answer.code).toBe("ERR_HOLDFAST_UNSUPPORTED");
  expect(answer.message).toContain(`zig-out/lib/${basename(library)}: no such file`);
  expect(answer.message).toContain(`@holdfast/${platform}: Cannot find`);
  expect(answer.message).toContain("bun add holdfast");
  expect(answer.message).toContain("HOLDFAST_LIBRARY");
});

test("a checkout without a build is told to build", () => {
  const folder = copyOfSources();
  writeFileSync(join(folder, "build.zig"), "");
  expect(open(folder).message).toContain("npm run zig-build");
});

test("packages of another machine are recognised", () => {
  const folder = copyOfSources();
  addPlatformPackage(folder, platform === "darwin-x64" ? "linux-x64" : "darwin-x64");
  expect(open(folder).message).toContain("made\non another machine");
});

test("an unsupported platform is told which ones there are", () => {
  const fake = 'Object.defineProperty(process, "platform", { value: "win32" });';
  const answer = open(copyOfSources(), {}, fake);
  expect(answer.code).toBe("ERR_HOLDFAST_UNSUPPORTED");
  expect(answer.message).toContain("win32");
  expect(answer.message).toContain("linux-x64");
});

test("the package of this platform is used when there is no checkout", () => {
  const folder = copyOfSources();
  addPlatformPackage(folder, platform);
  const expected = join(folder, "node_modules/@holdfast", platform, basename(library));
  expect(open(folder)).toMatchObject({ path: expected });
});

test("a compiled executable carries the library", async () => {
  const folder = copyOfSources();
  addPlatformPackage(folder, platform);
  const source = join(folder, "program.ts");
  // A literal import, which is what a bundler follows.
  const body = script(folder).replace(/^.*await import.*$/m, "");
  writeFileSync(source, `import { openLibrary } from "./src/library.ts";\n${body}`);
  const program = join(folder, "program");
  const built = await run([process.execPath, "build", "--compile", source, "--outfile", program]);
  expect(built.status).toBe(0);
  rmSync(join(folder, "node_modules"), { recursive: true });
  const answer = lastLine([program], base, {});
  expect(answer.fingerprint).toBeGreaterThan(0);
  expect(answer.path).not.toContain(folder);
}, 60_000);

test("two copies in one process share the engine that was loaded first", () => {
  const first = join(base, "first.so");
  const second = join(base, "second.so");
  cpSync(library, first);
  cpSync(library, second);
  const before = `
    process.env.HOLDFAST_LIBRARY = ${JSON.stringify(first)};
    const one = (await import(${JSON.stringify(join(root, "src/library.ts"))})).openLibrary();
    if (one.path !== ${JSON.stringify(first)}) throw new Error("the first copy does not lead");
    process.env.HOLDFAST_LIBRARY = ${JSON.stringify(second)};`;
  const answer = open(copyOfSources(), { HOLDFAST_LIBRARY: first }, before);
  expect(answer.path).toBe(first);
});

test("a runtime that is not Bun gets one clear error", async () => {
  const importing = import(join(root, "src/unsupported.js"));
  await expect(importing).rejects.toMatchObject({ code: "ERR_HOLDFAST_UNSUPPORTED" });
  const manifest = await Bun.file(join(root, "package.json")).json();
  expect(manifest.exports["."].default).toBe("./src/unsupported.js");
});
