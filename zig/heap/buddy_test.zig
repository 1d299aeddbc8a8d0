//! The buddy's scenarios (pages of 4, 16 and 64 KiB where the size may matter), and one test for
//! each fault that was designed out; test/faults.ts pairs those with their switches.
//!
//! Invariant checked after each scenario: the structure agrees with a full walk, and what was taken
//! has come back. Memory: a static arena at an odd place, so that nothing is aligned by chance.

const std = @import("std");
const testing = std.testing;
const buddy_file = @import("buddy.zig");

const Buddy = buddy_file.Buddy;
const Pages = Buddy(.{ .Lock = buddy_file.NoLock });
const mib = 1 << 20;

/// Memory of a test: `bytes` beginning `offset` behind a multiple of 8 MiB.
const Arena = struct {
    whole: []align(4096) u8,

    fn init() !Arena {
        return .{ .whole = try testing.allocator.alignedAlloc(u8, .fromByteUnits(4096), 24 * mib) };
    }

    fn deinit(arena: Arena) void {
        testing.allocator.free(arena.whole);
    }

    fn part(arena: Arena, offset: usize, bytes: usize) []u8 {
        const start = std.mem.alignForward(usize, @intFromPtr(arena.whole.ptr), 8 * mib);
        const skip = start - @intFromPtr(arena.whole.ptr);
        return arena.whole[skip + offset ..][0..bytes];
    }
};

fn expectBack(buddy: anytype) !void {
    try buddy.invariants();
    try testing.expectEqual(0, buddy.allocatedBytes());
    const figures = buddy.figures();
    var free: u64 = 0;
    for (figures.free_runs, 0..) |runs, order| free += runs << @intCast(order);
    const page_bytes = @TypeOf(buddy.*).page_bytes;
    try testing.expectEqual(figures.managed_bytes, free * page_bytes);
}

test "pages come, are alone, and go, at three page sizes" {
    inline for (.{ 4096, 16384, 65536 }) |page_bytes| {
        const Sized = Buddy(.{ .page_bytes = page_bytes });
        const arena: Arena = try .init();
        defer arena.deinit();
        var buddy: Sized = .{};
        try buddy.addRegion(arena.part(0, 8 * mib), .{});
        const before = buddy.figures();
        var runs: [12][*]u8 = undefined;
        for (&runs, 1..) |*run, count| {
            run.* = try buddy.alloc(@min(count, 5), 0, 0);
            @memset(run.*[0 .. @as(usize, @min(count, 5)) * page_bytes], @intCast(count));
        }
        for (runs, 1..) |run, count| {
            for (run[0 .. @as(usize, @min(count, 5)) * page_bytes]) |byte| try testing.expectEqual(count, byte);
        }
        try buddy.invariants();
        for (runs) |run| _ = try buddy.free(@intFromPtr(run));
        try expectBack(&buddy);
        try testing.expectEqual(before.free_runs, buddy.figures().free_runs);
    }
}

test "metadata leaves as many pages as fit, and not one less" {
    inline for (.{ 4096, 16384, 65536 }) |page_bytes| {
        const Layout = Buddy(.{ .page_bytes = page_bytes }).Layout;
        for ([_]usize{ 0, 8, 100, 4096, 5000 }) |offset| {
            var bytes: usize = 3 * page_bytes;
            while (bytes < 300 * page_bytes) : (bytes += page_bytes / 2 + 24) {
                const start = (1 << 40) + offset;
                const layout: Layout = try .of(start, bytes);
                const managed = @as(usize, layout.pages_count) * page_bytes;
                try testing.expect(layout.base + managed <= start + bytes);
                try testing.expect(layout.pages + 12 * @as(usize, layout.pages_count) <= layout.base);
                // One more page would not have left room for its table.
                const more = std.mem.alignForward(usize, layout.pages + 12 * (layout.pages_count + 1), page_bytes);
                try testing.expect(more + managed + page_bytes > start + bytes);
            }
        }
    }
    try testing.expectError(error.TooSmall, Pages.Layout.of(4096, 4096));
    try testing.expectError(error.TooLarge, Pages.Layout.of(4096, std.math.maxInt(usize) - 8));
}

test "a region is used to its last page, and recovers" {
    const arena: Arena = try .init();
    defer arena.deinit();
    var buddy: Pages = .{};
    try buddy.addRegion(arena.part(4096, mib), .{});
    const pages = buddy.managedBytes() / 4096;
    var runs: [256][*]u8 = undefined;
    for (runs[0..pages]) |*run| run.* = try buddy.alloc(1, 0, 0);
    try testing.expectError(error.OutOfMemory, buddy.alloc(1, 0, 0));
    try testing.expectEqual(1, buddy.figures().refusals);
    _ = try buddy.free(@intFromPtr(runs[7]));
    runs[7] = try buddy.alloc(1, 0, 0);
    for (runs[0..pages]) |run| _ = try buddy.free(@intFromPtr(run));
    try expectBack(&buddy);
}

