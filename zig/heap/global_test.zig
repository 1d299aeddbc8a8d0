//! The general allocator's scenarios: over the system, over a caller's slice, with threads.
//!
//! Invariant checked after each: what was taken has come back, to the last page.

const std = @import("std");
const testing = std.testing;
const os = @import("../os/os.zig");
const ds = @import("../ds/ds.zig");
const heap = @import("heap.zig");
const slab_class = @import("slab_class.zig");

const Heap = heap.Global(.{});
const Bare = heap.Global(heap.global_freestanding);
const System = heap.SystemBackend(os.fake);

/// A heap over the deterministic system; `deinit` proves that every page came back.
fn Home(comptime H: type) type {
    return struct {
        heap: *H,

        fn init() !@This() {
            os.fake.reset();
            const memory = try testing.allocator.create(H);
            ds.memory.zero(std.mem.asBytes(memory));
            try testing.expect(memory.init(System.backend, .{}));
            return .{ .heap = memory };
        }

        fn deinit(home: @This()) void {
            home.heap.deinit();
            testing.allocator.destroy(home.heap);
            testing.expectEqual(0, os.fake.pagesHeld()) catch @panic("pages were lost");
            os.fake.reset();
        }

        fn expectBack(home: @This()) !void {
            _ = home.heap.trim(0);
            try home.heap.buddy.invariants();
            const figures = home.heap.figures();
            try testing.expectEqual(0, figures.allocated_bytes);
            try testing.expectEqual(0, figures.slabs);
            try testing.expectEqual(0, figures.late_double_frees);
            try testing.expectEqual(0, home.heap.trim(0));
        }
    };
}

test "every size comes aligned, alone and with its contents" {
    const home: Home(Heap) = try .init();
    defer home.deinit();
    var blocks: [600][]u8 = undefined;
    for (&blocks, 0..) |*block, i| {
        const bytes = 1 + i * i * 7 % 300_000;
        block.* = (home.heap.alloc(0, bytes, 0) orelse return error.Refused)[0..bytes];
        try testing.expectEqual(0, @intFromPtr(block.ptr) % 16);
        try testing.expect(home.heap.usableSize(block.ptr).? >= bytes);
        @memset(block.*, @truncate(i));
    }
    for (blocks, 0..) |block, i| {
        for (block) |byte| try testing.expectEqual(@as(u8, @truncate(i)), byte);
        try home.heap.free(0, block.ptr);
    }
    try home.expectBack();
}

test "every class fills slabs, and its slots are used again" {
    const home: Home(Heap) = try .init();
    defer home.deinit();
    var blocks: [3000]usize = undefined;
    for (slab_class.classes) |class| {
        const count: usize = @min(blocks.len, class.capacity * 3);
        for (0..3) |round| {
            for (blocks[0..count]) |*block| {
                const ptr = home.heap.alloc(0, class.bytes, 0) orelse return error.Refused;
                @as(*usize, @ptrCast(@alignCast(ptr))).* = @intFromPtr(ptr);
                block.* = @intFromPtr(ptr);
            }
            for (blocks[0..count]) |block| try testing.expectEqual(block, @as(*usize, @ptrFromInt(block)).*);
            const figures = home.heap.figures();
            try testing.expectEqual(@as(f64, @floatFromInt(count)), figures.slots_live);
            var i = round;
            for (0..count) |_| {
                i = (i + 7) % count;
                while (blocks[i] == 0) i = (i + 1) % count;
                try home.heap.free(0, @ptrFromInt(blocks[i]));
                blocks[i] = 0;
            }
        }
    }
    try home.expectBack();
}

test "wrong addresses are told from right ones, for the owner and for others" {
    const home: Home(Heap) = try .init();
    defer home.deinit();
    const h = home.heap;
    for ([_]usize{ 1, 48, 1000, 5000, 60_000, 200_000 }) |bytes| {
        const block = h.alloc(0, bytes, 0).?;
        const other = h.alloc(0, bytes, 0).?;
        for ([_]?u32{ 0, 1, null }) |thread| {
            try testing.expectError(error.Foreign, h.free(thread, block + 1));
            try testing.expectError(error.Foreign, h.free(thread, block + bytes / 2 + 1));
            try testing.expectError(error.Foreign, h.free(thread, @ptrFromInt(4096)));
            try testing.expectError(error.Foreign, h.free(thread, @ptrFromInt(std.math.maxInt(usize) - 15)));
        }
        try h.free(0, block);
        for ([_]?u32{ 0, 1, null }) |thread| try testing.expectError(error.DoubleFree, h.free(thread, block));
        try h.free(1, other);
        for ([_]?u32{ 0, 1, null }) |thread| try testing.expectError(error.DoubleFree, h.free(thread, other));
        try testing.expectEqual(null, h.usableSize(block));
    }
    try home.expectBack();
}

