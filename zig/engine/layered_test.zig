//! Slots with a layer, on the real system: small leases come from the layer, special and long ones from
//! the pool, and everything goes back whoever frees it and however slot or thread ends.

const std = @import("std");
const testing = std.testing;
const os = @import("../os/os.zig");
const core = @import("core.zig");
const types = @import("types.zig");
const w = @import("block.zig");

const Engine = core.Engine(os.Native);
const Status = types.Status;

var engine: Engine align(128) = .{};

fn attach() u32 {
    return @intFromFloat(engine.threadAttach());
}

fn create() u32 {
    return @intFromFloat(engine.globalCreate(&std.mem.zeroes(types.GlobalOptions)));
}

fn figures(id: u32) types.PoolStats {
    var out: types.PoolStats = undefined;
    std.debug.assert(engine.poolStats(id, &out) == .ok);
    return out;
}

test "small leases come from the layer, special ones from the pool; the figures know both" {
    defer engine.deinit();
    const thread = attach();
    const id = create();
    const block = &engine.threads[thread].block;
    const small = engine.alloc(thread, id, 100, w.option_zero);
    try testing.expect(small > 0);
    const bytes = @as([*]u8, @ptrFromInt(@as(usize, @intFromFloat(block[w.address]))))[0..100];
    for (bytes) |byte| try testing.expectEqual(0, byte);
    try testing.expect(block[w.capacity] >= 100);
    const aligned = engine.alloc(thread, id, 100, 12 << w.option_align_shift);
    try testing.expectEqual(0, @as(usize, @intFromFloat(block[w.address])) % 4096);
    const alias = engine.alloc(thread, id, 100, w.option_alias);
    const long = engine.alloc(thread, id, 3 << 20, 0);
    const empty = engine.alloc(thread, id, 0, 0);
    for ([_]f64{ aligned, alias, long, empty }) |handle| try testing.expect(handle > 0);
    try testing.expectEqual(4, figures(id).live_handles);
    try testing.expectEqual(300 + (3 << 20), figures(id).allocated_bytes);
    try testing.expectEqual(4, engine.poolClose(thread, id, 0));
    for ([_]f64{ small, aligned, alias, long, empty }) |handle| {
        try testing.expectEqual(Status.ok, engine.free(thread, handle));
        try testing.expectEqual(Status.double_free, engine.free(thread, handle));
    }
    try testing.expectEqual(0, figures(id).live_handles);
    try testing.expectEqual(0, figures(id).allocated_bytes);
    try testing.expectEqual(0, figures(id).active_bytes);
    try testing.expectEqual(0, engine.poolClose(thread, id, 0));
    try testing.expectEqual(-12, engine.alloc(thread, id, 100, 0));
}

test "a lease of a layer is resized in place or moved, renumbered by realloc, kept by a failure" {
    defer engine.deinit();
    const thread = attach();
    const id = create();
    const block = &engine.threads[thread].block;
    const first = engine.alloc(thread, id, 64, w.option_zero);
    const at: [*]u8 = @ptrFromInt(@as(usize, @intFromFloat(block[w.address])));
    for (at[0..64], 0..) |*byte, i| byte.* = @intCast(i);
    for ([_]f64{ 5000, 700_000, 3 << 20, 90, 64 }) |size| {
        try testing.expectEqual(Status.ok, engine.resize(thread, first, size));
        const now: [*]u8 = @ptrFromInt(@as(usize, @intFromFloat(block[w.address])));
        for (now[0..64], 0..) |byte, i| try testing.expectEqual(@as(u8, @intCast(i)), byte);
        if (size > 64) try testing.expectEqual(0, now[@as(usize, @intFromFloat(size)) - 1]);
        try testing.expectEqual(size, figures(id).allocated_bytes);
    }
    try testing.expectEqual(@as(f64, @floatFromInt(@intFromEnum(Status.limit))), blk: {
        var options = std.mem.zeroes(types.PoolOptions);
        options.given = @intFromEnum(types.PoolField.limit_bytes);
        options.limit_bytes = 1;
        try testing.expectEqual(Status.ok, engine.poolConfigure(thread, id, &options));
        break :blk engine.realloc(thread, id, first, 64 << 20);
    });
    const second = engine.realloc(thread, id, first, 65);
    try testing.expect(second > 0);
    try testing.expectEqual(Status.double_free, engine.free(thread, first));
    try testing.expectEqual(Status.ok, engine.free(thread, second));
    try testing.expectEqual(Status.unsupported, blk: {
        const other = engine.alloc(thread, id, 64, 0);
        defer _ = engine.free(thread, other);
        break :blk engine.lock(thread, other);
    });
}

