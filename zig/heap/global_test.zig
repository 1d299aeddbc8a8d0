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

/// A heap over the deterministic system; `expectBack` proves that every page came back.
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
            home.heap.deinit();
            try testing.expectEqual(0, os.fake.pagesHeld());
            try testing.expect(home.heap.init(System.backend, .{}));
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
    const block = home.heap.alloc(0, 300_000, 0).?;
    try testing.expect(!home.heap.init(System.backend, .{}));
    try testing.expect(home.heap.usableSize(block) != null);
    try home.heap.free(0, block);
    try home.expectBack();
}

/// A heap over a slice, without a system.
const Slice = struct {
    memory: []align(4096) u8,
    heap: *Bare,

    fn init(bytes: usize) !Slice {
        const memory = try testing.allocator.alignedAlloc(u8, .fromByteUnits(4096), bytes);
        const h = try testing.allocator.create(Bare);
        ds.memory.zero(std.mem.asBytes(h));
        return .{ .memory = memory, .heap = h };
    }

    fn deinit(slice: Slice) void {
        slice.heap.deinit();
        testing.allocator.destroy(slice.heap);
        testing.allocator.free(slice.memory);
    }
};

test "an initialisation that failed can be tried again" {
    const slice: Slice = try .init(3 << 20);
    defer slice.deinit();
    try testing.expectEqual(null, slice.heap.alloc(0, 10, 0));
    try testing.expectError(error.NotInitialised, slice.heap.addRegion(slice.memory, .{}));
    try testing.expectError(error.TooSmall, slice.heap.initRegion(slice.memory[0..4096]));
    try slice.heap.initRegion(slice.memory);
    try testing.expect(slice.heap.alloc(0, 10, 0) != null);
}

test "a caller's slice is used to its last slot by several owners, and recovers" {
    const slice: Slice = try .init(3 << 20);
    defer slice.deinit();
    const h = slice.heap;
    try h.initRegion(slice.memory);
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
    for ([_]u32{ 0, 1, 2 }) |thread| _ = h.trim(thread);
    try testing.expectEqual(0, h.figures().allocated_bytes);
}

test "regions are added while in use, far from one another, and each serves" {
    const slice: Slice = try .init(4 << 20);
    defer slice.deinit();
    const h = slice.heap;
    try h.initRegion(slice.memory[0 .. 1 << 20]);
    while (h.alloc(0, 5000, 0)) |_| {}
    try h.addRegion(slice.memory[2 << 20 .. 3 << 20], .{});
    try testing.expectError(error.Overlap, h.addRegion(slice.memory[5 << 19 .. 7 << 19], .{}));
    const block = h.alloc(0, 5000, 0).?;
    try testing.expect(@intFromPtr(block) >= @intFromPtr(slice.memory.ptr) + (2 << 20));
    while (h.alloc(0, 300_000, 0)) |_| {}
    try h.addRegion(slice.memory[3 << 20 ..], .{});
    try testing.expect(h.alloc(0, 300_000, 0) != null);
    try testing.expectEqual(3, h.figures().sections);
    try h.free(0, block);
}

test "low pages come from the low region alone, also when it is in pieces" {
    const slice: Slice = try .init(4 << 20);
    defer slice.deinit();
    const High = heap.Global(.{ .owners_max = 2, .sections_max = 4, .Map = @import("global_map.zig").Bounds(4), .Translate = struct {
        low: usize = 0,
        pub const contiguous = true;
        pub fn physical(translate: *const @This(), address: usize) ?u64 {
            return if (address >= translate.low) address - translate.low else (1 << 33) + address;
        }
    } });
    const h = try testing.allocator.create(High);
    defer testing.allocator.destroy(h);
    ds.memory.zero(std.mem.asBytes(h));
    defer h.deinit();
    const low = slice.memory[2 << 20 ..];
    try h.initRegion(slice.memory[0 .. 2 << 20]);
    h.buddy.translate.low = @intFromPtr(low.ptr);
    try h.addRegion(low, .{ .low = true });
    // Ordinary requests leave the low region alone as long as they can.
    const ordinary = h.alloc(0, 100, 0).?;
    try testing.expect(@intFromPtr(ordinary) < @intFromPtr(low.ptr));
    var runs: [512][*]u8 = undefined;
    var count: usize = 0;
    while (h.allocPagesLow(1, 0)) |run| : (count += 1) runs[count] = run;
    try testing.expect(count > 480);
    for (runs[0..count], 0..) |run, i| if (i % 2 == 0) try h.free(0, run);
    try testing.expectEqual(null, h.allocPagesLow(8, 0));
    for (runs[0..count], 0..) |run, i| if (i % 2 == 1) try h.free(0, run);
    const run = h.allocPagesLow(128, 0).?;
    try testing.expect(@intFromPtr(run) >= @intFromPtr(low.ptr));
    try h.free(0, run);
    try h.free(0, ordinary);
}

