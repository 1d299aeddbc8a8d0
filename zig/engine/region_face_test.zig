//! The face without handles on the real system: what a free by address refuses, on the thread that
//! allocated and on another, what the figures say of it, and two threads that allocate and free for
//! each other all the time.
//!
//! The warm ways in engine/core.zig skip most checks because one comparison stands for them all: each
//! refusal is asked here when everything is warm. Cost: some seconds, 64 MiB of address space touched
//! by a page each. The seed is printed when the test fails. One test at a time uses the engine.

const std = @import("std");
const testing = std.testing;
const os = @import("../os/os.zig");
const core = @import("core.zig");
const types = @import("types.zig");

const Engine = core.Engine(os.Native);
const Status = types.Status;
const mib = 1 << 20;

var engine: Engine align(128) = .{};

fn attach() u32 {
    return @intFromFloat(engine.threadAttach());
}

/// The answer of a free on a thread of its own, twice.
fn freeElsewhere(pool: u32, address: ?*anyopaque) ![2]Status {
    const Other = struct {
        fn run(of: u32, what: ?*anyopaque, out: *[2]Status) void {
            const thread = attach();
            for (out) |*answer| answer.* = engine.regionFree(thread, of, what);
            _ = engine.threadDetach(thread);
        }
    };
    var answers: [2]Status = undefined;
    const other = try std.Thread.spawn(.{}, Other.run, .{ pool, address, &answers });
    other.join();
    return answers;
}

test "a free by address is refused unless it is of this pool, of this place and the first" {
    defer engine.deinit();
    const thread = attach();
    const pool = engine.poolShared();
    const second: u32 = @intFromFloat(engine.poolCreate(thread, &std.mem.zeroes(types.PoolOptions)));
    for (0..3) |_| {
        for ([_]u32{ pool, second }) |each| {
            var capacity: usize = 0;
            const ptr = engine.regionAlloc(thread, each, 3 * mib + 1, &capacity).?;
            try testing.expectEqual(3 * mib + os.Native.pageBytes(), capacity);
            const other = if (each == pool) second else pool;
            const inside: *anyopaque = @ptrFromInt(@intFromPtr(ptr) + os.large_page_bytes);
            try testing.expectEqual(Status.foreign, engine.regionFree(thread, other, ptr));
            try testing.expectEqual(Status.foreign, engine.regionFree(thread, each, inside));
            try testing.expectEqual(Status.foreign, engine.regionFree(thread, each, @ptrFromInt(1 << 21)));
            try testing.expectEqual(Status.foreign, engine.regionFree(thread, each, @ptrFromInt(@intFromPtr(ptr) | 1 << 63)));
            try testing.expectEqual(Status.closed, engine.regionFree(thread, 0, ptr));
            try testing.expectEqual(Status.foreign, engine.regionFree(thread + 1, each, ptr));
            try testing.expectEqual(Status.foreign, engine.regionFree(std.math.maxInt(u32), each, ptr));
            try testing.expectEqual(Status.ok, engine.regionFree(thread, each, ptr));
            try testing.expectEqual(Status.double_free, engine.regionFree(thread, each, ptr));
        }
        for ([_]u32{ 0, std.math.maxInt(u32) }) |wrong| {
            try testing.expectEqual(null, engine.regionAlloc(thread, wrong, 2 * mib, null));
            try testing.expectEqual(null, engine.regionAlloc(wrong +% 7, pool, 2 * mib, null));
        }
        try testing.expectEqual(null, engine.regionAlloc(thread, pool, 0, null));
        try testing.expectEqual(null, engine.regionAlloc(thread, pool, std.math.maxInt(usize), null));
        // A lease with a handle is not given away by its address.
        const handle = engine.alloc(thread, pool, 4 * mib, 0);
        const block: [*]const f64 = @ptrCast(@alignCast(engine.threadBlock(thread).?));
        const held: *anyopaque = @ptrFromInt(@as(usize, @intFromFloat(block[0])));
        try testing.expectEqual(Status.foreign, engine.regionFree(thread, pool, held));
        try testing.expectEqual([2]Status{ .foreign, .foreign }, try freeElsewhere(pool, held));
        try testing.expectEqual(Status.ok, engine.free(thread, handle));
        // On another thread: once.
        const far = engine.regionAlloc(thread, pool, 2 * mib, null);
        try testing.expectEqual([2]Status{ .ok, .double_free }, try freeElsewhere(pool, far));
        try testing.expectEqual(Status.double_free, engine.regionFree(thread, pool, far));
    }
    try testing.expectEqual(Status.ok, engine.threadDetach(thread));
    try testing.expectEqual(null, engine.regionAlloc(thread, pool, 2 * mib, null));
}