test "neighbours that were freed in any order become one block again" {
    const arena: Arena = try .init();
    defer arena.deinit();
    var buddy: Pages = .{};
    try buddy.addRegion(arena.part(0, 4 * mib), .{});
    const before = buddy.figures();
    var prng: std.Random.DefaultPrng = .init(testing.random_seed);
    errdefer std.debug.print("seed {d}\n", .{testing.random_seed});
    var runs: [512][*]u8 = undefined;
    for (&runs) |*run| run.* = try buddy.alloc(1, 0, 0);
    prng.random().shuffle([*]u8, &runs);
    for (runs) |run| _ = try buddy.free(@intFromPtr(run));
    try expectBack(&buddy);
    try testing.expectEqual(before.free_runs, buddy.figures().free_runs);
    try testing.expectEqual(before.largest_free_run, buddy.figures().largest_free_run);
}

test "fragmentation refuses a large run until the gaps close" {
    const arena: Arena = try .init();
    defer arena.deinit();
    var buddy: Pages = .{};
    try buddy.addRegion(arena.part(0, 4 * mib), .{});
    const pages = buddy.managedBytes() / 4096;
    var runs: [1024][*]u8 = undefined;
    for (runs[0..pages]) |*run| run.* = try buddy.alloc(1, 0, 0);
    var i: usize = 0;
    while (i < pages) : (i += 2) _ = try buddy.free(@intFromPtr(runs[i]));
    try testing.expectError(error.OutOfMemory, buddy.alloc(64, 0, 0));
    try testing.expectEqual(1, buddy.figures().largest_free_run);
    i = 1;
    while (i < pages) : (i += 2) _ = try buddy.free(@intFromPtr(runs[i]));
    const run = try buddy.alloc(64, 0, 0);
    _ = try buddy.free(@intFromPtr(run));
    try expectBack(&buddy);
}

test "the second region serves when the first is used up, and each free finds its own" {
    const arena: Arena = try .init();
    defer arena.deinit();
    var buddy: Pages = .{};
    // By age, not by address.
    const first = arena.part(2 * mib, mib);
    const second = arena.part(0, mib);
    try buddy.addRegion(first, .{});
    try buddy.addRegion(second, .{});
    try testing.expect(buddy.sectionFigures(0).?.address < buddy.sectionFigures(1).?.address);
    try testing.expectEqual(null, buddy.sectionFigures(2));
    const pages = buddy.sectionFigures(1).?.pages_count;
    var runs: [256][*]u8 = undefined;
    for (runs[0..pages]) |*run| {
        run.* = try buddy.alloc(1, 0, 0);
        try testing.expect(@intFromPtr(run.*) >= @intFromPtr(first.ptr));
    }
    const beyond = try buddy.alloc(1, 0, 0);
    try testing.expect(@intFromPtr(beyond) < @intFromPtr(second.ptr) + mib);
    _ = try buddy.free(@intFromPtr(beyond));
    try testing.expectEqual(0, buddy.sectionFigures(1).?.free_pages);
    for (runs[0..pages]) |run| _ = try buddy.free(@intFromPtr(run));
    try expectBack(&buddy);
}

test "wrong counts and alignments are refused" {
    const arena: Arena = try .init();
    defer arena.deinit();
    var buddy: Pages = .{};
    try testing.expectError(error.OutOfMemory, buddy.alloc(1, 0, 0));
    try buddy.addRegion(arena.part(0, mib), .{});
    try testing.expectError(error.InvalidCount, buddy.alloc(0, 0, 0));
    try testing.expectError(error.InvalidCount, buddy.alloc((1 << 20) + 1, 0, 0));
    try testing.expectError(error.InvalidCount, buddy.alloc(std.math.maxInt(usize), 0, 0));
    try testing.expectError(error.InvalidAlignment, buddy.alloc(1, 2048, 0));
    try testing.expectError(error.InvalidAlignment, buddy.alloc(1, 12288, 0));
    try testing.expectError(error.InvalidAlignment, buddy.alloc(1, 1 << 33, 0));
    try testing.expectError(error.OutOfMemory, buddy.alloc(1 << 20, 0, 0));
    try expectBack(&buddy);
}

