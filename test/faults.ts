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
    title: "6: regions lie wherever the system happens to put them",
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
  // The small heap's model, with the numbers of its own list.
  {
    name: "small-merges-past-end",
    title: "small 1: two large blocks merge to more than their sum",
    test: "two large blocks side by side merge to exactly their sum",
  },
  {
    name: "small-count-wraps",
    title: "small 3: a count that wraps gives a small block for a huge request",
    test: "a request above the bound of 32-bit counts is refused",
  },
  {
    name: "small-align-ignored",
    title: "small 4: a large block lies where it happens to",
    test: "a large block lies at any alignment that is asked",
  },
  {
    name: "small-link-past-end",
    title: "small 5: the heap's links are one byte past the user's data",
    test: "a byte written past a block damages nothing of the heap's",
  },
  {
    name: "small-counts-failures",
    title: "small 6: a request that fails is counted as in use for ever",
    test: "a request that fails is not counted",
  },
  {
    name: "small-grows-by-pages",
    title: "small 8: memory grows by one page at a time",
    test: "a growing heap asks its host a logarithmic number of times",
  },
  {
    name: "small-never-decommits",
    title: "small 8: no page ever goes back to a host that could take it",
    test: "pages inside free runs go back to the system that lent them",
  },
  {
    name: "small-always-moves",
    title: "small 11: a block moves also when there is room behind it",
    test: "a block grows where it lies when there is room behind it",
  },
  {
    name: "small-joins-gap",
    title: "small 12: memory that someone else grew is taken for one's own",
    test: "growth by someone else begins a second region, and its page is handed to nobody",
  },
  // The buddy, the floor of the general allocator; numbers are those of its list.
  {
    name: "buddy-overlap",
    title: "1: a region over a living one wipes it",
    test: "an overlapping region is refused",
  },
  {
    name: "buddy-relative-alignment",
    title: "9: alignments above a page are not kept as absolute addresses",
    test: "a run of a large alignment has it whatever the section's start",
  },
  {
    name: "buddy-index-wraps",
    title: "10: the number of pages is cut off",
    test: "a section of more pages than an index can name is refused",
  },
  {
    name: "buddy-foreign-ignored",
    title: "12: a foreign page is freed without a word",
    test: "a foreign address is an error",
  },
  {
    name: "buddy-double-free",
    title: "12: a second free of pages is taken for a first",
    test: "a second free of a run is an error",
  },
  {
    name: "buddy-interior-free",
    title: "12: a free in the middle of pages is ignored",
    test: "a free inside of a run is an error",
  },
  {
    name: "buddy-whole-blocks",
    title: "13: five pages cost eight",
    test: "five pages cost five",
  },
  {
    name: "buddy-low-whole-block",
    title: "2.3: low pages inside a block that crosses the bound are not found",
    test: "a block that crosses the low bound gives its low part",
  },
  {
    name: "buddy-low-eaten",
    title: "16: ordinary requests use up low memory",
    test: "ordinary requests leave low memory for those that need it",
  },
  {
    name: "buddy-never-removed",
    title: "16: a region cannot be removed",
    test: "a region that is wholly free can be taken back",
  },
  // The reclaiming heap's model; numbers are those of its own list. Of the others, 5 and 6 are shown by
  // benchmarks and by the schedules of reclaiming_batch.zig, and 7 and 9 have no counterpart: there
  // is no lock that readers take, and no count that is read in two parts.
  {
    name: "reclaiming-walks",
    title: "1: a free looks at every batch",
    test: "work for one slot does not grow with the number of slots",
  },
  {
    name: "reclaiming-race-is-full",
    title: "2: a lost race is taken for a full batch, and memory grows",
    test: "a lost race is tried again, not taken for a full batch",
  },
  {
    name: "reclaiming-trusts-zero",
    title: "3: memory of the backend is taken to be zero",
    test: "a backend whose memory is full of ones serves as well",
  },
  {
    name: "reclaiming-locks-backend",
    title: "4: a lock is held while the backend is asked",
    test: "a backend may allocate from the allocator that asks it",
  },
  {
    name: "reclaiming-double-free-late",
    title: "8: a second free is noticed after the bit has changed, and the slot is lost",
    test: "a second free is refused before anything changes, whoever frees",
  },
  {
    name: "reclaiming-interior",
    title: "8: an address inside of a slot frees it",
    test: "a free inside of a slot is refused",
  },
  {
    name: "reclaiming-keeps-metadata",
    title: "10: metadata never goes back",
    test: "after everything is freed nothing is left at the backend, metadata included",
  },
  {
    name: "reclaiming-gives-locked",
    title: "10: a lock is held while memory goes back",
    test: "memory goes back with no lock held",
  },
  {
    name: "reclaiming-huge-batch",
    title: "11: one object of a large class asks for sixty-four",
    test: "one object of a large class asks for two MiB, not for a hundred",
  },
  {
    name: "reclaiming-short-classes",
    title: "12: the largest slots are half as large as the name says",
    test: "the largest slot is as large as its name says",
  },
  {
    name: "reclaiming-always-moves",
    title: "13: a resize within the class moves",
    test: "a resize within the class stays where it is",
  },
  {
    name: "reclaiming-size-wraps",
    title: "14: a size above half of all addresses becomes the smallest class",
    test: "sizes beyond any memory are refused",
  },
  {
    name: "reclaiming-hoards",
    title: "successor: what a thread keeps is out of reach when memory runs out",
    test: "what one thread keeps is there for another when the backend refuses",
  },
  // The owner slab's model; numbers are those of its own list.
  {
    name: "owner-threshold-unclamped",
    title: "owner slab 1: a small queue never drains by itself",
    test: "a small queue drains by itself",
  },
  {
    name: "owner-adaptive-degenerate",
    title: "owner slab 2: the adaptive threshold only goes up, and does so when nobody frees",
    test: "an adaptive threshold moves both ways with what others really do",
  },
  {
    name: "owner-drain-allocates",
    title: "owner slab 3: taking in what others freed needs memory",
    test: "draining takes no memory from anyone",
  },
  {
    name: "owner-waits-for-itself",
    title: "owner slab 4: an owner that frees through its own full queue waits for ever",
    test: "an owner that frees through its own full queue does not wait for itself",
  },
  {
    name: "owner-drain-at-once",
    title: "owner slab 5: one allocation pays for all that others have freed",
    test: "no operation of the owner works off more than its share",
  },
  {
    name: "owner-impossible-drains",
    title: "owner slab 6: a request that no slot can serve drains the queue",
    test: "a request that no slot can serve leaves the queue alone",
  },
  {
    name: "owner-damage-drops-list",
    title: "owner slab 8: a damaged entry costs the whole list",
    test: "a damaged entry of the owner's list costs no other slot",
  },
  {
    name: "owner-link-trusted",
    title: "owner slab 9: an old entry hands out a slot that is in use",
    test: "an old entry that leads to a live slot does not hand it out again",
  },
  {
    name: "owner-double-free",
    title: "owner slab 10: a second free is taken for a first",
    test: "a second free is found at the call, by the owner and by others",
  },
  {
    name: "owner-foreign-silent",
    title: "owner slab 10: a foreign slot is freed without a word",
    test: "a number that was never issued is refused and counted",
  },
  {
    name: "owner-never-grows",
    title: "owner slab 11: a slab cannot grow",
    test: "a slab grows by segments up to its bound",
  },
  // The general allocator's model; the rest of its numbers are the buddy's.
  {
    name: "global-reinit",
    title: "global 1: a second initialisation wipes a heap in use",
    test: "a second initialisation is refused and changes nothing",
  },
  {
    name: "global-no-rollback",
    title: "global 1: a failed initialisation leaves a heap that is not one",
    test: "an initialisation that failed can be tried again",
  },
  {
    name: "global-late-count",
    title: "global 2: a remote free writes to memory that is in use again",
    test: "a remote free leaves no write behind",
  },
  {
    name: "global-full-misjudged",
    title: "global 3: a full slab with remote frees pending is lost",
    test: "a full slab that owner and others free at the same time comes back whole",
  },
  {
    name: "global-header-trusted",
    title: "global 4: bytes written by a program pass for a slab's header",
    test: "bytes in a block never pass for a slab",
  },
  {
    name: "global-full-walk",
    title: "global 5: a miss walks all full slabs",
    test: "a miss walks no slabs",
  },
  {
    name: "global-first-mail-only",
    title: "global 6: only the first slab with remote frees is looked at",
    test: "remote frees in many slabs all come home at once",
  },
  {
    name: "global-never-adopted",
    title: "global 6: slots of a thread that ended are never used again",
    test: "an ended thread's slots are freed and used by others",
  },
  {
    name: "global-one-retry",
    title: "global 7: memory that another was faster to take is a refusal",
    test: "memory that another took first is asked for again",
  },
  {
    name: "global-leak-on-refusal",
    title: "global 8: pages are lost when a slab cannot be made",
    test: "a slab that cannot be made gives its pages back",
  },
  {
    name: "global-double-free",
    title: "global 12: a second free of a slot is taken for a first",
    test: "a second free of a slot is an error, for its owner and for others",
  },
  {
    name: "global-hot-unseen",
    title: "a slot in its owner's hand is live for other threads",
    test: "a second free of a slot is an error, for its owner and for others",
  },
  {
    name: "global-interior-free",
    title: "global 12: an address inside a slot frees the slot",
    test: "an address inside a block is foreign, for its owner and for others",
  },
  {
    name: "global-header-inside",
    title: "global 15: a header inside the slab costs slots",
    test: "a slab is slots and nothing else",
  },
  {
    name: "global-powers-of-two",
    title: "global 16: a slot is up to twice the request",
    test: "a slot wastes less than an eighth above 128 bytes, and no smaller class would do",
  },
  {
    name: "global-realloc-copies",
    title: "global 16: a block moves though its slot is large enough",
    test: "realloc stays within the class, grows into free pages, and leaves the old when refused",
  },
];

/** What the faults of each allocator begin with, by the file it lives in. */
export const prefixes = {
  small_heap: "small-",
  buddy: "buddy-",
  reclaiming: "reclaiming-",
  owner_slab: "owner-",
  global: "global-",
} as const;

/** The faults of one allocator; the large pool's have no common beginning. */
export function faultsOf(noun: "large_pool" | keyof typeof prefixes): readonly Fault[] {
  const others = Object.values(prefixes);
  return faults.filter(({ name }) =>
    noun === "large_pool"
      ? !others.some((prefix) => name.startsWith(prefix))
      : name.startsWith(prefixes[noun]),
  );
}
