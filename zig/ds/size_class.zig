//! The arithmetic of sizes: pages, powers of two and the sixteen classes of large regions.
//!
//! A large region is 2^21 to 2^36 bytes. Addresses round up to the class; what is faulted, locked
//! and counted is the request rounded to its page size, so the class never costs memory.
//!
//! Invariant: `bytesOf(classOf(n).?) >= n`, and no smaller class would do.
//!
//! Cost: a count of leading zeros. Threads: pure functions.
//!
//! Not for slots below 1 MiB: those have finer classes of their own.

const std = @import("std");

/// Smallest region: one huge page of x86_64 and of aarch64 with 4 KiB granules.
pub const region_bytes_min: u64 = 1 << region_shift_min;
/// Largest region.
pub const region_bytes_max: u64 = 1 << region_shift_max;
pub const classes_count = region_shift_max - region_shift_min + 1;

const region_shift_min = 21;
const region_shift_max = 36;

comptime {
    std.debug.assert(classes_count == 16);
}

/// Names a region size: class c holds regions of 2^(21 + c) bytes.
pub const Class = u4;

/// The smallest class that holds `bytes`; null above the largest. Zero and small requests belong to
/// class 0.
pub fn classOf(bytes: u64) ?Class {
    if (bytes <= region_bytes_min) return 0;
    if (bytes > region_bytes_max) return null;
    return @intCast(64 - @clz(bytes - 1) - region_shift_min);
}

pub fn bytesOf(class: Class) u64 {
    return region_bytes_min << class;
}

/// `bytes` rounded up to a multiple of `page_bytes`, a power of two; null on overflow.
pub fn roundUpToPage(bytes: u64, page_bytes: u64) ?u64 {
    std.debug.assert(std.math.isPowerOfTwo(page_bytes));
    const sum = std.math.add(u64, bytes, page_bytes - 1) catch return null;
    return sum & ~(page_bytes - 1);
}

/// `bytes` rounded down to a multiple of `page_bytes`, a power of two.
pub fn roundDownToPage(bytes: u64, page_bytes: u64) u64 {
    std.debug.assert(std.math.isPowerOfTwo(page_bytes));
    return bytes & ~(page_bytes - 1);
}

/// Pages of `page_bytes` that `bytes` touches when they begin at a page; null on overflow.
pub fn pagesFor(bytes: u64, page_bytes: u64) ?u64 {
    return (roundUpToPage(bytes, page_bytes) orelse return null) >> @intCast(@ctz(page_bytes));
}

const testing = std.testing;

test "a class is the smallest power of two that holds the request" {
    try testing.expectEqual(0, classOf(0).?);
    try testing.expectEqual(0, classOf(1).?);
    for (0..classes_count) |number| {
        const class: Class = @intCast(number);
        const bytes = bytesOf(class);
        try testing.expectEqual(class, classOf(bytes).?);
        if (class < 15) try testing.expectEqual(class + 1, classOf(bytes + 1).?);
        if (class > 0) try testing.expectEqual(class, classOf(bytes / 2 + 1).?);
    }
    try testing.expectEqual(null, classOf(region_bytes_max + 1));
    try testing.expectEqual(null, classOf(std.math.maxInt(u64)));
}

test "rounding to pages is exact at the edges and refuses overflow" {
    try testing.expectEqual(0, roundUpToPage(0, 4096).?);
    try testing.expectEqual(4096, roundUpToPage(1, 4096).?);
    try testing.expectEqual(4096, roundUpToPage(4096, 4096).?);
    try testing.expectEqual(8192, roundUpToPage(4097, 4096).?);
    try testing.expectEqual(null, roundUpToPage(std.math.maxInt(u64), 4096));
    try testing.expectEqual(4096, roundDownToPage(8191, 4096));
    try testing.expectEqual(3, pagesFor(8193, 4096).?);
    try testing.expectEqual(null, pagesFor(std.math.maxInt(u64) - 5, 4096));
}
