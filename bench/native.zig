//! The native half of the benchmark: one process image for one allocator.
//!
//!     native <peer> [library]
//!
//! The process loads its peer, says `ready <version>`, and then carries out one workload a line
//! from standard input, so that `bench/run.ts` can take turns between the peers of a row, round by
//! round, while each keeps its warm heap. It ends with its input.
//!
//!     pairs <bytes> <count> <fault>        -> ok <ns> <operations> <hash>
//!     batches <bytes> <count> <fault>      -> ok <ns> <operations> <hash>
//!     handover <bytes> <count> <fault>     -> ok <ns> <operations> <hash>
//!     burst <total bytes> <idle ms> 0      -> ok <start> <peak> <end>     (resident bytes)
//!     anything that fails                  -> error <name>
//!
//! Between two lines it sleeps in `read`, so eight of them share a CPU without disturbing each
//! other.

const std = @import("std");
const large = @import("native/large.zig");
const machine = @import("native/machine.zig");
const peers = @import("native/peer.zig");

const Workload = enum { pairs, batches, handover, burst };

pub fn main(init: std.process.Init.Minimal) u8 {
    var version: [64]u8 = undefined;
    const arguments = init.args.vector;
    if (arguments.len < 2) return fail("usage: native <peer> [library]");
    const kind = std.meta.stringToEnum(peers.Kind, std.mem.span(arguments[1])) orelse
        return fail("unknown peer");
    const path: ?[*:0]const u8 = if (arguments.len > 2) arguments[2] else null;
    _ = machine.pin(0);
    const peer = peers.open(kind, path, &version) catch |err| return fail(@errorName(err));
    say("ready {s}\n", .{peer.version});

    var buffer: [256]u8 = undefined;
    while (readLine(&buffer)) |line| {
        carryOut(&peer, line) catch |err| say("error {s}\n", .{@errorName(err)});
    }
    return 0;
}

fn carryOut(peer: *const peers.Peer, line: []const u8) !void {
    var words = std.mem.tokenizeScalar(u8, line, ' ');
    const workload = std.meta.stringToEnum(Workload, words.next() orelse return error.Empty) orelse
        return error.UnknownWorkload;
    var numbers: [3]u64 = undefined;
    for (&numbers) |*number| {
        number.* = try std.fmt.parseInt(u64, words.next() orelse return error.TooFew, 10);
    }
    switch (peer.face) {
        inline else => |*face| try measure(face, workload, numbers),
    }
}

fn measure(face: anytype, workload: Workload, numbers: [3]u64) !void {
    const timing = switch (workload) {
        .pairs => try large.pairs(face, numbers[0], numbers[1], numbers[2] != 0),
        .batches => try large.batches(face, numbers[0], numbers[1], numbers[2] != 0),
        .handover => try large.handover(face, numbers[0], numbers[1], numbers[2] != 0),
        .burst => {
            const resident = try large.burst(face, numbers[0], numbers[1]);
            return say("ok {d} {d} {d}\n", .{ resident.start, resident.peak, resident.end });
        },
    };
    say("ok {d} {d} {d}\n", .{ timing.ns, timing.operations, timing.hash });
}

/// One line of standard input without its end; null at the end of input.
fn readLine(buffer: []u8) ?[]const u8 {
    var length: usize = 0;
    while (length < buffer.len) {
        const got = std.c.read(0, buffer[length..].ptr, 1);
        if (got <= 0) return null;
        if (buffer[length] == '\n') return buffer[0..length];
        length += 1;
    }
    return null;
}

fn say(comptime format: []const u8, values: anytype) void {
    var buffer: [256]u8 = undefined;
    const text = std.fmt.bufPrint(&buffer, format, values) catch unreachable;
    _ = std.c.write(1, text.ptr, text.len);
}

fn fail(text: []const u8) u8 {
    std.debug.print("{s}\n", .{text});
    return 2;
}
