//! The face of allocators of objects for code that calls them millions of times a second: a record of
//! one thread and one allocator, whose address the caller keeps.
//!
//! A record is one of a fixed table, by kind of allocator, thread and slot, that stays mapped as long as
//! the engine. While the thread is attached and the allocator open it leads to both; a close, the end
//! of the thread and a fork take that away, and every call then asks the engine, which refuses as the
//! face with numbers does. So an old address is never followed to anything else; it comes to life again
//! only when that thread uses an allocator of that kind that stands in that slot by then.
//!
//! Invariant: a record with a place has its thread's own in that heap; it is written by the thread
//! itself, and others only take the place away.
//!
//! Cost: one load or two before the heap's own path. Threads: the record's own; `forget` any.
//!
//! When not: callers with handles; callers that keep numbers have `objectAlloc` in layered.zig.

const std = @import("std");
const types = @import("types.zig");
const Kind = @import("layer.zig").Kind;

const Status = types.Status;

/// Kinds that have the face.
pub const kinds = [_]Kind{ .global, .reclaiming };

pub fn ObjectDirect(comptime E: type, comptime kind: Kind) type {
    const Heap = E.Layer.Of(kind);
    const Sync = E.Pool.Synchronisation;
    return struct {
        pub const Record = extern struct {
            /// What the quick way begins with: the general allocator itself, or what the thread has of a
            /// reclaiming one. Null if the slow path must look, and in a forked child.
            place: Sync.Atomic(?*anyopaque),
            /// The other of the two: the thread's owner, or the reclaiming allocator.
            other: ?*anyopaque,
            /// The thread's tag in slabs.
            tag: u32,
            /// Number of the allocator; 0 in a forked child.
            id: Sync.Atomic(u32),
            spare: u64,

            inline fn heap(record: *Record) ?*Heap {
                const place = record.place.load(.monotonic, .warm) orelse return null;
                return @ptrCast(@alignCast(if (kind == .global) place else record.other.?));
            }

            fn number(record: *const Record) u32 {
                return record.id.load(.monotonic, .warm);
            }
        };

        /// Null: no such thread, or no open allocator of that kind and number.
        pub fn of(self: *E, thread: u32, id: u32) ?*Record {
            if (self.threadAt(thread) == null) return null;
            const heap = E.layered.layerOf(self, kind, id) orelse return null;
            const record = self.directRecord(kind, thread, id);
            const owner = heap.ownerAt(thread);
            record.other = if (kind == .global) owner else heap;
            record.tag = thread + 1;
            record.id.store(id, .monotonic, .warm);
            // Warm ways that share with removers want those to have a process-wide barrier.
            const warm = kind == .global or Sync.isAsymmetric();
            record.place.store(if (kind == .global) heap else if (warm) owner else null, .monotonic, .warm);
            return record;
        }

        pub inline fn forget(record: *Record) void {
            // A record never used stays untouched.
            if (record.place.load(.monotonic, .warm) != null) record.place.store(null, .monotonic, .warm);
        }

        pub inline fn take(self: *E, record: *Record, bytes: usize) ?*anyopaque {
            if (record.place.load(.monotonic, .warm)) |place| switch (kind) {
                .global => if (bytes -% 1 < Heap.slot_bytes_max) {
                    const owner: *Heap.Owner = @ptrCast(@alignCast(record.other));
                    const class = Heap.classOf(bytes);
                    // Each returns by itself: joined they would ask again whether there is an address.
                    if (Heap.hasHot(owner, class)) return @ptrFromInt(Heap.takeHot(owner));
                    const heap: *Heap = @ptrCast(@alignCast(place));
                    const address = heap.takeBit(owner, class);
                    if (address != 0) return @ptrFromInt(address);
                },
                else => if (Heap.takeWarm(@ptrCast(@alignCast(place)), bytes)) |ptr| return @ptrCast(ptr),
            };
            return takeSlow(self, record, bytes);
        }

        noinline fn takeSlow(self: *E, record: *Record, bytes: usize) ?*anyopaque {
            if (kind == .reclaiming) if (record.place.load(.monotonic, .warm)) |place| {
                if (Heap.takeStashed(@ptrCast(@alignCast(place)), bytes)) |ptr| return @ptrCast(ptr);
            };
            return takeAligned(self, record, bytes, 0);
        }

        pub noinline fn takeAligned(self: *E, record: *Record, bytes: usize, alignment: usize) ?*anyopaque {
            if (record.heap()) |heap| {
                if (bytes -% 1 < Heap.bytes_max and alignment <= Heap.bytes_max and @popCount(alignment) <= 1) {
                    if (allocIn(heap, record.tag - 1, bytes, alignment)) |ptr| {
                        // Quick frees wake nobody; but before them there was this.
                        if (kind == .reclaiming) _ = E.layered.woken(self, record.number());
                        return @ptrCast(ptr);
                    }
                }
            } else revive(self, record);
            return E.layered.objectAllocSlow(self, kind, self.threadOf(kind, record), record.number(), bytes, alignment);
        }

        inline fn allocIn(heap: *Heap, thread: u32, bytes: usize, alignment: usize) ?[*]u8 {
            return if (kind == .global) heap.allocCold(thread, bytes, alignment) else heap.alloc(thread, bytes, alignment);
        }

        pub inline fn give(self: *E, record: *Record, address: ?*anyopaque) Status {
            // Nothing of anybody's is at null.
            if (record.place.load(.monotonic, .warm)) |place| {
                const given = if (kind == .global)
                    Heap.giveWarm(@ptrCast(@alignCast(place)), @ptrCast(@alignCast(record.other)), record.tag, @intFromPtr(address))
                else
                    Heap.giveWarm(@ptrCast(@alignCast(place)), @intFromPtr(address));
                if (given) return .ok;
            }
            return giveSlow(self, record, address);
        }

        noinline fn giveSlow(self: *E, record: *Record, address: ?*anyopaque) Status {
            if (kind == .reclaiming) if (record.place.load(.monotonic, .warm)) |place| {
                const heap: *Heap = @ptrCast(@alignCast(record.other.?));
                if (heap.giveOwned(@ptrCast(@alignCast(place)), @intFromPtr(address))) return .ok;
            };
            return giveAny(self, record, address);
        }

        noinline fn giveAny(self: *E, record: *Record, address: ?*anyopaque) Status {
            if (record.heap()) |heap| {
                // Of another thread, or the last that its slab waits for; not above `bytes_max`.
                const ptr: [*]u8 = @ptrCast(address orelse return .ok);
                const thread = record.tag - 1;
                if (if (kind == .global) heap.freeCold(thread, ptr) else heap.free(thread, ptr)) {
                    return E.layered.woken(self, record.number());
                } else |err| if (err == error.DoubleFree) return .double_free;
            } else if (self.isForked()) return .forked else revive(self, record);
            return E.layered.objectFreeSlow(self, kind, self.threadOf(kind, record), record.number(), address);
        }

        /// Options have changed, or another pool of that slot was closed: the thread may go on.
        fn revive(self: *E, record: *Record) void {
            const id = record.number();
            if (id != 0) _ = of(self, self.threadOf(kind, record), id);
        }
    };
}
