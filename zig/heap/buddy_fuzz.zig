//! The buddy against a list of who holds which pages: random runs, alignments, resizes, wrong frees
//! and regions that come and go.
//!
//! Invariant checked: runs never overlap, are aligned, keep their contents; wrong frees change
//! nothing; the structure agrees with a full walk; at the end every page has come back. One thread.
//! Cost: about 1 µs an event, and a walk every 64 events.

const std = @import("std");
const buddy_file = @import("buddy.zig");
const Swarm = @import("../testing/swarm.zig").Swarm;

const Buddy = buddy_file.Buddy(.{ .Lock = buddy_file.NoLock, .sections_max = 4 });
const page = Buddy.page_bytes;
const Operation = enum { alloc, alloc_low, free, resize, wrong, add, remove };
const Run = struct { address: usize, count: usize, tag: u16 };

const runs_max = 128;
const region_bytes = 512 * 1024;
const regions_count = 4;

var arena: [regions_count * region_bytes]u8 align(page) = undefined;

/// One run, for the registry of fuzzers.
pub fn fuzz(seed: u64, events: u64) anyerror!void {
    var prng: std.Random.DefaultPrng = .init(seed);
    const random = prng.random();
    const mix: Swarm(Operation) = .init(random, &.{ .alloc, .add });
    var buddy: Buddy = .{};
    var runs: [runs_max]Run = undefined;
    var count: usize = 0;
    for (0..events) |event| {
        switch (mix.next(random)) {
            .add => {
                const part = arena[random.uintLessThan(usize, regions_count) * region_bytes ..];
                const odd = random.uintLessThan(usize, 9000);
                buddy.addRegion(part[odd..region_bytes], .{ .low = random.boolean() }) catch |err| {
                    if (err != error.Overlap) return err;
                };
            },
            .remove => {
                const ordinal = random.uintLessThan(usize, regions_count);
                const section = buddy.sectionFigures(ordinal) orelse continue;
                const free = section.free_pages == section.pages_count;
                if (buddy.removeRegion(section.address)) |_| {
                    if (!free) return error.RemovedInUse;
                } else |_| if (free) return error.NotRemoved;
            },
            .alloc, .alloc_low => |operation| {
                if (count == runs_max) continue;
                const pages = 1 + random.uintLessThan(usize, @as(usize, 1) << random.uintLessThan(u5, 7));
                const alignment = page << random.uintLessThan(u5, 6);
                const tag: u16 = @truncate(event);
                const got = if (operation == .alloc)
                    buddy.alloc(pages, alignment, tag)
                else
                    buddy.allocLow(pages, alignment, tag);
                const memory = got catch continue;
                const run: Run = .{ .address = @intFromPtr(memory), .count = pages, .tag = tag };
                if (run.address % alignment != 0) return error.Misaligned;
                for (runs[0..count]) |other| if (overlap(run, other)) return error.Overlapping;
                fill(run);
                runs[count] = run;
                count += 1;
            },
            .free => {
                if (count == 0) continue;
                const at = random.uintLessThan(usize, count);
                const run = runs[at];
                try check(run, run.count);
                if (try buddy.free(run.address) != run.count) return error.WrongCount;
                if (buddy.free(run.address)) |_| return error.FreedTwice else |_| {}
                count -= 1;
                runs[at] = runs[count];
            },
            .resize => {
                if (count == 0) continue;
                const at = random.uintLessThan(usize, count);
                const old = runs[at];
                const pages = 1 + random.uintLessThan(usize, 40);
                if (!try buddy.resize(old.address, pages)) {
                    try check(old, old.count);
                    continue;
                }
                try check(old, @min(pages, old.count));
                runs[at].count = pages;
                for (runs[0..count], 0..) |other, i| {
                    if (i != at and overlap(runs[at], other)) return error.Overlapping;
                }
                fill(runs[at]);
            },
            .wrong => {
                const address = @intFromPtr(&arena) + random.uintLessThan(usize, arena.len);
                const right = for (runs[0..count]) |run| {
                    if (run.address == address) break true;
                } else false;
                if (right) continue;
                if (buddy.free(address)) |_| return error.WrongFreeAccepted else |_| {}
            },
        }
        if (event % 64 == 0) try buddy.invariants();
    }
    for (runs[0..count]) |run| {
        try check(run, run.count);
        const found = try buddy.find(run.address);
        if (found.tag != run.tag or found.pages_count != run.count) return error.WrongTag;
        _ = try buddy.free(run.address);
    }
    try buddy.invariants();
    if (buddy.allocatedBytes() != 0) return error.PagesLost;
    while (buddy.sectionFigures(0)) |section| _ = try buddy.removeRegion(section.address);
}

fn overlap(a: Run, b: Run) bool {
    return a.address < b.address + b.count * page and b.address < a.address + a.count * page;
}

/// The first bytes of each page carry the tag.
fn fill(run: Run) void {
    for (0..run.count) |i| @as(*u16, @ptrFromInt(run.address + i * page)).* = run.tag;
}

fn check(run: Run, count: usize) error{ContentsLost}!void {
    for (0..count) |i| {
        if (@as(*const u16, @ptrFromInt(run.address + i * page)).* != run.tag) return error.ContentsLost;
    }
}

test "the buddy agrees with the model over random operations" {
    const seed: u64 = std.testing.random_seed;
    errdefer std.debug.print("seed {d}\n", .{seed});
    for (0..8) |run| try fuzz(seed +% run, 3_000);
}
