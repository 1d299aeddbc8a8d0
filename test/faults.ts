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

/** The large pool's model; numbers are those of the list of its weaknesses. */
export const faults: readonly Fault[] = [
  {
    name: "prefetch-unaligned",
    title: "1: a prefetch that starts inside a page does nothing",
    test: "a prefetch that starts inside a page is rounded outward and obeyed",
  },
  {
    name: "size-wraps",
    title: "2: size times count wraps and a shorter array is returned",
    test: "a product of size and count that wraps is refused",
  },
  {
    name: "prefetch-underflow",
    title: "3: a range that runs backwards underflows",
    test: "a prefetch whose range runs backwards is out of bounds",
  },
  {
    name: "never-unmapped",
    title: "4: address space is never given back",
    test: "an area that is wholly free is unmapped by a trim",
  },
  {
    name: "growth-stuck",
    title: "5: an area that is refused fails the request though one region would fit",
    test: "when the system refuses an area, fewer regions are asked for, down to one",
  },
  {
    name: "growth-unbounded",
    title: "5: areas double without a bound",
    test: "areas stop growing at a bound",
  },
  {
    name: "misaligned",
    title: "6: regions are not aligned to huge pages",
    test: "a region lies at a multiple of its class",
  },
  {
    name: "never-aged",
    title: "8: an idle thread keeps its cache for ever",
    test: "an idle pool is purged by the clock, a busy one is not",
  },
  {
    name: "purge-lazily",
    title: "9: purged memory stays resident with undefined contents",
    test: "a purged region is known to be zero and not resident",
  },
  {
    name: "purge-locked",
    title: "10: a locked region cannot be purged and is stuck",
    test: "a region that was locked is unlocked before it is purged",
  },
  {
    name: "refusal-loses",
    title: "11: a refused eager return costs the region",
    test: "an eager return that the system refuses loses no region",
  },
  {
    name: "class-charged",
    title: "13: a request costs its power of two",
    test: "a request is charged its pages, not its class",
  },
  {
    name: "figures-dip",
    title: "14: figures dip when a thread ends",
    test: "figures do not dip when a thread ends",
  },
  {
    name: "fork-ignored",
    title: "15: memory cannot be kept from a forked child",
    test: "a pool's fork policy reaches the system",
  },
];
