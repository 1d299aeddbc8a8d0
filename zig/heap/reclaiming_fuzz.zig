//! The reclaiming heap against an obvious model: random sizes, alignments and threads, wrong frees,
//! reclaims, and a backend that refuses (`fuzz`); and real threads beside a reclaimer (`fuzzThreads`).
//!
//! Invariant checked: what is live is aligned, apart from all else and keeps its contents; wrong frees
//! are refused and change nothing; figures agree with the model; at the end, with every thread still
//! there, the backend holds nothing. In `fuzz` the calls of several threads are made by one, so the
//! seed decides everything; in `fuzzThreads` it decides what each thread does.
//!
//! Cost: some µs an event. Not for the order of memory operations: that is schedules.zig.

const std = @import("std");
const ds = @import("../ds/ds.zig");
const os = @import("../os/os.zig");
const reclaiming = @import("reclaiming.zig");
const Store = @import("reclaiming_house.zig").Store;
const Swarm = @import("../testing/swarm.zig").Swarm;

const threads_max = 8;
const Heap = reclaiming.Reclaiming(.{ .threads_max = threads_max + 2 });
const Operation = enum { alloc, alloc_many, free, free_many, twice, wrong, resize, reclaim, end, refuse };

const Live = struct { ptr: [*]u8, bytes: usize, tag: u8 };
const live_max = 4000;

pub fn fuzz(seed: u64, events: u64) anyerror!void {
    return fuzzFilled(seed, events, if (seed % 2 == 0) 0xFF else null);
}

/// With a backend whose memory is full of ones.
pub fn fuzzDirty(seed: u64, events: u64) anyerror!void {
    return fuzzFilled(seed, events, 0xFF);
}

fn fuzzFilled(seed: u64, events: u64, content: ?u8) anyerror!void {
    const gpa = std.heap.page_allocator;
    var run = try gpa.create(Run);
    defer gpa.destroy(run);
    run.* = .{ .prng = .init(seed) };
    defer run.store.deinit();
    const random = run.prng.random();
    run.store.prng = .init(seed);
    run.store.fill = content;
    if (!run.heap.init(run.store.backend(), .{ .slot_bytes_max = if (random.boolean()) 4096 else 2 << 20 })) return error.Refused;
    const mix: Swarm(Operation) = .init(random, &.{ .alloc, .free });
    for (0..events) |event| {
        try run.step(mix.next(random), @truncate(event));
        if (event % 256 == 0) try run.compare();
    }
    run.store.one_in = 0;
    while (run.count > 0) try run.free();
    _ = run.heap.reclaim();
    try run.compare();
    if (run.store.held_bytes != 0 or run.store.wrong != 0) return error.NotGivenBack;
    run.heap.deinit();
}

