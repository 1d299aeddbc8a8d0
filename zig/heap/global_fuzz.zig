//! The general allocator against a list of who holds what: owners that allocate, free each other's
//! blocks and end; wrong frees; a backend that refuses at random; trims and ticks.
//!
//! Invariant checked: blocks never overlap, are aligned, keep their contents; wrong frees change
//! nothing; at the end every byte has come back to the backend. `fuzz` plays four owners on one real
//! thread, so that the seed decides everything; `fuzzThreads` runs four real threads that pass blocks
//! to each other, and knows each block by the stamp in it. Cost: about 1 µs an event.

const std = @import("std");
const ds = @import("../ds/ds.zig");
const heap = @import("heap.zig");
const Swarm = @import("../testing/swarm.zig").Swarm;

const Heap = heap.Global(.{ .section_bytes_min = 2 << 20, .cache_bytes = 256 << 10, .owners_max = 8 });
const owners = 4;
const blocks_max = 192;
const gpa = std.heap.page_allocator;

/// Memory of std's, counted, refused when told to.
const Source = struct {
    held: std.atomic.Value(u64) = .init(0),
    refusing: std.atomic.Value(bool) = .init(false),

    fn backend(source: *Source) heap.Backend {
        return .{ .context = @ptrCast(source), .functions = &.{ .take = take, .give = give } };
    }

    fn take(context: *anyopaque, _: ?u32, bytes: usize, alignment: usize) ?heap.Span {
        const source: *Source = @ptrCast(@alignCast(context));
        if (source.refusing.load(.monotonic)) return null;
        const ptr = gpa.rawAlloc(bytes, .fromByteUnits(alignment), @returnAddress()) orelse return null;
        _ = source.held.fetchAdd(bytes, .monotonic);
        return .{ .ptr = ptr, .bytes = bytes, .zero = true };
    }

    fn give(context: *anyopaque, _: ?u32, ptr: [*]u8, bytes: usize, alignment: usize) void {
        const source: *Source = @ptrCast(@alignCast(context));
        _ = source.held.fetchSub(bytes, .monotonic);
        gpa.rawFree(ptr[0..bytes], .fromByteUnits(alignment), @returnAddress());
    }
};

const Block = struct { address: usize, bytes: usize, tag: u8 };
const Operation = enum { alloc, alloc_aligned, free, free_remote, free_anonymous, realloc, wrong, end, trim, tick, refuse, burst };

/// One run, for the registry of fuzzers.
pub fn fuzz(seed: u64, events: u64) anyerror!void {
    var source: Source = .{};
    const h = try gpa.create(Heap);
    defer gpa.destroy(h);
    ds.memory.zero(std.mem.asBytes(h));
    if (!h.init(source.backend(), .{})) return error.NotInitialised;
    var prng: std.Random.DefaultPrng = .init(seed);
    const random = prng.random();
    const mix: Swarm(Operation) = .init(random, &.{.alloc});
    var blocks: [blocks_max]Block = undefined;
    var count: usize = 0;
    for (0..events) |event| {
        const thread = random.uintLessThan(u32, owners);
        switch (mix.next(random)) {
            .alloc, .alloc_aligned => |operation| {
                if (count == blocks_max) continue;
                const bytes = anySize(random);
                const alignment = if (operation == .alloc) 0 else @as(usize, 1) << random.uintLessThan(u5, 18);
                const ptr = h.alloc(thread, bytes, alignment) orelse continue;
                const block: Block = .{ .address = @intFromPtr(ptr), .bytes = bytes, .tag = @truncate(event) };
                if (block.address % @max(alignment, 16) != 0) return error.Misaligned;
                try expectAlone(blocks[0..count], block);
                fill(block);
                blocks[count] = block;
                count += 1;
            },
            // Many of one size, so that slabs fill up.
            .burst => {
                const bytes = @min(anySize(random), 4000);
                while (count < blocks_max) : (count += 1) {
                    const ptr = h.alloc(thread, bytes, 0) orelse break;
                    blocks[count] = .{ .address = @intFromPtr(ptr), .bytes = bytes, .tag = @truncate(event) };
                    try expectAlone(blocks[0..count], blocks[count]);
                    fill(blocks[count]);
                }
            },
            .free, .free_remote, .free_anonymous => |operation| {
                if (count == 0) continue;
                const at = random.uintLessThan(usize, count);
                try check(blocks[at], blocks[at].bytes);
                const freer: ?u32 = switch (operation) {
                    .free => thread,
                    .free_remote => owners,
                    else => null,
                };
                try h.free(freer, @ptrFromInt(blocks[at].address));
                if (h.free(freer, @ptrFromInt(blocks[at].address))) |_| return error.FreedTwice else |_| {}
                count -= 1;
                blocks[at] = blocks[count];
            },
            .realloc => {
                if (count == 0) continue;
                const block = &blocks[random.uintLessThan(usize, count)];
                const bytes = anySize(random);
                const ptr = h.realloc(thread, @ptrFromInt(block.address), bytes, 0) orelse {
                    try check(block.*, block.bytes);
                    continue;
                };
                const old = block.*;
                block.address = 0;
                block.bytes = 0;
                const new: Block = .{ .address = @intFromPtr(ptr), .bytes = bytes, .tag = old.tag };
                try check(.{ .address = new.address, .bytes = @min(bytes, old.bytes), .tag = old.tag }, @min(bytes, old.bytes, edge));
                try expectAlone(blocks[0..count], new);
                block.* = new;
                fill(new);
            },
            .wrong => {
                if (count == 0) continue;
                const block = blocks[random.uintLessThan(usize, count)];
                const address = block.address +% random.uintLessThan(usize, 1 << 21) -% (1 << 20);
                const right = for (blocks[0..count]) |each| {
                    if (each.address == address) break true;
                } else false;
                if (right) continue;
                const freer: ?u32 = if (random.boolean()) thread else null;
                if (h.free(freer, @ptrFromInt(address))) |_| return error.WrongFreeAccepted else |_| {}
            },
            .end => h.threadEnded(thread),
            .trim => _ = h.trim(thread),
            .tick => h.tick(),
            .refuse => source.refusing.store(random.boolean(), .monotonic),
        }
        if (event % 256 == 0) try agree(h, blocks[0..count]);
    }
    try agree(h, blocks[0..count]);
    for (blocks[0..count]) |block| {
        try check(block, block.bytes);
        try h.free(random.uintLessThan(u32, owners), @ptrFromInt(block.address));
    }
    try finish(h, &source);
}

