//! The contract between the engine and everyone else: C, TypeScript and other languages.
//!
//! Each public function here is exported as `hf_<name>`; `tools/gen_abi.zig` reads this file and
//! writes `include/holdfast.h` and `src/abi.gen.ts` from it, so that a signature stands once.
//! Bodies check nothing but what the types cannot say and delegate to `engine/`.
//!
//! Conventions. Sizes are bytes. Calls that run for each allocation take `u32` and `f64` only,
//! since a 64-bit integer costs a JavaScript caller several times more. A handle is an integer
//! below 2^53 in an `f64`. A result below zero is a `Status`. Further results of a call stand in
//! the calling thread's block (`thread_block`). On failure outputs hold what the error message
//! needs and nothing has changed. `thread` is the index that `thread_attach` gave to the calling
//! thread; a call that passes another thread's index is a programming error.

const builtin = @import("builtin");
const engine = @import("engine/engine.zig");

/// Version of this contract; a library of another version is refused at load.
pub const abi_version: u32 = 1;
/// First word of a slab's control words: free indexes on the owner's stack.
pub const slab_word_top: u32 = 0;
/// Second: operations until the owner looks at its queue.
pub const slab_word_credit: u32 = 1;
/// Third: slots used at least once, which are the lowest.
pub const slab_word_carved: u32 = 2;
/// Number of `f64` words in a thread's block.
pub const block_words: u32 = 16;
/// Thread block word: address of the memory.
pub const block_address: u32 = 0;
/// Thread block word: usable bytes of the lease.
pub const block_capacity: u32 = 1;
/// Thread block word: index of the region that holds the memory.
pub const block_region: u32 = 2;
/// Thread block word: first address of that region.
pub const block_region_address: u32 = 3;
/// Thread block word: bytes of that region, which is what an alias ArrayBuffer covers.
pub const block_region_bytes: u32 = 4;
/// Thread block word: the region's epoch; it changes when the region is purged.
pub const block_region_epoch: u32 = 5;
/// Thread block word: bytes asked for.
pub const block_byte_length: u32 = 6;
/// Thread block word: bit set of `lease_locked`, `lease_alias` and `lease_run`.
pub const block_flags: u32 = 7;
/// Thread block word: errno of the system call that failed last on this thread, 0 if none.
pub const block_errno: u32 = 8;
/// Thread block word: ordinal of that system call in `SystemCall`.
pub const block_system_call: u32 = 9;
/// Thread block word: bytes that the failed request wanted.
pub const block_requested: u32 = 10;
/// Thread block word: the bound that the failed request met.
pub const block_bound: u32 = 11;
/// Thread block word: how much of that bound was in use.
pub const block_current: u32 = 12;
/// Thread block word: the handle under `hold`, 0 if none; the engine's own.
pub const block_held: u32 = 13;
/// Thread block word: the handle of the last `wrap`; its caller sets 0 once the ArrayBuffer exists.
pub const block_wrapping: u32 = 14;
/// Flag in `block_flags`: the lease's pages are locked in memory.
pub const lease_locked: u32 = 1;
/// Flag in `block_flags`: the lease was asked for with `option_alias`.
pub const lease_alias: u32 = 2;
/// Flag in `block_flags`: the lease is a page run inside a region, not a region of its own.
pub const lease_run: u32 = 4;
/// Word of the shared block: counts purges of regions that JavaScript may have wrapped.
pub const shared_purges: u32 = 0;
/// Longest lease in bytes that `park` takes.
pub const parked_bytes_max: u32 = 64 << 10;
/// Allocation option: the contents read as zero.
pub const option_zero: u32 = 1;
/// Allocation option: shift of the two bits that hold a `Pages` value.
pub const option_pages_shift: u32 = 1;
/// Allocation option: shift of the two bits that hold a `Lock` value.
pub const option_lock_shift: u32 = 3;
/// Allocation option: populate the pages now.
pub const option_prefault: u32 = 1 << 5;
/// Allocation option: the lease will be seen through alias views.
pub const option_alias: u32 = 1 << 6;
/// Allocation option: shift of the five bits that hold log2 of the alignment; 0 means default.
pub const option_align_shift: u32 = 8;

