//! A whole engine under real threads, for ThreadSanitizer and for any run of the tests: each thread
//! allocates, writes, checks, frees its own and others' leases, passes leases on as tokens, ends and
//! starts anew, while one thread ticks and trims the pools.
//!
//! At the end every counter balances. The seed is printed when something fails. Runs on the real
//! system; takes about a second.

const std = @import("std");
const testing = std.testing;
const ds = @import("../ds/ds.zig");
const os = @import("../os/os.zig");
const core = @import("core.zig");
const types = @import("types.zig");
const w = @import("block.zig");

const Engine = core.Engine(os.Native);
const workers = 3;
const rounds = 400;
const mail_slots = 64;

var engine: Engine align(128) = .{};
/// Tokens on their way, 0 for none. Release on put, acquire on take: the payload goes with them.
var mail: [mail_slots]std.atomic.Value(u64) = @splat(.init(0));
var failures: std.atomic.Value(u32) = .init(0);
var done: std.atomic.Value(u32) = .init(0);

const Lease = struct { handle: f64, address: usize, bytes: usize };

fn work(seed: u64, pool: u32) void {
    var prng = std.Random.DefaultPrng.init(seed);
    for (0..3) |life| live(prng.random(), pool, life) catch |err| {
        std.debug.print("engine threads: {t}\n", .{err});
        _ = failures.fetchAdd(1, .monotonic);
    };
    _ = done.fetchAdd(1, .release);
}

/// One life of a thread: attach, work, detach.
fn live(random: std.Random, pool: u32, life: usize) !void {
    const attached = engine.threadAttach();
    if (attached < 0) return error.Attach;
    const thread: u32 = @intFromFloat(attached);
    var held: [16]Lease = undefined;
    var count: usize = 0;
    for (0..rounds) |_| switch (random.uintLessThan(u32, 8)) {
        0...3 => if (count < held.len) {
            held[count] = try take(random, thread, pool);
            count += 1;
        },
        4...5 => if (count != 0) {
            count -= 1;
            try give(thread, held[count]);
        },
        6 => if (count != 0) {
            const slot = &mail[random.uintLessThan(usize, mail_slots)];
            if (slot.load(.monotonic) != 0) continue;
            const token = engine.transfer(thread, held[count - 1].handle, 0);
            if (token < 0) return error.Transfer;
            count -= 1;
            // Lost the place to another sender: adopt it back and free it.
            if (slot.cmpxchgStrong(0, @intFromFloat(token), .release, .monotonic) != null)
                try adoptAndFree(thread, token);
        },
        else => {
            const token = mail[random.uintLessThan(usize, mail_slots)].swap(0, .acquire);
            if (token != 0) try adoptAndFree(thread, @floatFromInt(token));
        },
    };
    // A thread that ends with leases: every second life leaves them to the sweep.
    if (life % 2 == 0) for (held[0..count]) |lease| try give(thread, lease);
    if (engine.threadDetach(thread) != .ok) return error.Detach;
}

fn take(random: std.Random, thread: u32, pool: u32) !Lease {
    const bytes: usize = switch (random.uintLessThan(u32, 4)) {
        0 => (1 << 20) + random.uintLessThan(usize, 3 << 20),
        else => 1 + random.uintLessThan(usize, 40_000),
    };
    const handle = engine.alloc(thread, pool, @floatFromInt(bytes), if (random.boolean()) w.option_zero else 0);
    if (handle < 0) return error.Alloc;
    const address: usize = @intFromFloat(engine.threads[thread].block[w.address]);
    stamp(address, bytes);
    return .{ .handle = handle, .address = address, .bytes = bytes };
}

fn stamp(address: usize, bytes: usize) void {
    const base: [*]u8 = @ptrFromInt(address);
    base[0] = @truncate(bytes);
    base[bytes - 1] = @truncate(bytes);
}

fn check(address: usize, bytes: usize) !void {
    const base: [*]const u8 = @ptrFromInt(address);
    if (base[0] != @as(u8, @truncate(bytes)) or base[bytes - 1] != @as(u8, @truncate(bytes))) return error.ContentsLost;
}

fn give(thread: u32, lease: Lease) !void {
    try check(lease.address, lease.bytes);
    if (engine.free(thread, lease.handle) != .ok) return error.Free;
    if (engine.free(thread, lease.handle) != .double_free) return error.DoubleFree;
}

fn adoptAndFree(thread: u32, token: f64) !void {
    const handle = engine.adopt(thread, token);
    if (handle < 0) return error.Adopt;
    const block = &engine.threads[thread].block;
    const bytes: usize = @intFromFloat(block[w.byte_length]);
    try give(thread, .{ .handle = handle, .address = @intFromFloat(block[w.address]), .bytes = bytes });
}

test "an engine balances after threads that allocate, pass on, free and end" {
    const seed: u64 = testing.random_seed;
    errdefer std.debug.print("seed {d}\n", .{seed});
    engine = .{};
    failures.store(0, .monotonic);
    done.store(0, .monotonic);
    var options = std.mem.zeroes(types.PoolOptions);
    options.given = @intFromEnum(types.PoolField.background);
    const created = engine.poolCreate(0, &options);
    try testing.expect(created > 0);
    const pool_id: u32 = @intFromFloat(created);
    const pool = engine.poolOf(pool_id).?;
    var threads: [workers]std.Thread = undefined;
    for (&threads, 0..) |*thread, i| thread.* = try .spawn(.{}, work, .{ seed +% i, pool_id });
    while (done.load(.acquire) < workers) {
        _ = Engine.Pool.Purge.tick(pool);
        if (seed % 2 == 0) _ = Engine.Pool.Purge.trim(pool);
        var out: types.Stats = undefined;
        _ = engine.stats(&out, 0);
        std.Thread.yield() catch {};
    }
    for (&threads) |*thread| thread.join();
    for (&mail) |*slot| slot.store(0, .monotonic);
    try testing.expectEqual(0, failures.load(.monotonic));
    // Tokens nobody adopted come back now that their senders are gone.
    _ = engine.trim(0);
    var out: types.Stats = undefined;
    _ = engine.stats(&out, 0);
    try testing.expectEqual(0, out.live_handles);
    try testing.expectEqual(0, out.pending_tokens);
    try testing.expectEqual(0, out.allocated_bytes);
    try testing.expectEqual(0, out.active_bytes);
    try testing.expectEqual(0, engine.poolClose(0, pool_id, 0));
    engine.deinit();
}