const Run = struct {
    prng: std.Random.DefaultPrng,
    store: Store = .{},
    heap: Heap = .{},
    live: [live_max]Live = undefined,
    count: usize = 0,

    fn thread(run: *Run) ?u32 {
        const number = run.prng.random().uintAtMost(u32, 4);
        return if (number == 4) null else number;
    }

    fn step(run: *Run, operation: Operation, tag: u8) !void {
        const random = run.prng.random();
        switch (operation) {
            .alloc => try run.alloc(tag, run.size()),
            .alloc_many => {
                const bytes = run.size();
                for (0..random.uintLessThan(usize, 200)) |_| try run.alloc(tag, bytes);
            },
            .free => if (run.count > 0) try run.free(),
            .free_many => for (0..random.uintLessThan(usize, 300)) |_| if (run.count > 0) try run.free(),
            .twice => if (run.count > 0) {
                const ptr = try run.freeOne(run.thread());
                if (run.heap.free(run.thread(), ptr)) |_| return error.FreedTwice else |_| {}
            },
            .wrong => if (run.count > 0) {
                const one = run.live[random.uintLessThan(usize, run.count)];
                const usable = run.heap.usableSize(one.ptr) orelse return error.Unknown;
                const offset = random.intRangeLessThan(usize, 1, @max(usable, 2));
                if (offset < usable) {
                    if (run.heap.free(run.thread(), one.ptr + offset)) |_| return error.FreedInside else |_| {}
                }
                const address = random.int(usize);
                if (run.heap.usableSize(@ptrFromInt(address | 1)) != null) return error.KnowsForeign;
            },
            .resize => if (run.count > 0) {
                const one = &run.live[random.uintLessThan(usize, run.count)];
                const bytes = run.size();
                if (!run.heap.resizeInPlace(random.uintLessThan(u32, 4), one.ptr, bytes)) return;
                if (bytes > run.heap.usableSize(one.ptr).?) return error.TooSmall;
                try check(one.*);
                one.bytes = bytes;
                fill(one.*);
            },
            .reclaim => {
                _ = run.heap.reclaim();
                if (run.heap.reclaim() != 0) return error.ReclaimedAgain;
            },
            .end => run.heap.threadEnded(random.uintLessThan(u32, 4)),
            .refuse => run.store.one_in = if (random.boolean()) random.intRangeAtMost(u32, 1, 6) else 0,
        }
    }

    fn size(run: *Run) usize {
        const random = run.prng.random();
        const shift = if (random.uintLessThan(u8, 50) == 0) random.uintLessThan(u6, 22) else random.uintLessThan(u6, 13);
        return random.intRangeAtMost(usize, 1, @as(usize, 2) << shift);
    }

    fn alloc(run: *Run, tag: u8, bytes: usize) !void {
        if (run.count == live_max) return run.free();
        const random = run.prng.random();
        const alignment = if (random.uintLessThan(u8, 4) == 0) @as(usize, 1) << random.uintLessThan(u6, 14) else 0;
        const ptr = (if (run.thread()) |number|
            run.heap.alloc(number, bytes, alignment)
        else
            run.heap.allocAny(bytes, alignment)) orelse {
            return if (run.store.one_in == 0) error.Refused;
        };
        if (@intFromPtr(ptr) % @max(alignment, 16) != 0) return error.Misaligned;
        // That it lies in no other live one shows in their contents.
        run.live[run.count] = .{ .ptr = ptr, .bytes = bytes, .tag = tag };
        fill(run.live[run.count]);
        run.count += 1;
    }

    fn free(run: *Run) !void {
        _ = try run.freeOne(run.thread());
    }

    fn freeOne(run: *Run, number: ?u32) ![*]u8 {
        const at = run.prng.random().uintLessThan(usize, run.count);
        const one = run.live[at];
        try check(one);
        try run.heap.free(number, one.ptr);
        run.count -= 1;
        run.live[at] = run.live[run.count];
        return one.ptr;
    }

    fn compare(run: *Run) !void {
        const figures = run.heap.figures();
        if (figures.live_slots + figures.passed != @as(f64, @floatFromInt(run.count))) return error.LiveDiffers;
        const held: f64 = @floatFromInt(run.store.held_bytes);
        if (figures.allocated_from_fallback + figures.passed_bytes != held) return error.HeldDiffers;
        if (run.store.wrong != 0) return error.WronglyGiven;
        if (figures.in_use > figures.allocated_from_fallback) return error.MoreInUseThanThere;
    }
};

/// Contents: both ends carry the tag.
fn fill(one: Live) void {
    const edge = @min(one.bytes, 64);
    @memset(one.ptr[0..edge], one.tag);
    @memset(one.ptr[one.bytes - edge .. one.bytes], one.tag);
}

fn check(one: Live) !void {
    const edge = @min(one.bytes, 64);
    for (one.ptr[0..edge]) |byte| if (byte != one.tag) return error.ContentsLost;
    for (one.ptr[one.bytes - edge .. one.bytes]) |byte| if (byte != one.tag) return error.ContentsLost;
}

/// Eight threads, one reclaimer, and a backend that refuses one call in five.
pub fn fuzzThreads(seed: u64, events: u64) anyerror!void {
    const gpa = std.heap.page_allocator;
    const shared = try gpa.create(Shared);
    defer gpa.destroy(shared);
    shared.* = .{ .events = events };
    defer shared.store.deinit();
    shared.store.prng = .init(seed);
    shared.store.one_in = 5;
    shared.store.fill = if (seed % 2 == 0) 0xFF else null;
    if (!shared.heap.init(shared.store.backend(), .{ .slot_bytes_max = if (seed % 3 == 0) 2 << 20 else 4096 })) return error.Refused;

    var threads: [threads_max]std.Thread = undefined;
    for (&threads, 0..) |*thread, number| {
        thread.* = try .spawn(.{}, Shared.work, .{ shared, @as(u32, @intCast(number)), seed +% number });
    }
    const reclaimer: std.Thread = try .spawn(.{}, Shared.reclaimNow, .{shared});
    // The threads are done but alive when the heap must be empty.
    while (shared.done.load(.acquire) < threads_max) os.Native.wait(&shared.nothing, 0, 200 * std.time.ns_per_us);
    shared.stop.store(true, .release);
    reclaimer.join();
    for (&shared.mail) |*cell| if (cell.swap(0, .acq_rel) != 0) return error.MailLeft;
    shared.store.one_in = 0;
    _ = shared.heap.reclaim();
    const figures = shared.heap.figures();
    const held = shared.store.held_bytes;
    shared.leave.store(true, .release);
    for (threads) |thread| thread.join();
    if (shared.failure.load(.monotonic) != 0) return @errorFromInt(shared.failure.load(.monotonic));
    if (figures.live_slots != 0 or figures.passed != 0) return error.Lost;
    if (held != 0 or shared.store.wrong != 0) return error.NotGivenBack;
    if (figures.wrong_frees != 0) return error.WrongFree;
    shared.heap.deinit();
}

