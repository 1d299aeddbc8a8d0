// One line of the result: holdfast's figure, an opponent's, their ratio, and whether that is
// enough.

export type Verdict = "ok" | "short" | "info" | "skipped" | "failed";

export type Unit = "ns" | "MiB" | "KiB" | "instructions" | "bytes" | "of live";

export interface Comparison {
  row: string;
  /** The work done, with its size: "pair, 2 MiB". */
  work: string;
  /** The opponent with its version. */
  against: string;
  unit: Unit;
  /** Medians over the repetitions; absent when the line was skipped or failed. */
  ours?: number;
  theirs?: number;
  ratio?: number;
  /** The ratio may be this at most; without it the line is there to be read, not judged. */
  target?: number;
  verdict: Verdict;
  /** Why a line was skipped or failed. */
  note?: string;
  /** How often both sides were measured; absent where the figure is the same each time. */
  repetitions?: number;
  /** Id and day of the run, where it is not the report's. */
  run?: string;
  date?: string;
  /** Each repetition, in the order in which they ran. */
  oursSamples?: number[];
  theirsSamples?: number[];
}

export interface Measured {
  row: string;
  work: string;
  against: string;
  unit?: Unit;
  ours: readonly number[];
  theirs: readonly number[];
  target?: number | undefined;
  note?: string | undefined;
  /** Repetitions behind a figure that was put together before; else the samples are counted. */
  repetitions?: number | "exact";
}

/** Medians of both sides, their ratio, and the verdict. */
export function compare(measured: Measured): Comparison {
  const { row, work, against, unit = "ns", target, note } = measured;
  const oursSamples = measured.ours.map(rounded);
  const theirsSamples = measured.theirs.map(rounded);
  const ours = median(oursSamples);
  const theirs = median(theirsSamples);
  const ratio = ours / theirs;
  if (!Number.isFinite(ratio))
    return failed(row, work, against, `no figure: ${ours} and ${theirs}`);
  const verdict = target === undefined ? "info" : ratio <= target ? "ok" : "short";
  const counted = Math.min(measured.ours.length, measured.theirs.length);
  const repetitions = measured.repetitions ?? counted;
  return {
    row,
    work,
    against,
    unit,
    ours,
    theirs,
    ratio,
    ...(target === undefined ? {} : { target }),
    verdict,
    ...(note === undefined ? {} : { note }),
    ...(repetitions === "exact" ? {} : { repetitions }),
    oursSamples,
    theirsSamples,
  };
}

/** Seven digits say more than any clock knows, and keep reports short. */
function rounded(value: number): number {
  return Number(value.toPrecision(7));
}

export function skipped(row: string, work: string, against: string, note: string): Comparison {
  return { row, work, against, unit: "ns", verdict: "skipped", note };
}

export function failed(row: string, work: string, against: string, note: string): Comparison {
  return { row, work, against, unit: "ns", verdict: "failed", note };
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

/** A small seeded generator (mulberry32), so that an order can be had again. */
export function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The same elements in an order drawn from `random`. */
export function shuffled<T>(elements: readonly T[], random: () => number): T[] {
  const result = [...elements];
  for (let last = result.length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1));
    [result[last], result[other]] = [result[other] as T, result[last] as T];
  }
  return result;
}
