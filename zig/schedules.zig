//! The full proof of the lock-free structures: every scenario clean over many seeded schedules,
//! every dropped release and acquire found, every planted bug found.
//!
//!   zig run -OReleaseFast zig/schedules.zig -- --schedules=1000000 --seed=1
//!   ... -- --only=handle_table --seed=1 --from=4711 --schedules=1      repeats one schedule
//!
//! Exit code 0 only if all of it held. `zig build test` runs the same at smoke size; see the tests
//! below. Not for measuring speed: every atomic operation is a call into the simulation.

const std = @import("std");
const scheduler = @import("testing/scheduler.zig");
const scenarios = @import("testing/scenarios.zig");

pub fn main(init: std.process.Init) !void {
    var proof: scheduler.Proof = .{
        .seed = 1,
        .schedules = 1_000_000,
        .mutation_budget = 0,
        .verbose = true,
    };
    var from: ?u64 = null;
    var only: ?[]const u8 = null;
    var args = try init.minimal.args.iterateAllocator(init.gpa);
    defer args.deinit();
    _ = args.skip();
    while (args.next()) |arg| {
        if (value(arg, "--schedules=")) |text| {
            proof.schedules = try std.fmt.parseInt(u64, text, 10);
        } else if (value(arg, "--seed=")) |text| {
            proof.seed = try std.fmt.parseInt(u64, text, 0);
        } else if (value(arg, "--from=")) |text| {
            from = try std.fmt.parseInt(u64, text, 10);
        } else if (value(arg, "--only=")) |text| {
            only = text;
        } else {
            std.debug.print("unknown: {s}; takes --schedules= --seed= --only= --from=\n", .{arg});
            std.process.exit(2);
        }
    }
    proof.mutation_budget = proof.schedules;
    if (from) |first| return repeat(only, proof, first);
    run(proof, only) catch std.process.exit(1);
}

fn value(arg: []const u8, name: []const u8) ?[]const u8 {
    return if (std.mem.startsWith(u8, arg, name)) arg[name.len..] else null;
}

/// All scenarios, or the one called `only`.
fn run(proof: scheduler.Proof, only: ?[]const u8) error{ProofFailed}!void {
    inline for (scenarios.all) |scenario| {
        if (isWanted(only, scenario.name)) try scheduler.prove(&scenario, proof);
    }
    if (only == null) try findPlanted(proof);
}

fn isWanted(only: ?[]const u8, name: []const u8) bool {
    return if (only) |wanted| std.mem.eql(u8, wanted, name) else true;
}

fn repeat(only: ?[]const u8, proof: scheduler.Proof, from: u64) void {
    inline for (scenarios.all ++ scenarios.planted) |scenario| {
        if (isWanted(only, scenario.name)) {
            if (scheduler.explore(&scenario, proof.seed, from, proof.schedules)) |failure| {
                std.debug.print("{s}: schedule {d}: {s}\n", .{
                    scenario.name, failure.schedule, failure.reason,
                });
                std.process.exit(1);
            }
        }
    }
}

/// Canaries: bugs that are there on purpose.
fn findPlanted(proof: scheduler.Proof) error{ProofFailed}!void {
    scheduler.restore();
    defer scheduler.restore();
    inline for (scenarios.planted) |scenario| try expectFound(&scenario, scenario.name, proof);
    inline for (scenarios.all) |scenario| {
        if (comptime std.mem.eql(u8, scenario.name, "owner_lock")) {
            scheduler.setFences(.{ .heavy = false });
            try expectFound(&scenario, "owner_lock without its heavy fence", proof);
        }
        if (comptime std.mem.eql(u8, scenario.name, "owner_slab")) {
            scheduler.setFences(.{ .change = false });
            try expectFound(&scenario, "owner_slab without the fences of its marks", proof);
        }
        if (comptime std.mem.eql(u8, scenario.name, "owner_lock_symmetric")) {
            scheduler.setFences(.{ .light = false });
            try expectFound(&scenario, "owner_lock_symmetric without the owner's fence", proof);
            scheduler.setFences(.{ .heavy = false });
            try expectFound(&scenario, "owner_lock_symmetric without the thief's fence", proof);
        }
    }
}

fn expectFound(
    scenario: *const scheduler.Scenario,
    name: []const u8,
    proof: scheduler.Proof,
) error{ProofFailed}!void {
    if (scheduler.explore(scenario, proof.seed, 0, proof.mutation_budget)) |failure| {
        if (proof.verbose) std.debug.print("planted: {s}: schedule {d}: {s}\n", .{
            name, failure.schedule, failure.reason,
        });
    } else {
        std.debug.print("planted: {s} was not found\n", .{name});
        return error.ProofFailed;
    }
}

test "each lock-free structure passes its schedules, and every dropped order is noticed" {
    const seed: u64 = std.testing.random_seed;
    errdefer std.debug.print("seed {d}\n", .{seed});
    try run(.{ .seed = seed, .schedules = 20_000, .mutation_budget = 200_000 }, null);
}

test "a schedule can be repeated by its seed and number" {
    const scenario = scenarios.planted[1];
    const first = scheduler.explore(&scenario, 5, 0, 10_000).?;
    const again = scheduler.explore(&scenario, 5, first.schedule, 1).?;
    try std.testing.expectEqual(first.schedule, again.schedule);
    try std.testing.expectEqualStrings(first.reason, again.reason);
}
