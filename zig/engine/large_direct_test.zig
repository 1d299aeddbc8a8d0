//! The direct face of large pools, on the real system: wrong frees are refused at the call, a record
//! whose pool or thread is gone refuses, and what lies in a thread's hand is found by all who look for
//! free regions.

const std = @import("std");
const testing = std.testing;
const os = @import("../os/os.zig");
const core = @import("core.zig");
const types = @import("types.zig");

const Engine = core.Engine(os.Native);
const Face = Engine.region_face;
const Status = types.Status;
const mib = 1 << 20;

var engine: Engine align(128) = .{};

fn attach() u32 {
    return @intFromFloat(engine.threadAttach());
}

fn create(options: types.PoolOptions) u32 {
    return @intFromFloat(engine.poolCreate(0, &options));
}

fn limited(bytes: f64) types.PoolOptions {
    var options = std.mem.zeroes(types.PoolOptions);
    options.given = @intFromEnum(types.PoolField.limit_bytes);
    options.limit_bytes = bytes;
    return options;
}

fn take(record: *Face.Cache, bytes: usize) ?*anyopaque {
    return Face.take(&engine, record, bytes);
}

fn give(record: *Face.Cache, ptr: ?*anyopaque) Status {
    return Face.give(&engine, record, ptr);
}

fn byte(ptr: *anyopaque, offset: usize) *anyopaque {
    return @ptrFromInt(@intFromPtr(ptr) + offset);
}

fn classStats(pool: u32) ![16]types.ClassStats {
    var classes: [16]types.ClassStats = undefined;
    try testing.expectEqual(Status.ok, engine.poolClassStats(pool, &classes));
    return classes;
}

/// Gives on a thread of its own, by its own record and then by numbers; the answers.
fn giveElsewhere(pool: u32, ptr: ?*anyopaque) ![2]Status {
    const Other = struct {
        fn run(of: u32, what: ?*anyopaque, out: *[2]Status) void {
            const thread = attach();
            out.* = .{ give(Face.of(&engine, thread, of).?, what), engine.regionFree(thread, of, what) };
            _ = engine.threadDetach(thread);
        }
    };
    var answers: [2]Status = undefined;
    const other = try std.Thread.spawn(.{}, Other.run, .{ pool, ptr, &answers });
    other.join();
    return answers;
}

test "double, interior and foreign frees change nothing, in hand or not, and the ways mix" {
    defer engine.deinit();
    const thread = attach();
    const pool = create(std.mem.zeroes(types.PoolOptions));
    const second = create(std.mem.zeroes(types.PoolOptions));
    const record = Face.of(&engine, thread, pool).?;
    const elsewhere = Face.of(&engine, thread, second).?;
    try testing.expectEqual(record, Face.of(&engine, thread, pool).?);
    for (0..4) |round| for ([_]usize{ 2 * mib, 3 * mib + 1, 2 * mib - 1, 32 * mib, 32 * mib }) |bytes| {
        var held: [5]*anyopaque = undefined;
        for (&held, 0..) |*ptr, i| {
            ptr.* = if (i % 2 == 0) take(record, bytes).? else engine.regionAlloc(thread, pool, bytes, null).?;
            @as(*volatile u8, @ptrCast(ptr.*)).* = 1;
            for (held[0..i]) |other| try testing.expect(other != ptr.*);
        }
        for (0..held.len) |i| {
            // The newest first, or last.
            const ptr = held[if (round % 2 == 0) i else held.len - 1 - i];
            try testing.expectEqual(Status.foreign, give(record, byte(ptr, 4096)));
            try testing.expectEqual(Status.foreign, give(record, byte(ptr, 1)));
            try testing.expectEqual(Status.foreign, give(record, @ptrFromInt(@intFromPtr(ptr) | 1 << 63)));
            try testing.expectEqual(Status.foreign, give(elsewhere, ptr));
            const far = i == 2;
            if (far) {
                try testing.expectEqual([2]Status{ .ok, .double_free }, try giveElsewhere(pool, ptr));
            } else try testing.expectEqual(Status.ok, if (i == 1) engine.regionFree(thread, pool, ptr) else give(record, ptr));
            for (0..2) |_| try testing.expectEqual(Status.double_free, give(record, ptr));
            try testing.expectEqual(Status.double_free, engine.regionFree(thread, pool, ptr));
            try testing.expectEqual([2]Status{ .double_free, .double_free }, try giveElsewhere(pool, ptr));
        }
    };
    var local: u64 = 0;
    try testing.expectEqual(Status.foreign, give(record, &local));
    try testing.expectEqual(Status.ok, give(record, null));
    try testing.expectEqual(null, take(record, 0));
    try testing.expectEqual(null, take(record, std.math.maxInt(usize)));
    try testing.expectEqual(null, take(record, 1 << 40));
    // A lease with a handle is not given away by its address, nor kept from its handle by the hand.
    try testing.expectEqual(Status.ok, give(record, take(record, 4 * mib)));
    const handle = engine.alloc(thread, pool, 4 * mib, 0);
    const block: [*]const f64 = @ptrCast(@alignCast(engine.threadBlock(thread).?));
    const held: *anyopaque = @ptrFromInt(@as(usize, @intFromFloat(block[0])));
    try testing.expectEqual(Status.foreign, give(record, held));
    try testing.expectEqual(Status.ok, engine.free(thread, handle));
    try testing.expectEqual(0, engine.poolClose(thread, pool, 0));
    try testing.expectEqual(0, engine.poolClose(thread, second, 0));
}

