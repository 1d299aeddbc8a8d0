//! The sizes of slots, and how a slab of each is cut: one table, made at compile time.
//!
//! Up to 128 bytes there is a class every 16, since every slot is aligned to 16. Above, eight
//! classes to each doubling: a slot is then at most 1/9 larger than the request (11.1 %), where four
//! would waste a fifth and sixteen would scatter a program's objects over twice as many slabs. The
//! last class is 64 KiB: so objects of many pages need no lock either.
//!
//! A slab has 32 slots or more as long as 1 MiB allows it, because a word of its bitmap is what one
//! step of refilling takes; larger slabs cost addresses only, their pages are touched as slots are
//! used. Slots are taken from a batch that frees do not touch: were it one word, an allocation would
//! wait for all that the free before it had to look up (15 ns a pair instead of 5). A batch covers
//! 16 KiB, or eight slots, so that a loop that allocates and frees stays in the first cache or two.
//!
//! Invariant: `classes[class_of[(n + 15) / 16]]` is the smallest class that holds n bytes.
//!
//! Cost: 4 KiB of table. Threads: constants. Not for regions: ds/size_class.zig has those.

const std = @import("std");
const ds = @import("../ds/ds.zig");
const assert = std.debug.assert;

pub const slot_bytes_min = 16;
pub const slot_bytes_max = 64 * 1024;
pub const steps_fine = 8;
const fine_bytes_max = steps_fine * slot_bytes_min;
const steps_per_doubling = 8;
pub const count = steps_fine + steps_per_doubling * doublings;
const doublings: comptime_int = @ctz(@as(u32, slot_bytes_max / fine_bytes_max));

/// Slabs lie at multiples of it, and are one or more of it long.
pub const tile_shift = 16;
pub const tile_bytes = 1 << tile_shift;
pub const span_shift_max = 20;
pub const span_shifts_count = span_shift_max - tile_shift + 1;
pub const words_max = tile_bytes / slot_bytes_min / 64;
const batch_bytes = 16 * 1024;
const batch_min = 8;
/// Words with fewer free slots are passed over, as long as there is memory.
pub const word_slots_min = 4;

pub const Class = struct {
    bytes: u32,
    span_shift: u5,
    capacity: u32,
    /// Words of each bitmap; every place in the slab has its bit, also behind the last slot.
    words: u8,
    /// Neighbouring slots taken at a time, a power of two; more than that only if they lie scattered.
    batch: u8,
    /// Slots free in a full slab before it is used again: an eighth, so that a word of 64 then has
    /// eight, and each visit is worth it.
    threshold: u32,
    /// ceil(2^64 / bytes): the high half of offset * reciprocal is the slot, the low half is below
    /// the reciprocal exactly at a slot's start.
    reciprocal: u64,

    fn of(bytes: u32) Class {
        var shift: u5 = tile_shift;
        // As long as one word still covers it.
        while (shift < span_shift_max and ((@as(u32, 2) << shift) - 1) / bytes < 64) shift += 1;
        const span = @as(u32, 1) << shift;
        const capacity = span / bytes - @intFromBool(ds.fault("global-header-inside") and bytes >= 1024);
        return .{
            .bytes = bytes,
            .span_shift = shift,
            .capacity = capacity,
            .words = (span - 1) / bytes / 64 + 1,
            .batch = std.math.clamp(std.math.floorPowerOfTwo(u32, @max(1, batch_bytes / bytes)), batch_min, 64),
            .threshold = @max(word_slots_min, capacity / 8),
            .reciprocal = @intCast(((@as(u128, 1) << 64) + bytes - 1) / bytes),
        };
    }
};

pub const classes: [count]Class = blk: {
    @setEvalBranchQuota(10_000);
    var table: [count]Class = undefined;
    for (&table, 0..) |*class, i| {
        if (i < steps_fine) {
            class.* = .of((i + 1) * slot_bytes_min);
        } else {
            const doubling = (i - steps_fine) / steps_per_doubling;
            const step = (i - steps_fine) % steps_per_doubling + 1;
            class.* = .of((fine_bytes_max << doubling) / steps_per_doubling * (steps_per_doubling + step));
        }
        assert(class.words <= words_max);
    }
    break :blk table;
};

/// The class of n bytes, at (n + 15) / 16.
pub const class_of: [slot_bytes_max / slot_bytes_min + 1]u8 = blk: {
    @setEvalBranchQuota(100_000);
    var table: [slot_bytes_max / slot_bytes_min + 1]u8 = undefined;
    var class: u8 = 0;
    for (&table, 0..) |*entry, i| {
        if (i * slot_bytes_min > classes[class].bytes) class += 1;
        if (ds.fault("global-powers-of-two")) while (!std.math.isPowerOfTwo(classes[class].bytes)) : (class += 1) {};
        entry.* = class;
    }
    break :blk table;
};

/// The smallest class for `bytes` whose slots all lie at multiples of `alignment`; null: none.
pub fn aligned(bytes: usize, alignment: usize) ?u8 {
    const least = @max(bytes, alignment);
    if (least > slot_bytes_max) return null;
    var class = class_of[(least + slot_bytes_min - 1) / slot_bytes_min];
    // Ends at the next power of two, which is a multiple of the alignment.
    while (classes[class].bytes & (alignment - 1) != 0) class += 1;
    return class;
}

const testing = std.testing;

test "a slot wastes less than an eighth above 128 bytes, and no smaller class would do" {
    for (1..slot_bytes_max + 1) |bytes| {
        const class = class_of[(bytes + 15) / 16];
        const slot = classes[class].bytes;
        try testing.expect(slot >= bytes);
        if (class > 0) try testing.expect(classes[class - 1].bytes < bytes);
        if (bytes > 128) try testing.expect((slot - bytes) * 8 <= slot);
    }
    try testing.expectEqual(slot_bytes_max, classes[count - 1].bytes);
}

test "the reciprocal finds the slot of each offset, and nothing but starts of slots" {
    for (classes) |class| {
        var offset: u64 = 0;
        while (offset < @as(u64, 1) << class.span_shift) : (offset += 1) {
            const product = @as(u128, offset) * class.reciprocal;
            const exact = @as(u64, @truncate(product)) < class.reciprocal;
            if (offset / class.bytes != @as(u64, @intCast(product >> 64))) return error.WrongSlot;
            if (exact != (offset % class.bytes == 0)) return error.WrongStart;
            offset += if (class.bytes > 1024) 6 else 0;
        }
    }
}

test "an aligned class has all its slots aligned" {
    var alignment: usize = 1;
    while (alignment <= slot_bytes_max) : (alignment *= 2) for ([_]usize{ 1, 17, 100, 1000, 5000, 33000, 65536 }) |bytes| {
        const class = classes[aligned(bytes, alignment).?];
        try testing.expect(class.bytes >= bytes);
        try testing.expectEqual(0, class.bytes % alignment);
    };
    try testing.expectEqual(null, aligned(1, 2 * slot_bytes_max));
}

test "a slab is slots and nothing else" {
    for (classes) |class| {
        try testing.expect(class.capacity >= 15);
        try testing.expect((@as(u32, 1) << class.span_shift) - class.capacity * class.bytes < class.bytes);
    }
}
