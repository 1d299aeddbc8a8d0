//! A pool over a fresh deterministic system, for tests.

const std = @import("std");
const testing = std.testing;
const ds = @import("../ds/ds.zig");
const os = @import("../os/os.zig");
const regions = @import("../region/region.zig");
const heap = @import("heap.zig");

const Os = os.fake;
pub const Table = regions.Table(Os, ds.Real);
pub const Pool = heap.LargePool(Table);

/// A pool over a fresh fake system; `deinit` proves that every page came back.
pub const House = struct {
    table: Table = .{},
    sleeper: heap.Sleeper(ds.Real) = undefined,
    purges: ds.Real.Atomic(u32) = .init(0),
    pool: Pool = undefined,
    failure: heap.Failure = .{},

    pub fn init(house: *House, options: heap.Options) !void {
        Os.reset();
        house.* = .{};
        house.sleeper = .{ .wake = noWake, .purges = &house.purges };
        try testing.expect(house.table.init());
        house.pool = .init(&house.table, 0, &house.sleeper, options);
    }

    fn noWake() void {}

    pub fn deinit(house: *House) !void {
        house.pool.deinit();
        house.table.deinit();
        try testing.expectEqual(0, Os.pagesHeld());
        try testing.expectEqual(0, Os.filesOpen());
        Os.reset();
    }

    pub fn take(house: *House, thread: u32, request: heap.Request) !u32 {
        return house.pool.take(thread, request, &house.failure);
    }
};