/// Result of a call. Values below zero are errors.
pub const Status = engine.Status;
/// Which system call an error speaks of.
pub const SystemCall = engine.SystemCall;
/// Kind of pages wanted or obtained.
pub const Pages = engine.Pages;
/// What to do about locking in RAM.
pub const Lock = engine.Lock;
/// What a child process made by fork finds in a pool's memory.
pub const Fork = engine.Fork;
/// Which fields of `PoolOptions` are given, as bits of `PoolOptions.given`.
pub const PoolField = engine.PoolField;
/// How a large pool behaves; fields whose bit in `given` is clear keep their value.
pub const PoolOptions = engine.PoolOptions;
/// Figures of one size class of a large pool.
pub const ClassStats = engine.ClassStats;
/// Figures of one large pool.
pub const PoolStats = engine.PoolStats;
/// Figures of the whole process.
pub const Stats = engine.Stats;
/// How a global allocator is made.
pub const GlobalOptions = engine.GlobalOptions;
/// Figures of a global allocator beside those of its pool.
pub const GlobalStats = engine.GlobalStats;
/// One section of a global allocator.
pub const SectionStats = engine.SectionStats;
/// How a reclaiming allocator is made.
pub const ReclaimingOptions = engine.ReclaimingOptions;
/// Figures of a reclaiming allocator beside those of its pool.
pub const ReclaimingStats = engine.ReclaimingStats;
/// Figures of one size of slots of a reclaiming allocator.
pub const ReclaimingClassStats = engine.ReclaimingClassStats;
/// Figures of a small heap.
pub const SmallStats = engine.SmallStats;
/// How a small heap over a native reservation is made.
pub const SmallOptions = engine.SmallOptions;
/// Which engine of the process this copy of the library found.
pub const EngineInfo = engine.EngineInfo;
/// How an owner slab is made.
pub const SlabOptions = engine.SlabOptions;
/// Where an owner slab lies.
pub const SlabInfo = engine.SlabInfo;
/// Figures of an owner slab.
pub const SlabStats = engine.SlabStats;

/// Hash of this contract's text, below 2^53; equal to the constant in the generated files.
/// Any thread, at any time.
pub fn fingerprint() callconv(.c) f64 {
    return contract_fingerprint;
}

/// Fills `out` with the engine that leads this process: this copy, or one loaded earlier.
/// Statuses: ok, ABI_MISMATCH if the earlier one speaks another contract. Any thread.
pub fn engine_info(out: *EngineInfo) callconv(.c) Status {
    return engine.info(out, &engine_marker);
}

/// Gives the calling thread an index for all further calls; the thread's end gives it back.
/// Called again by the same thread, it returns the same index. Answers an index or a Status.
pub fn thread_attach() callconv(.c) f64 {
    return engine.instance.threadAttach();
}

/// Ends the calling thread's use of the engine as its exit would: its caches go to the pools,
/// its leases that no ArrayBuffer shows are freed. Statuses: ok, FOREIGN.
pub fn thread_detach(thread: u32) callconv(.c) Status {
    return engine.instance.threadDetach(thread);
}

/// Address of the thread's block of `block_words` f64 words, which lives as long as the process.
/// Null if no such thread is attached.
pub fn thread_block(thread: u32) callconv(.c) ?*anyopaque {
    return engine.instance.threadBlock(thread);
}

/// Address of four u32 words shared by all threads, which lives as long as the process.
pub fn shared_block() callconv(.c) ?*anyopaque {
    return engine.instance.sharedBlock();
}

/// Leases `bytes` of memory from `pool`; options are the `option_` bits. Fills the thread's
/// block. Answers a handle or a Status: OUT_OF_RANGE, LIMIT, SIZE_CLASS, DISABLED, UNALIGNED,
/// LOCK_LIMIT, HUGE_UNAVAILABLE, OUT_OF_MEMORY, CLOSED, FORKED. The calling thread owns the lease.
pub fn alloc(thread: u32, pool: u32, bytes: f64, options: u32) callconv(.c) f64 {
    return engine.instance.alloc(thread, pool, bytes, options);
}

/// Ends a lease. ok: the memory is back in the pool. closing: an ArrayBuffer still shows it, the
/// last deallocator gives it back; the handle is dead either way. DOUBLE_FREE: it was freed
/// before. FOREIGN: never issued. FORKED.
pub fn free(thread: u32, handle: f64) callconv(.c) Status {
    return engine.instance.free(thread, handle);
}

/// Counts one ArrayBuffer more over the lease, before it is made. The block names the lease until the
/// caller sets that word to 0; a thread that ends before takes the count back. FREED, FOREIGN.
pub fn wrap(thread: u32, handle: f64) callconv(.c) Status {
    return engine.instance.wrap(thread, handle);
}

/// Keeps a lease alive while its views are ended, as a wrap without an ArrayBuffer; one at a time in
/// a thread. If the thread ends before `unhold` or `transfer`, its end does that. FREED, FOREIGN.
pub fn hold(thread: u32, handle: f64) callconv(.c) Status {
    return engine.instance.hold(thread, handle);
}

/// Ends a `hold`; the lease stays live without it. FREED, FOREIGN.
pub fn unhold(thread: u32, handle: f64) callconv(.c) Status {
    return engine.instance.unhold(thread, handle);
}

