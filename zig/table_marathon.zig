//! The handle table alone through 2^33 leases: no stale number is ever accepted, and the table is
//! not exhausted.
//!
//!   zig run -OReleaseFast zig/table_marathon.zig -- [--leases=N] [--threads=N] [--seed=N]
//!
//! Each thread leases and frees on one shared table through a cache of its own. Since caches are
//! last-in-first-out, nearly all leases of a thread fall on one index until its 2^29 numbers are
//! used up and it retires: the numbers of some sixteen indexes are run through completely. Of every
//! index the first handle, the last one of the index before it, and random ones in between are
//! kept, and presented again all along: right after their lease, while the index is used by others,
//! and after it retired. At the end, every kept number is presented once more, together with its
//! neighbours.
//!
//! Exit code 0 only if none was accepted, each of the leases got a number, and as many indexes
//! retired as the arithmetic says. About 7 ns a lease on one core of an x86-64 server of 2025; not
//! a benchmark, since looking at old numbers is part of the loop.

const std = @import("std");
const ds = @import("ds/ds.zig");

const Payload = extern struct { lease: u64 };
const Table = ds.HandleTable(ds.Real, Payload);

const generations = 1 << 29;
const entries_max = 64 * 1024;
/// Leases between two looks at the kept numbers; a power of two.
const look_every = 1 << 12;
const kept_max = 4096;
const threads_max = 16;

var memory: [entries_max * 64]u8 align(64) = undefined;
var table: Table = undefined;

/// One thread's part, and the old numbers it remembers.
const Runner = struct {
    seed: u64,
    leases: u64,
    done: u64 = 0,
    checks: u64 = 0,
    accepted: u64 = 0,
    indexes: u32 = 0,
    kept: [kept_max]Table.Handle = undefined,
    kept_count: u32 = 0,

    fn run(runner: *Runner) void {
        var cache: Table.Cache = .{};
        var prng = std.Random.DefaultPrng.init(runner.seed);
        const random = prng.random();
        var index_before: u32 = 0;
        var last: Table.Handle = 0;
        while (runner.done < runner.leases) : (runner.done += 1) {
            const index = table.claim(&cache) orelse return;
            table.entry(index).payload.lease = runner.done;
            const handle = table.publish(index);
            const found = table.find(handle) catch return;
            if (found.payload.lease != runner.done) return;
            if ((table.beginFree(handle) catch return) != .finished) return;
            table.recycle(&cache, index);
            if (index != index_before) {
                @branchHint(.unlikely);
                // The last number of the index that is over, and the first of the new one.
                if (last != 0) runner.keep(last);
                runner.keep(handle);
                runner.indexes += 1;
                index_before = index;
            }
            last = handle;
            if (runner.done % look_every == 0) {
                @branchHint(.unlikely);
                runner.present(handle);
                if (random.uintLessThan(u32, 64) == 0) runner.keep(handle);
                for (0..4) |_| {
                    runner.present(runner.kept[random.uintLessThan(u32, runner.kept_count)]);
                }
            }
        }
        table.drain(&cache);
    }

    /// Keeps the first ones of all; later random ones replace each other.
    fn keep(runner: *Runner, handle: Table.Handle) void {
        if (runner.kept_count < kept_max) {
            runner.kept[runner.kept_count] = handle;
            runner.kept_count += 1;
        } else {
            const low = kept_max / 2;
            runner.kept[low + (handle >> 24) % low] = handle;
        }
    }

    /// An old number must be refused by everything that takes one, as one that was issued.
    fn present(runner: *Runner, handle: Table.Handle) void {
        runner.checks += 1;
        if (table.find(handle)) |_| {
            runner.accepted += 1;
        } else |wrong| if (wrong != error.Freed) {
            runner.accepted += 1;
        }
        if (table.beginFree(handle)) |_| {
            runner.accepted += 1;
        } else |_| {}
        if (table.adopt(handle)) |_| {
            runner.accepted += 1;
        } else |_| {}
        if (table.addWrap(handle)) |_| {
            runner.accepted += 1;
        } else |_| {}
    }
};

var runners: [threads_max]Runner = undefined;

pub fn main(init: std.process.Init) !u8 {
    var leases: u64 = 1 << 33;
    var threads: u32 = 2;
    var seed: u64 = 1;
    for ((try init.minimal.args.toSlice(init.arena.allocator()))[1..]) |arg| {
        if (number(arg, "--leases=")) |given| {
            leases = given;
        } else if (number(arg, "--threads=")) |given| {
            threads = @intCast(std.math.clamp(given, 1, threads_max));
        } else if (number(arg, "--seed=")) |given| {
            seed = given;
        } else {
            std.debug.print("unknown: {s}; takes --leases= --threads= --seed=\n", .{arg});
            return 2;
        }
    }
    return if (try holds(leases, threads, seed, true)) 0 else 1;
}

fn number(arg: []const u8, name: []const u8) ?u64 {
    if (!std.mem.startsWith(u8, arg, name)) return null;
    return std.fmt.parseInt(u64, arg[name.len..], 0) catch null;
}

fn holds(leases: u64, threads: u32, seed: u64, verbose: bool) !bool {
    @memset(&memory, 0);
    table = .init(&memory, seed);
    var handles: [threads_max]std.Thread = undefined;
    for (runners[0..threads], 0..) |*runner, each| {
        const part = leases / threads + @intFromBool(each < leases % threads);
        runner.* = .{ .seed = seed +% each, .leases = part };
        handles[each] = try std.Thread.spawn(.{}, Runner.run, .{runner});
    }
    for (handles[0..threads]) |handle| handle.join();

    var done: u64 = 0;
    var checks: u64 = 0;
    var accepted: u64 = 0;
    var kept: u64 = 0;
    var retired_min: u64 = 0;
    for (runners[0..threads]) |*runner| {
        for (runner.kept[0..runner.kept_count]) |handle| runner.present(handle);
        done += runner.done;
        checks += runner.checks;
        accepted += runner.accepted;
        kept += runner.kept_count;
        // A runner leaves an index only when it is used up.
        retired_min += runner.leases / generations;
    }
    const retired = table.retiredCount();
    if (verbose) std.debug.print(
        \\{d} leases of {d} on {d} threads (seed {d})
        \\{d} old numbers kept, presented {d} times, accepted {d}
        \\{d} indexes retired (at least {d} expected), {d} of {d} ever used
        \\
    , .{
        done,    leases,      threads,         seed,           kept, checks, accepted,
        retired, retired_min, table.end() - 1, table.capacity,
    });
    return done == leases and accepted == 0 and retired >= retired_min;
}

test "a million leases accept no old number" {
    try std.testing.expect(try holds(1_000_000, 2, std.testing.random_seed, false));
}
