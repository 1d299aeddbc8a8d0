//! When the owner of a slab takes in what others have freed: at a fixed number of queued frees, or at
//! one that adapts.
//!
//! The owner looks at its queue every few operations (`interval`) and tells what it saw; the policy
//! answers with the threshold. Adapting moves one level at a time and then rests: up when queues of
//! the threshold's length come so fast that taking them is work worth halving, and the queue is far
//! from full; down when someone was refused, when the queue is nearly full, or when frees have lain in
//! it for long without reaching the threshold.
//!
//! Invariant: the threshold is at least 1 and at most half of what the queue can hold, so that a small
//! queue drains by itself; a look at an empty queue changes nothing.
//!
//! Cost: a few additions each look. Threads: the owner's. When not: a queue without an owner that keeps
//! working; nothing here wakes anybody.

const std = @import("std");

pub const Batch = union(enum) { fixed: u32, adaptive };

/// Thresholds that adapting chooses from.
pub const levels = [_]u32{ 8, 16, 32, 64, 128 };
pub const level_start = 3;
/// Looks between two steps.
pub const cool_down_looks = 16;
/// Operations between two looks at most; fewer for small thresholds.
pub const interval_max = 16;
/// Looks at a queue that is neither empty nor full enough, after which its frees have lain too long.
const stale_looks = 16;
/// Takes within so many looks of each other come fast.
const fast_looks = 4;

pub const default_batch: u32 = 64;

/// What the owner saw.
pub const Sight = struct {
    depth: u32,
    /// Frees refused so far, since the queue was full.
    refused: u32,
};

/// Lies in the slab's control block: plain words.
pub const Policy = extern struct {
    /// The threshold in force.
    threshold: u32,
    /// Operations between two looks.
    interval: u32,
    /// What is asked for: 0 adapts.
    fixed: u32,
    /// What the queue holds.
    bound: u32,
    level: u32,
    /// Looks until the next step may be taken.
    cool_down: u32,
    /// Looks since the queue was taken last.
    since_take: u32,
    /// Takes in a row that came fast.
    fast_takes: u32,
    /// Looks in a row that found some frees, but too few.
    stale: u32,
    refused: u32,
    steps_up: u32,
    steps_down: u32,

    /// `bound`: frees that the queue holds, at most the slots of the slab.
    pub fn init(batch: Batch, bound: u32) Policy {
        var policy = std.mem.zeroes(Policy);
        policy.bound = bound;
        policy.level = level_start;
        policy.fixed = switch (batch) {
            .fixed => |count| @max(count, 1),
            .adaptive => 0,
        };
        if (policy.isAdaptive()) while (policy.level > 0 and levels[policy.level] > bound / 2) {
            policy.level -= 1;
        };
        policy.set();
        return policy;
    }

    pub fn isAdaptive(policy: *const Policy) bool {
        return policy.fixed == 0;
    }

    /// Whether the queue is to be taken now.
    pub fn look(policy: *Policy, sight: Sight) bool {
        const due = sight.depth >= policy.threshold;
        if (policy.isAdaptive()) policy.adapt(sight, due);
        return due;
    }

    /// As `look`, by the rule that this one replaces: an empty queue counts as far from full.
    pub fn lookDegenerate(policy: *Policy, sight: Sight) bool {
        policy.cool_down -|= 1;
        if (policy.isAdaptive() and policy.cool_down == 0) {
            if (sight.depth * 4 < policy.bound) policy.step(true);
            if (sight.depth * 4 > policy.bound * 3) policy.step(false);
        }
        return sight.depth >= policy.threshold;
    }

    fn adapt(policy: *Policy, sight: Sight, due: bool) void {
        policy.cool_down -|= 1;
        policy.since_take +|= 1;
        const refused = sight.refused != policy.refused;
        policy.refused = sight.refused;
        if (sight.depth == 0 and !refused) {
            policy.stale = 0;
            return;
        }
        if (due) {
            policy.fast_takes = if (policy.since_take <= fast_looks) policy.fast_takes +| 1 else 0;
            policy.since_take = 0;
            policy.stale = 0;
        } else policy.stale +|= 1;
        if (policy.cool_down != 0) return;
        const nearly_full = @as(u64, sight.depth) * 4 > @as(u64, policy.bound) * 3;
        if (refused or nearly_full or policy.stale >= stale_looks) {
            policy.step(false);
        } else if (policy.fast_takes >= 2 and @as(u64, sight.depth) * 4 < policy.bound) {
            policy.step(true);
        }
    }

    fn step(policy: *Policy, up: bool) void {
        if (up) {
            // A level that the queue cannot hold would change nothing.
            if (policy.level + 1 == levels.len or levels[policy.level + 1] > policy.bound / 2) return;
            policy.level += 1;
            policy.steps_up +%= 1;
        } else {
            if (policy.level == 0) return;
            policy.level -= 1;
            policy.steps_down +%= 1;
        }
        policy.cool_down = cool_down_looks;
        policy.stale = 0;
        policy.fast_takes = 0;
        policy.set();
    }

    fn set(policy: *Policy) void {
        const wanted = if (policy.fixed != 0) policy.fixed else levels[policy.level];
        const most = @max(policy.bound / 2, 1);
        policy.threshold = @min(wanted, most);
        policy.interval = @min(policy.threshold, interval_max);
    }
};

