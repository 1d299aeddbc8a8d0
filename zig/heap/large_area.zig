//! How a large pool gets address space: areas of regions, mapped when no free region is found.
//!
//! Each area of a class is larger than the last, up to a bound; refused, half as many regions are asked
//! for, down to one, and then once more after a trim. Explicit huge pages and files are mapped exactly as
//! asked, one region an area.
//!
//! Invariant: an area is advised and charged before its regions can be found; who loses the race for one
//! gives it back. Cost: one mmap and one madvise an area. Threads: any; no lock is held across a call of
//! the system. When not: to give memory back, which is large_purge.zig.

const std = @import("std");
const ds = @import("../ds/ds.zig");
const os = @import("../os/os.zig");
const regions = @import("../region/region.zig");
const large_pool = @import("large_pool.zig");

const Error = large_pool.Error;
const align_max = large_pool.align_max;
const mappings_spare = large_pool.mappings_spare;
const Failure = large_pool.Failure;
const Flavor = regions.Flavor;
const PageKind = regions.PageKind;

/// First area of a class.
const area_bytes_initial: usize = 32 << 20;
/// Areas stop growing here, or at an eighth of the limit.
const area_bytes_max: usize = 1 << 30;

pub fn Areas(comptime P: type) type {
    return struct {
        const Os = P.System;
        const Cache = P.Cache;
        const Purge = P.Purge;
        const classBytes = P.classBytes;

        pub fn refill(
            self: *P,
            cache: *Cache,
            class: usize,
            want: Flavor,
            need: usize,
            areas_seen: u32,
            failure: *Failure,
        ) (Error || error{Raced})!u32 {
            const each = if (want.kind == .hugetlb)
                std.mem.alignForward(usize, need, regions.unit_bytes)
            else
                classBytes(class);
            if (self.table.mappings.load(.monotonic, .count) + mappings_spare > Os.mapLimit()) {
                failure.* = .{
                    // With a call but no errno: the bound is the mappings', not bytes.
                    .call = .mmap,
                    .requested = need,
                    .bound = Os.mapLimit(),
                    .current = self.table.mappings.load(.monotonic, .count),
                };
                return error.Limit;
            }
            var count: u32 = if (want.kind == .hugetlb) 1 else growth(self, class);
            var rescued = false;
            const shared = want.kind == .hugetlb and self.options.shared;
            var file: i32 = -1;
            // Populated by the system: every byte is charged, so the limit is asked before it is mapped.
            const explicit = want.kind == .hugetlb and !shared;
            if (explicit) try self.chargeBytes(each, failure);
            errdefer if (explicit) self.uncharge(each);
            cache.counters.count(class, .refill, 1);
            const ptr = while (true) {
                var errno: u16 = 0;
                const mapped = if (shared)
                    Os.mapShared(each, &file, &errno)
                else if (want.kind == .hugetlb)
                    Os.mapHuge(each, &errno)
                else
                    Os.reserve(each * count, if (ds.fault("misaligned")) regions.unit_bytes else @min(each, align_max), &errno);
                if (mapped) |ptr| break ptr;
                _ = self.refusals.fetchAdd(1, .monotonic, .count);
                if (count > 1 and !ds.fault("growth-stuck")) {
                    count /= 2;
                } else if (!rescued and !ds.fault("growth-stuck")) {
                    // Last resort: give back what lies unused, and ask once more.
                    rescued = true;
                    _ = Purge.trim(self);
                } else {
                    failure.* = .{
                        .errno = errno,
                        .call = if (shared) .memfd_create else if (want.kind == .hugetlb) .mmap_huge else .mmap,
                        .requested = need,
                    };
                    return if (want.kind == .hugetlb and !shared) error.HugeUnavailable else error.OutOfMemory;
                }
            };
            // A lost race gives its memory back: someone else has filled the class meanwhile.
            const other = &self.stacks[class][(Flavor{ .kind = want.kind }).index()];
            if (self.areas[class].load(.monotonic, .areas) != areas_seen and !other.clean.isEmpty()) {
                if (Os.unmap(ptr, each * count) == 0) {
                    if (shared) Os.closeShared(file);
                    return error.Raced;
                }
                _ = self.refusals.fetchAdd(1, .monotonic, .count);
            }
            adviseArea(self, ptr, each * count, want.kind);
            const first = self.table.addArea(ptr, each, count, self.slot, @intCast(class), want.kind) catch |err| {
                if (Os.unmap(ptr, each * count) != 0) _ = self.refusals.fetchAdd(1, .monotonic, .count);
                if (shared) Os.closeShared(file);
                failure.* = .{ .requested = each * count, .bound = regions.regions_max };
                return switch (err) {
                    error.OutOfMemory => error.OutOfMemory,
                    error.TooMany => error.Limit,
                };
            };
            _ = self.table.mappings.fetchAdd(1, .monotonic, .count);
            _ = self.mapped_bytes.fetchAdd(each * count, .monotonic, .count);
            _ = self.areas[class].fetchAdd(1, .monotonic, .areas);
            _ = self.area_regions[class].fetchAdd(count, .monotonic, .areas);
            _ = self.area_bytes[class].fetchAdd(each * count, .monotonic, .areas);
            if (shared) {
                self.table.areas[self.table.at(first).area].file = file;
            } else if (want.kind == .hugetlb) {
                // Resident and zero.
                _ = self.huge_bytes.fetchAdd(each, .monotonic, .count);
                self.table.at(first).resident = each;
            } else {
                self.last_area[class].store(count, .monotonic, .areas);
            }
            if (count > 1) {
                const stacks = &self.stacks[class][(Flavor{ .kind = want.kind }).index()];
                const area = &self.table.areas[self.table.at(first).area];
                stacks.clean.pushChain(self.table, area.at(1), area.at(count - 1));
                cache.counters.count(class, .clean_in, count - 1);
            }
            return first;
        }

        /// Regions of the next area: last + max(initial, last / (dampener + 1)), up to the cap.
        fn growth(self: *const P, class: usize) u32 {
            const each = classBytes(class);
            const last: usize = self.last_area[class].load(.monotonic, .areas);
            const initial = @max(1, area_bytes_initial / each);
            const grown = last + @max(initial, last / (@as(usize, self.options.growth_dampener) + 1));
            var cap = area_bytes_max;
            if (self.options.limit_bytes) |limit| cap = @min(cap, limit / 8);
            if (ds.fault("growth-unbounded")) return @intCast(grown);
            return @intCast(@min(grown, @max(1, cap / each)));
        }

        fn adviseArea(self: *P, ptr: [*]u8, bytes: usize, kind: PageKind) void {
            if (kind == .thp) self.advise(ptr, bytes, .huge);
            if (kind == .base and Os.works(.no_huge)) self.advise(ptr, bytes, .no_huge);
            switch (self.options.fork) {
                .copy => {},
                .omit => if (!ds.fault("fork-ignored")) self.advise(ptr, bytes, .dont_fork),
                .wipe => self.advise(ptr, bytes, .wipe_on_fork),
            }
        }

        /// Gives advice and counts it; a refusal is counted and otherwise harmless.
        pub fn advise(self: *P, ptr: [*]u8, bytes: usize, advice: os.Advice) void {
            _ = self.tryAdvise(ptr, bytes, advice);
        }

        pub noinline fn tryAdvise(self: *P, ptr: [*]u8, bytes: usize, advice: os.Advice) u16 {
            _ = self.advice_calls.fetchAdd(1, .monotonic, .count);
            const errno = Os.advise(ptr, bytes, advice);
            if (errno != 0) _ = self.refusals.fetchAdd(1, .monotonic, .count);
            return errno;
        }

        /// Unmaps an area of one region that the caller holds.
        pub fn destroy(self: *P, index: u32) void {
            const region = self.table.at(index);
            if (self.table.areas[region.area].regions != 1 or region.wraps.load(.acquire, .wraps) != 0)
                return self.share(null, index);
            Purge.unmapArea(self, region.area);
        }
    };
}
