//! How a large pool gives memory back: trimming on demand, purging by the clock, scrubbing, and the
//! eager return. Everything here is off the hot path.
//!
//! Purging by the clock takes from the shared dirty stacks only what nobody needed for a while: of
//! the regions that lay there `window` ticks ago, those that cannot have been taken since (the count
//! then, less all that was popped in between; a lower bound that needs no bookkeeping on the hot
//! path). So a steady loop causes no advice, and an idle pool is clean after a second. A thread's
//! cache that did nothing for `idle_ticks_max` ticks is emptied into the shared stacks first,
//! and as much is purged at once: it has waited long enough.
//!
//! Invariant: a region is purged, zeroed or unmapped only while this code holds it: it is in no list.
//!
//! Cost: a tick reads 10 counters a class and thread; a purge is one madvise a run of neighbours.
//! Threads: `tick` from one thread at a time; `trim` from any, one at a time, the others return 0.

const std = @import("std");
const ds = @import("../ds/ds.zig");
const os = @import("../os/os.zig");
const regions = @import("../region/region.zig");
const large_cache = @import("large_cache.zig");

const classes = large_cache.classes;
const none = regions.none;
const Flavor = regions.Flavor;
const region_splits = @import("large_pool.zig").region_splits;

/// Ticks that a dirty region must have been unneeded in the shared stack.
pub const window = 4;
/// Ticks after which an unused thread cache is emptied.
pub const idle_ticks_max = 10;
/// Ticks of rest before the scrubber touches a thread's cache.
const scrub_ticks = 1;
/// Regions sorted and advised together.
const batch_max = 64;

/// What `tick` remembers between calls; its caller is the only user.
pub const State = struct {
    counts: [classes][window]u64 = @splat(@splat(0)),
    pops: [classes][window]u64 = @splat(@splat(0)),
    ticks: u64 = 0,
};

/// What a tick leaves behind.
pub const Rest = enum {
    /// Nothing is dirty or cached: the clock may stop until someone frees.
    clean,
    /// Look again after the interval.
    more,
};

