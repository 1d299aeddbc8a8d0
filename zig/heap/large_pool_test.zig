//! Tests of the pool and its page runs over the deterministic system.

const std = @import("std");
const testing = std.testing;
const heap = @import("heap.zig");
const house_file = @import("house.zig");

const Os = @import("../os/os.zig").fake;
const House = house_file.House;
const Pool = house_file.Pool;
const mib = 1 << 20;

test "a freed region comes back to the same thread first, dirty prefix known" {
    var house: House = undefined;
    try house.init(.{});
    const index = try house.take(0, .{ .bytes = 3 * mib });
    const region = house.table.at(index);
    try testing.expectEqual(4 * mib, region.bytes);
    const bytes = @as([*]u8, @ptrFromInt(region.address))[0 .. 3 * mib];
    @memset(bytes, 0xAA);
    house.pool.give(0, index);
    const again = try house.take(0, .{ .bytes = 2 * mib + 1, .zero = true });
    try testing.expectEqual(index, again);
    try testing.expectEqual(0, bytes[2 * mib]);
    try testing.expectEqual(0xAA, bytes[2 * mib + 4096]);
    house.pool.give(0, again);
    const charged = house.pool.charged.load(.monotonic, .charge);
    try testing.expect(charged >= 3 * mib);
    try testing.expectEqual(charged, Pool.Purge.trim(&house.pool));
    try testing.expectEqual(0, Pool.Purge.trim(&house.pool));
    try house.deinit();
}

test "beyond a thread's share regions go to the shared stack, half a cache at a time" {
    var house: House = undefined;
    try house.init(.{});
    var held: [64]u32 = undefined;
    for (&held) |*index| index.* = try house.take(0, .{ .bytes = 2 * mib });
    for (held) |index| house.pool.give(0, index);
    try testing.expect(house.pool.threadRegions(0) <= 16 + 16);
    try testing.expectEqual(.more, Pool.Purge.tick(&house.pool));
    try testing.expect(house.pool.threadRegions(0) <= 16);
    const global = house.pool.event(0, .dirty_in) - house.pool.event(0, .dirty_out);
    const clean = house.pool.event(0, .clean_in) - house.pool.event(0, .clean_out);
    const all = house.pool.area_regions[0].load(.monotonic, .areas);
    try testing.expectEqual(all, house.pool.threadRegions(0) + global + clean);
    // Another thread finds them without a new area.
    const areas = house.pool.areas[0].load(.monotonic, .areas);
    var others: [64]u32 = undefined;
    for (&others) |*index| index.* = try house.take(1, .{ .bytes = 2 * mib });
    try testing.expectEqual(areas, house.pool.areas[0].load(.monotonic, .areas));
    for (others) |index| house.pool.give(1, index);
    try house.deinit();
}

test "a region freed by another thread returns to its owner" {
    var house: House = undefined;
    try house.init(.{});
    const index = try house.take(0, .{ .bytes = 2 * mib });
    house.pool.give(1, index);
    try testing.expectEqual(index, try house.take(0, .{ .bytes = 2 * mib }));
    house.pool.give(null, index);
    house.pool.threadEnded(0);
    house.pool.threadStarted(0);
    try testing.expectEqual(index, try house.take(1, .{ .bytes = 2 * mib }));
    house.pool.give(1, index);
    try house.deinit();
}

test "what a list holds beyond the thread's share is shared at the next tick, or at once without ticks" {
    for ([_]bool{ true, false }) |background| {
        var house: House = undefined;
        try house.init(.{ .background = background });
        var held: [9]u32 = undefined;
        for (&held) |*index| index.* = try house.take(0, .{ .bytes = 32 * mib });
        for (held) |index| house.pool.give(0, index);
        const listed = house.pool.threadRegions(4);
        try testing.expect(if (background) listed > 1 and listed <= 1 + 16 else listed == 1);
        _ = Pool.Purge.tick(&house.pool);
        try testing.expectEqual(1, house.pool.threadRegions(4));
        try house.deinit();
    }
}

