//! Finds out what each advice really does on this kernel: by its effect, not by its return code.
//!
//! Emulators and sandboxes answer 0 to advice they ignore, and a kernel that knows an advice may have
//! it switched off. So each is tried once on a few pages of our own, and the pages are looked at:
//! `dont_need` must bring zeros, `populate_write` must make resident (`mincore`), `collapse` must
//! leave a large page, and the ones about forks and dumps, which cannot be seen without a fork, must
//! show in the flags that `smaps` prints (where the kernel hides `smaps`, the code must do).
//!
//! Invariant: an answer never changes once given (a probe that could not get its pages answers no and
//! is asked again). Threads that ask at the same time both probe; they find the same. Cost: 5 to 50 us
//! a probe; the group that reads `smaps` 0.2 to several ms for a process with many pages, once for all
//! of the group; `collapse` faults 2 MiB. Later questions are one relaxed load.
//! When NOT to use it: not at start, where it would slow the import; it is asked at first need.

const std = @import("std");
const os = @import("os.zig");
const linux = @import("linux.zig");
const proc = @import("proc.zig");

const Answer = enum(u8) { unknown, no, yes };

const advices = @typeInfo(os.Advice).@"enum".fields.len;

/// Each cell stands for itself and goes from unknown to its answer, so monotonic order is enough.
var answers: [advices]std.atomic.Value(Answer) = @splat(.init(.unknown));

/// See `os.Primitives.works`.
pub fn works(advice: os.Advice) bool {
    const cell = &answers[@intFromEnum(advice)];
    switch (cell.load(.monotonic)) {
        .yes => return true,
        .no => return false,
        .unknown => {},
    }
    switch (advice) {
        .dont_need, .dont_need_locked, .populate_write => settle(advice, probeContents(advice)),
        .will_need => settle(advice, probeCode(advice)),
        .collapse => settle(advice, probeCollapse()),
        .huge, .no_huge, .lazy_free, .dont_fork, .do_fork, .wipe_on_fork, .dont_dump => probeFlags(),
    }
    return cell.load(.monotonic) == .yes;
}

fn settle(advice: os.Advice, worked: ?bool) void {
    const answer: Answer = if (worked orelse return) .yes else .no;
    answers[@intFromEnum(advice)].store(answer, .monotonic);
}

/// The kernel's answer to the advice itself, without `linux.advise`, which asks here.
fn give(ptr: [*]u8, bytes: usize, advice: os.Advice) bool {
    const system = std.os.linux;
    return system.errno(system.madvise(ptr, bytes, linux.adviceNumber(advice))) == .SUCCESS;
}

/// The compiler must not know what a page holds after an advice.
fn peek(ptr: [*]u8) u8 {
    return @as([*]volatile u8, ptr)[0];
}

fn probeContents(advice: os.Advice) ?bool {
    var errno: u16 = 0;
    const bytes = linux.pageBytes();
    const page = linux.reserve(bytes, bytes, &errno) orelse return null;
    defer _ = linux.unmap(page, bytes);
    if (advice == .populate_write) {
        const before = linux.residentBytes(page, bytes);
        return give(page, bytes, advice) and before == 0 and linux.residentBytes(page, bytes) == bytes;
    }
    @as([*]volatile u8, page)[0] = 1;
    // A lock may be refused to this process; then only the advice's knownness can be seen, and the
    // question will not come up on locked pages either.
    if (advice == .dont_need_locked) _ = linux.lock(page, bytes);
    return give(page, bytes, advice) and peek(page) == 0;
}

fn probeCode(advice: os.Advice) ?bool {
    var errno: u16 = 0;
    const bytes = linux.pageBytes();
    const page = linux.reserve(bytes, bytes, &errno) orelse return null;
    defer _ = linux.unmap(page, bytes);
    return give(page, bytes, advice);
}

