//! Filling and copying bytes without a C library, as fast as one.
//!
//! Without libc the compiler links its own memset and memcpy, which take ten times as long as a
//! JavaScript `fill(0)` of 4 MiB. Here short lengths are two overlapping vectors, middle ones a
//! loop of vectors, and long ones the processor's own string instruction, which fills whole cache
//! lines without reading them first. Thresholds were measured (see `string_bytes_min`).
//!
//! Invariant: exactly the bytes of the slice are written, each at least once; nothing else is read
//! or written. No alignment is asked of anyone. All stores go through volatile pointers or
//! assembly, because the optimiser would otherwise recognise these loops as memset and memcpy and
//! call the functions of that name, which `exportSymbols` makes of these very loops.
//!
//! Cost: 1 to 3 ns up to 128 bytes, then by bandwidth (60 to 90 GB/s in cache, 40 GB/s beyond it).
//! Threads: pure functions; concurrent access to the same bytes is the caller's matter. When NOT to
//! use it: for a known handful of bytes, which an assignment does better; on memory that never was
//! touched or was purged, which is zero already.

const std = @import("std");
const builtin = @import("builtin");
const assert = std.debug.assert;

const vector_bytes = 16;
const Vector = @Vector(vector_bytes, u8);
const Cell = *align(1) volatile Vector;
const Source = *align(1) const volatile Vector;

/// From this length on the string instruction is used, where the processor says that it is fast.
/// Measured on an AMD EPYC with ERMS and FSRM, 2026-11, set: 39.5 ns against 39.8 of the loop at 2
/// KiB, 178 against 316 at 16 KiB, 63 us against 85 at 4 MiB (a `fill(0)` in Bun 64 us, the
/// compiler's own memset 664).
pub const string_bytes_min: usize = 2048;

/// Sets all bytes to zero.
pub noinline fn zero(bytes: []u8) void {
    set(bytes, 0);
}

/// Sets all bytes to `value`.
pub noinline fn set(bytes: []u8, value: u8) void {
    if (bytes.len >= string_bytes_min and strings.fast()) return strings.set(bytes, value);
    setVectors(bytes, value);
}

/// Copies `source` over `dest`; they are equally long and do not overlap.
pub fn copy(dest: []u8, source: []const u8) void {
    assert(dest.len == source.len);
    assert(dest.len == 0 or apart(dest, source));
    if (dest.len >= string_bytes_min and strings.fast()) return strings.copy(dest, source);
    copyForwards(dest, source);
}

/// Copies `source` over `dest`, which may overlap; they are equally long.
pub fn move(dest: []u8, source: []const u8) void {
    assert(dest.len == source.len);
    if (dest.len == 0 or dest.ptr == source.ptr) return;
    if (apart(dest, source)) return copy(dest, source);
    if (@intFromPtr(dest.ptr) < @intFromPtr(source.ptr)) {
        moveForwards(dest, source);
    } else {
        moveBackwards(dest, source);
    }
}

fn apart(dest: []u8, source: []const u8) bool {
    const distance = @max(@intFromPtr(dest.ptr), @intFromPtr(source.ptr)) -
        @min(@intFromPtr(dest.ptr), @intFromPtr(source.ptr));
    return distance >= dest.len;
}

fn at(bytes: []u8, offset: usize) Cell {
    return @ptrCast(bytes[offset..].ptr);
}

fn from(bytes: []const u8, offset: usize) Source {
    return @ptrCast(bytes[offset..].ptr);
}

/// Any length. The tail overlaps what the loop wrote, so that there is no loop of single bytes.
fn setVectors(bytes: []u8, value: u8) void {
    if (bytes.len < vector_bytes) return setShort(bytes, value);
    const filled: Vector = @splat(value);
    const last = bytes.len - vector_bytes;
    var offset: usize = 0;
    while (offset + 4 * vector_bytes <= bytes.len) : (offset += 4 * vector_bytes) {
        inline for (0..4) |index| at(bytes, offset + index * vector_bytes).* = filled;
    }
    while (offset < last) : (offset += vector_bytes) at(bytes, offset).* = filled;
    at(bytes, last).* = filled;
}