test "what lies in a hand is counted, trimmed, and found by other threads and by handles" {
    defer engine.deinit();
    const thread = attach();
    // Room for one.
    const pool = create(limited(3 * mib));
    const record = Face.of(&engine, thread, pool).?;
    for (0..3) |_| {
        for (0..3) |_| try testing.expectEqual(Status.ok, give(record, take(record, 2 * mib)));
        const classes = try classStats(pool);
        try testing.expectEqual(1, classes[0].thread_regions);
        try testing.expectEqual(classes[0].allocations, classes[0].deallocations);
        try testing.expectEqual(classes[0].area_total_bytes / (2 * mib), classes[0].free_regions);
        // A lease by handle.
        const handle = engine.alloc(thread, pool, 2 * mib, 0);
        try testing.expect(handle > 0);
        try testing.expectEqual(null, take(record, 2 * mib));
        try testing.expectEqual(Status.ok, engine.free(thread, handle));
        try testing.expectEqual(Status.ok, give(record, take(record, 2 * mib)));
        // Another thread.
        const Other = struct {
            fn run(of: u32, good: *bool) void {
                const own = attach();
                const theirs = Face.of(&engine, own, of).?;
                good.* = if (take(theirs, 2 * mib)) |ptr| give(theirs, ptr) == .ok else false;
                _ = engine.threadDetach(own);
            }
        };
        var good = false;
        const other = try std.Thread.spawn(.{}, Other.run, .{ pool, &good });
        other.join();
        try testing.expect(good);
        try testing.expectEqual(Status.ok, give(record, take(record, 2 * mib)));
        try testing.expectEqual(2 * mib, engine.poolTrim(thread, pool));
        try testing.expectEqual(0, engine.poolTrim(thread, pool));
    }
    try testing.expectEqual(0, engine.poolClose(thread, pool, 0));
}

test "a bound is met and told, and what is given back can be taken again" {
    defer engine.deinit();
    const thread = attach();
    const pool = create(limited(64 * mib));
    const record = Face.of(&engine, thread, pool).?;
    for (0..3) |_| {
        var ptrs: [33]?*anyopaque = undefined;
        var count: usize = 0;
        while (take(record, 2 * mib)) |ptr| : (count += 1) ptrs[count] = ptr;
        try testing.expectEqual(32, count);
        try testing.expectEqual(64 * mib, engine.threads[thread].block[@import("block.zig").bound]);
        for (ptrs[0..count]) |ptr| try testing.expectEqual(Status.ok, give(record, ptr));
    }
    try testing.expectEqual(0, engine.poolClose(thread, pool, 0));
}