/// Takes back a `wrap` whose ArrayBuffer was not made. FREED, FOREIGN.
pub fn unwrap(thread: u32, handle: f64) callconv(.c) Status {
    return engine.instance.unwrap(thread, handle);
}

/// Ends a lease of at most `parked_bytes_max` whose one ArrayBuffer the caller keeps, having taken it
/// from all views: the handle is dead, memory and ArrayBuffer wait for `revive`. UNSUPPORTED: the
/// lease is not of that kind or has other ArrayBuffers; nothing has changed. FREED, FOREIGN.
pub fn park(thread: u32, handle: f64) callconv(.c) Status {
    return engine.instance.park(thread, handle);
}

/// Leases the memory of a parked lease again, at its old length, to the thread that parked it.
/// `options` may hold `option_zero`. Answers a new handle or a Status: CLOSED, DISABLED, FOREIGN,
/// LIMIT (the number is used up: drop the ArrayBuffer).
pub fn revive(thread: u32, pool: u32, handle: f64, options: u32) callconv(.c) f64 {
    return engine.instance.revive(thread, pool, handle, options);
}

/// Address of the deallocator for ArrayBuffers over a lease: `void f(void *bytes, void *context)`
/// with context = handle modulo 2^24, plus one. It may run on any thread.
pub fn wrap_deallocator() callconv(.c) ?*const anyopaque {
    return @ptrCast(&engine.wrapDeallocator);
}

/// Counts one alias ArrayBuffer more over a whole region that this thread leases from, before it
/// is made. FOREIGN.
pub fn region_wrap(thread: u32, region: u32) callconv(.c) Status {
    return engine.instance.regionWrap(thread, region);
}

/// Takes back a `region_wrap` whose ArrayBuffer was not made. FOREIGN.
pub fn region_unwrap(thread: u32, region: u32) callconv(.c) Status {
    return engine.instance.regionUnwrap(thread, region);
}

/// Address of the deallocator for alias ArrayBuffers: context = region epoch (`block_region_epoch`
/// when the buffer was made) times 2^24, plus region index, plus one. It may run on any thread. A
/// region leased through that buffer at that moment comes back as a leak.
pub fn region_deallocator() callconv(.c) ?*const anyopaque {
    return @ptrCast(&engine.regionDeallocator);
}

/// The region's epoch, as `block_region_epoch`. 0 if there is no such region. Any thread.
pub fn region_epoch(region: u32) callconv(.c) u32 {
    return engine.instance.regionEpoch(region);
}

/// Frees a lease whose handle object was collected without ever having been viewed, and counts it
/// as leaked. Stale handles are refused as by `free`.
pub fn leaked(thread: u32, handle: f64) callconv(.c) Status {
    return engine.instance.leaked(thread, handle);
}

/// Changes the length of a lease, in place up to its capacity, else by moving it; the handle stays.
/// Bytes up to the smaller length are kept; `option_zero` given at allocation zeroes what is new.
/// Refills the block. BUSY while an ArrayBuffer shows it; other statuses as `alloc`.
pub fn resize(thread: u32, handle: f64, bytes: f64) callconv(.c) Status {
    return engine.instance.resize(thread, handle, bytes);
}

/// `resize` of a lease of `pool` under a new handle: the old one is freed. A failure leaves the old
/// one as it was. Fills the block. Answers the new handle or a Status as `resize`; FOREIGN if the
/// lease is of another pool.
pub fn realloc(thread: u32, pool: u32, handle: f64, bytes: f64) callconv(.c) f64 {
    return engine.instance.realloc(thread, pool, handle, bytes);
}

/// Turns a lease into a token for another thread; the handle is dead at once. `held` is the number
/// of `wrap` calls that the caller made as a hold; they are consumed. BUSY if other ArrayBuffers
/// show the lease, UNSUPPORTED for an alias lease. Answers the token or a Status.
pub fn transfer(thread: u32, handle: f64, held: u32) callconv(.c) f64 {
    return engine.instance.transfer(thread, handle, held);
}

/// Takes over a token: one caller wins and owns the lease, any other gets FREED. Fills the block.
/// Answers the new handle or a Status.
pub fn adopt(thread: u32, token: f64) callconv(.c) f64 {
    return engine.instance.adopt(thread, token);
}

/// Fills the thread's block from a live lease. FREED, FOREIGN.
pub fn describe(thread: u32, handle: f64) callconv(.c) Status {
    return engine.instance.describe(thread, handle);
}

/// Locks the lease's pages in RAM. LOCK_LIMIT, LIMIT (mappings), UNSUPPORTED, FREED, FOREIGN.
pub fn lock(thread: u32, handle: f64) callconv(.c) Status {
    return engine.instance.lock(thread, handle);
}

/// Unlocks the lease's pages. ok also if they were not locked.
pub fn unlock(thread: u32, handle: f64) callconv(.c) Status {
    return engine.instance.unlock(thread, handle);
}

