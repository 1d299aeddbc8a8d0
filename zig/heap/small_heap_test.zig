//! The SmallHeap, scenario by scenario: the behaviour that users of such heaps know (round trips,
//! foreign growth, runs of pages that split and merge, the trip high water), and one test for each
//! fault that is designed out, red when `-Dfault=<name>` brings it back (test/faults.ts).
//!
//! The host is a memory in miniature (small_memory.zig) or a reservation over the deterministic
//! system; after each scenario everything is freed and lies in one run per region.

const std = @import("std");
const testing = std.testing;
const os = @import("../os/os.zig");
const heap_index = @import("heap.zig");
const memory_file = @import("small_memory.zig");

const Memory = memory_file.Memory;
const page = memory_file.page;
const kib = 1 << 10;
const Heap = heap_index.SmallHeap(Memory, .{ .histogram = true });

fn open(pages_max: usize) !Heap {
    return .{ .host = try .init(pages_max) };
}

/// Everything was freed: nothing in use, one run per region, all marks in place.
fn close(heap: *Heap) !void {
    defer heap.host.deinit();
    try heap.invariants();
    const figures = heap.stats();
    try testing.expectEqual(0, figures.in_use);
    try testing.expectEqual(0, figures.allocated_words);
    const runs = figures.fragments + @intFromBool(figures.unused_words > 0);
    try testing.expectEqual(figures.regions, runs);
}

fn fill(ptr: [*]u8, bytes: usize, byte: u8) void {
    @memset(ptr[0..bytes], byte);
}

fn expectFilled(ptr: [*]const u8, bytes: usize, byte: u8) !void {
    try testing.expect(std.mem.allEqual(u8, ptr[0..bytes], byte));
}

test "a heap takes no page before the first request" {
    var heap = try open(4);
    try testing.expectEqual(0, heap.host.grows);
    try testing.expectEqual(0, heap.stats().total_words);
    try testing.expectEqual(0, heap.host.pages);
    heap.host.deinit();
}

test "32 bytes go round" {
    var heap = try open(4);
    const one = heap.alloc(32, 4).?;
    const two = heap.alloc(32, 4).?;
    try testing.expectEqual(32, @intFromPtr(two) - @intFromPtr(one));
    fill(one, 32, 1);
    fill(two, 32, 2);
    try expectFilled(one, 32, 1);
    heap.free(one, 32);
    try testing.expectEqual(one, heap.alloc(20, 4).?);
    try expectFilled(two, 32, 2);
    heap.free(one, 20);
    heap.free(two, 32);
    try testing.expectEqual(1, heap.host.grows);
    try close(&heap);
}

test "three blocks of 16 KiB and one of 15 fit in one page, another of 15 does not" {
    var heap = try open(4);
    var blocks: [5][*]u8 = undefined;
    for (blocks[0..3]) |*block| block.* = heap.alloc(16 * kib, 8).?;
    blocks[3] = heap.alloc(15 * kib, 8).?;
    try testing.expectEqual(1, heap.host.pages);
    blocks[4] = heap.alloc(15 * kib, 8).?;
    try testing.expectEqual(2, heap.host.pages);
    for (blocks[0..3]) |block| heap.free(block, 16 * kib);
    for (blocks[3..]) |block| heap.free(block, 15 * kib);
    try close(&heap);
}

test "room that the memory has at the first request is used before it grows" {
    var heap = try open(4);
    _ = heap.host.growForeign(1);
    heap.host.first_pages = 1;
    heap.host.first = 1000;
    const block = heap.alloc(40 * kib, 8).?;
    try testing.expectEqual(0, heap.host.grows);
    heap.free(block, 40 * kib);
    try close(&heap);
}

