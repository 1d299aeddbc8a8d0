//! What one thread keeps of one large pool: its free regions by size class and flavor, the stack on
//! which other threads return its regions, and its share of the figures.
//!
//! Invariant: lists and counts are touched inside `lock` only, by the owner (tryEnter, no locked
//! instruction) or by one thief. Counters have a single writer, the owner, and any reader.
//!
//! Cost: 16 KiB of address space a thread and pool, made at the thread's first use of the pool; a page
//! of it is touched for each few classes in use.
//!
//! Threads: owner and thieves as above; `remote` takes pushes from anyone.
//! Not for page runs: those hang off `runs` and have their own file.

const std = @import("std");
const ds = @import("../ds/ds.zig");
const regions = @import("../region/region.zig");

const Flavor = regions.Flavor;
pub const none = regions.none;

/// Size classes are 2^21 to 2^36.
pub const classes = 16;
pub const class_shift_min = 21;

/// Events of one class, counted by one thread; sums over threads give the statistics.
pub const Event = enum(u8) {
    slow_path,
    refill,
    cleared_eager,
    cleared_slow,
    dirty_in,
    dirty_out,
    clean_in,
    clean_out,
};

/// Totals of one pool, counted by one thread. Differences may be negative in one thread: sums wrap.
pub const Total = enum(u8) {
    /// Bytes and pages of leased runs, and their number. Those of regions stand in the descriptors.
    allocated_bytes,
    active_bytes,
    live_beside,
    closing,
    leaked,
    steals,
    scrubbed,
};

pub fn Counters(comptime Sync: type) type {
    return struct {
        events: [std.enums.values(Event).len][classes]Sync.Atomic(u64),
        totals: [std.enums.values(Total).len]Sync.Atomic(u64),

        const Self = @This();

        /// Single writer: a load and a store, no locked instruction.
        pub inline fn count(self: *Self, class: usize, comptime event: Event, n: u64) void {
            const cell = &self.events[@intFromEnum(event)][class];
            cell.store(cell.load(.monotonic, .count) +% n, .monotonic, .count);
        }

        pub inline fn add(self: *Self, comptime which: Total, n: u64) void {
            const cell = &self.totals[@intFromEnum(which)];
            cell.store(cell.load(.monotonic, .count) +% n, .monotonic, .count);
        }

        /// For threads without an index, which share one set of counters.
        pub fn countShared(self: *Self, class: usize, comptime event: Event, n: u64) void {
            _ = self.events[@intFromEnum(event)][class].fetchAdd(n, .monotonic, .count);
        }

        pub fn addShared(self: *Self, comptime which: Total, n: u64) void {
            _ = self.totals[@intFromEnum(which)].fetchAdd(n, .monotonic, .count);
        }

        pub fn of(self: *const Self, class: usize, event: Event) u64 {
            return self.events[@intFromEnum(event)][class].load(.monotonic, .count);
        }

        pub fn total(self: *const Self, which: Total) u64 {
            return self.totals[@intFromEnum(which)].load(.monotonic, .count);
        }
    };
}

/// A lease of pages inside a region; one word, so that it is read and written at once.
pub const Run = packed struct(u64) { region: u32, page: u16, pages: u16 };

/// Options in the form that a warm allocation reads.
pub const Hot = struct {
    enabled: bool,
    /// Kind of pages of a request that does not say.
    kind: regions.PageKind,
    /// Flavor of the lists that a warm operation may use, as a number. For explicit huge pages, which
    /// are mapped exactly and must be looked at, one that no region has.
    warm: u8,
};

