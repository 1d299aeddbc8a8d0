//! Recycled mappings of 2 MiB and more, by power-of-two size class: the large-object pool.
//!
//! A request rounds its address range up to a class, 2^21 to 2^36 bytes; its pages are exact. Free
//! regions wait in the cache of the thread that used them (LIFO, stealable), beyond `local_buffer`
//! bytes in shared stacks, dirty or clean. Nothing found anywhere: a new area of regions is mapped,
//! each area of a class larger than the last. Freed memory keeps its frames and is purged by the
//! clock.
//!
//! In files of their own: the quick ways in `large_warm.zig`, mapping in `large_area.zig`, what a tenant
//! asks for in `large_fit.zig`, sums and the census in `large_figures.zig`, what a thread keeps in
//! `large_cache.zig`, giving back in `large_purge.zig`.
//!
//! After lgalloc 0.7 (size classes, thread caches, stealing, growth), with exact pages, known-zero
//! tracking, natural alignment, a byte limit, locking, and areas that are unmapped again.
//!
//! Invariant: a region is in exactly one of: a cache list, a thread's hand, a shared stack, a remote
//! stack, a lane, a lease, a block of page runs. `charged` is the sum of `resident` over the pool's
//! regions.
//!
//! Cost: a warm pair of take and give takes no locked instruction and no system call, in constant
//! time. Beyond the thread's share, one compare-and-swap for half a cache.
//!
//! Threads: any thread with an index; `give` also without one. No lock is held across a system call.
//!
//! When not: below 1 MiB use page runs; for memory that other processes share.

const std = @import("std");
const ds = @import("../ds/ds.zig");
const os = @import("../os/os.zig");
const regions = @import("../region/region.zig");
const large_cache = @import("large_cache.zig");
const large_purge = @import("large_purge.zig");
const page_run = @import("page_run.zig");

const Flavor = regions.Flavor;
const Tenancy = regions.Tenancy;
const Hot = large_cache.Hot;
const PageKind = regions.PageKind;
const none = regions.none;
pub const classes = large_cache.classes;
pub const class_shift_min = large_cache.class_shift_min;
pub const threads_max = 1024;
/// Largest alignment that can be asked for.
pub const align_max: usize = 1 << 30;
/// How much more than its share a thread's list may hold until the next tick, so that a thread that
/// goes beyond exchanges many regions with the shared stacks at once.
const surplus_regions_max = 16;
/// Part of the system's mapping limit that the engine leaves to the rest of the process.
pub const mappings_spare: u64 = 4096;

/// Mappings that locking a region's prefix adds.
pub const region_splits = 2;

pub const Error = error{
    OutOfMemory,
    Limit,
    SizeClass,
    Disabled,
    Unaligned,
    LockLimit,
    HugeUnavailable,
};
pub const FreeError = error{ Foreign, DoubleFree };

pub const LockWish = enum { none, attempt, require };

pub const Request = struct {
    bytes: usize,
    /// Power of two, 0 for a page.
    alignment: usize = 0,
    /// Null: THP where it works.
    kind: ?PageKind = null,
    lock: LockWish = .none,
    alias: bool = false,
    zero: bool = false,
    prefault: bool = false,
};

/// Why the last request of a thread failed, for the message.
pub const Failure = struct {
    errno: u16 = 0,
    call: os.SystemCall = .none,
    requested: u64 = 0,
    bound: u64 = 0,
    current: u64 = 0,
};

pub const ForkPolicy = enum { copy, omit, wipe };

pub const Options = struct {
    enabled: bool = true,
    limit_bytes: ?u64 = null,
    local_buffer_bytes: u64 = 32 << 20,
    growth_dampener: u32 = 0,
    eager_return: bool = false,
    background: bool = true,
    interval_ms: u32 = 100,
    purge_bytes: u64 = 256 << 20,
    lazy: bool = false,
    scrub_bytes: u64 = 0,
    kind: ?PageKind = null,
    /// Regions are files without names (memfd), so that they can be sent without a copy. They are
    /// mapped as asked and unmapped whole, as explicit huge pages are, and `kind` says so.
    shared: bool = false,
    fork: ForkPolicy = .copy,
};

/// Lets those who free wake a background thread that sleeps because all was clean.
pub fn Sleeper(comptime Sync: type) type {
    return struct {
        asleep: Sync.Atomic(u32) = .init(0),
        wake: *const fn () void,
        /// Raised when a region that JavaScript may have wrapped was purged.
        purges: *Sync.Atomic(u32),
    };
}