/// Descriptor of a file that is exactly the lease, in a pool whose pages are `memfd`. From now on the
/// lease's length is fixed, and its region gets no other tenant. UNSUPPORTED for memory without a
/// file, SYSTEM.
pub fn file(thread: u32, handle: f64) callconv(.c) i32 {
    return engine.instance.file(thread, handle);
}

/// Asks the kernel to read the range in (rounded outward to pages). OUT_OF_RANGE, SYSTEM.
pub fn prefetch(thread: u32, handle: f64, offset: f64, bytes: f64) callconv(.c) Status {
    return engine.instance.prefetch(thread, handle, offset, bytes);
}

/// Gives the range's frames back (rounded inward to pages), at once or, with `lazy` 1, when the
/// kernel needs them. At once: the range reads as zero, also in pages that the lease shares. OUT_OF_RANGE, BUSY for locked memory, SYSTEM.
pub fn purge(thread: u32, handle: f64, offset: f64, bytes: f64, lazy: u32) callconv(.c) Status {
    return engine.instance.purge(thread, handle, offset, bytes, lazy);
}

/// The kind of at least 90 % of the lease's resident bytes, asked of the kernel: a `Pages` value
/// (base, thp, hugetlb), or a Status below zero.
pub fn page_kind(thread: u32, handle: f64) callconv(.c) i32 {
    return engine.instance.pageKind(thread, handle);
}

/// Makes a pool. Answers its number or a Status: INVALID_ARGUMENT, LIMIT (pools), OUT_OF_MEMORY.
pub fn pool_create(thread: u32, options: *const PoolOptions) callconv(.c) f64 {
    return engine.instance.poolCreate(thread, options);
}

/// The number of the pool that the process shares; made at first use. Any thread.
pub fn pool_shared() callconv(.c) u32 {
    return engine.instance.poolShared();
}

/// Changes the given options of a pool; restarts its background work. CLOSED, INVALID_ARGUMENT.
pub fn pool_configure(thread: u32, pool: u32, options: *const PoolOptions) callconv(.c) Status {
    return engine.instance.poolConfigure(thread, pool, options);
}

/// Reads the options a pool works with now. CLOSED.
pub fn pool_options(pool: u32, out: *PoolOptions) callconv(.c) Status {
    return engine.instance.poolOptions(pool, out);
}

/// Reads a pool's figures without any system call or allocation. CLOSED.
pub fn pool_stats(pool: u32, out: *PoolStats) callconv(.c) Status {
    return engine.instance.poolStats(pool, out);
}

/// Reads the figures of all 16 size classes, ascending, into an array of 16. CLOSED.
pub fn pool_class_stats(pool: u32, out: [*]ClassStats) callconv(.c) Status {
    return engine.instance.poolClassStats(pool, out[0..16]);
}

/// Gives back what the pool does not lease: unmaps areas that are wholly free and shown by no
/// ArrayBuffer, purges the rest. Answers the bytes that were resident there, or a Status.
pub fn pool_trim(thread: u32, pool: u32) callconv(.c) f64 {
    return engine.instance.poolTrim(thread, pool);
}

/// Closes a pool. Answers 0 when closed, the number of live leases if there are any and `force`
/// is 0 (nothing changes then), or a Status. With `force` 1 the leases are revoked; closing ones
/// follow when their ArrayBuffers are gone.
pub fn pool_close(thread: u32, pool: u32, force: u32) callconv(.c) f64 {
    return engine.instance.poolClose(thread, pool, force);
}

/// Reads the figures of the whole process. With `resident` 1 the kernel is asked for
/// `resident_bytes`, `locked_bytes` and `huge_bytes`; else no system call is made. Any thread.
pub fn stats(out: *Stats, resident: u32) callconv(.c) Status {
    return engine.instance.stats(out, resident);
}

/// `pool_trim` over all pools; also reclaims tokens whose thread is gone. Answers bytes.
pub fn trim(thread: u32) callconv(.c) f64 {
    return engine.instance.trim(thread);
}

/// Native face of the pool, without a handle: a region of at least `bytes`, its usable bytes in
/// `capacity` if that is not null. Null if there is none; the block says why.
pub fn region_alloc(thread: u32, pool: u32, bytes: usize, capacity: ?*usize) callconv(.c) ?*anyopaque {
    return engine.instance.regionAlloc(thread, pool, bytes, capacity);
}

/// Gives back a region from `region_alloc`, on any attached thread. Null is ok.
/// FOREIGN: no region of this pool starts there. DOUBLE_FREE: it is free already.
pub fn region_free(thread: u32, pool: u32, address: ?*anyopaque) callconv(.c) Status {
    return engine.instance.regionFree(thread, pool, address);
}

