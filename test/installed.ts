/**
 * A folder of its own in which the packed packages are installed, as a user has them: from the
 * tarballs, without a registry, with a cache of its own. The packages of other platforms are
 * stand-ins without a library, taken out again afterwards: only what comes from a registry is
 * passed over by its `os` and `cpu` (the proof `registry` has that).
 */
import { cpSync, mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type Packed, pack } from "../scripts/pack.ts";
import { type Outcome, run } from "../scripts/toolchain.ts";
import { platforms } from "../src/library.ts";

export const platform = `${process.platform}-${process.arch}`;

/** Where the packages were packed and projects are made; gone with `[Symbol.dispose]`. */
export class Workshop implements Disposable {
  readonly folder: string;
  #packed: Packed | undefined;
  #projects = 0;

  constructor() {
    this.folder = realpathSync(mkdtempSync(join(tmpdir(), "holdfast-package-")));
  }

  /** The packages of this platform. */
  async packed(): Promise<Packed> {
    this.#packed ??= await pack({ only: platform, to: join(this.folder, "npm") });
    return this.#packed;
  }

  /** What a project's package.json has to say so that `holdfast` is what was packed here. */
  async dependencies(): Promise<{ dependencies: object; overrides: object }> {
    const { files, version } = await this.packed();
    const overrides: Record<string, string> = {};
    for (const name of platforms) {
      overrides[`@holdfast/${name}`] =
        name === platform ? `file:${files[1]}` : `file:${this.#standIn(name, version)}`;
    }
    return { dependencies: { holdfast: `file:${files[0]}` }, overrides };
  }

  #standIn(name: string, version: string): string {
    const folder = join(this.folder, "stand-ins", name);
    write(join(folder, "package.json"), JSON.stringify({ name: `@holdfast/${name}`, version }));
    return folder;
  }

  /** A project with the package installed and these files in it. */
  async project(
    files: Record<string, string>,
    options: { manifest?: object; install?: string[] } = {},
  ): Promise<Project> {
    const project = new Project(join(this.folder, `project-${(this.#projects += 1)}`), this.folder);
    const manifest = { name: "project", private: true, type: "module" };
    const all = { ...manifest, ...(await this.dependencies()), ...options.manifest };
    project.write({ "package.json": JSON.stringify(all, null, 2), ...files });
    const installed = await project.bun("install", ...(options.install ?? []));
    if (installed.status !== 0) throw new Error(`bun install: ${installed.output}`);
    project.remove(...project.find(`**/node_modules/@holdfast/!(${platform})`));
    return project;
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export class Project {
  constructor(
    readonly folder: string,
    readonly workshop: string,
  ) {}

  write(files: Record<string, string>): void {
    for (const [name, text] of Object.entries(files)) write(join(this.folder, name), text);
  }

  /** The environment of a user: nothing of this checkout in it. */
  environment(): Record<string, string | undefined> {
    const env: Record<string, string | undefined> = {
      BUN_INSTALL_CACHE_DIR: join(this.workshop, "cache"),
      TMPDIR: this.#temporary(),
    };
    for (const [key, value] of Object.entries(process.env)) {
      if (!/^(npm_|HOLDFAST_|NODE_|TMPDIR$)/i.test(key)) env[key] = value;
    }
    return env;
  }

  /** Compiled executables unpack the library here. */
  #temporary(): string {
    const folder = join(this.workshop, "tmp");
    mkdirSync(folder, { recursive: true });
    return folder;
  }

  run(command: string[], cwd = this.folder): Promise<Outcome> {
    return run(command, { cwd, env: this.environment() });
  }

  bun(...args: string[]): Promise<Outcome> {
    return this.run([process.execPath, ...args]);
  }

  /** The JSON on the last line that a command printed. */
  async answer<Result>(command: string[], cwd = this.folder): Promise<Result> {
    const { status, output } = await this.run(command, cwd);
    const line = output.trim().split("\n").at(-1) ?? "";
    if (status !== 0) throw new Error(`"${command.join(" ")}" ended with ${status}:\n${output}`);
    try {
      return JSON.parse(line) as Result;
    } catch {
      throw new Error(`"${command.join(" ")}" printed no JSON last:\n${output}`);
    }
  }

  /** Copies an installed package elsewhere, as another dependency's own copy. */
  copyPackages(to: string): void {
    cpSync(join(this.folder, "node_modules"), join(this.folder, to, "node_modules"), {
      recursive: true,
    });
  }

  find(pattern: string): string[] {
    const options = { cwd: this.folder, onlyFiles: false, dot: true };
    return [...new Bun.Glob(pattern).scanSync(options)];
  }

  remove(...names: string[]): void {
    for (const name of names) rmSync(join(this.folder, name), { recursive: true, force: true });
  }
}

function write(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}