test "a second free of a slot is an error, for its owner and for others" {
    const home: Home(Heap) = try .init();
    defer home.deinit();
    const h = home.heap;
    for ([_]usize{ 1, 48, 1000, 5000, 60_000 }) |bytes| {
        for ([_]?u32{ 0, 1 }) |freer| {
            const block = h.alloc(0, bytes, 0).?;
            try h.free(freer, block);
            for ([_]?u32{ 0, 1, null }) |thread| try testing.expectError(error.DoubleFree, h.free(thread, block));
            try testing.expectEqual(null, h.usableSize(block));
        }
    }
    try home.expectBack();
}

test "a slot in the owner's hand is free for everyone, and taken first" {
    const home: Home(Heap) = try .init();
    defer home.deinit();
    const h = home.heap;
    const other = h.alloc(0, 64, 0).?;
    const class = slab_class.class_of[64 / 16];
    for ([_]usize{ 64, 64 << 10 }) |bytes| {
        // Its row has slots.
        try h.free(1, h.alloc(0, bytes / 2, 0).?);
        const block = h.alloc(0, bytes, 0).?;
        try h.free(0, block);
        try testing.expectEqual(@intFromPtr(block), h.owners[0].hot.address.load(.monotonic, .hot_load));
        try testing.expectEqual(null, h.usableSize(block));
        try testing.expectEqual(1, h.figures().slots_live);
        try testing.expectEqual(1, h.classFigures(class).live);
        try testing.expectEqual(64, h.ownerFigures(0).live_bytes);
        // Another class does not get it.
        const longer = h.alloc(0, bytes / 2, 0).?;
        try testing.expect(longer != block);
        try testing.expectEqual(block, h.alloc(0, bytes, 0).?);
        try testing.expect(h.usableSize(block) != null);
        try h.free(1, block);
        try h.free(0, longer);
    }
    try h.free(1, other);
    try home.expectBack();
}

test "a slab whose last slot is in its owner's hand goes back, and with a thread that ends" {
    const home: Home(Heap) = try .init();
    defer home.deinit();
    const h = home.heap;
    var blocks: [1000][*]u8 = undefined;
    for ([_]bool{ false, true }) |ends| {
        for (&blocks) |*block| block.* = h.alloc(0, 1024, 0).?;
        for (blocks) |block| try h.free(0, block);
        if (ends) h.threadEnded(0) else _ = h.trim(0);
        try testing.expectEqual(0, h.figures().slots_live);
        const live = h.alloc(1, 1024, 0).?;
        try h.free(1, live);
        _ = h.trim(1);
        try testing.expectEqual(0, h.figures().slabs);
    }
    try home.expectBack();
}

test "a second free of a run of pages is an error" {
    const home: Home(Heap) = try .init();
    defer home.deinit();
    const block = home.heap.alloc(0, 200_000, 0).?;
    try home.heap.free(1, block);
    for ([_]?u32{ 0, 1, null }) |thread| try testing.expectError(error.DoubleFree, home.heap.free(thread, block));
    try home.expectBack();
}

test "an address inside a block is foreign, for its owner and for others" {
    const home: Home(Heap) = try .init();
    defer home.deinit();
    const h = home.heap;
    for ([_]usize{ 16, 48, 1000, 5000, 60_000, 200_000 }) |bytes| {
        const block = h.alloc(0, bytes, 0).?;
        for ([_]?u32{ 0, 1, null }) |thread| {
            for ([_]usize{ 1, 8, bytes / 2, bytes - 1 }) |offset| {
                try testing.expectError(error.Foreign, h.free(thread, block + offset));
            }
        }
        try h.free(0, block);
    }
    try home.expectBack();
}

