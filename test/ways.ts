/**
 * The ways of running a program that uses the installed package, each as one function that throws
 * if it does not work. The proof `ways` runs them all.
 */
import { readFileSync, renameSync } from "node:fs";
import { join } from "node:path";
import { VERSION } from "../src/version.ts";
import { type Project, platform, type Workshop } from "./installed.ts";

interface Answer {
  /** File of the engine in use. */
  library: string;
  /** Sum of a lease's bytes, which were set to 2. */
  sum: number;
  /** Length of a view after `free()`. */
  left: number;
  live: number;
}

const length = 100_000;

/** Uses a lease whole and tells what it saw. */
const lease = `
import { alloc, LargePool, libraryPath, stats } from "holdfast";
export function answer() {
  const handle = alloc(${length});
  const { bytes } = handle.bytes.fill(2) && handle;
  const sum = bytes.reduce((total, byte) => total + byte, 0);
  handle.free();
  using pool = new LargePool({ limitBytes: 64 * 2 ** 20 });
  pool.alloc(3 * 2 ** 20).free();
  return { library: libraryPath(), sum, left: bytes.length, live: stats().liveHandles };
}
`;
const program = `${lease}\nconsole.log(JSON.stringify(answer()));\n`;

const inWorker = `
const worker = new Worker(new URL("./worker.ts", import.meta.url).href);
const answer = await new Promise((resolve, reject) => {
  worker.onmessage = ({ data }) => resolve(data);
  worker.onerror = ({ message }) => reject(new Error(message));
});
await worker.terminate();
console.log(JSON.stringify(answer));
`;
const worker = `${lease}\npostMessage(answer());\n`;

