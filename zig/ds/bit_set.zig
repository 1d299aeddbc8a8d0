//! A fixed bitmap of 64-bit words with runs: the truth about which pages or slots are taken.
//!
//! A set bit means taken. The map is a plain array, so it can lie in reserved zero memory (all
//! free) and be copied by assignment.
//!
//! Invariant: bits at and beyond `bits` do not exist: `bits` is a multiple of 64.
//!
//! Cost: every operation is linear in the words it touches; findRun looks at each word once and
//! skips full and empty words whole (about 10 ns for 512 bits).
//!
//! Threads: none of its own; the caller holds whatever guards the map. A live bitmap that remote
//! threads clear wants atomics and is not this.
//!
//! Not for sparse or large sets: findRun has no index above the words.

const std = @import("std");

/// One bit for each 4 KiB page of a 2 MiB region.
pub const BitSet512 = BitSet(512);

pub fn BitSet(comptime bits: u32) type {
    std.debug.assert(bits > 0 and bits % 64 == 0);
    return struct {
        words: [words_count]u64 = @splat(0),

        const Set = @This();
        pub const bits_count = bits;
        pub const words_count = bits / 64;
        pub const empty: Set = .{};
        pub const full: Set = .{ .words = @splat(~@as(u64, 0)) };

        pub fn isSet(set: *const Set, index: u32) bool {
            return set.words[index / 64] >> @intCast(index % 64) & 1 != 0;
        }

        pub fn set1(set: *Set, index: u32) void {
            set.words[index / 64] |= @as(u64, 1) << @intCast(index % 64);
        }

        pub fn clear1(set: *Set, index: u32) void {
            set.words[index / 64] &= ~(@as(u64, 1) << @intCast(index % 64));
        }

        /// Start of the lowest run of `count` clear bits.
        pub fn findRun(set: *const Set, count: u32) ?u32 {
            return set.findRunAligned(count, 1);
        }

        /// Start of the lowest run of `count` clear bits that begins at a multiple of `alignment`,
        /// a power of two.
        pub noinline fn findRunAligned(set: *const Set, count: u32, alignment: u32) ?u32 {
            std.debug.assert(count > 0 and std.math.isPowerOfTwo(alignment));
            var start = set.nextClear(0) orelse return null;
            while (true) {
                const aligned = std.mem.alignForward(u32, start, alignment);
                if (aligned > bits or count > bits - aligned) return null;
                if (set.isSet(aligned)) {
                    start = set.nextClear(aligned) orelse return null;
                    continue;
                }
                const end = set.nextSet(aligned);
                if (end - aligned >= count) return aligned;
                start = set.nextClear(end) orelse return null;
            }
        }

        pub fn setRange(set: *Set, start: u32, count: u32) void {
            var range: Range = .init(start, count);
            while (range.next()) |part| set.words[part.word] |= part.mask;
        }

        pub fn clearRange(set: *Set, start: u32, count: u32) void {
            var range: Range = .init(start, count);
            while (range.next()) |part| set.words[part.word] &= ~part.mask;
        }

        /// All bits of the range are set.
        pub fn isRangeSet(set: *const Set, start: u32, count: u32) bool {
            var range: Range = .init(start, count);
            while (range.next()) |part| {
                if (set.words[part.word] & part.mask != part.mask) return false;
            }
            return true;
        }

        /// All bits of the range are clear.
        pub fn isRangeClear(set: *const Set, start: u32, count: u32) bool {
            var range: Range = .init(start, count);
            while (range.next()) |part| {
                if (set.words[part.word] & part.mask != 0) return false;
            }
            return true;
        }

        pub noinline fn countSet(set: *const Set) u32 {
            var total: u32 = 0;
            for (set.words) |word| total += @popCount(word);
            return total;
        }

        pub fn isEmpty(set: *const Set) bool {
            for (set.words) |word| if (word != 0) return false;
            return true;
        }

        /// Length of the longest run of clear bits.
        pub fn longestRun(set: *const Set) u32 {
            var longest: u32 = 0;
            var start = set.nextClear(0);
            while (start) |from| {
                const end = set.nextSet(from);
                longest = @max(longest, end - from);
                start = set.nextClear(end);
            }
            return longest;
        }

        /// Lowest clear bit at or after `from`.
        pub noinline fn nextClear(set: *const Set, from: u32) ?u32 {
            const found = set.scan(from, ~@as(u64, 0));
            return if (found == bits) null else found;
        }

        /// Lowest set bit at or after `from`; `bits` when there is none.
        pub fn nextSet(set: *const Set, from: u32) u32 {
            return set.scan(from, 0);
        }

        noinline fn scan(set: *const Set, from: u32, invert: u64) u32 {
            if (from >= bits) return bits;
            var word = from / 64;
            var rest = (set.words[word] ^ invert) & ~@as(u64, 0) << @intCast(from % 64);
            while (rest == 0) {
                word += 1;
                if (word == words_count) return bits;
                rest = set.words[word] ^ invert;
            }
            return word * 64 + @ctz(rest);
        }

        /// The words that a range of bits touches, each with the mask of its part.
        const Range = struct {
            start: u32,
            left: u32,

            const Part = struct { word: u32, mask: u64 };

            fn init(start: u32, count: u32) Range {
                std.debug.assert(start <= bits and count <= bits - start);
                return .{ .start = start, .left = count };
            }

            fn next(range: *Range) ?Part {
                if (range.left == 0) return null;
                const shift: u6 = @intCast(range.start % 64);
                const count = @min(range.left, 64 - @as(u32, shift));
                const ones = ~@as(u64, 0) >> @intCast(64 - count);
                const part: Part = .{ .word = range.start / 64, .mask = ones << shift };
                range.start += count;
                range.left -= count;
                return part;
            }
        };
    };
}