/// Everything has come back, first to the heap and then to its source.
fn finish(h: *Heap, source: *Source) !void {
    for (0..owners) |thread| h.threadEnded(@intCast(thread));
    _ = h.trim(0);
    try h.buddy.invariants();
    const figures = h.figures();
    if (figures.allocated_bytes != 0 or figures.slabs != 0 or figures.sections != 0) return error.NotAllCameBack;
    if (figures.late_double_frees != 0) return error.CountedADoubleFree;
    if (h.trim(0) != 0) return error.TrimmedTwice;
    h.deinit();
    if (source.held.load(.monotonic) != 0) return error.BackendLostMemory;
}

/// The heap's count of live blocks is the model's.
fn agree(h: *Heap, blocks: []const Block) !void {
    try h.buddy.invariants();
    var slots: f64 = 0;
    for (blocks) |block| {
        const usable = h.usableSize(@ptrFromInt(block.address)) orelse return error.LiveBlockUnknown;
        if (usable < block.bytes) return error.TooSmall;
        if (h.map.find(block.address) != 0) slots += 1;
    }
    if (h.figures().slots_live != slots) return error.WrongLiveCount;
}

fn anySize(random: std.Random) usize {
    const shift = random.uintLessThan(u5, 19);
    return random.intRangeAtMost(usize, 1, @as(usize, 2) << shift);
}

const edge = 64;

fn expectAlone(blocks: []const Block, block: Block) !void {
    for (blocks) |other| {
        if (block.address < other.address + other.bytes and other.address < block.address + block.bytes) return error.Overlapping;
    }
}

fn fill(block: Block) void {
    const memory = @as([*]u8, @ptrFromInt(block.address))[0..block.bytes];
    @memset(memory[0..@min(edge, memory.len)], block.tag);
    @memset(memory[memory.len - @min(edge, memory.len) ..], block.tag);
}

fn check(block: Block, bytes: usize) !void {
    const memory = @as([*]const u8, @ptrFromInt(block.address))[0..block.bytes];
    for (memory[0..@min(edge, bytes)]) |byte| if (byte != block.tag) return error.ContentsLost;
    if (bytes == block.bytes) for (memory[bytes - @min(edge, bytes) ..]) |byte| if (byte != block.tag) return error.ContentsLost;
}