/// Below a vector: two words that overlap in the middle.
fn setShort(bytes: []u8, value: u8) void {
    inline for (.{ u64, u32, u16, u8 }) |Word| {
        if (bytes.len >= @sizeOf(Word)) {
            const filled: Word = @truncate(0x0101_0101_0101_0101 * @as(u64, value));
            const last = bytes.len - @sizeOf(Word);
            @as(*align(1) volatile Word, @ptrCast(bytes.ptr)).* = filled;
            @as(*align(1) volatile Word, @ptrCast(bytes[last..].ptr)).* = filled;
            // A word covers the half of anything shorter than two words.
            return;
        }
    }
}

fn copyForwards(dest: []u8, source: []const u8) void {
    @setRuntimeSafety(false); // it would fill `block` by memset
    if (dest.len < vector_bytes) return moveShort(dest, source);
    const last = dest.len - vector_bytes;
    const tail = from(source, last).*;
    var offset: usize = 0;
    while (offset + 4 * vector_bytes <= dest.len) : (offset += 4 * vector_bytes) {
        var block: [4]Vector = undefined;
        inline for (0..4) |index| block[index] = from(source, offset + index * vector_bytes).*;
        inline for (0..4) |index| at(dest, offset + index * vector_bytes).* = block[index];
    }
    while (offset < last) : (offset += vector_bytes) at(dest, offset).* = from(source, offset).*;
    at(dest, last).* = tail;
}

/// `dest` begins below `source`: each vector is read before anything above it is written. The last
/// vector was read at the start, when its bytes still were the source's.
fn moveForwards(dest: []u8, source: []const u8) void {
    copyForwards(dest, source);
}

/// `dest` begins above `source`: from the end down, with the first vector read at the start.
fn moveBackwards(dest: []u8, source: []const u8) void {
    if (dest.len < vector_bytes) return moveShort(dest, source);
    const head = from(source, 0).*;
    var end = dest.len;
    while (end > vector_bytes) : (end -= vector_bytes) {
        at(dest, end - vector_bytes).* = from(source, end - vector_bytes).*;
    }
    at(dest, 0).* = head;
}

/// Below a vector, overlapping or not: all is read before anything is written.
fn moveShort(dest: []u8, source: []const u8) void {
    inline for (.{ u64, u32, u16, u8 }) |Word| {
        if (dest.len >= @sizeOf(Word)) {
            const last = dest.len - @sizeOf(Word);
            const head = @as(*align(1) const volatile Word, @ptrCast(source.ptr)).*;
            const tail = @as(*align(1) const volatile Word, @ptrCast(source[last..].ptr)).*;
            @as(*align(1) volatile Word, @ptrCast(dest.ptr)).* = head;
            @as(*align(1) volatile Word, @ptrCast(dest[last..].ptr)).* = tail;
            return;
        }
    }
}

/// The string instructions of x86_64; elsewhere none.
const strings = if (builtin.cpu.arch == .x86_64) struct {
    const Speed = enum(u8) { unknown, slow, fast };
    var speed: std.atomic.Value(Speed) = .init(.unknown);

    /// ERMS: leaf 7, ebx bit 9. Asked once, since a virtual machine traps the question (20 to 70
    /// us).
    fn fast() bool {
        return switch (speed.load(.monotonic)) {
            .fast => true,
            .slow => false,
            .unknown => probe(),
        };
    }

    fn probe() bool {
        @branchHint(.cold);
        const known = identify(0)[0] >= 7 and identify(7)[1] >> 9 & 1 == 1;
        speed.store(if (known) .fast else .slow, .monotonic);
        return known;
    }

    fn identify(leaf: u32) [2]u32 {
        var eax: u32 = undefined;
        var ebx: u32 = undefined;
        asm volatile ("cpuid"
            : [_] "={eax}" (eax),
              [_] "={ebx}" (ebx),
            : [_] "{eax}" (leaf),
              [_] "{ecx}" (@as(u32, 0)),
            : .{ .ecx = true, .edx = true });
        return .{ eax, ebx };
    }

    noinline fn set(bytes: []u8, value: u8) void {
        _ = asm volatile ("rep stosb"
            : [_] "={rdi}" (-> usize),
            : [_] "{rdi}" (@intFromPtr(bytes.ptr)),
              [_] "{al}" (value),
              [_] "{rcx}" (bytes.len),
            : .{ .rcx = true, .memory = true });
    }

    fn copy(dest: []u8, source: []const u8) void {
        _ = asm volatile ("rep movsb"
            : [_] "={rdi}" (-> usize),
            : [_] "{rdi}" (@intFromPtr(dest.ptr)),
              [_] "{rsi}" (@intFromPtr(source.ptr)),
              [_] "{rcx}" (dest.len),
            : .{ .rcx = true, .rsi = true, .memory = true });
    }
} else struct {
    fn fast() bool {
        return false;
    }
    const set = setVectors;
    const copy = copyForwards;
};

