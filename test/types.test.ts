/**
 * Wrong calls do not compile. The functions below are never run: the compiler reads them, and an
 * `@ts-expect-error` above a line that does compile is itself an error. The last test runs the
 * compiler over the project, so that a type that became `any` is noticed by `bun test` alone.
 *
 * Without @types/bun (bare bun-types, no @types/node) foreign arguments silently become `any`.
 */
import { expect, test } from "bun:test";
import { join } from "node:path";
import type { AllocOptions, Handle, LargePool } from "holdfast";
import { root, run } from "../scripts/toolchain.ts";
import type { Symbols } from "../src/library.ts";

/** Calls into the library: numbers where numbers are wanted, views where memory is filled. */
export function nativeCalls(symbols: Symbols): void {
  const handle: number = symbols.hf_alloc(0, 0, 4096, 0);
  symbols.hf_free(0, handle);
  // @ts-expect-error a handle is a number, not a string
  symbols.hf_free(0, "1");
  // @ts-expect-error an argument is missing
  symbols.hf_free(handle);
  // @ts-expect-error bigint costs 20 ns a call and is not accepted
  symbols.hf_free(0, 1n);
  // @ts-expect-error figures go into a view, not into a plain object
  symbols.hf_stats({}, 0);
  // @ts-expect-error there is no such function
  symbols.hf_malloc(1);
  // @ts-expect-error a status is a number
  const text: string = symbols.hf_free(0, handle);
  void text;
}

/** The public face. */
export function publicCalls(pool: LargePool, handle: Handle): void {
  const bytes: Uint8Array<ArrayBuffer> = handle.bytes;
  const floats: Float64Array<ArrayBuffer> = handle.view(Float64Array);
  const outcome: "freed" | "closing" = handle.free();
  const options: AllocOptions = { pages: "thp", lock: "try", prefault: true, views: "alias" };
  pool.alloc(4096, options);
  // @ts-expect-error a view is of the type that was asked for
  const wrong: Int8Array = handle.view(Float64Array);
  // @ts-expect-error sizes are numbers
  pool.alloc("4 MiB");
  // @ts-expect-error an unknown kind of pages
  pool.alloc(4096, { pages: "huge" });
  // @ts-expect-error an option that does not exist
  pool.alloc(4096, { zeroed: true });
  // @ts-expect-error locking is asked for by name
  pool.alloc(4096, { lock: true });
  // @ts-expect-error a handle is made by alloc or adopt only
  handle.byteLength = 1;
  // @ts-expect-error only "now" and "lazy"
  handle.purge("soon");
  // @ts-expect-error only "copy", "omit" and "wipe"
  pool.configure({ fork: "share" });
  void [bytes, floats, outcome, wrong];
}

test("the project compiles, and what must not compile does not", async () => {
  const compiler = join(root, "node_modules/.bin/tsc");
  const { status, output } = await run([process.execPath, compiler, "--noEmit", "-p", "."]);
  expect(output).toBe("");
  expect(status).toBe(0);
}, 120_000);
