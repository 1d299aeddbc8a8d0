/**
 * Finds the native library and opens it: the only importer of `dlopen`.
 *
 * Order: `HOLDFAST_LIBRARY`, the build of a checkout (`zig-out/lib` beside package.json), the
 * package of this platform. The fingerprint of the library must be that of `abi.gen.ts`; then the
 * library says which engine leads the process, and if another copy of holdfast was loaded before,
 * that copy is opened instead, so that all Workers and all copies share one engine.
 *
 * The library is never closed: code of it runs when ArrayBuffers are collected and threads end.
 * Every failure is one `HoldfastError` that lists what was tried and what mends it.
 *
 * Cost: this is what an import waits for, so nothing of Node's is imported: `node:fs`, `node:os` and
 * `node:path` take Bun 1.4.5 another 1 to 3 ms each.
 */
import { CString, dlopen, type Library as Opened, type Pointer } from "bun:ffi";
import { FINGERPRINT, layouts, Status, symbols } from "./abi.gen.ts";
import { HoldfastError, nameErrnos } from "./errors.ts";
import { packagedLibrary } from "./platform.ts";

/** What nearly every program calls. The rest is linked at its first use, since each takes 6 µs. */
const coreNames = [
  "hf_fingerprint",
  "hf_engine_info",
  "hf_thread_attach",
  "hf_thread_block",
  "hf_shared_block",
  "hf_alloc",
  "hf_free",
  "hf_wrap",
  "hf_hold",
  "hf_unhold",
  "hf_unwrap",
  "hf_park",
  "hf_revive",
  "hf_wrap_deallocator",
  "hf_region_wrap",
  "hf_region_unwrap",
  "hf_region_deallocator",
  "hf_region_epoch",
  "hf_leaked",
  "hf_describe",
  "hf_pool_shared",
  "hf_global_shared",
] as const satisfies readonly (keyof typeof symbols)[];

type CoreName = (typeof coreNames)[number];
type Table = Pick<typeof symbols, CoreName>;
type MoreTable = Omit<typeof symbols, CoreName>;

/** The library's functions, callable. */
export type Symbols = Opened<Table>["symbols"];
export type MoreSymbols = Opened<MoreTable>["symbols"];

export interface Library {
  symbols: Symbols;
  /** Links the functions that are not in `symbols`. */
  more: () => MoreSymbols;
  /** File of the engine that this process uses. */
  path: string;
}

const operation = "import holdfast";

/** Platforms that have a package; build.zig holds the same table. */
export const platforms = ["linux-x64", "linux-arm64", "darwin-arm64", "darwin-x64"] as const;

/** Opens the library of this process. Called once per realm, by the binding. */
export function openLibrary(): Library {
  nameErrnos(() => (require("node:os") as typeof import("node:os")).constants.errno);
  if (!Bun.semver.satisfies(Bun.version, ">=1.4.0")) {
    throw refuse(`holdfast needs Bun 1.4 or newer, this is ${Bun.version}. Run "bun upgrade"`);
  }
  const path = findLibrary();
  const opened = openVerified(path);
  const leader = leaderOf(opened, path);
  return {
    symbols: leader === path ? opened : openVerified(leader),
    more: () => openMore(leader),
    path: leader,
  };
}

/** The first of the three places that has a library. */
function findLibrary(): string {
  const named = process.env.HOLDFAST_LIBRARY;
  // A program with borrowed rights does not load what its caller names.
  if (named && process.getuid?.() === process.geteuid?.()) return resolve(process.cwd(), named);

  const platform = `${process.platform}-${process.arch}`;
  const file = process.platform === "darwin" ? "libholdfast.dylib" : "libholdfast.so";
  const built = `${parent(import.meta.dir)}/zig-out/lib/${file}`;
  if (isFile(built)) return built;

  if (!(platforms as readonly string[]).includes(platform)) {
    throw refuse(`there is no holdfast for ${platform}; it is built for ${platforms.join(", ")}`);
  }
  const tried = [`${built}: no such file`];
  try {
    const packaged = packagedLibrary(platform);
    // In a bundle the file lies beside the bundle and its path is relative.
    if (packaged) return resolve(import.meta.dir, packaged);
  } catch (error) {
    tried.push(`@holdfast/${platform}: ${firstLine(error)}`);
  }
  throw refuse(missingMessage(platform, tried));
}

/** As `resolve` of node:path. */
function resolve(folder: string, path: string): string {
  return Bun.fileURLToPath(Bun.pathToFileURL(path.startsWith("/") ? path : `${folder}/${path}`));
}

