//! The workloads of rows N4 to N9 that are loops: rings, sweeps, remote frees, two threads.
//!
//! One operation is one allocation and one free. Tables that a workload needs are mapped beside the
//! peer's memory and counted, so that `run` can subtract them from the resident set.
//!
//! A ring stays alive between two commands of a process: filling it is setting up, and with some peers
//! it takes seconds.

const std = @import("std");
const large = @import("large.zig");
const machine = @import("machine.zig");
const Random = @import("random.zig").Random;

const Timing = large.Timing;

pub const Order = enum { insertion, reverse, random };

/// Live blocks kept from one command to the next, and the order in which they are chosen. A process
/// carries out one kind of workload over it, of one size.
var ring: []?*anyopaque = &.{};
var order: []u32 = &.{};
var kept: ?struct { workload: enum { replace, sweep, reclaim }, bytes: usize, ring: Ring } = null;
var cursor: usize = 0;

/// Victims drawn beforehand, so that the clock runs over allocator calls and one load each.
const order_count = 1 << 16;

pub const Ring = struct {
    live: usize,
    order: Order,
    /// Write the first word of each block, as a program would.
    touch: bool,
};

/// N5: `live` blocks; each operation frees the oldest or a random one and allocates one in its place.
pub fn replace(face: anytype, bytes: usize, count: u64, options: Ring) !Timing {
    if (try begin(.replace, bytes, options)) {
        for (ring) |*block| {
            block.* = face.alloc(bytes) orelse return error.OutOfMemory;
            machine.touch(block.*.?, bytes);
        }
        order = try machine.table(u32, order_count);
        var random: Random = .init(options.live);
        for (order) |*victim| victim.* = @intCast(random.below(options.live));
    }
    _ = try replaceLoop(face, bytes, count / 10 + 1, options);
    const start = machine.now();
    const hash = try replaceLoop(face, bytes, count, options);
    return .{ .ns = machine.now() - start, .operations = count, .hash = hash };
}

/// True when the ring has to be set up: it was not used before in this process.
fn begin(workload: anytype, bytes: usize, options: Ring) !bool {
    if (kept) |known| {
        const same = known.workload == workload and known.bytes == bytes and std.meta.eql(known.ring, options);
        return if (same) false else error.OneWorkloadInAProcess;
    }
    kept = .{ .workload = workload, .bytes = bytes, .ring = options };
    ring = try machine.table(?*anyopaque, options.live);
    return true;
}

fn replaceLoop(face: anytype, bytes: usize, count: u64, options: Ring) !u64 {
    return switch (options.order) {
        .random => if (options.touch) replaceRandom(face, bytes, count, true) else replaceRandom(face, bytes, count, false),
        else => if (options.touch) replaceOldest(face, bytes, count, true) else replaceOldest(face, bytes, count, false),
    };
}

fn replaceOldest(face: anytype, bytes: usize, count: u64, comptime touch: bool) !u64 {
    var hash: u64 = 0;
    var at = cursor;
    for (0..count) |_| {
        const slot = &ring[at];
        at += 1;
        if (at == ring.len) at = 0;
        face.free(slot.*.?, bytes);
        const block = face.alloc(bytes) orelse return error.OutOfMemory;
        if (touch) write(block, at);
        slot.* = block;
        hash +%= @intFromPtr(block);
    }
    cursor = at;
    return hash;
}

fn replaceRandom(face: anytype, bytes: usize, count: u64, comptime touch: bool) !u64 {
    var hash: u64 = 0;
    // Continues where the last call stopped, so that blocks are not always the same few.
    const first = cursor;
    for (0..count) |i| {
        const slot = &ring[order[(first + i) % order_count]];
        face.free(slot.*.?, bytes);
        const block = face.alloc(bytes) orelse return error.OutOfMemory;
        if (touch) write(block, i);
        slot.* = block;
        hash +%= @intFromPtr(block);
    }
    cursor = (first + count) % order_count;
    return hash;
}

inline fn write(block: *anyopaque, value: usize) void {
    const word: *align(8) volatile usize = @ptrCast(@alignCast(block));
    word.* = value;
}

/// `live` blocks allocated, then all freed in an order. What is clocked is both.
pub fn sweep(face: anytype, bytes: usize, count: u64, options: Ring) !Timing {
    const live = options.live;
    if (try begin(.sweep, bytes, options)) {
        order = try machine.table(u32, live);
        for (order, 0..) |*place, i| place.* = @intCast(if (options.order == .reverse) live - 1 - i else i);
        var random: Random = .init(live);
        if (options.order == .random) for (0..live) |i| {
            std.mem.swap(u32, &order[i], &order[random.between(i, live - 1)]);
        };
        _ = try sweepOnce(face, bytes, options.touch);
    }
    const cycles = @max(1, count / live);
    var hash: u64 = 0;
    const start = machine.now();
    for (0..cycles) |_| hash +%= try sweepOnce(face, bytes, options.touch);
    return .{ .ns = machine.now() - start, .operations = cycles * live, .hash = hash };
}