test "growth by someone else begins a second region, and its page is handed to nobody" {
    var heap = try open(64);
    var blocks: [65][*]u8 = undefined;
    var foreign: []u8 = &.{};
    for (&blocks, 0..) |*block, i| {
        if (i == 10) {
            foreign = @as([*]u8, @ptrFromInt(heap.host.growForeign(1)))[0..page];
            @memset(foreign, 0x77);
        }
        block.* = heap.alloc(kib, 8).?;
        fill(block.*, kib, @intCast(i));
    }
    defer heap.host.deinit();
    try testing.expectEqual(2, heap.stats().regions);
    for (blocks, 0..) |block, i| try expectFilled(block, kib, @intCast(i));
    for (blocks) |block| heap.free(block, kib);
    // What can be had ends where the foreign page begins, and goes on behind it.
    const figures = heap.stats();
    try testing.expectEqual(1, figures.fragments);
    try testing.expect((figures.fragment_words + figures.unused_words) * 4 <= (heap.host.pages - 1) * page);
    const old = @intFromPtr(foreign.ptr);
    for (0..8) |_| {
        const block = @intFromPtr(heap.alloc(40 * kib, 8).?);
        try testing.expect(block + 40 * kib <= old or block >= old + page);
    }
    try testing.expect(std.mem.allEqual(u8, foreign, 0x77));
    try heap.invariants();

    // The same before the first request.
    var late = try open(16);
    defer late.host.deinit();
    const theirs = late.host.growForeign(2) + page;
    late.host.first_pages = 1;
    for (0..8) |_| {
        const block = @intFromPtr(late.alloc(40 * kib, 8).?);
        try testing.expect(block + 40 * kib <= theirs or block >= theirs + page);
    }
    try testing.expectEqual(2, late.stats().regions);
    try late.invariants();
}

test "96 KiB count as two large pages, and as unused when freed" {
    var heap = try open(8);
    const block = heap.alloc(96 * kib, 8).?;
    fill(block, 96 * kib, 9);
    var figures = heap.stats();
    try testing.expectEqual(2, figures.total_large_pages - figures.unused_large_pages);
    try testing.expectEqual(96 * kib / 4, figures.allocated_large_pages_words);
    heap.free(block, 96 * kib);
    figures = heap.stats();
    try testing.expectEqual(figures.total_large_pages, figures.unused_large_pages);
    try testing.expectEqual(0, figures.allocated_large_pages_words);
    try close(&heap);
}

test "a freed large run is used again by what fits in it" {
    var heap = try open(32);
    const one = heap.alloc(96 * kib, 8).?;
    const wall = heap.alloc(16, 8).?;
    const two = heap.alloc(300 * kib, 8).?;
    heap.free(one, 96 * kib);
    const pages = heap.host.pages;
    try testing.expectEqual(one, heap.alloc(96 * kib, 8).?);
    heap.free(one, 96 * kib);
    try testing.expectEqual(one, heap.alloc(64 * kib, 8).?);
    try testing.expectEqual(pages, heap.host.pages);
    heap.free(one, 64 * kib);
    heap.free(wall, 16);
    heap.free(two, 300 * kib);
    try close(&heap);
}

test "writing every byte of blocks at the edge of pages damages no neighbour" {
    var heap = try open(64);
    const sizes = [_]usize{ 64 * kib - 4, 64 * kib, 128 * kib - 4, 128 * kib, 64 * kib - 4, 32 * kib, 32 * kib + 1 };
    var blocks: [sizes.len][*]u8 = undefined;
    for (&blocks, sizes, 0..) |*block, bytes, i| {
        block.* = heap.alloc(bytes, 8).?;
        fill(block.*, bytes, @intCast(i + 1));
    }
    for (blocks, sizes, 0..) |block, bytes, i| try expectFilled(block, bytes, @intCast(i + 1));
    // An exact fit is found again.
    heap.free(blocks[2], sizes[2]);
    try testing.expectEqual(blocks[2], heap.alloc(sizes[2], 8).?);
    for (blocks, sizes) |block, bytes| heap.free(block, bytes);
    try close(&heap);
}

