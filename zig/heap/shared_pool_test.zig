//! Tests of pools whose regions are files, over the deterministic system.

const std = @import("std");
const testing = std.testing;
const os = @import("../os/os.zig");
const heap = @import("heap.zig");
const house_file = @import("house.zig");

const Os = os.fake;
const House = house_file.House;
const Pool = house_file.Pool;
const mib = 1 << 20;

fn publish(house: *House, index: u32) void {
    house.table.areas[house.table.at(index).area].published = true;
}

test "a file that was shown has no second tenant, one that was not has" {
    var house: House = undefined;
    try house.init(.{ .kind = .hugetlb, .shared = true });
    const first = try house.take(0, .{ .bytes = 2 * mib });
    house.pool.give(0, first);
    const again = try house.take(0, .{ .bytes = 2 * mib });
    try testing.expectEqual(first, again);
    try testing.expectEqual(1, Os.calls(.memfd_create));

    publish(&house, again);
    house.pool.give(0, again);
    const other = try house.take(0, .{ .bytes = 2 * mib });
    try testing.expectEqual(2, Os.calls(.memfd_create));
    // The one that was shown went when it was looked at.
    try testing.expectEqual(1, Os.filesOpen());
    house.pool.give(0, other);
    try house.deinit();
}

test "files are charged as they are leased, and closed by the trim, by the end and by a lost area" {
    var house: House = undefined;
    try house.init(.{ .kind = .hugetlb, .shared = true, .limit_bytes = 8 * mib });
    const one = try house.take(0, .{ .bytes = 3 * mib });
    const two = try house.take(0, .{ .bytes = 5 * mib });
    try testing.expectError(error.Limit, house.take(0, .{ .bytes = 2 * mib }));
    try testing.expectEqual(8 * mib, house.pool.charged.load(.monotonic, .charge));
    try testing.expectEqual(0, house.pool.huge_bytes.load(.monotonic, .count));
    house.pool.give(0, one);
    house.pool.give(0, two);
    try testing.expectEqual(8 * mib, Pool.Purge.trim(&house.pool));
    try testing.expectEqual(0, Os.filesOpen());
    try testing.expectEqual(0, house.pool.charged.load(.monotonic, .charge));

    const three = try house.take(1, .{ .bytes = 2 * mib });
    house.pool.give(1, three);
    house.pool.threadEnded(1);
    try house.deinit();
}

test "a refused file is an error with its cause, and nothing stays" {
    var house: House = undefined;
    try house.init(.{ .kind = .hugetlb, .shared = true });
    Os.failNext(.memfd_create, 1);
    // The last resort: what lies unused is given back, and the system asked once more.
    const held = try house.take(0, .{ .bytes = 2 * mib });
    Os.failWith(.memfd_create, 24);
    Os.failEvery(.memfd_create, 1);
    try testing.expectError(error.OutOfMemory, house.take(0, .{ .bytes = 2 * mib }));
    try testing.expectEqual(os.SystemCall.memfd_create, house.failure.call);
    try testing.expectEqual(24, house.failure.errno);
    Os.failNothing();
    try testing.expectEqual(1, Os.filesOpen());
    house.pool.give(0, held);
    try house.deinit();
}
