//! The engine under real threads on the real system: four threads lease, write, hand over by token,
//! adopt and free, with memory freed by another thread than its first owner all the time. `zig build
//! race` runs it under ThreadSanitizer, which sees every write to leased memory as well: a lease
//! given to two owners, or handed over without the order that design asks for, is a report.
//!
//! Cost: some seconds, 64 MiB. The seed is printed when the test fails; it fixes what each thread
//! does, not the order between them. One test at a time uses the engine.

const std = @import("std");
const os = @import("../os/os.zig");
const core = @import("core.zig");
const types = @import("types.zig");

const Engine = core.Engine(os.Native);
const threads_count = 4;
const rounds = 3_000;

const block_address = 0;

/// A place where one thread leaves a token and any thread takes it: 0 is empty.
const Mailbox = std.atomic.Value(u64);

const Stress = struct {
    engine: Engine align(128) = .{},
    mailboxes: [8]Mailbox = @splat(.init(0)),
    /// What went wrong first, as a line number of this file; 0 while nothing has.
    wrong: std.atomic.Value(u32) = .init(0),
    adopted: std.atomic.Value(u32) = .init(0),

    fn check(stress: *Stress, holds: bool, at: std.builtin.SourceLocation) void {
        if (!holds) _ = stress.wrong.cmpxchgStrong(0, at.line, .monotonic, .monotonic);
    }

    /// The words of a lease that are written: its first, and one in its last page.
    fn words(stress: *Stress, thread: u32, bytes: f64) [2]*u64 {
        const block: [*]const f64 = @ptrCast(@alignCast(stress.engine.threadBlock(thread).?));
        const address: usize = @intFromFloat(block[block_address]);
        const size: usize = @intFromFloat(bytes);
        return .{ @ptrFromInt(address), @ptrFromInt(address + size - 8) };
    }

    fn work(stress: *Stress, seed: u64) void {
        const engine = &stress.engine;
        const attached = engine.threadAttach();
        stress.check(attached >= 0, @src());
        const thread: u32 = @intFromFloat(attached);
        const pool = engine.poolShared();
        var prng: std.Random.DefaultPrng = .init(seed);
        const random = prng.random();
        const sizes = [_]f64{ 4096, 65_536, 1 << 20, 2 << 20, 4 << 20 };
        for (0..rounds) |_| {
            if (stress.wrong.load(.monotonic) != 0) break;
            const bytes = sizes[random.uintLessThan(usize, sizes.len)];
            const handle = engine.alloc(thread, pool, bytes, 0);
            stress.check(handle > 0, @src());
            if (handle <= 0) break;
            const stamp = random.int(u64);
            const own = stress.words(thread, bytes);
            for (own) |word| word.* = stamp;
            if (random.uintLessThan(u32, 4) == 0) {
                stress.pass(thread, handle, random.uintLessThan(usize, stress.mailboxes.len));
            } else {
                for (own) |word| stress.check(word.* == stamp, @src());
                stress.check(engine.free(thread, handle) == .ok, @src());
                stress.check(engine.free(thread, handle) == .double_free, @src());
            }
        }
        stress.check(engine.threadDetach(thread) == .ok, @src());
    }

    /// Leaves the lease in a mailbox as a token, and adopts and frees the one that lay there.
    fn pass(stress: *Stress, thread: u32, handle: f64, box: usize) void {
        const engine = &stress.engine;
        const token = engine.transfer(thread, handle, 0);
        stress.check(token > 0, @src());
        stress.check(engine.free(thread, handle) != .ok, @src());
        const found = stress.mailboxes[box].swap(@intFromFloat(token), .acq_rel);
        if (found == 0) return;
        const lease = engine.adopt(thread, @floatFromInt(found));
        stress.check(lease > 0, @src());
        _ = stress.adopted.fetchAdd(1, .monotonic);
        const block: [*]const f64 = @ptrCast(@alignCast(engine.threadBlock(thread).?));
        const first: *u64 = @ptrFromInt(@as(usize, @intFromFloat(block[block_address])));
        first.* +%= 1;
        stress.check(engine.adopt(thread, @floatFromInt(found)) < 0, @src());
        stress.check(engine.free(thread, lease) == .ok, @src());
    }
};

var shared: Stress align(128) = .{};

test "four threads lease, hand over and free, and every counter balances" {
    const stress = &shared;
    stress.* = .{};
    defer stress.engine.deinit();
    const seed = std.testing.random_seed;
    errdefer std.debug.print("seed {d}, line {d}\n", .{ seed, stress.wrong.load(.monotonic) });
    var others: [threads_count]std.Thread = undefined;
    for (&others, 0..) |*other, i| {
        other.* = try std.Thread.spawn(.{}, Stress.work, .{ stress, @as(u64, seed) * threads_count + i });
    }
    for (others) |other| other.join();
    try std.testing.expectEqual(0, stress.wrong.load(.monotonic));
    try std.testing.expect(stress.adopted.load(.monotonic) > 0);

    const engine = &stress.engine;
    const thread: u32 = @intFromFloat(engine.threadAttach());
    for (&stress.mailboxes) |*box| {
        const token = box.swap(0, .acq_rel);
        if (token == 0) continue;
        const lease = engine.adopt(thread, @floatFromInt(token));
        try std.testing.expectEqual(types.Status.ok, engine.free(thread, lease));
    }
    var figures: types.Stats = undefined;
    try std.testing.expectEqual(types.Status.ok, engine.stats(&figures, 0));
    try std.testing.expectEqual(0, figures.live_handles);
    try std.testing.expectEqual(0, figures.allocated_bytes);
    try std.testing.expectEqual(0, figures.pending_tokens);
    try std.testing.expectEqual(0, figures.leaked_handles);
    try std.testing.expectEqual(types.Status.ok, engine.threadDetach(thread));
}
