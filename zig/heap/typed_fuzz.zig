//! The pool's `std.mem.Allocator` face against the model of testing/model.zig, over the
//! deterministic system.
//!
//! Invariant checked: blocks never overlap, keep their contents and alignment, and at the end the
//! pool has no lease and the system no page. One thread. Cost: about 2 µs an event.

const std = @import("std");
const heap = @import("heap.zig");
const house_file = @import("house.zig");
const model = @import("../testing/model.zig");

const bounds: model.Bounds = .{ .bytes_max = 9 << 20, .alignment_shift_max = 22 };

/// One run, for the registry of fuzzers.
pub fn fuzz(seed: u64, events: u64) anyerror!void {
    var house: house_file.House = undefined;
    try house.init(.{});
    var face: heap.PoolAllocator(house_file.Pool) = .{ .pool = &house.pool, .thread = 0 };
    try model.exercise(face.allocator(), seed, events, bounds);
    if (house.pool.live() != 0) return error.LeaseLeft;
    try house.deinit();
}

test "the pool as std.mem.Allocator agrees with the model over random operations" {
    const seed: u64 = std.testing.random_seed;
    errdefer std.debug.print("seed {d}\n", .{seed});
    for (0..4) |run| try fuzz(seed + run, 1_000);
}
