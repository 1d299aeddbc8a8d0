//! The owner slab's scenarios, and one test for each fault that was designed out; test/faults.ts pairs
//! those with their switches.
//!
//! Remote frees come from this thread as well: to the slab a thread is who calls which function. Real
//! threads are in owner_slab_threads_test.zig, every interleaving in testing/scenario_slab.zig. The
//! backend counts spans, so that each test ends with none outside.

const std = @import("std");
const testing = std.testing;
const ds = @import("../ds/ds.zig");
const os = @import("../os/os.zig");
const backend_file = @import("backend.zig");
const owner_slab = @import("owner_slab.zig");

const Backend = backend_file.Backend;
const Slab = owner_slab.OwnerSlab(ds.Real);
const Options = owner_slab.Options;

/// A backend over the test allocator that counts, and refuses on demand.
const Counting = struct {
    spans: u32 = 0,
    taken: u32 = 0,
    refuse_after: u32 = std.math.maxInt(u32),

    fn backend(self: *Counting) Backend {
        return .{ .context = @ptrCast(self), .functions = &.{ .take = take, .give = give } };
    }

    fn take(context: *anyopaque, _: ?u32, bytes: usize, alignment: usize) ?backend_file.Span {
        const self: *Counting = @ptrCast(@alignCast(context));
        if (self.taken >= self.refuse_after) return null;
        const ptr = testing.allocator.rawAlloc(bytes, .fromByteUnits(alignment), @returnAddress()) orelse return null;
        @memset(ptr[0..bytes], 0xA5);
        self.spans += 1;
        self.taken += 1;
        return .{ .ptr = ptr, .bytes = bytes, .zero = false };
    }

    fn give(context: *anyopaque, _: ?u32, ptr: [*]u8, bytes: usize, alignment: usize) void {
        const self: *Counting = @ptrCast(@alignCast(context));
        testing.allocator.rawFree(ptr[0..bytes], .fromByteUnits(alignment), @returnAddress());
        self.spans -= 1;
    }
};

const House = struct {
    counting: Counting = .{},
    slab: *Slab = undefined,

    fn init(house: *House, options: Options) !void {
        house.* = .{};
        house.slab = Slab.create(house.counting.backend(), null, options) orelse return error.Refused;
    }

    fn deinit(house: *House) !void {
        house.slab.close();
        try testing.expect(house.slab.release(null));
        try testing.expectEqual(0, house.counting.spans);
    }

    fn alloc(house: *House) !u64 {
        return house.slab.numberOf(house.slab.alloc(null) orelse return error.Full);
    }
};

fn slots(house: *House, comptime count: u32) ![count]u64 {
    var numbers: [count]u64 = undefined;
    for (&numbers) |*number| number.* = try house.alloc();
    return numbers;
}

test "slots are distinct, aligned, reused last in first out, and never the same number twice" {
    for ([_]u32{ 1, 4, 8, 24, 40, 100 }) |bytes| {
        var house: House = undefined;
        try house.init(.{ .slot_bytes = bytes, .alignment = 4, .capacity = 100 });
        const numbers = try slots(&house, 100);
        try testing.expectEqual(null, house.slab.alloc(null));
        for (numbers, 0..) |number, i| {
            const index: u32 = @truncate(number & 127);
            try testing.expectEqual(i, index);
            const ptr = house.slab.addressOf(index);
            try testing.expectEqual(0, @intFromPtr(ptr) % 4);
            @memset(ptr[0..bytes], @intCast(i));
            try testing.expectEqual(index, house.slab.find(@intFromPtr(ptr)).?);
            if (house.slab.stride > 1) try testing.expectEqual(null, house.slab.find(@intFromPtr(ptr) + 1));
        }
        for (numbers, 0..) |number, i| {
            for (house.slab.addressOf(@truncate(number & 127))[0..bytes]) |byte| try testing.expectEqual(i, byte);
        }
        try house.slab.free(numbers[5]);
        try house.slab.free(numbers[70]);
        const again = try house.alloc();
        try testing.expectEqual(numbers[70] & 127, again & 127);
        try testing.expect(again != numbers[70]);
        try testing.expectEqual(numbers[5] & 127, (try house.alloc()) & 127);
        try house.slab.invariants();
        try house.deinit();
    }
}

