//! The clock: one background thread a process that ticks every pool which wants it.
//!
//! It sleeps until the next pool's tick; when a round leaves every pool clean it sleeps until someone
//! frees (`Sleeper.asleep`). It ends when no pool wants it and starts again when one does. Named
//! "holdfast", with a small stack and all signals blocked.
//!
//! Invariant: at most one such thread runs (`running`). Before it sleeps without a time it sets
//! `asleep`, passes the heavy fence and looks at the pools once more; a thread that frees puts the
//! region where it can be seen, passes the light fence and looks at `asleep`. One of the two sees the
//! other, so no dirty region is left behind.
//!
//! It also sets up the process-wide barrier (`fence`): in a process that has threads already the system
//! takes 5 to 20 ms for that, and the process cannot end meanwhile. Until then owners pass a full fence
//! and nothing is warm; a program that ends before has paid nothing.
//!
//! Cost: nothing while nothing is dirty; else one round an interval. Threads: `run` is the thread's
//! own; the rest is for any. Not for systems without threads: there, purging happens in `trim`.

const std = @import("std");
const ds = @import("../ds/ds.zig");

const Sync = ds.Real;

/// Longer than a short program lives.
const fence_delay_ns = 100_000_000;

pub fn Clock(comptime Engine: type) type {
    const Os = Engine.System;
    return struct {
        running: Sync.Atomic(u32) = .init(0),
        /// Threads that may still look at the engine, `running` or about to end.
        alive: Sync.Atomic(u32) = .init(0),
        /// Raised to make the thread look again; it sleeps on this word.
        bell: Sync.Atomic(u32) = .init(0),
        due: [256]u64 = @splat(0),
        /// When the thread sets up the process-wide barrier; 0: it has, or need not.
        fence_ns: Sync.Atomic(u64) = .init(0),

        const Self = @This();

        /// Sets up the process-wide barrier, at once where that takes no time, else by the thread.
        pub fn begin(self: *Self, engine: *Engine) void {
            if (!Os.isAlone()) {
                self.fence_ns.store(Os.nowNs() +| fence_delay_ns, .monotonic, .clock_fence);
                self.ensure(engine);
                if (self.running.load(.monotonic, .clock_start) != 0) return;
            }
            self.fence();
        }

        fn fence(self: *Self) void {
            if (Os.barrierSetup()) ds.setHeavyFence(Os.barrier);
            self.fence_ns.store(0, .monotonic, .clock_fence);
        }

        /// Starts the thread if a pool wants it and none runs.
        pub fn ensure(self: *Self, engine: *Engine) void {
            if (!wanted(engine)) return;
            // Acquire: pairs with the release of the thread that ended.
            if (self.running.cmpxchg(0, 1, .acquire, .monotonic, .clock_start) != null) return;
            _ = self.alive.fetchAdd(1, .monotonic, .clock_alive);
            if (Os.spawn(run, engine) == 0) return;
            _ = self.alive.fetchSub(1, .monotonic, .clock_alive);
            self.running.store(0, .release, .clock_start);
        }

        /// Wakes the thread, wherever it sleeps.
        pub fn wake(self: *Self, engine: *Engine) void {
            engine.sleeper.asleep.store(0, .monotonic, .sleeper_wake);
            _ = self.bell.fetchAdd(1, .release, .bell);
            Os.wake(&self.bell.raw, 1);
        }

        /// Makes the thread end and waits for it; tests only, once no pool wants it.
        pub fn stop(self: *Self, engine: *Engine) void {
            for (&engine.pools) |*slot| if (slot.pool.load(.acquire, .pool)) |pool| {
                pool.clock.wanted.store(0, .monotonic, .clock_option);
            };
            self.fence_ns.store(0, .monotonic, .clock_fence);
            // Acquire: pairs with the release at the thread's end, its last look at the engine.
            while (self.alive.load(.acquire, .clock_alive) != 0) {
                self.wake(engine);
                Os.wait(&self.bell.raw, self.bell.load(.monotonic, .bell), 1_000_000);
            }
        }

        fn wanted(engine: *Engine) bool {
            if (engine.clock.fence_ns.load(.monotonic, .clock_fence) != 0) return true;
            for (&engine.pools) |*slot| {
                if (slot.taken.load(.monotonic, .pool_take) == 0) continue;
                const pool = slot.pool.load(.acquire, .pool) orelse continue;
                if (pool.clock.get(.wanted) != 0) return true;
            }
            return false;
        }

        fn run(argument: ?*anyopaque) callconv(.c) ?*anyopaque {
            const engine: *Engine = @ptrCast(@alignCast(argument.?));
            const self = &engine.clock;
            defer _ = self.alive.fetchSub(1, .release, .clock_alive);
            Os.nameThread("holdfast");
            while (true) {
                const bell = self.bell.load(.acquire, .bell);
                if (!wanted(engine)) {
                    self.running.store(0, .release, .clock_start);
                    // A pool may have asked between the look and the store: then one of us starts.
                    self.ensure(engine);
                    return null;
                }
                const now = Os.nowNs();
                const fence_ns = self.fence_ns.load(.monotonic, .clock_fence);
                if (fence_ns != 0 and fence_ns <= now) {
                    self.fence();
                    continue;
                }
                const next = self.round(engine, now);
                if (next) |at| {
                    const until = if (fence_ns != 0) @min(at, fence_ns) else at;
                    Os.wait(&self.bell.raw, bell, until -| Os.nowNs());
                    continue;
                }
                engine.sleeper.asleep.store(1, .monotonic, .sleeper_sleep);
                // Pairs with the light fence in `LargePool.wakeIfAsleep`.
                Sync.heavyFence();
                const rest: ?u64 = if (fence_ns != 0) fence_ns -| Os.nowNs() else null;
                if (!dirty(engine)) Os.wait(&self.bell.raw, bell, rest);
                engine.sleeper.asleep.store(0, .monotonic, .sleeper_sleep);
            }
        }

        /// Ticks the pools that are due. The time of the next tick, or null if all are clean.
        fn round(self: *Self, engine: *Engine, now: u64) ?u64 {
            var next: ?u64 = null;
            var closed = false;
            for (&engine.pools, &self.due) |*slot, *due| {
                if (slot.taken.load(.monotonic, .pool_take) == 0) continue;
                const pool = slot.pool.load(.acquire, .pool) orelse continue;
                if (slot.id.load(.acquire, .pool_id) == 0) closed = true;
                if (pool.clock.get(.wanted) == 0) continue;
                const interval = @as(u64, pool.clock.get(.interval_ms)) * 1_000_000;
                if (due.* > now and due.* - now <= interval) {
                    next = @min(next orelse due.*, due.*);
                    continue;
                }
                const ages = tickLayer(engine, slot, now, interval);
                if (Engine.Pool.Purge.tick(pool) == .clean and !ages) {
                    due.* = 0;
                    continue;
                }
                // From now, not from the last due time: no catching up in bursts.
                due.* = now + interval;
                next = @min(next orelse due.*, due.*);
            }
            if (closed) engine.reap();
            return next;
        }

        /// Ticks the layer of an open slot. True while something of it ages, and for a second after: one
        /// that is emptied and filled again all the time must not wake the thread each time.
        fn tickLayer(engine: *Engine, slot: *Engine.PoolSlot, now: u64, interval: u64) bool {
            if (slot.id.load(.acquire, .pool_id) == 0 or slot.layer_kind == .none) return false;
            if (Engine.layered.tick(engine, slot)) slot.aged_ns = now;
            return now -| slot.aged_ns < 10 * interval;
        }

        fn dirty(engine: *Engine) bool {
            for (&engine.pools) |*slot| {
                if (slot.taken.load(.monotonic, .pool_take) == 0) continue;
                const pool = slot.pool.load(.acquire, .pool) orelse continue;
                if (pool.clock.get(.wanted) == 0) continue;
                if (Engine.Pool.Purge.hasWork(pool)) return true;
                if (Engine.layered.ages(engine, slot)) return true;
            }
            return false;
        }
    };
}