test "alignments up to a mebibyte are absolute" {
    const home: Home(Heap) = try .init();
    defer home.deinit();
    var shift: u5 = 0;
    while (shift <= 20) : (shift += 1) {
        const alignment = @as(usize, 1) << shift;
        for ([_]usize{ 1, 100, 5000, 70_000, 300_000 }) |bytes| {
            const block = home.heap.alloc(0, bytes, alignment) orelse return error.Refused;
            try testing.expectEqual(0, @intFromPtr(block) % alignment);
            try home.heap.free(0, block);
        }
    }
    try home.expectBack();
}

test "a second initialisation is refused and changes nothing" {
    const home: Home(Heap) = try .init();
    defer home.deinit();
    const block = home.heap.alloc(0, 100, 0).?;
    try testing.expect(!home.heap.init(System.backend, .{}));
    try testing.expectEqual(112, home.heap.usableSize(block).?);
    try home.heap.free(0, block);
    try home.expectBack();
}

test "a caller's slice serves without a system, and fails without one that fits" {
    const memory = try testing.allocator.alignedAlloc(u8, .fromByteUnits(4096), 3 << 20);
    defer testing.allocator.free(memory);
    const h = try testing.allocator.create(Bare);
    defer testing.allocator.destroy(h);
    ds.memory.zero(std.mem.asBytes(h));
    try testing.expectEqual(null, h.alloc(0, 10, 0));
    try testing.expectError(error.TooSmall, h.initRegion(memory[0..4096]));
    try h.initRegion(memory);
    try testing.expectError(error.AlreadyInitialised, h.initRegion(memory));
    var blocks: [5000][*]u8 = undefined;
    var count: usize = 0;
    while (count < blocks.len) : (count += 1) blocks[count] = h.alloc(@intCast(count % 3), 1000, 0) orelse break;
    try testing.expect(count > 2500);
    for (blocks[0..count]) |block| try h.free(1, block);
    // Everything again: the mail of each owner is read when it needs slots.
    var again: usize = 0;
    for ([_]u32{ 0, 1, 2 }) |thread| {
        while (again < count) : (again += 1) blocks[again] = h.alloc(thread, 1000, 0) orelse break;
    }
    try testing.expectEqual(count, again);
    for (blocks[0..again]) |block| try h.free(null, block);
    h.deinit();
}

test "std's allocator conformance tests pass" {
    const home: Home(Heap) = try .init();
    defer home.deinit();
    var face: Heap.Face = .{ .heap = home.heap, .thread = 0 };
    try std.heap.testAllocator(face.allocator());
    try std.heap.testAllocatorAligned(face.allocator());
    try std.heap.testAllocatorLargeAlignment(face.allocator());
    try std.heap.testAllocatorAlignedShrink(face.allocator());
    try home.expectBack();
}

test "an ended thread's slots are freed and used by others" {
    const home: Home(Heap) = try .init();
    defer home.deinit();
    const h = home.heap;
    var blocks: [3000][*]u8 = undefined;
    for (&blocks) |*block| block.* = h.alloc(1, 64, 0).?;
    h.threadEnded(1);
    for (blocks[0..1500]) |block| try h.free(0, block);
    const slabs = h.figures().slabs;
    for (blocks[0..1500]) |*block| block.* = h.alloc(2, 64, 0).?;
    try testing.expect(h.figures().slabs <= slabs);
    try testing.expect(h.figures().adoptions > 0);
    for (blocks) |block| try h.free(null, block);
    h.threadEnded(2);
    try home.expectBack();
}

test "realloc stays within the class, grows into free pages, and leaves the old when refused" {
    const home: Home(Heap) = try .init();
    defer home.deinit();
    const h = home.heap;
    const small = h.alloc(0, 100, 0).?;
    try testing.expectEqual(small, h.realloc(0, small, 112, 0).?);
    small[99] = 7;
    const moved = h.realloc(0, small, 400, 0).?;
    try testing.expect(moved != small);
    try testing.expectEqual(7, moved[99]);
    const large = h.alloc(0, 100_000, 0).?;
    try testing.expectEqual(large, h.realloc(0, large, 300_000, 0).?);
    try testing.expectEqual(null, h.realloc(0, large, std.math.maxInt(usize) / 2, 0));
    try testing.expect(h.usableSize(large).? >= 300_000);
    try h.free(0, moved);
    try h.free(0, large);
    try home.expectBack();
}
