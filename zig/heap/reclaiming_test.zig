//! The reclaiming allocator's scenarios, and one test for each fault that was designed out;
//! test/faults.ts pairs those with their switches.
//!
//! Invariant checked after each: the backend got back what it gave. Memory: mapped by the store of
//! reclaiming_house.zig, so that a use after it was given back faults.

const std = @import("std");
const testing = std.testing;
const ds = @import("../ds/ds.zig");
const os = @import("../os/os.zig");
const reclaiming = @import("reclaiming.zig");
const Store = @import("reclaiming_house.zig").Store;
const backend_file = @import("backend.zig");

const kib = 1 << 10;
const mib = 1 << 20;

const Small = reclaiming.Reclaiming(.{ .slot_bytes_max = 4096, .threads_max = 16 });
const Large = reclaiming.Reclaiming(.{ .threads_max = 16 });

/// A heap over a store; at the end it must hold nothing.
fn House(comptime Heap: type) type {
    return struct {
        store: Store = .{},
        heap: Heap = .{},

        const Self = @This();

        fn init(options: Heap.Options) !*Self {
            const house = try testing.allocator.create(Self);
            house.* = .{};
            try testing.expect(house.heap.init(house.store.backend(), options));
            return house;
        }

        fn deinit(house: *Self) void {
            house.heap.deinit();
            house.store.deinit();
            testing.allocator.destroy(house);
        }

        /// No slot is live, and no batch is left. (That no metadata is left has a test of its own.)
        fn expectBack(house: *Self) !void {
            _ = house.heap.reclaim();
            const figures = house.heap.figures();
            try testing.expectEqual(figures.allocated_metadata, figures.allocated_from_fallback);
            try testing.expectEqual(0, figures.live_slots);
            try testing.expectEqual(0, figures.passed);
            try testing.expectEqual(@as(f64, @floatFromInt(house.store.held_bytes)), figures.allocated_metadata);
            try testing.expectEqual(0, house.store.wrong);
        }
    };
}

test "a block fills and empties in any order, and its slots are apart" {
    const house = try House(Small).init(.{});
    defer house.deinit();
    var slots: [3000][*]u8 = undefined;
    for (&slots, 0..) |*slot, number| {
        slot.* = house.heap.alloc(0, 64, 0).?;
        try testing.expectEqual(0, @intFromPtr(slot.*) % 64);
        std.mem.writeInt(u64, slot.*[0..8], number, .little);
        @memset(slot.*[8..64], 0xAA);
    }
    for (slots, 0..) |slot, number| {
        try testing.expectEqual(number, std.mem.readInt(u64, slot[0..8], .little));
    }
    try testing.expectEqual(3000, house.heap.figures().live_slots);
    var prng: std.Random.DefaultPrng = .init(testing.random_seed);
    prng.random().shuffle([*]u8, &slots);
    for (slots) |slot| try house.heap.free(0, slot);
    try testing.expectEqual(0, house.heap.figures().live_slots);
    try house.expectBack();
}

test "every size and alignment is served by the smallest slot that fits" {
    const house = try House(Large).init(.{});
    defer house.deinit();
    var bytes: usize = 1;
    while (bytes <= 5000) : (bytes += 7) {
        var alignment: usize = 1;
        while (alignment <= 4096) : (alignment *= 2) {
            const ptr = house.heap.alloc(0, bytes, alignment).?;
            try testing.expectEqual(0, @intFromPtr(ptr) % alignment);
            const usable = house.heap.usableSize(ptr).?;
            try testing.expectEqual(std.math.ceilPowerOfTwo(usize, @max(bytes, alignment, 16)), usable);
            @memset(ptr[0..bytes], @truncate(bytes));
            try house.heap.free(0, ptr);
            try testing.expectEqual(null, house.heap.usableSize(ptr));
        }
    }
    try house.expectBack();
}

test "a slot's address is a multiple of its size, up to two MiB" {
    const house = try House(Large).init(.{});
    defer house.deinit();
    for (0..Large.classes_count) |class| {
        var slots: [5][*]u8 = undefined;
        for (&slots) |*slot| {
            slot.* = house.heap.alloc(0, Large.slotBytes(class), 0).?;
            try testing.expectEqual(0, @intFromPtr(slot.*) % Large.slotBytes(class));
            slot.*[0] = 1;
            slot.*[Large.slotBytes(class) - 1] = 1;
        }
        for (slots) |slot| try house.heap.free(0, slot);
    }
    try house.expectBack();
}