fn probeCollapse() ?bool {
    var errno: u16 = 0;
    const bytes = os.large_page_bytes;
    const block = linux.reserve(bytes, bytes, &errno) orelse return null;
    defer _ = linux.unmap(block, bytes);
    @as([*]volatile u8, block)[0] = 1;
    return give(block, bytes, .collapse) and linux.hugeBytes(block, bytes) == bytes and peek(block) == 1;
}

/// The kernel marks lazily freed pages in batches of up to 31 a processor: with more than a few
/// batches some are marked by the time `smaps` looks.
const lazy_pages = 128;

/// All advices whose effect only `smaps` shows, each on a page of its own (2 MiB for `huge`, so that
/// the mapping could hold a large page), then one walk.
fn probeFlags() void {
    const group = [_]os.Advice{
        .huge, .no_huge, .lazy_free, .dont_fork, .do_fork, .wipe_on_fork, .dont_dump,
    };
    const page = linux.pageBytes();
    const stride = @max(os.large_page_bytes, page);
    var errno: u16 = 0;
    // Every second stride stays unadvised, so that no two of them are one mapping.
    const bytes = 2 * group.len * stride;
    const base = linux.reserve(bytes, stride, &errno) orelse return;
    defer _ = linux.unmap(base, bytes);

    var accepted: [group.len]bool = undefined;
    for (group, 0..) |advice, index| {
        const place = base + 2 * index * stride;
        const length = switch (advice) {
            .huge => stride,
            .lazy_free => lazy_pages * page,
            else => page,
        };
        if (advice == .lazy_free) {
            // Without large pages, lest these be part of one.
            _ = give(place, length, .no_huge);
            for (0..lazy_pages) |index_page| @as([*]volatile u8, place)[index_page * page] = 1;
        }
        if (advice == .do_fork) _ = give(place, length, .dont_fork);
        accepted[index] = give(place, length, advice);
    }

    var seen: [group.len]bool = accepted;
    if (proc.Mappings.open()) |opened| {
        var mappings = opened;
        defer mappings.close();
        while (mappings.next()) |mapping| {
            for (group, 0..) |advice, index| {
                const address = @intFromPtr(base + 2 * index * stride);
                if (address < mapping.start or address >= mapping.end) continue;
                seen[index] = accepted[index] and shows(mapping, advice);
            }
        }
    }
    for (group, seen) |advice, worked| {
        settle(advice, worked and (advice != .huge or largePagesEnabled()));
    }
}

fn shows(mapping: proc.Mapping, advice: os.Advice) bool {
    return switch (advice) {
        .huge => mapping.flags.huge,
        .no_huge => mapping.flags.no_huge,
        .lazy_free => mapping.lazy_bytes > 0,
        .dont_fork => mapping.flags.dont_fork,
        .do_fork => !mapping.flags.dont_fork,
        .wipe_on_fork => mapping.flags.wipe_on_fork,
        .dont_dump => mapping.flags.dont_dump,
        else => unreachable,
    };
}

/// The advice marks a mapping even where the kernel was told never to make large pages.
fn largePagesEnabled() bool {
    var lines = proc.Lines.open("/sys/kernel/mm/transparent_hugepage/enabled") orelse return false;
    defer lines.close();
    const line = lines.next() orelse return false;
    return std.mem.find(u8, line, "[never]") == null;
}

test "an advice that works is seen to work on this kernel" {
    if (@import("builtin").os.tag != .linux) return error.SkipZigTest;
    // Every kernel since 4.14 that is no emulator has these.
    for ([_]os.Advice{ .dont_need, .dont_fork, .do_fork, .dont_dump, .will_need }) |advice| {
        try std.testing.expect(works(advice));
    }
    for (std.enums.values(os.Advice)) |advice| {
        try std.testing.expectEqual(works(advice), works(advice));
        try std.testing.expect(answers[@intFromEnum(advice)].load(.monotonic) != .unknown);
    }
}
