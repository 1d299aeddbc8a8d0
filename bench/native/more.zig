//! Workloads that no target judges: mixed sizes, single calls and their tails, threads that come and
//! go, two classics about cache lines.
//!
//! One operation is one allocation and its free, but in `latency`, whose answer is three percentiles
//! of one free and the allocation after it.

const std = @import("std");
const builtin = @import("builtin");
const large = @import("large.zig");
const machine = @import("machine.zig");
const Random = @import("random.zig").Random;

const Timing = large.Timing;

/// What CPython 3.11 asked of malloc while it wrote and parsed a JSON text of 250 KB and counted its
/// words (PYTHONMALLOC=malloc, 161,565 calls): upper bounds of sizes and how many of 10,000 calls.
const recorded = [_][2]u32{
    .{ 16, 406 },   .{ 32, 2191 }, .{ 48, 854 },  .{ 64, 4615 }, .{ 80, 604 },  .{ 96, 194 },
    .{ 112, 62 },   .{ 128, 416 }, .{ 256, 467 }, .{ 512, 117 }, .{ 1024, 40 }, .{ 2048, 14 },
    .{ 4096, 8 },   .{ 8192, 4 },  .{ 16384, 3 }, .{ 32768, 2 }, .{ 65536, 1 }, .{ 131072, 1 },
    .{ 524288, 1 },
};

/// A size for each of 2^14 draws; within a bound any is as likely as another.
fn recordedSizes() ![]u32 {
    const drawn = try machine.table(u32, 1 << 14);
    var random: Random = .init(2024);
    for (drawn) |*size| {
        var ticket = random.below(10_000);
        size.* = for (recorded, 0..) |entry, i| {
            if (ticket < entry[1]) break @intCast(random.between(if (i == 0) 1 else recorded[i - 1][0] + 1, entry[0]));
            ticket -= entry[1];
        } else recorded[0][0];
    }
    return drawn;
}

const Slot = struct { block: ?*anyopaque, bytes: usize };
var slots: []Slot = &.{};
var sizes: []u32 = &.{};
var places: []u32 = &.{};

fn setUp(face: anytype, live: usize) !void {
    if (slots.len == live) return;
    sizes = try recordedSizes();
    slots = try machine.table(Slot, live);
    places = try machine.table(u32, 1 << 16);
    var random: Random = .init(live);
    for (places) |*place| place.* = @intCast(random.below(live));
    for (slots, 0..) |*slot, i| {
        slot.bytes = sizes[i % sizes.len];
        slot.block = face.alloc(slot.bytes) orelse return error.OutOfMemory;
        machine.touch(slot.block.?, slot.bytes);
    }
}

inline fn replace(face: anytype, turn: usize) !usize {
    const slot = &slots[places[turn % places.len]];
    face.free(slot.block.?, slot.bytes);
    slot.bytes = sizes[turn % sizes.len];
    const block = face.alloc(slot.bytes) orelse return error.OutOfMemory;
    @as(*volatile u8, @ptrCast(block)).* = 1;
    slot.block = block;
    return @intFromPtr(block);
}

/// `live` blocks of recorded sizes of which random ones are replaced; first bytes written.
pub fn mixed(face: anytype, count: u64, live: usize) !Timing {
    try setUp(face, live);
    for (0..count / 10 + 1) |turn| _ = try replace(face, turn);
    var hash: u64 = 0;
    const start = machine.now();
    for (0..count) |turn| hash +%= try replace(face, turn);
    return .{ .ns = machine.now() - start, .operations = count, .hash = hash };
}

pub const Tail = struct { p50: u64, p99: u64, p999: u64 };

/// The same, each operation clocked alone, less what the clock itself costs. In hundredths of a
/// nanosecond.
pub fn latency(face: anytype, count: u64, live: usize) !Tail {
    try setUp(face, live);
    for (0..count / 10 + 1) |turn| _ = try replace(face, turn);
    const samples = try machine.table(u32, count);
    defer machine.untable(u32, samples);
    for (samples) |*sample| {
        const start = ticks();
        sample.* = @truncate(ticks() -% start);
    }
    std.mem.sortUnstable(u32, samples, {}, std.sort.asc(u32));
    const clock = samples[count / 2];
    const begin_ns = machine.now();
    const begin = ticks();
    for (samples, 0..) |*sample, turn| {
        const start = ticks();
        _ = try replace(face, turn);
        sample.* = @truncate(@min(ticks() -% start, std.math.maxInt(u32)));
    }
    const per_tick = @as(f64, @floatFromInt(machine.now() - begin_ns)) / @as(f64, @floatFromInt(@max(1, ticks() -% begin)));
    std.mem.sortUnstable(u32, samples, {}, std.sort.asc(u32));
    return .{
        .p50 = scaled(samples[count / 2] -| clock, per_tick),
        .p99 = scaled(samples[count * 99 / 100] -| clock, per_tick),
        .p999 = scaled(samples[count * 999 / 1000] -| clock, per_tick),
    };
}

fn scaled(sample: u32, per_tick: f64) u64 {
    return @trunc(@as(f64, @floatFromInt(sample)) * per_tick * 100);
}

