/**
 * `npm run docs`: the documentation is true, as far as a program can see.
 *
 * - each file of examples/ runs and prints what its last comment says;
 * - each `ts` block of a Markdown file is a quotation: the comment `<!-- path -->` before it names a
 *   file that has these very lines;
 * - each command of an `sh` block exists, each `json` and `yaml` block can be parsed;
 * - each relative link leads to a file, and each fragment to a heading;
 * - README.md names every export of src/index.ts.
 *
 * Links to other sites are not followed. Exit 1 with one line for each thing that is wrong.
 */
import { existsSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { ensureLibrary } from "./library-build.ts";
import { root } from "./toolchain.ts";

const DOCUMENTS = ["*.md", "docs/**/*.md", "{zig,bench,examples}/**/*.md"];
const OUTPUT_HEADER = "// Prints:\n";

/** The single-file examples, by name. */
export async function listExamples(): Promise<string[]> {
  const names = await Array.fromAsync(new Bun.Glob("*.ts").scan(join(root, "examples")));
  return names.sort();
}

async function listDocuments(): Promise<string[]> {
  const found = DOCUMENTS.map((pattern) => Array.fromAsync(new Bun.Glob(pattern).scan(root)));
  // The benchmark has packages of its own.
  return (await Promise.all(found))
    .flat()
    .filter((path) => !path.includes("node_modules"))
    .sort();
}

/** What an example says it prints: the lines of its last comment. */
export function expectedOutput(source: string): string {
  const start = source.lastIndexOf(OUTPUT_HEADER);
  if (start < 0) throw new Error(`an example ends with "${OUTPUT_HEADER.trim()}" and its output`);
  return source.slice(start + OUTPUT_HEADER.length).replaceAll(/^\/\/ ?/gm, "");
}

/** Runs an example; what is wrong with its run, or nothing. */
async function exampleFault(name: string): Promise<string | undefined> {
  const path = join(root, "examples", name);
  const run = Bun.spawn([process.execPath, path], { stdout: "pipe", stderr: "pipe" });
  const [stdout, stderr] = await Promise.all([run.stdout.text(), run.stderr.text()]);
  if ((await run.exited) !== 0 || stderr !== "") return `it failed: ${stderr}`;
  const expected = expectedOutput(await Bun.file(path).text());
  if (stdout !== expected) return `it printed\n${stdout}instead of\n${expected}`;
}

interface Fence {
  language: string;
  text: string;
  /** The comment directly above, without its marks. */
  source: string | undefined;
}

function fencesOf(markdown: string): Fence[] {
  const pattern = /(?:<!-- (?<source>\S+) -->\n+)?^```(?<language>\w*)\n(?<text>[\s\S]*?)^```$/gm;
  return Array.from(markdown.matchAll(pattern), ({ groups }) => ({
    language: groups?.language ?? "",
    text: groups?.text ?? "",
    source: groups?.source,
  }));
}

async function quotationFaults({ source, text }: Fence): Promise<string[]> {
  const start = text.split("\n")[0];
  if (!source) return [`the block "${start}" does not say which file it quotes`];
  const file = Bun.file(join(root, source));
  if (!(await file.exists())) return [`there is no ${source} to quote`];
  if ((await file.text()).includes(text)) return [];
  return [`${source} does not have the lines of the block "${start}"`];
}

/** Settings that are to be copied have at least the form that their reader wants. */
function settingsFaults({ language, text }: Fence): string[] {
  try {
    if (language === "json") JSON.parse(text);
    if (language === "yaml") Bun.YAML.parse(text);
    return [];
  } catch (error) {
    return [`a ${language} block cannot be parsed: ${(error as Error).message}`];
  }
}

/** npm's own commands that the documents may use. */
const NPM = new Set(["ci", "install", "test"]);

async function commandFaults({ text }: Fence): Promise<string[]> {
  const { scripts } = await Bun.file(join(root, "package.json")).json();
  const faults: string[] = [];
  for (const command of text.split(/\n|&&/).map((line) => line.replace(/#.*/, "").trim())) {
    const [program, verb, name] = command.split(/\s+/);
    if (program === "npm" && verb === "run" && !(name && name in scripts)) {
      faults.push(`package.json has no script "${name}"`);
    } else if (program === "npm" && verb !== "run" && !NPM.has(verb ?? "")) {
      faults.push(`"${command}" is no command of this project`);
    } else if (program === "bun" && verb?.endsWith(".ts") && !existsSync(join(root, verb))) {
      faults.push(`"${command}" runs a file that does not exist`);
    }
  }
  return faults;
}

/** GitHub's rule for the fragment of a heading. */
function fragmentOf(heading: string): string {
  return heading
    .trim()
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}\s_-]/gu, "")
    .replaceAll(" ", "-");
}

