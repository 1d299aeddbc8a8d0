//! The registry of fuzzers and the program that runs them:
//!
//!   npm run fuzz -- list
//!   npm run fuzz -- <name> [seed] [--events=n]    one run, or runs with new seeds until one fails
//!   npm run fuzz -- smoke                         each of them for a few seeds
//!
//! A fuzzer is a function of a file `*_fuzz.zig`: `pub fn fuzz(seed: u64, events: u64) !void`. It
//! runs the same random operations on the real structure and on a slow, obvious model, and returns
//! an error at the first difference. The seed decides everything, so the line printed for a failure
//! repeats it; a seed that found a bug becomes a named test.
//!
//! The canary is a fuzzer with a planted bug: the smoke run fails if it is not found, since then
//! no other result would mean anything. One thread; memory as each fuzzer needs.

const std = @import("std");
const buddy = @import("heap/buddy_fuzz.zig");
const engine = @import("engine/engine_fuzz.zig");
const global = @import("heap/global_fuzz.zig");
const handle_table = @import("ds/handle_table_fuzz.zig");
const reclaiming = @import("heap/reclaiming_fuzz.zig");
const owner_slab = @import("heap/owner_slab_fuzz.zig");
const small_heap = @import("heap/small_heap_fuzz.zig");
const typed = @import("heap/typed_fuzz.zig");

const Fuzzer = struct {
    name: []const u8,
    run: *const fn (seed: u64, events: u64) anyerror!void,
    /// Events of one smoke run: about a second in ReleaseSafe.
    smoke_events: u64,
    expected: enum { passes, fails } = .passes,
};

const fuzzers = [_]Fuzzer{
    .{ .name = "buddy", .run = buddy.fuzz, .smoke_events = 100_000 },
    .{ .name = "engine", .run = engine.fuzz, .smoke_events = 20_000 },
    .{ .name = "global", .run = global.fuzz, .smoke_events = 100_000 },
    .{ .name = "global_threads", .run = global.fuzzThreads, .smoke_events = 1_000_000 },
    .{ .name = "handle_table", .run = handle_table.fuzz, .smoke_events = 200_000 },
    .{ .name = "reclaiming", .run = reclaiming.fuzz, .smoke_events = 20_000 },
    .{ .name = "reclaiming_dirty", .run = reclaiming.fuzzDirty, .smoke_events = 5_000 },
    .{ .name = "reclaiming_threads", .run = reclaiming.fuzzThreads, .smoke_events = 20_000 },
    .{ .name = "owner_slab", .run = owner_slab.fuzz, .smoke_events = 200_000 },
    .{ .name = "small_heap", .run = small_heap.fuzz, .smoke_events = 200_000 },
    .{ .name = "typed", .run = typed.fuzz, .smoke_events = 20_000 },
    .{ .name = "refused", .run = engine.fuzzRefusals, .smoke_events = 60 },
    .{ .name = "canary", .run = canary, .smoke_events = 10_000, .expected = .fails },
};

const smoke_seeds = 3;
const default_events = 100_000;

/// Runs what the arguments ask for; exit 1 when a fuzzer fails, 2 for a wrong command line.
pub fn main(init: std.process.Init) !u8 {
    const args = try init.minimal.args.toSlice(init.arena.allocator());
    const name = if (args.len > 1) args[1] else "smoke";
    if (std.mem.eql(u8, name, "list")) {
        for (fuzzers) |fuzzer| std.debug.print("{s}\n", .{fuzzer.name});
        return 0;
    }
    if (std.mem.eql(u8, name, "smoke")) return smoke(init.io);
    const fuzzer = for (fuzzers) |each| {
        if (std.mem.eql(u8, each.name, name)) break each;
    } else {
        std.debug.print("no fuzzer is called {s}; see: npm run fuzz -- list\n", .{name});
        return 2;
    };
    var seed: ?u64 = null;
    var events: u64 = default_events;
    for (args[2..]) |arg| {
        if (std.mem.startsWith(u8, arg, "--events=")) {
            events = std.fmt.parseInt(u64, arg["--events=".len..], 10) catch return usage(arg);
        } else {
            seed = std.fmt.parseInt(u64, arg, 0) catch return usage(arg);
        }
    }
    if (seed) |given| return if (try runOne(fuzzer, given, events)) 0 else 1;
    while (true) if (!try runOne(fuzzer, randomSeed(init.io), events)) return 1;
}

fn usage(arg: []const u8) u8 {
    std.debug.print("not a number: {s}. Usage: fuzz [name|smoke|list] [seed] [--events=n]\n", .{arg});
    return 2;
}

fn smoke(io: std.Io) !u8 {
    var passed: u32 = 0;
    var failed: u32 = 0;
    for (fuzzers) |fuzzer| {
        var good = true;
        for (0..smoke_seeds) |_| {
            good = try runOne(fuzzer, randomSeed(io), fuzzer.smoke_events) and good;
        }
        if (good) passed += 1 else failed += 1;
    }
    std.debug.print("{d} passed, {d} failed\n", .{ passed, failed });
    return if (failed == 0) 0 else 1;
}

/// Whether the run ended as expected; says how to repeat one that did not.
fn runOne(fuzzer: Fuzzer, seed: u64, events: u64) !bool {
    const outcome = fuzzer.run(seed, events);
    const failed = if (outcome) |_| false else |_| true;
    if (failed == (fuzzer.expected == .fails)) {
        std.debug.print("ok     {s} 0x{x} --events={d}\n", .{ fuzzer.name, seed, events });
        return true;
    }
    const what = if (outcome) |_| "the planted bug was not found" else |err| @errorName(err);
    std.debug.print("FAILED {s}: {s}\n  repeat: npm run fuzz -- {s} 0x{x} --events={d}\n", .{
        fuzzer.name, what, fuzzer.name, seed, events,
    });
    return false;
}

fn randomSeed(io: std.Io) u64 {
    var seed: u64 = 0;
    io.random(std.mem.asBytes(&seed));
    return seed;
}

/// A bit set that forgets to clear one of its bits, against a plain array.
fn canary(seed: u64, events: u64) anyerror!void {
    var prng: std.Random.DefaultPrng = .init(seed);
    const random = prng.random();
    var subject: u64 = 0;
    var model: [64]bool = @splat(false);
    for (0..events) |_| {
        const bit = random.int(u6);
        const set = random.boolean();
        const mask = @as(u64, 1) << bit;
        if (set) subject |= mask else if (bit != 42) subject &= ~mask;
        model[bit] = set;
        for (model, 0..) |wanted, i| {
            if (wanted != (subject >> @intCast(i) & 1 == 1)) return error.CanaryDiffers;
        }
    }
}
