//! The plain types that cross the ABI: statuses, options and figures. Declared here so that the
//! engine can use them; `abi.zig` re-exports each under the same name, and the generator reads
//! both files. Every struct is `extern` with 8-byte fields first, so that its layout is the same
//! for all targets. No behaviour, no state; safe on any thread.

/// Result of a call. Values below zero are errors.
pub const Status = enum(i32) {
    /// Done.
    ok = 0,
    /// Done for the caller; memory follows when the last ArrayBuffer has let go.
    closing = 1,
    /// The handle was freed.
    freed = -1,
    /// The handle was freed before.
    double_free = -2,
    /// The handle or address was never issued here.
    foreign = -3,
    /// The system has no memory or address space left.
    out_of_memory = -4,
    /// A configured or system bound is reached.
    limit = -5,
    /// No size class holds the request.
    size_class = -6,
    /// The pool is switched off.
    disabled = -7,
    /// Memory cannot satisfy the alignment.
    unaligned = -8,
    /// RLIMIT_MEMLOCK does not allow it.
    lock_limit = -9,
    /// No explicit huge pages are free.
    huge_unavailable = -10,
    /// In use; try later.
    busy = -11,
    /// The owner is closed.
    closed = -12,
    /// This process is a fork of the one that owns the engine.
    forked = -13,
    /// Not possible for this memory or on this system.
    unsupported = -14,
    /// Library and caller are of different versions.
    abi_mismatch = -15,
    /// A system call failed; the block has errno.
    system = -16,
    /// An argument is out of its range.
    out_of_range = -17,
    /// An argument is not of its kind.
    invalid_argument = -18,
};

/// Kind of pages wanted (`auto` included) or obtained.
pub const Pages = enum(u32) {
    /// Transparent huge pages where a region is large enough.
    auto = 0,
    /// The system's smallest pages.
    base = 1,
    /// Transparent huge pages by advice.
    thp = 2,
    /// Explicit huge pages of 2 MiB.
    hugetlb = 3,
    /// Files without names, for pools only: their regions can be sent without a copy.
    memfd = 4,
};

/// What to do about locking in RAM.
pub const Lock = enum(u32) {
    /// Do not lock.
    none = 0,
    /// Lock if the system allows it.
    attempt = 1,
    /// Fail if it cannot be locked.
    require = 2,
};

/// What a child process made by fork finds in a pool's memory.
pub const Fork = enum(u32) {
    /// A copy, made page by page on write.
    copy = 0,
    /// No mapping.
    omit = 1,
    /// Zeros.
    wipe = 2,
};

/// Bits of `PoolOptions.given`.
pub const PoolField = enum(u32) {
    /// `enabled` is given.
    enabled = 1,
    /// `limit_bytes` is given.
    limit_bytes = 2,
    /// `local_buffer_bytes` is given.
    local_buffer_bytes = 4,
    /// `growth_dampener` is given.
    growth_dampener = 8,
    /// `eager_return` is given.
    eager_return = 16,
    /// `background` and its four figures are given.
    background = 32,
    /// `pages` is given.
    pages = 64,
    /// `fork` is given.
    fork = 128,
};

/// How a large pool behaves; fields whose bit in `given` is clear keep their value.
pub const PoolOptions = extern struct {
    /// Bytes that leases and resident cached memory may reach together; below 0: no bound.
    limit_bytes: f64,
    /// Bytes of free regions that each thread keeps for itself, per size class.
    local_buffer_bytes: f64,
    /// Milliseconds between two ticks of the background work; at least 1.
    interval_ms: f64,
    /// Bytes that one tick purges at most, over all classes.
    purge_bytes: f64,
    /// Bytes that one tick zeroes at most in dirty regions; 0: no scrubbing.
    scrub_bytes: f64,
    /// Which fields are given: bits of `PoolField`.
    given: u32,
    /// 0: allocation answers DISABLED.
    enabled: u32,
    /// Areas grow by 1 + 1/(n+1); 0 doubles.
    growth_dampener: u32,
    /// 1: memory beyond the thread's share is purged at once by the thread that frees it.
    eager_return: u32,
    /// 1: a background thread purges.
    background: u32,
    /// 1: background purging is lazy (MADV_FREE).
    lazy: u32,
    /// Default kind of pages, a `Pages` value.
    pages: u32,
    /// What a forked child finds, a `Fork` value.
    fork: u32,
};

