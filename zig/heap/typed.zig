//! The pool for Zig programs: elements in and elements out, and the face of a `std.mem.Allocator`.
//!
//! `Typed(Pool)` leases arrays of any element type and says how many elements fit. Element types of
//! no size, and arrays of no elements, need no memory and always succeed, also while the pool is
//! disabled. `Allocator(Pool)` is what std's containers take; it rounds small requests up to one
//! region, so give it large ones or put a general allocator between.
//!
//! Invariant: products of element size and count are checked; what does not fit is an error, never a
//! shorter array. Cost: as the pool's own. Threads: the thread whose index was given; a `Block` may
//! be freed by any other thread through its own face.

const std = @import("std");
const ds = @import("../ds/ds.zig");
const os = @import("../os/os.zig");
const large_pool = @import("large_pool.zig");

const Failure = large_pool.Failure;

pub const PrefetchError = error{ OutOfBounds, Refused };

pub fn Typed(comptime Pool: type) type {
    return struct {
        pool: *Pool,
        /// Index of the calling thread.
        thread: u32,

        const Self = @This();

        /// A leased array: the first `capacity` elements at `ptr` are the holder's until `free`.
        pub fn Block(comptime T: type) type {
            return struct {
                ptr: [*]T,
                /// Elements that fit, at least as many as asked for; no bound for elements of no size.
                capacity: usize,
                /// Bytes leased; 0: there is no memory behind it.
                bytes: usize,
            };
        }

        /// Leases room for `count` elements.
        pub fn alloc(self: Self, comptime T: type, count: usize, failure: *Failure) large_pool.Error!Block(T) {
            if (@sizeOf(T) == 0 or count == 0) return .{
                .ptr = @ptrFromInt(@alignOf(T)),
                .capacity = if (@sizeOf(T) == 0) std.math.maxInt(usize) else 0,
                .bytes = 0,
            };
            const bytes = if (ds.fault("size-wraps"))
                @sizeOf(T) *% count
            else
                std.math.mul(usize, @sizeOf(T), count) catch return error.SizeClass;
            if (bytes > std.math.maxInt(isize)) return error.SizeClass;
            const ptr = try self.pool.alloc(self.thread, .{ .bytes = bytes, .alignment = @alignOf(T) }, failure);
            return .{
                .ptr = @ptrCast(@alignCast(ptr)),
                .capacity = Pool.pageRound(bytes) / @sizeOf(T),
                .bytes = bytes,
            };
        }

        /// Ends the lease; without memory behind it there is nothing to do.
        pub fn free(self: Self, block: anytype) large_pool.FreeError!void {
            if (block.bytes != 0) try self.pool.free(self.thread, @intFromPtr(block.ptr));
        }

        /// Asks the system to bring elements [from, to) in. Ranges of nothing are fine.
        pub fn prefetch(self: Self, block: anytype, from: usize, to: usize) PrefetchError!void {
            const T = std.meta.Child(@TypeOf(block.ptr));
            if (!ds.fault("prefetch-underflow") and from > to) return error.OutOfBounds;
            if (@sizeOf(T) == 0 or block.bytes == 0) return;
            const first = std.math.mul(usize, from, @sizeOf(T)) catch return error.OutOfBounds;
            const end = std.math.mul(usize, to, @sizeOf(T)) catch return error.OutOfBounds;
            if (end > Pool.pageRound(block.bytes)) return error.OutOfBounds;
            if (end -% first == 0) return;
            // Outward to pages: the system takes no other addresses.
            const page = Pool.System.pageBytes();
            const start = if (ds.fault("prefetch-unaligned")) first else std.mem.alignBackward(usize, first, page);
            const stop = std.mem.alignForward(usize, end, page);
            const base: [*]u8 = @ptrCast(block.ptr);
            if (self.pool.tryAdvise(base + start, stop -% start, .will_need) != 0) return error.Refused;
        }
    };
}

/// `std.mem.Allocator` over a pool, for one thread.
pub fn Allocator(comptime Pool: type) type {
    return struct {
        pool: *Pool,
        thread: u32,
        colour: usize = 0,

        const Self = @This();
        const colours = 31;

        pub fn allocator(self: *Self) std.mem.Allocator {
            return .{ .ptr = self, .vtable = &.{ .alloc = alloc, .resize = resize, .remap = remap, .free = free } };
        }

        fn alloc(context: *anyopaque, bytes: usize, alignment: std.mem.Alignment, return_address: usize) ?[*]u8 {
            _ = return_address;
            const self: *Self = @ptrCast(@alignCast(context));
            var failure: Failure = .{};
            const offset = self.nextColour(bytes, alignment);
            const request: large_pool.Request = .{
                .bytes = @max(bytes, 1) + offset,
                .alignment = alignment.toByteUnits(),
            };
            return (self.pool.alloc(self.thread, request, &failure) catch return null) + offset;
        }

        /// Regions all begin at multiples of 2 MiB, where their first lines fight for the same few
        /// sets of the processor's caches: so blocks begin some pages later, each elsewhere, where
        /// that needs no larger class.
        fn nextColour(self: *Self, bytes: usize, alignment: std.mem.Alignment) usize {
            const page = Pool.System.pageBytes();
            if (alignment.toByteUnits() > page) return 0;
            self.colour = (self.colour + 1) % colours;
            const offset = self.colour * page;
            const class = Pool.classOf(bytes, 0) catch return 0;
            return if (Pool.classBytes(class) - @max(bytes, 1) >= offset) offset else 0;
        }

        fn startOf(self: *Self, address: usize) usize {
            return self.pool.startOf(address) orelse address;
        }

        fn resize(context: *anyopaque, memory: []u8, alignment: std.mem.Alignment, bytes: usize, return_address: usize) bool {
            _ = alignment;
            _ = return_address;
            const self: *Self = @ptrCast(@alignCast(context));
            const address = @intFromPtr(memory.ptr);
            const start = self.startOf(address);
            return self.pool.resizeAt(start, bytes + (address - start));
        }

        fn remap(context: *anyopaque, memory: []u8, alignment: std.mem.Alignment, bytes: usize, return_address: usize) ?[*]u8 {
            return if (resize(context, memory, alignment, bytes, return_address)) memory.ptr else null;
        }

        fn free(context: *anyopaque, memory: []u8, alignment: std.mem.Alignment, return_address: usize) void {
            _ = alignment;
            _ = return_address;
            const self: *Self = @ptrCast(@alignCast(context));
            self.pool.free(self.thread, self.startOf(@intFromPtr(memory.ptr))) catch {};
        }
    };
}
