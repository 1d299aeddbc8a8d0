//! Where an allocator of objects gets its memory from: a large pool, the system, any
//! `std.mem.Allocator`, or whatever else a caller puts behind two functions.
//!
//! Invariant: what `take` answered is given back whole, with the same address and length, exactly once.
//! A backend may refuse at any time; the allocator above then refuses too and loses nothing.
//!
//! Cost: an indirect call, off every hot path. Threads: any, at the same time; `thread` is the index of
//! the caller where it has one, as a hint. No lock of the allocator above is held across a call, so a
//! backend may allocate from that very allocator.
//!
//! When not: inside one allocator, whose parts know each other.

const std = @import("std");
const regions = @import("../region/region.zig");
const large_pool = @import("large_pool.zig");

/// Memory from a backend.
pub const Span = struct {
    ptr: [*]u8,
    /// At least what was asked for.
    bytes: usize,
    /// All of it reads as zero.
    zero: bool,
};

pub const Backend = struct {
    context: *anyopaque,
    functions: *const Functions,

    pub const Functions = struct {
        take: *const fn (context: *anyopaque, thread: ?u32, bytes: usize, alignment: usize) ?Span,
        /// `take` on the system's own pages, where it might otherwise answer huge ones.
        takeFine: ?*const fn (context: *anyopaque, thread: ?u32, bytes: usize, alignment: usize) ?Span = null,
        give: *const fn (context: *anyopaque, thread: ?u32, ptr: [*]u8, bytes: usize, alignment: usize) void,
    };

    /// At least `bytes` at a multiple of `alignment` (a power of two); null if refused.
    pub fn take(backend: Backend, thread: ?u32, bytes: usize, alignment: usize) ?Span {
        return backend.functions.take(backend.context, thread, bytes, alignment);
    }

    /// `take` for memory of which little may ever be used: what is resident follows what is touched.
    pub fn takeFine(backend: Backend, thread: ?u32, bytes: usize, alignment: usize) ?Span {
        const function = backend.functions.takeFine orelse backend.functions.take;
        return function(backend.context, thread, bytes, alignment);
    }

    /// Gives back what `take` answered: `bytes` is the length that it answered, `alignment` the one asked for.
    pub fn give(backend: Backend, thread: ?u32, ptr: [*]u8, bytes: usize, alignment: usize) void {
        backend.functions.give(backend.context, thread, ptr, bytes, alignment);
    }

    /// Over a `std.mem.Allocator` that any thread may call. The pointer must outlive the backend.
    pub fn ofAllocator(allocator: *const std.mem.Allocator) Backend {
        return .{ .context = @ptrCast(@constCast(allocator)), .functions = &.{ .take = fromStd, .give = toStd } };
    }

    fn fromStd(context: *anyopaque, _: ?u32, bytes: usize, alignment: usize) ?Span {
        const allocator: *const std.mem.Allocator = @ptrCast(@alignCast(context));
        const ptr = allocator.rawAlloc(bytes, .fromByteUnits(@max(alignment, 1)), @returnAddress()) orelse return null;
        return .{ .ptr = ptr, .bytes = bytes, .zero = false };
    }

    fn toStd(context: *anyopaque, _: ?u32, ptr: [*]u8, bytes: usize, alignment: usize) void {
        const allocator: *const std.mem.Allocator = @ptrCast(@alignCast(context));
        allocator.rawFree(ptr[0..bytes], .fromByteUnits(@max(alignment, 1)), @returnAddress());
    }
};

/// Mappings of the system's, one for each span.
pub fn SystemBackend(comptime Os: type) type {
    return struct {
        pub const backend: Backend = .{ .context = @ptrCast(@constCast(&nothing)), .functions = &.{ .take = take, .give = give } };

        const nothing: u8 = 0;

        fn take(_: *anyopaque, _: ?u32, bytes: usize, alignment: usize) ?Span {
            const page = Os.pageBytes();
            if (bytes == 0 or bytes > std.math.maxInt(isize) - page) return null;
            const rounded = std.mem.alignForward(usize, bytes, page);
            var errno: u16 = 0;
            const ptr = Os.reserve(rounded, @max(alignment, page), &errno) orelse return null;
            return .{ .ptr = ptr, .bytes = rounded, .zero = true };
        }

        fn give(_: *anyopaque, _: ?u32, ptr: [*]u8, bytes: usize, _: usize) void {
            // Refused: the system keeps the addresses; there is nothing left to try.
            _ = Os.unmap(ptr, bytes);
        }
    };
}