test "by address: slots come and go as by number, and what is no slot's beginning is refused" {
    for ([_]u32{ 1, 3, 8, 12, 24, 40, 100, 127 }) |bytes| {
        for ([_]u32{ 100, 400 }) |most| {
            var house: House = undefined;
            try house.init(.{ .slot_bytes = bytes, .alignment = 1, .capacity = 100, .capacity_max = most });
            var addresses: [400]usize = undefined;
            for (addresses[0..most]) |*address| address.* = @intFromPtr(house.slab.take() orelse return error.Full);
            try testing.expectEqual(null, house.slab.take());
            for (addresses[0..most]) |address| {
                if (bytes > 1) try testing.expectEqual(error.Foreign, house.slab.give(address + 1));
                if (bytes > 1) try testing.expectEqual(error.Foreign, house.slab.give(address + bytes - 1));
                try house.slab.give(address);
            }
            try testing.expectEqual(error.Foreign, house.slab.give(house.slab.base - bytes));
            try testing.expectEqual(error.Foreign, house.slab.give(house.slab.base + 1 << 40));
            try testing.expectEqual(error.Foreign, house.slab.give(0));
            try testing.expectEqual(most, house.slab.top);
            try house.slab.invariants();
            try house.deinit();
        }
    }
}

test "numbers stay small while generations are" {
    var house: House = undefined;
    try house.init(.{ .slot_bytes = 8, .capacity = 1000 });
    for (0..100_000) |_| {
        const number = try house.alloc();
        try testing.expect(number < 1 << 31);
        try house.slab.free(number);
    }
    try house.deinit();
}

test "an index whose generations are used up is retired" {
    var house: House = undefined;
    try house.init(.{ .slot_bytes = 8, .capacity = 2, .generation_start = (1 << 29) - 2 });
    const first = try house.alloc();
    try house.slab.free(first);
    const second = try house.alloc();
    try testing.expect(second > first);
    try testing.expectEqual(owner_slab.Outcome.done, house.slab.freeRemote(second));
    const other = try house.alloc();
    try testing.expect(other & 1 != second & 1);
    try testing.expectEqual(null, house.slab.alloc(null));
    try testing.expectEqual(1, house.slab.figures().retired);
    try testing.expect(!house.slab.isLive(second));
    try house.slab.free(other);
    try house.deinit();
}

test "what others free is reused, and four lots of 32 come back exactly" {
    var house: House = undefined;
    try house.init(.{ .slot_bytes = 16, .capacity = 128 });
    const numbers = try slots(&house, 128);
    for (numbers) |number| try testing.expectEqual(owner_slab.Outcome.done, house.slab.freeRemote(number));
    var seen: [128]bool = @splat(false);
    for (0..128) |_| {
        const index = house.slab.alloc(null).?;
        try testing.expect(!seen[index]);
        seen[index] = true;
    }
    try testing.expectEqual(null, house.slab.alloc(null));
    try testing.expectEqual(0, house.slab.corruptionEvents());
    try house.slab.invariants();
    try house.deinit();
}

test "many slots go by one push, in order, until one is refused" {
    for ([_]?u32{ null, 3 }) |bound| {
        var house: House = undefined;
        try house.init(.{ .slot_bytes = 8, .capacity = 64, .queue_capacity = bound });
        const numbers = try slots(&house, 20);
        const first = house.slab.freeRemoteMany(numbers[0..10]);
        try testing.expectEqual(bound orelse 10, first.count);
        try testing.expectEqual(if (bound == null) owner_slab.Outcome.done else .full, first.outcome);
        try testing.expectEqual(first.count, house.slab.figures().queued);
        try house.slab.invariants();
        try testing.expectEqual(first.count, house.slab.drain());
        // What a wrong number among them does stands in the tests of wrong numbers.
        try house.slab.invariants();
        house.slab.close();
        try testing.expectEqual(0, house.slab.freeRemoteMany(numbers[12..]).count);
        try house.deinit();
    }
}