/// The calling thread's own way into a pool, for the two calls below, which other threads must not make
/// with it. Null: not attached, or no open pool. The address stays readable as long as the process: after
/// a close, the thread's end or a fork the calls refuse, until that thread index uses a pool that has
/// taken the closed one's place.
pub fn large_direct(thread: u32, pool: u32) callconv(.c) ?*anyopaque {
    return engine.large_direct.of(thread, pool);
}

/// As `region_alloc`, and quicker. `direct` is not null. The region may be given back by either way, on
/// any thread.
pub fn large_take(direct: ?*anyopaque, bytes: usize) callconv(.c) ?*anyopaque {
    return engine.large_direct.take(direct, bytes);
}

/// As `region_free`, and quicker, for regions of any thread; null is ok. `direct` is not null. FOREIGN,
/// DOUBLE_FREE, CLOSED, FORKED.
pub fn large_give(direct: ?*anyopaque, address: ?*anyopaque) callconv(.c) Status {
    return engine.large_direct.give(direct, address);
}

/// Makes a global allocator: a pool whose small requests are objects of slabs and pages of a buddy.
/// Calls that take a pool's number serve it too. Answers its number or a Status: INVALID_ARGUMENT,
/// LIMIT (pools), OUT_OF_MEMORY. Any attached thread may use it.
pub fn global_create(thread: u32, options: *const GlobalOptions) callconv(.c) f64 {
    _ = thread;
    return engine.instance.globalCreate(options);
}

/// The number of the global allocator that the process shares; made at first use. Any thread.
pub fn global_shared() callconv(.c) u32 {
    return engine.instance.globalShared();
}

/// Leases `count` whole pages at a multiple of 2^`align_log2` bytes (0: a page), with `low` 1 below
/// 4 GiB. Fills the block. Answers a handle or a Status: OUT_OF_RANGE, LIMIT, OUT_OF_MEMORY, CLOSED,
/// FOREIGN (`pool` is no global allocator), FORKED.
pub fn global_pages(thread: u32, pool: u32, count: f64, align_log2: u32, low: u32) callconv(.c) f64 {
    return engine.instance.globalPages(thread, pool, count, align_log2, low != 0);
}

/// Adds a section of `bytes`, rounded up to 2 MiB; with `low` 1 at addresses below 4 GiB. It stays
/// until the allocator is closed. OUT_OF_RANGE, OUT_OF_MEMORY, LIMIT (sections), CLOSED, FORKED.
pub fn global_add_region(thread: u32, pool: u32, bytes: f64, low: u32) callconv(.c) Status {
    return engine.instance.globalAddRegion(thread, pool, bytes, low != 0);
}

/// Reads section `index`, by address. OUT_OF_RANGE: there is none of that index. CLOSED. Any thread.
pub fn global_section(pool: u32, index: u32, out: *SectionStats) callconv(.c) Status {
    return engine.instance.globalSection(pool, index, out);
}

/// Reads a global allocator's own figures, without a system call. CLOSED. Any thread.
pub fn global_stats(pool: u32, out: *GlobalStats) callconv(.c) Status {
    return engine.instance.globalStats(pool, out);
}

/// Begins a new peak at what is taken now. CLOSED. Any thread.
pub fn global_reset_peak(pool: u32) callconv(.c) Status {
    return engine.instance.globalResetPeak(pool);
}

/// Memory without a handle, owned by the caller: `bytes` at a multiple of `alignment` (0: 16). Null
/// if there is none; the block says why.
pub fn global_alloc(thread: u32, pool: u32, bytes: usize, alignment: usize) callconv(.c) ?*anyopaque {
    if (alignment == 0) if (engine.global_direct.known(thread, pool)) |direct| return @call(.never_inline, global_take, .{ direct, bytes });
    return engine.instance.objectAllocSlow(.global, thread, pool, bytes, alignment);
}

/// Gives back memory of `global_alloc`, on any attached thread; null is ok. FOREIGN: nothing of this
/// allocator begins there. DOUBLE_FREE. CLOSED.
pub fn global_free(thread: u32, pool: u32, address: ?*anyopaque) callconv(.c) Status {
    if (engine.global_direct.known(thread, pool)) |direct| return @call(.never_inline, global_give, .{ direct, address });
    return engine.instance.objectFreeSlow(.global, thread, pool, address);
}

/// Changes the length of memory of `global_alloc`, in place where there is room. Null: refused, the
/// old memory is as it was and still the caller's. A null `address` allocates.
pub fn global_realloc(thread: u32, pool: u32, address: ?*anyopaque, bytes: usize, alignment: usize) callconv(.c) ?*anyopaque {
    return engine.instance.objectRealloc(.global, thread, pool, address, bytes, alignment);
}

