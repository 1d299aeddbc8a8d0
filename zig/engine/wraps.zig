//! ArrayBuffers over leases and regions, as the engine counts them: which are alive, and what their
//! deallocators end.
//!
//! A wrap of a lease is counted in its entry of the handle table, one over a whole region (alias) in the
//! region. A lease that was freed while wrapped is closing; the last deallocator finishes it. A parked
//! lease is freed, and its ArrayBuffer waits for the next lease of its length.
//!
//! Invariant: memory goes back once, by whoever wins the lease's word: `free`, a deallocator or `sweep`.
//! Cost: one locked instruction a wrap. Threads: the lease's own; `wrapDropped` and `regionDropped` any
//! thread, also one without an index. When not: for memory that JavaScript never saw.

const std = @import("std");
const ds = @import("../ds/ds.zig");
const regions = @import("../region/region.zig");
const types = @import("types.zig");
const w = @import("block.zig");
const core = @import("core.zig");

const Status = types.Status;
const none = regions.none;
const minus_one: u64 = std.math.maxInt(u64);

pub fn Wraps(comptime E: type) type {
    return struct {
        const Pool = E.Pool;
        const Handles = E.Handles;
        const layered = E.layered;
        const status = E.status;
        const wrong = E.wrong;
        const wholeOf = E.wholeOf;
        const handleFrom = E.handleFrom;

        pub noinline fn wrap(self: *E, thread: u32, handle: f64) Status {
            const number = handleFrom(handle) orelse return .foreign;
            self.handles.addWrap(number) catch |err| return wrong(err);
            if (self.threadAt(thread)) |own| own.block[w.wrapping] = handle;
            return .ok;
        }

        /// `wrap` without an ArrayBuffer: keeps a lease through the end of its views. The thread's
        /// record names it, so that a thread that ends inside does not leave it held.
        pub fn hold(self: *E, thread_index: u32, handle: f64) Status {
            const thread = self.threadAt(thread_index) orelse return .foreign;
            const result = self.wrap(thread_index, handle);
            thread.block[w.wrapping] = 0;
            if (result == .ok) thread.block[w.held] = handle;
            return result;
        }

        /// Ends `hold`.
        pub fn unhold(self: *E, thread_index: u32, handle: f64) Status {
            const thread = self.threadAt(thread_index) orelse return .foreign;
            thread.block[w.held] = 0;
            return self.unwrap(thread_index, handle);
        }

        pub noinline fn unwrap(self: *E, thread: u32, handle: f64) Status {
            if (self.threadAt(thread)) |own| own.block[w.wrapping] = 0;
            const number = handleFrom(handle) orelse return .foreign;
            const had = self.handles.cancelWrap(number) catch |err| return wrong(err);
            return if (had) .ok else .foreign;
        }

        /// An ArrayBuffer over a lease is gone.
        pub fn wrapDropped(self: *E, context: usize) void {
            if (self.isForked() or context == 0 or context > E.handles_count) return;
            dropWrap(self, @intCast(context - 1));
        }

        /// One wrap less; the last of a closing or a leaked lease ends it.
        pub fn dropWrap(self: *E, index: u32) void {
            const owner = self.handles.entry(index).owner.load(.monotonic, .owner);
            if (self.callerIf(owner)) |own| {
                // The ArrayBuffer was made, and goes before JavaScript said so.
                const wrapping = &self.threads[own].block[w.wrapping];
                if (wrapping.* != 0 and Handles.indexOf(@intCast(wholeOf(wrapping.*))) == index) wrapping.* = 0;
            }
            switch (self.handles.dropWrap(index)) {
                .still => {},
                .finished => {
                    const parked = self.handles.entry(index).payload.flags.parked;
                    self.finish(self.callerIf(owner), index, if (parked) .parked else .closing);
                },
                .leaked => {
                    _ = self.leaked_handles.fetchAdd(1, .monotonic, .count);
                    self.finish(self.callerIf(owner), index, .live);
                },
            }
        }

        /// Ends a lease whose one ArrayBuffer the caller keeps, detached from all views, for the next
        /// lease of that length. UNSUPPORTED: not such a lease, nothing has changed.
        pub fn park(self: *E, thread: u32, handle: f64) Status {
            const number = handleFrom(handle) orelse return .foreign;
            const entry = self.handles.find(number) catch |err| return wrong(err);
            const of = &entry.payload;
            if ((of.pages == 0 and !of.flags.layered) or of.bytes > core.parked_bytes_max or of.flags.alias) return .unsupported;
            const pool = self.pools[of.pool].pool.load(.acquire, .pool).?;
            if (entry.owner.load(.monotonic, .owner) != self.ownerWord(thread) or self.lockedNow(of)) return .unsupported;
            // Before the word changes: from then on a deallocator may read it.
            of.flags.parked = true;
            const parked = self.handles.park(number) catch |err| return wrong(err);
            if (!parked) {
                of.flags.parked = false;
                return .unsupported;
            }
            if (of.flags.layered) {
                layered.recount(self, thread, of, -1);
                return .ok;
            }
            const cache = pool.cacheOf(thread);
            pool.uncount(cache, of.bytes);
            pool.addTotal(cache, .live_beside, minus_one);
            return .ok;
        }

        /// Makes a parked lease of this thread live again: its memory, its length, a new handle.
        pub fn revive(self: *E, thread: u32, pool_id: u32, handle: f64, options: u32) f64 {
            if (self.isForked()) return status(.forked);
            const number = handleFrom(handle) orelse return status(.foreign);
            const pool = self.poolOf(pool_id) orelse return status(.closed);
            if (!pool.options.enabled) return status(.disabled);
            const index = Handles.indexOf(number);
            if (index >= self.handles.end()) return status(.foreign);
            const entry = self.handles.entry(index);
            const of = &entry.payload;
            if (!of.flags.parked or of.pool != pool.slot) return status(.foreign);
            if (entry.owner.load(.monotonic, .owner) != self.ownerWord(thread)) return status(.foreign);
            const revived = self.handles.revive(index);
            if (revived == 0) return status(.limit);
            of.flags.parked = false;
            of.flags.zero = options & w.option_zero != 0;
            if (of.flags.zero) ds.memory.zero(@as([*]u8, @ptrFromInt(of.address))[0..of.bytes]);
            if (of.flags.layered) {
                layered.recount(self, thread, of, 1);
            } else if (pool.cacheOf(thread)) |cache| {
                cache.counters.add(.allocated_bytes, of.bytes);
                cache.counters.add(.active_bytes, Pool.pageRound(of.bytes));
                cache.counters.add(.live_beside, 1);
            }
            return @floatFromInt(revived);
        }

        pub fn regionWrap(self: *E, thread: u32, index: u32) Status {
            _ = thread;
            if (!self.table.known(index)) return .foreign;
            // Release: pairs with the acquire of who asks whether the region may serve others.
            _ = self.table.at(index).wraps.fetchAdd(1, .acq_rel, .wraps);
            return .ok;
        }

        pub fn regionUnwrap(self: *E, thread: u32, index: u32) Status {
            _ = thread;
            if (!self.table.known(index)) return .foreign;
            _ = self.table.at(index).wraps.fetchSub(1, .acq_rel, .wraps);
            return .ok;
        }

        /// An alias ArrayBuffer is gone. Context: epoch of the region when it was made times 2^24,
        /// plus the region's index, plus one.
        pub fn regionDropped(self: *E, context: usize) void {
            if (self.isForked() or context == 0) return;
            const index: u32 = @intCast((context - 1) & none);
            const made: u32 = @intCast((context - 1) >> 24 & regions.epoch_mask);
            if (!self.table.known(index)) return;
            const region = self.table.at(index);
            const epoch = region.epoch.load(.monotonic, .epoch);
            // Nobody can reach the newest wrap any more: whoever comes next makes one of its own.
            if (epoch == made)
                _ = region.epoch.cmpxchg(epoch, (epoch + 1) & regions.epoch_mask, .monotonic, .monotonic, .epoch);
            // Release: what was written through the buffer comes before. Acquire: see all the others.
            const left = region.wraps.fetchSub(1, .acq_rel, .wraps) - 1;
            const tenant = region.lease.load(.monotonic, .region_lease);
            const state = region.tenancy().state;
            if ((state != .held and state != .closing) or tenant == none) return;
            const seen = self.handles.peek(tenant);
            const payload = &self.handles.entry(tenant).payload;
            if (payload.region != index or !payload.flags.alias) return;
            switch (seen.phase) {
                // Freed while the program had given the buffer away: this was the last of them.
                .closing => if (left == 0) dropWrap(self, tenant),
                // Dropped without free: the buffer was the lease's own.
                .live => if (epoch == made) {
                    self.handles.addWrap(seen.handle) catch return;
                    dropWrap(self, tenant);
                },
                else => {},
            }
        }

        pub fn regionEpoch(self: *E, index: u32) u32 {
            if (!self.table.known(index)) return 0;
            return self.table.at(index).epoch.load(.monotonic, .epoch);
        }
    };
}