/// Regions of a large pool, and below half a region runs of its pages, which it counts as its own use
/// and not as leases.
pub fn PoolBackend(comptime Pool: type) type {
    return struct {
        const run_bytes_max = regions.unit_bytes / 2;

        pub fn of(pool: *Pool) Backend {
            return .{ .context = @ptrCast(pool), .functions = &.{ .take = take, .takeFine = takeFine, .give = give } };
        }

        fn take(context: *anyopaque, thread: ?u32, bytes: usize, alignment: usize) ?Span {
            return takeOf(context, thread, .{ .bytes = bytes, .alignment = alignment });
        }

        /// What the program wants of the pool's pages comes first.
        fn takeFine(context: *anyopaque, thread: ?u32, bytes: usize, alignment: usize) ?Span {
            const pool: *Pool = @ptrCast(@alignCast(context));
            const kind = pool.options.kind orelse .base;
            // Only pages that were used before are cleared for that.
            return takeOf(context, thread, .{ .bytes = bytes, .alignment = alignment, .kind = kind, .zero = alignment < run_bytes_max });
        }

        noinline fn takeOf(context: *anyopaque, thread: ?u32, request: large_pool.Request) ?Span {
            const pool: *Pool = @ptrCast(@alignCast(context));
            var failure: large_pool.Failure = .{};
            // Both are taken through a thread's cache.
            const owner = thread orelse return null;
            const bytes = request.bytes;
            const alignment = request.alignment;
            if (bytes < run_bytes_max and alignment < run_bytes_max) {
                const run = Pool.Runs.alloc(pool, owner, request, &failure) catch return null;
                const cache = pool.cacheOf(owner);
                pool.uncount(cache, bytes);
                pool.addTotal(cache, .live_beside, std.math.maxInt(u64));
                return .{ .ptr = @ptrFromInt(Pool.Runs.addressOf(pool, run)), .bytes = bytes, .zero = request.zero };
            }
            const index = pool.take(owner, request, &failure) catch return null;
            const region = pool.table.at(index);
            region.lease_bytes.store(bytes, .monotonic, .lease_bytes);
            region.become(.backing);
            return .{ .ptr = @ptrFromInt(region.address), .bytes = bytes, .zero = request.zero };
        }

        fn give(context: *anyopaque, thread: ?u32, ptr: [*]u8, bytes: usize, alignment: usize) void {
            const pool: *Pool = @ptrCast(@alignCast(context));
            const index = pool.table.find(@intFromPtr(ptr));
            if (index == regions.none) return;
            if (bytes < run_bytes_max and alignment < run_bytes_max) {
                const page_bytes = Pool.System.pageBytes();
                const offset = @intFromPtr(ptr) - pool.table.at(index).address;
                return Pool.Runs.free(pool, thread, .{
                    .region = index,
                    .page = @intCast(offset / page_bytes),
                    .pages = @intCast(std.math.divCeil(usize, bytes, page_bytes) catch unreachable),
                }, bytes, false);
            }
            pool.give(thread, index);
        }
    };
}

/// A general allocator under another. A caller without a thread's index can give, but not take.
pub fn GlobalBackend(comptime Heap: type) type {
    return struct {
        pub fn of(heap: *Heap) Backend {
            return .{ .context = @ptrCast(heap), .functions = &.{ .take = take, .give = give } };
        }

        fn take(context: *anyopaque, thread: ?u32, bytes: usize, alignment: usize) ?Span {
            const heap: *Heap = @ptrCast(@alignCast(context));
            // Rows belong to threads.
            const ptr = heap.allocCold(thread orelse return null, bytes, alignment) orelse return null;
            return .{ .ptr = ptr, .bytes = bytes, .zero = false };
        }

        fn give(context: *anyopaque, thread: ?u32, ptr: [*]u8, _: usize, _: usize) void {
            const heap: *Heap = @ptrCast(@alignCast(context));
            // Refused only if it was never taken; there is nobody to tell.
            heap.freeCold(thread, ptr) catch {};
        }
    };
}