/// The calling thread's own way into a global allocator, for the three calls below, which other threads
/// must not make with it. Null: not attached, or no open global allocator. The address stays readable as
/// long as the process: after a close, the thread's end or a fork the calls refuse, until that thread
/// index uses an allocator that has taken the closed one's place.
pub fn global_direct(thread: u32, pool: u32) callconv(.c) ?*anyopaque {
    return engine.global_direct.of(thread, pool);
}

/// As `global_alloc` at the usual alignment, and quicker. `direct` is not null. The memory may be given
/// back by any of the ways, on any thread.
pub fn global_take(direct: ?*anyopaque, bytes: usize) callconv(.c) ?*anyopaque {
    return engine.global_direct.take(direct, bytes);
}

/// As `global_take`, at a multiple of `alignment`, a power of two (0: 16).
pub fn global_take_aligned(direct: ?*anyopaque, bytes: usize, alignment: usize) callconv(.c) ?*anyopaque {
    return engine.global_direct.takeAligned(direct, bytes, alignment);
}

/// As `global_free`, and quicker, for memory of any thread; null is ok. `direct` is not null. FOREIGN,
/// DOUBLE_FREE, CLOSED, FORKED.
pub fn global_give(direct: ?*anyopaque, address: ?*anyopaque) callconv(.c) Status {
    return engine.global_direct.give(direct, address);
}

/// Usable bytes of memory of `global_alloc`; 0 if it is none. Any thread.
pub fn global_size(pool: u32, address: ?*anyopaque) callconv(.c) usize {
    return engine.instance.objectSize(.global, pool, address);
}

/// Makes a reclaiming allocator: a pool whose requests are slots of powers of two over a backend.
/// Calls that take a pool's number serve it too. Answers its number or a Status: INVALID_ARGUMENT,
/// CLOSED (the backend), LIMIT (pools), OUT_OF_MEMORY. Any attached thread may use it.
pub fn reclaiming_create(thread: u32, options: *const ReclaimingOptions) callconv(.c) f64 {
    _ = thread;
    return engine.instance.reclaimingCreate(options);
}

/// As `global_alloc`.
pub fn reclaiming_alloc(thread: u32, pool: u32, bytes: usize, alignment: usize) callconv(.c) ?*anyopaque {
    if (alignment == 0) if (engine.reclaiming_direct.known(thread, pool)) |direct| return @call(.never_inline, reclaiming_take, .{ direct, bytes });
    return engine.instance.objectAllocSlow(.reclaiming, thread, pool, bytes, alignment);
}

/// As `global_free`.
pub fn reclaiming_free(thread: u32, pool: u32, address: ?*anyopaque) callconv(.c) Status {
    if (engine.reclaiming_direct.known(thread, pool)) |direct| return @call(.never_inline, reclaiming_give, .{ direct, address });
    return engine.instance.objectFreeSlow(.reclaiming, thread, pool, address);
}

/// As `global_realloc`.
pub fn reclaiming_realloc(thread: u32, pool: u32, address: ?*anyopaque, bytes: usize, alignment: usize) callconv(.c) ?*anyopaque {
    return engine.instance.objectRealloc(.reclaiming, thread, pool, address, bytes, alignment);
}

/// As `global_direct`, for the two calls below.
pub fn reclaiming_direct(thread: u32, pool: u32) callconv(.c) ?*anyopaque {
    return engine.reclaiming_direct.of(thread, pool);
}

/// As `global_take`.
pub fn reclaiming_take(direct: ?*anyopaque, bytes: usize) callconv(.c) ?*anyopaque {
    return engine.reclaiming_direct.take(direct, bytes);
}

/// As `global_give`.
pub fn reclaiming_give(direct: ?*anyopaque, address: ?*anyopaque) callconv(.c) Status {
    return engine.reclaiming_direct.give(direct, address);
}

/// Gives to the backend every batch that is wholly free, and the metadata of it, while others work.
/// Answers the bytes, or a Status: CLOSED, FORKED.
pub fn reclaiming_reclaim(thread: u32, pool: u32) callconv(.c) f64 {
    _ = thread;
    return engine.instance.reclaimingReclaim(pool);
}

/// Reads a reclaiming allocator's own figures, without a system call. CLOSED. Any thread.
pub fn reclaiming_stats(pool: u32, out: *ReclaimingStats) callconv(.c) Status {
    return engine.instance.reclaimingStats(pool, out);
}

/// Reads the figures of size `index`, ascending from 16 bytes. OUT_OF_RANGE: there is none of that
/// index. CLOSED. Any thread.
pub fn reclaiming_class_stats(pool: u32, index: u32, out: *ReclaimingClassStats) callconv(.c) Status {
    return engine.instance.reclaimingClassStats(pool, index, out);
}

