//! A planted race that ThreadSanitizer must find: two threads add to one counter without any
//! order between them. `zig build race` fails if this program ends without a report, since then a
//! clean report about the other tests would mean nothing (with Zig's own backend none is made).
//!
//! Cost: milliseconds. Never part of the library, and of no test but that one.

const std = @import("std");

var counter: u64 = 0;

fn add() void {
    for (0..10_000) |_| {
        const cell: *volatile u64 = &counter;
        cell.* += 1;
    }
}

/// Ends with 0 if nobody watches; under ThreadSanitizer with its exit code, after its report.
pub fn main() !void {
    const other = try std.Thread.spawn(.{}, add, .{});
    add();
    other.join();
}
