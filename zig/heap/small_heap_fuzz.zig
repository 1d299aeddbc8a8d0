//! The SmallHeap against an obvious model, on both hosts: a memory in miniature in which others
//! grow too and which refuses at random, and a reservation over the deterministic system that is
//! trimmed at random.
//!
//! Invariant checked: blocks never overlap, keep contents and alignment; after the blocks are freed
//! there is one free run per region, and every mark of the heap is where it belongs; the figures
//! agree with the model's sums. One thread. Cost: under a microsecond an event, in ReleaseSafe.

const std = @import("std");
const os = @import("../os/os.zig");
const heap_index = @import("heap.zig");
const memory_file = @import("small_memory.zig");

const page = memory_file.page;
const blocks_max = 512;
const pages_max = 1024;
/// Between two checks of everything.
const events_per_check = 1024;

/// A memory that others grow too, and that refuses one growth in four.
const Shared = struct {
    buffer: []align(page) u8,
    pages: usize = 0,
    random: std.Random,

    pub fn start(memory: *Shared) usize {
        return @intFromPtr(memory.buffer.ptr);
    }

    pub fn end(memory: *Shared) usize {
        return @intFromPtr(memory.buffer.ptr) + memory.pages * page;
    }

    pub fn grow(memory: *Shared, pages: usize) ?usize {
        // Between the heap's look at the end and its growth.
        if (memory.random.uintLessThan(u8, 16) == 0) memory.growForeign();
        if (pages > pages_max - memory.pages or memory.random.uintLessThan(u8, 4) == 0) return null;
        const old = memory.end();
        memory.pages += pages;
        return old;
    }

    fn growForeign(memory: *Shared) void {
        if (memory.pages >= pages_max / 2) return;
        @memset(memory.buffer[memory.pages * page ..][0..page], 0xFF);
        memory.pages += 1;
    }
};

const Block = struct { ptr: [*]u8, bytes: usize, tag: u8 };

/// One run on each host, for the registry of fuzzers.
pub fn fuzz(seed: u64, events: u64) anyerror!void {
    var prng: std.Random.DefaultPrng = .init(seed);
    {
        const buffer = try std.heap.page_allocator.alignedAlloc(u8, .fromByteUnits(page), pages_max * page);
        defer std.heap.page_allocator.free(buffer);
        const Heap = heap_index.SmallHeap(Shared, .{ .histogram = true });
        var heap: Heap = .{ .host = .{ .buffer = buffer, .random = prng.random() } };
        try exercise(Heap, &heap, prng.random(), events / 2);
    }
    const Os = os.fake;
    Os.reset();
    const Heap = heap_index.SmallHeap(heap_index.Reservation(Os), .{});
    var heap: Heap = .{ .host = try .init(8 << 20) };
    const outcome = exercise(Heap, &heap, prng.random(), events / 2);
    heap.host.deinit();
    try outcome;
    if (Os.pagesHeld() != 0) return error.PagesLeft;
}

fn exercise(comptime Heap: type, heap: *Heap, random: std.Random, events: u64) !void {
    var blocks: [blocks_max]Block = undefined;
    var count: usize = 0;
    var sum: usize = 0;
    var tag: u8 = 1;
    for (0..events) |event| {
        const what = random.uintLessThan(u8, 16);
        if (what < 8 and count < blocks_max) {
            const bytes = size(random);
            const alignment = @as(usize, 1) << if (what == 0) random.uintAtMost(u6, 17) else 3;
            if (heap.alloc(bytes, alignment)) |ptr| {
                if (@intFromPtr(ptr) % alignment != 0) return error.Misaligned;
                for (blocks[0..count]) |other| if (overlap(ptr, bytes, other)) return error.Overlapping;
                blocks[count] = .{ .ptr = ptr, .bytes = bytes, .tag = tag };
                mark(blocks[count]);
                count += 1;
                sum += bytes;
                tag +%= 1;
            }
        } else if (what < 14 and count > 0) {
            const chosen = random.uintLessThan(usize, count);
            try verify(blocks[chosen], blocks[chosen].bytes);
            heap.free(blocks[chosen].ptr, blocks[chosen].bytes);
            sum -= blocks[chosen].bytes;
            count -= 1;
            blocks[chosen] = blocks[count];
        } else if (what < 15 and count > 0) {
            const block = &blocks[random.uintLessThan(usize, count)];
            const bytes = size(random);
            if (heap.realloc(block.ptr, block.bytes, bytes, 8)) |ptr| {
                sum = sum - block.bytes + bytes;
                // The contents, as far as they were kept; then marks at the new ends.
                block.ptr = ptr;
                try verifyFirst(block.*, @min(bytes, block.bytes));
                block.bytes = bytes;
                for (blocks[0..count]) |*other| {
                    if (other != block and overlap(ptr, bytes, other.*)) return error.Overlapping;
                }
                mark(block.*);
            }
        } else if (@hasDecl(@TypeOf(heap.host), "growForeign")) {
            if (random.uintLessThan(u8, 32) == 0) heap.host.growForeign();
        } else if (random.uintLessThan(u8, 32) == 0) _ = heap.trim();
        if (event % events_per_check == 0) try heap.invariants();
    }
    if (heap.stats().in_use != sum) return error.FiguresDiffer;
    for (blocks[0..count]) |block| {
        try verify(block, block.bytes);
        heap.free(block.ptr, block.bytes);
    }
    try heap.invariants();
    const figures = heap.stats();
    if (figures.in_use != 0 or figures.allocated_words != 0) return error.FiguresDiffer;
    const runs = figures.fragments + @intFromBool(figures.unused_words > 0);
    if (runs > figures.regions) return error.NotMerged;
}

/// Mostly small, some large.
fn size(random: std.Random) usize {
    const shift = random.uintAtMost(u5, 13) + @as(u5, if (random.uintLessThan(u8, 16) == 0) 4 else 0);
    return (@as(usize, 1) << shift) + random.uintLessThan(usize, @as(usize, 1) << shift);
}

fn overlap(ptr: [*]u8, bytes: usize, other: Block) bool {
    const from = @intFromPtr(ptr);
    const other_from = @intFromPtr(other.ptr);
    return from < other_from + other.bytes and other_from < from + bytes;
}

/// Bytes at each end of a block that carry its tag.
const edge = 24;

fn mark(block: Block) void {
    const bytes = @min(edge, block.bytes);
    @memset(block.ptr[0..bytes], block.tag);
    @memset(block.ptr[block.bytes - bytes .. block.bytes], block.tag);
}

fn verifyFirst(block: Block, bytes: usize) !void {
    if (!std.mem.allEqual(u8, block.ptr[0..@min(edge, bytes)], block.tag)) return error.ContentsLost;
}

fn verify(block: Block, bytes: usize) !void {
    try verifyFirst(block, bytes);
    const last = @min(edge, bytes);
    if (!std.mem.allEqual(u8, block.ptr[bytes - last .. bytes], block.tag)) return error.ContentsLost;
}

test "the small heap agrees with the model over random operations, on both hosts" {
    const seed: u64 = std.testing.random_seed;
    errdefer std.debug.print("seed {d}\n", .{seed});
    for (0..4) |run| try fuzz(seed + run, 20_000);
}
