//! Exact runs of pages for requests below a region: small leases that own their pages.
//!
//! A block is one 2 MiB region of the pool divided into pages, with a live bitmap that is the truth
//! about what is allocated. Each block belongs to one thread, which allocates and frees in it without
//! atomics. Another thread that frees sets bits in `freed` (one fetch-or a word, wait-free) and, first
//! of its kind, puts the block on the owner's `notified` stack; the owner takes the bits in before it
//! next allocates. An empty block goes back to the pool, but for one spare a thread. The blocks of a
//! thread that ends are orphans, owned by nobody, until another thread adopts them.
//!
//! Who frees from afar touches the block after its pages are free: it is a visitor until it is done.
//! A block with a visitor, or announced on somebody's stack, is not given back. A stack may announce
//! a block that is not its thread's, since thread indexes are used again: it is passed on.
//!
//! Invariant: `live` minus `freed` is what leases hold; a block with free pages is in exactly one bin
//! of its owner, by the log2 of `longest`, an upper bound of its longest free run.
//!
//! Cost: 512 bytes of bookkeeping a block; allocation is a bitmap search of 8 words in the first block
//! whose bin fits; freeing is two masks. Pages touched before are cleared only if zeros are asked.
//!
//! Threads: any; see above. When not: objects far below a page waste it; slabs are for those.

const std = @import("std");
const ds = @import("../ds/ds.zig");
const regions = @import("../region/region.zig");
const large_pool = @import("large_pool.zig");

const Flavor = regions.Flavor;
const none = regions.none;
const Bits = ds.BitSet512;
const words = 8;
/// Blocks alive at once in a pool: 128 GiB of small leases.
const blocks_max = 1 << 16;

/// A lease of pages inside a region.
pub const Run = @import("large_cache.zig").Run;

pub fn Block(comptime Sync: type) type {
    return struct {
        /// Pages leased, as the owner knows.
        live: Bits,
        /// Pages freed by other threads, not yet taken in.
        freed: [words]Sync.Atomic(u64),
        /// Pages that may hold anything but zero.
        dirty: Bits,
        /// Pages that are accounted as resident.
        resident: Bits,
        locked: Bits,
        region: u32,
        /// Pages leased, as the owner knows.
        used: u32,
        /// Upper bound of the longest free run.
        longest: u32,
        flavor: Flavor,
        /// Bin the block is in, `bin_none` if in none.
        bin: u8,
        /// The block describes a region.
        alive: Sync.Atomic(u32),
        /// Its thread is gone; guarded by the shared lock.
        orphaned: bool,
        previous: u32,
        following: u32,
        /// 1 while the block is on (or on its way to) a stack.
        notified: Sync.Atomic(u32),
        /// Threads that are freeing in the block from afar right now.
        visitors: Sync.Atomic(u32),
        /// Link in the stack of unused blocks and in the list of orphans.
        next: Sync.Atomic(u32),
    };
}

const bin_none = 0xFF;
const minus_one: u64 = std.math.maxInt(u64);

/// What a pool's threads share about runs.
pub fn Shared(comptime Table: type) type {
    const Sync = Table.Synchronisation;
    return struct {
        blocks: Sync.Atomic(?[*]Block(Sync)) = .init(null),
        top: Sync.Atomic(u32) = .init(0),
        unused: ds.TaggedStack(Sync) = .{},
        /// Blocks whose thread is gone, linked by `next`, under the lock.
        orphans: u32 = none,
        lock: regions.SpinLock(Sync) = .{},

        const bytes = blocks_max * @sizeOf(Block(Sync));

        /// The link of a block, as the stacks want it.
        pub fn next(self: *const @This(), index: u32) *Sync.Atomic(u32) {
            return &self.blocks.load(.monotonic, .blocks).?[index].next;
        }
    };
}

