/**
 * Faults of the allocators that holdfast learned from, each with the one unit test that turns red
 * when `-Dfault=<name>` brings it back (see zig/ds/fault.zig and `npm run test:faults`).
 */
export interface Fault {
  /** The switch: `ds.fault("<name>")` in the engine. */
  name: string;
  /** What goes wrong for a user. */
  title: string;
  /** Full name of its Zig test. */
  test: string;
}

export const faults: readonly Fault[] = [];