test "figures of regions follow from what the regions are used for" {
    defer engine.deinit();
    const thread = attach();
    const pool = engine.poolShared();
    var ptrs: [40]?*anyopaque = undefined;
    for (0..2) |_| {
        for (&ptrs) |*ptr| ptr.* = engine.regionAlloc(thread, pool, 2 * mib - 1, null);
        for (ptrs[8..]) |ptr| try testing.expectEqual(Status.ok, engine.regionFree(thread, pool, ptr));
        for (ptrs[0..4]) |ptr| try testing.expectEqual([2]Status{ .ok, .double_free }, try freeElsewhere(pool, ptr));
        for (ptrs[4..8]) |ptr| try testing.expectEqual(Status.ok, engine.regionFree(thread, pool, ptr));
    }
    const raw = engine.regionAlloc(thread, pool, 2 * mib - 1, null);
    const shown = engine.alloc(thread, pool, 2 * mib, 0);
    try testing.expectEqual(Status.ok, engine.wrap(thread, shown));
    const live = engine.alloc(thread, pool, 2 * mib, 0);
    const run = engine.alloc(thread, pool, 5000, 0);
    try testing.expectEqual(Status.closing, engine.free(thread, shown));

    var classes: [16]types.ClassStats = undefined;
    try testing.expectEqual(Status.ok, engine.poolClassStats(pool, &classes));
    // The run stands in a region of its own block.
    try testing.expectEqual(84, classes[0].allocations);
    try testing.expectEqual(80, classes[0].deallocations);
    try testing.expectEqual(classes[0].area_total_bytes / (2 * mib) - 4, classes[0].free_regions);
    var figures: types.PoolStats = undefined;
    try testing.expectEqual(Status.ok, engine.poolStats(pool, &figures));
    try testing.expectEqual(3, figures.live_handles);
    try testing.expectEqual(1, figures.closing_handles);
    try testing.expectEqual(2 * mib - 1 + 2 * mib + 5000, figures.allocated_bytes);

    const index: u32 = @intFromFloat(@mod(shown, 1 << 24));
    engine.wrapDropped(index + 1);
    try testing.expectEqual(Status.ok, engine.regionFree(thread, pool, raw));
    for ([_]f64{ live, run }) |handle| try testing.expectEqual(Status.ok, engine.free(thread, handle));
    try testing.expectEqual(Status.ok, engine.poolStats(pool, &figures));
    try testing.expectEqual(0, figures.live_handles + figures.closing_handles + figures.allocated_bytes + figures.active_bytes);
    try testing.expectEqual(Status.ok, engine.threadDetach(thread));
}

/// Regions on their way from the thread that allocated them to the one that frees them.
const Post = struct {
    boxes: [2][64]std.atomic.Value(usize) = @splat(@splat(.init(0))),
    wrong: std.atomic.Value(u32) = .init(0),

    fn work(post: *Post, side: usize, seed: u64) void {
        const thread = attach();
        const pool = engine.poolShared();
        var prng: std.Random.DefaultPrng = .init(seed);
        const random = prng.random();
        for (0..30_000) |_| {
            const bytes = @as(usize, 2 * mib) << random.int(u2);
            const ptr = engine.regionAlloc(thread, pool, bytes, null) orelse return post.fail();
            const word: *usize = @ptrCast(@alignCast(ptr));
            word.* = @intFromPtr(ptr);
            const to = random.uintLessThan(usize, 3);
            if (to == 2) {
                if (word.* != @intFromPtr(ptr)) post.fail();
                word.* = 0;
                if (engine.regionFree(thread, pool, ptr) != .ok) post.fail();
                continue;
            }
            post.take(thread, pool, post.boxes[side][random.uintLessThan(usize, 64)].swap(@intFromPtr(ptr), .acq_rel));
            post.take(thread, pool, post.boxes[1 - side][random.uintLessThan(usize, 64)].swap(0, .acq_rel));
        }
        _ = engine.threadDetach(thread);
    }

    fn take(post: *Post, thread: u32, pool: u32, address: usize) void {
        if (address == 0) return;
        const word: *usize = @ptrFromInt(address);
        // Another tenant's stamp or none: the region was given to two.
        if (word.* != address) post.fail();
        word.* = 0;
        if (engine.regionFree(thread, pool, word) != .ok) post.fail();
    }

    fn fail(post: *Post) void {
        _ = post.wrong.fetchAdd(1, .monotonic);
    }
};

test "two threads allocate regions and free each other's" {
    defer engine.deinit();
    const seed = testing.random_seed;
    errdefer std.debug.print("seed {d}\n", .{seed});
    var post: Post = .{};
    var others: [2]std.Thread = undefined;
    for (&others, 0..) |*other, i| other.* = try std.Thread.spawn(.{}, Post.work, .{ &post, i, seed +% i });
    for (others) |other| other.join();
    try testing.expectEqual(0, post.wrong.load(.monotonic));
    const thread = attach();
    const pool = engine.poolShared();
    for (&post.boxes) |*side| for (side) |*box| post.take(thread, pool, box.load(.monotonic));
    try testing.expectEqual(0, post.wrong.load(.monotonic));
    var figures: types.PoolStats = undefined;
    try testing.expectEqual(Status.ok, engine.poolStats(pool, &figures));
    try testing.expectEqual(0, figures.live_handles);
    try testing.expect(engine.poolTrim(thread, pool) > 0);
    try testing.expectEqual(Status.ok, engine.poolStats(pool, &figures));
    try testing.expectEqual(0, figures.resident_bytes);
    try testing.expectEqual(Status.ok, engine.threadDetach(thread));
}