export const ways: Record<string, (workshop: Workshop) => Promise<void>> = {
  "bun run": async (workshop) => {
    const project = await workshop.project({ "program.ts": program });
    const answer = await project.answer<Answer>([process.execPath, "run", "program.ts"]);
    expectLease(answer);
    const folder = join(project.folder, "node_modules/@holdfast", platform);
    expect(answer.library.startsWith(folder), `the library is ${answer.library}`);
  },

  "bun test": async (workshop) => {
    const test = `
      import { expect, test } from "bun:test";
      ${lease}
      test("a lease", () => expect(answer()).toMatchObject({ sum: ${2 * length}, left: 0 }));
    `;
    const project = await workshop.project({ "lease.test.ts": test });
    const { status, output } = await project.bun("test");
    expect(status === 0 && output.includes(" 1 pass"), output);
  },

  Workers: async (workshop) => {
    const project = await workshop.project({ "program.ts": inWorker, "worker.ts": worker });
    expectLease(await project.answer<Answer>([process.execPath, "program.ts"]));
  },

  "bun --hot": async (workshop) => {
    const project = await workshop.project({ "program.ts": reloading(0) });
    const seen = await reload(project, "--hot");
    const [first] = seen;
    seen.forEach((state, round) => {
      expect(state.round === round, `round ${state.round} instead of ${round}`);
      expect(state.pid === first?.pid, "the process is another one");
      expect(state.kept === round + 1, `${state.kept} handles kept after ${round} reloads`);
      expect(state.live === round + 1, `${state.live} live handles after ${round} reloads`);
      expect(state.threads <= 1, `${state.threads} background threads`);
      expect(state.usable, "a handle of before the reload does not work");
    });
  },

  "bun --watch": async (workshop) => {
    const project = await workshop.project({ "program.ts": reloading(0) });
    const seen = await reload(project, "--watch");
    seen.forEach((state, round) => {
      expect(state.round === round, `round ${state.round} instead of ${round}`);
      expect(state.live === 1 && state.kept === 1, `${state.live} live handles in a fresh process`);
      expect(state.threads <= 1, `${state.threads} background threads`);
    });
  },

  "bun build": async (workshop) => {
    const project = await workshop.project({ "program.ts": inWorker, "worker.ts": worker });
    const built = await project.bun(
      ...["build", "program.ts", "worker.ts", "--target=bun", "--outdir=dist"],
    );
    expect(built.status === 0, built.output);
    project.remove("node_modules", "program.ts", "worker.ts");
    renameSync(join(project.folder, "dist"), join(project.folder, "moved"));
    // A bundled Worker is named by its output.
    const text = await Bun.file(join(project.folder, "moved/program.js")).text();
    project.write({ "moved/program.js": text.replace("./worker.ts", "./worker.js") });
    const answer = await project.answer<Answer>([process.execPath, "moved/program.js"]);
    expectLease(answer);
    expect(answer.library.startsWith(join(project.folder, "moved")), answer.library);
  },

  "bun build with entries in folders": async (workshop) => {
    const project = await workshop.project({ "a/one.ts": program, "b/c/two.ts": program });
    for (const flag of ["--splitting", "--minify"]) {
      const args = ["a/one.ts", "b/c/two.ts", "--target=bun", flag, `--outdir=dist${flag}`];
      const built = await project.bun("build", ...args);
      expect(built.status === 0, built.output);
    }
    project.remove("node_modules");
    for (const name of ["a/one.js", "b/c/two.js"]) {
      for (const folder of ["dist--splitting", "dist--minify"]) {
        expectLease(await project.answer<Answer>([process.execPath, `${folder}/${name}`]));
      }
    }
  },

  "bun build --compile": async (workshop) => {
    const project = await workshop.project({ "program.ts": program });
    const args = ["build", "--compile", "program.ts", "--outfile", "built/program"];
    const built = await project.bun(...args);
    expect(built.status === 0, built.output);
    const moved = join(workshop.folder, "elsewhere");
    renameSync(join(project.folder, "built/program"), moved);
    project.remove("node_modules", "program.ts", "package.json", "bun.lock");
    const answer = await project.answer<Answer>([moved], workshop.folder);
    expectLease(answer);
    expect(!answer.library.startsWith(project.folder), `the library is ${answer.library}`);
  },

  "bun build --compile with a Worker": async (workshop) => {
    const main = inWorker.replace('new URL("./worker.ts", import.meta.url).href', '"./worker.ts"');
    const project = await workshop.project({ "program.ts": main, "worker.ts": worker });
    const args = ["build", "--compile", "program.ts", "worker.ts", "--outfile", "built/program"];
    const built = await project.bun(...args);
    expect(built.status === 0, built.output);
    const moved = join(workshop.folder, "elsewhere-with-worker");
    renameSync(join(project.folder, "built/program"), moved);
    project.remove("node_modules", "program.ts", "worker.ts");
    expectLease(await project.answer<Answer>([moved], workshop.folder));
  },

  "a workspace": async (workshop) => {
    const { dependencies, overrides } = await workshop.dependencies();
    const member = (name: string, more: object = {}) =>
      JSON.stringify({ name, type: "module", dependencies: { ...dependencies, ...more } });
    const files = {
      "packages/lib/package.json": member("lib"),
      "packages/lib/index.ts": lease,
      "packages/app/package.json": member("app", { lib: "workspace:*" }),
      "packages/app/program.ts": `import { answer } from "lib/index.ts";\n${program.replace(/answer\(\)(?= \{)/, "own()")}`,
    };
    const manifest = { workspaces: ["packages/*"], dependencies: {}, overrides };
    for (const linker of ["hoisted", "isolated"]) {
      const install = ["--linker", linker];
      const project = await workshop.project(files, { manifest, install });
      const app = join(project.folder, "packages/app");
      expectLease(await project.answer<Answer>([process.execPath, "program.ts"], app));
    }
  },

  "two copies in one process": async (workshop) => {
    const copy = `
      export { alloc, Handle, libraryPath, stats } from "holdfast";
    `;
    const both = `
      import * as one from "./one/copy.ts";
      import * as two from "./two/copy.ts";
      const before = one.stats().liveHandles;
      const handle = one.alloc(4096);
      handle.bytes[0] = 9;
      const live = two.stats().liveHandles - before;
      const here = two.Handle.adopt(handle.transfer());
      const worker = new Worker(new URL("./two/worker.ts", import.meta.url).href);
      const there = await new Promise((resolve, reject) => {
        worker.onmessage = ({ data }) => resolve(data);
        worker.onerror = ({ message }) => reject(new Error(message));
        worker.postMessage(here.transfer());
      });
      await worker.terminate();
      console.log(JSON.stringify({ one: one.libraryPath(), two: two.libraryPath(), live, there }));
    `;
    const adopting = `
      import { Handle, libraryPath } from "./copy.ts";
      onmessage = ({ data }) => {
        using handle = Handle.adopt(data);
        postMessage({ library: libraryPath(), found: handle.bytes[0] });
      };
    `;
    const files = { "one/copy.ts": copy, "two/copy.ts": copy, "two/worker.ts": adopting };
    const project = await workshop.project({ "program.ts": both, ...files });
    project.copyPackages("one");
    project.copyPackages("two");
    project.remove("node_modules");
    const command = [process.execPath, "program.ts"];
    const { one, two, live, there } = await project.answer<{
      one: string;
      two: string;
      live: number;
      there: { library: string; found: number };
    }>(command);
    expect(one.startsWith(join(project.folder, "one")), `the first copy's library is ${one}`);
    expect(two === one && there.library === one, `engines: ${one}, ${two}, ${there.library}`);
    expect(live === 1 && there.found === 9, "the copies do not share their leases");

    // Of another version: refused, and both are named.
    const bundle = "two/node_modules/holdfast/dist/index.js";
    const text = readFileSync(join(project.folder, bundle), "utf8");
    project.write({ [bundle]: text.replace(`VERSION="${VERSION}"`, 'VERSION="0.0.9"') });
    const refused = await project.run(command);
    expect(refused.status !== 0, "a copy of another version was let in");
    for (const part of ["ERR_HOLDFAST_ABI_MISMATCH", "0.0.9", join(project.folder, "one")]) {
      expect(refused.output.includes(part), `the refusal does not name ${part}: ${refused.output}`);
    }
  },
};