test "a run of three pages splits in three and merges again, the outer first" {
    var heap = try open(16);
    const all = heap.alloc(3 * page, 8).?;
    const wall = heap.alloc(16, 8).?;
    heap.free(all, 3 * page);
    var parts: [3][*]u8 = undefined;
    for (&parts) |*part| part.* = heap.alloc(page, 8).?;
    for (parts, 0..) |part, i| try testing.expectEqual(@intFromPtr(all) + i * page, @intFromPtr(part));
    heap.free(parts[0], page);
    heap.free(parts[2], page);
    heap.free(parts[1], page);
    try testing.expectEqual(all, heap.alloc(3 * page, 8).?);
    heap.free(all, 3 * page);
    heap.free(wall, 16);
    try close(&heap);
}

test "two large blocks side by side merge to exactly their sum" {
    for ([_]bool{ true, false }) |ascending| {
        var heap = try open(16);
        const one = heap.alloc(96 * kib, 8).?;
        const two = heap.alloc(96 * kib, 8).?;
        const wall = heap.alloc(16, 8).?;
        const before = heap.stats();
        try testing.expectEqual(96 * kib, @intFromPtr(two) - @intFromPtr(one));
        heap.free(if (ascending) one else two, 96 * kib);
        heap.free(if (ascending) two else one, 96 * kib);
        const after = heap.stats();
        // Words and runs: both blocks are one more fragment than before, of exactly their size.
        try testing.expectEqual(before.fragment_words + 2 * 96 * kib / 4, after.fragment_words);
        try testing.expectEqual(before.fragments + 1, after.fragments);
        const both = heap.alloc(192 * kib, 8).?;
        try testing.expectEqual(one, both);
        try testing.expect(!heap.resize(both, 192 * kib, 192 * kib + 1));
        heap.free(both, 192 * kib);
        heap.free(wall, 16);
        try close(&heap);
    }
}

test "small blocks live around a large one and take its space when it goes" {
    var heap = try open(16);
    const large = heap.alloc(96 * kib, 8).?;
    var small: [40][*]u8 = undefined;
    for (&small) |*block| block.* = heap.alloc(500, 4).?;
    const wall = heap.alloc(16, 8).?;
    heap.free(large, 96 * kib);
    const pages = heap.host.pages;
    var more: [180][*]u8 = undefined;
    for (&more) |*block| block.* = heap.alloc(512, 4).?;
    try testing.expectEqual(pages, heap.host.pages);
    for (more) |block| heap.free(block, 512);
    for (small) |block| heap.free(block, 500);
    heap.free(wall, 16);
    try close(&heap);
}

test "the trip high water follows from the last reset" {
    var heap = try open(8);
    const one = heap.alloc(1000, 8).?;
    const two = heap.alloc(3000, 8).?;
    heap.free(two, 3000);
    try testing.expectEqual(4000, heap.stats().trip_high_water);
    heap.resetTrip();
    try testing.expectEqual(1000, heap.stats().trip_high_water);
    const three = heap.alloc(500, 8).?;
    heap.free(three, 500);
    const figures = heap.stats();
    try testing.expectEqual(1500, figures.trip_high_water);
    try testing.expectEqual(4000, figures.high_water);
    try testing.expectEqual(1000, figures.in_use);
    heap.free(one, 1000);
    try close(&heap);
}

test "the histogram counts live blocks by words, and those above in the last row" {
    var heap = try open(8);
    const one = heap.alloc(9, 4).?;
    const two = heap.alloc(12, 4).?;
    const large = heap.alloc(5000, 4).?;
    try testing.expectEqual(2, heap.sizes[3].count);
    try testing.expectEqual(1, heap.sizes[256].count);
    heap.free(one, 9);
    heap.resetTrip();
    try testing.expectEqual(1, heap.sizes[3].trip_high_water);
    try testing.expectEqual(2, heap.sizes[3].high_water);
    heap.free(two, 12);
    heap.free(large, 5000);
    try close(&heap);
}

