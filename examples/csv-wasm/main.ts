/** The example in Bun: `bun examples/csv-wasm/main.ts`. It builds the module first. */
import { buildModule } from "./build.ts";
import { work } from "./csv.ts";

const outcome = await work(await buildModule());
console.log(outcome.answer);
const { rows, milliseconds, inUse, highWater, left, beside } = outcome;
console.log(`${rows} rows parsed and queried in ${milliseconds.toFixed(0)} ms`);
console.log(`in use ${inUse}, at most ${highWater}, after clear() ${left} bytes`);
console.log(`beside it: ${beside}`);
if (outcome.answer !== outcome.expected) throw new Error("the answer is not that of JavaScript");