/// Figures of one size class of a large pool.
pub const ClassStats = extern struct {
    /// Bytes of a region of this class.
    class_bytes: f64,
    /// Areas mapped.
    areas: f64,
    /// Bytes of those areas.
    area_total_bytes: f64,
    /// Regions that are not leased.
    free_regions: f64,
    /// Free regions known to be zero, in the shared stack.
    clean_regions: f64,
    /// Free regions that may be dirty, in the shared stack.
    global_regions: f64,
    /// Free regions in threads' caches.
    thread_regions: f64,
    /// Regions handed out.
    allocations: f64,
    /// Allocations that found no free region anywhere.
    slow_path: f64,
    /// Areas asked of the system.
    refill: f64,
    /// Regions given back.
    deallocations: f64,
    /// Regions purged by the thread that freed them.
    clear_eager_total: f64,
    /// Regions purged in the background.
    clear_slow_total: f64,
};

/// Figures of one large pool.
pub const PoolStats = extern struct {
    /// Sum of the byte lengths of live leases.
    allocated_bytes: f64,
    /// Pages of live leases, in bytes.
    active_bytes: f64,
    /// Address space of the pool's areas.
    mapped_bytes: f64,
    /// Bytes touched, by the pool's own accounting.
    resident_bytes: f64,
    /// Bytes locked in RAM.
    locked_bytes: f64,
    /// Bytes in explicit huge pages.
    huge_bytes: f64,
    /// Bytes given back lazily, which the kernel may still count as resident.
    lazy_free_bytes: f64,
    /// Bytes the pool keeps for its own bookkeeping.
    metadata_bytes: f64,
    /// Leases that are live.
    live_handles: f64,
    /// Leases freed while an ArrayBuffer still shows them.
    closing_handles: f64,
    /// Calls of madvise the pool has made.
    advice_calls: f64,
    /// System calls that were refused.
    system_refusals: f64,
    /// Mappings the pool holds, as far as it knows.
    mappings: f64,
    /// Regions taken from other threads' caches.
    steals: f64,
    /// Regions zeroed by the scrubber.
    scrubbed_regions: f64,
    /// Bound in bytes, below 0 if there is none.
    limit_bytes: f64,
};

/// Figures of the whole process.
pub const Stats = extern struct {
    /// Sum of the byte lengths of live leases.
    allocated_bytes: f64,
    /// Pages of live leases, in bytes.
    active_bytes: f64,
    /// Address space of all areas.
    mapped_bytes: f64,
    /// Mapped less active.
    retained_bytes: f64,
    /// Bytes touched, by our own accounting or, if asked, the kernel's.
    resident_bytes: f64,
    /// Bytes locked in RAM.
    locked_bytes: f64,
    /// Bytes in huge pages: explicit ones or, if the kernel is asked, all.
    huge_bytes: f64,
    /// Bytes given back lazily.
    lazy_free_bytes: f64,
    /// Bytes of bookkeeping.
    metadata_bytes: f64,
    /// Live leases.
    live_handles: f64,
    /// Leases that came back because their handle was dropped.
    leaked_handles: f64,
    /// Leases freed while an ArrayBuffer still shows them.
    closing_handles: f64,
    /// Tokens not adopted yet.
    pending_tokens: f64,
    /// Mappings held, as far as the engine knows.
    mappings: f64,
    /// System calls refused so far.
    system_refusals: f64,
    /// Calls of madvise made so far.
    advice_calls: f64,
    /// Attached threads.
    threads: f64,
    /// Open pools.
    pools: f64,
};

/// Which engine of the process a copy of the library found.
pub const EngineInfo = extern struct {
    /// Address of the leading library's path, a C string; 0 if it is this copy.
    path_address: f64,
    /// 1: this copy leads.
    self: u32,
    /// ABI version of the leader.
    abi_version: u32,
};

