/**
 * Finds leases that were dropped without `free()` where no ArrayBuffer can tell, and reports, if
 * asked, where they were allocated.
 *
 * The deallocator of an ArrayBuffer returns a dropped lease that had a view. This registry serves
 * the others: leases never viewed, and the page leases of alias mode, whose buffer is shared. It
 * lives in the binding, so it is rooted; its callback throws nothing and native code refuses a
 * handle that is stale, so nothing is ever unregistered.
 *
 * Cost: 40 ns for each registration, and more at each collection; so only leases that outlive the
 * recent ones (handle.ts) come here. Callbacks run after a collection, on a turn of the event loop:
 * a synchronous loop that drops unviewed leases does not get them back before it ends.
 */
import { keep, symbols, thread } from "./binding.ts";
import { type Caller, formatBytes, invalidArgType } from "./errors.ts";
import { checkInteger } from "./view.ts";

/** Says which handle is lost when its holder is collected; 0: none. */
export interface LostLease {
  handle: number;
}

/** A handle that was collected without `free()`, as far as allocations are sampled. */
export interface LeakReport {
  byteLength: number;
  /** Where it was allocated, as a stack of calls. */
  stack: string;
}

export interface LeakReportOptions {
  /** Keep the stack of every n-th allocation; 0 ends the reports. A stack costs some 2 µs. */
  every: number;
  /** Gets each leak that is found. Default: a process warning. */
  report?: ((leak: LeakReport) => void) | undefined;
}

interface Sample extends LeakReport {
  settled: boolean;
  /** Which call of `leakReports` it belongs to. */
  round: number;
}

const { hf_leaked } = symbols;

/** State of the reports; `every` 0 means off, which is all that the hot path looks at. */
export const reports = keep("reports", () => ({
  every: 0,
  untilNext: 0,
  round: 0,
  report: warn as (leak: LeakReport) => void,
  samples: new WeakMap<object, Sample>(),
}));

const registry = keep(
  "leaks",
  () =>
    new FinalizationRegistry<number | LostLease>((lost) => {
      const handle = typeof lost === "number" ? lost : lost.handle;
      if (handle > 0) hf_leaked(thread, handle);
    }),
);

const sampled = keep(
  "samples",
  () =>
    new FinalizationRegistry<Sample>((sample) => {
      if (sample.settled || sample.round !== reports.round || reports.every === 0) return;
      const { byteLength, stack, round: _ } = sample;
      // A throwing callback would end the batch.
      try {
        reports.report({ byteLength, stack });
      } catch {
        reports.every = 0;
      }
    }),
);

/** When `holder` is collected, the lease of that handle, never viewed, is freed as a leak. */
export function handleLost(holder: object, handle: number): void {
  registry.register(holder, handle);
}

/** When `holder` is collected, the lease that `lost` names by then is freed as a leak. */
export function anchorLost(holder: object, lost: LostLease): void {
  registry.register(holder, lost);
}

/** Starts, changes or (with `every` 0) ends reports of leaked handles. Off by default. */
export function leakReports(options: LeakReportOptions): void {
  if (typeof options !== "object" || options === null) {
    throw invalidArgType("options", "an object", options, leakReports);
  }
  const { every, report } = options;
  checkInteger("options.every", every, Number.MAX_SAFE_INTEGER, leakReports);
  if (report !== undefined && typeof report !== "function") {
    throw invalidArgType("options.report", "a function", report, leakReports);
  }
  reports.round++;
  reports.every = every;
  reports.untilNext = 1;
  reports.report = report ?? warn;
}

/** Called for each allocation while reports are on: keeps the stack of every n-th. */
export function sampleLease(handle: object, byteLength: number, caller: Caller): void {
  if (--reports.untilNext > 0) return;
  reports.untilNext = reports.every;
  const at: { stack?: string } = {};
  Error.captureStackTrace(at, caller);
  const stack = (at.stack ?? "").split("\n").slice(1).join("\n");
  const sample: Sample = { byteLength, stack, settled: false, round: reports.round };
  reports.samples.set(handle, sample);
  sampled.register(handle, sample);
}

/** Called for each free while reports are on. */
export function settleLease(handle: object): void {
  const sample = reports.samples.get(handle);
  if (sample) sample.settled = true;
}

function warn({ byteLength, stack }: LeakReport): void {
  const message = `a handle of ${formatBytes(byteLength)} was dropped without free(); allocated\n${stack}`;
  process.emitWarning(message, { type: "HoldfastLeak", code: "HOLDFAST_LEAK" });
}
