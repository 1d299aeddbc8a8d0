//! The face of global allocators for code that calls them millions of times a second: a record of one
//! thread and one allocator, whose address the caller keeps.
//!
//! A record is one of a fixed table, by thread and by the allocator's slot, that stays mapped as long as
//! the engine. While the thread is attached and the allocator open it leads to both; a close, the end
//! of the thread and a fork take that away, and every call then asks the engine, which refuses as the
//! face with numbers does. So an old address is never followed to anything else; it comes to life again
//! only when that thread uses the global allocator that stands in that slot by then.
//!
//! Invariant: a record with a heap has its thread's owner in that heap; both are written by the thread
//! itself, and others only take the heap away.
//!
//! Cost: two loads before the heap's own path. Threads: the record's own; `forget` any.
//!
//! When not: callers with handles; callers that keep numbers have `objectAlloc` in layered.zig.

const std = @import("std");
const types = @import("types.zig");

const Status = types.Status;

pub fn GlobalDirect(comptime E: type) type {
    const Global = E.Layer.Global;
    const Sync = E.Pool.Synchronisation;
    return struct {
        pub const Record = extern struct {
            /// Null if the slow path must look, and in a forked child.
            heap: Sync.Atomic(?*Global),
            owner: ?*anyopaque,
            /// The thread's tag in slabs.
            tag: u32,
            /// Number of the allocator; 0 in a forked child.
            id: Sync.Atomic(u32),
            spare: u64,
        };

        /// Null: no such thread, or no open global allocator of that number.
        pub fn of(self: *E, thread: u32, id: u32) ?*Record {
            if (self.threadAt(thread) == null) return null;
            const heap = E.layered.layerOf(self, .global, id) orelse return null;
            const record = self.directRecord(thread, id);
            record.owner = heap.ownerAt(thread);
            record.tag = thread + 1;
            record.id.store(id, .monotonic, .warm);
            record.heap.store(heap, .monotonic, .warm);
            return record;
        }

        pub inline fn forget(record: *Record) void {
            // A record never used stays untouched.
            if (record.heap.load(.monotonic, .warm) != null) record.heap.store(null, .monotonic, .warm);
        }

        pub inline fn take(self: *E, record: *Record, bytes: usize) ?*anyopaque {
            if (record.heap.load(.monotonic, .warm)) |heap| if (bytes -% 1 < Global.slot_bytes_max) {
                const owner: *Global.Owner = @ptrCast(@alignCast(record.owner));
                const class = Global.classOf(bytes);
                // Each returns by itself: joined they would ask again whether there is an address.
                if (Global.hasHot(owner, class)) return @ptrFromInt(Global.takeHot(owner));
                const address = heap.takeBit(owner, class);
                if (address != 0) return @ptrFromInt(address);
            };
            return takeSlow(self, record, bytes);
        }

        noinline fn takeSlow(self: *E, record: *Record, bytes: usize) ?*anyopaque {
            return takeAligned(self, record, bytes, 0);
        }

        pub noinline fn takeAligned(self: *E, record: *Record, bytes: usize, alignment: usize) ?*anyopaque {
            if (record.heap.load(.monotonic, .warm)) |heap| {
                if (bytes -% 1 < Global.bytes_max and alignment <= Global.bytes_max and @popCount(alignment) <= 1) {
                    if (heap.allocCold(record.tag - 1, bytes, alignment)) |ptr| return @ptrCast(ptr);
                }
            } else revive(self, record);
            return E.layered.objectAllocSlow(self, .global, self.threadOf(record), record.id.load(.monotonic, .warm), bytes, alignment);
        }

        pub inline fn give(self: *E, record: *Record, address: ?*anyopaque) Status {
            // No slab is at null.
            if (record.heap.load(.monotonic, .warm)) |heap| {
                if (heap.giveWarm(@ptrCast(@alignCast(record.owner)), record.tag, @intFromPtr(address))) return .ok;
            }
            return giveSlow(self, record, address);
        }

        noinline fn giveSlow(self: *E, record: *Record, address: ?*anyopaque) Status {
            if (record.heap.load(.monotonic, .warm)) |heap| {
                // Of another thread, or the last that its slab waits for; not above `bytes_max`.
                if (heap.freeCold(record.tag - 1, @ptrCast(address orelse return .ok))) {
                    E.layered.wakeToAge(self, &self.pools[record.id.load(.monotonic, .warm) & (E.pools_count - 1)]);
                    return .ok;
                } else |err| if (err == error.DoubleFree) return .double_free;
            } else if (self.isForked()) return .forked else revive(self, record);
            return E.layered.objectFreeSlow(self, .global, self.threadOf(record), record.id.load(.monotonic, .warm), address);
        }

        /// Options have changed, or another pool of that slot was closed: the thread may go on.
        fn revive(self: *E, record: *Record) void {
            const id = record.id.load(.monotonic, .warm);
            if (id != 0) _ = of(self, self.threadOf(record), id);
        }
    };
}
