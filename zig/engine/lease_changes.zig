//! What may happen to a lease between its beginning and its end: another length, another thread.
//!
//! Invariant: a lease that grows in place is charged before its length says so; one that moves gets its
//! new memory first and keeps the old if there is none. A transfer makes a token of the lease's number,
//! which one thread adopts.
//!
//! Cost: a resize in place is the difference in pages; a move copies. Threads: any attached thread; the
//! lease's word decides between two. When not: to share a lease, which has one owner at a time.

const ds = @import("../ds/ds.zig");
const heap = @import("../heap/heap.zig");
const types = @import("types.zig");
const w = @import("block.zig");
const core = @import("core.zig");

const Status = types.Status;

pub fn LeaseChanges(comptime E: type) type {
    return struct {
        const Pool = E.Pool;
        const Handles = E.Handles;
        const Lease = E.LeaseRecord;
        const Os = E.System;
        const layered = E.layered;
        const status = E.status;
        const wrong = E.wrong;
        const integer = E.integer;
        const handleFrom = E.handleFrom;
        const report = E.report;
        const owner_token = E.owner_token;

        pub fn resize(self: *E, thread_index: u32, handle: f64, bytes: f64) Status {
            if (self.isForked()) return .forked;
            const thread = self.threadAt(thread_index) orelse return .foreign;
            const size = integer(bytes) orelse return .out_of_range;
            const found = self.leaseOf(handle) catch |err| return wrong(err);
            if (found.wraps != 0) return .busy;
            const old = found.lease;
            const pool = self.pools[old.pool].pool.load(.acquire, .pool).?;
            var failure: heap.Failure = .{};
            const fits = resizeInPlace(self, pool, thread_index, old, size, &failure) catch |err|
                return report(thread, err, failure, size);
            if (!fits and old.bytes != size and layered.slotFor(self, idOf(self, old.pool), size, plainWish(self, old)) != null) {
                return layered.move(self, thread_index, thread, old, size);
            }
            if (!fits) {
                const fresh = self.obtain(pool, thread_index, found.index, .{
                    .bytes = size,
                    .kind = switch (@as(u2, @truncate(old.pages_wish))) {
                        0 => null,
                        1 => .base,
                        2 => .thp,
                        3 => .hugetlb,
                    },
                    .lock = if (self.lockedNow(old)) .require else .none,
                    .alias = old.flags.alias,
                    .zero = old.flags.zero,
                }, &failure) catch |err| return report(thread, err, failure, size);
                const both = @min(size, old.bytes);
                if (both != 0) {
                    const to: [*]u8 = @ptrFromInt(fresh.address);
                    const from: [*]const u8 = @ptrFromInt(old.address);
                    ds.memory.copy(to[0..both], from[0..both]);
                }
                const before = old.*;
                old.* = fresh;
                old.pages_wish = before.pages_wish;
                self.release(thread_index, before, .live);
            }
            self.describeInto(thread, old);
            return .ok;
        }

        /// The number of the open pool in a slot, 0 if it is closed.
        fn idOf(self: *E, slot: u16) u32 {
            return self.pools[slot].id.load(.monotonic, .pool_id);
        }

        /// What the lease was asked for, as far as a layer must know.
        fn plainWish(self: *E, of: *const Lease) u32 {
            var options: u32 = @as(u32, of.pages_wish) << w.option_pages_shift;
            if (of.flags.alias) options |= w.option_alias;
            if (self.lockedNow(of)) options |= 1 << w.option_lock_shift;
            return options;
        }

        /// True if the memory that the lease has serves the new length too.
        fn resizeInPlace(
            self: *E,
            pool: *Pool,
            thread: u32,
            of: *Lease,
            size: usize,
            failure: *heap.Failure,
        ) heap.Error!bool {
            if (of.bytes == 0 or size == 0) return of.bytes == size;
            if (of.flags.layered) return layered.resizeInPlace(self, thread, of, size);
            const before = of.bytes;
            const rounded = Pool.pageRound(size);
            const rounded_before = Pool.pageRound(before);
            if (of.pages != 0) {
                if (rounded > rounded_before or size >= core.region_bytes_min) return false;
                if (rounded < rounded_before) {
                    const keep: u16 = @intCast(rounded / Os.pageBytes());
                    Pool.Runs.shrink(pool, thread, of.run(), keep);
                    of.pages = keep;
                }
            } else {
                const region = self.table.at(of.region);
                if (rounded > region.bytes or size < core.region_bytes_min) return false;
                if (size != before and self.table.areas[region.area].published) return false;
                if (rounded > region.resident) try pool.charge(region, rounded, failure);
                if (region.locked != 0) try pool.fitLock(region, rounded, .require, failure);
                region.lease_bytes.store(size, .monotonic, .lease_bytes);
            }
            const base: [*]u8 = @ptrFromInt(of.address);
            if (size > before and of.flags.zero) ds.memory.zero(base[before..size]);
            if (of.pages == 0) {
                const region = self.table.at(of.region);
                region.dirty = @max(region.dirty, rounded);
            }
            of.bytes = size;
            if (of.pages != 0) if (pool.cacheOf(thread)) |cache| {
                cache.counters.add(.allocated_bytes, @as(u64, size) -% before);
                cache.counters.add(.active_bytes, @as(u64, rounded) -% rounded_before);
            };
            return true;
        }

        pub fn transfer(self: *E, thread_index: u32, handle: f64, held: u32) f64 {
            if (self.isForked()) return status(.forked);
            if (self.threadAt(thread_index) == null) return status(.foreign);
            const found = self.leaseOf(handle) catch |err| return status(wrong(err));
            if (found.lease.flags.alias) return status(.unsupported);
            // Marked first: when the sender ends while the token is being adopted, its sweep must not
            // take the adopter's lease for its own.
            const owner = &self.handles.entry(found.index).owner;
            const word = owner.load(.monotonic, .owner);
            owner.store(word | owner_token, .monotonic, .owner);
            const token = self.handles.toToken(handleFrom(handle).?, held) catch |err| {
                owner.store(word, .monotonic, .owner);
                return status(switch (err) {
                    error.Busy => .busy,
                    error.Exhausted => .limit,
                    error.Freed => .freed,
                    error.Foreign => .foreign,
                });
            };
            if (held != 0) self.threads[thread_index].block[w.held] = 0;
            _ = self.pending_tokens.fetchAdd(1, .monotonic, .count);
            return @floatFromInt(token);
        }

        /// `resize` of a lease of that pool under a new handle; the old one is freed. A failure leaves
        /// the lease as it was.
        pub fn realloc(self: *E, thread_index: u32, pool_id: u32, handle: f64, bytes: f64) f64 {
            const pool = self.poolOf(pool_id) orelse return status(.closed);
            const found = self.leaseOf(handle) catch |err| return status(wrong(err));
            if (found.lease.pool != pool.slot) return status(.foreign);
            const resized = self.resize(thread_index, handle, bytes);
            if (resized != .ok) return status(resized);
            const renumbered = self.handles.toToken(handleFrom(handle).?, 0) catch |err| return status(switch (err) {
                error.Busy => .busy,
                error.Exhausted => .limit,
                error.Freed => .freed,
                error.Foreign => .foreign,
            });
            return @floatFromInt(self.handles.adopt(renumbered) catch |err| return status(wrong(err)));
        }

        pub fn adopt(self: *E, thread_index: u32, token: f64) f64 {
            if (self.isForked()) return status(.forked);
            const thread = self.threadAt(thread_index) orelse return status(.foreign);
            const number = handleFrom(token) orelse return status(.foreign);
            const handle = self.handles.adopt(number) catch |err| return status(wrong(err));
            _ = self.pending_tokens.fetchSub(1, .monotonic, .count);
            const entry = self.handles.entry(Handles.indexOf(handle));
            entry.owner.store(self.ownerWord(thread_index), .monotonic, .owner);
            self.describeInto(thread, &entry.payload);
            return @floatFromInt(handle);
        }
    };
}
