/**
 * What this realm (the main thread or a Worker) shares with the engine: the library's functions,
 * the thread's index, the blocks that calls fill, and everything that must exist once.
 *
 * Invariant: one binding per realm and ABI, in `globalThis`. `bun --hot` evaluates every module
 * again while the library, its leases and the thread's index stay; so whatever holds state (the
 * closing list, the wraps of regions, the leak registry, the Handle class itself) is made through
 * `keep` and found again by the next evaluation. That also roots the registry: Bun collects one
 * that only a module's constant holds. A second copy of the package finds it as well and uses the
 * first one's classes, so it must be of the same version.
 *
 * Cost: made at import, some 0.5 ms, most of it opening the library. Not for other Workers: a
 * thread's index and block belong to the thread.
 */
import {
  ABI_VERSION,
  BLOCK_BOUND,
  BLOCK_CURRENT,
  BLOCK_ERRNO,
  BLOCK_REQUESTED,
  BLOCK_SYSTEM_CALL,
  BLOCK_WORDS,
  FINGERPRINT,
  Status,
  SystemCall,
} from "./abi.gen.ts";
import { type Caller, type FailureDetails, HoldfastError, statusError } from "./errors.ts";
import { type MoreSymbols, openLibrary, type Symbols } from "./library.ts";
import { wrapStatic } from "./memory.ts";
import { VERSION } from "./version.ts";

export interface Binding {
  symbols: Symbols;
  /** The other functions, once one of them has been wanted. */
  linked: MoreSymbols | undefined;
  link: () => MoreSymbols;
  /** File of the engine in use. */
  path: string;
  /** Of the copy of the package that made this binding. */
  version: string;
  fingerprint: number;
  /** Folder of that copy's sources. */
  folder: string;
  /** Index of this thread, the first argument of most calls. */
  thread: number;
  /** Results of the last call of this thread; words are `BLOCK_*`. */
  block: Float64Array;
  /** Words that the whole process shares; `SHARED_*`. */
  shared: Uint32Array;
  kept: Map<string, unknown>;
}

const key = Symbol.for(`holdfast.binding.${ABI_VERSION}`);
const realm = globalThis as unknown as Record<symbol, Binding | undefined>;
const sharedBytes = 16;

function bind(): Binding {
  const { symbols, more, path } = openLibrary();
  // As an int32: an index that is a double costs 5 ns in each call.
  const thread = Number(symbols.hf_thread_attach()) | 0;
  if (thread < 0) throw statusError(thread, "import holdfast");
  const block = Number(symbols.hf_thread_block(thread));
  const shared = Number(symbols.hf_shared_block());
  return {
    symbols,
    linked: undefined,
    link: more,
    path,
    version: VERSION,
    fingerprint: FINGERPRINT,
    folder: import.meta.dir,
    thread,
    block: new Float64Array(wrapStatic(block, BLOCK_WORDS * 8)),
    shared: new Uint32Array(wrapStatic(shared, sharedBytes)),
    kept: new Map(),
  };
}

/** The binding that an earlier evaluation or another copy made, if it can be shared. */
function found(): Binding | undefined {
  const first = realm[key];
  if (!first || (first.version === VERSION && first.fingerprint === FINGERPRINT)) return first;
  throw new HoldfastError("ABI_MISMATCH", "import holdfast", {
    message:
      `holdfast ${first.version} is already in use here, from ${first.folder}; this one is ` +
      `${VERSION}, in ${import.meta.dir}. Make both the same version ("bun pm ls --all" shows who ` +
      'brings which, "overrides" in package.json settles it)',
  });
}

export const binding: Binding = found() ?? (realm[key] = bind());
export const { symbols, thread, block, shared } = binding;

/** The library's functions that are not in `symbols`. */
export function more(): MoreSymbols {
  return (binding.linked ??= binding.link());
}

/** The value of that name in this realm; made at first use, and never again. */
export function keep<T>(name: string, make: () => T): T {
  if (!binding.kept.has(name)) binding.kept.set(name, make());
  return binding.kept.get(name) as T;
}

/** Why the last call of this thread failed, as the engine wrote it into the block. */
function failureDetails(status: number): FailureDetails {
  const details: FailureDetails = { requestedBytes: block[BLOCK_REQUESTED] as number };
  const errno = block[BLOCK_ERRNO] as number;
  if (errno !== 0) {
    details.errno = errno;
    const name = Object.keys(SystemCall)[block[BLOCK_SYSTEM_CALL] as number];
    if (name) details.syscall = name;
  }
  if (status === Status.system) return details;
  const bound = block[BLOCK_BOUND] as number;
  const current = block[BLOCK_CURRENT] as number;
  if (bound !== 0) details.bound = bound;
  if (current !== 0) details.current = current;
  // A limit with a system call that was not made: its bound counts mappings.
  details.countsMappings = status === Status.limit && errno === 0 && block[BLOCK_SYSTEM_CALL] !== 0;
  return details;
}

/**
 * The error for a call that answered `status`. The block's details go into it only where that
 * status comes with them; else they are of an earlier failure.
 */
export function callError(
  status: number,
  operation: string,
  caller?: Caller,
  details?: FailureDetails,
): Error {
  const known = details ?? (detailed.includes(status) ? failureDetails(status) : {});
  return statusError(status, operation, known, caller);
}

const detailed: readonly number[] = [
  Status.out_of_memory,
  Status.limit,
  Status.size_class,
  Status.unaligned,
  Status.lock_limit,
  Status.huge_unavailable,
  Status.system,
];
