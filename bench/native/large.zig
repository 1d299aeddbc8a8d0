//! The workloads of rows N1, N2, N3 and N10: regions of 2 MiB and more.
//!
//! Each does its warm-up first (memory faulted in where asked, then a tenth of the operations) and
//! clocks only allocation and free. The blocks themselves are not touched while the clock runs: the
//! rows compare allocators, not page faults. Addresses are folded into `hash`, which the caller
//! prints, so that no call can be thought away.
//!
//! One operation is one allocation and its free. `face` is a pointer to one of the shapes of call
//! in peer.zig; each workload is compiled for each.

const std = @import("std");
const machine = @import("machine.zig");

pub const live_count = 64;

pub const Timing = struct { ns: u64, operations: u64, hash: u64 };
pub const Resident = struct { start: u64, peak: u64, end: u64 };

/// N1: one block, allocated and freed again and again.
pub fn pairs(face: anytype, bytes: usize, count: u64, fault: bool) !Timing {
    try faultIn(face, bytes, 1, fault);
    _ = try pairsLoop(face, bytes, count / 10 + 1);
    const start = machine.now();
    const hash = try pairsLoop(face, bytes, count);
    return .{ .ns = machine.now() - start, .operations = count, .hash = hash };
}

fn pairsLoop(face: anytype, bytes: usize, count: u64) !u64 {
    var hash: u64 = 0;
    for (0..count) |_| {
        const block = face.alloc(bytes) orelse return error.OutOfMemory;
        hash +%= @intFromPtr(block);
        face.free(block, bytes);
    }
    return hash;
}

/// N2: 64 blocks allocated, then all freed in the order of their allocation.
pub fn batches(face: anytype, bytes: usize, count: u64, fault: bool) !Timing {
    const cycles = (count + live_count - 1) / live_count;
    try faultIn(face, bytes, live_count, fault);
    _ = try batchesLoop(face, bytes, cycles / 10 + 1);
    const start = machine.now();
    const hash = try batchesLoop(face, bytes, cycles);
    return .{ .ns = machine.now() - start, .operations = cycles * live_count, .hash = hash };
}

fn batchesLoop(face: anytype, bytes: usize, cycles: u64) !u64 {
    var blocks: [live_count]*anyopaque = undefined;
    var hash: u64 = 0;
    for (0..cycles) |_| {
        for (&blocks) |*block| {
            block.* = face.alloc(bytes) orelse return error.OutOfMemory;
            hash +%= @intFromPtr(block.*);
        }
        for (blocks) |block| face.free(block, bytes);
    }
    return hash;
}

/// N3, N6, N9: this thread allocates `blocks` blocks, another on the next CPU frees them. Each thread
/// clocks its own calls; waiting for one's turn is nobody's work and is not counted.
pub fn handover(comptime blocks: usize, face: anytype, bytes: usize, count: u64, fault: bool) !Timing {
    const cycles = (count + blocks - 1) / blocks;
    const Swap = Exchange(@TypeOf(face), blocks);
    var exchange: Swap = .{ .face = face, .bytes = bytes };
    try faultIn(face, bytes, @min(blocks, live_count), fault);
    const thread = try std.Thread.spawn(.{}, Swap.freeAll, .{&exchange});
    defer thread.join();
    defer exchange.turn.store(Swap.stop, .release);
    for (0..cycles / 10 + 1) |_| try exchange.allocAll();
    // The other thread reads this only after its next turn began.
    exchange.alloc_ns = 0;
    exchange.free_ns = 0;
    for (0..cycles) |_| try exchange.allocAll();
    return .{
        .ns = exchange.alloc_ns + exchange.free_ns,
        .operations = cycles * blocks,
        .hash = exchange.hash,
    };
}