/// The options that the background thread reads while others may change them.
pub fn Clock(comptime Sync: type) type {
    return struct {
        /// 1: the pool wants to be ticked.
        wanted: Sync.Atomic(u32),
        interval_ms: Sync.Atomic(u32),
        purge_bytes: Sync.Atomic(u64),
        scrub_bytes: Sync.Atomic(u64),
        lazy: Sync.Atomic(u32),

        const Self = @This();

        fn of(options: *const Options) Self {
            return .{
                .wanted = .init(@intFromBool(options.background)),
                .interval_ms = .init(options.interval_ms),
                .purge_bytes = .init(options.purge_bytes),
                .scrub_bytes = .init(options.scrub_bytes),
                .lazy = .init(@intFromBool(options.lazy)),
            };
        }

        fn set(self: *Self, options: *const Options) void {
            const now: Self = .of(options);
            inline for (@typeInfo(Self).@"struct".fields) |field|
                @field(self, field.name).store(@field(now, field.name).raw, .monotonic, .clock_option);
        }

        /// Reads one option; monotonic, since each stands for itself.
        pub fn get(self: *const Self, comptime which: std.meta.FieldEnum(Self)) @FieldType(@FieldType(Self, @tagName(which)), "raw") {
            return @field(self, @tagName(which)).load(.monotonic, .clock_option);
        }
    };
}