test "a run grows and shrinks where it is, and its tag stays" {
    const arena: Arena = try .init();
    defer arena.deinit();
    var buddy: Pages = .{};
    try buddy.addRegion(arena.part(0, mib), .{});
    const run = @intFromPtr(try buddy.alloc(3, 0, 77));
    try testing.expect(try buddy.resize(run, 40));
    try testing.expectEqual(40, (try buddy.find(run)).pages_count);
    try testing.expectEqual(77, (try buddy.find(run)).tag);
    try testing.expect(try buddy.resize(run, 2));
    try testing.expectEqual(2 * 4096, buddy.allocatedBytes());
    try testing.expectEqual(40 * 4096, buddy.figures().peak_bytes);
    buddy.resetPeak();
    try testing.expectEqual(2 * 4096, buddy.figures().peak_bytes);
    // Nothing lies behind so many.
    try testing.expect(!try buddy.resize(run, 4000));
    try testing.expectEqual(2, try buddy.free(run));
    try expectBack(&buddy);
}

test "a run larger than any block is made of neighbours before it is refused" {
    const arena: Arena = try .init();
    defer arena.deinit();
    var buddy: Pages = .{};
    // From an odd place: blocks of 1, 2, 4 pages and so on, none of which has most pages.
    try buddy.addRegion(arena.part(0, 2 * mib), .{});
    const largest = buddy.figures().largest_free_run;
    const run = try buddy.alloc(largest + 10, 0, 0);
    _ = try buddy.free(@intFromPtr(run));
    try expectBack(&buddy);
}

test "low pages are found by a translation that knows no neighbours" {
    const Scattered = struct {
        pub const contiguous = false;
        base: usize = 0,

        /// Every eighth row of eight pages is low.
        pub fn physical(self: *const @This(), address: usize) ?u64 {
            const row = (address - self.base) / (8 * 4096);
            return if (row % 8 == 5) address - self.base else (1 << 33) + address;
        }
    };
    const arena: Arena = try .init();
    defer arena.deinit();
    const memory = arena.part(0, mib);
    var buddy: Buddy(.{ .Translate = Scattered, .Lock = buddy_file.NoLock }) = .{};
    buddy.translate.base = @intFromPtr(memory.ptr);
    try buddy.addRegion(memory, .{});
    var runs: [4][*]u8 = undefined;
    for (&runs) |*run| {
        run.* = try buddy.allocLow(8, 0, 0);
        try testing.expectEqual(5, (@intFromPtr(run.*) - buddy.translate.base) / (8 * 4096) % 8);
    }
    try testing.expectError(error.OutOfMemory, buddy.allocLow(1, 0, 0));
    for (runs) |run| _ = try buddy.free(@intFromPtr(run));
    try expectBack(&buddy);
}

test "threads share pages while regions are added" {
    const Shared = Buddy(.{});
    const Worker = struct {
        fn run(buddy: *Shared, seed: u64) void {
            var prng: std.Random.DefaultPrng = .init(seed);
            var held: [32]usize = @splat(0);
            for (0..2000) |_| {
                const slot = &held[prng.random().uintLessThan(usize, held.len)];
                if (slot.* != 0) {
                    const word: *usize = @ptrFromInt(slot.*);
                    if (word.* != seed) @panic("another thread wrote here");
                    _ = buddy.free(slot.*) catch @panic("a run was lost");
                    slot.* = 0;
                } else if (buddy.alloc(1 + prng.random().uintLessThan(usize, 9), 0, 0)) |pages| {
                    slot.* = @intFromPtr(pages);
                    @as(*usize, @ptrCast(pages)).* = seed;
                } else |_| {}
            }
            for (held) |run_address| if (run_address != 0) {
                _ = buddy.free(run_address) catch @panic("a run was lost");
            };
        }
    };
    const arena: Arena = try .init();
    defer arena.deinit();
    var buddy: Shared = .{};
    try buddy.addRegion(arena.part(0, mib), .{});
    var threads: [3]std.Thread = undefined;
    for (&threads, 1..) |*thread, seed| thread.* = try .spawn(.{}, Worker.run, .{ &buddy, seed });
    for (1..6) |i| try buddy.addRegion(arena.part(i * mib, mib), .{});
    for (threads) |thread| thread.join();
    try testing.expectEqual(6, buddy.figures().sections);
    try expectBack(&buddy);
}

// Faults that were designed out.

test "an overlapping region is refused" {
    const arena: Arena = try .init();
    defer arena.deinit();
    var buddy: Pages = .{};
    try buddy.addRegion(arena.part(mib, mib), .{});
    for ([_]usize{ mib / 2, mib, mib + 4096, 2 * mib - 4096 }) |offset| {
        try testing.expectError(error.Overlap, buddy.addRegion(arena.part(offset, mib), .{}));
    }
    // Around it, too.
    try testing.expectError(error.Overlap, buddy.addRegion(arena.part(0, 4 * mib), .{}));
}

