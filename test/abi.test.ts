/**
 * One contract, three readers: what C sees through include/holdfast.h, what the library exports
 * and what TypeScript reads from src/abi.gen.ts are the same.
 */
import { dlopen } from "bun:ffi";
import { beforeAll, expect, test } from "bun:test";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { libraryPath } from "../scripts/library-build.ts";
import { root, run, zigPath } from "../scripts/toolchain.ts";
import * as abi from "../src/abi.gen.ts";
import { readElf } from "./elf.ts";

const library = process.env.HOLDFAST_LIBRARY ?? libraryPath;
/** What the C program printed: name to number. */
const seen = new Map<string, number>();

beforeAll(async () => {
  const program = join(root, "zig-out/test/abi");
  mkdirSync(join(root, "zig-out/test"), { recursive: true });
  const strict = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic"];
  const options = [...strict, "-O1", "-fno-sanitize=undefined", "-Iinclude"];
  const compiled = await run([zigPath(), "cc", ...options, "test/abi.c", "-o", program]);
  if (compiled.status !== 0) throw new Error(`test/abi.c does not compile:\n${compiled.output}`);
  const ran = await run([program, library]);
  if (ran.status !== 0) throw new Error(`test/abi.c failed:\n${ran.output}`);
  for (const line of ran.output.trim().split("\n")) {
    const [name, value] = line.split(" ");
    seen.set(name!, Number(value));
  }
}, 120_000);

test("a C program leases, writes and frees memory, and the library's self-test is content", () => {
  expect(seen.get("self_test")).toBe(0);
});

test("C, TypeScript and the library agree on the fingerprint", () => {
  expect(seen.get("fingerprint")).toBe(abi.FINGERPRINT);
  expect(Number.isSafeInteger(abi.FINGERPRINT)).toBe(true);
});

test("C and TypeScript see the same sizes and offsets", () => {
  const layouts: Record<string, { size: number; fields: Record<string, { offset: number }> }> =
    abi.layouts;
  let compared = 0;
  for (const [name, value] of seen) {
    const [what, type, field] = name.split(".");
    if (what !== "sizeof" && what !== "offsetof") continue;
    const layout = layouts[pascal(type!.replace(/^hf_|_t$/g, ""))];
    expect(layout).toBeDefined();
    expect(what === "sizeof" ? layout!.size : layout!.fields[camel(field!)]!.offset).toBe(value);
    compared += 1;
  }
  expect(compared).toBeGreaterThan(10);
});

test("C and TypeScript see the same codes", () => {
  let compared = 0;
  for (const [name, value] of seen) {
    if (!name.startsWith("HF_")) continue;
    const status = /^HF_STATUS_(.*)$/.exec(name)?.[1];
    const known: Record<string, unknown> = status ? abi.Status : { ...abi };
    expect(known[status?.toLowerCase() ?? name.slice("HF_".length)]).toBe(value);
    compared += 1;
  }
  expect(compared).toBeGreaterThan(8);
});

test("the library exports the functions of the table and of the header, and no other", () => {
  const opened = dlopen(library, abi.symbols);
  const names = Object.keys(abi.symbols);
  for (const name of names) {
    expect(opened.symbols[name as keyof typeof abi.symbols]).toBeFunction();
  }
  const header = readFileSync(join(root, "include/holdfast.h"), "utf8");
  const declared = [...header.matchAll(/\b(hf_[a-z_]+)\(/g)].map((match) => match[1]);
  expect(declared.sort()).toEqual(names.sort());
  expect(readElf(readFileSync(library)).functions.sort()).toEqual(names);
});

test("the header also compiles as C++", async () => {
  const flags = ["-x", "c++", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-c"];
  const object = join(root, "zig-out/test/header.o");
  const compiled = await run([zigPath(), "cc", ...flags, "include/holdfast.h", "-o", object]);
  expect(compiled.output).toBe("");
  expect(compiled.status).toBe(0);
}, 60_000);

function camel(snake: string): string {
  return snake.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

function pascal(snake: string): string {
  const name = camel(snake);
  return name[0]!.toUpperCase() + name.slice(1);
}