pub fn LargePool(comptime Table: type) type {
    const Os = Table.System;
    const Sync = Table.Synchronisation;
    return struct {
        table: *Table,
        /// Slot of this pool; regions carry it.
        slot: u16,
        options: Options,
        /// What the options mean for the hot path.
        hot: Hot,
        sleeper: *Sleeper(Sync),
        clock: Clock(Sync),
        caches: [threads_max]Sync.Atomic(?*Cache) = @splat(.init(null)),
        /// Threads with a cache are below this.
        caches_top: Sync.Atomic(u32) = .init(0),
        stacks: [classes][Flavor.count]Stacks = @splat(@splat(.{})),
        /// Figures of threads without an index and of threads that left their cache.
        foreign: large_cache.Counters(Sync) = std.mem.zeroes(large_cache.Counters(Sync)),
        /// Figures of the background thread, its only writer.
        background: large_cache.Counters(Sync) = std.mem.zeroes(large_cache.Counters(Sync)),
        charged: Sync.Atomic(u64) = .init(0),
        locked_bytes: Sync.Atomic(u64) = .init(0),
        huge_bytes: Sync.Atomic(u64) = .init(0),
        lazy_bytes: Sync.Atomic(u64) = .init(0),
        mapped_bytes: Sync.Atomic(u64) = .init(0),
        advice_calls: Sync.Atomic(u64) = .init(0),
        refusals: Sync.Atomic(u64) = .init(0),
        /// Regions of the newest area of a class; areas and regions it has.
        last_area: [classes]Sync.Atomic(u32) = @splat(.init(0)),
        areas: [classes]Sync.Atomic(u32) = @splat(.init(0)),
        area_regions: [classes]Sync.Atomic(u64) = @splat(.init(0)),
        area_bytes: [classes]Sync.Atomic(u64) = @splat(.init(0)),
        runs: page_run.Shared(Table) = .{},
        purge: large_purge.State = .{},
        /// The pool is being taken down; faults brought back for a test stop then.
        ending: bool = false,
        trimming: Sync.Atomic(u32) = .init(0),
        closed: Sync.Atomic(u32) = .init(0),

        const Self = @This();
        pub const Cache = large_cache.Cache(Table);
        pub const Region = Table.Descriptor;
        pub const Runs = page_run.Runs(Self);
        pub const Purge = large_purge.Purge(Self);
        pub const System = Os;
        pub const Regions = Table;
        pub const Synchronisation = Sync;
        pub const Stacks = struct {
            /// May hold old bytes; resident.
            dirty: ds.TaggedStack(Sync) = .{},
            /// Zeroed by the scrubber; resident, counted and purged like the dirty ones.
            zeroed: ds.TaggedStack(Sync) = .{},
            /// Purged or never touched.
            clean: ds.TaggedStack(Sync) = .{},
        };

        pub fn init(table: *Table, slot: u16, sleeper: *Sleeper(Sync), options: Options) Self {
            return .{
                .table = table,
                .slot = slot,
                .sleeper = sleeper,
                .options = options,
                .hot = hotOf(&options),
                .clock = .of(&options),
            };
        }

        fn hotOf(options: *const Options) Hot {
            var hot: Hot = .{
                .enabled = options.enabled,
                .kind = options.kind orelse if (Os.works(.huge)) .thp else .base,
                .warm = undefined,
            };
            hot.warm = if (hot.kind == .hugetlb) Flavor.nothing else @intFromEnum(hot.kind);
            return hot;
        }

        /// Regions of a class that a thread keeps.
        pub fn localMax(self: *const Self, class: usize) u32 {
            return @intCast(@min(self.options.local_buffer_bytes >> @intCast(class + class_shift_min), 1 << 20));
        }

        /// What lies in a list beyond the thread's share may wait for the next tick.
        pub fn ticks(self: *const Self) bool {
            return self.options.background and !self.options.eager_return;
        }

        /// Regions of a class that may lie in a thread's list until the next tick moves what is beyond
        /// `localMax` to the shared stacks. Without ticks, and where all beyond is given back at once,
        /// the same.
        fn listMax(self: *const Self, class: usize) u32 {
            const local = self.localMax(class);
            if (!self.ticks() or local == 0) return local;
            return local + surplus_regions_max;
        }

        fn setHot(self: *const Self, cache: *Cache) void {
            cache.near.hot = self.hot;
            for (cache.rows[0..ds.rolled(classes)], 0..) |*row, class| {
                row.max = self.listMax(class);
                row.off_hand = @intFromBool(row.max == 0 or !self.ticks());
            }
        }

        /// Changes how the pool behaves from now on. One caller at a time.
        pub fn configure(self: *Self, options: Options) void {
            self.options = options;
            self.hot = hotOf(&options);
            self.clock.set(&options);
            for (0..self.caches_top.load(.monotonic, .cache_top)) |thread| {
                if (self.cacheIfAny(@intCast(thread))) |cache| self.setHot(cache);
            }
        }

        /// Class of a request, or why there is none.
        pub fn classOf(bytes: usize, alignment: usize) error{SizeClass}!usize {
            const wanted = @max(bytes, alignment, 1);
            const shift = @max(class_shift_min, std.math.log2_int_ceil(usize, wanted));
            if (shift >= class_shift_min + classes) return error.SizeClass;
            return shift - class_shift_min;
        }

        pub inline fn classBytes(class: usize) usize {
            return @as(usize, 1) << @intCast(class + class_shift_min);
        }

        /// The kind of pages that a request gets if nothing is refused.
        pub fn resolveKind(self: *const Self, wish: ?PageKind) PageKind {
            return wish orelse self.hot.kind;
        }

        pub inline fn cacheIfAny(self: *const Self, thread: u32) ?*Cache {
            // Acquire: pairs with the release in `makeCache`, so that the cache is seen initialised.
            return self.caches[thread].load(.acquire, .cache_find);
        }

        pub inline fn cacheOf(self: *Self, thread: u32) ?*Cache {
            return self.cacheIfAny(thread) orelse self.makeCache(thread);
        }

        fn makeCache(self: *Self, thread: u32) ?*Cache {
            @branchHint(.cold);
            const memory = self.table.metadata(@sizeOf(Cache)) orelse return null;
            const cache: *Cache = @ptrCast(@alignCast(memory));
            cache.init(self.table, thread, self.slot);
            self.setHot(cache);
            // Release: pairs with the acquire in `cacheIfAny` of remote freers and thieves.
            self.caches[thread].store(cache, .release, .cache_publish);
            var top = self.caches_top.load(.monotonic, .cache_top);
            while (top <= thread)
                top = self.caches_top.cmpxchg(top, thread + 1, .monotonic, .monotonic, .cache_top) orelse break;
            return cache;
        }

        // ---- what stands in files of its own

        const warm = @import("large_warm.zig").Warm(Self);
        pub const takeWarm = warm.takeWarm;
        pub const takeHand = warm.takeHand;
        pub const takeListed = warm.takeListed;
        pub const takeShared = warm.takeShared;
        pub const collectFreed = warm.collectFreed;
        pub const collectLane = warm.collectLane;
        pub const giveWarm = warm.giveWarm;
        pub const freeHand = warm.freeHand;
        pub const freeWarm = warm.freeWarm;
        pub const freeFar = warm.freeFar;
        pub const win = warm.win;
        pub const freeFull = warm.freeFull;
        pub const Taken = warm.Taken;
        pub const Freed = warm.Freed;

        const areas_file = @import("large_area.zig").Areas(Self);
        pub const refill = areas_file.refill;
        pub const advise = areas_file.advise;
        pub const tryAdvise = areas_file.tryAdvise;
        pub const destroy = areas_file.destroy;

        const fit = @import("large_fit.zig").Fit(Self);
        pub const prepare = fit.prepare;
        pub const invalidateWraps = fit.invalidateWraps;
        pub const charge = fit.charge;
        pub const chargeBytes = fit.chargeBytes;
        pub const uncharge = fit.uncharge;
        pub const fitLock = fit.fitLock;
        pub const lockRange = fit.lockRange;
        pub const unlockRange = fit.unlockRange;

        const figures = @import("large_figures.zig").Figures(Self);
        pub const total = figures.total;
        pub const census = figures.census;
        pub const live = figures.live;
        pub const addTotal = figures.addTotal;
        pub const event = figures.event;
        pub const allocations = figures.allocations;
        pub const threadRegions = figures.threadRegions;
        pub const metadataBytes = figures.metadataBytes;
        pub const areasCount = figures.areasCount;
        pub const Census = figures.Census;

        // ---- taking

        /// Leases a region for `request`. The caller owns it until `give`.
        pub fn take(self: *Self, thread: u32, request: Request, failure: *Failure) Error!u32 {
            const class = try classOf(request.bytes, request.alignment);
            if (!self.options.enabled) return error.Disabled;
            if (request.alignment > align_max) return error.Unaligned;
            const cache = self.cacheOf(thread) orelse return error.OutOfMemory;
            const want: Flavor = .{
                .kind = self.resolveKind(request.kind),
                .locked = request.lock != .none,
                .alias = request.alias,
            };
            const index = try self.acquire(cache, thread, class, want, request.bytes, failure);
            // Its lease is not the one that the hand knows of.
            if (index == cache.near.hand.load(.monotonic, .cache_hand)) cache.dropHand();
            const region = self.table.at(index);
            self.prepare(thread, region, request, failure) catch |err| {
                @branchHint(.cold);
                self.give(thread, index);
                return err;
            };
            return index;
        }

        /// A free region of the class, from wherever there is one. Its contents and state are as
        /// they were left; the caller fits it to its use.
        pub inline fn acquire(
            self: *Self,
            cache: *Cache,
            thread: u32,
            class: usize,
            want: Flavor,
            bytes: usize,
            failure: *Failure,
        ) Error!u32 {
            cache.rows[class].countAllocation(1);
            if (cache.near.lock.tryEnter()) {
                defer cache.near.lock.leave();
                cache.layDown();
                if (cache.pop(self.table, class, want)) |index| {
                    // Explicit huge pages are mapped exactly: the slow path looks at the length.
                    if (want.kind != .hugetlb) return index;
                    cache.push(self.table, class, want, index);
                }
            }
            return self.takeSlow(cache, thread, class, want, bytes, failure) catch |err| {
                cache.rows[class].countAllocation(std.math.maxInt(u64));
                return err;
            };
        }

        /// Flavors that can serve `want`, best first. A revoke lease never gets an alias region.
        fn substitutes(want: Flavor, out: *[4]Flavor) []const Flavor {
            var n: usize = 0;
            for ([_]bool{ want.locked, false }, 0..) |locked, i| {
                if (i == 1 and !want.locked) break;
                for ([_]bool{ want.alias, false }, 0..) |alias, j| {
                    if (j == 1 and !want.alias) break;
                    out[n] = .{ .kind = want.kind, .locked = locked, .alias = alias };
                    n += 1;
                }
            }
            return out[0..n];
        }

        fn takeSlow(
            self: *Self,
            cache: *Cache,
            thread: u32,
            class: usize,
            want: Flavor,
            bytes: usize,
            failure: *Failure,
        ) Error!u32 {
            @branchHint(.unlikely);
            var space: [4]Flavor = undefined;
            const flavors = substitutes(want, &space);
            const need = pageRound(bytes);
            while (true) {
                const areas_seen = self.areas[class].load(.monotonic, .areas);
                if (self.takeCached(thread, cache, class, flavors)) |index| {
                    // Explicit huge pages are mapped exactly; one that is too small goes.
                    if (self.serves(index, need)) return index;
                    self.destroy(index);
                    continue;
                }
                cache.counters.count(class, .slow_path, 1);
                return self.refill(cache, class, want, need, areas_seen, failure) catch |err| switch (err) {
                    error.Raced => continue,
                    else => |other| return other,
                };
            }
        }

        fn serves(self: *const Self, index: u32, need: usize) bool {
            const region = self.table.at(index);
            if (region.bytes < need) return false;
            if (region.flavor.kind != .hugetlb) return true;
            const area = &self.table.areas[region.area];
            return !area.published and (area.file >= 0) == self.options.shared;
        }

        /// Any free region that will do, nearest first: own lists, own remote stack, shared dirty,
        /// shared clean, other threads.
        fn takeCached(self: *Self, thread: u32, cache: *Cache, class: usize, flavors: []const Flavor) ?u32 {
            self.collectFreed(cache);
            if (self.takeOwn(cache, class, flavors)) |index| return index;
            // The lane may have brought other classes.
            if (!cache.remote.isEmpty()) {
                self.drainRemote(cache);
                if (self.takeOwn(cache, class, flavors)) |index| return index;
            }
            const batch = @max(1, cache.rows[class].max / 2);
            for (flavors) |flavor| {
                const stacks = &self.stacks[class][flavor.index()];
                var chain: ds.Chain = .{};
                if (stacks.zeroed.popMany(self.table, batch, &chain) != 0 or
                    stacks.dirty.popMany(self.table, batch, &chain) != 0)
                {
                    cache.counters.count(class, .dirty_out, chain.count);
                    return self.keepAllButFirst(cache, class, flavor, chain);
                }
                if (stacks.clean.popMany(self.table, batch, &chain) != 0) {
                    cache.counters.count(class, .clean_out, chain.count);
                    return self.keepAllButFirst(cache, class, flavor, chain);
                }
            }
            return self.steal(thread, cache, class, flavors);
        }

        noinline fn takeOwn(self: *Self, cache: *Cache, class: usize, flavors: []const Flavor) ?u32 {
            if (!cache.near.lock.tryEnter()) return null;
            defer cache.near.lock.leave();
            cache.layDown();
            return for (flavors) |flavor| {
                if (cache.pop(self.table, class, flavor)) |index| break index;
            } else null;
        }

        noinline fn keepAllButFirst(self: *Self, cache: *Cache, class: usize, flavor: Flavor, chain: ds.Chain) u32 {
            const first = chain.first;
            if (chain.count == 1) return first;
            const second = self.table.next(first).load(.monotonic, .chain_link);
            _ = self.keepChain(cache, class, flavor, .{ .first = second, .last = chain.last, .count = chain.count - 1 });
            return first;
        }

        /// Puts a chain into the thread's list, or onto the shared stack if a thief is inside: false.
        pub noinline fn keepChain(self: *Self, cache: *Cache, class: usize, flavor: Flavor, chain: ds.Chain) bool {
            if (!cache.near.lock.tryEnter()) {
                @branchHint(.unlikely);
                self.shareWhole(cache, class, flavor, chain);
                return false;
            }
            const head = &cache.rows[class].heads[flavor.index()];
            self.table.next(chain.last).store(head.*, .monotonic, .cache_link);
            head.* = chain.first;
            cache.setCount(class, cache.countOf(class) + chain.count);
            cache.near.lock.leave();
            return true;
        }

        fn shareWhole(self: *Self, cache: *Cache, class: usize, flavor: Flavor, chain: ds.Chain) void {
            self.stacks[class][flavor.index()].dirty.pushChain(self.table, chain.first, chain.last);
            cache.counters.count(class, .dirty_in, chain.count);
        }

        /// Moves what other threads freed into the own lists, the overflow into the shared stacks.
        pub fn drainRemote(self: *Self, cache: *Cache) void {
            self.keepAll(cache, cache.remote.takeAll() orelse return);
        }

        /// Puts free regions of any class into the own lists, the overflow into the shared stacks:
        /// neighbours of one class and flavor together.
        noinline fn keepAll(self: *Self, cache: *Cache, first: u32) void {
            var index = first;
            while (index != none) {
                var chain: ds.Chain = .{ .first = index, .last = index, .count = 1 };
                const class = self.table.at(index).class;
                const flavor = self.table.at(index).flavor;
                const room = cache.rows[class].max -| cache.countOf(class);
                index = self.table.next(index).load(.monotonic, .chain_link);
                while (index != none and chain.count != room) {
                    const other = self.table.at(index);
                    if (other.class != class or other.flavor != flavor) break;
                    chain.last = index;
                    chain.count += 1;
                    index = self.table.next(index).load(.monotonic, .chain_link);
                }
                self.table.next(chain.last).store(none, .monotonic, .chain_link);
                if (room != 0) {
                    _ = self.keepChain(cache, class, flavor, chain);
                } else self.shareChainOf(cache, class, flavor, &chain);
            }
        }

        noinline fn takeDirty(self: *Self, cache: *Cache, class: usize, flavors: []const Flavor) ?u32 {
            for (flavors) |flavor| if (self.stacks[class][flavor.index()].dirty.pop(self.table)) |index| {
                cache.counters.count(class, .dirty_out, 1);
                return index;
            };
            return null;
        }

        noinline fn steal(self: *Self, thread: u32, cache: *Cache, class: usize, flavors: []const Flavor) ?u32 {
            const top = self.caches_top.load(.monotonic, .cache_top);
            if (top < 2) return null;
            const start = cache.random() % top;
            for (0..top) |step| {
                const victim_index = (start + step) % top;
                const victim = self.cacheIfAny(@intCast(victim_index)) orelse continue;
                if (!victim.lane.isEmpty() and victim.lane_owner.load(.monotonic, .lane_owner) == thread) {
                    // Who knows its sender need not come this way the next time.
                    cache.sender.store(@intCast(victim_index), .monotonic, .sender);
                    _ = self.collectLane(cache, victim);
                    if (self.takeOwn(cache, class, flavors)) |index| return index;
                }
                if (victim_index != thread and !victim.remote.isEmpty()) {
                    // Anyone may take a remote stack whole.
                    self.drainRemote(cache);
                    self.shareChain(cache, victim.remote.takeAll());
                    if (self.takeDirty(cache, class, flavors)) |index| return index;
                }
                // What any thread, this one among them, has freed for a third.
                if (!victim.lane.isEmpty()) {
                    var batch: [16]u32 = undefined;
                    for (batch[0..victim.lane.collect(&batch)]) |index| self.share(cache, index);
                    if (self.takeDirty(cache, class, flavors)) |index| return index;
                }
                if (victim_index == thread) continue;
                const count = victim.keptOf(class);
                if (count == 0 or !victim.near.lock.trySteal()) continue;
                victim.layDown();
                var chain: ds.Chain = .{};
                const flavor = for (flavors) |flavor| {
                    chain = victim.popChain(self.table, class, flavor, @max(1, count / 2));
                    if (chain.count != 0) break flavor;
                } else undefined;
                victim.near.lock.endSteal();
                if (chain.count == 0) continue;
                cache.counters.add(.steals, chain.count);
                return self.keepAllButFirst(cache, class, flavor, chain);
            }
            return null;
        }

        // ---- giving back

        /// Ends a lease: the region becomes reusable at once. `thread` is null where the caller has
        /// no index (deallocators on foreign threads).
        pub noinline fn give(self: *Self, thread: ?u32, index: u32) void {
            const region = self.table.at(index);
            const cache = if (thread) |t| self.cacheOf(t) else null;
            region.lease.store(none, .monotonic, .region_lease);
            region.become(.free);
            region.flavor = .{
                .kind = region.flavor.kind,
                .locked = region.locked != 0,
                .alias = region.wraps.load(.acquire, .wraps) != 0,
            };
            if (cache) |own| {
                if (region.tie.owner.load(.monotonic, .owner) == thread.?) self.keep(own, index) else self.giveRemote(own, index);
            } else self.giveRemote(null, index);
            self.wakeIfAsleep();
        }

        /// Takes a leased run out of the live figures.
        pub noinline fn uncount(self: *Self, cache: ?*Cache, bytes: usize) void {
            const negative = 0 -% @as(u64, bytes);
            const pages = 0 -% @as(u64, pageRound(bytes));
            if (cache) |own| {
                own.counters.add(.allocated_bytes, negative);
                own.counters.add(.active_bytes, pages);
            } else {
                self.foreign.addShared(.allocated_bytes, negative);
                self.foreign.addShared(.active_bytes, pages);
            }
        }

        /// Puts a free region into the thread's list; a full list moves half of itself on first.
        pub fn keep(self: *Self, cache: *Cache, index: u32) void {
            const region = self.table.at(index);
            const class = region.class;
            const flavor = region.flavor;
            const max = cache.rows[class].max;
            // One is not worth an exchange.
            if (max <= 1 and cache.countOf(class) >= max) return self.share(cache, index);
            if (!cache.near.lock.tryEnter()) return self.share(cache, index);
            var chain: ds.Chain = .{};
            if (cache.countOf(class) >= max) {
                chain = cache.popChain(self.table, class, flavor, @max(1, max / 2));
                // Full of other flavors.
                if (chain.count == 0) {
                    cache.near.lock.leave();
                    return self.share(cache, index);
                }
            }
            cache.push(self.table, class, flavor, index);
            cache.near.lock.leave();
            if (chain.count != 0) self.shareChainOf(cache, class, flavor, &chain);
        }

        /// Puts a chain of one class and flavor onto the shared stack.
        pub fn shareChainOf(self: *Self, cache: *Cache, class: usize, flavor: Flavor, chain: *ds.Chain) void {
            if (self.options.eager_return) return Purge.eager(self, cache, class, chain);
            self.shareWhole(cache, class, flavor, chain.*);
        }

        /// Puts a free region onto the shared stack.
        pub noinline fn share(self: *Self, cache: ?*Cache, index: u32) void {
            const region = self.table.at(index);
            const class = region.class;
            if (self.options.eager_return) if (cache) |own| {
                var chain: ds.Chain = .{ .first = index, .last = index, .count = 1 };
                self.table.next(index).store(none, .monotonic, .chain_link);
                return Purge.eager(self, own, class, &chain);
            };
            self.stacks[class][region.flavor.index()].dirty.push(self.table, index);
            if (cache) |own| {
                own.counters.count(class, .dirty_in, 1);
            } else self.foreign.countShared(class, .dirty_in, 1);
        }

        /// Returns a region to the thread that leased it; to all if that one is gone.
        pub noinline fn giveRemote(self: *Self, cache: ?*Cache, index: u32) void {
            const owner = self.table.ties[index].owner.load(.monotonic, .owner);
            if (owner != regions.nobody) if (self.cacheIfAny(owner)) |theirs| {
                if (theirs.remote.push(self.table, index)) return;
            };
            self.share(cache, index);
        }

        /// After freeing: a background thread that went to sleep on a clean pool must hear of it.
        pub inline fn wakeIfAsleep(self: *Self) void {
            // Pairs with the heavy fence between the sleeper's flag and its last look at the pools.
            Sync.lightFence();
            if (self.sleeper.asleep.load(.monotonic, .sleeper_look) != 0) {
                @branchHint(.unlikely);
                self.sleeper.wake();
            }
        }

        // ---- the face without handles

        /// A region for a caller that keeps the address. Null: see `failure`.
        pub fn alloc(self: *Self, thread: u32, request: Request, failure: *Failure) Error![*]u8 {
            const index = try self.take(thread, request, failure);
            return @ptrFromInt(self.table.at(index).address);
        }

        /// Frees by address, on any thread with an index. Double and foreign frees are errors, except
        /// when the owner and another thread free the same region at the same moment: callers that
        /// cannot rule that out use handles.
        pub fn free(self: *Self, thread: u32, address: usize) FreeError!void {
            const index = self.table.find(address);
            if (index == none) return error.Foreign;
            const tie = &self.table.ties[index];
            const tenancy = tie.tenancy();
            if (!self.table.begins(address) or tenancy.pool != self.slot) return error.Foreign;
            if (tenancy.state != .leased) return switch (tenancy.state) {
                .free, .hand => error.DoubleFree,
                else => error.Foreign,
            };
            if (tenancy.owner == thread) {
                self.give(thread, index);
                return;
            }
            if (!win(tie, tenancy.bits())) return error.DoubleFree;
            if (self.cacheOf(thread)) |cache| self.giveLane(cache, index) else self.giveRemote(null, index);
            self.wakeIfAsleep();
        }

        /// Returns a region freed by address to its owner: by the lane if it leads there or is unused.
        fn giveLane(self: *Self, cache: *Cache, index: u32) void {
            const owner = self.table.ties[index].owner.load(.monotonic, .owner);
            if (cache.lane_owner.load(.monotonic, .lane_owner) != owner) {
                const theirs = if (owner == regions.nobody) null else self.cacheIfAny(owner);
                if (theirs == null or theirs.?.remote.isClosed() or !cache.lane.isEmpty())
                    return self.giveRemote(cache, index);
                cache.lane_owner.store(owner, .monotonic, .lane_owner);
                theirs.?.sender.store(@as(Tenancy, @bitCast(cache.near.home)).owner, .monotonic, .sender);
            }
            if (!cache.lane.send(index)) self.giveRemote(cache, index);
        }

        /// Brings what lies in a thread's lane to its owners, or to all where they are gone.
        pub noinline fn emptyLane(self: *Self, sender: *Cache) void {
            var batch: [16]u32 = undefined;
            while (true) {
                const count = sender.lane.collect(&batch);
                if (count == 0) return;
                for (batch[0..count]) |index| self.giveRemote(null, index);
            }
        }

        /// Where the leased region around an address begins, if there is one in this pool.
        pub fn startOf(self: *const Self, address: usize) ?usize {
            const index = self.table.find(address);
            if (index == none) return null;
            const region = self.table.at(index);
            return if (region.tie.pool == self.slot) region.address else null;
        }

        /// Changes the length of a lease by address, in place. False if its region is too short.
        pub fn resizeAt(self: *Self, address: usize, bytes: usize) bool {
            const index = self.table.find(address);
            if (index == none) return false;
            const region = self.table.at(index);
            const rounded = pageRound(@max(bytes, 1));
            if (region.address != address or rounded > region.bytes) return false;
            var failure: Failure = .{};
            if (rounded > region.resident) self.charge(region, rounded, &failure) catch return false;
            if (rounded > region.dirty) region.dirty = rounded;
            region.lease_bytes.store(bytes, .monotonic, .lease_bytes);
            return true;
        }

        // ---- ends

        /// A closed pool from which everything is gone serves again, with figures from zero.
        pub fn reopen(self: *Self, options: Options) void {
            self.configure(options);
            self.foreign = std.mem.zeroes(large_cache.Counters(Sync));
            self.background = std.mem.zeroes(large_cache.Counters(Sync));
            self.purge = .{};
            for (0..self.caches_top.load(.monotonic, .cache_top)) |thread| {
                const cache = self.cacheIfAny(@intCast(thread)) orelse continue;
                cache.counters = std.mem.zeroes(large_cache.Counters(Sync));
                for (&cache.rows) |*row| row.allocations.store(0, .monotonic, .count);
            }
            for ([_]*Sync.Atomic(u64){ &self.advice_calls, &self.refusals }) |figure|
                figure.store(0, .monotonic, .count);
        }

        /// The thread is gone (or leaves): its regions go to the shared stacks, its blocks of runs to
        /// the orphans. Called by that thread, or by one that knows it is dead.
        pub fn threadEnded(self: *Self, thread: u32) void {
            const cache = self.cacheIfAny(thread) orelse return;
            if (ds.fault("figures-dip")) for (&cache.rows) |*row| row.allocations.store(0, .monotonic, .count);
            Runs.orphan(self, cache, thread);
            self.emptyLane(cache);
            self.shareChain(cache, cache.remote.close());
            while (!cache.near.lock.tryEnter()) Sync.pause();
            cache.near.lock.bar();
            cache.near.id = 0;
            cache.layDown();
            cache.dropHand();
            var lists: [classes][Flavor.count]u32 = undefined;
            for (lists[0..ds.rolled(classes)], cache.rows[0..classes]) |*list, *row| {
                list.* = row.heads;
                row.heads = @splat(none);
                row.count.store(0, .monotonic, .cache_count);
            }
            cache.near.lock.leave();
            for (&lists) |*list| for (list[0..ds.rolled(Flavor.count)]) |head| self.shareChain(cache, if (head == none) null else head);
            self.wakeIfAsleep();
        }

        /// The index serves a new thread: its cache takes remote frees again.
        pub fn threadStarted(self: *Self, thread: u32) void {
            const cache = self.cacheIfAny(thread) orelse return;
            if (!cache.remote.isClosed()) return;
            cache.remote.open();
            cache.runs.notified.open();
        }

        pub noinline fn shareChain(self: *Self, cache: ?*Cache, first: ?u32) void {
            var index = first orelse return;
            while (index != none) {
                const following = self.table.next(index).load(.monotonic, .chain_link);
                self.share(cache, index);
                index = following;
            }
        }

        /// Unmaps everything, caches included. Only when nothing is leased and no thread is inside.
        pub fn deinit(self: *Self) void {
            self.ending = true;
            _ = Purge.trim(self);
            Runs.deinit(self);
            for (0..self.caches_top.load(.monotonic, .cache_top)) |thread| {
                const cache = self.cacheIfAny(@intCast(thread)) orelse continue;
                self.caches[thread].store(null, .release, .cache_publish);
                self.table.release(@ptrCast(cache), @sizeOf(Cache));
            }
        }

        pub inline fn pageRound(bytes: usize) usize {
            return std.mem.alignForward(usize, bytes, Os.pageBytes());
        }
    };
}