test "an address that was never given out is foreign" {
    const home: Home(Heap) = try .init();
    defer home.deinit();
    const h = home.heap;
    const block = h.alloc(0, 100_000, 0).?;
    const slot = h.alloc(0, 48, 0).?;
    // Behind the last slot of the slab: 65,536 is no multiple of 48.
    const end = std.mem.alignForward(usize, @intFromPtr(slot) + 1, 65536);
    const tail = std.mem.alignBackward(usize, end - 65536, 65536) + 65536 / 48 * 48;
    const outside: usize = 0;
    for ([_]usize{ 4096, 1 << 46, 1 << 48, std.math.maxInt(usize) - 15, tail, @intFromPtr(h), @intFromPtr(&outside) }) |address| {
        for ([_]?u32{ 0, 1, null }) |thread| try testing.expectError(error.Foreign, h.free(thread, @ptrFromInt(address)));
        try testing.expectEqual(null, h.usableSize(@ptrFromInt(address)));
    }
    try h.free(0, block);
    try h.free(0, slot);
    try home.expectBack();
}

test "two heaps live side by side, and each knows its own" {
    const home: Home(Heap) = try .init();
    defer home.deinit();
    const other = try testing.allocator.create(Heap);
    defer testing.allocator.destroy(other);
    ds.memory.zero(std.mem.asBytes(other));
    // One is the other's backend.
    try testing.expect(other.init(heap.GlobalBackend(Heap).of(home.heap), .{}));
    const mine = home.heap.alloc(0, 64, 0).?;
    const theirs = other.alloc(0, 64, 0).?;
    try testing.expectError(error.Foreign, other.free(0, mine));
    try testing.expectError(error.Foreign, home.heap.free(0, theirs));
    try other.free(0, theirs);
    try home.heap.free(0, mine);
    try testing.expect(other.trim(0) > 0);
    other.deinit();
    try home.expectBack();
}

test "a remote free leaves no write behind" {
    const home: Home(Heap) = try .init();
    defer home.deinit();
    const h = home.heap;
    var group: [16][*]u8 = undefined;
    for (&group) |*block| block.* = h.alloc(0, 64, 0).?;
    const first = group[0];
    const kept = group[15];
    @memset(kept[0..64], 0xAA);
    @memset(first[0..64], 0x55);
    for (group[0..8]) |block| try h.free(1, block);
    // Collected and handed out again, to the very same place.
    _ = h.trim(0);
    var again: ?[*]u8 = null;
    var others: [3000][*]u8 = undefined;
    var count: usize = 0;
    while (count < others.len) : (count += 1) {
        others[count] = h.alloc(0, 64, 0).?;
        if (others[count] == first) again = first;
    }
    const block = again orelse return error.NotUsedAgain;
    for (block[0..64]) |byte| try testing.expectEqual(0x55, byte);
    for (group[8..]) |each| try h.free(1, each);
    for (block[0..64]) |byte| try testing.expectEqual(0x55, byte);
    for (kept[0..64]) |byte| try testing.expectEqual(0xAA, byte);
    _ = h.trim(0);
    for (others[0..count]) |other| try h.free(0, other);
    try home.expectBack();
}

test "a full slab that owner and others free at the same time comes back whole" {
    const home: Home(Heap) = try .init();
    defer home.deinit();
    const h = home.heap;
    var remote_frees: f64 = 0;
    for ([_]usize{ 64, 1024, 8192 }) |bytes| {
        const class = slab_class.classes[slab_class.class_of[bytes / 16]];
        var blocks: [3 * 1024][*]u8 = undefined;
        const count = 3 * class.capacity;
        for (0..4) |round| {
            for (blocks[0..count]) |*block| block.* = h.alloc(0, bytes, 0).?;
            // Others first, so that their frees are pending while the owner frees the rest.
            for (blocks[0..count], 0..) |block, i| if (i % 3 == round % 3) try h.free(1, block);
            for (blocks[0..count], 0..) |block, i| if (i % 3 != round % 3) try h.free(0, block);
        }
        remote_frees += h.figures().remote_frees;
        try home.expectBack();
    }
    try testing.expect(remote_frees > 0);
}

test "one slab goes through rounds of remote frees, whole and in parts" {
    const home: Home(Heap) = try .init();
    defer home.deinit();
    const h = home.heap;
    const class = slab_class.classes[slab_class.class_of[128 / 16]];
    var blocks: [512][*]u8 = undefined;
    var freed: f64 = 0;
    for (1..9) |part| {
        for (blocks[0..class.capacity]) |*block| block.* = h.alloc(0, 128, 0).?;
        for (blocks[0..class.capacity], 0..) |block, i| if (i % 8 >= part) try h.free(0, block);
        for (blocks[0..class.capacity], 0..) |block, i| if (i % 8 < part) {
            try h.free(3, block);
            freed += 1;
        };
        _ = h.trim(0);
        try testing.expectEqual(freed, h.figures().remote_frees);
        try testing.expectEqual(0, h.figures().slots_live);
    }
    try home.expectBack();
}

