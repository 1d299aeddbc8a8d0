//! holdfast's general allocator linked into the harness, as another Zig program has it: no library, no
//! table of functions, calls that the compiler may inline.
//!
//! Its memory comes from the system. A thread keeps its index in its face, as a program keeps it beside
//! whatever else it has for each thread.

const std = @import("std");
const holdfast = @import("holdfast");

const Heap = holdfast.heap.Global(.{});

/// It wants zeroed memory that stays where it is; here nothing of it is touched before it is used.
var memory: [@sizeOf(Heap)]u8 align(@alignOf(Heap)) = @splat(0);
const heap: *Heap = @ptrCast(&memory);
/// Indexes in use, as bits; threads of the workloads are few.
var threads: std.atomic.Value(u64) = .init(0);

pub const Face = struct {
    thread: u32,

    pub inline fn alloc(face: *const Face, bytes: usize) ?*anyopaque {
        return @ptrCast(heap.alloc(face.thread, bytes, 0));
    }

    pub inline fn free(face: *const Face, block: *anyopaque, _: usize) void {
        heap.free(face.thread, @ptrCast(block)) catch {};
    }

    pub fn forThread(_: *const Face) !Face {
        var used = threads.load(.monotonic);
        while (used != std.math.maxInt(u64)) {
            const index: u6 = @intCast(@ctz(~used));
            // Acquire: pairs with the release in `threadEnd`; that thread's slabs are nobody's by now.
            used = threads.cmpxchgWeak(used, used | @as(u64, 1) << index, .acquire, .monotonic) orelse
                return .{ .thread = index };
        }
        return error.ThreadRefused;
    }

    pub fn threadEnd(face: *const Face) void {
        heap.threadEnded(face.thread);
        _ = threads.fetchAnd(~(@as(u64, 1) << @intCast(face.thread)), .release);
    }
};

pub fn open() !Face {
    if (!heap.init(holdfast.system_backend, .{})) return error.OutOfMemory;
    const face: Face = undefined;
    return face.forThread();
}