const Shared = struct {
    store: Store = .{},
    heap: Heap = .{},
    events: u64,
    /// Slots on their way to whoever takes them.
    mail: [64]std.atomic.Value(usize) = @splat(.init(0)),
    done: std.atomic.Value(u32) = .init(0),
    stop: std.atomic.Value(bool) = .init(false),
    leave: std.atomic.Value(bool) = .init(false),
    failure: std.atomic.Value(u16) = .init(0),
    nothing: u32 = 0,

    const held_max = 120;

    fn reclaimNow(shared: *Shared) void {
        while (!shared.stop.load(.acquire)) {
            _ = shared.heap.reclaim();
            const figures = shared.heap.figures();
            if (figures.in_use > figures.allocated_from_fallback) shared.fail(error.MoreInUseThanThere);
            os.Native.wait(&shared.nothing, 0, 20 * std.time.ns_per_us);
        }
    }

    fn fail(shared: *Shared, err: anyerror) void {
        shared.failure.store(@intFromError(err), .monotonic);
    }

    fn work(shared: *Shared, number: u32, seed: u64) void {
        shared.run(number, seed) catch |err| shared.fail(err);
        _ = shared.done.fetchAdd(1, .release);
        while (!shared.leave.load(.acquire)) os.Native.wait(&shared.nothing, 0, 200 * std.time.ns_per_us);
    }

    fn run(shared: *Shared, number: u32, seed: u64) !void {
        var prng: std.Random.DefaultPrng = .init(seed);
        const random = prng.random();
        var held: [held_max]Live = undefined;
        var count: usize = 0;
        var event: u64 = 0;
        while (event < shared.events) : (event += 1) {
            const grow = random.uintLessThan(usize, held_max) >= count;
            if (grow) {
                // Many of one size, some of any.
                const bytes = if (random.boolean()) 64 else random.intRangeAtMost(usize, 16, @as(usize, 32) << random.uintLessThan(u6, 9));
                const ptr = (if (random.uintLessThan(u8, 16) == 0)
                    shared.heap.allocAny(bytes, 0)
                else
                    shared.heap.alloc(number, bytes, 0)) orelse continue;
                held[count] = .{ .ptr = ptr, .bytes = bytes, .tag = @truncate(seed +% event) };
                fill(held[count]);
                count += 1;
                continue;
            }
            const at = random.uintLessThan(usize, count);
            const one = held[at];
            try check(one);
            count -= 1;
            held[at] = held[count];
            try shared.letGo(number, random, one.ptr);
        }
        for (held[0..count]) |one| {
            try check(one);
            try shared.heap.free(number, one.ptr);
        }
        for (&shared.mail) |*cell| {
            const address = cell.swap(0, .acq_rel);
            if (address != 0) try shared.heap.free(number, @ptrFromInt(address));
        }
    }

    /// Frees it, or leaves it to another thread and frees what lay there.
    fn letGo(shared: *Shared, number: u32, random: std.Random, ptr: [*]u8) !void {
        var address = @intFromPtr(ptr);
        if (random.uintLessThan(u8, 3) == 0) {
            address = shared.mail[random.uintLessThan(usize, shared.mail.len)].swap(address, .acq_rel);
            if (address == 0) return;
        }
        const from: ?u32 = if (random.uintLessThan(u8, 8) == 0) null else number;
        try shared.heap.free(from, @ptrFromInt(address));
    }
};

test "random runs agree with the model" {
    const seed = std.testing.random_seed;
    errdefer std.debug.print("seed 0x{x}\n", .{seed});
    for (0..4) |at| try fuzz(seed +% at, 3000);
}

test "threads allocate, free and hand over beside a reclaimer" {
    const seed = std.testing.random_seed;
    errdefer std.debug.print("seed 0x{x}\n", .{seed});
    for (0..2) |at| try fuzzThreads(seed +% at, 4000);
}