/// Makes a small heap in a reservation of its own. Calls that take a pool's number serve it too.
/// Answers its number or a Status: INVALID_ARGUMENT, LIMIT (pools), OUT_OF_MEMORY.
pub fn small_create(thread: u32, options: *const SmallOptions) callconv(.c) f64 {
    _ = thread;
    return engine.instance.smallCreate(options);
}

/// As `global_alloc`.
pub fn small_alloc(thread: u32, pool: u32, bytes: usize, alignment: usize) callconv(.c) ?*anyopaque {
    return engine.instance.objectAlloc(.small, thread, pool, bytes, alignment);
}

/// As `global_free`.
pub fn small_free(thread: u32, pool: u32, address: ?*anyopaque) callconv(.c) Status {
    return engine.instance.objectFree(.small, thread, pool, address);
}

/// As `global_realloc`.
pub fn small_realloc(thread: u32, pool: u32, address: ?*anyopaque, bytes: usize, alignment: usize) callconv(.c) ?*anyopaque {
    return engine.instance.objectRealloc(.small, thread, pool, address, bytes, alignment);
}

/// Reads a small heap's figures, without a system call. CLOSED. Any thread.
pub fn small_stats(pool: u32, out: *SmallStats) callconv(.c) Status {
    return engine.instance.smallStats(pool, out);
}

/// Begins a new trip: its high water is what is in use now. CLOSED. Any thread.
pub fn small_reset_trip(pool: u32) callconv(.c) Status {
    return engine.instance.smallResetTrip(pool);
}

/// Makes an owner slab; the calling thread owns it. Answers its number or a Status: OUT_OF_RANGE,
/// LIMIT (slabs), OUT_OF_MEMORY, CLOSED (the pool), FORKED.
pub fn slab_create(thread: u32, options: *const SlabOptions) callconv(.c) f64 {
    return engine.instance.slabs.create(thread, options);
}

/// Fills `out` with where the slab lies. The caller holds a reference, or is the owner. CLOSED.
pub fn slab_info(slab: u32, out: *SlabInfo) callconv(.c) Status {
    return engine.instance.slabs.info(slab, out);
}

/// Address of a segment, counted from 0, or a Status: CLOSED, OUT_OF_RANGE (there are fewer).
pub fn slab_segment(slab: u32, segment: u32) callconv(.c) f64 {
    return engine.instance.slabs.segment(slab, segment);
}

/// Reads a slab's figures. The caller holds a reference, or is the owner. CLOSED.
pub fn slab_stats(slab: u32, out: *SlabStats) callconv(.c) Status {
    return engine.instance.slabs.stats(slab, out);
}

/// One reference to the slab's memory more: for a remote, or an ArrayBuffer before it is made. Any
/// thread. CLOSED: the memory is gone. FORKED.
pub fn slab_retain(slab: u32) callconv(.c) Status {
    return engine.instance.slabs.retain(slab);
}

/// Takes back a `slab_retain`; the last one of a closed slab gives its memory back. Any thread. CLOSED.
pub fn slab_release(slab: u32) callconv(.c) Status {
    return engine.instance.slabs.release(slab);
}

/// Address of the deallocator for ArrayBuffers over a slab's memory, with `SlabInfo.context`; it takes
/// back one `slab_retain`. It may run on any thread.
pub fn slab_deallocator() callconv(.c) ?*const anyopaque {
    return @ptrCast(&engine.slabDeallocator);
}

/// A slot, or a Status: LIMIT (all are taken), CLOSED (also: the calling thread is not the owner). In
/// C; TypeScript takes indexes off the slab's stack itself and calls `slab_refill` now and then.
pub fn slab_alloc(thread: u32, slab: u32) callconv(.c) f64 {
    return engine.instance.slabs.alloc(thread, slab);
}

/// Makes slots ready on the stack if there are none, and looks at the queue when it is time. Answers
/// how many are ready, or LIMIT, CLOSED. The owner.
pub fn slab_refill(thread: u32, slab: u32) callconv(.c) i32 {
    return engine.instance.slabs.refill(thread, slab);
}

/// Frees a slot. The owner. DOUBLE_FREE, FOREIGN, CLOSED.
pub fn slab_free(thread: u32, slab: u32, slot: f64) callconv(.c) Status {
    return engine.instance.slabs.free(thread, slab, slot);
}

/// Frees a slot from any thread that holds a reference. BUSY: the queue is full, the slot is live as
/// before. CLOSED: there is no owner. DOUBLE_FREE, FOREIGN.
pub fn slab_free_remote(thread: u32, slab: u32, slot: f64) callconv(.c) Status {
    return engine.instance.slabs.freeRemote(thread, slab, slot);
}

