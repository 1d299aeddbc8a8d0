/**
 * `npm run pack`: the packages as users get them, in zig-out/npm/: `holdfast-<version>.tgz` and
 * `holdfast-<os>-<cpu>-<version>.tgz` for each platform of the table in build.zig.
 * `-- --only=<platform>` cross-compiles and packs one platform beside the main package.
 *
 * The main package has the sources bundled for Bun (`dist/`: three files to read instead of thirty to
 * compile, with maps that name the sources' lines), and declarations, for everyone's compiler: a source
 * would be checked by the user's own options. A platform package has the library and a module
 * that names it by a literal import, which is what lets a bundler carry it along.
 *
 * Packed twice, every file is the same byte for byte: what goes in is written anew with fixed modes
 * into zig-out/npm/stage/, and `bun pm pack` sorts and sets one time for all.
 */
import {
  appendFileSync,
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { root, run, zigPath } from "./toolchain.ts";

/** One row of the table in build.zig, as `zig build cross` writes it. */
interface Platform {
  name: string;
  os: string;
  cpu: string;
  library: string;
}

export interface PackOptions {
  /** Only this platform's package beside the main one; default: all of the table. */
  only?: string;
  /** Default: zig-out/npm. */
  to?: string;
}

export interface Packed {
  /** The tarballs: that of the main package first. */
  files: string[];
  version: string;
}

interface Manifest {
  name: string;
  version: string;
  files: string[];
  exports: Record<string, Conditions | string>;
  [key: string]: unknown;
}

type Conditions = Record<string, string>;

/** What a user of the package has no use for. */
const ownFields = ["scripts", "devDependencies", "allowScripts"];

export async function pack(options: PackOptions = {}): Promise<Packed> {
  const to = options.to ?? join(root, "zig-out/npm");
  const stage = join(to, "stage");
  rmSync(to, { recursive: true, force: true });
  mkdirSync(stage, { recursive: true });

  const only = options.only ? [`-Dplatform=${options.only}`] : [];
  await command([zigPath(), "build", "cross", "-p", to, ...only]);
  const table: Platform[] = readJson(join(to, "cross/platforms.json"));
  const manifest: Manifest = readJson(join(root, "package.json"));

  await stageMain(join(stage, "holdfast"), manifest, table);
  const built = table.filter(({ name }) => !options.only || name === options.only);
  for (const platform of built) {
    const library = join(to, "cross", platform.name, platform.library);
    stagePlatform(join(stage, platform.name), manifest, platform, library);
  }

  const files: string[] = [];
  for (const name of ["holdfast", ...built.map((platform) => platform.name)]) {
    const folder = join(stage, name);
    makeModesEqual(folder);
    await command([process.execPath, "pm", "pack", "--quiet", "--destination", to], folder);
    const prefix = name === "holdfast" ? name : `holdfast-${name}`;
    files.push(join(to, `${prefix}-${manifest.version}.tgz`));
  }
  for (const file of files) if (!existsSync(file)) throw new Error(`${file} was not packed`);
  return { files, version: manifest.version };
}

/**
 * What an installation has for a program that runs, in `node_modules` of `folder`: the main package
 * and, with a library that was built before, this machine's. For the benchmark: nothing is compiled.
 */
export async function stageInstalled(folder: string, library: string): Promise<void> {
  const manifest: Manifest = readJson(join(root, "package.json"));
  const { platform: os, arch: cpu } = process;
  const platform: Platform = { name: `${os}-${cpu}`, os, cpu, library: basename(library) };
  const packages = join(folder, "node_modules");
  await stageMain(join(packages, "holdfast"), manifest, [platform], { declarations: false });
  stagePlatform(join(packages, "@holdfast", platform.name), manifest, platform, library);
}

// ---------------------------------------------------------------------------------------------
// The main package

async function stageMain(
  folder: string,
  manifest: Manifest,
  table: Platform[],
  { declarations = true } = {},
): Promise<void> {
  mkdirSync(folder, { recursive: true });
  for (const entry of manifest.files) copyEntry(entry, folder);
  nameExports(folder);
  if (declarations) await writeDeclarations(folder);
  await buildForBrowsers(folder, manifest);
  await buildForBun(folder, manifest);
  for (const name of readdirSync(join(folder, "src"))) {
    if (name.endsWith(".ts")) rmSync(join(folder, "src", name));
  }

  const packed: Manifest = { ...manifest, files: [...manifest.files, "types", "browser", "dist"] };
  packed.sideEffects = ["./dist/*.js", "./src/unsupported.js"];
  for (const field of ownFields) delete packed[field];
  packed.exports = Object.fromEntries(
    Object.entries(manifest.exports).map(([name, target]) => [name, packedTarget(target)]),
  );
  packed.optionalDependencies = Object.fromEntries(
    table.map(({ name }) => [`@holdfast/${name}`, manifest.version]),
  );
  writeJson(join(folder, "package.json"), packed);
}

/** A file, a folder, or a pattern, as package.json's `files` names them. */
function copyEntry(entry: string, folder: string): void {
  const names = /[*{]/.test(entry) ? [...new Bun.Glob(entry).scanSync(root)] : [entry];
  for (const name of names.sort()) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    cpSync(join(root, name), join(folder, name), { recursive: true });
  }
}

/**
 * Other runtimes link the names of an `import { alloc } from "holdfast"` before they run anything;
 * only with the names there do they get as far as the error that unsupported.js throws.
 */
function nameExports(folder: string): void {
  const source = readFileSync(join(root, "src/index.ts"), "utf8");
  const { exports } = new Bun.Transpiler({ loader: "ts" }).scan(source);
  appendFileSync(join(folder, "src/unsupported.js"), `export let ${exports.sort().join(", ")};\n`);
}

const sourceName = /^\.\/src\/(.*)\.ts$/;

/**
 * In a checkout everybody reads the sources; in the package Bun reads a bundle of them, the compiler
 * reads declarations, and other runtimes, where they are served at all, a bundle of their own.
 */
function packedTarget(target: Conditions | string): Conditions | string {
  if (typeof target === "string") return target;
  const packed = { ...target };
  if (target.types) packed.types = target.types.replace(sourceName, "./types/$1.d.ts");
  if (target.bun) packed.bun = target.bun.replace(sourceName, "./dist/$1.js");
  if (target.default) packed.default = target.default.replace(sourceName, "./browser/$1.js");
  return packed;
}

/** What `default` names as a source is bundled into one file that any runtime can read. */
async function buildForBrowsers(folder: string, manifest: Manifest): Promise<void> {
  for (const target of Object.values(manifest.exports)) {
    const source = typeof target === "string" ? undefined : target.default;
    if (!source || !sourceName.test(source)) continue;
    const outdir = join(folder, "browser");
    const options = { target: "browser", format: "esm", minify: { syntax: true } } as const;
    await Bun.build({
      entrypoints: [join(root, source)],
      root: join(root, "src"),
      outdir,
      ...options,
    });
  }
}

/** What `holdfast` and `holdfast/wasm` both have, and must have once: their classes are the same. */
const shared = ["errors.ts", "view.ts", "wasm_heap.ts"];

/** Stays a file of its own, not marked as bundled: what it requires, a user's bundler must see. */
const unbundled = "platform.ts";

/**
 * What `bun` names as a source, in one file each, beside one for what they share. Not by the bundler's
 * own splitting, which would put each constant of abi.gen.ts among the shared and import it by name.
 * Names stay readable in stacks by the maps, which Bun looks at only when there is an error.
 */
async function buildForBun(folder: string, manifest: Manifest): Promise<void> {
  const outdir = join(folder, "dist");
  const build = async (entry: string, plugins: Bun.BunPlugin[]) => {
    await Bun.build({
      entrypoints: [entry],
      outdir,
      plugins,
      target: "bun",
      format: "esm",
      minify: { whitespace: true, syntax: true },
      sourcemap: "linked",
      external: ["@holdfast/*"],
    });
  };
  const all = join(folder, "src/shared.ts");
  writeFileSync(all, shared.map((name) => `export * from "./${name}";\n`).join(""));
  await build(all, []);
  rmSync(all);
  const plain = readFileSync(join(folder, "src", unbundled), "utf8");
  writeFileSync(
    join(outdir, unbundled.replace(/ts$/, "js")),
    new Bun.Transpiler({ loader: "ts" }).transformSync(plain),
  );
  const once: Bun.BunPlugin = {
    name: "shared",
    setup: ({ onResolve }) => {
      const sources = new RegExp(`^\\./(${shared.join("|").replaceAll(".", "\\.")})$`);
      onResolve({ filter: sources }, () => ({ path: "./shared.js", external: true }));
      const path = `./${unbundled.replace(/ts$/, "js")}`;
      onResolve({ filter: /^\.\/platform\.ts$/ }, () => ({ path, external: true }));
    },
  };
  for (const target of Object.values(manifest.exports)) {
    const source = typeof target === "string" ? undefined : target.bun;
    if (source && sourceName.test(source)) await build(join(folder, source), [once]);
  }
  // Names and lines are enough for a stack; the sources would double the package. And the id that Bun
  // gives a file depends on the folder in which it was made.
  for (const name of readdirSync(outdir)) {
    const path = join(outdir, name);
    const text = readFileSync(path, "utf8").replace(/^\/\/# debugId=.*\n/m, "");
    const leave = (key: string, value: unknown) => {
      if (key === "debugId") return undefined;
      // Bun wants the list.
      return key === "sourcesContent" ? (value as unknown[]).map(() => null) : value;
    };
    writeFileSync(path, name.endsWith(".map") ? JSON.stringify(JSON.parse(text, leave)) : text);
  }
}

/** Declarations of what the exports reach, and of nothing else, into `types/` of the folder. */
export async function writeDeclarations(folder: string): Promise<void> {
  mkdirSync(folder, { recursive: true });
  const emitted = join(folder, "emitted");
  const config = join(folder, "tsconfig.json");
  writeJson(config, {
    extends: join(root, "tsconfig.json"),
    include: [join(root, "src")],
    compilerOptions: {
      noEmit: false,
      emitDeclarationOnly: true,
      declaration: true,
      stripInternal: true,
      rootDir: join(root, "src"),
      outDir: emitted,
      typeRoots: [join(root, "node_modules/@types")],
    },
  });
  await command([process.execPath, join(root, "node_modules/.bin/tsc"), "-p", config]);

  const entries: string[] = [];
  const manifest: Manifest = readJson(join(root, "package.json"));
  for (const target of Object.values(manifest.exports)) {
    const source = typeof target === "string" ? undefined : target.types;
    if (source) entries.push(source.replace(/^\.\/src\//, "").replace(/\.ts$/, ""));
  }
  mkdirSync(join(folder, "types"), { recursive: true });
  // The compiler writes its own forms of imports: from "./x.ts" and import("./x.ts").
  const imported = /(?<=(?:from |import\()")\.\/([\w.]+)\.ts(?=")/g;
  for (const name of entries) {
    const text = withPublicNames(readFileSync(join(emitted, `${name}.d.ts`), "utf8"));
    for (const [, target = ""] of text.matchAll(imported)) {
      if (!entries.includes(target)) entries.push(target);
    }
    writeFileSync(join(folder, "types", `${name}.d.ts`), text.replaceAll(imported, "./$1.js"));
  }
  rmSync(emitted, { recursive: true });
  rmSync(config);
}

/**
 * A class that must exist once in a realm is declared as `class HandleObject` and exported as the
 * constant and type `Handle`. Users and their editors see it as what it is: `class Handle`.
 */
function withPublicNames(declarations: string): string {
  let text = declarations;
  const comment = String.raw`(?:/\*\*(?:[^*]|\*(?!/))*\*/\n)?`;
  for (const [, name = ""] of declarations.matchAll(/^export type (\w+) = \1Object;$/gm)) {
    const type = new RegExp(`(${comment})export type ${name} = ${name}Object;\n`).exec(text);
    const constant = new RegExp(
      `(${comment})export declare const ${name}: typeof ${name}Object;\n`,
    );
    const own = new RegExp(`\\*/\ndeclare class ${name}Object\\b`).test(text);
    const about = own ? "" : type?.[1] || constant.exec(text)?.[1] || "";
    text = text
      .replace(type?.[0] ?? "", "")
      .replace(constant, "")
      .replace(`declare class ${name}Object`, `${about}export declare class ${name}`)
      .replaceAll(new RegExp(`\\b${name}Object\\b`, "g"), name);
  }
  return text;
}

// ---------------------------------------------------------------------------------------------
// A platform's package

function stagePlatform(folder: string, main: Manifest, platform: Platform, library: string): void {
  mkdirSync(folder, { recursive: true });
  writeJson(join(folder, "package.json"), {
    name: `@holdfast/${platform.name}`,
    version: main.version,
    description: `The native library of holdfast for ${platform.os} on ${platform.cpu}.`,
    license: main.license,
    type: "module",
    exports: {
      ".": { types: "./index.d.ts", default: "./index.js" },
      "./package.json": "./package.json",
    },
    files: ["index.js", "index.d.ts", platform.library, "README.md", "LICENSE"],
    os: [platform.os],
    cpu: [platform.cpu],
    engines: main.engines,
    sideEffects: false,
  });
  const comment =
    "/** Path of the library; a bundler copies the file, an executable embeds it. */\n";
  writeFileSync(
    join(folder, "index.js"),
    `${comment}import path from "./${platform.library}" with { type: "file" };\nexport default path;\n`,
  );
  writeFileSync(
    join(folder, "index.d.ts"),
    `${comment}declare const path: string;\nexport default path;\n`,
  );
  writeFileSync(
    join(folder, "README.md"),
    `# @holdfast/${platform.name}\n\nThe native library of \`holdfast\` for ${platform.os} on ${platform.cpu}. ` +
      "`bun add holdfast` installs it; it is of no use alone.\n",
  );
  cpSync(join(root, "LICENSE"), join(folder, "LICENSE"));
  cpSync(library, join(folder, platform.library));
}

// ---------------------------------------------------------------------------------------------

/** The packer keeps the modes of files, which differ with the umask of who made the checkout. */
function makeModesEqual(folder: string): void {
  for (const name of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
    const path = join(folder, name);
    chmodSync(path, statSync(path).isDirectory() ? 0o755 : 0o644);
  }
}

async function command(argv: string[], cwd: string = root): Promise<void> {
  const { status, output } = await run(argv, { cwd });
  if (status !== 0) throw new Error(`"${argv.join(" ")}" ended with ${status}:\n${output}`);
}

function readJson<T>(path: string): T {
  return JSON.parse(readFileSync(path, "utf8"));
}

function writeJson(path: string, value: unknown): void {
  writeFileSync(path, `${JSON.stringify(value, null, 2)}\n`);
}

if (import.meta.main) {
  const only = process.argv.find((arg) => arg.startsWith("--only="))?.slice("--only=".length);
  const { files } = await pack(only ? { only } : {});
  for (const file of files) console.log(`${(statSync(file).size / 1024).toFixed(1)} KiB ${file}`);
}