test "a queue of 0 refuses everything, one of 1 and one of 2 what is too much" {
    for (0..3) |capacity| {
        var house: House = undefined;
        try house.init(.{ .slot_bytes = 8, .capacity = 16, .queue_capacity = @intCast(capacity) });
        const numbers = try slots(&house, 4);
        for (0..capacity) |i| try testing.expectEqual(owner_slab.Outcome.done, house.slab.freeRemote(numbers[i]));
        try testing.expectEqual(owner_slab.Outcome.full, house.slab.freeRemote(numbers[capacity]));
        // Refused is not freed.
        try testing.expect(house.slab.isLive(numbers[capacity]));
        try testing.expectEqual(capacity, house.slab.figures().queued);
        try testing.expectEqual(capacity, house.slab.drain());
        if (capacity > 0) try testing.expectEqual(owner_slab.Outcome.done, house.slab.freeRemote(numbers[capacity]));
        try testing.expectEqual(1, house.slab.figures().refused);
        try house.slab.invariants();
        try house.deinit();
    }
}

test "a small queue drains by itself" {
    for ([_]owner_slab.Batch{ .{ .fixed = 64 }, .adaptive }) |batch| {
        for ([_]u32{ 1, 2, 4, 7 }) |capacity| {
            var house: House = undefined;
            try house.init(.{ .slot_bytes = 8, .capacity = 256, .queue_capacity = capacity, .batch = batch });
            const kept = try slots(&house, 64);
            var refused: u32 = 0;
            for (kept) |number| {
                if (house.slab.freeRemote(number) == .full) refused += 1;
                // The owner works on; it neither drains nor runs out.
                for (0..4) |_| {
                    const own = try house.alloc();
                    try house.slab.free(own);
                }
            }
            try testing.expectEqual(0, refused);
            try house.deinit();
        }
    }
}

test "an adaptive threshold moves both ways with what others really do" {
    var house: House = undefined;
    try house.init(.{ .slot_bytes = 8, .capacity = 4096, .queue_capacity = 1024, .batch = .adaptive });
    const slab = house.slab;
    try testing.expectEqual(64, slab.policy.threshold);
    const numbers = try slots(&house, 2000);
    // Nobody frees: nothing moves.
    for (0..4000) |_| try slab.free(try house.alloc());
    try testing.expectEqual(64, slab.policy.threshold);
    // Two frees for each of the owner's operations.
    var next: usize = 0;
    while (next < 1600) : (next += 4) {
        for (numbers[next..][0..4]) |number| _ = slab.freeRemote(number);
        try slab.free(try house.alloc());
    }
    try testing.expectEqual(128, slab.policy.threshold);
    // A trickle, which would wait for long.
    for (numbers[1600..]) |number| {
        _ = slab.freeRemote(number);
        for (0..8) |_| try slab.free(try house.alloc());
    }
    try testing.expect(slab.policy.threshold <= 32);
    try slab.invariants();
    try house.deinit();
}

test "slots that others freed come before memory that was never used" {
    var house: House = undefined;
    try house.init(.{ .slot_bytes = 64, .capacity = 100_000 });
    var numbers: [64]u64 = undefined;
    for (0..500) |_| {
        for (&numbers) |*number| number.* = try house.alloc();
        for (numbers) |number| try testing.expectEqual(owner_slab.Outcome.done, house.slab.freeRemote(number));
    }
    try testing.expect(house.slab.carved <= 128);
    try house.deinit();
}

