//! Finds out what each advice really does on this kernel: by its effect, not by its return code.
//!
//! Emulators and sandboxes answer 0 to advice they ignore, and a kernel that knows an advice may
//! have it switched off. So each is tried once on a few pages of our own, and the pages are looked
//! at: `dont_need` must bring zeros, `populate_write` must make resident (`mincore`), `collapse`
//! must leave a large page, and the ones about forks and dumps, which cannot be seen without a
//! fork, must show in the flags that `smaps` prints (where the kernel hides `smaps`, the code must
//! do).
//!
//! Invariant: an answer never changes once given (a probe that could not get its pages answers no
//! and is asked again). Threads that ask at the same time both probe; they find the same. Cost: 5
//! to 50 us a probe, 150 us for the group that reads `smaps`, once for all of it; `collapse` works
//! on 2 MiB and takes 0.4 to 9 ms. Later questions are one relaxed load. When NOT to use it: not at
//! start, where it would slow the import; it is asked at first need.

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
        .lazy_free => probeMapping(&.{.lazy_free}, lazy_pages),
        .huge, .no_huge, .dont_fork, .do_fork, .wipe_on_fork, .dont_dump => {
            probeMapping(&flagged, 1);
        },
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
        const given = give(page, bytes, advice);
        return given and before == 0 and linux.residentBytes(page, bytes) == bytes;
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
    const given = give(block, bytes, .collapse);
    return given and linux.hugeBytes(block, bytes) == bytes and peek(block) == 1;
}

/// The advices that cost nothing to give; their effect is a flag of the mapping.
const flagged = [_]os.Advice{ .huge, .no_huge, .dont_fork, .do_fork, .wipe_on_fork, .dont_dump };

/// The kernel marks lazily freed pages in batches of up to 31 a processor: with a few batches some
/// are marked by the time `smaps` looks.
const lazy_pages = 64;

/// Gives each advice of the group to pages of its own, then reads of them in `smaps`. That lists
/// mappings by address and takes its time to walk each, so the probe asks for the lowest address
/// that a process may have and stops reading behind it: a fraction of the 2 ms that all of it takes
/// in a Bun process. Where something lies there already, the kernel answers another place and more
/// is read.
fn probeMapping(group: []const os.Advice, pages_each: usize) void {
    const system = std.os.linux;
    const part = pages_each * linux.pageBytes();
    // Every second part stays unadvised, so that no two of the group become one mapping.
    const bytes = 2 * group.len * part;
    const lowest: [*]u8 = @ptrFromInt(65536);
    const private: system.MAP = .{ .TYPE = .PRIVATE, .ANONYMOUS = true, .NORESERVE = true };
    const mapped = system.mmap(lowest, bytes, .{ .READ = true, .WRITE = true }, private, -1, 0);
    if (system.errno(mapped) != .SUCCESS) return;
    const base: [*]u8 = @ptrFromInt(mapped);
    defer _ = linux.unmap(base, bytes);

    var worked: [flagged.len]bool = undefined;
    for (group, 0..) |advice, index| {
        const place = base + 2 * index * part;
        if (advice == .do_fork) _ = give(place, part, .dont_fork);
        if (advice == .lazy_free) {
            _ = give(place, part, .no_huge);
            for (0..pages_each) |page| @as([*]volatile u8, place)[page * linux.pageBytes()] = 1;
        }
        worked[index] = give(place, part, advice);
    }
    if (proc.Mappings.open()) |opened| {
        var mappings = opened;
        defer mappings.close();
        var left = group.len;
        while (left > 0) {
            const mapping = mappings.next() orelse break;
            for (group, 0..) |advice, index| {
                const address = @intFromPtr(base + 2 * index * part);
                if (address < mapping.start or address >= mapping.end) continue;
                worked[index] = worked[index] and shows(mapping, advice);
                left -= 1;
            }
        }
    }
    for (group, worked[0..group.len]) |advice, answer| {
        settle(advice, answer and (advice != .huge or largePagesEnabled()));
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

/// The advice `huge` marks a mapping even where the kernel was told never to make large pages.
fn largePagesEnabled() bool {
    var lines = proc.Lines.open("/sys/kernel/mm/transparent_hugepage/enabled") orelse return false;
    defer lines.close();
    const line = lines.next() orelse return false;
    return proc.find(line, "[never]") == null;
}

test "an advice that works is seen to work on this kernel" {
    if (@import("builtin").os.tag != .linux) return error.SkipZigTest;
    try std.testing.expect(works(.dont_need) and works(.will_need));
    // Every kernel since 4.14 has all of these; an emulator that shows no flags has none.
    for ([_]os.Advice{ .wipe_on_fork, .dont_dump, .no_huge }) |advice| {
        try std.testing.expectEqual(works(.dont_fork), works(advice));
    }
    for (std.enums.values(os.Advice)) |advice| {
        try std.testing.expectEqual(works(advice), works(advice));
        try std.testing.expect(answers[@intFromEnum(advice)].load(.monotonic) != .unknown);
    }
}