fn sweepOnce(face: anytype, bytes: usize, touch: bool) !u64 {
    var hash: u64 = 0;
    for (ring) |*block| {
        block.* = face.alloc(bytes) orelse return error.OutOfMemory;
        if (touch) write(block.*.?, hash);
        hash +%= @intFromPtr(block.*);
    }
    for (order) |place| face.free(ring[place].?, bytes);
    return hash;
}

/// N6, N7: two threads on two CPUs, each with pairs of its own. The figure is one thread's: with
/// nothing shared it is that of one thread alone.
pub fn twice(face: anytype, bytes: usize, count: u64) !Timing {
    const Lane = PairLane(@TypeOf(face));
    var gate: std.atomic.Value(u32) = .init(0);
    var lanes = [_]Lane{
        .{ .face = face, .cpu = 0, .bytes = bytes, .count = count, .gate = &gate },
        .{ .face = face, .cpu = 1, .bytes = bytes, .count = count, .gate = &gate },
    };
    var threads: [2]std.Thread = undefined;
    for (&threads, &lanes) |*thread, *lane| thread.* = try std.Thread.spawn(.{}, Lane.run, .{lane});
    for (threads) |thread| thread.join();
    var ns: u64 = 0;
    var hash: u64 = 0;
    for (lanes) |lane| {
        if (lane.failed) return error.LaneFailed;
        ns += lane.ns;
        hash +%= lane.hash;
    }
    return .{ .ns = ns, .operations = 2 * count, .hash = hash };
}

fn PairLane(comptime Face: type) type {
    return struct {
        const Lane = @This();
        face: Face,
        cpu: usize,
        bytes: usize,
        count: u64,
        gate: *std.atomic.Value(u32),
        ns: u64 = 0,
        hash: u64 = 0,
        failed: bool = false,

        fn run(lane: *Lane) void {
            lane.measure() catch {
                lane.failed = true;
                _ = lane.gate.fetchAdd(2, .acq_rel);
            };
        }

        fn measure(lane: *Lane) !void {
            _ = machine.pin(lane.cpu);
            const face = try lane.face.forThread();
            defer face.threadEnd();
            _ = try loop(&face, lane.bytes, lane.count / 10 + 1);
            // Both are warm before either is clocked, and each runs on until the other is done, so
            // that nobody's figure is that of one thread alone.
            lane.meet(2);
            const start = machine.now();
            lane.hash = try loop(&face, lane.bytes, lane.count);
            lane.ns = machine.now() - start;
            _ = lane.gate.fetchAdd(1, .acq_rel);
            while (lane.gate.load(.acquire) < 4) lane.hash +%= try loop(&face, lane.bytes, 64);
        }

        fn meet(lane: *Lane, wanted: u32) void {
            _ = lane.gate.fetchAdd(1, .acq_rel);
            var spins: u32 = 0;
            while (lane.gate.load(.acquire) < wanted) : (spins += 1) {
                std.atomic.spinLoopHint();
                if (spins % 4096 == 4095) std.Thread.yield() catch {};
            }
        }

        fn loop(face: *const Own, bytes: usize, count: u64) !u64 {
            var hash: u64 = 0;
            for (0..count) |_| {
                const block = face.alloc(bytes) orelse return error.OutOfMemory;
                hash +%= @intFromPtr(block);
                face.free(block, bytes);
            }
            return hash;
        }

        const Own = @typeInfo(Face).pointer.child;
    };
}

/// N8: `live` blocks allocated and freed, then one call that gives their memory back. Only that call is
/// clocked. Where a peer tells what it still holds, metadata included, that must be nothing.
pub fn reclaim(face: anytype, extra: @import("peer.zig").Extra, bytes: usize, count: u64, live: usize) !Timing {
    const give_back = extra.reclaim orelse return error.NoReclaim;
    _ = try begin(.reclaim, bytes, .{ .live = live, .order = .insertion, .touch = false });
    var timing: Timing = .{ .ns = 0, .operations = count, .hash = 0 };
    for (0..count + 1) |cycle| {
        for (ring) |*block| {
            block.* = face.alloc(bytes) orelse return error.OutOfMemory;
            timing.hash +%= @intFromPtr(block.*);
        }
        for (ring) |block| face.free(block.?, bytes);
        const start = machine.now();
        give_back();
        if (cycle > 0) timing.ns += machine.now() - start;
        if (extra.held) |held| if (held() > 0) return error.StillHeld;
    }
    return timing;
}

/// N8: one of a peer's own calls again and again: `reclaim` with nothing to give back, or `stats`.
pub fn call(function: ?*const fn () callconv(.c) void, count: u64) !Timing {
    const same = function orelse return error.NoSuchCall;
    for (0..count / 10 + 1) |_| same();
    const start = machine.now();
    for (0..count) |_| same();
    return .{ .ns = machine.now() - start, .operations = count, .hash = count };
}