test "what is larger passes through and is counted" {
    const house = try House(Small).init(.{});
    defer house.deinit();
    const large = house.heap.alloc(0, 4097, 0).?;
    const aligned = house.heap.alloc(0, 16, 64 * kib).?;
    try testing.expectEqual(0, @intFromPtr(aligned) % (64 * kib));
    try testing.expectEqual(4097, house.heap.usableSize(large).?);
    const figures = house.heap.figures();
    try testing.expectEqual(2, figures.passed);
    try testing.expectEqual(4097 + 16, figures.passed_bytes);
    try testing.expectEqual(0, figures.live_slots);
    try testing.expectError(error.Foreign, house.heap.free(0, large + 1));
    try testing.expectError(error.Foreign, house.heap.free(0, large + 4096));
    try house.heap.free(0, large);
    try testing.expectError(error.Foreign, house.heap.free(0, large));
    try house.heap.free(null, aligned);
    try testing.expectEqual(2, house.heap.figures().passed_total);
    try testing.expectEqual(0, house.heap.liveObjects());
    try house.expectBack();
}

test "std's tests of allocators pass, with an index and without" {
    const house = try House(Small).init(.{});
    defer house.deinit();
    var face = house.heap.face(3);
    for ([_]std.mem.Allocator{ house.heap.allocator(), face.allocator() }) |allocator| {
        try std.heap.testAllocator(allocator);
        try std.heap.testAllocatorAligned(allocator);
        try std.heap.testAllocatorLargeAlignment(allocator);
        try std.heap.testAllocatorAlignedShrink(allocator);
        try @import("../testing/model.zig").exercise(allocator, testing.random_seed, 3000, .{ .bytes_max = 9000, .alignment_shift_max = 13 });
    }
    try house.expectBack();
}

test "a thread frees what another allocated, and takes it again" {
    const house = try House(Small).init(.{});
    defer house.deinit();
    var slots: [500][*]u8 = undefined;
    for (&slots) |*slot| slot.* = house.heap.alloc(1, 100, 0).?;
    for (slots[0..400]) |slot| try house.heap.free(2, slot);
    for (slots[400..]) |slot| try house.heap.free(null, slot);
    house.heap.threadEnded(1);
    const takes = house.store.takes;
    for (&slots) |*slot| slot.* = house.heap.alloc(2, 100, 0).?;
    try testing.expectEqual(takes, house.store.takes);
    for (slots) |slot| try house.heap.free(1, slot);
    try house.expectBack();
}

test "any other allocator of Zig's can be the backend" {
    const heap = try testing.allocator.create(Large);
    defer testing.allocator.destroy(heap);
    heap.* = .{};
    const std_allocator = std.heap.page_allocator;
    try testing.expect(heap.init(backend_file.Backend.ofAllocator(&std_allocator), .{}));
    defer heap.deinit();
    var slots: [200][*]u8 = undefined;
    for (&slots, 0..) |*slot, number| slot.* = heap.alloc(0, @as(usize, 16) << @intCast(number % 13), 0).?;
    for (slots) |slot| try heap.free(0, slot);
    try testing.expect(heap.reclaim() > 0);
    try testing.expectEqual(0, heap.figures().live_slots);
}

