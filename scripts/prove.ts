/**
 * `npm run prove -- <name>` runs one proof at full size and ends with 0 only if it holds;
 * `-- --list` names them all; `-- <name> --smoke` is what `npm test` runs.
 */
import { ensureLibrary } from "./library-build.ts";
import { loadProof, proofNames } from "./proofs.ts";

const args = process.argv.slice(2);
const names = args.filter((arg) => !arg.startsWith("--"));
const size = args.includes("--smoke") ? "smoke" : "full";

if (args.includes("--list")) {
  for (const name of proofNames()) {
    const { issue, title } = await loadProof(name);
    console.log(`${name.padEnd(12)} #${issue}  ${title}`);
  }
  process.exit(0);
}
const unknown = names.filter((name) => !proofNames().includes(name));
if (names.length === 0 || unknown.length > 0) {
  if (unknown.length > 0) console.error(`no proof is called ${unknown.join(", ")}`);
  console.error(`usage: npm run prove -- <name> [--smoke]\nproofs: ${proofNames().join(", ")}`);
  process.exit(2);
}

ensureLibrary();
let held = true;
for (const name of names) {
  const { title, run } = await loadProof(name);
  console.log(`${name}: ${title}`);
  const start = performance.now();
  const seconds = () => `${((performance.now() - start) / 1000).toFixed(1)} s`;
  try {
    const result = await run({ size, log: (line) => console.log(`  ${line}`) });
    if (result) {
      console.log(`skipped: ${name}: ${result.skipped}`);
      held = false;
    } else {
      console.log(`holds: ${name} (${size} size, ${seconds()})`);
    }
  } catch (error) {
    held = false;
    console.error(error);
    console.log(`DOES NOT HOLD: ${name} (${size} size, ${seconds()})`);
  }
}
process.exit(held ? 0 : 1);
