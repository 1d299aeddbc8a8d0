//! The large pool's faces without handles: a region by its address, for callers who keep that.
//!
//! `alloc` and `free` name thread and pool by number, as all of the ABI does. `take` and `give` are given
//! the record that `of` answers instead, and look at nothing else: the record is the cache of a thread
//! and a pool. It is readable as long as the engine is, and refuses when the pool is closed, the thread
//! has ended or the process was forked, by the comparison that keeps thieves out (`ds.OwnerLock`, whose
//! gate is shut then and reads as shut where a fork has wiped it).
//!
//! Invariant: whoever is refused by a warm way asks the slow one, which checks everything and admits the
//! thread again if there is no reason left.
//!
//! Cost: a warm pair of one length is two stores to a tie and four to the lock; a thread's first use of a
//! pool, and each after `forgetCaches`, a dozen checks. Threads: a record is its thread's; `alloc` and
//! `free` any attached thread. When not: where a double free from two threads at the same moment must be
//! told; that is what handles are for.

const std = @import("std");
const ds = @import("../ds/ds.zig");
const heap = @import("../heap/heap.zig");
const types = @import("types.zig");

const Sync = ds.Real;
const Status = types.Status;

pub fn RegionFace(comptime E: type) type {
    return struct {
        const Pool = E.Pool;
        const Os = E.System;
        pub const Cache = Pool.Cache;

        pub inline fn alloc(self: *E, thread: u32, id: u32, bytes: usize, capacity: ?*usize) ?*anyopaque {
            var cache: *Cache = undefined;
            if (!self.findLatest(thread, id, &cache)) return allocSlow(self, thread, id, bytes, capacity);
            switch (Pool.takeHand(cache, bytes)) {
                .done => return taken(cache.near.hand_address, bytes, capacity),
                .inside => return allocListed(self, cache, bytes, capacity),
                .other => return allocSlow(self, thread, id, bytes, capacity),
            }
        }

        /// The record of an attached thread and an open pool.
        pub noinline fn of(self: *E, thread: u32, id: u32) ?*Cache {
            if (self.isForked() or self.threadAt(thread) == null) return null;
            const pool = self.poolOf(id) orelse return null;
            const cache = pool.cacheOf(thread) orelse return null;
            // The first page has all that a warm operation looks at first.
            if (self.alive != null and Os.advise(@ptrCast(cache), Os.pageBytes(), .wipe_on_fork) != 0) return null;
            cache.near.id = id;
            self.rememberCache(thread, id, pool);
            return cache;
        }

        pub inline fn take(self: *E, cache: *Cache, bytes: usize) ?*anyopaque {
            return switch (Pool.takeHand(cache, bytes)) {
                .done => @ptrFromInt(cache.near.hand_address),
                .inside => allocListed(self, cache, bytes, null),
                .other => takeSlow(self, cache, bytes),
            };
        }

        noinline fn takeSlow(self: *E, cache: *Cache, bytes: usize) ?*anyopaque {
            return allocSlow(self, cache.thread(), cache.near.id, bytes, null);
        }

        noinline fn allocListed(self: *E, cache: *Cache, bytes: usize, capacity: ?*usize) ?*anyopaque {
            const address = Pool.takeListed(cache, bytes);
            if (address != 0) return taken(address, bytes, capacity);
            return allocSlow(self, cache.thread(), cache.near.id, bytes, capacity);
        }

        inline fn taken(address: usize, bytes: usize, capacity: ?*usize) ?*anyopaque {
            if (capacity) |out| out.* = Pool.pageRound(bytes);
            return @ptrFromInt(address);
        }

        noinline fn allocSlow(self: *E, thread: u32, id: u32, bytes: usize, capacity: ?*usize) ?*anyopaque {
            if (self.renew(thread, id)) |cache| if (self.poolOf(id)) |pool| {
                const address = pool.takeShared(cache, bytes);
                if (address != 0) return taken(address, bytes, capacity);
            };
            return allocCold(self, thread, id, bytes, capacity);
        }

        noinline fn allocCold(self: *E, thread_index: u32, id: u32, bytes: usize, capacity: ?*usize) ?*anyopaque {
            if (self.isForked()) return null;
            const thread = self.threadAt(thread_index) orelse return null;
            const pool = self.poolOf(id) orelse return null;
            if (bytes == 0 or bytes > std.math.maxInt(usize) / 2) return null;
            defer self.rememberCache(thread_index, id, pool);
            var failure: heap.Failure = .{};
            const ptr = pool.alloc(thread_index, .{ .bytes = bytes }, &failure) catch |err| {
                _ = E.report(thread, err, failure, bytes);
                return null;
            };
            if (capacity) |out| out.* = Pool.pageRound(bytes);
            return ptr;
        }

        pub inline fn free(self: *E, thread: u32, id: u32, address: ?*anyopaque) Status {
            var cache: *Cache = undefined;
            if (!self.findLatest(thread, id, &cache)) return freeElse(self, thread, id, address);
            return give(self, cache, address);
        }

        pub inline fn give(self: *E, cache: *Cache, address: ?*anyopaque) Status {
            if (!Pool.freeHand(cache, @intFromPtr(address))) return freeWarm(self, cache, address);
            self.wakeIfAsleep();
            return .ok;
        }

        noinline fn freeWarm(self: *E, cache: *Cache, address: ?*anyopaque) Status {
            // Shut, it may have been wiped: nothing else of it can be used.
            if (!cache.near.lock.admits()) return freeSlow(self, cache.thread(), cache.near.id, address);
            var spot: u32 = undefined;
            switch (Pool.freeWarm(&self.table, cache, @intFromPtr(address), &spot)) {
                .done => {
                    self.wakeIfAsleep();
                    return .ok;
                },
                .full => return freeFull(self, cache, spot),
                .other => return freeFar(self, cache, address, spot),
            }
        }

        noinline fn freeElse(self: *E, thread: u32, id: u32, address: ?*anyopaque) Status {
            const cache = self.renew(thread, id) orelse return freeSlow(self, thread, id, address);
            return freeWarm(self, cache, address);
        }

        noinline fn freeFull(self: *E, cache: *Cache, spot: u32) Status {
            const pool = self.poolOf(cache.near.id) orelse return .closed;
            pool.freeFull(cache, spot);
            return .ok;
        }

        noinline fn freeFar(self: *E, cache: *Cache, address: ?*anyopaque, spot: u32) Status {
            if (!Pool.freeFar(&self.table, cache, spot, @intFromPtr(address)))
                return freeSlow(self, cache.thread(), cache.near.id, address);
            self.wakeIfAsleep();
            return .ok;
        }

        noinline fn freeSlow(self: *E, thread: u32, id: u32, address: ?*anyopaque) Status {
            if (self.isForked()) return .forked;
            if (self.threadAt(thread) == null) return .foreign;
            const pool = self.poolOf(id) orelse return .closed;
            const ptr = address orelse return .ok;
            // A thread that only frees gets here first.
            defer self.rememberCache(thread, id, pool);
            pool.free(thread, @intFromPtr(ptr)) catch |err| return switch (err) {
                error.Foreign => .foreign,
                error.DoubleFree => .double_free,
            };
            return .ok;
        }
    };
}