function parent(folder: string): string {
  return folder.slice(0, Math.max(folder.lastIndexOf("/"), 0));
}

/** Whether there is a file that is not empty. */
function isFile(path: string): boolean {
  return Bun.file(path).size > 0;
}

/** Whether there is a file; for errors, which may take their time. */
function exists(path: string): boolean {
  return (require("node:fs") as typeof import("node:fs")).existsSync(path);
}

function missingMessage(platform: string, tried: string[]): string {
  const lines = ["the native library was not found. Tried:", ...tried.map((line) => `  ${line}`)];
  const others = platforms.filter((name) => name !== platform && isInstalled(name));
  if (others.length > 0) {
    lines.push(
      `The package of another platform is installed (${others.join(", ")}): node_modules was made`,
      "on another machine. Remove it and install here.",
    );
  } else if (exists(`${parent(import.meta.dir)}/build.zig`)) {
    lines.push('This is a checkout: run "npm ci && npm run zig-build".');
  } else {
    lines.push('Run "bun add holdfast" again, without --omit=optional.');
  }
  lines.push("Or name a library in HOLDFAST_LIBRARY.");
  return lines.join("\n");
}

function isInstalled(platform: string): boolean {
  for (let folder = import.meta.dir; folder !== ""; folder = parent(folder)) {
    if (exists(`${folder}/node_modules/@holdfast/${platform}/package.json`)) return true;
  }
  return false;
}

/** Opens a file and compares its fingerprint before any other function of it is looked up. */
function openVerified(path: string): Symbols {
  const { hf_fingerprint } = open(path, { hf_fingerprint: symbols.hf_fingerprint });
  if (hf_fingerprint() !== FINGERPRINT) throw otherVersion(path);
  const table: Partial<Record<CoreName, unknown>> = {};
  for (const name of coreNames) table[name] = symbols[name];
  return open(path, table as Table);
}

function openMore(path: string): MoreSymbols {
  const table: Partial<typeof symbols> = { ...symbols };
  for (const name of coreNames) delete table[name];
  return open(path, table as MoreTable);
}

function open<const T extends Partial<typeof symbols>>(
  path: string,
  table: T,
): Opened<T>["symbols"] {
  try {
    return dlopen(path, table).symbols;
  } catch (error) {
    const reason = firstLine(error);
    if (reason.includes("JIT")) {
      throw refuse(
        `Bun's foreign calls need its JIT, which is switched off here (${reason}). ` +
          "Unset BUN_JSC_useJIT, or allow the process to map executable memory",
        error,
      );
    }
    if (/symbol .*(not found|undefined)/i.test(reason)) throw otherVersion(path, error);
    throw new HoldfastError("SYSTEM", operation, {
      message:
        `${path} could not be opened: ${reason}. It must be a file built for ` +
        `${process.platform}-${process.arch}; a compiled executable unpacks it to the temporary ` +
        "directory, which must not be mounted noexec (set TMPDIR)",
      cause: error,
    });
  }
}

/** Path of the library whose engine leads this process: `path` itself or one loaded earlier. */
function leaderOf(opened: Symbols, path: string): string {
  const info = new Uint8Array(layouts.EngineInfo.size);
  const status = opened.hf_engine_info(info);
  const fields = layouts.EngineInfo.fields;
  const view = new DataView(info.buffer);
  const address = view.getFloat64(fields.pathAddress.offset, true);
  if (status === Status.ok && view.getUint32(fields.self.offset, true) === 1) return path;
  const leader = address === 0 ? "" : new CString(address as Pointer).toString();
  if (status === Status.ok && leader !== "") return leader;
  throw new HoldfastError("ABI_MISMATCH", operation, {
    message:
      `another version of holdfast is already loaded in this process${leader && `, from ${leader}`}; ` +
      `this one is ${path}. Make both the same version ("bun pm ls --all" shows who brings which)`,
  });
}

function otherVersion(path: string, cause?: unknown): HoldfastError {
  return new HoldfastError("ABI_MISMATCH", operation, {
    message:
      `${path} was built from another zig/abi.zig than src/abi.gen.ts. In a checkout run ` +
      '"npm run zig-build"; in a program make holdfast and its @holdfast package the same version',
    cause,
  });
}

function refuse(message: string, cause?: unknown): HoldfastError {
  return new HoldfastError("UNSUPPORTED", operation, { message, cause });
}

function firstLine(error: unknown): string {
  const text =
    error instanceof Error || typeof error === "object"
      ? String((error as Error).message)
      : String(error);
  return text.split("\n")[0] ?? text;
}