test "bytes in a block never pass for a slab" {
    const home: Home(Heap) = try .init();
    defer home.deinit();
    const block = home.heap.alloc(0, 200_000, 0).?;
    for (0..200_000 / 4) |i| std.mem.writeInt(u32, block[i * 4 ..][0..4], 0x534C4142, .little);
    for ([_]?u32{ 0, 1, null }) |thread| {
        for ([_]usize{ 64, 4096 + 128, 65536 }) |offset| {
            try testing.expectError(error.Foreign, home.heap.free(thread, block + offset));
        }
    }
    try home.heap.free(0, block);
    try home.expectBack();
}

test "a miss walks no slabs" {
    const home: Home(Heap) = try .init();
    defer home.deinit();
    const h = home.heap;
    var space: [64 * 100][*]u8 = undefined;
    const blocks = space[0 .. 100 * slab_class.classes[slab_class.class_of[1024 / 16]].capacity];
    for (blocks) |*block| block.* = h.alloc(0, 1024, 0).?;
    try testing.expectEqual(100, h.figures().slabs);
    try testing.expectEqual(0, h.figures().visits);
    // One that has remote frees is one visit.
    try h.free(1, blocks[0]);
    try h.free(1, blocks[1]);
    const block = h.alloc(0, 1024, 0).?;
    try testing.expectEqual(1, h.figures().visits);
    for (blocks[2..]) |each| try h.free(0, each);
    try h.free(0, block);
    try home.expectBack();
}

test "remote frees in many slabs all come home at once" {
    const home: Home(Heap) = try .init();
    defer home.deinit();
    const h = home.heap;
    var space: [64 * 20][*]u8 = undefined;
    const blocks = space[0 .. 20 * slab_class.classes[slab_class.class_of[1024 / 16]].capacity];
    for (blocks) |*block| block.* = h.alloc(0, 1024, 0).?;
    for (blocks, 0..) |block, i| if (i % 2 == 0) try h.free(1, block);
    const slabs = h.figures().slabs;
    // Half of the slots are there again, after one look and without a new slab.
    for (0..blocks.len / 2) |i| {
        blocks[2 * i] = h.alloc(0, 1024, 0).?;
        try testing.expect(h.figures().visits >= slabs);
    }
    try testing.expectEqual(slabs, h.figures().slabs);
    for (blocks) |block| try h.free(0, block);
    try home.expectBack();
}

/// A backend that refuses when it is told to.
const Moody = struct {
    var calls: u32 = 0;
    var refuse_from: u32 = std.math.maxInt(u32);
    var refuse_to: u32 = std.math.maxInt(u32);
    /// Chunks of metadata are smaller than sections.
    var refuse_small = false;
    const backend: heap.Backend = .{ .context = @ptrCast(&calls), .functions = &.{ .take = take, .give = System.backend.functions.give } };

    fn take(_: *anyopaque, thread: ?u32, bytes: usize, alignment: usize) ?heap.Span {
        calls += 1;
        if (calls >= refuse_from and calls < refuse_to) return null;
        if (refuse_small and bytes < 2 << 20) return null;
        return System.backend.take(thread, bytes, alignment);
    }

    fn reset() void {
        calls = 0;
        refuse_from = std.math.maxInt(u32);
        refuse_to = std.math.maxInt(u32);
        refuse_small = false;
    }
};

fn moodyHome() !Home(Heap) {
    const home: Home(Heap) = try .init();
    home.heap.deinit();
    try testing.expect(home.heap.init(Moody.backend, .{}));
    Moody.reset();
    return home;
}

test "a slab that cannot be made gives its pages back" {
    const home = try moodyHome();
    defer home.deinit();
    Moody.refuse_small = true;
    try testing.expectEqual(null, home.heap.alloc(0, 64, 0));
    try testing.expectEqual(0, home.heap.buddy.allocatedBytes());
    Moody.reset();
    const block = home.heap.alloc(0, 64, 0).?;
    try home.heap.free(0, block);
    try home.expectBack();
}