test "the reclaimer comes by the clock, for enough slack, and sooner under pressure" {
    const Os = os.fake;
    const Timed = reclaiming.Reclaiming(.{ .Os = Os, .slot_bytes_max = 4096, .threads_max = 4 });
    const house = try House(Timed).init(.{ .reclaim_every_ms = 5000, .min_slack_bytes = mib, .under_pressure = true });
    defer house.deinit();
    Os.resetWith(.{});
    defer Os.reset();
    Os.advance(10 * std.time.ns_per_s);
    const fill = struct {
        fn run(heap: *Timed, count: usize) !void {
            var slots: [1200][*]u8 = undefined;
            for (slots[0..count]) |*slot| slot.* = heap.alloc(0, 2048, 0).?;
            for (slots[0..count]) |slot| try heap.free(0, slot);
        }
    }.run;
    const slack = struct {
        fn of(heap: *Timed) f64 {
            const figures = heap.figures();
            return figures.allocated_from_fallback - figures.allocated_metadata;
        }
    }.of;
    try fill(&house.heap, 200);
    house.heap.tick();
    // Too little slack.
    try testing.expect(house.store.held_bytes > 0);
    try fill(&house.heap, 1200);
    house.heap.tick();
    // Too soon.
    try testing.expect(house.store.held_bytes > 2 * mib);
    Os.advance(5 * std.time.ns_per_s);
    house.heap.tick();
    try testing.expectEqual(0, slack(&house.heap));
    try fill(&house.heap, 200);
    Os.configure(.{ .memory_pressure = 500 });
    Os.advance(4 * std.time.ns_per_s);
    house.heap.tick();
    try testing.expect(house.store.held_bytes > 0);
    Os.advance(1 * std.time.ns_per_s);
    house.heap.tick();
    try testing.expectEqual(0, slack(&house.heap));
}

test "after a reclaim the heap works as before, and a second one finds nothing" {
    const house = try House(Small).init(.{});
    defer house.deinit();
    for (0..5) |_| {
        var slots: [2000][*]u8 = undefined;
        for (&slots, 0..) |*slot, number| slot.* = house.heap.alloc(0, 16 + number % 700, 0).?;
        var freed: usize = 0;
        for (slots, 0..) |slot, number| if (number % 3 != 0) {
            try house.heap.free(0, slot);
            freed += 1;
        };
        _ = house.heap.reclaim();
        try testing.expectEqual(0, house.heap.reclaim());
        try testing.expectEqual(@as(f64, @floatFromInt(2000 - freed)), house.heap.figures().live_slots);
        for (slots, 0..) |slot, number| if (number % 3 == 0) try house.heap.free(0, slot);
        try house.expectBack();
    }
}

test "retained slots are freed in any order, and every byte comes back" {
    const house = try House(Small).init(.{});
    defer house.deinit();
    const count = 20_000;
    const slots = try testing.allocator.alloc([*]u8, count);
    defer testing.allocator.free(slots);
    var prng: std.Random.DefaultPrng = .init(testing.random_seed);
    for (0..4) |order| {
        for (slots) |*slot| slot.* = house.heap.alloc(0, 64, 0).?;
        switch (order) {
            0 => {},
            1 => std.mem.reverse([*]u8, slots),
            2 => prng.random().shuffle([*]u8, slots),
            else => {
                // Sparse: every hundredth stays until the end.
                for (slots, 0..) |slot, at| if (at % 100 != 0) try house.heap.free(0, slot);
                try testing.expectEqual(count / 100, house.heap.figures().live_slots);
                for (slots, 0..) |slot, at| if (at % 100 == 0) try house.heap.free(0, slot);
            },
        }
        if (order < 3) for (slots) |slot| try house.heap.free(0, slot);
        try house.expectBack();
    }
}

test "a million slots come and go" {
    const house = try House(Small).init(.{});
    defer house.deinit();
    const slots = try testing.allocator.alloc([*]u8, 1_000_000);
    defer testing.allocator.free(slots);
    for (slots) |*slot| slot.* = house.heap.alloc(0, 32, 0).?;
    // The last first, which even a heap that walks could do.
    std.mem.reverse([*]u8, slots);
    for (slots) |slot| try house.heap.free(0, slot);
    const given = house.heap.reclaim();
    try testing.expect(given >= 32_000_000);
    try house.expectBack();
}

test "what a thread that has ended owned is everybody's" {
    const house = try House(Small).init(.{});
    defer house.deinit();
    const kept = house.heap.alloc(5, 2048, 0).?;
    house.heap.threadEnded(5);
    const takes = house.store.takes;
    for (0..31) |_| _ = house.heap.alloc(6, 2048, 0).?;
    try testing.expectEqual(takes, house.store.takes);
    try house.heap.free(6, kept);
}