pub fn Cache(comptime Table: type) type {
    const Sync = Table.Synchronisation;
    return struct {
        /// What every warm operation looks at.
        near: Near,
        /// Raised by the owner at each operation on page runs, which no event counts.
        activity: Sync.Atomic(u64),
        /// Regions that other threads freed, but for those in the lanes of such threads.
        remote: ds.RemoteStack(Sync),
        /// Regions that this thread freed by address for `lane_owner`, who collects them.
        lane: ds.Lane(Sync, lane_slots),
        /// Written by this thread, and only while the lane is empty.
        lane_owner: Sync.Atomic(u32),
        /// The thread in whose lane this one's regions were seen last. A hint.
        sender: Sync.Atomic(u32),
        /// The lists of each class.
        rows: [classes]Row,
        counters: Counters(Sync),
        /// Page runs of this thread; see page_run.zig.
        runs: RunLists,
        /// Seed of the order in which this thread visits others.
        seed: u32,
        /// Written by the background thread alone: activity last seen and ticks since it moved.
        seen: u64,
        idle_ticks: u32,

        const Self = @This();
        pub const lane_slots = 64;

        /// First in the cache and in one line of it, which also keeps the instructions short.
        pub const Near = struct {
            lock: ds.OwnerLock(Sync) align(128),
            /// The number by which the owner knows the pool; 0 before it has asked the engine.
            id: u32,
            /// Thread and pool as the tenancy of a region of theirs, but for its state.
            home: u32,
            /// The same with the states that warm operations by address look for.
            home_leased: u32,
            home_hand: u32,
            home_free: u32,
            /// The hand: the region that was leased by address last, most often the one that is freed
            /// next and leased again. Freed, it stays here, and its tie says so; a pair is then one store
            /// each way, and nothing that the next pair has to wait for. Written by the owner.
            hand: Sync.Atomic(u32),
            /// Its address, or a number that is no region's while it must not be kept here.
            hand_address: usize,
            /// The length that was leased by address last, with it in hand or not, and the lists of its
            /// class.
            hand_bytes: usize,
            hand_row: *Row,
            /// The length that was leased by handle last, and the lists of its class.
            asked: usize,
            asked_row: *Row,
            /// The descriptors and their ties, so that a warm operation need not look at the pool.
            descriptors: [*]Table.Descriptor,
            ties: [*]regions.Tie(Sync),
            /// What the pool's options mean for a warm operation; written by `LargePool.configure`.
            hot: Hot,
        };

        /// The lists of one class, with what a warm operation on them reads and writes.
        pub const Row = struct {
            /// Tops of the LIFO lists.
            heads: [Flavor.count]u32 align(128),
            /// Regions in them; read without the lock as a hint.
            count: Sync.Atomic(u32),
            /// Regions that may lie here; written by `LargePool.configure`.
            max: u32,
            /// Regions handed out to this thread, whatever became of them.
            allocations: Sync.Atomic(u64),
            /// 0, or 1 where a freed region may not stay in hand; written by `LargePool.configure`.
            off_hand: usize,

            /// Single writer: the owner.
            pub inline fn countAllocation(row: *Row, n: u64) void {
                row.allocations.store(row.allocations.load(.monotonic, .count) +% n, .monotonic, .count);
            }

            pub inline fn change(row: *Row, n: u32) void {
                row.count.store(row.count.load(.monotonic, .cache_count) +% n, .monotonic, .cache_count);
            }
        };

        /// Blocks with free pages by flavor and by log2 of their longest free run.
        pub const RunLists = struct {
            heads: [Flavor.count][run_bins]u32,
            /// Blocks into which other threads have freed.
            notified: ds.RemoteStack(Sync),
            /// A block without leases that is kept for the next one, or `none`.
            spare: Sync.Atomic(u32),
            /// Runs freed lately, kept whole for the next request of their length: without and with
            /// alias, by length, newest last. In their blocks they still count as live.
            quick: [2][quick_pages_max][quick_depth]Run,
            quick_counts: [2][quick_pages_max]Sync.Atomic(u32),
        };

        pub const quick_pages_max = 16;
        pub const quick_depth = 4;
        pub const run_bins = 10;

        /// Makes zeroed memory a cache.
        pub fn init(self: *Self, table: *const Table, owner: u32, pool: u16) void {
            self.near.lock = .{ .gate = .init(0) };
            for (self.rows[0..ds.rolled(classes)]) |*row| @memset(&row.heads, none);
            for (&self.runs.heads) |*row| @memset(row, none);
            self.remote = .{};
            self.lane = .{};
            self.lane_owner = .init(none);
            self.sender = .init(none);
            self.runs.notified = .{};
            self.runs.spare = .init(none);
            self.near.descriptors = table.regions;
            self.near.ties = table.ties;
            self.near.home = (regions.Tenancy{ .owner = @intCast(owner), .pool = @intCast(pool), .state = .unused }).bits();
            self.near.asked = 1;
            self.near.asked_row = &self.rows[0];
            self.near.home_free = self.near.home +% regions.Tenancy.of(.free);
            self.near.home_leased = self.near.home +% regions.Tenancy.of(.leased);
            self.near.home_hand = self.near.home +% regions.Tenancy.of(.hand);
            self.near.hand_row = &self.rows[0];
            self.dropHand();
            self.seed = (owner *% 0x9E3779B9 +% pool) | 1;
        }

        /// The tenancy of a region of this thread and pool in this state.
        inline fn tenancyIn(self: *const Self, comptime state: regions.State) u32 {
            return switch (state) {
                .free => self.near.home_free,
                .leased => self.near.home_leased,
                .hand => self.near.home_hand,
                else => self.near.home +% regions.Tenancy.of(state),
            };
        }

        /// The region is of this thread and pool, and in this state.
        pub inline fn is(self: *const Self, index: u32, comptime state: regions.State) bool {
            return self.near.ties[index].word().load(.monotonic, .region_tenancy) == self.tenancyIn(state);
        }

        /// Makes it so, by whoever holds the region.
        pub inline fn make(self: *const Self, tie: *regions.Tie(Sync), comptime state: regions.State) void {
            tie.word().store(self.tenancyIn(state), .monotonic, .region_tenancy);
        }

        pub inline fn touch(self: *Self) void {
            self.activity.store(self.activity.load(.monotonic, .activity) +% 1, .monotonic, .activity);
        }

        /// A number that hardly ever stays the same when the owner allocates or frees: what it took,
        /// what it keeps, and what it passed on.
        pub noinline fn activityNow(self: *const Self) u64 {
            var sum = self.activity.load(.monotonic, .activity);
            for (0..ds.rolled(classes)) |class| {
                sum +%= self.rows[class].allocations.load(.monotonic, .count) << 20;
                sum +%= self.counters.of(class, .dirty_in) +% self.countOf(class);
            }
            return sum +% @intFromBool(self.inHand());
        }

        /// Inside the lock.
        pub inline fn pop(self: *Self, table: *Table, class: usize, flavor: Flavor) ?u32 {
            const head = &self.rows[class].heads[flavor.index()];
            const index = head.*;
            if (index == none) return null;
            head.* = table.next(index).load(.monotonic, .cache_link);
            self.setCount(class, self.countOf(class) - 1);
            return index;
        }

        /// Inside the lock.
        pub inline fn push(self: *Self, table: *Table, class: usize, flavor: Flavor, index: u32) void {
            const head = &self.rows[class].heads[flavor.index()];
            table.next(index).store(head.*, .monotonic, .cache_link);
            head.* = index;
            self.setCount(class, self.countOf(class) + 1);
        }

        pub inline fn countOf(self: *const Self, class: usize) u32 {
            return self.rows[class].count.load(.monotonic, .cache_count);
        }

        /// Free regions of a class that the thread has, with the one in hand; a hint.
        pub noinline fn keptOf(self: *const Self, class: usize) u32 {
            const index = self.near.hand.load(.monotonic, .cache_hand);
            const more = self.is(index, .hand) and @atomicLoad(u8, &self.near.descriptors[index].class, .monotonic) == class;
            return self.countOf(class) + @intFromBool(more);
        }

        /// A region lies free in the thread's hand; a hint.
        pub fn inHand(self: *const Self) bool {
            return self.is(self.near.hand.load(.monotonic, .cache_hand), .hand);
        }

        /// Inside the lock: what is free in hand goes into its list. The first step of all who look at
        /// the lists, but for warm operations.
        pub noinline fn layDown(self: *Self) void {
            const index = self.near.hand.load(.monotonic, .cache_hand);
            if (!self.is(index, .hand)) return;
            self.make(&self.near.ties[index], .free);
            const region = &self.near.descriptors[index];
            const row = &self.rows[region.class];
            const head = &row.heads[region.flavor.index()];
            region.next.store(head.*, .monotonic, .cache_link);
            head.* = index;
            row.change(1);
        }

        /// By the owner, with nothing free in hand: no region is it any more. No length is asked twice.
        pub noinline fn dropHand(self: *Self) void {
            self.near.hand.store(0, .monotonic, .cache_hand);
            self.near.hand_address = 0;
            self.near.hand_bytes = std.math.maxInt(usize);
        }

        pub inline fn thread(self: *const Self) u32 {
            return @as(regions.Tenancy, @bitCast(self.near.home)).owner;
        }

        /// By the owner: what comes next is looked at anew. False: a thief is inside.
        pub noinline fn freshHand(self: *Self) bool {
            if (!self.near.lock.tryEnter()) return false;
            self.layDown();
            self.near.lock.leave();
            self.dropHand();
            return true;
        }

        pub inline fn setCount(self: *Self, class: usize, n: u32) void {
            self.rows[class].count.store(n, .monotonic, .cache_count);
        }

        /// Inside the lock: takes up to `max` regions of one list, newest first, as a chain.
        pub fn popChain(self: *Self, table: *Table, class: usize, flavor: Flavor, max: u32) ds.Chain {
            const head = &self.rows[class].heads[flavor.index()];
            var chain: ds.Chain = .{ .first = head.* };
            var following = head.*;
            while (following != none and chain.count < max) : (chain.count += 1) {
                chain.last = following;
                following = table.next(following).load(.monotonic, .cache_link);
            }
            if (chain.count == 0) return .{};
            table.next(chain.last).store(none, .monotonic, .cache_link);
            head.* = following;
            self.setCount(class, self.countOf(class) - chain.count);
            return chain;
        }

        /// A number for orders and starts that need not be good, only different.
        pub fn random(self: *Self) u32 {
            self.seed ^= self.seed << 13;
            self.seed ^= self.seed >> 17;
            self.seed ^= self.seed << 5;
            return self.seed;
        }
    };
}