fn Exchange(comptime Face: type, comptime count: usize) type {
    return struct {
        const Self = @This();
        const allocating = 0;
        const freeing = 1;
        const stop = 2;
        const refused = 3;

        face: Face,
        bytes: usize,
        blocks: [count]*anyopaque = undefined,
        hash: u64 = 0,
        alloc_ns: u64 = 0,
        free_ns: u64 = 0,
        turn: std.atomic.Value(u32) align(128) = .init(allocating),

        /// One cycle: allocate, hand over, wait until all is freed.
        fn allocAll(exchange: *Self) !void {
            const face = exchange.face;
            const start = machine.now();
            for (&exchange.blocks) |*block| {
                block.* = face.alloc(exchange.bytes) orelse return error.OutOfMemory;
                exchange.hash +%= @intFromPtr(block.*);
            }
            exchange.alloc_ns += machine.now() - start;
            // Pairs with the acquire in `await`: the blocks and the sums are the other thread's
            // now.
            exchange.turn.store(freeing, .release);
            if (exchange.await(freeing) == refused) return error.ThreadRefused;
        }

        fn freeAll(exchange: *Self) void {
            _ = machine.pin(1);
            const face = exchange.face.forThread() catch {
                while (exchange.await(allocating) != stop) exchange.turn.store(refused, .release);
                return;
            };
            defer face.threadEnd();
            while (exchange.await(allocating) == freeing) {
                const start = machine.now();
                for (exchange.blocks) |block| face.free(block, exchange.bytes);
                exchange.free_ns += machine.now() - start;
                exchange.turn.store(allocating, .release);
            }
        }

        /// Waits until it is no longer `current`'s turn, without leaving the CPU unless others want
        /// it.
        fn await(exchange: *Self, current: u32) u32 {
            var spins: u32 = 0;
            while (true) : (spins += 1) {
                const turn = exchange.turn.load(.acquire);
                if (turn != current) return turn;
                std.atomic.spinLoopHint();
                if (spins % 4096 == 4095) std.Thread.yield() catch {};
            }
        }
    };
}

/// N10: a burst up to `total` bytes in blocks of 2, 4, 16 and 32 MiB, all touched, all freed, then
/// `idle_ms` without a call. Before `start` there is one touched pair and as much idle time, so
/// that what a library sets up once, code and stack of its background thread included, is not taken
/// for memory that it kept.
pub fn burst(face: anytype, total: usize, idle_ms: u64) !Resident {
    const sizes = [_]usize{ 2 << 20, 4 << 20, 16 << 20, 32 << 20 };
    var blocks: [1024]struct { ptr: *anyopaque, bytes: usize } = undefined;
    var count: usize = 0;
    var result: Resident = undefined;

    for (&blocks) |*block| block.* = .{ .ptr = undefined, .bytes = 0 };
    const first = face.alloc(sizes[0]) orelse return error.OutOfMemory;
    machine.touch(first, sizes[0]);
    face.free(first, sizes[0]);
    machine.sleep(idle_ms);
    result.start = machine.residentBytes();
    for (sizes) |bytes| {
        var taken: usize = 0;
        while (taken + bytes <= total / sizes.len) : (taken += bytes) {
            const block = face.alloc(bytes) orelse return error.OutOfMemory;
            machine.touch(block, bytes);
            blocks[count] = .{ .ptr = block, .bytes = bytes };
            count += 1;
        }
    }
    result.peak = machine.residentBytes();
    for (blocks[0..count]) |block| face.free(block.ptr, block.bytes);
    machine.sleep(idle_ms);
    result.end = machine.residentBytes();
    return result;
}

/// Allocates `count` blocks, makes them resident if asked, and frees them.
fn faultIn(face: anytype, bytes: usize, count: usize, fault: bool) !void {
    var blocks: [live_count]*anyopaque = undefined;
    for (blocks[0..count]) |*block| {
        block.* = face.alloc(bytes) orelse return error.OutOfMemory;
        if (fault) machine.touch(block.*, bytes);
    }
    for (blocks[0..count]) |block| face.free(block, bytes);
}