test "the backend may answer more than it was asked" {
    for ([_]usize{ 8, 4096, 12345 }) |extra| {
        const house = try House(Small).init(.{});
        defer house.deinit();
        house.store.extra = extra;
        var slots: [300][*]u8 = undefined;
        for (&slots) |*slot| slot.* = house.heap.alloc(0, 1000, 0).?;
        const passed = house.heap.alloc(0, 10_000, 0).?;
        for (slots) |slot| try house.heap.free(0, slot);
        try house.heap.free(0, passed);
        try house.expectBack();
    }
    // So little more that its length finds no place: refused, and given back.
    const house = try House(Small).init(.{});
    defer house.deinit();
    house.store.extra = 3;
    try testing.expectEqual(null, house.heap.alloc(0, 100, 0));
    try house.expectBack();
}

test "a refusal at any call of the backend loses nothing" {
    for (1..12) |nth| for ([_]bool{ false, true }) |always| {
        const house = try House(Small).init(.{});
        defer house.deinit();
        house.store.refuse_at = nth;
        house.store.always = always;
        var slots: [3000]?[*]u8 = undefined;
        for (&slots, 0..) |*slot, number| slot.* = house.heap.alloc(0, 16 + number % 5000, 0);
        for (slots) |slot| if (slot) |ptr| try house.heap.free(0, ptr);
        try house.expectBack();
    };
}

// Faults that were designed out, by the numbers of the model they were seen in.

test "work for one slot does not grow with the number of slots" {
    const Counted = reclaiming.Reclaiming(.{ .slot_bytes_max = 4096, .threads_max = 4, .count_steps = true });
    const house = try House(Counted).init(.{});
    defer house.deinit();
    const slots = try testing.allocator.alloc([*]u8, 100_000);
    defer testing.allocator.free(slots);
    for (slots) |*slot| slot.* = house.heap.alloc(0, 64, 0).?;
    var prng: std.Random.DefaultPrng = .init(testing.random_seed);
    prng.random().shuffle([*]u8, slots);
    const before = house.heap.steps();
    for (slots) |slot| try house.heap.free(0, slot);
    for (slots) |*slot| slot.* = house.heap.alloc(0, 64, 0).?;
    // At most one batch looked at for a free, and one for each block that is claimed.
    try testing.expect(house.heap.steps() - before <= 2 * slots.len);
    for (slots) |slot| try house.heap.free(0, slot);
    try house.expectBack();
}

test "a lost race is tried again, not taken for a full batch" {
    const Racing = reclaiming.Reclaiming(.{ .Sync = Unlucky, .slot_bytes_max = 4096, .threads_max = 4 });
    const house = try House(Racing).init(.{});
    defer house.deinit();
    const first = house.heap.alloc(0, 64, 0).?;
    const takes = house.store.takes;
    Unlucky.misses = 1;
    const second = house.heap.alloc(1, 64, 0).?;
    try testing.expectEqual(0, Unlucky.misses);
    try testing.expectEqual(takes, house.store.takes);
    try house.heap.free(0, first);
    try house.heap.free(1, second);
    try house.expectBack();
}

/// The synchronisation that ships, but for a compare-and-swap on a batch that loses when told.
const Unlucky = struct {
    var misses: u32 = 0;

    pub fn Atomic(comptime T: type) type {
        return extern struct {
            raw: ds.Real.Atomic(T),

            const Cell = @This();
            const Site = @TypeOf(.site);
            const Order = ds.Order;

            pub inline fn init(value: T) Cell {
                return .{ .raw = .init(value) };
            }
            pub inline fn load(cell: *const Cell, comptime order: Order, comptime site: Site) T {
                return cell.raw.load(order, site);
            }
            pub inline fn store(cell: *Cell, value: T, comptime order: Order, comptime site: Site) void {
                cell.raw.store(value, order, site);
            }
            pub inline fn swap(cell: *Cell, value: T, comptime order: Order, comptime site: Site) T {
                return cell.raw.swap(value, order, site);
            }
            pub inline fn fetchAdd(cell: *Cell, value: T, comptime order: Order, comptime site: Site) T {
                return cell.raw.fetchAdd(value, order, site);
            }
            pub inline fn fetchSub(cell: *Cell, value: T, comptime order: Order, comptime site: Site) T {
                return cell.raw.fetchSub(value, order, site);
            }
            pub inline fn fetchOr(cell: *Cell, value: T, comptime order: Order, comptime site: Site) T {
                return cell.raw.fetchOr(value, order, site);
            }
            pub inline fn fetchAnd(cell: *Cell, value: T, comptime order: Order, comptime site: Site) T {
                return cell.raw.fetchAnd(value, order, site);
            }
            pub inline fn cmpxchg(cell: *Cell, old: T, new: T, comptime success: Order, comptime failure: Order, comptime site: Site) ?T {
                if (comptime std.mem.eql(u8, @tagName(site), "batch_claim")) {
                    if (misses > 0) {
                        misses -= 1;
                        return cell.raw.load(failure, site);
                    }
                }
                return cell.raw.cmpxchg(old, new, success, failure, site);
            }
        };
    }
    pub const lightFence = ds.Real.lightFence;
    pub const heavyFence = ds.Real.heavyFence;
    pub const pause = ds.Real.pause;
};