test "a run of a large alignment has it whatever the section's start" {
    const arena: Arena = try .init();
    defer arena.deinit();
    for ([_]usize{ 8, 4096, 3 * 4096, mib + 16384 }) |offset| {
        var buddy: Pages = .{};
        try buddy.addRegion(arena.part(offset, 7 * mib), .{});
        for ([_]usize{ 4096, 65536, 2 * mib }) |alignment| {
            const run = @intFromPtr(try buddy.alloc(3, alignment, 0));
            try testing.expectEqual(0, run % alignment);
        }
    }
}

test "a section of more pages than an index can name is refused" {
    try testing.expectError(error.TooLarge, Pages.Layout.of(1 << 20, 1 << 46));
}

test "a foreign address is an error" {
    const arena: Arena = try .init();
    defer arena.deinit();
    var buddy: Pages = .{};
    const memory = arena.part(mib, mib);
    try buddy.addRegion(memory, .{});
    const start = @intFromPtr(memory.ptr);
    // Outside, and in the metadata.
    for ([_]usize{ 0, 4096, start - 4096, start, start + mib, std.math.maxInt(usize) }) |address| {
        try testing.expectError(error.Foreign, buddy.free(address));
    }
}

test "a second free of a run is an error" {
    const arena: Arena = try .init();
    defer arena.deinit();
    var buddy: Pages = .{};
    try buddy.addRegion(arena.part(0, mib), .{});
    const run = @intFromPtr(try buddy.alloc(4, 0, 0));
    _ = try buddy.free(run);
    try testing.expectError(error.DoubleFree, buddy.free(run));
    try testing.expectError(error.DoubleFree, buddy.free(run + 4096));
    try buddy.invariants();
}

test "a free inside of a run is an error" {
    const arena: Arena = try .init();
    defer arena.deinit();
    var buddy: Pages = .{};
    try buddy.addRegion(arena.part(0, mib), .{});
    const run = @intFromPtr(try buddy.alloc(4, 0, 0));
    for ([_]usize{ 1, 8, 4096, 3 * 4096, 4 * 4096 - 1 }) |offset| {
        try testing.expectError(error.Interior, buddy.free(run + offset));
    }
    try testing.expectEqual(4, try buddy.free(run));
}

test "five pages cost five" {
    const arena: Arena = try .init();
    defer arena.deinit();
    var buddy: Pages = .{};
    try buddy.addRegion(arena.part(0, mib), .{});
    _ = try buddy.alloc(5, 0, 0);
    try testing.expectEqual(5 * 4096, buddy.allocatedBytes());
}

test "a block that crosses the low bound gives its low part" {
    const Shifted = struct {
        pub const contiguous = true;
        base: usize = 0,

        /// The bound lies 600 KiB into the memory.
        pub fn physical(self: *const @This(), address: usize) ?u64 {
            return buddy_file.low_bound - 600 * 1024 + (address - self.base);
        }
    };
    const arena: Arena = try .init();
    defer arena.deinit();
    var buddy: Buddy(.{ .Translate = Shifted, .Lock = buddy_file.NoLock }) = .{};
    const memory = arena.part(0, 2 * mib);
    buddy.translate.base = @intFromPtr(memory.ptr);
    try buddy.addRegion(memory, .{});
    // Of the block of 128 pages at 512 KiB only the first 22 are low.
    var crossing = false;
    while (buddy.allocLow(20, 0, 0)) |run| {
        const offset = @intFromPtr(run) - buddy.translate.base;
        try testing.expect(offset + 20 * 4096 <= 600 * 1024);
        if (offset == 512 * 1024) crossing = true;
    } else |_| {}
    try testing.expect(crossing);
    try testing.expectError(error.OutOfMemory, buddy.allocLow(200, 0, 0));
}

test "ordinary requests leave low memory for those that need it" {
    const arena: Arena = try .init();
    defer arena.deinit();
    var buddy: Pages = .{};
    const low = arena.part(0, mib);
    try buddy.addRegion(low, .{ .low = true });
    try buddy.addRegion(arena.part(4 * mib, mib), .{});
    const run = @intFromPtr(try buddy.alloc(1, 0, 0));
    try testing.expect(run > @intFromPtr(low.ptr) + mib);
}

test "a region that is wholly free can be taken back" {
    const arena: Arena = try .init();
    defer arena.deinit();
    var buddy: Pages = .{};
    const memory = arena.part(0, mib);
    try buddy.addRegion(memory, .{});
    const run = @intFromPtr(try buddy.alloc(1, 0, 0));
    try testing.expectError(error.Busy, buddy.removeRegion(run));
    _ = try buddy.free(run);
    const back = try buddy.removeRegion(run);
    try testing.expectEqual(memory.ptr, back.ptr);
    try testing.expectEqual(memory.len, back.len);
    try testing.expectEqual(0, buddy.managedBytes());
    try testing.expectError(error.Foreign, buddy.removeRegion(run));
}
