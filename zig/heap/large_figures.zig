//! What a large pool can say of itself: sums over its threads' counters, and a census of its regions.
//!
//! Invariant: no warm operation counts what can be read off the descriptors. Sums of differences may be
//! read half-way and wrap; who shows them bounds them below by zero. Cost: a look at every cache, or at
//! every descriptor. Threads: any, without order. When not: to decide anything; these are figures.

const large_cache = @import("large_cache.zig");

const classes = large_cache.classes;

pub fn Figures(comptime P: type) type {
    return struct {
        const Cache = P.Cache;
        const Runs = P.Runs;
        const pageRound = P.pageRound;

        /// Sum of one figure over all threads.
        pub noinline fn total(self: *const P, which: large_cache.Total) u64 {
            var sum = self.foreign.total(which) +% self.background.total(which);
            for (0..self.caches_top.load(.monotonic, .cache_top)) |thread| {
                if (self.cacheIfAny(@intCast(thread))) |cache| sum +%= cache.counters.total(which);
            }
            return sum;
        }

        /// What the pool's regions are used for at this moment.
        pub const Census = struct {
            /// Regions of each class that are not free.
            used: [classes]u64 = @splat(0),
            /// Leases that have regions of their own, their bytes and their pages in bytes.
            leases: u64 = 0,
            bytes: u64 = 0,
            active: u64 = 0,
        };

        /// Looks at every descriptor: what a warm operation would have to count stands there anyway.
        pub noinline fn census(self: *const P) Census {
            var result: Census = .{};
            for (0..self.table.regions_top.load(.monotonic, .top)) |i| {
                const region = self.table.at(@intCast(i));
                const tenancy = self.table.tenancyOf(@intCast(i));
                if (tenancy.pool != self.slot) continue;
                switch (tenancy.state) {
                    .unused, .free, .hand => continue,
                    else => result.used[@atomicLoad(u8, &region.class, .monotonic)] += 1,
                }
                if (tenancy.state != .leased and tenancy.state != .held) continue;
                const bytes = region.lease_bytes.load(.monotonic, .lease_bytes);
                result.leases += 1;
                result.bytes += bytes;
                result.active += pageRound(bytes);
            }
            return result;
        }

        /// Leases that are live, closing ones not among them.
        pub fn live(self: *const P) u64 {
            return self.census().leases +% self.total(.live_beside);
        }

        /// Counts leases beside the events, on a thread with or without a cache.
        pub noinline fn addTotal(self: *P, cache: ?*Cache, comptime which: large_cache.Total, n: u64) void {
            if (cache) |own| own.counters.add(which, n) else self.foreign.addShared(which, n);
        }

        /// Sum of one event of a class over all threads.
        pub noinline fn event(self: *const P, class: usize, which: large_cache.Event) u64 {
            var sum = self.foreign.of(class, which) +% self.background.of(class, which);
            for (0..self.caches_top.load(.monotonic, .cache_top)) |thread| {
                if (self.cacheIfAny(@intCast(thread))) |cache| sum +%= cache.counters.of(class, which);
            }
            return sum;
        }

        /// Regions of a class handed out so far, over all threads.
        pub noinline fn allocations(self: *const P, class: usize) u64 {
            var sum: u64 = 0;
            for (0..self.caches_top.load(.monotonic, .cache_top)) |thread| {
                if (self.cacheIfAny(@intCast(thread))) |cache|
                    sum +%= cache.rows[class].allocations.load(.monotonic, .count);
            }
            return sum;
        }

        /// Free regions in threads' lists.
        pub noinline fn threadRegions(self: *const P, class: usize) u64 {
            var sum: u64 = 0;
            for (0..self.caches_top.load(.monotonic, .cache_top)) |thread| {
                if (self.cacheIfAny(@intCast(thread))) |cache| sum += cache.keptOf(class);
            }
            return sum;
        }

        /// Bytes of the pool's own bookkeeping that are in use.
        pub noinline fn metadataBytes(self: *const P) u64 {
            var bytes: u64 = @sizeOf(P);
            for (0..self.caches_top.load(.monotonic, .cache_top)) |thread| {
                if (self.cacheIfAny(@intCast(thread)) != null) bytes += @sizeOf(Cache);
            }
            return bytes + Runs.metadataBytes(self);
        }

        pub fn areasCount(self: *const P) u64 {
            var sum: u64 = 0;
            for (&self.areas) |*count| sum += count.load(.monotonic, .areas);
            return sum;
        }
    };
}