test "a backend whose memory is full of ones serves as well" {
    const house = try House(Large).init(.{});
    defer house.deinit();
    house.store.fill = 0xFF;
    for (0..Large.classes_count) |class| {
        var slots: [40][*]u8 = undefined;
        for (&slots) |*slot| slot.* = house.heap.alloc(0, Large.slotBytes(class), 0).?;
        for (slots, 0..) |slot, number| try house.heap.free(if (number % 2 == 0) 0 else null, slot);
    }
    // An address beside everything that is known leads nowhere.
    try testing.expectError(error.Foreign, house.heap.free(0, @ptrFromInt(0x7000_0000_0000)));
    try house.expectBack();
}

test "a backend may allocate from the allocator that asks it" {
    const Nested = struct {
        var heap: *Small = undefined;
        var depth: u32 = 0;
        var locked: u32 = 0;

        fn call(what: Store.Call) void {
            if (heap.ledger.isHeld() or heap.reclaimer.isHeld()) {
                locked += @intFromBool(what == .take);
                return;
            }
            if (depth == 2) return;
            depth += 1;
            defer depth -= 1;
            const slot = heap.alloc(0, 48, 0) orelse return;
            heap.free(0, slot) catch @panic("lost");
            _ = heap.reclaim();
        }
    };
    const house = try House(Small).init(.{});
    defer house.deinit();
    Nested.heap = &house.heap;
    Nested.locked = 0;
    house.store.hook = Nested.call;
    var slots: [500][*]u8 = undefined;
    for (&slots, 0..) |*slot, number| slot.* = house.heap.alloc(0, 16 + number * 8, 0).?;
    try testing.expectEqual(0, Nested.locked);
    for (slots) |slot| try house.heap.free(0, slot);
    house.store.hook = null;
    try house.expectBack();
}

test "memory goes back with no lock held" {
    const Watched = struct {
        var heap: *Small = undefined;
        var locked: u32 = 0;

        fn call(_: Store.Call) void {
            if (heap.ledger.isHeld() or heap.reclaimer.isHeld()) locked += 1;
        }
    };
    const house = try House(Small).init(.{});
    defer house.deinit();
    var slots: [500][*]u8 = undefined;
    for (&slots) |*slot| slot.* = house.heap.alloc(0, 1024, 0).?;
    for (slots) |slot| try house.heap.free(0, slot);
    Watched.heap = &house.heap;
    Watched.locked = 0;
    house.store.hook = Watched.call;
    try testing.expect(house.heap.reclaim() > 500 * 1024);
    try testing.expectEqual(0, Watched.locked);
    house.store.hook = null;
    try house.expectBack();
}

