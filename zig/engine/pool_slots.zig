//! Slots of pools: made, opened, changed, closed, and free again once nothing shows their memory.
//!
//! A slot is taken by a compare-and-swap, prepared, and published under a number that names this opening
//! of it; closed, it waits until no lease, no ArrayBuffer and no dependent is left (`reap`). What serves
//! small requests over the pool is the slot's layer, see layer.zig.
//!
//! Invariant: pool and layer are whole before the number is there, and stay readable after it is gone: a
//! racing caller with an old number finds valid memory.
//!
//! Cost: an opening maps the pool's bookkeeping once a slot; figures look at every descriptor. Threads:
//! any; one closer wins. When not: for operations on a lease, which carries its slot.

const std = @import("std");
const ds = @import("../ds/ds.zig");
const heap = @import("../heap/heap.zig");
const types = @import("types.zig");
const figures = @import("figures.zig");

const Sync = ds.Real;
const Status = types.Status;

pub fn PoolSlots(comptime E: type) type {
    return struct {
        const Pool = E.Pool;
        const PoolSlot = E.PoolSlot;
        const Os = E.System;
        const layered = E.layered;
        const status = E.status;
        const integer = E.integer;
        const slots_fixed = E.slots_fixed;
        const closing_ns = E.closing_ns;

        pub fn poolCreate(self: *E, thread: u32, options: *const types.PoolOptions) f64 {
            _ = thread;
            if (self.isForked()) return status(.forked);
            if (!self.ensureReady()) return status(.out_of_memory);
            var merged: heap.Options = .{};
            if (!figures.merge(&merged, options)) return status(.invalid_argument);
            self.reap();
            for (self.pools[slots_fixed..], slots_fixed..) |*slot, i| {
                if (slot.taken.cmpxchg(0, 1, .acquire, .monotonic, .pool_take) != null) continue;
                return openPool(self, slot, @intCast(i), merged);
            }
            return status(.limit);
        }

        pub fn globalCreate(self: *E, options: *const types.GlobalOptions) f64 {
            const pool = limited(options.limit_bytes) orelse return status(.invalid_argument);
            const region_bytes = integer(options.region_bytes) orelse return status(.invalid_argument);
            return layered.createOver(self, .global, 0, pool, .{ .region_bytes = region_bytes });
        }

        pub fn globalPages(self: *E, thread: u32, id: u32, count: f64, align_log2: u32, low: bool) f64 {
            return layered.globalPages(self, thread, id, integer(count) orelse return status(.out_of_range), align_log2, low);
        }

        pub fn globalAddRegion(self: *E, thread: u32, id: u32, bytes: f64, low: bool) Status {
            return layered.globalAddRegion(self, thread, id, integer(bytes) orelse return .out_of_range, low);
        }

        pub fn globalSection(self: *E, id: u32, index: u32, out: *types.SectionStats) Status {
            if (self.isForked()) return .forked;
            return layered.globalSection(self, id, index, out);
        }

        pub fn globalStats(self: *E, id: u32, out: *types.GlobalStats) Status {
            if (self.isForked()) return .forked;
            return layered.ownStats(self, .global, id, out);
        }

        pub fn globalResetPeak(self: *E, id: u32) Status {
            if (self.isForked()) return .forked;
            return layered.globalResetPeak(self, id);
        }

        pub fn reclaimingCreate(self: *E, options: *const types.ReclaimingOptions) f64 {
            const pool = limited(options.limit_bytes) orelse return status(.invalid_argument);
            const slot_bytes_max = integer(options.slot_bytes_max) orelse return status(.invalid_argument);
            const every_ms = integer(options.reclaim_every_ms) orelse return status(.invalid_argument);
            const slack_bytes = integer(options.slack_bytes_min) orelse return status(.invalid_argument);
            if (slot_bytes_max != 0 and slot_bytes_max != 4096 and slot_bytes_max != 2 << 20) return status(.invalid_argument);
            if (every_ms > std.math.maxInt(u32)) return status(.invalid_argument);
            if (options.backend != 0 and self.poolOf(options.backend) == null) return status(.closed);
            return layered.createOver(self, .reclaiming, options.backend, pool, .{
                .slot_bytes_max = if (slot_bytes_max == 0) 4096 else slot_bytes_max,
                .reclaim_every_ms = @intCast(every_ms),
                .min_slack_bytes = slack_bytes,
                .under_pressure = options.pressure != 0,
            });
        }

        pub fn reclaimingReclaim(self: *E, id: u32) f64 {
            if (self.isForked()) return status(.forked);
            return layered.reclaim(self, id);
        }

        pub fn reclaimingStats(self: *E, id: u32, out: *types.ReclaimingStats) Status {
            if (self.isForked()) return .forked;
            return layered.ownStats(self, .reclaiming, id, out);
        }

        pub fn reclaimingClassStats(self: *E, id: u32, index: u32, out: *types.ReclaimingClassStats) Status {
            if (self.isForked()) return .forked;
            return layered.reclaimingClassStats(self, id, index, out);
        }

        pub fn smallCreate(self: *E, options: *const types.SmallOptions) f64 {
            const limit_bytes = integer(options.limit_bytes) orelse return status(.invalid_argument);
            return layered.createOver(self, .small, 0, .{}, .{ .limit_bytes = limit_bytes });
        }

        pub fn smallStats(self: *E, id: u32, out: *types.SmallStats) Status {
            if (self.isForked()) return .forked;
            return layered.ownStats(self, .small, id, out);
        }

        pub fn smallResetTrip(self: *E, id: u32) Status {
            if (self.isForked()) return .forked;
            return layered.resetTrip(self, id);
        }

        /// The options of a pool under a layer; null if the bound is no number of bytes.
        fn limited(limit_bytes: f64) ?heap.Options {
            if (limit_bytes <= 0) return .{};
            return .{ .limit_bytes = integer(limit_bytes) orelse return null };
        }

        fn openPool(self: *E, slot: *PoolSlot, index: u16, options: heap.Options) f64 {
            if (self.preparePool(slot, index, options) == null) return status(.out_of_memory);
            return self.publishSlot(slot, index);
        }

        /// The pool of a slot that the caller has taken. Null: no memory, and the slot is free again.
        pub fn preparePool(self: *E, slot: *PoolSlot, index: u16, options: heap.Options) ?*Pool {
            slot.setLayer(.none, null);
            if (slot.pool.load(.acquire, .pool)) |pool| {
                pool.reopen(options);
                return pool;
            }
            const memory = self.table.metadata(@sizeOf(Pool)) orelse {
                slot.taken.store(0, .release, .pool_take);
                return null;
            };
            const pool: *Pool = @ptrCast(@alignCast(memory));
            pool.* = .init(&self.table, index, &self.sleeper, options);
            slot.pool.store(pool, .release, .pool);
            return pool;
        }

        /// Opens a prepared slot; answers its number.
        pub fn publishSlot(self: *E, slot: *PoolSlot, index: u16) f64 {
            slot.generation = (slot.generation + 1) & 0x7FFFFF;
            if (slot.generation == 0) slot.generation = 1;
            const id = slot.generation * E.pools_count + index;
            slot.closed_ns.store(0, .monotonic, .pool_closed);
            // Release: pairs with the loads of the number: pool and layer are seen whole.
            slot.id.store(id, .release, .pool_id);
            self.clock.ensure(self);
            return @floatFromInt(id);
        }

        pub fn poolShared(self: *E) u32 {
            return sharedSlot(self, 0);
        }

        /// The number of the global allocator that the process shares; made at first use.
        pub fn globalShared(self: *E) u32 {
            return sharedSlot(self, 1);
        }

        fn sharedSlot(self: *E, comptime index: u16) u32 {
            const slot = &self.pools[index];
            const id = slot.id.load(.acquire, .pool_id);
            if (id != 0) return id;
            if (!self.ensureReady()) return 0;
            if (slot.taken.cmpxchg(0, 1, .acquire, .monotonic, .pool_take) == null)
                _ = if (index == 0) openPool(self, slot, 0, .{}) else layered.open(self, .global, slot, 1, 0, .{}, .{});
            var seen = slot.id.load(.acquire, .pool_id);
            while (seen == 0 and slot.taken.load(.monotonic, .pool_take) == 1) : (seen = slot.id.load(.acquire, .pool_id)) Sync.pause();
            return seen;
        }

        pub fn poolConfigure(self: *E, thread: u32, id: u32, options: *const types.PoolOptions) Status {
            if (self.isForked()) return .forked;
            _ = thread;
            const pool = self.poolOf(id) orelse return .closed;
            var merged = pool.options;
            if (!figures.merge(&merged, options)) return .invalid_argument;
            pool.configure(merged);
            self.forgetCaches(pool);
            self.clock.ensure(self);
            self.clock.wake(self);
            return .ok;
        }

        pub fn poolOptions(self: *E, id: u32, out: *types.PoolOptions) Status {
            if (self.isForked()) return .forked;
            const pool = self.poolOf(id) orelse return .closed;
            figures.optionsOf(&pool.options, out);
            return .ok;
        }

        pub fn poolStats(self: *E, id: u32, out: *types.PoolStats) Status {
            if (self.isForked()) return .forked;
            const pool = self.poolOf(id) orelse return .closed;
            figures.poolStats(Pool, pool, out);
            return .ok;
        }

        pub fn poolClassStats(self: *E, id: u32, out: *[heap.classes]types.ClassStats) Status {
            if (self.isForked()) return .forked;
            const pool = self.poolOf(id) orelse return .closed;
            figures.classStats(Pool, pool, out);
            return .ok;
        }

        pub fn poolTrim(self: *E, thread: u32, id: u32) f64 {
            if (self.isForked()) return status(.forked);
            const pool = self.poolOf(id) orelse return status(.closed);
            const own = if (self.isAttached(thread)) self.pools[pool.slot].layer().trimOwn(thread) else 0;
            return @floatFromInt(own + Pool.Purge.trim(pool));
        }

        pub fn poolClose(self: *E, thread: u32, id: u32, force: u32) f64 {
            if (self.isForked()) return status(.forked);
            const pool = self.poolOf(id) orelse return status(.closed);
            const slot = &self.pools[id & (E.pools_count - 1)];
            const open = layered.openDependents(self, pool.slot);
            // What closed dependents still hold goes with them.
            const waits = slot.dependents.load(.monotonic, .dependents) != 0;
            const objects = if (waits) 0 else layered.liveObjects(self, slot) -| parkedObjects(self, pool.slot);
            const live = @max(pool.live() + open, objects);
            if (open != 0) return @floatFromInt(live);
            if (live != 0 and force == 0) return @floatFromInt(live);
            // One closer wins; from here on allocation answers CLOSED.
            if (slot.id.cmpxchg(id, 0, .acq_rel, .monotonic, .pool_id) != null) return status(.closed);
            // Pairs with the light fence in `rememberCache`.
            Sync.heavyFence();
            self.forgetCaches(pool);
            if (live != 0) revokeAll(self, thread, pool.slot);
            self.reap();
            return 0;
        }

        /// Objects of a layer that are kept for a lease to come, or shown by an ArrayBuffer after it.
        fn parkedObjects(self: *E, pool_slot: u16) u64 {
            if (self.pools[pool_slot].layer_kind == .none) return 0;
            var sum: u64 = 0;
            var index: u32 = 1;
            while (index < self.handles.end()) : (index += 1) {
                const of = &self.handles.entry(index).payload;
                if (of.pool != pool_slot or !of.flags.layered) continue;
                if (self.handles.peek(index).phase == .closing) sum += 1;
            }
            return sum;
        }

        fn revokeAll(self: *E, thread: u32, pool_slot: u16) void {
            var index: u32 = 1;
            while (index < self.handles.end()) : (index += 1) {
                const seen = self.handles.peek(index);
                const of = &self.handles.entry(index).payload;
                if (of.pool != pool_slot or of.bytes == 0) continue;
                switch (seen.phase) {
                    .live => switch (self.handles.beginFree(seen.handle) catch continue) {
                        .finished => self.finish(thread, index, .live),
                        .closing => self.beginClosing(thread, index),
                    },
                    .token => {
                        self.handles.endToken(seen.handle) catch continue;
                        _ = self.pending_tokens.fetchSub(1, .monotonic, .count);
                        self.finish(thread, index, .token);
                    },
                    else => {},
                }
            }
        }

        /// Frees the slots of closed pools that nothing shows any more.
        pub fn reap(self: *E) void {
            for (&self.pools) |*slot| {
                if (slot.taken.load(.monotonic, .pool_take) == 0 or slot.id.load(.acquire, .pool_id) != 0) continue;
                const pool = slot.pool.load(.acquire, .pool) orelse continue;
                if (slot.dependents.load(.acquire, .dependents) != 0) continue;
                if (slot.layer_kind != .none and !closeLayer(self, slot, pool)) continue;
                _ = Pool.Purge.trim(pool);
                if (pool.mapped_bytes.load(.monotonic, .count) != 0) continue;
                if (pool.live() != 0 or pool.total(.closing) != 0) continue;
                slot.taken.store(0, .release, .pool_take);
            }
        }

        /// Takes the layer of a closed slot down once nothing of it is leased. Another thread may still be
        /// inside a call that began before the close; it is given two looks of the background's time.
        fn closeLayer(self: *E, slot: *PoolSlot, pool: *Pool) bool {
            if (pool.live() != 0 or pool.total(.closing) != 0) return false;
            if (self.threads_attached.load(.monotonic, .threads) > 1) {
                const now = Os.nowNs();
                const seen = slot.closed_ns.load(.monotonic, .pool_closed);
                if (seen == 0) slot.closed_ns.store(now, .monotonic, .pool_closed);
                if (seen == 0 or now -| seen < closing_ns) return false;
            }
            self.layers.acquire();
            defer self.layers.release();
            if (slot.layer_kind != .none) layered.close(self, slot);
            return true;
        }
    };
}