pub fn Purge(comptime Pool: type) type {
    const Table = Pool.Regions;
    const Os = Pool.System;
    const Cache = Pool.Cache;
    return struct {
        /// Gives back all that is free: unmaps areas that are wholly free and unwrapped, purges the
        /// rest. Returns the bytes that were resident there.
        pub fn trim(pool: *Pool) u64 {
            // Acquire/release of `trimming`: the areas' `collected` belong to one trimmer at a time.
            if (pool.trimming.swap(1, .acquire, .trim_enter) != 0) return 0;
            defer pool.trimming.store(0, .release, .trim_leave);
            Pool.Runs.reclaim(pool);
            // All of them first: they end in the owners' remote stacks.
            for (0..pool.caches_top.load(.monotonic, .cache_top)) |thread|
                if (pool.cacheIfAny(@intCast(thread))) |cache| pool.emptyLane(cache);
            var bytes: u64 = 0;
            for (0..ds.rolled(classes)) |class| {
                const first = collect(pool, class);
                if (first == none) continue;
                bytes += giveBack(pool, class, first);
            }
            return bytes;
        }

        /// Takes every free region of a class into one chain.
        fn collect(pool: *Pool, class: usize) u32 {
            const table = pool.table;
            var chain: u32 = none;
            const top = pool.caches_top.load(.monotonic, .cache_top);
            for (0..top) |thread| {
                const cache = pool.cacheIfAny(@intCast(thread)) orelse continue;
                // Remote stacks hold all classes: what is not of this one goes to the shared stacks.
                pool.shareChain(null, if (cache.remote.isClosed()) null else cache.remote.takeAll());
                if (cache.keptOf(class) == 0) continue;
                if (!cache.near.lock.trySteal()) continue;
                cache.layDown();
                chain = popAll(pool, cache, class, 0, true, chain);
                cache.near.lock.endSteal();
            }
            for (pool.stacks[class][0..ds.rolled(Flavor.count)]) |*stacks| {
                inline for (
                    .{ &stacks.dirty, &stacks.zeroed, &stacks.clean },
                    .{ .dirty_out, .dirty_out, .clean_out },
                ) |stack, event| {
                    var index = stack.takeAll(table) orelse none;
                    var count: u64 = 0;
                    while (index != none) : (count += 1) {
                        const following = table.next(index).load(.monotonic, .chain_link);
                        chain = link(table, index, chain);
                        index = following;
                    }
                    if (count != 0) pool.foreign.countShared(class, event, count);
                }
            }
            return chain;
        }

        /// Inside the lock: what a list has of a class beyond `keep`, as a chain that ends in `rest`.
        noinline fn popAll(pool: *Pool, cache: *Cache, class: usize, keep: u32, aliases: bool, rest: u32) u32 {
            var chain = rest;
            for (0..ds.rolled(Flavor.count)) |f| {
                const flavor: Flavor = @bitCast(@as(u8, @intCast(f)));
                if (flavor.alias and !aliases) continue;
                while (cache.countOf(class) > keep)
                    chain = link(pool.table, cache.pop(pool.table, class, flavor) orelse break, chain);
            }
            return chain;
        }

        inline fn link(table: *Table, index: u32, to: u32) u32 {
            table.next(index).store(to, .monotonic, .chain_link);
            return index;
        }

        fn giveBack(pool: *Pool, class: usize, first: u32) u64 {
            const table = pool.table;
            var index = first;
            while (index != none) : (index = table.next(index).load(.monotonic, .chain_link)) {
                const region = table.at(index);
                // Acquire: pairs with the release of the deallocator that dropped the last wrap.
                if (region.wraps.load(.acquire, .wraps) == 0) table.areas[region.area].collected += 1;
            }
            var bytes: u64 = 0;
            var kept: u32 = none;
            index = first;
            while (index != none) {
                const following = table.next(index).load(.monotonic, .chain_link);
                const region = table.at(index);
                const area = table.areas[region.area];
                bytes += region.resident;
                if (area.collected == area.regions and !(ds.fault("never-unmapped") and !pool.ending)) {
                    // The area goes as a whole, when its last region comes by.
                    region.become(.unused);
                    if (lastOfArea(table, &area)) {
                        if (!tryUnmapArea(pool, region.area)) kept = reviveArea(pool, &area, kept);
                    }
                } else kept = link(table, index, kept);
                index = following;
            }
            index = kept;
            while (index != none) : (index = table.next(index).load(.monotonic, .chain_link))
                table.areas[table.at(index).area].collected = 0;
            var rest: ds.Chain = .{ .first = kept };
            purgeChain(pool, class, &rest, .dont_need, &pool.foreign, true);
            return bytes;
        }

        fn lastOfArea(table: *Table, area: *const regions.Area) bool {
            for (0..area.regions) |i| {
                if (table.tenancyOf(area.at(i)).state != .unused) return false;
            }
            return true;
        }

        /// The system refused to unmap: the regions stay in use.
        fn reviveArea(pool: *Pool, area: *const regions.Area, kept: u32) u32 {
            var chain = kept;
            for (0..area.regions) |i| {
                const index = area.at(i);
                pool.table.at(index).become(.free);
                chain = link(pool.table, index, chain);
            }
            return chain;
        }

        /// Unmaps an area whose regions the caller holds. The bookkeeping goes first, so that nobody
        /// can find a region that is not mapped; it comes back if the system refuses.
        fn tryUnmapArea(pool: *Pool, area_index: u32) bool {
            const table = pool.table;
            const area = table.areas[area_index];
            var resident: u64 = 0;
            var locked: u64 = 0;
            for (0..area.regions) |i| {
                const region = table.at(area.at(i));
                resident += region.resident;
                locked += region.locked;
                if (region.lazy) {
                    region.lazy = false;
                    _ = pool.lazy_bytes.fetchSub(region.dirty, .monotonic, .count);
                }
                unlockBefore(pool, region);
            }
            const huge = area.kind == @intFromEnum(regions.PageKind.hugetlb);
            table.hideArea(area_index);
            if (Os.unmap(@ptrFromInt(area.address), area.bytes) != 0) {
                table.showArea(area_index);
                _ = pool.refusals.fetchAdd(1, .monotonic, .count);
                return false;
            }
            if (area.file >= 0) Os.closeShared(area.file);
            const class: usize = area.class;
            table.dropArea(area_index);
            _ = table.mappings.fetchSub(1, .monotonic, .count);
            pool.uncharge(resident);
            if (huge and area.file < 0) _ = pool.huge_bytes.fetchSub(area.bytes, .monotonic, .count);
            _ = pool.mapped_bytes.fetchSub(area.bytes, .monotonic, .count);
            _ = pool.areas[class].fetchSub(1, .monotonic, .areas);
            _ = pool.area_regions[class].fetchSub(area.regions, .monotonic, .areas);
            _ = pool.area_bytes[class].fetchSub(area.bytes, .monotonic, .areas);
            // Growth starts again when nothing of the class is left.
            if (pool.areas[class].load(.monotonic, .areas) == 0)
                pool.last_area[class].store(0, .monotonic, .areas);
            return true;
        }

        /// `tryUnmapArea` for a caller that has nowhere else to put the region.
        pub fn unmapArea(pool: *Pool, area_index: u32) void {
            const area = pool.table.areas[area_index];
            if (tryUnmapArea(pool, area_index)) return;
            pool.share(null, area.first_region);
        }

        /// Purges the regions of a chain and pushes them onto the clean stacks. The figures go to
        /// `counters`, with shared adds where `shared`.
        noinline fn purgeChain(
            pool: *Pool,
            class: usize,
            chain: *ds.Chain,
            advice: os.Advice,
            counters: anytype,
            comptime shared: bool,
        ) void {
            const table = pool.table;
            var index = chain.first;
            while (index != none) {
                var batch: [batch_max]u32 = undefined;
                var n: usize = 0;
                while (index != none and n < batch_max) {
                    const each = index;
                    index = table.next(index).load(.monotonic, .chain_link);
                    if (table.at(each).flavor.kind == .hugetlb) {
                        releaseHuge(pool, class, each);
                    } else {
                        batch[n] = each;
                        n += 1;
                    }
                }
                purgeBatch(pool, batch[0..n], advice);
                var clean: u64 = 0;
                for (batch[0..n]) |each| {
                    const region = table.at(each);
                    region.flavor = .{
                        .kind = region.flavor.kind,
                        .alias = region.wraps.load(.acquire, .wraps) != 0,
                    };
                    const stacks = &pool.stacks[class][region.flavor.index()];
                    // What refused to go is still dirty and resident, and is tried again.
                    if (region.resident != 0) {
                        if (ds.fault("refusal-loses")) continue;
                        stacks.dirty.push(table, each);
                    } else {
                        stacks.clean.push(table, each);
                        clean += 1;
                    }
                }
                if (shared) {
                    counters.countShared(class, .clean_in, clean);
                    counters.countShared(class, .dirty_in, n - clean);
                } else {
                    counters.count(class, .clean_in, clean);
                    counters.count(class, .dirty_in, n - clean);
                }
            }
        }

        /// Explicit huge pages are never advised away, since their next touch could be a SIGBUS: the
        /// region is unmapped, or stays as it is while an ArrayBuffer shows it.
        fn releaseHuge(pool: *Pool, class: usize, index: u32) void {
            const region = pool.table.at(index);
            if (region.wraps.load(.acquire, .wraps) == 0) return unmapArea(pool, region.area);
            pool.stacks[class][region.flavor.index()].dirty.push(pool.table, index);
            pool.foreign.countShared(class, .dirty_in, 1);
        }

        /// One advice for each run of neighbouring regions.
        noinline fn purgeBatch(pool: *Pool, batch: []u32, advice: os.Advice) void {
            const table = pool.table;
            // Short, nearly sorted, and a tenth of the code of a general sort.
            std.sort.insertion(u32, batch, table, struct {
                fn less(t: *Table, a: u32, b: u32) bool {
                    return t.at(a).address < t.at(b).address;
                }
            }.less);
            var start: usize = 0;
            while (start < batch.len) {
                var end = start + 1;
                const from = table.at(batch[start]).address;
                var to = from + extent(table.at(batch[start]));
                unlockBefore(pool, table.at(batch[start]));
                while (end < batch.len) : (end += 1) {
                    const region = table.at(batch[end]);
                    const last = table.at(batch[end - 1]);
                    if (last.address + last.bytes != region.address) break;
                    unlockBefore(pool, region);
                    if (extent(region) != 0) to = region.address + extent(region);
                }
                if (to > from) purgeRange(pool, batch[start..end], from, to - from, advice);
                start = end;
            }
        }

        /// Bytes of a region's prefix that a purge must cover.
        fn extent(region: *const Pool.Region) usize {
            return @max(region.resident, region.dirty);
        }

        fn unlockBefore(pool: *Pool, region: *Pool.Region) void {
            if (region.locked == 0 or (ds.fault("purge-locked") and !pool.ending)) return;
            pool.unlockRange(@ptrFromInt(region.address), region.locked, region_splits);
            region.locked = 0;
        }

        fn purgeRange(pool: *Pool, batch: []const u32, from: usize, bytes: usize, advice: os.Advice) void {
            const table = pool.table;
            const said: os.Advice = if (ds.fault("purge-lazily")) .lazy_free else advice;
            if (pool.tryAdvise(@ptrFromInt(from), bytes, said) != 0) return;
            if (!Os.works(advice)) return;
            for (batch) |index| {
                const region = table.at(index);
                if (region.wraps.load(.acquire, .wraps) != 0) pool.invalidateWraps(region);
                pool.uncharge(region.resident);
                region.resident = 0;
                if (advice == .lazy_free) {
                    // Old bytes or zeros: still to be cleared before a zeroed lease.
                    if (!region.lazy) _ = pool.lazy_bytes.fetchAdd(region.dirty, .monotonic, .count);
                    region.lazy = true;
                    region.tie.owner.store(regions.nobody, .monotonic, .owner);
                } else {
                    if (region.lazy) _ = pool.lazy_bytes.fetchSub(region.dirty, .monotonic, .count);
                    region.lazy = false;
                    region.dirty = 0;
                }
            }
        }

        /// The thread that frees gives back at once what exceeds its share.
        pub fn eager(pool: *Pool, cache: *Cache, class: usize, chain: *ds.Chain) void {
            cache.counters.count(class, .cleared_eager, chain.count);
            purgeChain(pool, class, chain, .dont_need, &cache.counters, false);
        }

        // ---- by the clock

        /// One tick of the background clock.
        pub fn tick(pool: *Pool) Rest {
            var rest: Rest = .clean;
            var aged: [classes]u64 = @splat(0);
            if (age(pool, &aged)) rest = .more;
            var budget = pool.clock.get(.purge_bytes);
            var scrub = pool.clock.get(.scrub_bytes);
            const state = &pool.purge;
            const now = state.ticks % window;
            for (0..ds.rolled(classes)) |class| {
                const popped = pool.event(class, .dirty_out);
                const count = pool.event(class, .dirty_in) -% popped;
                // Of those that lay here `window` ticks ago, at least this many were never needed.
                const used = popped -% state.pops[class][now];
                const unneeded = @min(count, (state.counts[class][now] -| used) + aged[class]);
                state.pops[class][now] = popped;
                state.counts[class][now] = count;
                if (count == 0) continue;
                rest = .more;
                if (scrub != 0) scrub = scrubClass(pool, class, scrub);
                if (unneeded != 0) budget = purgeClass(pool, class, unneeded, budget);
            }
            state.ticks += 1;
            return rest;
        }

        noinline fn purgeClass(pool: *Pool, class: usize, unneeded: u64, budget: u64) u64 {
            const each = Pool.classBytes(class);
            var left = budget;
            var wanted = unneeded;
            for (pool.stacks[class][0..ds.rolled(Flavor.count)]) |*stacks| {
                while (wanted != 0 and left != 0) {
                    // At least one region a tick, however large.
                    const max: u32 = @intCast(@min(wanted, @max(1, left / each), batch_max));
                    var chain: ds.Chain = .{};
                    if (stacks.dirty.popMany(pool.table, max, &chain) == 0 and
                        stacks.zeroed.popMany(pool.table, max, &chain) == 0) break;
                    wanted -= chain.count;
                    left -|= chain.count * each;
                    pool.background.count(class, .dirty_out, chain.count);
                    pool.background.count(class, .cleared_slow, chain.count);
                    const lazy = pool.clock.get(.lazy) != 0 and Os.works(.lazy_free);
                    purgeChain(pool, class, &chain, if (lazy) .lazy_free else .dont_need, &pool.background, false);
                }
            }
            return left;
        }

        /// Empties the caches of threads that rest, and counts what was in their lists. True if some
        /// cache held anything.
        noinline fn age(pool: *Pool, aged: *[classes]u64) bool {
            var some = false;
            for (0..pool.caches_top.load(.monotonic, .cache_top)) |thread| {
                const cache = pool.cacheIfAny(@intCast(thread)) orelse continue;
                const activity = cache.activityNow();
                if (activity != cache.seen) {
                    cache.seen = activity;
                    cache.idle_ticks = 0;
                } else cache.idle_ticks +|= 1;
                const held = holds(cache);
                if (!held) continue;
                some = true;
                pool.emptyLane(cache);
                for (0..ds.rolled(classes)) |class| shareSurplus(pool, cache, class);
                if (pool.clock.get(.scrub_bytes) != 0 and cache.idle_ticks == scrub_ticks)
                    emptyDirty(pool, cache);
                if (cache.idle_ticks < idle_ticks_max or ds.fault("never-aged")) continue;
                empty(pool, cache, aged);
            }
            return some;
        }

        /// Something is cached or dirty: a tick would have something to do, now or later.
        pub fn hasWork(pool: *Pool) bool {
            for (0..pool.caches_top.load(.monotonic, .cache_top)) |thread| {
                const cache = pool.cacheIfAny(@intCast(thread)) orelse continue;
                if (holds(cache)) return true;
            }
            for (&pool.stacks) |*row| for (row[0..ds.rolled(Flavor.count)]) |*stacks| {
                if (!stacks.dirty.isEmpty() or !stacks.zeroed.isEmpty()) return true;
            };
            return false;
        }

        noinline fn holds(cache: *const Cache) bool {
            if (!cache.remote.isEmpty() or !cache.lane.isEmpty() or Pool.Runs.holds(cache)) return true;
            for (cache.rows[0..ds.rolled(classes)]) |*row| if (row.count.load(.monotonic, .cache_count) != 0) return true;
            return cache.inHand();
        }

        /// Moves what a thread's lists hold of a class beyond its share to the shared stack.
        noinline fn shareSurplus(pool: *Pool, cache: *Cache, class: usize) void {
            const max = pool.localMax(class);
            if (cache.keptOf(class) <= max or !cache.near.lock.trySteal()) return;
            cache.layDown();
            const chain = popAll(pool, cache, class, max, true, none);
            cache.near.lock.endSteal();
            pool.shareChain(null, if (chain == none) null else chain);
        }

        /// Moves a resting thread's regions to the shared stacks.
        noinline fn empty(pool: *Pool, cache: *Cache, aged: *[classes]u64) void {
            pool.emptyLane(cache);
            if (!cache.remote.isClosed()) pool.shareChain(null, cache.remote.takeAll());
            Pool.Runs.reclaimFrom(pool, cache);
            if (!cache.near.lock.trySteal()) return;
            cache.layDown();
            var chain: u32 = none;
            for (aged[0..ds.rolled(classes)], 0..) |*count, class| {
                count.* += cache.countOf(class);
                chain = popAll(pool, cache, class, 0, true, chain);
            }
            cache.near.lock.endSteal();
            pool.shareChain(null, if (chain == none) null else chain);
        }

        /// As `empty`, for regions that the scrubber may zero.
        noinline fn emptyDirty(pool: *Pool, cache: *Cache) void {
            if (!cache.near.lock.trySteal()) return;
            cache.layDown();
            var chain: u32 = none;
            for (0..ds.rolled(classes)) |class| chain = popAll(pool, cache, class, 0, false, chain);
            cache.near.lock.endSteal();
            pool.shareChain(null, if (chain == none) null else chain);
        }

        /// Zeroes dirty regions of a class, those without wraps, and marks them known-zero. They stay
        /// resident. Returns what is left of the budget.
        noinline fn scrubClass(pool: *Pool, class: usize, budget: u64) u64 {
            const table = pool.table;
            var left = budget;
            for (pool.stacks[class][0..ds.rolled(Flavor.count)], 0..) |*stacks, f| {
                const flavor: Flavor = @bitCast(@as(u8, @intCast(f)));
                if (flavor.alias or left == 0) continue;
                var chain: ds.Chain = .{};
                const max: u32 = @intCast(std.math.clamp(left / Pool.classBytes(class), 1, batch_max));
                if (stacks.dirty.popMany(table, max, &chain) == 0) continue;
                var index = chain.first;
                while (index != none) : (index = table.next(index).load(.monotonic, .chain_link)) {
                    const region = table.at(index);
                    if (region.dirty == 0 or region.lazy) continue;
                    ds.memory.zero(@as([*]u8, @ptrFromInt(region.address))[0..region.dirty]);
                    left -|= region.dirty;
                    region.dirty = 0;
                    pool.background.add(.scrubbed, 1);
                }
                // Not counted as taken: the purge must go on seeing these as unneeded.
                stacks.zeroed.pushChain(table, chain.first, chain.last);
            }
            return left;
        }
    };
}