test "a lease of a small heap, which lies in no region, can be purged and asked for its pages" {
    defer engine.deinit();
    const thread = attach();
    const id: u32 = @intFromFloat(engine.smallCreate(&.{ .limit_bytes = 1 << 20 }));
    const handle = engine.alloc(thread, id, 50_000, w.option_zero);
    try testing.expect(handle > 0);
    try testing.expectEqual(Status.ok, engine.purge(thread, handle, 0, 50_000, 0));
    try testing.expect(engine.pageKind(thread, handle) >= 0);
    try testing.expectEqual(Status.ok, engine.prefetch(thread, handle, 0, 50_000));
    // Beyond the reservation: its bound, not the system's.
    try testing.expectEqual(-5, engine.alloc(thread, id, 2 << 20, 0));
    try testing.expectEqual(1 << 20, engine.threads[thread].block[w.bound]);
    try testing.expectEqual(Status.ok, engine.free(thread, handle));
    try testing.expectEqual(0, engine.poolClose(thread, id, 0));
}

test "a close by force ends small leases too, and an ArrayBuffer keeps its memory until it is gone" {
    defer engine.deinit();
    const thread = attach();
    const id = create();
    const plain = engine.alloc(thread, id, 64, 0);
    const shown = engine.alloc(thread, id, 64, 0);
    try testing.expectEqual(Status.ok, engine.wrap(thread, shown));
    const index: u64 = @as(u64, @intFromFloat(shown)) & 0xFF_FFFF;
    try testing.expectEqual(0, engine.poolClose(thread, id, 1));
    try testing.expectEqual(Status.freed, engine.describe(thread, plain));
    var out: types.Stats = undefined;
    _ = engine.stats(&out, 0);
    try testing.expectEqual(1, out.closing_handles);
    try testing.expect(out.mapped_bytes > 0);
    engine.wrapDropped(index + 1);
    engine.reap();
    _ = engine.stats(&out, 0);
    try testing.expectEqual(0, out.closing_handles + out.resident_bytes);
}

test "threads free each other's small leases, end with leases in hand, and everything comes back" {
    defer engine.deinit();
    const thread = attach();
    const id = create();
    const Work = struct {
        var cells: [64]std.atomic.Value(u64) = @splat(.init(0));

        fn run(pool: u32, seed: u64) void {
            const own = attach();
            var random: std.Random.DefaultPrng = .init(seed);
            for (0..20_000) |_| {
                const cell = &cells[random.random().uintLessThan(usize, cells.len)];
                const size: f64 = @floatFromInt(random.random().uintLessThan(u32, 3000) + 1);
                const handle: u64 = @intFromFloat(@max(0, engine.alloc(own, pool, size, 0)));
                // Acquire and release: the lease passes from thread to thread.
                const old = cell.swap(handle, .acq_rel);
                if (old == 0) continue;
                // A thread that has ended had its leases freed.
                const answer = engine.free(own, @floatFromInt(old));
                std.debug.assert(answer == .ok or answer == .double_free);
            }
            _ = engine.threadDetach(own);
        }
    };
    var threads: [4]std.Thread = undefined;
    for (&threads, 1..) |*each, seed| each.* = try .spawn(.{}, Work.run, .{ id, seed });
    for (threads) |each| each.join();
    // What ended threads left in the cells has been freed as leaked.
    for (&Work.cells) |*cell| _ = engine.free(thread, @floatFromInt(cell.swap(0, .acquire)));
    try testing.expectEqual(0, figures(id).live_handles);
    try testing.expectEqual(0, figures(id).allocated_bytes);
    try testing.expectEqual(0, engine.poolClose(thread, id, 0));
}

test "threads that end between a wrap and its ArrayBuffer leave nothing behind" {
    defer engine.deinit();
    const keeper: u32 = @intFromFloat(engine.threadAttach());
    const pool = engine.poolShared();
    const Ending = struct {
        fn run(of: u32, is_made: bool) void {
            const thread: u32 = @intFromFloat(engine.threadAttach());
            const handle = engine.alloc(thread, of, 5000, 0);
            std.debug.assert(engine.wrap(thread, handle) == .ok);
            // Made and collected: its deallocator came before the thread's end.
            if (is_made) engine.wrapDropped((@as(usize, @intFromFloat(handle)) & 0xFF_FFFF) + 1);
            _ = engine.threadDetach(thread);
        }
    };
    for ([_]bool{ false, true }) |is_made| {
        const ending = try std.Thread.spawn(.{}, Ending.run, .{ pool, is_made });
        ending.join();
        var out: types.Stats = undefined;
        try testing.expectEqual(.ok, engine.stats(&out, 0));
        try testing.expectEqual(0, out.live_handles + out.closing_handles);
    }
    _ = engine.threadDetach(keeper);
}