pub fn Runs(comptime Pool: type) type {
    const Os = Pool.System;
    const Sync = Pool.Synchronisation;
    const Cache = Pool.Cache;
    return struct {
        const B = Block(Sync);

        pub inline fn pagesOf(bytes: usize) usize {
            return std.math.divCeil(usize, bytes, Os.pageBytes()) catch unreachable;
        }

        inline fn pagesPerBlock() u32 {
            return @intCast(regions.unit_bytes / Os.pageBytes());
        }

        inline fn blockOf(pool: *Pool, index: u32) *B {
            return &pool.runs.blocks.load(.acquire, .blocks).?[index];
        }

        pub inline fn addressOf(pool: *Pool, run: Run) usize {
            return pool.table.at(run.region).address + @as(usize, run.page) * Os.pageBytes();
        }

        // ---- allocation

        /// Leases pages for `request`, which fits a block and is aligned to at most a region.
        pub fn alloc(
            pool: *Pool,
            thread: u32,
            request: large_pool.Request,
            failure: *large_pool.Failure,
        ) large_pool.Error!Run {
            if (!pool.options.enabled) return error.Disabled;
            const cache = pool.cacheOf(thread) orelse return error.OutOfMemory;
            const pages: u32 = @intCast(pagesOf(request.bytes));
            const alignment: u32 = @intCast(@max(1, request.alignment / Os.pageBytes()));
            const flavor: Flavor = .{
                // Runs give single pages back, which a file would keep.
                .kind = if (pool.options.shared) request.kind orelse .base else pool.resolveKind(request.kind),
                .locked = request.lock != .none,
                .alias = request.alias,
            };
            const run = while (true) {
                var empties: u32 = none;
                lockOwn(cache);
                cache.touch();
                if (!cache.runs.notified.isEmpty()) empties = takeIn(pool, cache);
                const found = find(pool, cache, flavor, pages, alignment);
                cache.near.lock.leave();
                if (empties != none) giveBlocks(pool, thread, empties);
                if (found) |run| break run;
                // In one step: between the adoption and the bin a thief would see a block that is
                // ours and in no bin, and could give it back.
                lockOwn(cache);
                const adopted = adopt(pool, thread, flavor, pages, alignment);
                if (adopted) |index| bin(pool, cache, index, blockOf(pool, index));
                cache.near.lock.leave();
                if (adopted != null) continue;
                const index = try newBlock(pool, cache, thread, flavor, failure);
                lockOwn(cache);
                bin(pool, cache, index, blockOf(pool, index));
                cache.near.lock.leave();
            };
            return finish(pool, cache, thread, run, request, failure);
        }

        /// What may call the system or fail happens outside the lock; the run is ours by then.
        noinline fn finish(
            pool: *Pool,
            cache: *Cache,
            thread: u32,
            run: Run,
            request: large_pool.Request,
            failure: *large_pool.Failure,
        ) large_pool.Error!Run {
            const region = pool.table.at(run.region);
            const block = blockOf(pool, region.run);
            const page_bytes = Os.pageBytes();
            const base: [*]u8 = @ptrFromInt(addressOf(pool, run));
            const bytes = @as(usize, run.pages) * page_bytes;
            // Of `resident` and `dirty` only the owner of the block writes words; a thief looks at
            // blocks without leases alone.
            if (!block.resident.isRangeSet(run.page, run.pages)) {
                const fresh = run.pages - countIn(&block.resident, run);
                pool.chargeBytes(@as(usize, fresh) * page_bytes, failure) catch |err| {
                    clear(pool, thread, run);
                    return err;
                };
                block.resident.setRange(run.page, run.pages);
            }
            if (request.lock != .none) lockPages(pool, block, run, failure) catch |err| {
                if (request.lock == .require) {
                    clear(pool, thread, run);
                    return err;
                }
            };
            if (request.prefault) pool.advise(base, bytes, .populate_write);
            if (request.zero) zeroDirty(pool, block, run);
            block.dirty.setRange(run.page, run.pages);
            cache.counters.add(.allocated_bytes, request.bytes);
            cache.counters.add(.active_bytes, bytes);
            cache.counters.add(.live_beside, 1);
            return run;
        }

        fn zeroDirty(pool: *Pool, block: *B, run: Run) void {
            const page_bytes = Os.pageBytes();
            const base: [*]u8 = @ptrFromInt(pool.table.at(run.region).address);
            // A stale alias view may have written to pages that no lease used.
            const wrapped = pool.table.at(run.region).wraps.load(.acquire, .wraps) != 0;
            var page: u32 = run.page;
            const end: u32 = run.page + run.pages;
            while (page < end) {
                const from = if (wrapped) page else block.dirty.nextSet(page);
                if (from >= end) return;
                const to = if (wrapped) end else @min(end, block.dirty.nextClear(from) orelse end);
                ds.memory.zero((base + from * page_bytes)[0 .. (to - from) * page_bytes]);
                page = to;
            }
        }

        fn countIn(bits: *const Bits, run: Run) u32 {
            var n: u32 = 0;
            for (run.page..run.page + run.pages) |page| n += @intFromBool(bits.isSet(@intCast(page)));
            return n;
        }

        /// Inside the lock: a run in a block of the thread, best-fitting bin first.
        fn find(pool: *Pool, cache: *Cache, flavor: Flavor, pages: u32, alignment: u32) ?Run {
            const heads = &cache.runs.heads[flavor.index()];
            // Bins from here on hold blocks whose bound covers the request; the bin below may.
            var b: usize = std.math.log2_int(u32, pages);
            while (b < Cache.run_bins) : (b += 1) {
                var index = heads[b];
                while (index != none) {
                    const block = blockOf(pool, index);
                    const following = block.following;
                    if (block.longest >= pages) {
                        if (place(pool, cache, index, block, pages, alignment)) |run| return run;
                        if (alignment == 1) {
                            // The bound was too high: now it is exact.
                            block.longest = block.live.longestRun();
                            bin(pool, cache, index, block);
                        }
                    }
                    index = following;
                }
            }
            return null;
        }

        /// Inside the lock: marks a run of the block as live.
        noinline fn place(pool: *Pool, cache: *Cache, index: u32, block: *B, pages: u32, alignment: u32) ?Run {
            const page = block.live.findRunAligned(pages, alignment) orelse return null;
            block.live.setRange(page, pages);
            block.used += pages;
            if (cache.runs.spare.load(.monotonic, .spare) == index)
                cache.runs.spare.store(none, .monotonic, .spare);
            if (block.used == pagesPerBlock()) {
                block.longest = 0;
                bin(pool, cache, index, block);
            }
            return .{ .region = block.region, .page = @intCast(page), .pages = @intCast(pages) };
        }

        /// Outside the lock: a region of the pool made a block.
        noinline fn newBlock(
            pool: *Pool,
            cache: *Cache,
            thread: u32,
            flavor: Flavor,
            failure: *large_pool.Failure,
        ) large_pool.Error!u32 {
            const block_index = try takeBlock(pool);
            const region_index = pool.acquire(cache, thread, 0, flavor, regions.unit_bytes, failure) catch |err| {
                pool.runs.unused.push(&pool.runs, block_index);
                return err;
            };
            const region = pool.table.at(region_index);
            const page_bytes = Os.pageBytes();
            // Runs lock their own pages: what a lease of the whole region left locked goes first.
            pool.fitLock(region, 0, .none, failure) catch {};
            if (region.wraps.load(.acquire, .wraps) != 0 and region.tie.owner.load(.monotonic, .owner) != thread)
                pool.invalidateWraps(region);
            if (region.lazy) {
                region.lazy = false;
                _ = pool.lazy_bytes.fetchSub(region.dirty, .monotonic, .count);
            }
            region.become(.run);
            region.run = block_index;
            region.flavor = flavor;
            region.lease.store(none, .monotonic, .region_lease);
            const block = blockOf(pool, block_index);
            // Under the lock: a thread that ends looks for its blocks, and this region may have been
            // its own.
            pool.runs.lock.acquire();
            defer pool.runs.lock.release();
            block.* = .{
                .live = .empty,
                .freed = @splat(.init(0)),
                .dirty = .empty,
                .resident = .empty,
                .locked = .empty,
                .region = region_index,
                .used = 0,
                .longest = pagesPerBlock(),
                .flavor = flavor,
                .bin = bin_none,
                .alive = .init(1),
                .orphaned = false,
                .previous = none,
                .following = none,
                .notified = .init(0),
                .visitors = .init(0),
                .next = .init(none),
            };
            // Larger pages than 4 KiB: the rest of the map does not exist.
            if (pagesPerBlock() < Bits.bits_count)
                block.live.setRange(pagesPerBlock(), Bits.bits_count - pagesPerBlock());
            block.dirty.setRange(0, @intCast(pagesOf(region.dirty)));
            block.resident.setRange(0, @intCast(pagesOf(region.resident)));
            pool.uncharge(region.resident);
            _ = pool.charged.fetchAdd(block.resident.countSet() * page_bytes, .monotonic, .charge);
            region.resident = 0;
            region.dirty = 0;
            // Release: pairs with the acquire in `free` of remote threads, which read the block.
            region.tie.owner.store(@intCast(thread), .release, .owner);
            return block_index;
        }

        fn takeBlock(pool: *Pool) large_pool.Error!u32 {
            const shared = &pool.runs;
            if (shared.blocks.load(.acquire, .blocks) == null) {
                const memory = pool.table.metadata(blocks_max * @sizeOf(B)) orelse return error.OutOfMemory;
                if (shared.blocks.cmpxchg(null, @ptrCast(@alignCast(memory)), .release, .monotonic, .blocks) != null)
                    pool.table.release(memory, blocks_max * @sizeOf(B));
            }
            if (shared.unused.pop(shared)) |index| return index;
            const index = shared.top.fetchAdd(1, .monotonic, .top);
            if (index < blocks_max) return index;
            _ = shared.top.fetchSub(1, .monotonic, .top);
            return error.Limit;
        }

        // ---- the warm case

        /// A run of the same length that this thread freed lately; `none` as its region if there is
        /// none. Its pages are resident and may be dirty.
        pub inline fn takeWarm(cache: *Cache, bytes: usize, alias: bool) Run {
            const nothing: Run = .{ .region = none, .page = 0, .pages = 0 };
            const at = (bytes -% 1) / Os.pageBytes();
            if (at >= Cache.quick_pages_max or !cache.near.lock.tryEnter()) return nothing;
            const count = &cache.runs.quick_counts[@intFromBool(alias)][at];
            const before = count.load(.monotonic, .quick);
            if (before == 0) {
                cache.near.lock.leave();
                return nothing;
            }
            count.store(before - 1, .monotonic, .quick);
            const run = cache.runs.quick[@intFromBool(alias)][at][before - 1];
            cache.near.lock.leave();
            cache.touch();
            cache.counters.add(.allocated_bytes, bytes);
            cache.counters.add(.active_bytes, (at + 1) * Os.pageBytes());
            cache.counters.add(.live_beside, 1);
            return run;
        }

        /// Keeps a run that is not locked whole for the next request of its length. False: it has to
        /// be freed.
        pub inline fn giveWarm(cache: *Cache, run: Run, bytes: usize) bool {
            const region = &cache.near.descriptors[run.region];
            // Only what `takeWarm` looks for: the pool's own kind of pages, in this thread's block.
            if (!cache.is(run.region, .run)) return false;
            const alias = @intFromBool(region.flavor.alias);
            const warm: u8 = cache.near.hot.warm | @as(u8, @bitCast(Flavor{ .kind = .base, .alias = alias != 0 }));
            const at = @as(u32, run.pages) -% 1;
            if (@as(u8, @bitCast(region.flavor)) != warm or at >= Cache.quick_pages_max) return false;
            if (!cache.near.lock.tryEnter()) return false;
            const count = &cache.runs.quick_counts[alias][at];
            const before = count.load(.monotonic, .quick);
            if (before == Cache.quick_depth) {
                cache.near.lock.leave();
                return false;
            }
            cache.runs.quick[alias][at][before] = run;
            count.store(before + 1, .monotonic, .quick);
            cache.near.lock.leave();
            cache.counters.add(.allocated_bytes, 0 -% @as(u64, bytes));
            cache.counters.add(.active_bytes, 0 -% @as(u64, run.pages) * Os.pageBytes());
            cache.counters.add(.live_beside, minus_one);
            return true;
        }

        /// Inside the lock: frees the kept runs. Returns the blocks that became empty, linked.
        fn flushQuick(pool: *Pool, cache: *Cache, chain: u32) u32 {
            var empties = chain;
            for (&cache.runs.quick, &cache.runs.quick_counts) |*row, *counts| for (row, counts) |*quick, *count| {
                for (quick[0..count.load(.monotonic, .quick)]) |run| {
                    const index = pool.table.at(run.region).run;
                    const block = blockOf(pool, index);
                    block.live.clearRange(run.page, run.pages);
                    block.used -= run.pages;
                    if (settle(pool, cache, index, block, run.pages)) {
                        block.next.store(empties, .monotonic, .chain_link);
                        empties = index;
                    }
                }
                count.store(0, .monotonic, .quick);
            };
            return empties;
        }

        // ---- freeing

        /// Ends a lease of pages. `thread` is null for callers without an index.
        pub fn free(pool: *Pool, thread: ?u32, run: Run, bytes: usize, leased: bool) void {
            const cache = if (thread) |t| pool.cacheOf(t) else null;
            const block = blockOf(pool, pool.table.at(run.region).run);
            const locked = block.locked.isSet(run.page);
            if (leased) {
                if (cache) |own| if (!locked and giveWarm(own, run, bytes)) return pool.wakeIfAsleep();
                pool.uncount(cache, bytes);
                pool.addTotal(cache, .live_beside, minus_one);
            }
            if (locked) unlockPages(pool, block, run);
            clear(pool, thread, run);
            pool.wakeIfAsleep();
        }

        /// Frees the pages of a live run beyond the first `keep`. The figures are the caller's.
        pub fn shrink(pool: *Pool, thread: u32, run: Run, keep: u16) void {
            const tail: Run = .{ .region = run.region, .page = run.page + keep, .pages = run.pages - keep };
            const block = blockOfRun(pool, run);
            if (block.locked.isSet(tail.page)) unlockPages(pool, block, tail);
            clear(pool, thread, tail);
            pool.wakeIfAsleep();
        }

        /// Marks the pages of a run as free, on any thread.
        noinline fn clear(pool: *Pool, thread: ?u32, run: Run) void {
            const region = pool.table.at(run.region);
            const block_index = region.run;
            const block = blockOf(pool, block_index);
            // Acquire: pairs with the release of the thread that made or adopted the block.
            const owner = region.tie.owner.load(.acquire, .owner);
            if (thread != null and thread.? == owner) {
                const cache = pool.cacheOf(owner).?;
                lockOwn(cache);
                cache.touch();
                block.live.clearRange(run.page, run.pages);
                block.used -= run.pages;
                const empty = settle(pool, cache, block_index, block, run.pages);
                cache.near.lock.leave();
                if (empty) giveBlock(pool, thread, block_index);
                return;
            }
            // Until the visit is over the block is neither given back nor used anew. The release in
            // `setFreed` orders it: who takes the bits in sees the visitor.
            _ = block.visitors.fetchAdd(1, .monotonic, .run_visit);
            setFreed(block, run);
            // Of all who freed since the owner last looked, one announces.
            if (block.notified.swap(1, .acq_rel, .run_notify) == 0) announce(pool, run.region);
            // Release: pairs with the acquire in `isAlone`.
            _ = block.visitors.fetchSub(1, .release, .run_leave);
        }

        /// Puts the block on its owner's stack. The caller has set `notified`, so it alone does this.
        noinline fn announce(pool: *Pool, region_index: u32) void {
            const region = pool.table.at(region_index);
            const block = blockOf(pool, region.run);
            while (true) {
                const owner = region.tie.owner.load(.acquire, .owner);
                if (owner != regions.nobody) if (pool.cacheIfAny(owner)) |cache| {
                    if (cache.runs.notified.push(pool.table, region_index)) return;
                };
                // The block is an orphan, or about to be: its adopter takes the bits in, unless it
                // has done so before they were set. Then, by the exchange below, which sees all who
                // relied on us, its store of the owner is seen here.
                _ = block.notified.swap(0, .acq_rel, .run_notify);
                if (region.tie.owner.load(.acquire, .owner) == owner) return;
                if (block.notified.swap(1, .acq_rel, .run_notify) != 0) return;
            }
        }

        /// Nobody but the owner will touch a block whose pages are all free. The owner has taken the
        /// bits in before: no visitor can come any more.
        fn isAlone(block: *B) bool {
            // Acquire: pairs with the release of the last visitor; its announcement is seen below.
            if (block.visitors.load(.acquire, .run_alone) != 0) return false;
            return block.notified.load(.acquire, .run_alone) == 0;
        }

        fn setFreed(block: *B, run: Run) void {
            var page: u32 = run.page;
            var left: u32 = run.pages;
            while (left != 0) {
                const shift: u6 = @intCast(page % 64);
                const n = @min(left, 64 - @as(u32, shift));
                const mask = (~@as(u64, 0) >> @intCast(64 - n)) << shift;
                // Release: the owner's swap in `takeBits` sees what the tenant did before. Acquire:
                // if the swap came first, the load of the owner in `clear` sees who swapped.
                _ = block.freed[page / 64].fetchOr(mask, .acq_rel, .run_free);
                page += n;
                left -= n;
            }
        }

        /// Inside the owner's lock: takes in what others freed in the blocks that were announced.
        /// Returns the blocks that became empty, linked, for `giveBlocks` outside the lock.
        noinline fn takeIn(pool: *Pool, cache: *Cache) u32 {
            var empties: u32 = none;
            const me = @as(regions.Tenancy, @bitCast(cache.near.home)).owner;
            var region_index = cache.runs.notified.takeAll() orelse return none;
            while (region_index != none) {
                const region = pool.table.at(region_index);
                const following = pool.table.next(region_index).load(.monotonic, .chain_link);
                if (region.tie.owner.load(.acquire, .owner) != me) {
                    // Of a thread that had this index before.
                    announce(pool, region_index);
                    region_index = following;
                    continue;
                }
                const index = region.run;
                const block = blockOf(pool, index);
                // An exchange: whoever found 1 here relied on us, and its bits are seen below.
                _ = block.notified.swap(0, .acq_rel, .run_notify);
                const n = takeBits(block);
                if ((n != 0 or block.used == 0) and settle(pool, cache, index, block, n)) {
                    block.next.store(empties, .monotonic, .chain_link);
                    empties = index;
                }
                region_index = following;
            }
            return empties;
        }

        noinline fn giveBlocks(pool: *Pool, thread: ?u32, first: u32) void {
            var index = first;
            while (index != none) {
                const following = blockOf(pool, index).next.load(.monotonic, .chain_link);
                giveBlock(pool, thread, index);
                index = following;
            }
        }

        /// Moves the bits of `freed` into `live`. The caller owns the block.
        fn takeBits(block: *B) u32 {
            var n: u32 = 0;
            for (&block.freed, 0..) |*word, i| {
                if (word.load(.monotonic, .run_look) == 0) continue;
                // Acquire: pairs with the release in `setFreed`. Release: see there.
                const bits = word.swap(0, .acq_rel, .run_take);
                block.live.words[i] &= ~bits;
                n += @popCount(bits);
            }
            block.used -= n;
            return n;
        }

        /// Inside the lock, after pages became free: puts the block where it can be found. True if it
        /// is empty and was taken out of its bin: the caller gives it to the pool.
        noinline fn settle(pool: *Pool, cache: *Cache, index: u32, block: *B, freed: u32) bool {
            if (block.used == 0) {
                block.longest = pagesPerBlock();
                const spare = cache.runs.spare.load(.monotonic, .spare);
                if (spare == none) cache.runs.spare.store(index, .monotonic, .spare);
                if (spare == none or spare == index or !isAlone(block)) {
                    bin(pool, cache, index, block);
                    return false;
                }
                unbin(pool, cache, block);
                // From here on it is not the thread's: should that end, it does not become an orphan.
                block.alive.store(0, .monotonic, .run_alive);
                return true;
            }
            // Neighbours may have joined: the longest run is at most all that is free.
            const free_pages = pagesPerBlock() - block.used;
            block.longest = @min(free_pages, 2 * block.longest + freed);
            bin(pool, cache, index, block);
            return false;
        }

        /// Inside the lock: moves the block to the bin of its `longest`, or out of all if it is full.
        noinline fn bin(pool: *Pool, cache: *Cache, index: u32, block: *B) void {
            const wanted: u8 = if (block.longest == 0) bin_none else std.math.log2_int(u32, block.longest);
            if (block.bin == wanted) return;
            unbin(pool, cache, block);
            if (wanted == bin_none) return;
            const head = &cache.runs.heads[block.flavor.index()][wanted];
            block.previous = none;
            block.following = head.*;
            if (head.* != none) blockOf(pool, head.*).previous = index;
            head.* = index;
            block.bin = wanted;
        }

        noinline fn unbin(pool: *Pool, cache: *Cache, block: *B) void {
            if (block.bin == bin_none) return;
            if (block.previous != none)
                blockOf(pool, block.previous).following = block.following
            else
                cache.runs.heads[block.flavor.index()][block.bin] = block.following;
            if (block.following != none) blockOf(pool, block.following).previous = block.previous;
            block.bin = bin_none;
        }

        /// Gives the region of an empty block, which is in no list, back to the pool.
        noinline fn giveBlock(pool: *Pool, thread: ?u32, index: u32) void {
            const block = blockOf(pool, index);
            const region_index = block.region;
            const region = pool.table.at(region_index);
            const page_bytes = Os.pageBytes();
            const was = block.resident.countSet() * page_bytes;
            region.dirty = highest(&block.dirty) * page_bytes;
            region.resident = @max(highest(&block.resident) * page_bytes, region.dirty);
            pool.uncharge(was);
            _ = pool.charged.fetchAdd(region.resident, .monotonic, .charge);
            region.run = none;
            pool.runs.unused.push(&pool.runs, index);
            pool.give(thread, region_index);
        }

        noinline fn highest(bits: *const Bits) usize {
            var i: usize = Bits.words_count;
            while (i != 0) {
                i -= 1;
                if (bits.words[i] != 0) return i * 64 + 64 - @clz(bits.words[i]);
            }
            return 0;
        }

        // ---- locking

        /// Locks the pages of a run; the system joins locked neighbours into one mapping.
        pub fn lockPages(pool: *Pool, block: *B, run: Run, failure: *large_pool.Failure) large_pool.Error!void {
            const bytes = @as(usize, run.pages) * Os.pageBytes();
            try pool.lockRange(@ptrFromInt(addressOf(pool, run)), bytes, splits(block, run), failure);
            markLocked(block, run, true);
        }

        /// Any thread may have adopted the lease it locks: neighbours' bits are in the same words.
        fn markLocked(block: *B, run: Run, comptime to: bool) void {
            var page: u32 = run.page;
            var left: u32 = run.pages;
            while (left != 0) {
                const shift: u6 = @intCast(page % 64);
                const n = @min(left, 64 - @as(u32, shift));
                const mask = (~@as(u64, 0) >> @intCast(64 - n)) << shift;
                const word = &block.locked.words[page / 64];
                _ = if (to)
                    @atomicRmw(u64, word, .Or, mask, .monotonic)
                else
                    @atomicRmw(u64, word, .And, ~mask, .monotonic);
                page += n;
                left -= n;
            }
        }

        pub fn unlockPages(pool: *Pool, block: *B, run: Run) void {
            const bytes = @as(usize, run.pages) * Os.pageBytes();
            markLocked(block, run, false);
            pool.unlockRange(@ptrFromInt(addressOf(pool, run)), bytes, splits(block, run));
        }

        fn splits(block: *const B, run: Run) i64 {
            const end = run.page + run.pages;
            const before = run.page != 0 and block.locked.isSet(run.page - 1);
            const after = end < Bits.bits_count and block.locked.isSet(end);
            return 2 - 2 * (@as(i64, @intFromBool(before)) + @intFromBool(after));
        }

        /// The block of a leased run, for `lock` and `unlock` on a live lease.
        pub fn blockOfRun(pool: *Pool, run: Run) *B {
            return blockOf(pool, pool.table.at(run.region).run);
        }

        // ---- ends

        /// The thread is gone: its blocks become orphans, empty ones go back to the pool.
        pub fn orphan(pool: *Pool, cache: *Cache, thread: u32) void {
            // Whoever frees from now on finds the stack closed and leaves the bits for the adopter.
            const announced = cache.runs.notified.close();
            const shared = &pool.runs;
            if (shared.blocks.load(.acquire, .blocks) == null) return;
            lockOwn(cache);
            const empties = flushQuick(pool, cache, none);
            cache.runs.spare.store(none, .monotonic, .spare);
            for (&cache.runs.heads) |*row| @memset(row, none);
            shared.lock.acquire();
            // Full blocks are in no bin, so all blocks are looked at; threads end rarely.
            for (0..@min(shared.top.load(.monotonic, .top), blocks_max)) |i| {
                const index: u32 = @intCast(i);
                const block = blockOf(pool, index);
                if (block.alive.load(.monotonic, .run_alive) == 0 or block.orphaned) continue;
                if (pool.table.at(block.region).tie.owner.load(.monotonic, .owner) != thread) continue;
                block.bin = bin_none;
                block.orphaned = true;
                // The index is used again: the next thread that has it does not own these.
                pool.table.at(block.region).tie.owner.store(regions.nobody, .release, .owner);
                block.next.store(shared.orphans, .monotonic, .orphan_link);
                @atomicStore(u32, &shared.orphans, index, .monotonic);
            }
            // What was announced here: nothing to do for orphans, the rest goes to its owner.
            var region_index = announced orelse none;
            while (region_index != none) {
                const following = pool.table.next(region_index).load(.monotonic, .chain_link);
                announce(pool, region_index);
                region_index = following;
            }
            shared.lock.release();
            cache.near.lock.leave();
            giveBlocks(pool, null, empties);
            reclaimOrphans(pool);
        }

        /// An orphan of the flavor that can hold the request becomes the thread's.
        noinline fn adopt(pool: *Pool, thread: u32, flavor: Flavor, pages: u32, alignment: u32) ?u32 {
            const shared = &pool.runs;
            if (@atomicLoad(u32, &shared.orphans, .monotonic) == none) return null;
            shared.lock.acquire();
            defer shared.lock.release();
            var previous: u32 = none;
            var index = shared.orphans;
            while (index != none) {
                const block = blockOf(pool, index);
                const following = block.next.load(.monotonic, .orphan_link);
                if (block.flavor == flavor) {
                    _ = takeBits(block);
                    if (block.live.findRunAligned(pages, alignment) != null) {
                        unlinkOrphan(pool, previous, following);
                        const region = pool.table.at(block.region);
                        // The owner first, then the bits once more: see `clear`.
                        region.tie.owner.store(@intCast(thread), .release, .owner);
                        block.orphaned = false;
                        _ = takeBits(block);
                        block.longest = block.live.longestRun();
                        if (region.wraps.load(.acquire, .wraps) != 0) pool.invalidateWraps(region);
                        return index;
                    }
                }
                previous = index;
                index = following;
            }
            return null;
        }

        fn unlinkOrphan(pool: *Pool, previous: u32, following: u32) void {
            if (previous == none)
                @atomicStore(u32, &pool.runs.orphans, following, .monotonic)
            else
                blockOf(pool, previous).next.store(following, .monotonic, .orphan_link);
        }

        /// Gives the regions of empty orphans back to the pool.
        fn reclaimOrphans(pool: *Pool) void {
            const shared = &pool.runs;
            if (@atomicLoad(u32, &shared.orphans, .monotonic) == none) return;
            var empties: u32 = none;
            shared.lock.acquire();
            var previous: u32 = none;
            var index = shared.orphans;
            while (index != none) {
                const block = blockOf(pool, index);
                const following = block.next.load(.monotonic, .orphan_link);
                _ = takeBits(block);
                if (block.used == 0 and isAlone(block)) {
                    unlinkOrphan(pool, previous, following);
                    block.orphaned = false;
                    block.alive.store(0, .monotonic, .run_alive);
                    block.next.store(empties, .monotonic, .chain_link);
                    empties = index;
                } else previous = index;
                index = following;
            }
            shared.lock.release();
            giveBlocks(pool, null, empties);
        }

        /// The thread's runs hold something that could be given back.
        pub noinline fn holds(cache: *const Cache) bool {
            if (!cache.runs.notified.isEmpty() or cache.runs.spare.load(.monotonic, .spare) != none) return true;
            for (&cache.runs.quick_counts) |*counts| for (counts) |*count| {
                if (count.load(.monotonic, .quick) != 0) return true;
            };
            return false;
        }

        /// Takes in what others freed in a resting thread's blocks and gives its empty ones back.
        pub fn reclaimFrom(pool: *Pool, cache: *Cache) void {
            if (!holds(cache) or !cache.near.lock.trySteal()) return;
            var empties = if (cache.runs.notified.isClosed()) none else takeIn(pool, cache);
            empties = flushQuick(pool, cache, empties);
            const spare = cache.runs.spare.load(.monotonic, .spare);
            if (spare != none and isAlone(blockOf(pool, spare))) {
                const block = blockOf(pool, spare);
                unbin(pool, cache, block);
                block.alive.store(0, .monotonic, .run_alive);
                block.next.store(empties, .monotonic, .chain_link);
                empties = spare;
                cache.runs.spare.store(none, .monotonic, .spare);
            }
            cache.near.lock.endSteal();
            giveBlocks(pool, null, empties);
        }

        /// `reclaimFrom` for all threads, and the orphans.
        pub fn reclaim(pool: *Pool) void {
            for (0..pool.caches_top.load(.monotonic, .cache_top)) |thread| {
                const cache = pool.cacheIfAny(@intCast(thread)) orelse continue;
                reclaimFrom(pool, cache);
            }
            reclaimOrphans(pool);
        }

        pub fn metadataBytes(pool: *const Pool) u64 {
            return @as(u64, @min(pool.runs.top.load(.monotonic, .top), blocks_max)) * @sizeOf(B);
        }

        /// Gives back the bookkeeping; no run is leased.
        pub fn deinit(pool: *Pool) void {
            const blocks = pool.runs.blocks.load(.acquire, .blocks) orelse return;
            pool.table.release(@ptrCast(blocks), blocks_max * @sizeOf(B));
            pool.runs = .{};
        }

        /// The owner enters its own lock. A thief is inside for moments only: it holds the lock over
        /// one barrier and a few list operations.
        inline fn lockOwn(cache: *Cache) void {
            while (!cache.near.lock.tryEnter()) Sync.pause();
        }
    };
}