test "after a close a record refuses, until its thread uses the next pool of the slot" {
    defer engine.deinit();
    const thread = attach();
    const pool = create(std.mem.zeroes(types.PoolOptions));
    const record = Face.of(&engine, thread, pool).?;
    const ptr = take(record, 2 * mib).?;
    try testing.expectEqual(1, engine.poolClose(thread, pool, 0));
    try testing.expectEqual(Status.ok, give(record, ptr));
    try testing.expectEqual(0, engine.poolClose(thread, pool, 0));
    try testing.expectEqual(null, take(record, 2 * mib));
    try testing.expectEqual(Status.closed, give(record, ptr));
    try testing.expectEqual(null, Face.of(&engine, thread, pool));
    const next = create(std.mem.zeroes(types.PoolOptions));
    try testing.expectEqual(null, take(record, 2 * mib));
    try testing.expectEqual(Status.closed, give(record, ptr));
    const own = engine.regionAlloc(thread, next, 2 * mib, null).?;
    try testing.expectEqual(Status.ok, give(record, own));
    try testing.expectEqual(record, Face.of(&engine, thread, next).?);
    try testing.expectEqual(0, engine.poolClose(thread, next, 0));
    // With force: what is out stays refused too.
    const last = create(std.mem.zeroes(types.PoolOptions));
    try testing.expectEqual(record, Face.of(&engine, thread, last).?);
    const left = take(record, 2 * mib);
    try testing.expectEqual(0, engine.poolClose(thread, last, 1));
    try testing.expectEqual(Status.closed, give(record, left));
    try testing.expectEqual(null, take(record, 2 * mib));
}

test "options that change are seen by the next call of a record" {
    defer engine.deinit();
    const thread = attach();
    const pool = create(std.mem.zeroes(types.PoolOptions));
    const record = Face.of(&engine, thread, pool).?;
    var options = std.mem.zeroes(types.PoolOptions);
    options.given = @intFromEnum(types.PoolField.enabled);
    for (0..3) |_| {
        const ptr = take(record, 2 * mib).?;
        options.enabled = 0;
        try testing.expectEqual(Status.ok, engine.poolConfigure(thread, pool, &options));
        try testing.expectEqual(null, take(record, 2 * mib));
        try testing.expectEqual(Status.ok, give(record, ptr));
        try testing.expectEqual(Status.double_free, give(record, ptr));
        try testing.expectEqual(null, take(record, 2 * mib));
        options.enabled = 1;
        try testing.expectEqual(Status.ok, engine.poolConfigure(thread, pool, &options));
    }
    // Nothing is kept by threads from now on: not in hand either.
    options = std.mem.zeroes(types.PoolOptions);
    options.given = @intFromEnum(types.PoolField.local_buffer_bytes);
    options.local_buffer_bytes = 0;
    try testing.expectEqual(Status.ok, give(record, take(record, 2 * mib)));
    try testing.expectEqual(Status.ok, engine.poolConfigure(thread, pool, &options));
    for (0..3) |_| try testing.expectEqual(Status.ok, give(record, take(record, 2 * mib)));
    try testing.expectEqual(0, (try classStats(pool))[0].thread_regions);
    try testing.expectEqual(0, engine.poolClose(thread, pool, 0));
}

test "no pool and no thread have no record, and a record ends with its thread" {
    defer engine.deinit();
    const thread = attach();
    const pool = engine.poolShared();
    try testing.expectEqual(null, Face.of(&engine, thread, 0));
    try testing.expectEqual(null, Face.of(&engine, thread + 1, pool));
    try testing.expectEqual(null, Face.of(&engine, std.math.maxInt(u32), pool));
    const record = Face.of(&engine, thread, pool).?;
    try testing.expectEqual(Status.ok, give(record, take(record, 2 * mib)));
    const ptr = take(record, 2 * mib);
    try testing.expectEqual(Status.ok, engine.threadDetach(thread));
    try testing.expectEqual(null, take(record, 2 * mib));
    try testing.expectEqual(Status.foreign, give(record, ptr));
    // The next thread of the index.
    try testing.expectEqual(thread, attach());
    try testing.expectEqual(record, Face.of(&engine, thread, pool).?);
    try testing.expectEqual(Status.ok, give(record, ptr));
    try testing.expectEqual(Status.double_free, give(record, ptr));
    try testing.expectEqual(Status.ok, engine.threadDetach(thread));
}