/// How a global allocator is made.
pub const GlobalOptions = extern struct {
    /// Bytes of the sections that it takes from the system; 0: the default.
    region_bytes: f64,
    /// Bound in bytes as in `PoolOptions`; 0 or less: none.
    limit_bytes: f64,
};

/// Figures of a global allocator beside those of its pool.
pub const GlobalStats = extern struct {
    /// Slots in use, those of native callers among them.
    slots_live: f64,
    /// Slots that its slabs have.
    slots_capacity: f64,
    /// Bytes of the slots in use, rounded to their classes.
    slots_live_bytes: f64,
    /// Bytes of runs of pages in use.
    pages_bytes: f64,
    /// Slabs.
    slabs: f64,
    /// Slabs without a slot in use, kept by their threads for a while.
    slabs_empty: f64,
    /// Bytes of the slabs.
    slabs_bytes: f64,
    /// Slabs whose thread has ended, not adopted yet.
    slabs_orphaned: f64,
    /// Bytes that can be leased, metadata excluded.
    managed_bytes: f64,
    /// Most bytes of pages taken at once since the start or `global_reset_peak`.
    peak_bytes: f64,
    /// Longest run of free pages, in bytes.
    largest_free_run_bytes: f64,
    /// Sections.
    sections: f64,
    /// Frees by other threads than the slab's.
    remote_frees: f64,
    /// Double frees that were found after the call.
    late_double_frees: f64,
    /// Slabs of ended threads that others took over.
    adoptions: f64,
    /// Times that a thread had no slot at hand.
    refills: f64,
    /// Requests of pages refused.
    refusals: f64,
};

/// One section of a global allocator.
pub const SectionStats = extern struct {
    /// First address that can be leased.
    address: f64,
    /// Bytes that can be leased.
    bytes: f64,
    /// Bytes of its free pages.
    free_bytes: f64,
    /// 1: below 4 GiB, kept for requests that must be.
    low: u32,
    /// Always 0.
    reserved: u32,
};

/// How a reclaiming allocator is made.
pub const ReclaimingOptions = extern struct {
    /// Longest slot: 4096 or 2097152; 0: 4096.
    slot_bytes_max: f64,
    /// Milliseconds between two automatic reclaims; 0: none.
    reclaim_every_ms: f64,
    /// Free bytes below which an automatic reclaim does nothing.
    slack_bytes_min: f64,
    /// Bound in bytes as in `PoolOptions`; 0 or less: none.
    limit_bytes: f64,
    /// Number of the pool whose memory it uses; 0: one of its own.
    backend: u32,
    /// 1: reclaim as soon as the kernel reports memory pressure.
    pressure: u32,
};

/// Figures of a reclaiming allocator beside those of its pool.
pub const ReclaimingStats = extern struct {
    /// Bytes that the backend has given for slots and metadata.
    allocated_from_fallback: f64,
    /// Bytes of live slots and of metadata in use.
    in_use: f64,
    /// Bytes that the backend has given for metadata.
    allocated_metadata: f64,
    /// Bytes of metadata in use.
    in_use_metadata: f64,
    /// Slots in use.
    live_slots: f64,
    /// Live requests that were too long for a slot.
    passed: f64,
    /// Bytes of those.
    passed_bytes: f64,
    /// How many there have been.
    passed_total: f64,
    /// Batches added.
    growths: f64,
    /// Batches given back at once, since another thread had been quicker.
    lost_races: f64,
    /// Requests that the backend refused.
    refusals: f64,
    /// Reclaims.
    reclaims: f64,
    /// Bytes that reclaims have given back.
    reclaimed_bytes: f64,
    /// Blocks taken back from the threads that owned them.
    recalls: f64,
    /// Frees that were refused.
    wrong_frees: f64,
};

/// Figures of one size of slots of a reclaiming allocator.
pub const ReclaimingClassStats = extern struct {
    /// Bytes of a slot.
    slot_bytes: f64,
    /// Batches.
    batches: f64,
    /// Slots of those batches.
    slots: f64,
    /// Slots in use.
    live_slots: f64,
    /// Batches added so far.
    growths: f64,
    /// Batches given back since another thread had been quicker.
    lost_races: f64,
    /// Bytes that reclaims have given back.
    reclaimed_bytes: f64,
};