/// The processor's own clock, read in order with what stands before it.
inline fn ticks() u64 {
    if (builtin.cpu.arch != .x86_64) return machine.now();
    var low: u32 = undefined;
    var high: u32 = undefined;
    asm volatile (
        \\lfence
        \\rdtsc
        : [low] "={eax}" (low),
          [high] "={edx}" (high),
        :
        : .{ .memory = true });
    return @as(u64, high) << 32 | low;
}

/// Runs `work` on `count` threads at once, pinned in turn, and answers the time of the whole.
fn onThreads(comptime count: usize, face: anytype, comptime Job: type, jobs: *[count]Job) !u64 {
    const Runner = struct {
        fn run(own: @TypeOf(face), job: *Job, index: usize) void {
            _ = machine.pin(index % 2);
            const mine = own.forThread() catch {
                job.failed = true;
                return;
            };
            defer mine.threadEnd();
            job.work(&mine) catch {
                job.failed = true;
            };
        }
    };
    var threads: [count]std.Thread = undefined;
    const start = machine.now();
    for (&threads, jobs, 0..) |*thread, *job, index| {
        thread.* = try std.Thread.spawn(.{}, Runner.run, .{ face, job, index });
    }
    for (threads) |thread| thread.join();
    const ns = machine.now() - start;
    for (jobs) |job| if (job.failed) return error.ThreadFailed;
    return ns;
}

/// Four threads that start at once allocate `count` blocks together, with nothing to begin from but
/// what the last time left, then free them.
pub fn stampede(face: anytype, bytes: usize, count: u64) !Timing {
    const lanes = 4;
    const Job = struct {
        blocks: []*anyopaque,
        bytes: usize,
        hash: u64 = 0,
        failed: bool = false,

        fn work(job: *@This(), own: anytype) !void {
            for (job.blocks) |*block| {
                block.* = own.alloc(job.bytes) orelse return error.OutOfMemory;
                @as(*volatile u8, @ptrCast(block.*)).* = 1;
                job.hash +%= @intFromPtr(block.*);
            }
            for (job.blocks) |block| own.free(block, job.bytes);
        }
    };
    const blocks = try machine.table(*anyopaque, count);
    defer machine.untable(*anyopaque, blocks);
    const share = count / lanes;
    var jobs: [lanes]Job = undefined;
    for (&jobs, 0..) |*job, i| job.* = .{ .blocks = blocks[i * share ..][0..share], .bytes = bytes };
    const ns = try onThreads(lanes, face, Job, &jobs);
    return .{ .ns = ns, .operations = share * lanes, .hash = jobs[0].hash };
}

/// One thread after another: each allocates 100 blocks, frees them and ends.
pub fn churn(face: anytype, bytes: usize, count: u64) !Timing {
    const per_life = 100;
    const Job = struct {
        bytes: usize,
        hash: u64 = 0,
        failed: bool = false,

        fn work(job: *@This(), own: anytype) !void {
            var blocks: [per_life]*anyopaque = undefined;
            for (&blocks) |*block| {
                block.* = own.alloc(job.bytes) orelse return error.OutOfMemory;
                job.hash +%= @intFromPtr(block.*);
            }
            for (blocks) |block| own.free(block, job.bytes);
        }
    };
    const lives = @max(1, count / per_life);
    var jobs = [1]Job{.{ .bytes = bytes }};
    var ns: u64 = 0;
    for (0..lives) |_| ns += try onThreads(1, face, Job, &jobs);
    return .{ .ns = ns, .operations = lives * per_life, .hash = jobs[0].hash };
}

/// Berger's cache-scratch (`handed` true: the first block of each thread comes from this one) and
/// cache-thrash: two threads allocate eight bytes, write them often, free them. Slow where two threads
/// are given the same cache line.
pub fn scratch(face: anytype, count: u64, comptime handed: bool) !Timing {
    const writes = 1000;
    const Job = struct {
        first: ?*anyopaque,
        rounds: u64,
        hash: u64 = 0,
        failed: bool = false,

        fn work(job: *@This(), own: anytype) !void {
            if (job.first) |block| own.free(block, 8);
            for (0..job.rounds) |_| {
                const block = own.alloc(8) orelse return error.OutOfMemory;
                const word: *align(8) volatile u64 = @ptrCast(@alignCast(block));
                for (0..writes) |i| word.* = i;
                job.hash +%= @intFromPtr(block);
                own.free(block, 8);
            }
        }
    };
    var jobs: [2]Job = undefined;
    for (&jobs) |*job| job.* = .{ .first = if (handed) face.alloc(8) orelse return error.OutOfMemory else null, .rounds = count / 2 };
    const ns = try onThreads(2, face, Job, &jobs);
    return .{ .ns = ns, .operations = count / 2 * 2, .hash = jobs[0].hash };
}

/// Regions allocated, written once per page, freed.
pub fn touched(face: anytype, bytes: usize, count: u64) !Timing {
    var hash: u64 = 0;
    var start: u64 = undefined;
    for (0..count + 1) |cycle| {
        // The first is the warm-up.
        if (cycle == 1) start = machine.now();
        const block = face.alloc(bytes) orelse return error.OutOfMemory;
        machine.touch(block, bytes);
        hash +%= @intFromPtr(block);
        face.free(block, bytes);
    }
    return .{ .ns = machine.now() - start, .operations = count, .hash = hash };
}
