//! One test for each fault of the pool's model that is about behaviour (spec 1.5): each is red when
//! `-Dfault=<name>` brings its fault back, and no other test is. test/faults.ts pairs the names.

const std = @import("std");
const testing = std.testing;
const ds = @import("../ds/ds.zig");
const os = @import("../os/os.zig");
const heap = @import("heap.zig");
const house_file = @import("house.zig");

const Os = os.fake;
const House = house_file.House;
const Pool = house_file.Pool;
const mib = 1 << 20;

test "a prefetch that starts inside a page is rounded outward and obeyed" {
    var house: House = undefined;
    try house.init(.{});
    const typed: heap.Typed(Pool) = .{ .pool = &house.pool, .thread = 0 };
    const block = try typed.alloc(u8, 3 * mib, &house.failure);
    const before = Os.adviceCalls(.will_need);
    try typed.prefetch(block, 800, 9000);
    try testing.expectEqual(before + 1, Os.adviceCalls(.will_need));
    try typed.free(block);
    try house.deinit();
}

test "a prefetch whose range runs backwards is out of bounds" {
    var house: House = undefined;
    try house.init(.{});
    const typed: heap.Typed(Pool) = .{ .pool = &house.pool, .thread = 0 };
    const block = try typed.alloc(u32, mib, &house.failure);
    try testing.expectError(error.OutOfBounds, typed.prefetch(block, 8192, 100));
    try testing.expectError(error.OutOfBounds, typed.prefetch(block, 0, mib + 1));
    try typed.prefetch(block, 100, 100);
    try typed.free(block);
    try house.deinit();
}

test "a product of size and count that wraps is refused" {
    var house: House = undefined;
    try house.init(.{});
    const typed: heap.Typed(Pool) = .{ .pool = &house.pool, .thread = 0 };
    const wrapping = std.math.maxInt(usize) / 8 + 2;
    try testing.expectError(error.SizeClass, typed.alloc(u64, wrapping, &house.failure));
    // Nothing needs no memory, also in a pool that is switched off.
    var off = house.pool.options;
    off.enabled = false;
    house.pool.configure(off);
    try testing.expectEqual(0, (try typed.alloc(u64, 0, &house.failure)).capacity);
    try testing.expectEqual(std.math.maxInt(usize), (try typed.alloc(void, 5, &house.failure)).capacity);
    try testing.expectError(error.Disabled, typed.alloc(u64, 1, &house.failure));
    // A size class is looked for first.
    try testing.expectError(error.SizeClass, house.take(0, .{ .bytes = 1 << 40 }));
    try house.deinit();
}

test "an area that is wholly free is unmapped by a trim" {
    var house: House = undefined;
    try house.init(.{});
    const index = try house.take(0, .{ .bytes = 5 * mib });
    house.pool.give(0, index);
    _ = Pool.Purge.trim(&house.pool);
    try testing.expectEqual(0, house.pool.mapped_bytes.load(.monotonic, .count));
    try house.deinit();
}

test "when the system refuses an area, fewer regions are asked for, down to one" {
    var house: House = undefined;
    try house.init(.{});
    // 32 MiB are refused once, 16 MiB then granted.
    const warm = try house.take(0, .{ .bytes = 64 * mib });
    Os.failNext(.mmap, 1);
    const index = try house.take(0, .{ .bytes = 2 * mib });
    Os.failNothing();
    try testing.expectEqual(8, house.pool.area_regions[0].load(.monotonic, .areas));
    house.pool.give(0, index);
    house.pool.give(0, warm);
    try house.deinit();
}

test "areas stop growing at a bound" {
    var house: House = undefined;
    try house.init(.{ .limit_bytes = 512 * mib });
    var held: [60]u32 = undefined;
    for (&held) |*index| index.* = try house.take(0, .{ .bytes = 2 * mib });
    // An eighth of the limit is 32 regions: the third area is no larger.
    try testing.expect(house.pool.last_area[0].load(.monotonic, .areas) <= 32);
    for (held) |index| house.pool.give(0, index);
    try house.deinit();
}

test "a region lies at a multiple of its class" {
    var house: House = undefined;
    try house.init(.{});
    var held: [4]u32 = undefined;
    for (&held, 0..) |*index, i| index.* = try house.take(0, .{ .bytes = @as(usize, 3 * mib) << @intCast(i) });
    for (held) |index| {
        const region = house.table.at(index);
        try testing.expectEqual(0, region.address % region.bytes);
    }
    for (held) |index| house.pool.give(0, index);
    try house.deinit();
}

test "a purged region is known to be zero and not resident" {
    var house: House = undefined;
    try house.init(.{ .eager_return = true, .local_buffer_bytes = 0 });
    // Pages that the system may take, but does not as long as it has others.
    Os.configure(.{ .lazy_free = .keep });
    const index = try house.take(0, .{ .bytes = 2 * mib });
    const region = house.table.at(index);
    @memset(@as([*]u8, @ptrFromInt(region.address))[0 .. 2 * mib], 0xEE);
    house.pool.give(0, index);
    try testing.expectEqual(0, region.dirty);
    try testing.expectEqual(0, region.resident);
    try testing.expectEqual(0, Os.residentBytes(@ptrFromInt(region.address), 2 * mib));
    try house.deinit();
}

test "a region that was locked is unlocked before it is purged" {
    var house: House = undefined;
    try house.init(.{});
    const index = try house.take(0, .{ .bytes = 2 * mib, .lock = .require });
    // Another lease keeps the area from being unmapped: it must be purged.
    const neighbour = try house.take(0, .{ .bytes = 2 * mib });
    house.pool.give(0, index);
    _ = Pool.Purge.trim(&house.pool);
    try testing.expectEqual(0, house.table.at(index).resident);
    house.pool.give(0, neighbour);
    try house.deinit();
}

test "an eager return that the system refuses loses no region" {
    var house: House = undefined;
    try house.init(.{ .eager_return = true, .local_buffer_bytes = 0 });
    const index = try house.take(0, .{ .bytes = 2 * mib });
    Os.failNext(.madvise, 1);
    house.pool.give(0, index);
    Os.failNothing();
    try testing.expectEqual(1, house.pool.event(0, .dirty_in) - house.pool.event(0, .dirty_out));
    try house.deinit();
}

test "a request is charged its pages, not its class" {
    var house: House = undefined;
    try house.init(.{});
    const index = try house.take(0, .{ .bytes = 2 * mib + 1 });
    try testing.expectEqual(2 * mib + 4096, house.pool.charged.load(.monotonic, .charge));
    house.pool.give(0, index);
    try house.deinit();
}

test "figures do not dip when a thread ends" {
    var house: House = undefined;
    try house.init(.{});
    for (0..3) |_| {
        const index = try house.take(1, .{ .bytes = 2 * mib });
        house.pool.give(1, index);
    }
    house.pool.threadEnded(1);
    try testing.expectEqual(3, house.pool.allocations(0));
    try house.deinit();
}

test "a pool's fork policy reaches the system" {
    var house: House = undefined;
    try house.init(.{ .fork = .omit });
    const index = try house.take(0, .{ .bytes = 2 * mib });
    try testing.expectEqual(1, Os.adviceCalls(.dont_fork));
    house.pool.give(0, index);
    try house.deinit();
}