const testing = std.testing;

/// A queue that `rate` frees enter between two looks; answers how often it was taken.
fn steady(policy: *Policy, looks: u32, rate: u32) u32 {
    var taken: u32 = 0;
    var depth: u32 = 0;
    for (0..looks) |_| {
        depth = @min(depth + rate, policy.bound);
        if (policy.look(.{ .depth = depth, .refused = policy.refused })) {
            taken += 1;
            depth = 0;
        }
    }
    return taken;
}

/// Looks that all see the same.
fn still(policy: *Policy, looks: u32, depth: u32) void {
    for (0..looks) |_| _ = policy.look(.{ .depth = depth, .refused = policy.refused });
}

test "an adaptive threshold starts at 64, and an empty queue never moves it" {
    var policy: Policy = .init(.adaptive, 1024);
    try testing.expectEqual(64, policy.threshold);
    try testing.expectEqual(0, steady(&policy, 10_000, 0));
    try testing.expectEqual(64, policy.threshold);
    try testing.expectEqual(0, policy.steps_up + policy.steps_down);
}

test "an adaptive threshold moves in both directions at a queue of 1024" {
    var policy: Policy = .init(.adaptive, 1024);
    // Frees come fast: fewer takes are worth it.
    _ = steady(&policy, 100, 40);
    try testing.expectEqual(128, policy.threshold);
    // They come slowly, and would lie for long.
    _ = steady(&policy, 2000, 1);
    try testing.expectEqual(16, policy.threshold);
    _ = steady(&policy, 2000, 60);
    try testing.expectEqual(128, policy.threshold);
    // Nearly full.
    still(&policy, 3 * cool_down_looks, 800);
    try testing.expect(policy.threshold <= 32);
}

test "at a steady rate the threshold comes to rest" {
    for (1..65) |rate| {
        var policy: Policy = .init(.adaptive, 1024);
        var again = policy;
        _ = steady(&policy, 1000, @intCast(rate));
        try testing.expect(steady(&again, 5000, @intCast(rate)) > 0);
        try testing.expectEqual(policy.steps_up, again.steps_up);
        try testing.expectEqual(policy.steps_down, again.steps_down);
    }
}

test "a step is followed by a rest, and levels end at 8 and at 128" {
    var policy: Policy = .init(.adaptive, 4096);
    still(&policy, 1, 4000);
    try testing.expectEqual(32, policy.threshold);
    still(&policy, cool_down_looks - 1, 4000);
    try testing.expectEqual(32, policy.threshold);
    still(&policy, 1, 4000);
    try testing.expectEqual(16, policy.threshold);
    still(&policy, 1000, 4000);
    try testing.expectEqual(levels[0], policy.threshold);
    still(&policy, 10_000, 200);
    try testing.expectEqual(levels[levels.len - 1], policy.threshold);
}

test "a refusal brings the threshold down" {
    var policy: Policy = .init(.adaptive, 1024);
    _ = policy.look(.{ .depth = 1, .refused = 1 });
    try testing.expectEqual(32, policy.threshold);
    // Seen once, counted once.
    for (0..stale_looks - 2) |_| _ = policy.look(.{ .depth = 1, .refused = 1 });
    try testing.expectEqual(32, policy.threshold);
}

test "a threshold never exceeds half of what the queue can hold" {
    for (1..300) |bound| {
        const fixed: Policy = .init(.{ .fixed = 64 }, @intCast(bound));
        try testing.expectEqual(@max(1, @min(64, bound / 2)), fixed.threshold);
        var adaptive: Policy = .init(.adaptive, @intCast(bound));
        for (0..1000) |_| {
            still(&adaptive, 1, adaptive.threshold);
            try testing.expect(adaptive.threshold <= @max(1, bound / 2));
            try testing.expect(adaptive.interval <= adaptive.threshold);
        }
    }
}