const testing = std.testing;

test "a run is found where the obvious search finds it, for random maps" {
    const seed: u64 = testing.random_seed;
    errdefer std.debug.print("seed {d}\n", .{seed});
    var prng = std.Random.DefaultPrng.init(seed);
    const random = prng.random();
    for (0..300) |_| {
        var set: BitSet(256) = .{};
        var model: [256]bool = @splat(false);
        const density = random.uintLessThan(u8, 100);
        for (&model, 0..) |*bit, index| {
            if (random.uintLessThan(u8, 100) >= density) continue;
            bit.* = true;
            set.set1(@intCast(index));
        }
        for (0..20) |_| {
            const start = random.uintAtMost(u32, 256);
            const count = random.uintAtMost(u32, 256 - start);
            const value = random.boolean();
            if (value) set.setRange(start, count) else set.clearRange(start, count);
            @memset(model[start..][0..count], value);
            const wanted = 1 + random.uintLessThan(u32, 80);
            const alignment = @as(u32, 1) << random.uintLessThan(u5, 9);
            try testing.expectEqual(
                obviousRun(&model, wanted, alignment),
                set.findRunAligned(wanted, alignment),
            );
            try testing.expectEqual(obviousRun(&model, wanted, 1), set.findRun(wanted));
            try testing.expectEqual(std.mem.count(bool, &model, &.{true}), set.countSet());
            const longest = set.longestRun();
            try testing.expect(longest == 0 or obviousRun(&model, longest, 1) != null);
            try testing.expectEqual(null, obviousRun(&model, longest + 1, 1));
        }
    }
}

fn obviousRun(model: []const bool, count: u32, alignment: u32) ?u32 {
    var start: u32 = 0;
    while (start + count <= model.len) : (start += alignment) {
        if (std.mem.indexOfScalar(bool, model[start..][0..count], true) == null) return start;
    }
    return null;
}

test "ranges may be empty, whole, and cross words" {
    var set: BitSet512 = .empty;
    try testing.expect(set.isEmpty());
    set.setRange(512, 0);
    try testing.expect(set.isEmpty());
    try testing.expect(set.isRangeSet(5, 0));
    set.setRange(60, 70);
    try testing.expectEqual(70, set.countSet());
    try testing.expect(set.isRangeSet(60, 70));
    try testing.expect(!set.isRangeSet(59, 71));
    try testing.expect(set.isRangeClear(0, 60));
    try testing.expect(!set.isRangeClear(0, 61));
    set.setRange(0, 512);
    try testing.expectEqual(BitSet512.full, set);
    try testing.expectEqual(null, set.findRun(1));
    set.clearRange(0, 512);
    try testing.expectEqual(0, set.findRun(512).?);
    try testing.expectEqual(null, set.findRun(513));
}
