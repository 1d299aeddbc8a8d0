//! The well-known workloads under their own names, written anew after their descriptions.
//!
//! | name | after | shape |
//! | --- | --- | --- |
//! | larson | Larson and Krishnan 1998, a server | each lane replaces random blocks of 8 to 1000 bytes; its thread ends often and leaves the blocks to the next |
//! | xmalloc | Lever and Boreham 2000 | one thread allocates batches of 64-byte blocks, another frees them |
//! | mstress | Leijen's stress for mimalloc | mixed sizes, some kept to the end, a quarter swapped through a table that all threads share; threads come and go |
//! | rptest | Jansson's benchmark for rpmalloc | loops of frees and allocations of 16 to 16,000 bytes, small ones more often, some handed to the other thread |
//! | mlarge | malloc-large of mimalloc's collection | twenty buffers of 5 to 25 MiB, one replaced at a time |
//!
//! Every block's first word is written, which is its size; of the longer ones one byte per page: a
//! program uses what it asks for, and only touched memory is resident. The time is that of the whole,
//! waiting for one another included, over the number of allocations. Sizes come from a seeded
//! generator: every peer sees the same.
//!
//! One operation is one allocation and its free.

const std = @import("std");
const large = @import("large.zig");
const machine = @import("machine.zig");
const Random = @import("random.zig").Random;

const Timing = large.Timing;
const lanes_max = 2;

/// A block as a program has it: its first word is the size it was asked with.
const Block = *align(8) [1]u64;

inline fn take(face: anytype, bytes: usize) !Block {
    const memory = face.alloc(bytes) orelse return error.OutOfMemory;
    const block: Block = @ptrCast(@alignCast(memory));
    if (bytes > machine.page_bytes) machine.touch(memory, bytes);
    block[0] = bytes;
    return block;
}

inline fn give(face: anytype, block: Block) void {
    face.free(@ptrCast(block), block[0]);
}

/// Runs `Lane.work` on one thread per lane, pinned; false for a lane that failed.
fn together(comptime Lane: type, lanes: []Lane) !void {
    var threads: [lanes_max]std.Thread = undefined;
    for (lanes, threads[0..lanes.len]) |*lane, *thread| {
        thread.* = try std.Thread.spawn(.{}, start(Lane), .{lane});
    }
    for (threads[0..lanes.len]) |thread| thread.join();
    for (lanes) |lane| if (lane.failed) return error.LaneFailed;
}

fn start(comptime Lane: type) fn (*Lane) void {
    return struct {
        fn run(lane: *Lane) void {
            _ = machine.pin(lane.index);
            const face = lane.face.forThread() catch {
                lane.failed = true;
                return;
            };
            defer face.threadEnd();
            lane.work(&face) catch {
                lane.failed = true;
            };
        }
    }.run;
}

pub fn larson(face: anytype, count: u64) !Timing {
    const slots = 5000;
    const replacements = 25_000;
    const Lane = struct {
        face: @TypeOf(face),
        index: usize,
        random: Random,
        blocks: []Block,
        left: u64 = 0,
        failed: bool = false,
        hash: u64 = 0,

        fn work(lane: *@This(), own: anytype) !void {
            for (0..@min(lane.left, replacements)) |_| {
                const slot = &lane.blocks[lane.random.below(lane.blocks.len)];
                give(own, slot.*);
                slot.* = try take(own, lane.random.between(8, 1000));
                lane.hash +%= @intFromPtr(slot.*);
            }
            lane.left -|= replacements;
        }
    };
    var lanes: [lanes_max]Lane = undefined;
    for (&lanes, 0..) |*lane, index| {
        lane.* = .{ .face = face, .index = index, .random = .init(index), .blocks = try machine.table(Block, slots) };
        for (lane.blocks) |*block| block.* = try take(face, lane.random.between(8, 1000));
        lane.left = count / lanes_max;
    }
    const begin = machine.now();
    while (lanes[0].left > 0) try together(Lane, &lanes);
    const ns = machine.now() - begin;
    var hash: u64 = 0;
    for (&lanes) |*lane| {
        for (lane.blocks) |block| give(face, block);
        machine.untable(Block, lane.blocks);
        hash +%= lane.hash;
    }
    return .{ .ns = ns, .operations = count / lanes_max * lanes_max, .hash = hash };
}

