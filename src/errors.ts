/**
 * What holdfast throws. A message names the value that was wrong, the bound that it met and what
 * mends it; `code` is for programs, the message for people, and the stack begins at the caller's
 * own line.
 *
 * Two families: `HoldfastError` (`ERR_HOLDFAST_*`) for what memory or the system refused, and
 * Node's own codes (`ERR_OUT_OF_RANGE`, `ERR_INVALID_ARG_TYPE`) for bad arguments, which are checked
 * here before anything crosses into native code. Nothing else may throw, and nothing logs.
 */
import { Status } from "./abi.gen.ts";

/** The last part of a code: `ERR_HOLDFAST_LIMIT` has `LIMIT`. */
export type HoldfastCode =
  | "FREED"
  | "DOUBLE_FREE"
  | "FOREIGN"
  | "OUT_OF_MEMORY"
  | "LIMIT"
  | "SIZE_CLASS"
  | "DISABLED"
  | "UNALIGNED"
  | "LOCK_LIMIT"
  | "HUGE_UNAVAILABLE"
  | "BUSY"
  | "CLOSED"
  | "FORKED"
  | "UNSUPPORTED"
  | "ABI_MISMATCH"
  | "SYSTEM";

/** What is known about a failure beside its code; each goes into the message where it helps. */
export interface FailureDetails {
  /** Bytes that the failed request wanted. */
  requestedBytes?: number;
  /** The bound that was met, and how much of it was in use: bytes, or a count for BUSY. */
  bound?: number;
  current?: number;
  /** The bound of a LIMIT counts mappings of the process, not bytes. */
  countsMappings?: boolean;
  errno?: number;
  /** Name of the system call that refused. */
  syscall?: string;
  /** A sentence that replaces the general one of the code. */
  message?: string;
  cause?: unknown;
}

/** A function whose frames, and all above it, are cut from the stack of an error. */
// biome-ignore lint/complexity/noBannedTypes: what Error.captureStackTrace takes.
export type Caller = Function;

/** Memory or the system refused. */
export class HoldfastError extends Error {
  override readonly name = "HoldfastError";
  readonly code: `ERR_HOLDFAST_${string}`;
  /** The call that failed, as the caller wrote it: `LargePool.alloc`. */
  readonly operation: string;
  // Declared only: a field that is not set shall not print as undefined.
  declare readonly errno?: number;
  declare readonly syscall?: string;
  declare readonly requestedBytes?: number;

  /** @internal */
  constructor(code: HoldfastCode, operation: string, details: FailureDetails = {}) {
    const message = details.message ?? sentence(code, details);
    const { cause } = details;
    super(`${operation}: ${message}${systemPart(details)}`, cause === undefined ? {} : { cause });
    this.code = `ERR_HOLDFAST_${code}`;
    this.operation = operation;
    if (details.errno) this.errno = details.errno;
    if (details.errno && details.syscall) this.syscall = details.syscall;
    if (details.requestedBytes !== undefined) this.requestedBytes = details.requestedBytes;
  }
}

/** Makes a `HoldfastError`; `caller` is the public function that the program called. */
export function holdfastError(
  code: HoldfastCode,
  operation: string,
  details?: FailureDetails,
  caller?: Caller,
): HoldfastError {
  return cut(new HoldfastError(code, operation, details), caller);
}

/** The error for a native status below zero. */
export function statusError(
  status: number,
  operation: string,
  details: FailureDetails = {},
  caller?: Caller,
): Error & { code: string } {
  if (status === Status.out_of_range) {
    const range = details.bound === undefined ? "within its bounds" : `at most ${details.bound}`;
    const received = details.requestedBytes ?? details.current;
    return outOfRange(`bytes of ${operation}`, range, received, caller ?? statusError);
  }
  const code = codeOf(status);
  if (code) return holdfastError(code, operation, details, caller ?? statusError);
  const message = details.message ?? `the library answered the unknown status ${status}`;
  return holdfastError("SYSTEM", operation, { ...details, message }, caller ?? statusError);
}

/** A value of the right type outside its bounds: Node's `ERR_OUT_OF_RANGE`. */
export function outOfRange(
  name: string,
  range: string,
  received: unknown,
  caller: Caller = outOfRange,
): RangeError & { code: "ERR_OUT_OF_RANGE" } {
  const message = `The value of "${name}" is out of range. It must be ${range}. Received ${show(received)}`;
  return cut(Object.assign(new RangeError(message), { code: "ERR_OUT_OF_RANGE" as const }), caller);
}