test "no operation of the owner works off more than its share" {
    var house: House = undefined;
    const count = 10_000;
    try house.init(.{ .slot_bytes = 8, .capacity = count + 64 });
    const numbers = try testing.allocator.alloc(u64, count);
    defer testing.allocator.free(numbers);
    for (numbers) |*number| number.* = try house.alloc();
    for (numbers) |number| _ = house.slab.freeRemote(number);
    var before = house.slab.top;
    var most: u32 = 0;
    for (0..2000) |_| {
        _ = try house.alloc();
        most = @max(most, (house.slab.top + 1) -| before);
        before = house.slab.top;
    }
    try testing.expect(most > 0);
    try testing.expect(most <= owner_slab.batch_max);
    try house.deinit();
}

test "draining takes no memory from anyone" {
    var house: House = undefined;
    try house.init(.{ .slot_bytes = 8, .capacity = 1000 });
    const taken = house.counting.taken;
    house.counting.refuse_after = taken;
    const numbers = try slots(&house, 900);
    for (numbers) |number| _ = house.slab.freeRemote(number);
    try testing.expectEqual(900, house.slab.drain());
    try testing.expectEqual(taken, house.counting.taken);
    try house.deinit();
}

test "a second free is found at the call, by the owner and by others" {
    var house: House = undefined;
    try house.init(.{ .slot_bytes = 8, .capacity = 16 });
    const numbers = try slots(&house, 4);
    try house.slab.free(numbers[0]);
    try testing.expectEqual(error.DoubleFree, house.slab.free(numbers[0]));
    try testing.expectEqual(owner_slab.Outcome.double_free, house.slab.freeRemote(numbers[0]));
    try testing.expectEqual(owner_slab.Outcome.done, house.slab.freeRemote(numbers[1]));
    try testing.expectEqual(owner_slab.Outcome.double_free, house.slab.freeRemote(numbers[1]));
    try testing.expectEqual(error.DoubleFree, house.slab.free(numbers[1]));
    // Reused: the old number stays dead.
    const again = try house.alloc();
    try testing.expectEqual(numbers[0] & 15, again & 15);
    try testing.expectEqual(owner_slab.Outcome.double_free, house.slab.freeRemote(numbers[0]));
    try testing.expectEqual(error.DoubleFree, house.slab.free(numbers[0]));
    const many = house.slab.freeRemoteMany(&.{ numbers[2], numbers[2], numbers[3] });
    try testing.expectEqual(1, many.count);
    try testing.expectEqual(owner_slab.Outcome.double_free, many.outcome);
    try testing.expect(house.slab.isLive(again) and house.slab.isLive(numbers[3]));
    try testing.expectEqual(7, house.slab.corruptionEvents());
    try house.slab.invariants();
    try house.deinit();
    for ([_]u32{ 1, 3, 8, 12, 24, 40, 100, 127 }) |bytes| {
        try house.init(.{ .slot_bytes = bytes, .alignment = 1, .capacity = 100 });
        var addresses: [100]usize = undefined;
        for (&addresses) |*address| address.* = @intFromPtr(house.slab.take() orelse return error.Full);
        for (addresses) |address| {
            try house.slab.give(address);
            try testing.expectEqual(error.DoubleFree, house.slab.give(address));
        }
        try house.deinit();
    }
}

test "a number that was never issued is refused and counted" {
    var house: House = undefined;
    try house.init(.{ .slot_bytes = 8, .capacity = 16, .generation_start = 5 });
    const number = try house.alloc();
    const forged = [_]u64{ 0, 1, number + 1, number + 16, (1 << 53) - 1, std.math.maxInt(u64), 4 << 4 | 9 };
    for (forged, 1..) |wrong, count| {
        try testing.expectEqual(error.Foreign, house.slab.free(wrong));
        try testing.expectEqual(owner_slab.Outcome.foreign, house.slab.freeRemote(wrong));
        try testing.expect(!house.slab.isLive(wrong));
        try testing.expectEqual(2 * count, house.slab.corruptionEvents());
    }
    const many = house.slab.freeRemoteMany(&.{ forged[6], number });
    try testing.expectEqual(0, many.count);
    try testing.expectEqual(owner_slab.Outcome.foreign, many.outcome);
    try testing.expect(house.slab.isLive(number));
    try house.deinit();
}