pub fn xmalloc(face: anytype, count: u64) !Timing {
    const batch_blocks = 4096;
    const batches_max = 16;
    const bytes = 64;
    const Queue = struct {
        blocks: [][batch_blocks]Block,
        filled: std.atomic.Value(u64) align(128) = .init(0),
        emptied: std.atomic.Value(u64) align(128) = .init(0),
        stopped: std.atomic.Value(bool) = .init(false),

        fn wait(queue: *@This(), counter: *std.atomic.Value(u64), wanted: u64) !void {
            var spins: u32 = 0;
            while (counter.load(.acquire) < wanted) : (spins += 1) {
                if (queue.stopped.load(.monotonic)) return error.Stopped;
                std.atomic.spinLoopHint();
                if (spins % 1024 == 1023) std.Thread.yield() catch {};
            }
        }
    };
    const Lane = struct {
        face: @TypeOf(face),
        index: usize,
        queue: *Queue,
        batches: u64,
        failed: bool = false,
        hash: u64 = 0,

        fn work(lane: *@This(), own: anytype) !void {
            errdefer lane.queue.stopped.store(true, .monotonic);
            const queue = lane.queue;
            for (0..lane.batches) |turn| {
                const batch = &queue.blocks[turn % batches_max];
                if (lane.index == 0) {
                    if (turn >= batches_max) try queue.wait(&queue.emptied, turn - batches_max + 1);
                    for (batch) |*block| {
                        block.* = try take(own, bytes);
                        lane.hash +%= @intFromPtr(block.*);
                    }
                    // Pairs with the acquire in `wait`: the batch is the other thread's now.
                    queue.filled.store(turn + 1, .release);
                } else {
                    try queue.wait(&queue.filled, turn + 1);
                    for (batch) |block| give(own, block);
                    queue.emptied.store(turn + 1, .release);
                }
            }
        }
    };
    const memory = try machine.table([batch_blocks]Block, batches_max);
    defer machine.untable([batch_blocks]Block, memory);
    var queue: Queue = .{ .blocks = memory };
    const batches = @max(1, count / batch_blocks);
    var lanes = [_]Lane{
        .{ .face = face, .index = 0, .queue = &queue, .batches = batches },
        .{ .face = face, .index = 1, .queue = &queue, .batches = batches },
    };
    const begin = machine.now();
    try together(Lane, &lanes);
    return .{ .ns = machine.now() - begin, .operations = batches * batch_blocks, .hash = lanes[0].hash };
}

pub fn mstress(face: anytype, count: u64) !Timing {
    const shared_slots = 1000;
    const per_life = 20_000;
    const Lane = struct {
        face: @TypeOf(face),
        index: usize,
        random: Random,
        shared: []std.atomic.Value(usize),
        live: []?Block,
        kept: []?Block,
        allocations: usize,
        failed: bool = false,
        hash: u64 = 0,

        fn size(random: *Random) usize {
            const words: usize = switch (random.below(1000)) {
                0 => random.between(1024, 8192),
                1...10 => random.between(128, 1024),
                11...110 => random.between(16, 128),
                else => random.between(1, 16),
            };
            return words * 8;
        }

        fn work(lane: *@This(), own: anytype) !void {
            const random = &lane.random;
            var kept: usize = 0;
            for (0..lane.allocations) |_| {
                const block = try take(own, size(random));
                lane.hash +%= @intFromPtr(block);
                if (random.below(10) == 0 and kept < lane.kept.len) {
                    lane.kept[kept] = block;
                    kept += 1;
                } else {
                    const slot = &lane.live[random.below(lane.live.len)];
                    if (slot.*) |old| give(own, old);
                    slot.* = block;
                }
                if (random.below(4) == 0) {
                    const slot = &lane.live[random.below(lane.live.len)];
                    const place = &lane.shared[random.below(lane.shared.len)];
                    const mine: usize = if (slot.*) |own_block| @intFromPtr(own_block) else 0;
                    // Both ways: the block's contents go with it.
                    const theirs = place.swap(mine, .acq_rel);
                    slot.* = if (theirs == 0) null else @ptrFromInt(theirs);
                }
            }
            for (lane.kept[0..kept]) |block| give(own, block.?);
            for (lane.live) |*slot| {
                if (slot.*) |block| give(own, block);
                slot.* = null;
            }
        }
    };
    const shared = try machine.table(std.atomic.Value(usize), shared_slots);
    defer machine.untable(std.atomic.Value(usize), shared);
    var lanes: [lanes_max]Lane = undefined;
    for (&lanes, 0..) |*lane, index| lane.* = .{
        .face = face,
        .index = index,
        .random = .init(index + 17),
        .shared = shared,
        .live = try machine.table(?Block, 4000),
        .kept = try machine.table(?Block, per_life / 10),
        .allocations = per_life,
    };
    const lives = @max(1, count / (per_life * lanes_max));
    const begin = machine.now();
    for (0..lives) |_| try together(Lane, &lanes);
    const ns = machine.now() - begin;
    for (shared) |*place| {
        const address = place.swap(0, .acquire);
        if (address != 0) give(face, @as(Block, @ptrFromInt(address)));
    }
    var hash: u64 = 0;
    for (&lanes) |*lane| {
        hash +%= lane.hash;
        machine.untable(?Block, lane.live);
        machine.untable(?Block, lane.kept);
    }
    return .{ .ns = ns, .operations = lives * per_life * lanes_max, .hash = hash };
}