test "regions freed by address on another thread wait in its lane for whoever needs them" {
    const Finder = enum { owner, third, trimmer, sender_end, owner_end, clock };
    for (std.enums.values(Finder)) |finder| {
        var house: House = undefined;
        try house.init(.{});
        const pool = &house.pool;
        var held: [5][*]u8 = undefined;
        for (&held) |*ptr| ptr.* = try pool.alloc(0, .{ .bytes = 2 * mib }, &house.failure);
        for (held) |ptr| try pool.free(1, @intFromPtr(ptr));
        for (held) |ptr| for (0..2) |thread|
            try testing.expectError(error.DoubleFree, pool.free(@intCast(thread), @intFromPtr(ptr)));
        const lane = &pool.cacheIfAny(1).?.lane;
        try testing.expect(!lane.isEmpty() and Pool.Purge.hasWork(pool));
        const areas = pool.areas[0].load(.monotonic, .areas);
        const taker: u32 = switch (finder) {
            .owner => 0,
            .third => 2,
            .trimmer => {
                try testing.expect(Pool.Purge.trim(pool) >= held.len * 2 * mib);
                try house.deinit();
                continue;
            },
            .sender_end => end: {
                pool.threadEnded(1);
                try testing.expect(lane.isEmpty());
                break :end 0;
            },
            .owner_end => end: {
                pool.threadEnded(0);
                break :end 1;
            },
            .clock => clock: {
                _ = Pool.Purge.tick(pool);
                try testing.expect(lane.isEmpty());
                break :clock 0;
            },
        };
        var all: [16][*]u8 = undefined;
        for (&all) |*ptr| ptr.* = try pool.alloc(taker, .{ .bytes = 2 * mib }, &house.failure);
        try testing.expectEqual(areas, pool.areas[0].load(.monotonic, .areas));
        for (all) |ptr| try pool.free(taker, @intFromPtr(ptr));
        try testing.expectEqual(0, pool.live());
        try house.deinit();
    }
}

test "a lane of one class does not hide what others returned of another" {
    var house: House = undefined;
    try house.init(.{});
    const pool = &house.pool;
    const small = try pool.alloc(0, .{ .bytes = 2 * mib }, &house.failure);
    const large = try house.take(0, .{ .bytes = 32 * mib });
    try pool.free(1, @intFromPtr(small));
    pool.give(null, large);
    try testing.expectEqual(large, try house.take(0, .{ .bytes = 32 * mib }));
    pool.give(0, large);
    try house.deinit();
}

test "the limit trims first and then refuses, and nothing is lost" {
    var house: House = undefined;
    try house.init(.{ .limit_bytes = 16 * mib });
    const a = try house.take(0, .{ .bytes = 8 * mib });
    const b = try house.take(0, .{ .bytes = 8 * mib });
    try testing.expectError(error.Limit, house.take(0, .{ .bytes = 2 * mib }));
    try testing.expectEqual(16 * mib, house.failure.bound);
    house.pool.give(0, a);
    const c = try house.take(0, .{ .bytes = 2 * mib });
    house.pool.give(0, b);
    house.pool.give(0, c);
    try testing.expectEqual(0, house.pool.live());
    try house.deinit();
}

test "an idle pool is purged by the clock, a busy one is not" {
    var house: House = undefined;
    try house.init(.{});
    for (0..100) |_| {
        const index = try house.take(0, .{ .bytes = 4 * mib });
        house.pool.give(0, index);
        try testing.expectEqual(.more, Pool.Purge.tick(&house.pool));
    }
    try testing.expectEqual(0, house.pool.event(1, .cleared_slow));
    var ticks: u32 = 0;
    while (ticks < 100 and Pool.Purge.tick(&house.pool) == .more) ticks += 1;
    // Ten of rest, and one to see that nothing is left.
    try testing.expect(ticks <= 12);
    try testing.expectEqual(0, house.pool.charged.load(.monotonic, .charge));
    // Purged means zero: no clearing is needed.
    const index = try house.take(0, .{ .bytes = 4 * mib });
    try testing.expectEqual(4 * mib, house.table.at(index).dirty);
    house.pool.give(0, index);
    try house.deinit();
}

