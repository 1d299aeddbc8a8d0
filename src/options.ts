/**
 * The options of an allocation, as the bits that native code takes.
 *
 * Checked here completely, so that native code sees only what exists; allocates nothing for
 * `undefined` and for valid options, since it runs for every lease.
 */
import {
  Lock,
  OPTION_ALIAS,
  OPTION_ALIGN_SHIFT,
  OPTION_LOCK_SHIFT,
  OPTION_PAGES_SHIFT,
  OPTION_PREFAULT,
  Pages,
} from "./abi.gen.ts";
import { type Caller, invalidArgType, outOfRange } from "./errors.ts";

export interface AllocOptions {
  /** A power of two up to 1 GiB. Default 16, a page from a LargePool. */
  align?: number | undefined;
  /**
   * Which pages: `auto` takes transparent huge pages where a region is large enough, `hugetlb`
   * explicit ones of 2 MiB or fails. Default: the pool's own, which is `auto`.
   */
  pages?: "auto" | "base" | "thp" | "hugetlb" | undefined;
  /** Lock the pages in RAM: not, if the system allows it, or fail. */
  lock?: "none" | "try" | "require" | undefined;
  /** Populate the pages now, so that the first touch can neither fault nor fail. */
  prefault?: boolean | undefined;
  /**
   * What `free()` does to views: `revoke` makes them empty; `alias` keeps them, for tens of
   * nanoseconds instead of microseconds, and trusts the program not to use them any more.
   */
  views?: "revoke" | "alias" | undefined;
}

const alignMax = 2 ** 30;
/** Below it every lease is aligned anyway. */
const alignDefault = 16;

/** Options as bits, without `OPTION_ZERO`. */
export function optionBits(options: AllocOptions | undefined, caller: Caller): number {
  if (options === undefined) return 0;
  if (typeof options !== "object" || options === null) {
    throw invalidArgType("options", "an object", options, caller);
  }
  const { views, pages, lock, prefault, align } = options;
  let bits = 0;
  if (views !== undefined && views !== "revoke") {
    if (views !== "alias") throw oneOf("views", '"revoke" or "alias"', views, caller);
    bits = OPTION_ALIAS;
  }
  if (pages !== undefined && pages !== "auto") bits |= pagesBits(pages, caller);
  if (lock !== undefined && lock !== "none") bits |= lockBits(lock, caller);
  if (prefault !== undefined && prefault !== false) {
    if (prefault !== true) throw invalidArgType("options.prefault", "a boolean", prefault, caller);
    bits |= OPTION_PREFAULT;
  }
  if (align !== undefined) bits |= alignBits(align, caller);
  return bits;
}

function pagesBits(pages: string, caller: Caller): number {
  const value = pagesFrom(pages);
  if (value < 0 || value > Pages.hugetlb)
    throw oneOf("pages", '"auto", "base", "thp" or "hugetlb"', pages, caller);
  return value << OPTION_PAGES_SHIFT;
}

/** The ABI's number of a kind of pages; below 0 if there is none of that name. */
export function pagesFrom(pages: string): number {
  return Object.hasOwn(Pages, pages) ? Pages[pages as keyof typeof Pages] : -1;
}

function lockBits(lock: string, caller: Caller): number {
  if (lock === "try") return Lock.attempt << OPTION_LOCK_SHIFT;
  if (lock === "require") return Lock.require << OPTION_LOCK_SHIFT;
  throw oneOf("lock", '"none", "try" or "require"', lock, caller);
}

function alignBits(align: number, caller: Caller): number {
  if (typeof align !== "number") throw invalidArgType("options.align", "a number", align, caller);
  const isPower = align >= 1 && align <= alignMax && ((align | 0) & (align - 1)) === 0;
  if (!isPower || !Number.isInteger(align)) {
    throw outOfRange("options.align", `a power of two from 1 to ${alignMax}`, align, caller);
  }
  return align <= alignDefault ? 0 : (31 - Math.clz32(align)) << OPTION_ALIGN_SHIFT;
}

function oneOf(name: string, expected: string, received: unknown, caller: Caller): Error {
  if (typeof received !== "string") {
    return invalidArgType(`options.${name}`, `one of ${expected}`, received, caller);
  }
  return outOfRange(`options.${name}`, `one of ${expected}`, received, caller);
}

/** A boolean option as 0 or 1. */
export function flag(name: string, value: unknown, caller: Caller): number {
  if (typeof value !== "boolean") {
    throw invalidArgType(`options.${name}`, "a boolean", value, caller);
  }
  return value ? 1 : 0;
}

/** An option that is a whole number, checked. */
export function count(
  name: string,
  value: unknown,
  min: number,
  caller: Caller,
  max: number = Number.MAX_SAFE_INTEGER,
): number {
  if (typeof value !== "number") {
    throw invalidArgType(`options.${name}`, "a number", value, caller);
  }
  if (!Number.isInteger(value) || value < min || value > max) {
    throw outOfRange(`options.${name}`, `a whole number from ${min} to ${max}`, value, caller);
  }
  return value;
}

/** `value` of a named option, checked to be one. */
export function named(name: string, received: unknown, value: number, caller: Caller): number {
  if (value >= 0) return value;
  throw outOfRange(`options.${name}`, "one of the names it has", received, caller);
}
