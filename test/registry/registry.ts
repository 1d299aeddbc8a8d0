/** A package registry on loopback, with nothing behind it: what is not published there is not there. */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { run } from "../../scripts/toolchain.ts";

const folder = import.meta.dir;
const program = join(folder, "node_modules/verdaccio/bin/verdaccio");
const startMsMax = 30_000;

/** Installs the registry by its lock file; why not, if there is no other registry to ask. */
export async function installRegistry(): Promise<string | undefined> {
  if (existsSync(program)) return undefined;
  const npm = Bun.which("npm");
  if (!npm) return "npm is not on PATH";
  const { status, output } = await run([npm, "ci", "--ignore-scripts"], { cwd: folder });
  if (status === 0) return undefined;
  if (/ENOTFOUND|ECONNREFUSED|EAI_AGAIN|ETIMEDOUT|ENETUNREACH/.test(output)) {
    return "npm reaches no registry";
  }
  throw new Error(`npm ci in test/registry: ${output}`);
}

export interface Registry extends AsyncDisposable {
  url: string;
  /** Line of an .npmrc that lets anyone publish here. */
  settings: string;
}

/** Starts it with an empty storage in `home`, on a port of its own. */
export async function startRegistry(home: string): Promise<Registry> {
  mkdirSync(home, { recursive: true });
  const config = join(home, "config.yaml");
  const everyone = "access: $all, publish: $all, unpublish: $all";
  writeFileSync(
    config,
    [
      `storage: ${join(home, "storage")}`,
      `auth: { htpasswd: { file: ${join(home, "htpasswd")} } }`,
      "uplinks: {}",
      `packages: { "**": { ${everyone} } }`,
      "web: { enable: false }",
      "log: { type: stdout, format: json, level: error }",
    ].join("\n"),
  );
  const host = `127.0.0.1:${freePort()}`;
  // In Bun, since Node of many a machine is too old for it.
  const command = [process.execPath, "--bun", program, "--config", config, "--listen", host];
  const child = Bun.spawn(command, { cwd: home, stdout: "ignore", stderr: "ignore" });
  const url = `http://${host}/`;
  const stop = async () => {
    child.kill();
    await child.exited;
  };
  const start = performance.now();
  for (;;) {
    const answered = await fetch(`${url}-/ping`).then(
      ({ ok }) => ok,
      () => false,
    );
    if (answered) break;
    if (child.exitCode !== null || performance.now() - start > startMsMax) {
      await stop();
      throw new Error("the registry does not start");
    }
    await Bun.sleep(50);
  }
  const settings = `registry=${url}\n//${host}/:_authToken=anyone\n`;
  return { url, settings, [Symbol.asyncDispose]: stop };
}

function freePort(): number {
  const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = server;
  server.stop(true);
  return port;
}