test "a damaged entry of the owner's list costs no other slot" {
    var house: House = undefined;
    try house.init(.{ .slot_bytes = 8, .capacity = 64 });
    const numbers = try slots(&house, 64);
    for (numbers) |number| try house.slab.free(number);
    house.slab.stack[40] = 0xFFFF_FFFF;
    var got: u32 = 0;
    while (house.slab.alloc(null)) |_| got += 1;
    // Even that one is found again, by its word.
    try testing.expectEqual(64, got);
    try testing.expectEqual(1, house.slab.corruptionEvents());
    try house.deinit();
}

test "slots under marks that are gone are found before the slab says that it is full" {
    for ([_]?u32{ null, 60 }) |bound| {
        var house: House = undefined;
        try house.init(.{ .slot_bytes = 8, .capacity = 100, .queue_capacity = bound });
        const numbers = try slots(&house, 100);
        for (numbers[0..60]) |number| _ = house.slab.freeRemote(number);
        house.slab.marks.blocks[1].raw = 0;
        var got: u32 = 0;
        while (house.slab.alloc(null)) |_| got += 1;
        try testing.expectEqual(60, got);
        try house.slab.invariants();
        try house.deinit();
    }
}

test "marks where nothing was freed cost a look and nothing else" {
    var house: House = undefined;
    try house.init(.{ .slot_bytes = 8, .capacity = 5000 });
    _ = try slots(&house, 5000);
    for (house.slab.marks.blocks[0 .. house.slab.marks.blocks_count + house.slab.marks.groups_count]) |*mark| mark.raw = 255;
    try testing.expectEqual(null, house.slab.alloc(null));
    try testing.expectEqual(0, house.slab.drain());
    try testing.expectEqual(0, house.slab.corruptionEvents());
    try house.slab.invariants();
    try house.deinit();
}

test "an old entry that leads to a live slot does not hand it out again" {
    var house: House = undefined;
    try house.init(.{ .slot_bytes = 8, .capacity = 8 });
    const numbers = try slots(&house, 8);
    try house.slab.free(numbers[1]);
    try house.slab.free(numbers[2]);
    // An old entry, valid once, put back.
    house.slab.stack[0] = 5;
    _ = house.slab.freeRemote(numbers[3]);
    var got: u32 = 0;
    while (house.slab.alloc(null)) |index| {
        got += 1;
        try testing.expect(index >= 1 and index <= 3);
    }
    try testing.expectEqual(3, got);
    try house.deinit();
}

test "a slab grows by segments up to its bound" {
    var house: House = undefined;
    try house.init(.{ .slot_bytes = 24, .capacity = 100, .capacity_max = 1000 });
    try testing.expectEqual(128, house.slab.capacity);
    const numbers = try slots(&house, 1000);
    try testing.expectEqual(null, house.slab.alloc(null));
    try testing.expectEqual(8, house.slab.figures().segments);
    for (numbers) |number| {
        const index: u32 = @truncate(number & 1023);
        const ptr = house.slab.addressOf(index);
        @memset(ptr[0..24], @truncate(index));
        try testing.expectEqual(index, house.slab.find(@intFromPtr(ptr)).?);
        try testing.expectEqual(null, house.slab.find(@intFromPtr(ptr) + 8));
    }
    for (numbers) |number| {
        const index: u32 = @truncate(number & 1023);
        for (house.slab.addressOf(index)[0..24]) |byte| try testing.expectEqual(@as(u8, @truncate(index)), byte);
        try house.slab.free(number);
    }
    try house.slab.invariants();
    try house.deinit();
    // Growth that is refused is exhaustion, and may succeed later.
    try house.init(.{ .slot_bytes = 8, .capacity = 32, .capacity_max = 64 });
    _ = try slots(&house, 32);
    house.counting.refuse_after = 0;
    try testing.expectEqual(null, house.slab.alloc(null));
    house.counting.refuse_after = 1000;
    _ = try slots(&house, 32);
    try testing.expectEqual(null, house.slab.alloc(null));
    try house.deinit();
}

