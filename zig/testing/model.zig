//! Random operations on any `std.mem.Allocator`, against an obvious model of who owns which bytes.
//!
//! The model is a list of live blocks with a pattern each. After every operation: a new block has
//! its alignment, lies in no other live block, and a kept block still carries its pattern; a
//! resized or remapped one keeps its contents up to the smaller length. An allocator may refuse
//! anything, as long as a refusal changes nothing.
//!
//! Cost: an allocation is linear in the live blocks, and each block's first and last bytes are
//! checked, not its middle, so blocks of many MiB are cheap. One thread. The seed decides
//! everything.
//!
//! Not for what an allocator promises beyond the interface (zeros, addresses, statistics).

const std = @import("std");
const Swarm = @import("swarm.zig").Swarm;
const Alignment = std.mem.Alignment;

const Operation = enum { alloc, free, resize, remap };

const blocks_max = 64;
/// Bytes at each end of a block that carry its pattern.
const edge_bytes = 64;

/// Which requests are made.
pub const Bounds = struct {
    bytes_max: usize,
    /// Largest alignment is 2 to this power.
    alignment_shift_max: u6,
};

const Block = struct { memory: []u8, alignment: Alignment, tag: u8 };

pub const Wrong = error{ Misaligned, Overlapping, ContentsLost, OutOfMemory };

/// One run; every block is freed at the end, also after an error.
pub fn exercise(sample: std.mem.Allocator, seed: u64, events: u64, bounds: Bounds) Wrong!void {
    var prng = std.Random.DefaultPrng.init(seed);
    var run: Run = .{ .sample = sample, .random = prng.random(), .bounds = bounds };
    defer for (run.blocks[0..run.count]) |block| {
        sample.rawFree(block.memory, block.alignment, @returnAddress());
    };
    const mix: Swarm(Operation) = .init(run.random, &.{.alloc});
    for (0..events) |_| switch (mix.next(run.random)) {
        .alloc => try run.alloc(),
        .free => try run.free(),
        .resize => try run.resize(false),
        .remap => try run.resize(true),
    };
    for (run.blocks[0..run.count]) |block| try check(block.memory, block.memory.len, block.tag);
    // A run in which nothing could be had says nothing.
    if (run.succeeded == 0 and events > 100) return error.OutOfMemory;
}