test "in a forked child a record refuses" {
    if (!os.Native.works(.wipe_on_fork)) return error.SkipZigTest;
    defer engine.deinit();
    const thread = attach();
    const record = Face.of(&engine, thread, engine.poolShared()).?;
    try testing.expectEqual(Status.ok, give(record, take(record, 2 * mib)));
    const ptr = take(record, 2 * mib);
    const word = @constCast(@volatileCast(engine.alive orelse return error.SkipZigTest));
    // What the child finds: the engine's page and the first of the record read as zeros.
    const bytes: *[4096]u8 = @ptrCast(record);
    const before = bytes.*;
    word.* = 0;
    bytes.* = @splat(0);
    for ([_]usize{ 0, 1, 2 * mib, std.math.maxInt(usize) }) |length| try testing.expectEqual(null, take(record, length));
    for ([_]?*anyopaque{ ptr, null, bytes }) |wrong| try testing.expectEqual(Status.forked, give(record, wrong));
    word.* = 1;
    bytes.* = before;
    try testing.expectEqual(Status.ok, give(record, ptr));
    try testing.expectEqual(Status.ok, engine.threadDetach(thread));
}

/// Regions on their way between two threads that take, give and steal all the time, while a third trims.
const Post = struct {
    boxes: [16]std.atomic.Value(usize) = @splat(.init(0)),
    wrong: std.atomic.Value(u32) = .init(0),
    ended: std.atomic.Value(u32) = .init(0),
    pool: u32,

    fn work(post: *Post, seed: u64) void {
        const thread = attach();
        const record = Face.of(&engine, thread, post.pool).?;
        var prng: std.Random.DefaultPrng = .init(seed);
        const random = prng.random();
        for (0..20_000) |_| {
            const bytes = @as(usize, 2 * mib) << random.int(u1);
            var mine: [3]usize = @splat(0);
            for (mine[0..random.uintLessThan(usize, 4)]) |*address| {
                const ptr = take(record, bytes) orelse return post.fail();
                address.* = @intFromPtr(ptr);
                stamp(address.*).store(address.*, .monotonic);
            }
            for (&mine) |*address| if (random.uintLessThan(u8, 8) == 0) {
                address.* = post.boxes[random.uintLessThan(usize, 16)].swap(address.*, .acq_rel);
            };
            for (mine) |address| post.end(record, address);
        }
        _ = engine.threadDetach(thread);
        _ = post.ended.fetchAdd(1, .release);
    }

    fn stamp(address: usize) *std.atomic.Value(usize) {
        return @ptrFromInt(address);
    }

    fn end(post: *Post, record: *Face.Cache, address: usize) void {
        if (address == 0) return;
        // Another tenant's stamp or none: the region was given to two, or purged under its tenant.
        if (stamp(address).load(.monotonic) != address) post.fail();
        stamp(address).store(0, .monotonic);
        if (give(record, @ptrFromInt(address)) != .ok) post.fail();
    }

    fn fail(post: *Post) void {
        _ = post.wrong.fetchAdd(1, .monotonic);
    }
};

test "threads take from and give to each other by their records while a third trims" {
    defer engine.deinit();
    const thread = attach();
    const seed = testing.random_seed;
    errdefer std.debug.print("seed {d}\n", .{seed});
    var post: Post = .{ .pool = create(std.mem.zeroes(types.PoolOptions)) };
    var others: [2]std.Thread = undefined;
    for (&others, 0..) |*other, i| other.* = try std.Thread.spawn(.{}, Post.work, .{ &post, seed +% i });
    while (post.ended.load(.acquire) + post.wrong.load(.monotonic) < others.len) {
        _ = engine.poolTrim(thread, post.pool);
        try std.Thread.yield();
    }
    for (others) |other| other.join();
    const record = Face.of(&engine, thread, post.pool).?;
    for (&post.boxes) |*box| post.end(record, box.load(.monotonic));
    try testing.expectEqual(0, post.wrong.load(.monotonic));
    try testing.expectEqual(0, engine.poolClose(thread, post.pool, 0));
}