/// Figures of a small heap, in bytes or 4-byte words.
pub const SmallStats = extern struct {
    /// Bytes in use, as requested.
    in_use: f64,
    /// Most bytes in use so far.
    high_water: f64,
    /// Most bytes in use since `small_reset_trip`.
    trip_high_water: f64,
    /// Runs of memory that lie apart.
    regions: f64,
    /// Words of all regions' small side.
    total_words: f64,
    /// Words in use.
    allocated_words: f64,
    /// Words never used or in one piece at the end.
    unused_words: f64,
    /// Words in free fragments.
    fragment_words: f64,
    /// Free fragments.
    fragments: f64,
    /// Pages of 64 KiB in large blocks.
    total_large_pages: f64,
    /// Of those, the free ones.
    unused_large_pages: f64,
    /// Words in use in large blocks.
    allocated_large_pages_words: f64,
    /// First address of the heap.
    heap_start: f64,
    /// Live blocks.
    live_blocks: f64,
    /// Bytes reserved: the most that the heap can hold.
    limit_bytes: f64,
};

/// How a small heap over a native reservation is made.
pub const SmallOptions = extern struct {
    /// Bytes reserved, and the most that it can hold; 0: the default.
    limit_bytes: f64,
};

/// How an owner slab is made.
pub const SlabOptions = extern struct {
    /// Bytes of a slot.
    slot_bytes: f64,
    /// Alignment of each slot, a power of two.
    alignment: f64,
    /// Slots there are room for at first.
    capacity: f64,
    /// Slots there may be; 0: `capacity`.
    capacity_max: f64,
    /// Remote frees that wait at most; below 0: no bound.
    queue_capacity: f64,
    /// Queued frees at which the owner takes them in; 0 adapts.
    batch: u32,
    /// The pool that backs it; 0: the system.
    pool: u32,
    /// 1: remember which thread holds each slot.
    leases: u32,
    /// Nothing.
    spare: u32,
};

/// Where an owner slab lies; what does not change while it lives, but for `capacity`.
pub const SlabInfo = extern struct {
    /// Address of the first segment.
    address: f64,
    /// Address of the control words and tables.
    meta_address: f64,
    /// From there to the words of the slots (u32 each: generation << 2 | phase).
    states_offset: f64,
    /// From there to the owner's stack of free indexes (u32 each).
    stack_offset: f64,
    /// From there to the links, which nobody else reads.
    marks_offset: f64,
    /// Bytes from slot to slot.
    stride: f64,
    /// Slots of a segment.
    segment_slots: f64,
    /// Slots that have memory.
    capacity: f64,
    /// Slots there may be.
    capacity_max: f64,
    /// Bits of a slot's number that are its index.
    bits: u32,
    /// Bits of an index that are within a segment.
    segment_shift: u32,
    /// 1: the slab remembers who holds each slot.
    leases: u32,
    /// Context for `slab_deallocator`.
    context: u32,
};

/// Figures of an owner slab, exact while nobody frees.
pub const SlabStats = extern struct {
    /// Slots that have memory.
    capacity: f64,
    /// Slots there may be.
    capacity_max: f64,
    /// Slots in use.
    live_slots: f64,
    /// Slots used at least once, or about to be.
    carved_slots: f64,
    /// Slots freed by others that the owner has not taken in.
    queued_slots: f64,
    /// Slots whose generations are used up.
    retired_slots: f64,
    /// Wrong frees and damaged entries found.
    corruption_events: f64,
    /// Frees refused because the queue was full.
    refused_frees: f64,
    /// Times that the queue was taken in.
    drains: f64,
    /// Queued frees at which it is taken in now.
    threshold: f64,
    /// 1: that threshold adapts.
    adaptive: f64,
    /// Bytes from slot to slot.
    stride_bytes: f64,
    /// Pieces of memory that hold the slots.
    segments: f64,
    /// Bytes taken from the backend.
    mapped_bytes: f64,
    /// The owner, ArrayBuffers and native remotes that keep the memory.
    holders: f64,
    /// 1: closed.
    closed: f64,
};