test "figures add up and print on one line" {
    var heap = try open(8);
    const one = heap.alloc(100, 8).?;
    const two = heap.alloc(100, 8).?;
    heap.free(one, 100);
    const figures = heap.stats();
    // A slot of 128 is live, of the 32 in their slab.
    try testing.expectEqual(128 / 4, figures.allocated_words);
    try testing.expectEqual(1, figures.fragments);
    try testing.expectEqual(31 * 128 / 4, figures.fragment_words);
    try testing.expectEqual(heap.host.start(), figures.heap_start);
    // The rest of the page: the table and the guard.
    const accounted = figures.allocated_words + figures.fragment_words + figures.unused_words;
    try testing.expect(figures.total_words - accounted <= kib / 4);
    var text: [1024]u8 = undefined;
    const line = try std.fmt.bufPrint(&text, "{f}", .{figures});
    try testing.expect(std.mem.startsWith(u8, line, "in_use=100 high_water=200 "));
    try testing.expectEqual(null, std.mem.indexOfScalar(u8, line, '\n'));
    heap.free(two, 100);
    try close(&heap);
}

test "a large block lies at any alignment that is asked" {
    var heap = try open(256);
    const wall = heap.alloc(16, 8).?;
    for ([_]usize{ 8 * kib, page, 4 * page, 1 << 20 }) |alignment| {
        const block = heap.alloc(100 * kib, alignment).?;
        try testing.expectEqual(0, @intFromPtr(block) % alignment);
        fill(block, 100 * kib, 3);
        heap.free(block, 100 * kib);
        try heap.invariants();
    }
    heap.free(wall, 16);
    try close(&heap);
}

test "a small block lies at any alignment that is asked" {
    var heap = try open(64);
    const wall = heap.alloc(16, 8).?;
    for ([_]usize{ 1, 16, 32, 256, 4096, page }) |alignment| {
        const block = heap.alloc(40, alignment).?;
        try testing.expectEqual(0, @intFromPtr(block) % alignment);
        heap.free(block, 40);
        try heap.invariants();
    }
    heap.free(wall, 16);
    try close(&heap);
}

test "a request above the bound of 32-bit counts is refused" {
    var heap = try open(4);
    for ([_]usize{ (1 << 32) + 16, (1 << 35) + 1, std.math.maxInt(isize), std.math.maxInt(usize) }) |bytes| {
        try testing.expectEqual(null, heap.alloc(bytes, 8));
    }
    try testing.expectEqual(null, heap.alloc(40 * kib, 1 << 60));
    heap.host.deinit();
}

test "a request that fails is not counted" {
    var heap = try open(4);
    const one = heap.alloc(100, 8).?;
    heap.host.refuse = true;
    try testing.expectEqual(null, heap.alloc(2 * page, 8));
    try testing.expectEqual(100, heap.stats().high_water);
    try testing.expectEqual(100, heap.stats().in_use);
    // Refused growth changes nothing: what there is still serves.
    const two = heap.alloc(200, 8).?;
    heap.free(one, 100);
    heap.free(two, 200);
    try close(&heap);
}

test "a memory that refuses to grow by much is asked for what is needed" {
    var heap = try open(130);
    const one = heap.alloc(100 * page - 40 * kib, 8).?;
    // A 64th of the memory would be two pages; one is left.
    const pages = heap.host.pages;
    heap.host.pages_max = pages + 1;
    const two = heap.alloc(60 * kib, 8).?;
    try testing.expectEqual(pages + 1, heap.host.pages);
    heap.free(one, 100 * page - 40 * kib);
    heap.free(two, 60 * kib);
    try close(&heap);
}

test "a growing heap asks its host a logarithmic number of times" {
    var heap = try open(256);
    var blocks: [1200][*]u8 = undefined;
    for (&blocks) |*block| block.* = heap.alloc(12 * kib, 8).?;
    // Page by page it would be 240 times.
    try testing.expect(heap.host.grows < 160);
    for (blocks) |block| heap.free(block, 12 * kib);
    try close(&heap);
}