test "each call of the backend refused in turn loses nothing" {
    var refused: u32 = 0;
    for (1..14) |call| {
        const home = try moodyHome();
        defer home.deinit();
        var blocks: [200]?[*]u8 = undefined;
        // Records are made by a round before; refusing those is another test.
        for (&blocks, 0..) |*block, i| block.* = home.heap.alloc(@intCast(i % 2), 1 + i * 5003 % 250_000, 0);
        for (blocks, 0..) |block, i| try home.heap.free(@intCast(i % 2), block.?);
        for ([_]u32{ 0, 1, 0 }) |thread| _ = home.heap.trim(thread);
        Moody.calls = 0;
        Moody.refuse_from = @intCast(call);
        Moody.refuse_to = @intCast(call + 1);
        for (&blocks, 0..) |*block, i| {
            const bytes = 1 + i * 5003 % 250_000;
            block.* = home.heap.alloc(@intCast(i % 2), bytes, 0);
            if (block.*) |ptr| @memset(ptr[0..bytes], @truncate(i)) else refused += 1;
        }
        for (blocks, 0..) |block, i| if (block) |ptr| {
            for (ptr[0 .. 1 + i * 5003 % 250_000]) |byte| try testing.expectEqual(@as(u8, @truncate(i)), byte);
            try home.heap.free(@intCast(i % 2), ptr);
        };
        _ = home.heap.trim(1);
        try home.expectBack();
    }
    Moody.reset();
}

/// A lock that lets somebody in between two steps.
const Busy = struct {
    var between: ?*const fn () void = null;
    var after_locks: u32 = 0;
    pub fn lock(_: *Busy) void {
        if (between) |call| {
            if (after_locks > 0) {
                after_locks -= 1;
                return;
            }
            between = null;
            call();
        }
    }
    pub fn unlock(_: *Busy) void {}
};

test "memory that another took first is asked for again" {
    const H = heap.Global(.{ .Lock = Busy, .owners_max = 2 });
    const home: Home(H) = try .init();
    defer home.deinit();
    const Thief = struct {
        var victim: *H = undefined;
        var taken: [4096][*]u8 = undefined;
        var count: usize = 0;
        fn steal() void {
            // Sections are there only after the first growth.
            if (victim.buddy.turns_count == 0) {
                Busy.between = steal;
                return;
            }
            while (victim.buddy.alloc(1, 0, 1)) |page| : (count += 1) taken[count] = page else |_| {}
        }
    };
    Thief.victim = home.heap;
    Thief.count = 0;
    Busy.between = Thief.steal;
    const block = home.heap.alloc(0, 100_000, 0) orelse return error.Refused;
    try testing.expect(Thief.count > 100);
    for (Thief.taken[0..Thief.count]) |page| try home.heap.free(0, page);
    try home.heap.free(0, block);
    try home.expectBack();
}

test "after small blocks come and go, a large one finds room" {
    const slice: Slice = try .init(4 << 20);
    defer slice.deinit();
    const h = slice.heap;
    try h.initRegion(slice.memory);
    var blocks: [3000][*]u8 = undefined;
    for (0..5) |round| {
        for (&blocks, 0..) |*block, i| block.* = h.alloc(0, 16 + (i * 37 + round * 101) % 900, 0).?;
        for (&blocks, 0..) |block, i| if (i % 5 != 0) try h.free(0, block);
        for (&blocks, 0..) |block, i| if (i % 5 == 0) try h.free(1, block);
    }
    _ = h.trim(0);
    const block = h.alloc(0, 2 << 20, 0) orelse return error.Refused;
    try h.free(0, block);
}

test "empty slabs are kept, age, and go; sections follow them" {
    const home: Home(Heap) = try .init();
    defer home.deinit();
    const h = home.heap;
    var blocks: [64 * 40][*]u8 = undefined;
    for (&blocks) |*block| block.* = h.alloc(0, 1024, 0).?;
    for (blocks) |block| try h.free(0, block);
    var figures = h.figures();
    try testing.expectEqual(0, figures.slots_live);
    try testing.expect(figures.slabs_empty > 0);
    // At most what the configuration says, and the slab that its row is at.
    try testing.expect(figures.slabs_bytes <= (1 << 20) + 65536);
    for (0..3) |_| h.tick();
    figures = h.figures();
    try testing.expectEqual(0, figures.slabs_empty);
    try testing.expect(figures.sections > 0);
    _ = h.trim(0);
    try testing.expectEqual(0, h.figures().sections);
    const block = h.alloc(0, 300_000, 0).?;
    try h.free(0, block);
    for (0..12) |_| h.tick();
    try testing.expectEqual(0, h.figures().sections);
    try home.expectBack();
}

