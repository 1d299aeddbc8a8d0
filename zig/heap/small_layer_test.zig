//! The SmallHeap as a layer: lengths without sizes, wrong frees told, limits kept, every page back.

const std = @import("std");
const testing = std.testing;
const os = @import("../os/os.zig");
const heap_index = @import("heap.zig");

const kib = 1 << 10;
const Fake = heap_index.SmallLayer(os.fake);

fn open(limit_bytes: usize) !*Fake {
    os.fake.reset();
    const layer = try testing.allocator.create(Fake);
    @memset(std.mem.asBytes(layer), 0);
    if (!layer.init(heap_index.SystemBackend(os.fake).backend, .{ .limit_bytes = limit_bytes })) return error.Refused;
    return layer;
}

fn close(layer: *Fake) !void {
    defer testing.allocator.destroy(layer);
    try testing.expectEqual(0, layer.liveObjects());
    layer.deinit();
    try testing.expectEqual(0, os.fake.pagesHeld());
}

test "a layer over a small heap knows the length of a block by its address" {
    const layer = try open(4 << 20);
    const sizes = [_]usize{ 1, 16, 17, 1000, 1024, 40 * kib, 300 * kib };
    var blocks: [sizes.len][*]u8 = undefined;
    for (&blocks, sizes) |*block, bytes| block.* = layer.alloc(0, bytes, 0).?;
    for (blocks, sizes) |block, bytes| {
        try testing.expectEqual(std.mem.alignForward(usize, bytes, 16), layer.usableSize(block).?);
        if (bytes > 16) try testing.expectEqual(null, layer.usableSize(block + 16));
    }
    try testing.expectEqual(sizes.len, layer.liveObjects());
    var sum: f64 = 0;
    for (sizes) |bytes| sum += @floatFromInt(bytes);
    try testing.expectEqual(sum, layer.figures().in_use);
    try testing.expect(layer.resizeInPlace(0, blocks[6], 200 * kib));
    try testing.expectEqual(200 * kib, layer.usableSize(blocks[6]).?);
    try testing.expect(!layer.resizeInPlace(0, blocks[0], 5000));
    for (blocks) |block| try layer.free(0, block);
    try testing.expectEqual(0, layer.figures().in_use);
    try close(layer);
}

test "a layer over a small heap tells a second free, an inner one and a foreign one" {
    const layer = try open(1 << 20);
    const block = layer.alloc(0, 100, 0).?;
    try testing.expectError(error.DoubleFree, layer.free(0, block + 32));
    try testing.expectError(error.Foreign, layer.free(0, block + 1));
    var local: [32]u8 align(16) = undefined;
    try testing.expectError(error.Foreign, layer.free(0, &local));
    try layer.free(null, block);
    try testing.expectError(error.DoubleFree, layer.free(null, block));
    try testing.expectEqual(0, layer.figures().in_use);
    try close(layer);
}

test "a layer over a small heap touches nothing before it is used and keeps to its limit" {
    const layer = try open(1 << 20);
    try testing.expectEqual(0, os.fake.residentTotal());
    try testing.expectEqual(null, layer.alloc(0, 2 << 20, 0));
    const block = layer.alloc(0, 700 * kib, 4096).?;
    try testing.expectEqual(0, @intFromPtr(block) % 4096);
    @memset(block[0 .. 700 * kib], 1);
    try testing.expectEqual(null, layer.alloc(0, 700 * kib, 0));
    try layer.free(0, block);
    _ = layer.trim(0);
    try testing.expectEqual(0, layer.trim(0));
    try close(layer);
}

test "a layer that the system refuses a reservation is refused, with nothing held" {
    for (0..2) |after| {
        os.fake.reset();
        var layer: Fake = undefined;
        @memset(std.mem.asBytes(&layer), 0);
        os.fake.failNext(.mmap, @intCast(after + 1));
        const made = layer.init(heap_index.SystemBackend(os.fake).backend, .{ .limit_bytes = 1 << 20 });
        os.fake.failNothing();
        if (made) layer.deinit();
        try testing.expectEqual(0, os.fake.pagesHeld());
        try testing.expectEqual(null, layer.alloc(0, 10, 0));
    }
}

test "threads free each other's blocks of a layer over a small heap" {
    const Native = heap_index.SmallLayer(os.Native);
    var layer: Native = undefined;
    @memset(std.mem.asBytes(&layer), 0);
    try testing.expect(layer.init(heap_index.SystemBackend(os.Native).backend, .{ .limit_bytes = 64 << 20 }));
    const shelf_slots = 64;
    var shelf: [shelf_slots]std.atomic.Value(usize) = @splat(.init(0));
    const work = struct {
        fn run(shared: *Native, slots: *[shelf_slots]std.atomic.Value(usize), tag: u32, wrong: *std.atomic.Value(u32)) void {
            var prng: std.Random.DefaultPrng = .init(tag);
            for (0..5_000) |_| {
                const bytes = prng.random().uintAtMost(usize, 3000) + 8;
                const block = shared.alloc(tag, bytes, 0) orelse continue;
                std.mem.writeInt(usize, block[0..8], @intFromPtr(block), .little);
                // Release: who takes the block sees its contents. Acquire: we see those of the other.
                const other = slots[prng.random().uintLessThan(usize, shelf_slots)].swap(@intFromPtr(block), .acq_rel);
                if (other == 0) continue;
                const taken: [*]u8 = @ptrFromInt(other);
                if (std.mem.readInt(usize, taken[0..8], .little) != other) _ = wrong.fetchAdd(1, .monotonic);
                shared.free(null, taken) catch {
                    _ = wrong.fetchAdd(1, .monotonic);
                };
            }
        }
    };
    var wrong: std.atomic.Value(u32) = .init(0);
    var threads: [3]std.Thread = undefined;
    for (&threads, 1..) |*thread, tag| thread.* = try .spawn(.{}, work.run, .{ &layer, &shelf, @as(u32, @intCast(tag)), &wrong });
    for (threads) |thread| thread.join();
    for (&shelf) |*slot| {
        const address = slot.load(.monotonic);
        if (address != 0) try layer.free(null, @ptrFromInt(address));
    }
    try testing.expectEqual(0, wrong.load(.monotonic));
    try testing.expectEqual(0, layer.liveObjects());
    layer.deinit();
}
