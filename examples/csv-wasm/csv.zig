//! Parses a CSV of orders and answers questions about it, inside WebAssembly. All of its memory comes
//! from holdfast's small heap: the text, a growing list of rows, names that are kept once, and a hash
//! map of sums that is built and thrown away by each query.
//!
//! Exports: `reserve(bytes)` a place for the text, `parse(bytes)` rows that were read, `query(minimum)`
//! the answer as text, `queryLength()` its length, `clear()`, and `figures()`, the heap's statistics.

const std = @import("std");
const heaps = @import("holdfast").heap;

/// The allocator of this program.
var heap: heaps.SmallHeap(heaps.LinearMemory, .{}) = .{ .host = .{} };
const gpa = heap.allocator();

const Row = struct { city: []const u8, product: []const u8, count: u32, cents: u32 };

var text: []u8 = &.{};
var rows: std.ArrayList(Row) = .empty;
/// Each city and product once; rows point to them.
var names: std.StringHashMapUnmanaged(void) = .empty;
var answer: []u8 = &.{};
var statistics: heaps.SmallStatistics = .{};

const Error = error{ OutOfMemory, BadRow };

/// A place for `bytes` of text; null if there is no memory.
export fn reserve(bytes: usize) ?[*]u8 {
    gpa.free(text);
    text = gpa.alloc(u8, bytes) catch {
        text = &.{};
        return null;
    };
    return text.ptr;
}

/// Reads the rows of the text, which is not needed afterwards. Their number; below 0 if a row is bad
/// (its number, less one) or there is no memory (-1).
export fn parse() i32 {
    var lines = std.mem.splitScalar(u8, text, '\n');
    _ = lines.next();
    while (lines.next()) |line| {
        if (line.len == 0) continue;
        addRow(line) catch |err| return switch (err) {
            error.OutOfMemory => -1,
            error.BadRow => -2 - @as(i32, @intCast(rows.items.len)),
        };
    }
    gpa.free(text);
    text = &.{};
    return @intCast(rows.items.len);
}

/// `id,city,product,count,price`
fn addRow(line: []const u8) Error!void {
    var fields = std.mem.splitScalar(u8, line, ',');
    _ = fields.next() orelse return error.BadRow;
    const city = fields.next() orelse return error.BadRow;
    const product = fields.next() orelse return error.BadRow;
    const count = fields.next() orelse return error.BadRow;
    const price = fields.next() orelse return error.BadRow;
    try rows.append(gpa, .{
        .city = try nameOf(city),
        .product = try nameOf(product),
        .count = std.fmt.parseInt(u32, count, 10) catch return error.BadRow,
        .cents = try centsOf(price),
    });
}

fn nameOf(name: []const u8) Error![]const u8 {
    const entry = try names.getOrPut(gpa, name);
    if (!entry.found_existing) entry.key_ptr.* = try gpa.dupe(u8, name);
    return entry.key_ptr.*;
}

/// "12.34" is 1234.
fn centsOf(price: []const u8) Error!u32 {
    const dot = std.mem.indexOfScalar(u8, price, '.') orelse return error.BadRow;
    if (price.len - dot != 3) return error.BadRow;
    const whole = std.fmt.parseInt(u32, price[0..dot], 10) catch return error.BadRow;
    const rest = std.fmt.parseInt(u32, price[dot + 1 ..], 10) catch return error.BadRow;
    return whole * 100 + rest;
}

/// Turnover of each city, of orders of at least `minimum` pieces: lines of "city,orders,cents", the
/// highest turnover first. Null if there is no memory.
export fn query(minimum: u32) ?[*]u8 {
    gpa.free(answer);
    answer = answerTo(minimum) catch {
        answer = &.{};
        return null;
    };
    return answer.ptr;
}

export fn queryLength() usize {
    return answer.len;
}

const Sum = struct { city: []const u8, orders: u32 = 0, cents: u64 = 0 };

fn answerTo(minimum: u32) Error![]u8 {
    var sums: std.StringArrayHashMapUnmanaged(Sum) = .empty;
    defer sums.deinit(gpa);
    for (rows.items) |row| {
        if (row.count < minimum) continue;
        const entry = try sums.getOrPut(gpa, row.city);
        if (!entry.found_existing) entry.value_ptr.* = .{ .city = row.city };
        entry.value_ptr.orders += 1;
        entry.value_ptr.cents += @as(u64, row.count) * row.cents;
    }
    std.mem.sort(Sum, sums.values(), {}, struct {
        fn isHigher(_: void, one: Sum, other: Sum) bool {
            return if (one.cents != other.cents) one.cents > other.cents else std.mem.lessThan(u8, one.city, other.city);
        }
    }.isHigher);
    var out: std.ArrayList(u8) = .empty;
    errdefer out.deinit(gpa);
    for (sums.values()) |sum| try out.print(gpa, "{s},{d},{d}\n", .{ sum.city, sum.orders, sum.cents });
    return out.toOwnedSlice(gpa);
}

/// Everything goes back: afterwards the heap is one free run.
export fn clear() void {
    gpa.free(text);
    gpa.free(answer);
    text = &.{};
    answer = &.{};
    rows.clearAndFree(gpa);
    var keys = names.keyIterator();
    while (keys.next()) |name| gpa.free(name.*);
    names.clearAndFree(gpa);
}

/// 13 little-endian u64: in use, high water, ...; see `Statistics` in small_heap.zig.
export fn figures() *const heaps.SmallStatistics {
    statistics = heap.stats();
    return &statistics;
}