const Run = struct {
    sample: std.mem.Allocator,
    random: std.Random,
    bounds: Bounds,
    blocks: [blocks_max]Block = undefined,
    count: usize = 0,
    next_tag: u8 = 1,
    succeeded: u64 = 0,

    fn alloc(run: *Run) Wrong!void {
        // A full list frees, so that a mix without frees goes on.
        if (run.count == blocks_max) return run.free();
        const shift = run.random.uintAtMost(u6, run.bounds.alignment_shift_max);
        const alignment: Alignment = @enumFromInt(shift);
        const bytes = run.size();
        const ptr = run.sample.rawAlloc(bytes, alignment, @returnAddress()) orelse {
            return run.free();
        };
        run.succeeded += 1;
        const memory = ptr[0..bytes];
        const block: Block = .{ .memory = memory, .alignment = alignment, .tag = run.next_tag };
        run.next_tag +%= 1;
        if (!alignment.check(@intFromPtr(ptr))) return error.Misaligned;
        try run.expectAlone(block.memory, null);
        fill(block.memory, block.tag);
        run.blocks[run.count] = block;
        run.count += 1;
    }

    /// Small sizes as often as large ones.
    fn size(run: *Run) usize {
        const shift = run.random.uintAtMost(u6, std.math.log2_int(usize, run.bounds.bytes_max));
        const bytes = run.random.intRangeAtMost(usize, 1, @as(usize, 2) << shift);
        return @min(run.bounds.bytes_max, bytes);
    }

    fn free(run: *Run) Wrong!void {
        if (run.count == 0) return;
        const at = run.random.uintLessThan(usize, run.count);
        const block = run.blocks[at];
        try check(block.memory, block.memory.len, block.tag);
        run.sample.rawFree(block.memory, block.alignment, @returnAddress());
        run.count -= 1;
        run.blocks[at] = run.blocks[run.count];
    }

    fn resize(run: *Run, may_move: bool) Wrong!void {
        if (run.count == 0) return;
        const at = run.random.uintLessThan(usize, run.count);
        const block = &run.blocks[at];
        const bytes = run.size();
        const old_bytes = block.memory.len;
        const ptr = if (may_move)
            run.sample.rawRemap(block.memory, block.alignment, bytes, @returnAddress()) orelse
                return check(block.memory, old_bytes, block.tag)
        else blk: {
            if (!run.sample.rawResize(block.memory, block.alignment, bytes, @returnAddress())) {
                return check(block.memory, old_bytes, block.tag);
            }
            break :blk block.memory.ptr;
        };
        block.memory = ptr[0..bytes];
        if (!block.alignment.check(@intFromPtr(ptr))) return error.Misaligned;
        // Only the first edge is sure to be there: the old end may be cut off or be in the middle.
        try check(block.memory, @min(bytes, old_bytes, edge_bytes), block.tag);
        try run.expectAlone(block.memory, at);
        fill(block.memory, block.tag);
    }

    fn expectAlone(run: *Run, memory: []const u8, except: ?usize) error{Overlapping}!void {
        const start = @intFromPtr(memory.ptr);
        for (run.blocks[0..run.count], 0..) |other, at| {
            if (at == except) continue;
            const other_start = @intFromPtr(other.memory.ptr);
            if (start < other_start + other.memory.len and other_start < start + memory.len) {
                return error.Overlapping;
            }
        }
    }
};

fn fill(memory: []u8, tag: u8) void {
    const edge = @min(memory.len, edge_bytes);
    @memset(memory[0..edge], tag);
    @memset(memory[memory.len - edge ..], tag);
}

/// The pattern at the start of the first `bytes`, and at their end.
fn check(memory: []const u8, bytes: usize, tag: u8) error{ContentsLost}!void {
    const edge = @min(bytes, edge_bytes);
    for (memory[0..edge]) |byte| if (byte != tag) return error.ContentsLost;
    for (memory[bytes - edge .. bytes]) |byte| if (byte != tag) return error.ContentsLost;
}

const testing = std.testing;

test "an allocator that keeps its promises passes the model" {
    const seed: u64 = testing.random_seed;
    errdefer std.debug.print("seed {d}\n", .{seed});
    const bounds: Bounds = .{ .bytes_max = 4096, .alignment_shift_max = 8 };
    for (0..8) |run| {
        try exercise(testing.allocator, seed + run, 500, bounds);
        var buffer: [64 * 1024]u8 = undefined;
        var fixed: std.heap.FixedBufferAllocator = .init(&buffer);
        try exercise(fixed.allocator(), seed + run, 500, bounds);
    }
}

test "an allocator that gives out the same bytes twice fails the model" {
    const Broken = struct {
        var buffer: [8192]u8 align(4096) = undefined;

        fn alloc(_: *anyopaque, bytes: usize, _: Alignment, _: usize) ?[*]u8 {
            return if (bytes <= buffer.len) &buffer else null;
        }
        const vtable: std.mem.Allocator.VTable = .{
            .alloc = alloc,
            .resize = std.mem.Allocator.noResize,
            .remap = std.mem.Allocator.noRemap,
            .free = std.mem.Allocator.noFree,
        };
    };
    const broken: std.mem.Allocator = .{ .ptr = undefined, .vtable = &Broken.vtable };
    const bounds: Bounds = .{ .bytes_max = 4096, .alignment_shift_max = 4 };
    try testing.expectError(error.Overlapping, exercise(broken, 1, 500, bounds));
}