/// Frees slots as by `slab_free_remote`, in their order; answers how many, until one was refused.
pub fn slab_free_many(thread: u32, slab: u32, slots: ?*const anyopaque, count: u32) callconv(.c) u32 {
    return engine.instance.slabs.freeMany(thread, slab, @as([*]const f64, @ptrCast(@alignCast(slots)))[0..count]);
}

/// Takes in everything that others have freed; answers how many slots, or CLOSED. The owner.
pub fn slab_drain(thread: u32, slab: u32) callconv(.c) f64 {
    return engine.instance.slabs.drain(thread, slab);
}

/// Sleeps until a slot can be had, at most so long. ok, BUSY (there is none), CLOSED. The owner.
pub fn slab_wait(thread: u32, slab: u32, timeout_ms: u32) callconv(.c) Status {
    return engine.instance.slabs.wait(thread, slab, timeout_ms);
}

/// Ends the slab for its owner: the queue is closed, pending frees are taken in, the memory goes with
/// the last reference. ok, CLOSED.
pub fn slab_close(thread: u32, slab: u32) callconv(.c) Status {
    return engine.instance.slabs.close(thread, slab);
}

/// Gives the ownership away: the slab is nobody's until a thread adopts the token. Frees by others go
/// on. Answers the token or CLOSED.
pub fn slab_transfer(thread: u32, slab: u32) callconv(.c) f64 {
    return engine.instance.slabs.transfer(thread, slab);
}

/// Takes over a token: one caller owns the slab, any other gets FREED. Answers the slab's number.
pub fn slab_adopt(thread: u32, token: f64) callconv(.c) f64 {
    return engine.instance.slabs.adopt(thread, token);
}

/// Number that names a thread as the holder of slots; not 0.
pub fn slab_holder(thread: u32) callconv(.c) u32 {
    return engine.instance.slabs.holderOf(thread);
}

/// Says who holds a live slot; `holder` 0 is the calling thread. UNSUPPORTED: made without leases.
/// FREED, CLOSED.
pub fn slab_hold(thread: u32, slab: u32, slot: f64, holder: u32) callconv(.c) Status {
    return engine.instance.slabs.hold(thread, slab, slot, holder);
}

/// The first live slot from index `from` on that `holder` holds, with 0 one whose holder's thread has
/// ended. Answers 0 if there is none, or UNSUPPORTED, CLOSED. The owner.
pub fn slab_held(thread: u32, slab: u32, from: u32, holder: u32) callconv(.c) f64 {
    return engine.instance.slabs.held(thread, slab, from, holder);
}

/// The slab's own address for the three calls below, which check nothing about it; null if there is no
/// such slab. It stays valid while the caller owns the slab or holds a reference.
pub fn slab_direct(slab: u32) callconv(.c) ?*anyopaque {
    return engine.direct.slabOf(slab);
}

/// Memory of a slot, or null if all are taken. The owner.
pub fn slab_take(direct: ?*anyopaque) callconv(.c) ?*anyopaque {
    return engine.direct.take(direct);
}

/// Frees the slot that begins there. The owner. DOUBLE_FREE, FOREIGN.
pub fn slab_give(direct: ?*anyopaque, address: ?*anyopaque) callconv(.c) Status {
    return engine.direct.give(direct, address);
}

/// As `slab_give`, from any thread that holds a reference. BUSY: the queue is full. CLOSED.
pub fn slab_give_remote(direct: ?*anyopaque, address: ?*anyopaque) callconv(.c) Status {
    return engine.direct.giveRemote(direct, address);
}

/// Runs the engine's own check of itself: allocates, writes, frees, trims, and compares the
/// figures. Answers ok or the first Status that went wrong. For a new system or libc.
pub fn self_test() callconv(.c) Status {
    return engine.instance.selfTest();
}

const engine_marker: engine.Marker = .{ .abi = abi_version };

// For lib.zig: exports the marker by which other copies find this one.
comptime {
    if (builtin.output_mode == .Lib) @export(&engine_marker, .{ .name = engine.marker_name });
}

// The engine's names for the same numbers.
comptime {
    for (@typeInfo(engine.block).@"struct".decls) |decl| {
        const prefixed = "block_" ++ decl.name;
        const name = if (@hasDecl(@This(), prefixed)) prefixed else decl.name;
        if (@field(@This(), name) != @field(engine.block, decl.name))
            @compileError(name ++ " differs between abi.zig and engine/block.zig");
    }
}

const contract_fingerprint: f64 = blk: {
    @setEvalBranchQuota(4_000_000);
    var hash: u64 = 0xcbf29ce484222325;
    for (@embedFile("abi.zig")) |byte| hash = (hash ^ byte) *% 0x100000001b3;
    for (@embedFile("engine/types.zig")) |byte| hash = (hash ^ byte) *% 0x100000001b3;
    break :blk @floatFromInt(hash & ((1 << 52) - 1));
};
