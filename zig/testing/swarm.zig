//! A random mix of operations in which some are left out at random.
//!
//! With every operation always possible, long rows of one kind hardly ever happen: nothing fills
//! up, nothing runs empty. A swarm gives each run weights of its own, many of them zero, so that
//! over many runs every corner is reached.
//!
//! `Operation` is an enum, one tag an operation. Invariant: at least one operation has a weight.
//! Cost: a pick is linear in the number of operations. One thread; the seed decides everything.
//!
//! Not for structures whose operations need one another to make any progress: name those in
//! `always`.

const std = @import("std");

pub fn Swarm(comptime Operation: type) type {
    const operations = std.enums.values(Operation);
    return struct {
        weights: [operations.len]u32,
        total: u32,

        const Mix = @This();

        /// Weights for one run: each operation is out with one chance in three, those in `always`
        /// never.
        pub fn init(random: std.Random, always: []const Operation) Mix {
            var mix: Mix = .{ .weights = undefined, .total = 0 };
            for (&mix.weights, operations) |*weight, operation| {
                const needed = std.mem.indexOfScalar(Operation, always, operation) != null;
                const out = !needed and random.uintLessThan(u8, 3) == 0;
                // Skewed: a few operations dominate a run.
                weight.* = if (out) 0 else @as(u32, 1) << random.uintLessThan(u5, 6);
                mix.total += weight.*;
            }
            if (mix.total == 0) mix = .{ .weights = @splat(1), .total = operations.len };
            return mix;
        }

        pub fn next(mix: *const Mix, random: std.Random) Operation {
            var left = random.uintLessThan(u32, mix.total);
            for (mix.weights, operations) |weight, operation| {
                if (left < weight) return operation;
                left -= weight;
            }
            unreachable;
        }
    };
}

test "a swarm leaves operations out, but never the needed one, and never all" {
    const Operation = enum { push, pop, clear, close };
    var prng = std.Random.DefaultPrng.init(std.testing.random_seed);
    var runs_without_clear: u32 = 0;
    for (0..200) |_| {
        const mix: Swarm(Operation) = .init(prng.random(), &.{.push});
        try std.testing.expect(mix.weights[@intFromEnum(Operation.push)] > 0);
        if (mix.weights[@intFromEnum(Operation.clear)] == 0) runs_without_clear += 1;
        for (0..20) |_| {
            const operation = mix.next(prng.random());
            try std.testing.expect(mix.weights[@intFromEnum(operation)] > 0);
        }
    }
    try std.testing.expect(runs_without_clear > 20 and runs_without_clear < 180);
}