test "figures by class and by owner add up" {
    const home: Home(Heap) = try .init();
    defer home.deinit();
    const h = home.heap;
    var blocks: [300][*]u8 = undefined;
    for (&blocks, 0..) |*block, i| block.* = h.alloc(@intCast(i % 3), if (i < 200) 64 else 5000, 0).?;
    const class = slab_class.class_of[64 / 16];
    const figures = h.classFigures(class);
    try testing.expectEqual(200, figures.live);
    try testing.expectEqual(3, figures.slabs);
    try testing.expectEqual(3 * @as(u64, slab_class.classes[class].capacity), figures.capacity);
    for (blocks[0..50]) |block| try h.free(2, block);
    var live: u64 = 0;
    for (0..4) |owner| live += h.ownerFigures(@intCast(owner)).live_bytes;
    try testing.expectEqual(h.figures().slots_live_bytes, @as(f64, @floatFromInt(live)));
    h.threadEnded(1);
    try testing.expectEqual(0, h.ownerFigures(1).slabs);
    try testing.expect(h.ownerFigures(Heap.owners_max).slabs > 0);
    for (blocks[50..]) |block| try h.free(null, block);
    for ([_]u32{ 0, 2 }) |thread| _ = h.trim(thread);
    try testing.expectEqual(0, h.classFigures(class).slabs);
    try home.expectBack();
}

test "peak is remembered and can be reset" {
    const home: Home(Heap) = try .init();
    defer home.deinit();
    const block = home.heap.alloc(0, 1 << 20, 0).?;
    try home.heap.free(0, block);
    try testing.expect(home.heap.figures().peak_bytes >= 1 << 20);
    home.heap.resetPeak();
    try testing.expect(home.heap.figures().peak_bytes < 1 << 20);
    try home.expectBack();
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

/// Text of about `bytes` bytes: objects in objects, long and short strings, numbers.
fn writeJson(writer: *std.Io.Writer, random: std.Random, bytes: usize) !void {
    var left: isize = @intCast(bytes);
    try writer.writeByte('[');
    while (left > 0) {
        const length = random.uintLessThan(usize, 2) + random.uintLessThan(usize, @as(usize, 1) << random.uintLessThan(u4, 12));
        try writer.print("{{\"id\":{d},\"ratio\":{d:.6},\"tags\":[", .{ random.int(u32), random.float(f64) });
        for (0..random.uintLessThan(usize, 6)) |_| try writer.print("\"{x}\",", .{random.int(u16)});
        try writer.print("null],\"text\":\"", .{});
        for (0..length) |_| try writer.writeByte('a' + random.uintLessThan(u8, 26));
        try writer.print("\\n\",\"nested\":{{\"deep\":[[{{}}],{d},true]}}}},", .{random.int(i16)});
        left -= @intCast(length + 90);
    }
    try writer.writeAll("{}]");
}

test "a large JSON text parsed with it is what std's allocator makes of it" {
    const home: Home(Heap) = try .init();
    defer home.deinit();
    var face: Heap.Face = .{ .heap = home.heap, .thread = 0 };
    const own = face.allocator();
    var prng: std.Random.DefaultPrng = .init(testing.random_seed);
    errdefer std.debug.print("seed {d}\n", .{testing.random_seed});
    var text: std.Io.Writer.Allocating = .init(own);
    defer text.deinit();
    try writeJson(&text.writer, prng.random(), 3 << 20);
    const mine = try std.json.parseFromSlice(std.json.Value, own, text.written(), .{});
    const theirs = try std.json.parseFromSlice(std.json.Value, std.heap.smp_allocator, text.written(), .{});
    defer theirs.deinit();
    var first: std.Io.Writer.Allocating = .init(own);
    defer first.deinit();
    var second: std.Io.Writer.Allocating = .init(std.heap.smp_allocator);
    defer second.deinit();
    try std.json.Stringify.value(mine.value, .{}, &first.writer);
    try std.json.Stringify.value(theirs.value, .{}, &second.writer);
    try testing.expect(first.written().len > 3 << 20);
    try testing.expectEqualStrings(second.written(), first.written());
    mine.deinit();
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
    try testing.expectEqual(small, h.realloc(0, small, h.usableSize(small).?, 0).?);
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