pub fn rptest(face: anytype, count: u64) !Timing {
    const slots = 1000;
    const per_loop = 100;
    const loops_per_life = 500;
    const cross_rate = 2;
    const Parcel = struct { blocks: [per_loop]Block, full: std.atomic.Value(u32) align(128) = .init(0) };
    const Lane = struct {
        face: @TypeOf(face),
        index: usize,
        random: Random,
        blocks: []?Block,
        parcels: []Parcel,
        failed: bool = false,
        hash: u64 = 0,

        fn size(random: *Random) usize {
            return @min(random.between(16, 16_000), random.between(16, 16_000));
        }

        fn work(lane: *@This(), own: anytype) !void {
            const random = &lane.random;
            var place: usize = 0;
            for (0..loops_per_life) |loop| {
                const first = place;
                for (0..per_loop) |i| {
                    const slot = &lane.blocks[(first + i * 7) % slots];
                    if (slot.*) |block| give(own, block);
                    slot.* = try take(own, size(random));
                    lane.hash +%= @intFromPtr(slot.*.?);
                }
                place = (place + 331) % slots;
                if (loop % cross_rate == 0) try lane.exchange(own);
            }
            lane.accept(own);
            for (lane.blocks) |*slot| {
                if (slot.*) |block| give(own, block);
                slot.* = null;
            }
        }

        /// Sends a parcel to the other thread if the last one was taken, and frees what came.
        fn exchange(lane: *@This(), own: anytype) !void {
            lane.accept(own);
            const parcel = &lane.parcels[1 - lane.index];
            if (parcel.full.load(.acquire) != 0) return;
            for (&parcel.blocks) |*block| block.* = try take(own, size(&lane.random));
            parcel.full.store(1, .release);
        }

        fn accept(lane: *@This(), own: anytype) void {
            const parcel = &lane.parcels[lane.index];
            if (parcel.full.load(.acquire) == 0) return;
            for (parcel.blocks) |block| give(own, block);
            parcel.full.store(0, .release);
        }
    };
    const parcels = try machine.table(Parcel, lanes_max);
    defer machine.untable(Parcel, parcels);
    for (parcels) |*parcel| parcel.full = .init(0);
    var lanes: [lanes_max]Lane = undefined;
    for (&lanes, 0..) |*lane, index| lane.* = .{
        .face = face,
        .index = index,
        .random = .init(index + 31),
        .blocks = try machine.table(?Block, slots),
        .parcels = parcels,
    };
    const per_life = loops_per_life * per_loop;
    const lives = @max(1, count / (per_life * lanes_max));
    const begin = machine.now();
    for (0..lives) |_| try together(Lane, &lanes);
    const ns = machine.now() - begin;
    var hash: u64 = 0;
    for (parcels) |*parcel| if (parcel.full.load(.acquire) != 0) {
        for (parcel.blocks) |block| give(face, block);
    };
    for (&lanes) |*lane| {
        hash +%= lane.hash;
        machine.untable(?Block, lane.blocks);
    }
    return .{ .ns = ns, .operations = lives * per_life * lanes_max, .hash = hash };
}

pub fn mlarge(face: anytype, count: u64) !Timing {
    const buffers = 20;
    const mib = 1 << 20;
    var random: Random = .init(42);
    var blocks: [buffers]?Block = @splat(null);
    var hash: u64 = 0;
    const begin = machine.now();
    for (0..count) |_| {
        const slot = &blocks[random.below(buffers)];
        if (slot.*) |block| give(face, block);
        slot.* = try take(face, random.between(5 * mib, 25 * mib));
        hash +%= @intFromPtr(slot.*.?);
    }
    const ns = machine.now() - begin;
    for (blocks) |slot| if (slot) |block| give(face, block);
    return .{ .ns = ns, .operations = count, .hash = hash };
}
