//! Real threads on one owner slab, for ThreadSanitizer and as a stress of the machine's own memory
//! order: an owner allocates and writes, four others check, free, and free again what they should not;
//! the ownership goes to another thread in between, and at the end every slot is accounted for.
//!
//! Some seconds under ThreadSanitizer. The seed of what each thread does is printed on failure.

const std = @import("std");
const testing = std.testing;
const ds = @import("../ds/ds.zig");
const backend_file = @import("backend.zig");
const owner_slab = @import("owner_slab.zig");

const Slab = owner_slab.OwnerSlab(ds.Real);
const others_count = 4;
const mail_slots = 64;
const rounds = 20_000;

const Stress = struct {
    slab: *Slab,
    /// Slots on their way, 0 for none: release on put, acquire on take.
    mail: [mail_slots]std.atomic.Value(u64) = @splat(.init(0)),
    stop: std.atomic.Value(u32) = .init(0),
    wrong: std.atomic.Value(u32) = .init(0),
    kept: std.atomic.Value(u32) = .init(0),
    freed: std.atomic.Value(u64) = .init(0),
    doubles: std.atomic.Value(u64) = .init(0),

    fn check(stress: *Stress, holds: bool, at: std.builtin.SourceLocation) void {
        if (!holds) _ = stress.wrong.cmpxchgStrong(0, at.line, .monotonic, .monotonic);
    }

    fn wordsOf(stress: *Stress, number: u64) *[2]u64 {
        const index: u32 = @truncate(number & ((@as(u64, 1) << @intCast(stress.slab.bits)) - 1));
        return @ptrCast(@alignCast(stress.slab.addressOf(index)));
    }

    fn own(stress: *Stress, seed: u64) void {
        var prng: std.Random.DefaultPrng = .init(seed);
        const random = prng.random();
        const slab = stress.slab;
        for (0..rounds) |_| {
            if (stress.wrong.load(.monotonic) != 0) return;
            const index = slab.alloc(null) orelse {
                std.Thread.yield() catch {};
                continue;
            };
            const number = slab.numberOf(index);
            stress.wordsOf(number).* = .{ number, ~number };
            if (random.uintLessThan(u32, 8) == 0) {
                slab.free(number) catch stress.check(false, @src());
                stress.check(slab.free(number) == error.DoubleFree, @src());
                continue;
            }
            const old = stress.mail[random.uintLessThan(usize, mail_slots)].swap(number, .acq_rel);
            if (old != 0) slab.free(old) catch stress.check(false, @src());
            if (random.uintLessThan(u32, 500) == 0) _ = slab.drain();
        }
    }

    fn other(stress: *Stress, seed: u64) void {
        var prng: std.Random.DefaultPrng = .init(seed);
        const random = prng.random();
        const slab = stress.slab;
        var freed: u64 = 0;
        var doubles: u64 = 0;
        while (stress.stop.load(.acquire) == 0) {
            const number = stress.mail[random.uintLessThan(usize, mail_slots)].swap(0, .acq_rel);
            if (number == 0) continue;
            const words = stress.wordsOf(number);
            stress.check(words[0] == number and words[1] == ~number, @src());
            words.* = .{ 0, 0 };
            while (true) switch (slab.freeRemote(number)) {
                .done, .done_wake => {
                    freed += 1;
                    break;
                },
                .full => {
                    // Nobody takes the queue any more: it stays with this thread.
                    if (stress.stop.load(.acquire) != 0) {
                        _ = stress.kept.fetchAdd(1, .monotonic);
                        break;
                    }
                    std.Thread.yield() catch {};
                    continue;
                },
                else => break stress.check(false, @src()),
            };
            if (stress.stop.load(.acquire) != 0) break;
            if (random.uintLessThan(u32, 4) == 0) switch (slab.freeRemote(number)) {
                .double_free => doubles += 1,
                .full => {},
                else => stress.check(false, @src()),
            };
        }
        _ = stress.freed.fetchAdd(freed, .monotonic);
        _ = stress.doubles.fetchAdd(doubles, .monotonic);
    }
};

fn stressed(options: owner_slab.Options) !void {
    const seed: u64 = testing.random_seed;
    const slab = Slab.create(backend_file.Backend.ofAllocator(&std.heap.smp_allocator), null, options) orelse return error.Refused;
    var stress: Stress = .{ .slab = slab };
    errdefer std.debug.print("seed {d}, line {d}\n", .{ seed, stress.wrong.load(.monotonic) });
    var others: [others_count]std.Thread = undefined;
    for (&others, 1..) |*thread, i| thread.* = try std.Thread.spawn(.{}, Stress.other, .{ &stress, seed + i });
    // The ownership goes from thread to thread, each time by a join.
    for (0..3) |turn| {
        const owner = try std.Thread.spawn(.{}, Stress.own, .{ &stress, seed *% 31 + turn });
        owner.join();
    }
    stress.stop.store(1, .release);
    for (others) |thread| thread.join();
    try testing.expectEqual(0, stress.wrong.raw);
    try testing.expect(stress.freed.raw > 0);
    var in_hands: u32 = stress.kept.raw;
    for (&stress.mail) |*box| if (box.raw != 0) {
        in_hands += 1;
    };
    try slab.invariants();
    try testing.expectEqual(in_hands, slab.figures().live);
    try testing.expect(slab.corruptionEvents() >= stress.doubles.raw);
    slab.close();
    try slab.invariants();
    try testing.expect(slab.release(null));
}

test "threads free what an owner hands out, and every slot is accounted for" {
    try stressed(.{ .slot_bytes = 16, .capacity = 1000 });
}

test "threads share a queue of 8 with an adaptive owner" {
    try stressed(.{ .slot_bytes = 16, .capacity = 100, .queue_capacity = 8, .batch = .adaptive });
}

test "threads free into a slab that grows" {
    try stressed(.{ .slot_bytes = 16, .capacity = 16, .capacity_max = 256 });
}

test "threads free into a slab while it closes, and are told so" {
    const Closing = struct {
        slab: *Slab,
        numbers: []const u64,
        taken: std.atomic.Value(u32) = .init(0),
        done: std.atomic.Value(u32) = .init(0),

        fn run(self: *@This()) void {
            var done: u32 = 0;
            for (self.numbers) |number| switch (self.slab.freeRemote(number)) {
                .done, .done_wake => done += 1,
                .double_free, .closed => {},
                else => @panic("neither freed nor closed"),
            };
            _ = self.done.fetchAdd(done, .monotonic);
            _ = self.slab.release(null);
        }
    };
    for (0..50) |_| {
        const slab = Slab.create(backend_file.Backend.ofAllocator(&std.heap.smp_allocator), null, .{ .slot_bytes = 8, .capacity = 500 }).?;
        var numbers: [500]u64 = undefined;
        for (&numbers) |*number| number.* = slab.numberOf(slab.alloc(null).?);
        var closing: Closing = .{ .slab = slab, .numbers = &numbers };
        var threads: [2]std.Thread = undefined;
        for (&threads) |*thread| {
            slab.retain();
            thread.* = try std.Thread.spawn(.{}, Closing.run, .{&closing});
        }
        while (closing.done.load(.monotonic) == 0 and slab.noted.load(.monotonic, .t) == 0) std.atomic.spinLoopHint();
        slab.close();
        const top = slab.top;
        // The others hold the memory until they have seen the end.
        for (threads) |thread| thread.join();
        try testing.expectEqual(closing.done.raw, top);
        _ = slab.release(null);
    }
}