test "runs of pages are exact, reused, and empty blocks go back" {
    var house: House = undefined;
    try house.init(.{});
    const Runs = Pool.Runs;
    var runs: [300]heap.Run = undefined;
    for (&runs, 0..) |*run, i| {
        run.* = try Runs.alloc(&house.pool, 0, .{ .bytes = 4096 * (1 + i % 7), .zero = true }, &house.failure);
        const bytes = @as([*]u8, @ptrFromInt(Runs.addressOf(&house.pool, run.*)))[0 .. run.pages * @as(usize, 4096)];
        for (bytes) |byte| if (byte != 0) return error.NotZero;
        @memset(bytes, 0xCC);
    }
    // Half is freed by the owner, half by another thread.
    for (runs, 0..) |run, i|
        Runs.free(&house.pool, if (i % 2 == 0) 0 else 1, run, run.pages * @as(usize, 4096), true);
    try testing.expectEqual(0, house.pool.live());
    const run = try Runs.alloc(&house.pool, 0, .{ .bytes = 512 * 1024, .zero = true }, &house.failure);
    const bytes = @as([*]u8, @ptrFromInt(Runs.addressOf(&house.pool, run)))[0 .. 512 * 1024];
    for (bytes) |byte| if (byte != 0) return error.NotZero;
    Runs.free(&house.pool, null, run, 512 * 1024, true);
    try house.deinit();
}

test "explicit large pages are charged before they are mapped" {
    var house: House = undefined;
    try house.init(.{ .kind = .hugetlb, .limit_bytes = 8 * mib });
    Os.configure(.{ .large_pages = 8 });
    const first = try house.take(0, .{ .bytes = 3 * mib });
    try testing.expectEqual(4 * mib, house.pool.charged.load(.monotonic, .charge));
    const mapped = Os.calls(.mmap_huge);
    try testing.expectError(error.Limit, house.take(0, .{ .bytes = 5 * mib }));
    try testing.expectEqual(mapped, Os.calls(.mmap_huge));
    Os.configure(.{ .large_pages = 0 });
    house.pool.give(0, first);
    try testing.expectError(error.HugeUnavailable, house.take(1, .{ .bytes = 5 * mib }));
    try testing.expect(house.pool.charged.load(.monotonic, .charge) <= 4 * mib);
    try house.deinit();
}

test "blocks of an ended thread are adopted, and frees into orphans are not lost" {
    var house: House = undefined;
    try house.init(.{});
    const Runs = Pool.Runs;
    const a = try Runs.alloc(&house.pool, 0, .{ .bytes = 4096 }, &house.failure);
    const b = try Runs.alloc(&house.pool, 0, .{ .bytes = 4096 }, &house.failure);
    house.pool.threadEnded(0);
    Runs.free(&house.pool, 1, a, 4096, true);
    const c = try Runs.alloc(&house.pool, 1, .{ .bytes = 4096 }, &house.failure);
    try testing.expectEqual(a, c);
    Runs.free(&house.pool, 1, c, 4096, true);
    Runs.free(&house.pool, 1, b, 4096, true);
    try house.deinit();
}

test "std's containers and conformance suite work over the pool" {
    var house: House = undefined;
    try house.init(.{});
    var face: heap.PoolAllocator(Pool) = .{ .pool = &house.pool, .thread = 0 };
    try std.heap.testAllocator(face.allocator());
    try std.heap.testAllocatorAligned(face.allocator());
    try std.heap.testAllocatorLargeAlignment(face.allocator());
    try std.heap.testAllocatorAlignedShrink(face.allocator());
    try testing.expectEqual(0, house.pool.live());
    try house.deinit();
}
