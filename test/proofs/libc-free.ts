/**
 * The library needs no other: no NEEDED entry, only weak imports, small, and its self-test holds
 * in a process of another libc. The musl half needs Debian's musl-tools.
 */
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { libraryPath } from "../../scripts/library-build.ts";
import type { ProofOptions, ProofResult } from "../../scripts/proofs.ts";
import { root, run as runCommand } from "../../scripts/toolchain.ts";
import { readElf } from "../elf.ts";

export const name = "libc-free";
export const issue = 2;
export const title =
  "the library has no NEEDED entry, at most 200 KiB, and passes its self-test in a musl process";

const BYTES_MAX = 200 * 1024;
/** Every dynamic linker has it; the compiler calls it for thread-local variables. */
const LINKER_OWN = "__tls_get_addr";

export async function run({ log }: ProofOptions): Promise<ProofResult> {
  if (process.platform !== "linux") return { skipped: "the claim is about ELF libraries" };
  const path = process.env.HOLDFAST_LIBRARY ?? libraryPath;
  const bytes = readFileSync(path);
  const elf = readElf(bytes);
  log(`${bytes.length} bytes, ${elf.functions.length} functions, NEEDED: ${elf.needed.length}`);
  assert(elf.needed.length === 0, `the library needs ${elf.needed.join(", ")}`);
  assert(elf.stripped, "the library is not stripped");
  assert(bytes.length <= BYTES_MAX, `${bytes.length} bytes are more than ${BYTES_MAX}`);
  assert(elf.soname === "libholdfast.so.1", `the soname is ${elf.soname}`);
  assert(elf.noDelete, "the library is not linked with -z nodelete");
  const strong = elf.imports.filter(({ name, weak }) => !weak && name !== LINKER_OWN);
  assert(strong.length === 0, `strong imports: ${strong.map(({ name }) => name).join(", ")}`);

  if (!Bun.which("musl-gcc")) {
    return { skipped: "musl-gcc is missing (apt-get install musl-tools); the rest of it holds" };
  }
  const program = join(root, "zig-out/test/musl");
  mkdirSync(join(root, "zig-out/test"), { recursive: true });
  const strict = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"];
  const compiled = await runCommand(["musl-gcc", ...strict, "test/musl.c", "-o", program]);
  assert(compiled.status === 0, `musl-gcc: ${compiled.output}`);
  const ran = await runCommand([program, path]);
  log(`in a musl process: ${ran.output.trim()}`);
  assert(ran.status === 0, `the self-test in a musl process ended with ${ran.status}`);
}

function assert(holds: boolean, message: string): asserts holds {
  if (!holds) throw new Error(message);
}