async function linkFaults(path: string, markdown: string): Promise<string[]> {
  const faults: string[] = [];
  const prose = markdown.replaceAll(/^```[\s\S]*?^```$/gm, "");
  for (const [, target = ""] of prose.matchAll(/\]\(([^)\s]+)\)/g)) {
    if (/^[a-z]+:/.test(target)) continue;
    const [file = "", fragment] = target.split("#");
    const full = file === "" ? path : resolve(dirname(path), file);
    if (!existsSync(full)) {
      faults.push(`the link ${target} leads nowhere`);
    } else if (fragment) {
      const headings = (await Bun.file(full).text()).matchAll(/^#+ (.*)$/gm);
      const found = Array.from(headings).some(
        ([, heading = ""]) => fragmentOf(heading) === fragment,
      );
      if (!found) faults.push(`${target}: there is no such heading`);
    }
  }
  return faults;
}

/** Every name that src/index.ts exports, types too. It only re-exports, so its text tells. */
async function exportedNames(): Promise<string[]> {
  const index = await Bun.file(join(root, "src/index.ts")).text();
  const lists = index
    .replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, "")
    .matchAll(/export (?:type )?\{([^}]*)\}/g);
  return Array.from(lists).flatMap(([, list = ""]) =>
    list
      .split(",")
      .map((item) =>
        item
          .trim()
          .replace(/^type /, "")
          .replace(/^.* as /, ""),
      )
      .filter((name) => name !== ""),
  );
}

async function exportFaults(): Promise<string[]> {
  const readme = await Bun.file(join(root, "README.md")).text();
  const missing = (await exportedNames()).filter((name) => !readme.includes(`\`${name}`));
  return missing.map((name) => `README.md does not name the export ${name}`);
}

/** Everything that is wrong with the documents; nothing is run. */
export async function documentFaults(): Promise<string[]> {
  const faults = await exportFaults();
  for (const name of await listDocuments()) {
    const path = join(root, name);
    const markdown = await Bun.file(path).text();
    const found = await linkFaults(path, markdown);
    for (const fence of fencesOf(markdown)) {
      if (fence.language === "ts") found.push(...(await quotationFaults(fence)));
      found.push(...settingsFaults(fence));
      if (fence.language === "sh") found.push(...(await commandFaults(fence)));
    }
    faults.push(...found.map((fault) => `${name}: ${fault}`));
  }
  return faults;
}

async function main(): Promise<number> {
  ensureLibrary();
  const faults = await documentFaults();
  const examples = await listExamples();
  for (const name of examples) {
    const fault = await exampleFault(name);
    if (fault) faults.push(`examples/${name}: ${fault}`);
  }
  for (const fault of faults) console.error(fault);
  const documents = await listDocuments();
  const verdict = faults.length === 0 ? "all true" : `${faults.length} wrong`;
  console.log(`${examples.length} examples run, ${documents.length} documents read: ${verdict}`);
  return faults.length === 0 ? 0 : 1;
}

if (import.meta.main) process.exit(await main());