/// Four real threads. Each allocates, frees its own and others' blocks, hands blocks over, and ends
/// and begins again.
pub fn fuzzThreads(seed: u64, events: u64) anyerror!void {
    const Shared = struct {
        heap: *Heap,
        source: Source = .{},
        /// Blocks on their way to whoever takes them.
        box: [64]std.atomic.Value(usize) = @splat(.init(0)),
        failed: std.atomic.Value(u32) = .init(0),

        const Shared = @This();
        const kept_max = 128;

        fn run(shared: *Shared, thread: u32, own_seed: u64, own_events: u64) void {
            shared.play(thread, own_seed, own_events) catch {
                _ = shared.failed.fetchAdd(1, .monotonic);
            };
        }

        fn play(shared: *Shared, thread: u32, own_seed: u64, own_events: u64) !void {
            var prng: std.Random.DefaultPrng = .init(own_seed);
            const random = prng.random();
            const h = shared.heap;
            var kept: [kept_max]usize = @splat(0);
            for (0..own_events) |_| {
                const place = &kept[random.uintLessThan(usize, kept_max)];
                switch (random.uintLessThan(u32, 4096)) {
                    0 => h.threadEnded(thread),
                    1 => _ = h.trim(thread),
                    2 => if (thread == 0) h.tick(),
                    3 => if (thread == 0) shared.source.refusing.store(random.uintLessThan(u32, 4) == 0, .monotonic),
                    4 => if (h.figures().slabs < 0) return error.Negative,
                    // To others, and from them.
                    5...1200 => {
                        const box = &shared.box[random.uintLessThan(usize, shared.box.len)];
                        // Acquire and release: as a program hands a block over.
                        place.* = box.swap(place.*, .acq_rel);
                        if (place.* != 0) try checkStamp(place.*);
                    },
                    else => if (place.* == 0) {
                        const bytes = @max(16, anySize(random) >> 2);
                        const ptr = h.alloc(thread, bytes, 0) orelse continue;
                        stamp(@intFromPtr(ptr), bytes, thread, random.int(u32));
                        place.* = @intFromPtr(ptr);
                    } else {
                        try checkStamp(place.*);
                        const address = place.*;
                        place.* = 0;
                        @as(*u64, @ptrFromInt(address)).* = 0;
                        try h.free(if (random.uintLessThan(u32, 8) == 0) null else thread, @ptrFromInt(address));
                    },
                }
            }
            for (&kept) |address| if (address != 0) {
                try checkStamp(address);
                try h.free(thread, @ptrFromInt(address));
            };
            h.threadEnded(thread);
        }

        fn stamp(address: usize, bytes: usize, thread: u32, number: u32) void {
            const words: [*]u64 = @ptrFromInt(address);
            words[0] = bytes | @as(u64, thread + 1) << 32;
            words[1] = address ^ number;
            const last: *align(1) u32 = @ptrFromInt(address + bytes - 4);
            if (bytes >= 24) {
                words[1] = address ^ number;
                last.* = number;
            }
        }

        fn checkStamp(address: usize) !void {
            const words: [*]const u64 = @ptrFromInt(address);
            const bytes: usize = @as(u32, @truncate(words[0]));
            if (bytes < 16 or words[0] >> 32 == 0 or words[0] >> 32 > owners) return error.ContentsLost;
            if (bytes < 24) return;
            const last: *align(1) const u32 = @ptrFromInt(address + bytes - 4);
            if (words[1] ^ address != last.*) return error.ContentsLost;
        }
    };
    const h = try gpa.create(Heap);
    defer gpa.destroy(h);
    ds.memory.zero(std.mem.asBytes(h));
    var shared: Shared = .{ .heap = h };
    if (!h.init(shared.source.backend(), .{})) return error.NotInitialised;
    var threads: [owners]std.Thread = undefined;
    for (&threads, 0..) |*thread, i| {
        thread.* = try .spawn(.{}, Shared.run, .{ &shared, @as(u32, @intCast(i)), seed +% i *% 0x9E37_79B9_7F4A_7C15, events / owners });
    }
    for (threads) |thread| thread.join();
    if (shared.failed.load(.monotonic) != 0) return error.AThreadFailed;
    for (&shared.box) |*box| {
        const address = box.load(.monotonic);
        if (address != 0) try h.free(null, @ptrFromInt(address));
    }
    try finish(h, &shared.source);
}

test "the general allocator agrees with the model over random operations" {
    const seed: u64 = std.testing.random_seed;
    errdefer std.debug.print("seed {d}\n", .{seed});
    for (0..8) |run| try fuzz(seed +% run, 3_000);
}

test "threads that share a heap, free each other's blocks, end and begin lose nothing" {
    const seed: u64 = std.testing.random_seed;
    errdefer std.debug.print("seed {d}\n", .{seed});
    try fuzzThreads(seed, 200_000);
}