/// Makes memset, memcpy and memmove of these functions for everything that the compiler itself
/// expects of them, in place of the slow ones it would link. For the root of a library without
/// libc. Not in Debug, where safety fills undefined variables by memset, also the ones in here.
pub fn exportSymbols() void {
    comptime {
        if (builtin.mode == .Debug) return;
        for (.{ "memset", "memcpy", "memmove" }) |name| {
            @export(&@field(symbols, name), .{ .name = name, .visibility = .hidden });
        }
    }
}

const symbols = struct {
    fn memset(dest: ?[*]u8, value: c_int, len: usize) callconv(.c) ?[*]u8 {
        if (len > 0) set(dest.?[0..len], @truncate(@as(c_uint, @bitCast(value))));
        return dest;
    }
    fn memcpy(noalias dest: ?[*]u8, noalias source: ?[*]const u8, len: usize) callconv(.c) ?[*]u8 {
        // The compiler may copy a thing onto itself, which `copy` calls an overlap.
        if (len > 0) move(dest.?[0..len], source.?[0..len]);
        return dest;
    }
    fn memmove(dest: ?[*]u8, source: ?[*]const u8, len: usize) callconv(.c) ?[*]u8 {
        if (len > 0) move(dest.?[0..len], source.?[0..len]);
        return dest;
    }
};

const testing = std.testing;

/// Every length to 300 and some round ones past the string instruction's threshold.
fn testLengths(comptime check: fn (len: usize) anyerror!void) !void {
    for (0..300) |len| try check(len);
    for ([_]usize{ 1023, 2047, 2048, 2049, 4095, 65536 + 7 }) |len| try check(len);
}

test "set writes exactly the bytes it was given" {
    try testLengths(struct {
        fn check(len: usize) !void {
            for ([_]usize{ 0, 1, 7 }) |shift| {
                var space: [65536 + 64]u8 = undefined;
                for (&space) |*byte| byte.* = 0xAA;
                const part = space[16 + shift ..][0..len];
                set(part, 0x5C);
                for (part) |byte| try testing.expectEqual(0x5C, byte);
                try testing.expectEqual(0xAA, space[15 + shift]);
                try testing.expectEqual(0xAA, space[16 + shift + len]);
                zero(part);
                for (part) |byte| try testing.expectEqual(0, byte);
            }
        }
    }.check);
}

test "copy and move give the source's bytes, at any distance and direction" {
    try testLengths(struct {
        fn check(len: usize) !void {
            var space: [2 * 65536 + 256]u8 = undefined;
            const distances = [_]usize{ 0, 1, 3, 15, 16, 17, 40, len, len + 5 };
            for (distances) |distance| for ([_]bool{ false, true }) |upwards| {
                for (&space, 0..) |*byte, index| byte.* = @truncate(index *% 31 ^ index >> 8);
                const low: usize = 20;
                const to = if (upwards) low + distance else low;
                const origin = if (upwards) low else low + distance;
                move(space[to..][0..len], space[origin..][0..len]);
                for (space[0 .. low + distance + len + 20], 0..) |byte, index| {
                    const moved = index >= to and index < to + len;
                    const source = if (moved) index - to + origin else index;
                    const expected: u8 = @truncate(source *% 31 ^ source >> 8);
                    try testing.expectEqual(expected, byte);
                }
            };
        }
    }.check);
}

test "the functions for the compiler take nothing and null" {
    try testing.expectEqual(null, symbols.memset(null, 1, 0));
    try testing.expectEqual(null, symbols.memcpy(null, null, 0));
    var cell: [8]u8 = @splat(1);
    try testing.expectEqual(&cell, symbols.memset(&cell, -1, 8).?[0..8]);
    try testing.expectEqual(0xFF, cell[7]);
    try testing.expectEqual(&cell, symbols.memcpy(&cell, &cell, 8).?[0..8]);
}
