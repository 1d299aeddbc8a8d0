// What each row must reach, as numbers: holdfast's figure over the opponent's, at most. Rows without
// numbers are there to be read.

export const targets = {
  B1: { bareView: 4, touchedArray: 1 / 1000 },
  B2: { bareWrap: 1.25 },
  B3: { touchedArray: 1 / 5 },
  B4: { residentTouch: 1.1, touchedArray: 1 / 20 },
  B5: { fill: 1.05, touchedArray: 1 / 1.5, scrubbed: 1 / 20 },
  B6: { plainArray: 1 / 1.5 },
  B7: { bareCall: 8 },
  B8: { single: 1 / 50, arrays: 1 / 15 },
  B9: { p99: 0.8, peak: 0.85, keptMiB: 16 },
  B10: { overEmptyMs: 5, libraryKiB: 200 },
  I1: { committed: 1.03 },
  I2: { committed: 1.03 },
  I3: { committed: 1.03 },
  I4: { committed: 1.03 },
  I5: { committed: 1.03 },
  N1: { lgalloc: 0.35 },
  N2: { best: 0.5 },
  N3: { best: 0.5 },
  N4: { library: 1.3, linked: 1 },
  N5: { small: 1, middle: 1, large: 0.8, many: 1 },
  N6: {
    remote: 0.8,
    twoThreads: 1.1,
    shapesTime: 0.9,
    shapesResident: 0.6,
    shapeResident: 1.05,
  },
  N7: { pair: 0.25, few: 0.25, many: 1 / 100, manyGlibc: 1, growth: 3, twoThreads: 1.3 },
  N8: { reclaim: 1, idle: 3 },
  N9: { pair: 1, handover: 0.7 },
  N10: { startResident: 1.05 },
  /** Bytes of the module without and with statistics. */
  S1: { bareBytes: 2048, fullBytes: 4096 },
  S2: { fastest: 1 },
  S3: { smallest: 0.8, live: 1.15 },
  T1: {},
  W1: {},
  W2: {},
  W3: {},
  W4: {},
  W5: {},
} as const;

export type RowName = keyof typeof targets;

/** Names that stand for several rows on the command line. */
export const groups: Record<string, readonly RowName[]> = {
  large: ["B1", "B2", "B3", "B4", "B5", "B6", "N1", "N2", "N3", "N10"],
  global: ["N4", "N5", "N6"],
  reclaiming: ["N7", "N8"],
  owner: ["N9", "B7", "B8"],
  small: ["S1", "S2", "S3"],
  instructions: ["I1", "I2", "I3", "I4", "I5"],
  typescript: ["B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B9", "B10"],
  native: ["N1", "N2", "N3", "N4", "N5", "N6", "N7", "N8", "N9", "N10"],
  workloads: ["W1", "W2", "W3", "W4", "W5", "T1"],
  /** The rows that have a target to reach. */
  all: (Object.keys(targets) as RowName[]).filter((row) => /^[BNS]/.test(row)),
};