test "a second free is refused before anything changes, whoever frees" {
    const house = try House(Small).init(.{});
    defer house.deinit();
    const threads = [_]?u32{ 0, 1, null };
    for (threads) |first| for (threads) |second| {
        const slot = house.heap.alloc(0, 64, 0).?;
        const other = house.heap.alloc(0, 64, 0).?;
        try house.heap.free(first, slot);
        try testing.expectError(error.DoubleFree, house.heap.free(second, slot));
        // Nothing is lost, and the neighbour lives.
        try testing.expectEqual(1, house.heap.figures().live_slots);
        try house.heap.free(0, other);
        try house.expectBack();
    };
    try testing.expectEqual(9, house.heap.figures().wrong_frees);
    // In blocks that rest with their thread, too.
    var slots: [2000][*]u8 = undefined;
    for (&slots) |*slot| slot.* = house.heap.alloc(0, 64, 0).?;
    for (slots) |slot| {
        try house.heap.free(0, slot);
        for (threads) |thread| try testing.expectError(error.DoubleFree, house.heap.free(thread, slot));
    }
    try house.expectBack();
}

test "a free inside of a slot is refused" {
    const house = try House(Small).init(.{});
    defer house.deinit();
    for ([_]usize{ 16, 64, 2048 }) |bytes| {
        const slot = house.heap.alloc(0, bytes, 0).?;
        for ([_]usize{ 1, 8, bytes - 1 }) |offset| for ([_]?u32{ 0, 1, null }) |thread| {
            try testing.expectError(error.Foreign, house.heap.free(thread, slot + offset));
        };
        try testing.expectEqual(1, house.heap.figures().live_slots);
        try house.heap.free(0, slot);
    }
    try house.expectBack();
}

test "a foreign address is refused, its memory untouched, and the hook told" {
    const Hook = struct {
        var last: ?reclaiming.Wrong = null;
        var calls: u32 = 0;

        fn call(what: reclaiming.Wrong, _: usize) void {
            last = what;
            calls += 1;
        }
    };
    Hook.calls = 0;
    const house = try House(Small).init(.{ .on_wrong = Hook.call });
    defer house.deinit();
    const slot = house.heap.alloc(0, 64, 0).?;
    // Nothing is mapped at most of these.
    for ([_]usize{ 8, 4096, 1 << 40, (1 << 47) - 4096, 1 << 48, std.math.maxInt(usize) - 15 }) |address| {
        for ([_]?u32{ 0, null }) |thread| {
            try testing.expectError(error.Foreign, house.heap.free(thread, @ptrFromInt(address)));
        }
        try testing.expectEqual(.foreign, Hook.last.?);
    }
    const before = Hook.calls;
    try house.heap.free(0, slot);
    house.heap.allocator().rawFree(slot[0..64], .@"16", 0);
    try testing.expectEqual(.double_free, Hook.last.?);
    try testing.expectEqual(before + 1, Hook.calls);
}

test "after everything is freed nothing is left at the backend, metadata included" {
    const house = try House(Large).init(.{});
    defer house.deinit();
    var slots: [400][*]u8 = undefined;
    for (&slots, 0..) |*slot, number| slot.* = house.heap.alloc(@intCast(number % 7), @as(usize, 1) << @intCast(number % 21), 0).?;
    const figures = house.heap.figures();
    try testing.expectEqual(@as(f64, @floatFromInt(house.store.held_bytes)), figures.allocated_from_fallback);
    try testing.expect(figures.allocated_metadata > 0);
    for (slots, 0..) |slot, number| try house.heap.free(@intCast(number % 5), slot);
    const held = house.store.held_bytes;
    try testing.expectEqual(held, house.heap.reclaim());
    try house.store.expectEmpty();
    try testing.expectEqual(0, house.heap.figures().allocated_metadata);
}

test "one object of a large class asks for two MiB, not for a hundred" {
    const house = try House(Large).init(.{});
    defer house.deinit();
    for (0..Large.classes_count) |class| {
        const slot = house.heap.alloc(0, Large.slotBytes(class), 0).?;
        try testing.expect(house.store.largest <= @as(usize, if (class > 8) 2 * mib else 64 * kib));
        try house.heap.free(0, slot);
    }
    try house.expectBack();
}

test "the largest slot is as large as its name says" {
    const house = try House(Small).init(.{});
    defer house.deinit();
    const slot = house.heap.alloc(0, 4096, 0).?;
    try testing.expectEqual(0, house.heap.figures().passed);
    try testing.expectEqual(1, house.heap.classFigures(8).live_slots);
    try house.heap.free(0, slot);
    try house.expectBack();
}