test "new growth joins the free end of the memory" {
    var heap = try open(8);
    const one = heap.alloc(20 * kib, 8).?;
    // 43 KiB are free at the end; 100 KiB need one page more, not two.
    const two = heap.alloc(100 * kib, 8).?;
    try testing.expectEqual(2, heap.host.pages);
    heap.free(one, 20 * kib);
    heap.free(two, 100 * kib);
    try close(&heap);
}

test "a block grows where it lies when there is room behind it" {
    var heap = try open(8);
    const block = heap.alloc(3000, 8).?;
    fill(block, 3000, 5);
    try testing.expectEqual(block, heap.realloc(block, 3000, 5000, 8).?);
    try testing.expectEqual(block, heap.realloc(block, 5000, 50 * kib, 8).?);
    try expectFilled(block, 3000, 5);
    try testing.expectEqual(block, heap.realloc(block, 50 * kib, 10, 8).?);
    try testing.expectEqual(10, heap.stats().in_use);
    heap.free(block, 10);
    // A slot has room up to its own size.
    const slot = heap.alloc(600, 8).?;
    fill(slot, 600, 6);
    try testing.expectEqual(slot, heap.realloc(slot, 600, 1024, 8).?);
    try testing.expect(!heap.resize(slot, 1024, 1025));
    try testing.expectEqual(slot, heap.realloc(slot, 1024, 1, 8).?);
    try expectFilled(slot, 1, 6);
    heap.free(slot, 1);
    try close(&heap);
}

test "a block without room behind it moves with its contents, or stays as it is" {
    var heap = try open(2);
    const block = heap.alloc(1000, 8).?;
    const wall = heap.alloc(16, 8).?;
    fill(block, 1000, 5);
    const moved = heap.realloc(block, 1000, 2000, 8).?;
    try testing.expect(moved != block);
    try expectFilled(moved, 1000, 5);
    try testing.expectEqual(null, heap.realloc(moved, 2000, 3 * page, 8));
    try expectFilled(moved, 1000, 5);
    heap.free(moved, 2000);
    heap.free(wall, 16);
    try heap.invariants();
    heap.host.deinit();
}

test "a byte written past a block damages nothing of the heap's" {
    var heap = try open(4);
    const one = heap.alloc(64, 8).?;
    const two = heap.alloc(64, 8).?;
    const wall = heap.alloc(64, 8).?;
    heap.free(two, 64);
    // The free run behind `one` begins with the byte that is one too far.
    one[64] = 1;
    try heap.invariants();
    try testing.expectEqual((4 * kib - 2 * 64) / 4, heap.stats().fragment_words);
    try testing.expectEqual(two, heap.alloc(64, 8).?);
    // Nor does it behind a run.
    const run = heap.alloc(4 * kib, 8).?;
    const behind = heap.alloc(4 * kib, 8).?;
    heap.free(behind, 4 * kib);
    @memset(run[4 * kib ..][0..4], 0xFF);
    try heap.invariants();
    heap.free(run, 4 * kib);
    heap.free(two, 64);
    heap.free(one, 64);
    heap.free(wall, 64);
    try close(&heap);
}

test "short blocks give their slabs back when something longer needs the room" {
    var heap = try open(9);
    var blocks: [7000][*]u8 = undefined;
    for (&blocks) |*block| block.* = heap.alloc(50, 8).?;
    const pages = heap.host.pages;
    // Every second first: no slab is empty before the last of it goes.
    for (0..2) |half| {
        try heap.invariants();
        for (blocks, 0..) |block, i| if (i % 2 == half) heap.free(block, 50);
    }
    const long = heap.alloc(400 * kib, 8).?;
    try testing.expectEqual(pages, heap.host.pages);
    heap.free(long, 400 * kib);
    try close(&heap);
}

