/**
 * The example project runs in Bun and, as a page, in headless Chromium: 100,000 rows are parsed and
 * queried in a module whose allocator is the small heap, with a second heap beside it in the same
 * memory. Both answers are those of plain JavaScript, and everything is free at the end.
 */
import { deepEqual, ok } from "node:assert/strict";
import { buildModule } from "../../examples/csv-wasm/build.ts";
import { type Outcome, work } from "../../examples/csv-wasm/csv.ts";
import { serve } from "../../examples/csv-wasm/serve.ts";
import { chromiumPath, launchChromium } from "../../scripts/chromium.ts";
import type { ProofOptions, ProofResult } from "../../scripts/proofs.ts";

export const name = "small-browser";
export const issue = 5;
export const title = "the example project works in Bun and in Chromium, with the same answer";

const rows = 100_000;

export async function run({ log }: ProofOptions): Promise<ProofResult> {
  const here = await work(await buildModule(), rows);
  check(here);
  log(`Bun ${Bun.version}: ${here.rows} rows in ${here.milliseconds.toFixed(0)} ms, as expected`);

  const path = chromiumPath();
  if (path === undefined) return { skipped: "needs Chromium (Debian: apt-get install chromium)" };
  const server = await serve();
  const browser = await launchChromium(path);
  try {
    const page = await browser.newPage();
    const errors: string[] = [];
    page.on("pageerror", (error) => errors.push(String(error)));
    await page.goto(String(server.url));
    const body = page.locator("body[data-outcome]");
    await body.waitFor({ timeout: 60_000 });
    const text = (await body.getAttribute("data-outcome")) ?? "";
    const outcome = JSON.parse(text) as Outcome & { error?: string };
    ok(outcome.error === undefined, outcome.error ?? "");
    deepEqual(errors, [] as string[]);
    check(outcome);
    deepEqual(outcome.answer, here.answer);
    const shown = await body.textContent();
    ok(shown?.startsWith(here.answer), "the page does not show the answer");
    const ms = outcome.milliseconds.toFixed(0);
    log(`Chromium ${browser.version()}: ${outcome.rows} rows in ${ms} ms, the same answer`);
  } finally {
    await browser.close();
    await server.stop(true);
  }
}

function check(outcome: Outcome): void {
  deepEqual(outcome.rows, rows);
  deepEqual(outcome.answer, outcome.expected);
  deepEqual(outcome.left, 0);
  ok(outcome.inUse > 0 && outcome.highWater > outcome.inUse);
  ok(outcome.beside.startsWith("inUse=1000 "), outcome.beside);
}