/** A value of the wrong type: Node's `ERR_INVALID_ARG_TYPE`. */
export function invalidArgType(
  name: string,
  expected: string,
  received: unknown,
  caller: Caller = invalidArgType,
): TypeError & { code: "ERR_INVALID_ARG_TYPE" } {
  const type = received === null ? "null" : typeof received;
  const shown = received == null ? type : `type ${type} (${show(received)})`;
  const message = `The "${name}" argument must be ${expected}. Received ${shown}`;
  return cut(
    Object.assign(new TypeError(message), { code: "ERR_INVALID_ARG_TYPE" as const }),
    caller,
  );
}

/** `4194304` to `4 MiB`; whole units only where they are exact, else one decimal. */
export function formatBytes(bytes: number): string {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  while (Math.abs(value) >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${Number.isInteger(value) ? value : value.toFixed(1)} ${units[unit]}`;
}

function codeOf(status: number): HoldfastCode | undefined {
  if (status >= 0 || status === Status.out_of_range || status === Status.invalid_argument) return;
  const name = Object.entries(Status).find(([, value]) => value === status)?.[0];
  return name?.toUpperCase() as HoldfastCode | undefined;
}

/** Cuts the stack above the program's own call. Without a frame to cut at, the stack stays whole. */
function cut<T extends Error>(error: T, caller: Caller | undefined): T {
  // Some browsers cannot cut.
  if (!caller || !Error.captureStackTrace) return error;
  const whole = error.stack;
  Error.captureStackTrace(error, caller);
  // A function that is not on the stack would leave a stack without a single frame.
  if (!error.stack?.includes("\n    at ")) error.stack = whole;
  return error;
}

function sentence(code: HoldfastCode, details: FailureDetails): string {
  const wanted =
    details.requestedBytes === undefined ? "the request" : formatBytes(details.requestedBytes);
  const bound = details.bound === undefined ? undefined : formatBytes(details.bound);
  const current = details.current === undefined ? undefined : formatBytes(details.current);
  switch (code) {
    case "FREED":
      return "the handle was freed. Do not use a handle after free(), transfer() or the end of its using block";
    case "DOUBLE_FREE":
      return "the handle was freed before. Free it once, or let a using block do it";
    case "FOREIGN":
      return "the handle was not issued here. Pass handles to another Worker with transfer() and adopt()";
    case "OUT_OF_MEMORY":
      return `the system has no memory for ${wanted}. Free handles, call trim(), or ask for less`;
    case "LIMIT":
      if (details.countsMappings) {
        return `${wanted} would need more mappings than a process may have: ${details.current} of ${details.bound} are in use. Free handles, lock fewer small ones, or raise vm.max_map_count`;
      }
      return `${wanted} would pass the limit${bound ? ` of ${bound}` : ""}${
        current ? `, of which ${current} are in use` : ""
      }. Free handles or raise limitBytes`;
    case "SIZE_CLASS":
      return `no size class holds ${wanted}${bound ? `; the largest is ${bound}` : ""}. Ask for several smaller handles`;
    case "DISABLED":
      return "the pool is switched off. Call configure({ enabled: true })";
    case "UNALIGNED":
      return `the alignment cannot be had for ${wanted}${bound ? `; the largest possible is ${bound}` : ""}`;
    case "LOCK_LIMIT":
      return `${wanted} cannot be locked in RAM${bound ? `: RLIMIT_MEMLOCK is ${bound}` : ""}${
        current ? `, of which ${current} are locked` : ""
      }. Raise it (ulimit -l, LimitMEMLOCK= in systemd, --ulimit memlock= in a container) or use lock: "try"`;
    case "HUGE_UNAVAILABLE":
      return `${wanted} of explicit huge pages are not free. Reserve more (sysctl vm.nr_hugepages) or use pages: "auto"`;
    case "BUSY":
      return details.current === undefined
        ? "the memory is in use. Wait for running I/O on its views, and try again"
        : `${details.current} handles are live. Free them, or pass { force: true }`;
    case "CLOSED":
      return "the owner of this memory is closed";
    case "FORKED":
      return "this process is a fork of the one that owns the memory. Start it by Bun.spawn instead";
    case "UNSUPPORTED":
      return "not possible for this memory or on this system";
    case "ABI_MISMATCH":
      return "the native library is of another version than the JavaScript of holdfast";
    case "SYSTEM":
      return "a system call failed";
  }
}

/** What the system calls its errors; library.ts knows, and a browser has none. */
let errnos: () => Readonly<Record<string, number>> = () => ({});

export function nameErrnos(names: () => Readonly<Record<string, number>>): void {
  errnos = names;
}

function systemPart({ errno, syscall }: FailureDetails): string {
  if (!errno) return "";
  const name = Object.entries(errnos()).find(([, value]) => value === errno)?.[0];
  return ` (${syscall ?? "system"}: ${name ?? `errno ${errno}`})`;
}

function show(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "function") return `function ${value.name}`;
  if (typeof value === "object" && value !== null) {
    return `an instance of ${value.constructor?.name ?? "Object"}`;
  }
  return String(value);
}