test "a backend that refuses at any point leaves nothing behind" {
    for (0..4) |allowed| {
        var counting: Counting = .{ .refuse_after = @intCast(allowed) };
        const slab = Slab.create(counting.backend(), null, .{ .slot_bytes = 8, .capacity = 10 });
        try testing.expectEqual(allowed >= 2, slab != null);
        if (slab) |made| _ = made.release(null);
        try testing.expectEqual(0, counting.spans);
    }
}

test "options that do not go together are refused" {
    var counting: Counting = .{};
    const wrong = [_]Options{
        .{ .slot_bytes = 0, .capacity = 1 },
        .{ .slot_bytes = 8, .capacity = 0 },
        .{ .slot_bytes = 8, .alignment = 3, .capacity = 1 },
        .{ .slot_bytes = 8, .capacity = owner_slab.slots_max + 1 },
        .{ .slot_bytes = owner_slab.slot_bytes_max + 1, .capacity = 1 },
        .{ .slot_bytes = 8, .capacity = 10, .capacity_max = 5 },
        .{ .slot_bytes = 8, .capacity = 10, .generation_start = 0 },
    };
    for (wrong) |options| try testing.expectEqual(null, Slab.create(counting.backend(), null, options));
    try testing.expectEqual(0, counting.taken);
}

test "a closed slab took in what had come, and refuses what comes" {
    var house: House = undefined;
    try house.init(.{ .slot_bytes = 8, .capacity = 16 });
    const numbers = try slots(&house, 8);
    for (numbers[0..5]) |number| _ = house.slab.freeRemote(number);
    // A remote's reference keeps the memory.
    house.slab.retain();
    house.slab.close();
    try testing.expect(!house.slab.release(null));
    try testing.expectEqual(3, house.slab.figures().live);
    for (numbers[5..]) |number| {
        try testing.expect(house.slab.isLive(number));
        try testing.expectEqual(owner_slab.Outcome.closed, house.slab.freeRemote(number));
        try testing.expectEqual(owner_slab.Outcome.closed, house.slab.freeRemote(number));
    }
    house.slab.close();
    try testing.expect(house.counting.spans > 0);
    try testing.expect(house.slab.release(null));
    try testing.expectEqual(0, house.counting.spans);
}

test "a sleeping owner is woken by the first free, and by no later one" {
    var house: House = undefined;
    try house.init(.{ .slot_bytes = 8, .capacity = 2 });
    const numbers = try slots(&house, 2);
    try testing.expect(house.slab.fallAsleep() != null);
    try testing.expectEqual(owner_slab.Outcome.done_wake, house.slab.freeRemote(numbers[0]));
    try testing.expectEqual(owner_slab.Outcome.done, house.slab.freeRemote(numbers[1]));
    house.slab.wokeUp();
    // With something there nobody sleeps.
    try testing.expectEqual(null, house.slab.fallAsleep());
    _ = try slots(&house, 2);
    try testing.expect(house.slab.fallAsleep() != null);
    house.slab.wokeUp();
    try testing.expectEqual(0, house.slab.drain());
    try house.slab.invariants();
    try house.deinit();
}

test "a request that no slot can serve leaves the queue alone" {
    var house: House = undefined;
    try house.init(.{ .slot_bytes = 16, .capacity = 16 });
    const number = try house.alloc();
    _ = house.slab.freeRemote(number);
    const allocator = house.slab.allocator();
    try testing.expectError(error.OutOfMemory, allocator.alloc(u8, 17));
    try testing.expectError(error.OutOfMemory, allocator.alignedAlloc(u8, .@"64", 8));
    try testing.expectEqual(1, house.slab.figures().queued);
    const bytes = try allocator.alloc(u8, 16);
    try testing.expect(allocator.resize(bytes, 10));
    try testing.expect(!allocator.resize(bytes, 17));
    allocator.free(bytes);
    try testing.expectEqual(0, house.slab.corruptionEvents());
    try house.deinit();
}

