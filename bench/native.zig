//! The native half of the benchmark: one process image for one allocator.
//!
//!     native <peer> [library]
//!
//! The process loads its peer, says `ready <version>`, and then carries out one workload a line
//! from standard input, so that `bench/run.ts` can take turns between the peers of a row, round by
//! round, while each keeps its warm heap. It ends with its input. A peer without the function that a
//! row needs says `missing <function>` instead and ends.
//!
//!     <workload> <bytes> <count> <fault> [live order touch]
//!                                          -> ok <ns> <operations> <hash> <peak bytes>
//!     burst <total bytes> <idle ms> 0      -> ok <start> <peak> <end>     (resident bytes)
//!     latency 0 <count> 0 <live>           -> ok <p50> <p99> <p99.9>      (hundredths of a ns)
//!     anything that fails                  -> error <name>
//!
//! The peak is the resident set's, less what the process had before it loaded its peer and less the
//! workload's own tables.
//!
//! Between two lines it sleeps in `read`, so a dozen of them share a CPU without disturbing each
//! other.

const std = @import("std");
const large = @import("native/large.zig");
const machine = @import("native/machine.zig");
const more = @import("native/more.zig");
const peers = @import("native/peer.zig");
const shapes = @import("native/shapes.zig");
const small = @import("native/small.zig");

const Workload = enum {
    pairs,
    batches,
    handover,
    handover512,
    burst,
    replace,
    sweep,
    twice,
    reclaim,
    idle,
    stats,
    larson,
    xmalloc,
    mstress,
    rptest,
    mlarge,
    mixed,
    latency,
    stampede,
    churn,
    scratch,
    thrash,
    touched,
};

/// Resident before the peer was loaded.
var base_bytes: u64 = 0;

pub fn main(init: std.process.Init.Minimal) u8 {
    var version: [64]u8 = undefined;
    const arguments = init.args.vector;
    if (arguments.len < 2) return fail("usage: native <peer> [library]");
    const kind = std.meta.stringToEnum(peers.Kind, std.mem.span(arguments[1])) orelse
        return fail("unknown peer");
    const path: ?[*:0]const u8 = if (arguments.len > 2) arguments[2] else null;
    _ = machine.pin(0);
    base_bytes = machine.residentBytes();
    const peer = peers.open(kind, path, &version) catch |err| switch (err) {
        error.MissingFace => {
            say("missing {s}\n", .{peers.missing_face});
            return 0;
        },
        else => return fail(@errorName(err)),
    };
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
    var numbers: [6]u64 = @splat(0);
    var given: usize = 0;
    while (words.next()) |word| : (given += 1) {
        if (given == numbers.len) return error.TooMany;
        numbers[given] = try std.fmt.parseInt(u64, word, 10);
    }
    if (given < 3) return error.TooFew;
    switch (peer.face) {
        inline else => |*face| try measure(face, peer.extra, workload, numbers),
    }
}

fn measure(face: anytype, extra: peers.Extra, workload: Workload, numbers: [6]u64) !void {
    const bytes = numbers[0];
    const count = numbers[1];
    const fault = numbers[2] != 0;
    const ring: small.Ring = .{
        .live = @max(1, numbers[3]),
        .order = std.enums.fromInt(small.Order, numbers[4]) orelse return error.UnknownOrder,
        .touch = numbers[5] != 0,
    };
    _ = machine.resetPeak();
    const timing = switch (workload) {
        .pairs => try large.pairs(face, bytes, count, fault),
        .batches => try large.batches(face, bytes, count, fault),
        .handover => try large.handover(64, face, bytes, count, fault),
        .handover512 => try large.handover(512, face, bytes, count, fault),
        .burst => {
            const resident = try large.burst(face, bytes, count);
            return say("ok {d} {d} {d}\n", .{ resident.start, resident.peak, resident.end });
        },
        .replace => try small.replace(face, bytes, count, ring),
        .sweep => try small.sweep(face, bytes, count, ring),
        .twice => try small.twice(face, bytes, count),
        .reclaim => try small.reclaim(face, extra, bytes, count, ring.live),
        .idle => try small.call(extra.reclaim, count),
        .stats => try small.call(extra.stats, count),
        .larson => try shapes.larson(face, count),
        .xmalloc => try shapes.xmalloc(face, count),
        .mstress => try shapes.mstress(face, count),
        .rptest => try shapes.rptest(face, count),
        .mlarge => try shapes.mlarge(face, count),
        .mixed => try more.mixed(face, count, ring.live),
        .latency => {
            const tail = try more.latency(face, count, ring.live);
            return say("ok {d} {d} {d}\n", .{ tail.p50, tail.p99, tail.p999 });
        },
        .stampede => try more.stampede(face, bytes, count),
        .churn => try more.churn(face, bytes, count),
        .scratch => try more.scratch(face, count, true),
        .thrash => try more.scratch(face, count, false),
        .touched => try more.touched(face, bytes, count),
    };
    const peak = machine.peakBytes() -| (base_bytes + machine.table_bytes);
    say("ok {d} {d} {d} {d}\n", .{ timing.ns, timing.operations, timing.hash, peak });
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
