//! How a region is made to fit its tenant: charged, locked, zeroed, populated, its old wraps ended.
//!
//! Invariant: a region is charged for what may be resident before it can become so; `locked` is the
//! prefix that the system has locked. A refusal leaves the region as it was, for the caller to give back.
//!
//! Cost: nothing beyond a comparison for a region that fits; else the system calls that the tenant asked
//! for. Threads: the one that holds the region. When not: for page runs, which charge their blocks.

const ds = @import("../ds/ds.zig");
const regions = @import("../region/region.zig");
const large_pool = @import("large_pool.zig");

const Error = large_pool.Error;
const Request = large_pool.Request;
const Failure = large_pool.Failure;
const LockWish = large_pool.LockWish;
const region_splits = large_pool.region_splits;
const mappings_spare = large_pool.mappings_spare;

pub fn Fit(comptime P: type) type {
    return struct {
        const Os = P.System;
        const Region = P.Region;
        const Purge = P.Purge;
        const pageRound = P.pageRound;

        pub fn prepare(self: *P, thread: u32, region: *Region, request: Request, failure: *Failure) Error!void {
            const rounded = pageRound(request.bytes);
            const charged = if (ds.fault("class-charged")) region.bytes else rounded;
            if (charged > region.resident) try self.charge(region, charged, failure);
            if (region.lazy) {
                region.lazy = false;
                _ = self.lazy_bytes.fetchSub(region.dirty, .monotonic, .count);
            }
            if (request.alignment > regions.unit_bytes and region.address & (request.alignment - 1) != 0)
                return error.Unaligned;
            const wraps = region.wraps.load(.acquire, .wraps);
            if (wraps != 0 and region.tie.owner.load(.monotonic, .owner) != thread) self.invalidateWraps(region);
            region.tie.owner.store(@intCast(thread), .monotonic, .owner);
            region.become(.leased);
            region.lease_bytes.store(request.bytes, .monotonic, .lease_bytes);
            if (request.lock != .none or region.locked != 0)
                try self.fitLock(region, rounded, request.lock, failure);
            if (request.prefault) populate(self, region, 0, rounded);
            if (request.zero) {
                // A stale alias view may have written past what leases have used.
                const dirty = if (wraps != 0) region.bytes else region.dirty;
                ds.memory.zero(@as([*]u8, @ptrFromInt(region.address))[0..@min(dirty, rounded)]);
            }
            if (rounded > region.dirty) region.dirty = rounded;
        }

        /// Makes all alias ArrayBuffers over the region stale: JavaScript drops them when it looks.
        pub noinline fn invalidateWraps(self: *P, region: *Region) void {
            const epoch = region.epoch.load(.monotonic, .epoch);
            region.epoch.store((epoch + 1) & regions.epoch_mask, .monotonic, .epoch);
            _ = self.sleeper.purges.fetchAdd(1, .monotonic, .purges);
        }

        /// Accounts for frames that the region may take from now on, within the limit.
        pub fn charge(self: *P, region: *Region, resident: usize, failure: *Failure) Error!void {
            const more = resident - region.resident;
            try self.chargeBytes(more, failure);
            region.resident = resident;
        }

        pub noinline fn chargeBytes(self: *P, more: usize, failure: *Failure) Error!void {
            const before = self.charged.fetchAdd(more, .monotonic, .charge);
            const limit = self.options.limit_bytes orelse return;
            if (before + more <= limit) return;
            // Reaching the limit first trims the pool, then answers.
            _ = Purge.trim(self);
            const now = self.charged.load(.monotonic, .charge);
            if (now <= limit) return;
            _ = self.charged.fetchSub(more, .monotonic, .charge);
            failure.* = .{ .requested = more, .bound = limit, .current = now - more };
            return error.Limit;
        }

        pub fn uncharge(self: *P, bytes: usize) void {
            _ = self.charged.fetchSub(bytes, .monotonic, .charge);
        }

        /// Brings the locked prefix of a region to what the tenant asked for.
        pub fn fitLock(self: *P, region: *Region, rounded: usize, wish: LockWish, failure: *Failure) Error!void {
            const want = if (wish == .none) 0 else rounded;
            if (region.locked == want) return;
            const base: [*]u8 = @ptrFromInt(region.address);
            if (region.locked > want) {
                // The boundary moves; it goes only when nothing stays locked.
                self.unlockRange(base + want, region.locked - want, if (want == 0) region_splits else 0);
                region.locked = want;
                return;
            }
            self.lockRange(
                base + region.locked,
                want - region.locked,
                if (region.locked == 0) region_splits else 0,
                failure,
            ) catch |err| {
                // The kernel may have let go of none, some or all of the range it refused.
                return if (wish == .require) err else {};
            };
            region.locked = want;
        }

        /// Locks a range that holds no lock. `splits` is by how much the number of mappings changes.
        pub fn lockRange(self: *P, ptr: [*]u8, bytes: usize, splits: i64, failure: *Failure) Error!void {
            const change: u64 = @bitCast(splits);
            const mappings = self.table.mappings.fetchAdd(change, .monotonic, .count);
            if (splits > 0 and mappings + mappings_spare > Os.mapLimit()) {
                _ = self.table.mappings.fetchSub(change, .monotonic, .count);
                failure.* = .{ .call = .mlock, .requested = bytes, .bound = Os.mapLimit(), .current = mappings };
                return error.Limit;
            }
            const errno = Os.lock(ptr, bytes);
            if (errno == 0) {
                _ = self.locked_bytes.fetchAdd(bytes, .monotonic, .count);
                return;
            }
            _ = self.table.mappings.fetchSub(change, .monotonic, .count);
            _ = self.refusals.fetchAdd(1, .monotonic, .count);
            failure.* = .{
                .errno = errno,
                .call = .mlock,
                .requested = bytes,
                .bound = Os.lockLimit(),
                .current = self.locked_bytes.load(.monotonic, .count),
            };
            return error.LockLimit;
        }

        pub fn unlockRange(self: *P, ptr: [*]u8, bytes: usize, splits: i64) void {
            if (Os.unlock(ptr, bytes) != 0) _ = self.refusals.fetchAdd(1, .monotonic, .count);
            _ = self.table.mappings.fetchSub(@bitCast(splits), .monotonic, .count);
            _ = self.locked_bytes.fetchSub(bytes, .monotonic, .count);
        }

        fn populate(self: *P, region: *Region, offset: usize, bytes: usize) void {
            const base: [*]u8 = @ptrFromInt(region.address);
            self.advise(base + offset, bytes, .populate_write);
        }
    };
}
