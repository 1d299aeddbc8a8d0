/** The example as a page: fetches the module, works, and shows the outcome. */
import { type Outcome, work } from "./csv.ts";

/** What a page has and the checkout's types do not know. */
interface Page {
  document: { body: { textContent: string | null; dataset: Record<string, string> } };
}

async function main(): Promise<void> {
  const { body } = (globalThis as unknown as Page).document;
  try {
    const outcome: Outcome = await work(await (await fetch("csv.wasm")).arrayBuffer());
    body.textContent = `${outcome.answer}\n${outcome.rows} rows, ${outcome.milliseconds.toFixed(0)} ms`;
    body.dataset.outcome = JSON.stringify(outcome);
  } catch (error) {
    body.dataset.outcome = JSON.stringify({ error: String(error) });
  }
}

main();
