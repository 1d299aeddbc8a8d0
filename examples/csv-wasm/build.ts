/** Builds csv.wasm with this checkout's compiler, and the page's script. */
import { join } from "node:path";
import { root, run, zigPath } from "../../scripts/toolchain.ts";

/** The module's bytes. */
export async function buildModule(): Promise<Uint8Array<ArrayBuffer>> {
  const cwd = import.meta.dir;
  const prefix = join(root, "zig-out/csv-wasm");
  const command = [zigPath(), "build", "--cache-dir", join(root, ".zig-cache"), "-p", prefix];
  const { status, output } = await run(command, { cwd });
  if (status !== 0) throw new Error(output);
  return new Uint8Array(await Bun.file(join(prefix, "bin/csv.wasm")).arrayBuffer());
}

/** page.ts and all that it imports, for a browser. */
export async function buildPage(): Promise<string> {
  const entry = join(import.meta.dir, "page.ts");
  const built = await Bun.build({ entrypoints: [entry], target: "browser" });
  const script = await built.outputs[0]?.text();
  if (script === undefined) throw new Error("the page's script could not be built");
  return script;
}