/** A program that keeps one handle per evaluation in globalThis and tells what it finds. */
function reloading(round: number): string {
  return `
    import { alloc, Handle, stats } from "holdfast";
    import { readdirSync } from "node:fs";
    const handles = (globalThis.handles ??= []);
    handles.push(alloc(4096));
    handles.at(-1).bytes[0] = ${round};
    const { liveHandles: live } = stats();
    const usable = handles.every((one, index) => one instanceof Handle && one.freed === false &&
      (handles.length === 1 || one.bytes[0] === index));
    const threads = readdirSync("/proc/self/task").filter((task) =>
      require("node:fs").readFileSync("/proc/self/task/" + task + "/comm", "utf8").startsWith("holdfast")).length;
    console.log(JSON.stringify({ round: ${round}, pid: process.pid, live, kept: handles.length, usable, threads }));
    globalThis.timer ??= setInterval(() => {}, 1000);
  `;
}

interface State {
  round: number;
  pid: number;
  live: number;
  kept: number;
  usable: boolean;
  threads: number;
}

const reloads = 3;

/** What each evaluation printed: the first, and one after each change of the file. */
async function reload(project: Project, flag: string): Promise<State[]> {
  const child = Bun.spawn([process.execPath, flag, "--no-clear-screen", "program.ts"], {
    cwd: project.folder,
    env: project.environment(),
    stdin: "ignore",
    stdout: "pipe",
    stderr: "inherit",
  });
  const seen: State[] = [];
  const limit = setTimeout(() => child.kill("SIGKILL"), 20_000);
  try {
    let text = "";
    const decoder = new TextDecoder();
    for await (const chunk of child.stdout) {
      text += decoder.decode(chunk, { stream: true });
      const lines = text.split("\n");
      text = lines.pop() ?? "";
      for (const line of lines.filter((each) => each.startsWith("{"))) {
        seen.push(JSON.parse(line));
        if (seen.length > reloads) return seen;
        project.write({ "program.ts": reloading(seen.length) });
      }
    }
    throw new Error(`${flag} ended after ${seen.length} evaluations`);
  } finally {
    clearTimeout(limit);
    child.kill("SIGKILL");
    await child.exited;
  }
}

function expectLease({ sum, left, live }: Answer): void {
  expect(sum === 2 * length, `the sum is ${sum}`);
  expect(left === 0, `a view has ${left} bytes after free()`);
  expect(live === 0, `${live} handles are live`);
}

function expect(holds: boolean, message: string): asserts holds {
  if (!holds) throw new Error(message);
}