test "a resize within the class stays where it is" {
    const house = try House(Small).init(.{});
    defer house.deinit();
    const allocator = house.heap.allocator();
    var memory = try allocator.alloc(u8, 70);
    const before = memory.ptr;
    memory = try allocator.realloc(memory, 128);
    try testing.expectEqual(before, memory.ptr);
    memory = try allocator.realloc(memory, 65);
    try testing.expectEqual(before, memory.ptr);
    memory = try allocator.realloc(memory, 129);
    try testing.expect(before != memory.ptr);
    allocator.free(memory);
    try house.expectBack();
}

test "sizes beyond any memory are refused" {
    const house = try House(Small).init(.{});
    defer house.deinit();
    const max = std.math.maxInt(usize);
    for ([_]usize{ max, max - 4096, max / 2 + 1, (1 << 63) + 1, (1 << 62) + 1 }) |bytes| {
        try testing.expectEqual(null, house.heap.alloc(0, bytes, 0));
        try testing.expectEqual(null, house.heap.allocAny(bytes, 4096));
    }
    try house.expectBack();
}

test "what one thread keeps is there for another when the backend refuses" {
    const house = try House(Small).init(.{});
    defer house.deinit();
    // One block is all there is, and the first thread owns it.
    const kept = house.heap.alloc(0, 2048, 0).?;
    house.store.refuse_at = house.store.takes + 1;
    house.store.always = true;
    var slots: [31][*]u8 = undefined;
    for (&slots) |*slot| slot.* = house.heap.alloc(1, 2048, 0) orelse return error.OutOfReach;
    try testing.expectEqual(null, house.heap.alloc(2, 2048, 0));
    // Another class: the batch goes back, and its bytes serve anew.
    for (slots) |slot| try house.heap.free(1, slot);
    try house.heap.free(1, kept);
    house.store.refuse_at = house.store.takes + 1;
    house.store.always = false;
    const other = house.heap.alloc(3, 16, 0) orelse return error.OutOfReach;
    try house.heap.free(3, other);
    try house.expectBack();
}

test "what others free in blocks that rest is their owner's again, without growth" {
    const house = try House(Small).init(.{});
    defer house.deinit();
    var slots: [2000][*]u8 = undefined;
    for (&slots) |*slot| slot.* = house.heap.alloc(0, 64, 0).?;
    const growths = house.heap.figures().growths;
    for ([_]?u32{ 1, null }) |other| {
        // One of each block first, then all of some.
        for (slots, 0..) |slot, at| if (at % 32 == 5 or at >= 1500) try house.heap.free(other, slot);
        for (&slots, 0..) |*slot, at| if (at % 32 == 5 or at >= 1500) {
            slot.* = house.heap.alloc(0, 64, 0).?;
        };
        try testing.expectEqual(2000, house.heap.figures().live_slots);
    }
    try testing.expectEqual(growths, house.heap.figures().growths);
    // The thread's own frees, too.
    for (slots) |slot| try house.heap.free(0, slot);
    try house.expectBack();
}

test "a thread that owns all it may lets go what rested longest" {
    const house = try House(Small).init(.{});
    defer house.deinit();
    const count = 40_000;
    const slots = try testing.allocator.alloc([*]u8, count);
    defer testing.allocator.free(slots);
    for (slots) |*slot| slot.* = house.heap.alloc(0, 64, 0).?;
    var prng: std.Random.DefaultPrng = .init(testing.random_seed);
    for (0..count) |_| {
        const slot = &slots[prng.random().uintLessThan(usize, count)];
        try house.heap.free(0, slot.*);
        slot.* = house.heap.alloc(0, 64, 0).?;
    }
    const growths = house.heap.figures().growths;
    // Another thread takes what the first has let go and it frees.
    for (slots[0 .. count / 2]) |slot| try house.heap.free(1, slot);
    for (slots[0 .. count / 2]) |*slot| slot.* = house.heap.alloc(1, 64, 0).?;
    try testing.expect(house.heap.figures().growths - growths <= 8192 * 64 / (64 * kib) + 2);
    for (slots) |slot| try house.heap.free(0, slot);
    try house.expectBack();
}