test "nothing needs no memory" {
    var heap = try open(4);
    const block = heap.alloc(0, 8).?;
    try testing.expectEqual(0, heap.host.grows);
    const moved = heap.realloc(block, 0, 100, 8).?;
    heap.free(moved, 100);
    heap.free(block, 0);
    try close(&heap);
}

test "the small heap passes the conformance tests of std.mem.Allocator" {
    var heap = try open(64);
    const face = heap.allocator();
    try std.heap.testAllocator(face);
    try std.heap.testAllocatorAligned(face);
    try std.heap.testAllocatorLargeAlignment(face);
    try std.heap.testAllocatorAlignedShrink(face);
    try close(&heap);
}

test "a small heap over a reservation keeps to its limit and touches nothing before it is used" {
    const Os = os.fake;
    Os.reset();
    const Native = heap_index.SmallHeap(heap_index.Reservation(Os), .{});
    var heap: Native = .{ .host = try .init(1 << 20) };
    try testing.expectEqual(0, Os.residentTotal());
    const block = heap.alloc(600 * kib, 8).?;
    try testing.expectEqual(null, heap.alloc(600 * kib, 8));
    heap.free(block, 600 * kib);
    try std.heap.testAllocator(heap.allocator());
    try heap.invariants();
    heap.host.deinit();
    try testing.expectEqual(0, Os.pagesHeld());
    Os.failNext(.mmap, 1);
    try testing.expectError(error.OutOfMemory, heap_index.Reservation(Os).init(1 << 20));
    Os.reset();
}

test "pages inside free runs go back to the system that lent them" {
    const Os = os.fake;
    Os.reset();
    const Native = heap_index.SmallHeap(heap_index.Reservation(Os), .{});
    var heap: Native = .{ .host = try .init(2 << 20) };
    defer Os.reset();
    defer heap.host.deinit();
    const block = heap.alloc(600 * kib, 8).?;
    fill(block, 600 * kib, 0xEE);
    heap.free(block, 600 * kib);
    const resident = Os.residentBytes(block, 600 * kib);
    const bytes = heap.trim();
    try testing.expect(bytes >= 512 * kib);
    try testing.expect(Os.residentBytes(block, 600 * kib) + bytes <= resident + page);
    try testing.expectEqual(0, heap.trim());
    // Refused: counted, and the run serves on.
    const dirty = heap.alloc(600 * kib, 8).?;
    fill(dirty, 600 * kib, 0xEE);
    heap.free(dirty, 600 * kib);
    Os.failNext(.madvise, 1);
    try testing.expectEqual(0, heap.trim());
    Os.failNothing();
    try testing.expectEqual(1, heap.host.refusals);
    const again = heap.alloc(600 * kib, 8).?;
    heap.free(again, 600 * kib);
    try heap.invariants();
}

test "threads share a small heap over a reservation" {
    const Native = heap_index.SmallHeap(heap_index.Reservation(os.Native), .{});
    var heap: Native = .{ .host = try .init(64 << 20) };
    defer heap.host.deinit();
    const work = struct {
        fn run(shared: *Native, tag: u8, wrong: *std.atomic.Value(u32)) void {
            var prng: std.Random.DefaultPrng = .init(tag);
            for (0..5_000) |_| {
                const bytes = prng.random().uintAtMost(usize, 3000) + 1;
                const block = shared.alloc(bytes, 8) orelse continue;
                @memset(block[0..bytes], tag);
                if (!std.mem.allEqual(u8, block[0..bytes], tag)) _ = wrong.fetchAdd(1, .monotonic);
                shared.free(block, bytes);
            }
        }
    };
    var wrong: std.atomic.Value(u32) = .init(0);
    var threads: [3]std.Thread = undefined;
    for (&threads, 1..) |*thread, tag| thread.* = try .spawn(.{}, work.run, .{ &heap, @as(u8, @intCast(tag)), &wrong });
    for (threads) |thread| thread.join();
    try testing.expectEqual(0, wrong.load(.monotonic));
    try heap.invariants();
    try testing.expectEqual(0, heap.stats().in_use);
}
