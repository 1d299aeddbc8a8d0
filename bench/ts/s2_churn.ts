// S2 and S3: 10^6 operations of 8 B to 32 KiB with random lifetimes, in Bun and in Chromium: the time
// of one, and the linear memory at the end over the most that was live. The time includes the
// driver's own draw of a slot and a length, and the growth of the memory.

import { chromiumPath, launchChromium } from "../../scripts/chromium.ts";
import { type Comparison, compare, median, skipped } from "../comparison.ts";
import { targets } from "../targets.ts";
import { type ChurnOptions, type Churned, churn } from "../wasm/churn.ts";
import { driver, holdfastModules, type Module, opponents } from "../wasm/modules.ts";
import { rowOptions } from "./blocks.ts";

const { smoke, rounds, seed } = rowOptions();
const roundsMin = 7;
const options: ChurnOptions = {
  rounds: smoke ? 1 : Math.max(rounds, roundsMin),
  seed: seed | 1,
  operations: smoke ? 20_000 : 1_000_000,
};
const { bare, full } = holdfastModules();
const { judged, shown } = opponents();
const all = [bare, full, ...judged, ...shown];
const drive = driver();

type Results = Record<string, Churned>;

function inBun(): Results {
  return churn(
    Object.fromEntries(all.map(({ name, bytes }) => [name, bytes])),
    drive.bytes,
    options,
  );
}

/** Null without Chromium. */
async function inChromium(): Promise<{ version: string; results: Results } | null> {
  const path = chromiumPath();
  if (path === undefined) return null;
  const entry = new URL("../wasm/page.ts", import.meta.url).pathname;
  const built = await Bun.build({ entrypoints: [entry], target: "browser", format: "iife" });
  const browser = await launchChromium(path);
  try {
    const page = await browser.newPage();
    await page.addScriptTag({ content: (await built.outputs[0]?.text()) ?? "" });
    const modules = all.map(({ name, bytes }) => [name, [...bytes]] as [string, number[]]);
    const results = await page.evaluate(
      ([modules_, driver_, options_]) => {
        const run = (globalThis as unknown as { churn: typeof churn }).churn;
        const bytes = modules_.map(([name, each]) => [name, new Uint8Array(each)]);
        return run(Object.fromEntries(bytes), new Uint8Array(driver_), options_);
      },
      [modules, [...drive.bytes], options] as const,
    );
    return { version: `Chromium ${browser.version()}`, results };
  } finally {
    await browser.close();
  }
}

function lines(host: string, results: Results): Comparison[] {
  const of = (module: Module) => results[module.name] as Churned;
  const time = (module: Module) => median(of(module).ns);
  const share = (module: Module) => {
    const { memoryBytes, peakBytes } = of(module);
    return memoryBytes.map((bytes, round) => bytes / (peakBytes[round] as number));
  };
  const fastest = judged.reduce((a, b) => (time(b) < time(a) ? b : a));
  const smallest = judged.reduce((a, b) => (median(share(b)) < median(share(a)) ? b : a));
  return [bare, full].flatMap((module) => {
    const work = `${host}, ${module.name} ${module.hash}`;
    const speed = { row: "S2", work: `churn, ${work}`, ours: of(module).ns };
    const memory = {
      row: "S3",
      work: `memory over live, ${work}`,
      unit: "of live" as const,
      ours: share(module),
    };
    const others = [...judged, ...shown];
    return [
      ...others.map((other) =>
        compare({
          ...speed,
          against: other.name,
          theirs: of(other).ns,
          target: other === fastest ? targets.S2.fastest : undefined,
        }),
      ),
      compare({
        ...memory,
        against: "live",
        theirs: [1],
        target: targets.S3.live,
        repetitions: memory.ours.length,
      }),
      ...others.map((other) =>
        compare({
          ...memory,
          against: other.name,
          theirs: share(other),
          target: other === smallest ? targets.S3.smallest : undefined,
        }),
      ),
    ];
  });
}

const chromium = await inChromium();
const comparisons = lines(`Bun ${Bun.version}`, inBun());
if (chromium) comparisons.push(...lines(chromium.version, chromium.results));
else {
  for (const row of ["S2", "S3"]) {
    comparisons.push(skipped(row, "churn in Chromium", "", "needs Chromium"));
  }
}
console.log(JSON.stringify(comparisons));