test "usable size is the stride, and the range is the slots'" {
    var house: House = undefined;
    try house.init(.{ .slot_bytes = 20, .alignment = 8, .capacity = 10 });
    const figures = house.slab.figures();
    try testing.expectEqual(24, figures.stride);
    try testing.expectEqual(20, figures.slot_bytes);
    try testing.expectEqual(10, figures.capacity);
    try testing.expectEqual(240, house.slab.base_bytes);
    try house.deinit();
}

test "a slab lives in a caller's memory without a backend" {
    const options: Options = .{ .slot_bytes = 40, .alignment = 64, .capacity = 50 };
    const memory = try testing.allocator.alloc(u8, Slab.bytesFor(options).?);
    defer testing.allocator.free(memory);
    @memset(memory, 0xEE);
    try testing.expectEqual(null, Slab.createIn(memory[1..], options));
    const slab = Slab.createIn(memory, options).?;
    for (0..50) |_| {
        const ptr = slab.addressOf(slab.alloc(null).?);
        try testing.expectEqual(0, @intFromPtr(ptr) % 64);
        @memset(ptr[0..40], 0);
    }
    try testing.expectEqual(null, slab.alloc(null));
    try testing.expect(slab.release(null));
}

test "a slab over mappings, and over another allocator" {
    const mapped = backend_file.SystemBackend(os.Native).backend;
    const over_std = Backend.ofAllocator(&testing.allocator);
    for ([_]Backend{ mapped, over_std }) |backend| {
        const slab = Slab.create(backend, null, .{ .slot_bytes = 100, .capacity = 1000, .capacity_max = 5000 }).?;
        for (0..5000) |_| @memset(slab.addressOf(slab.alloc(null).?)[0..100], 1);
        try testing.expectEqual(null, slab.alloc(null));
        try testing.expect(slab.release(null));
    }
}

test "a typed slab gives elements and takes them from anywhere" {
    const Point = struct { x: f64, y: f64, name: [3]u8 };
    const Points = owner_slab.TypedSlab(ds.Real, Point);
    const points = Points.init(Backend.ofAllocator(&testing.allocator), .{ .slot_bytes = 1, .capacity = 4 }).?;
    const first = points.create().?;
    first.* = .{ .x = 1, .y = 2, .name = "abc".* };
    const second = points.create().?;
    try points.destroy(first);
    try testing.expectEqual(owner_slab.Outcome.done, Points.destroyRemote(points.slab, second));
    try testing.expectError(error.Foreign, points.destroy(@ptrFromInt(@intFromPtr(second) + 8)));
    points.deinit();
}

test "slots say who holds them, where that is wanted" {
    var house: House = undefined;
    try house.init(.{ .slot_bytes = 8, .capacity = 16, .leases = true });
    const numbers = try slots(&house, 4);
    try testing.expect(house.slab.hold(numbers[1], 7));
    try testing.expect(house.slab.hold(numbers[3], 9));
    const is = struct {
        fn wanted(holder: u32, found: u32) bool {
            return holder == found;
        }
    }.wanted;
    try testing.expectEqual(numbers[3], house.slab.nextHeld(0, @as(u32, 9), is));
    try house.slab.free(numbers[3]);
    try testing.expectEqual(0, house.slab.nextHeld(0, @as(u32, 9), is));
    // The next tenant is nobody's.
    const again = try house.alloc();
    try testing.expectEqual(numbers[3] & 15, again & 15);
    try testing.expectEqual(0, house.slab.nextHeld(0, @as(u32, 9), is));
    try testing.expect(!house.slab.hold(numbers[3], 9));
    try house.deinit();
}
