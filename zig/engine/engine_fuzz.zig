//! Random operations on a whole engine over the deterministic system, against an obvious model: who
//! holds which handle, how long it is, and what its first and last bytes are.
//!
//! Invariant checked: contents stay, wrong handles are refused, each answer is a documented one, the
//! figures equal the model's, and at the end the system holds zero pages. `refuse` runs the same
//! operations with one chosen system call refused once, and checks that nothing else changed.
//!
//! Cost: 1 to 3 us an event. One system thread plays several of the engine's. The real concurrency
//! is tested by race_tests.zig and the scheduler.

const std = @import("std");
const os = @import("../os/os.zig");
const core = @import("core.zig");
const types = @import("types.zig");
const w = @import("block.zig");

const Os = os.fake;
const Engine = core.Engine(Os);
const Status = types.Status;
const mib = 1 << 20;

const threads = 3;
/// Two plain pools, the second with a limit, then one with each kind of layer.
const pools_count = 5;
const layered_first = 2;
const leases_max = 48;
const calls_max = @typeInfo(os.SystemCall).@"enum".fields.len;

/// A system call to be refused at one of its calls.
pub const Refusal = struct { call: os.SystemCall, nth: u64 };

const Held = struct {
    handle: f64,
    thread: u32,
    pool: u8,
    address: usize,
    bytes: usize,
    tag: u8,
    alias: bool,
    token: bool,
    /// Came by token: another thread than its owner's may have made its memory.
    adopted: bool = false,
    wraps: u32,
};

/// `engine` is too large for a stack.
var engine: Engine align(128) = .{};

pub fn fuzz(seed: u64, events: u64) anyerror!void {
    _ = try run(seed, events, null);
}

/// The calls of each kind that a run makes, so that a caller can refuse each of them in turn.
pub fn countCalls(seed: u64, events: u64) anyerror![calls_max]u64 {
    return run(seed, events, null);
}

pub fn refuse(seed: u64, events: u64, refusal: Refusal) anyerror!void {
    _ = try run(seed, events, refusal);
}

/// Refuses each system call at each of its calls, one run for each. `stride` leaves some out.
pub fn refuseEach(seed: u64, events: u64, stride: u64) anyerror!void {
    const calls = try countCalls(seed, events);
    for (calls, 0..) |count, call| {
        const which: os.SystemCall = @enumFromInt(call);
        var nth: u64 = 1;
        while (nth <= count) : (nth += stride) refuse(seed, events, .{ .call = which, .nth = nth }) catch |err| {
            std.debug.print("refused: {t} at its call {d} of {d}, seed {d}\n", .{ which, nth, count, seed });
            return err;
        };
    }
}

/// `refuseEach` as a fuzzer of the registry.
pub fn fuzzRefusals(seed: u64, events: u64) anyerror!void {
    return refuseEach(seed, events, 1);
}

const World = struct {
    random: std.Random,
    held: [leases_max]Held = undefined,
    count: usize = 0,
    pools: [pools_count]u32 = undefined,
    next_tag: u8 = 1,
    refusal: ?Refusal,

    fn pick(world: *World) ?usize {
        return if (world.count == 0) null else world.random.uintLessThan(usize, world.count);
    }

    fn drop(world: *World, at: usize) void {
        world.count -= 1;
        world.held[at] = world.held[world.count];
    }
};

fn run(seed: u64, events: u64, refusal: ?Refusal) anyerror![calls_max]u64 {
    Os.resetWith(.{ .large_pages = 8, .threads = .refuse });
    defer Os.reset();
    engine = .{};
    var prng = std.Random.DefaultPrng.init(seed);
    var world: World = .{ .random = prng.random(), .refusal = refusal };
    for (0..threads) |i| {
        const index = engine.threadAttach();
        if (index != @as(f64, @floatFromInt(i))) return error.Attach;
        // One system thread plays several: forget which it was.
        engine.threads[i].pointer.store(0, .monotonic, .thread_pointer);
    }
    for (&world.pools, 0..) |*pool, i| {
        var options = std.mem.zeroes(types.PoolOptions);
        options.given = @intFromEnum(types.PoolField.limit_bytes) | @intFromEnum(types.PoolField.fork);
        options.limit_bytes = if (i == 0) -1 else 24 * mib;
        options.fork = @intCast(i & 1);
        const id = switch (i) {
            2 => engine.globalCreate(&.{ .region_bytes = 0, .limit_bytes = 32 * mib }),
            3 => engine.reclaimingCreate(&.{
                .slot_bytes_max = if (seed % 2 == 0) 4096 else 2 * mib,
                .reclaim_every_ms = 1,
                .slack_bytes_min = 4096,
                .limit_bytes = 32 * mib,
                .backend = if (seed % 3 == 0) world.pools[2] else 0,
                .pressure = 0,
            }),
            4 => engine.smallCreate(&.{ .limit_bytes = 4 * mib }),
            else => engine.poolCreate(0, &options),
        };
        if (id <= 0) return error.PoolCreate;
        pool.* = @intFromFloat(id);
    }
    var before: [calls_max]u64 = undefined;
    for (&before, 0..) |*n, call| n.* = Os.calls(@enumFromInt(call));
    if (refusal) |r| Os.failNext(r.call, r.nth);
    for (0..events) |event| step(&world) catch |err| {
        std.debug.print("engine fuzz: {t} at event {d}, seed {d}\n", .{ err, event, seed });
        return err;
    };
    var calls: [calls_max]u64 = undefined;
    for (&calls, 0..) |*n, call| n.* = Os.calls(@enumFromInt(call)) - before[call];
    Os.failNothing();
    try finish(&world);
    return calls;
}

fn finish(world: *World) !void {
    while (world.count != 0) try freeOne(world, world.count - 1);
    try compareFigures(world);
    for (0..40) |_| try tickAll(world);
    // The reclaiming allocator before its backend.
    var left: usize = pools_count;
    while (left != 0) : (left -= 1) {
        if (engine.poolClose(0, world.pools[left - 1], 0) != 0) return error.CloseRefused;
    }
    // A refused unmap keeps its range for later: now is later.
    engine.reap();
    for (0..threads) |i| if (engine.threadDetach(@intCast(i)) != .ok) return error.Detach;
    engine.deinit();
    if (Os.pagesHeld() != 0) {
        std.debug.print("{d} pages and {d} mappings not given back\n", .{ Os.pagesHeld(), Os.mappingsHeld() });
        return error.PagesLost;
    }
}

fn step(world: *World) !void {
    switch (world.random.uintLessThan(u32, 100)) {
        0...34 => try allocOne(world),
        35...59 => if (world.pick()) |at| try freeOne(world, at),
        60...69 => if (world.pick()) |at| try resizeOne(world, at),
        70...74 => if (world.pick()) |at| try lockOne(world, at),
        75...79 => if (world.pick()) |at| try adviseOne(world, at),
        80...82 => if (world.pick()) |at| try wrapOne(world, at),
        83...84 => if (world.pick()) |at| try parkOne(world, at),
        85...89 => if (world.pick()) |at| try transferOne(world, at),
        90...91 => {
            _ = engine.poolTrim(0, world.pools[world.random.uintLessThan(usize, pools_count)]);
        },
        92...95 => try tickAll(world),
        96...97 => try wrongHandles(world),
        98 => try changeThread(world),
        else => try compareFigures(world),
    }
}

fn allocOne(world: *World) !void {
    if (world.count == leases_max) return;
    const random = world.random;
    const thread = random.uintLessThan(u32, threads);
    const pool = random.uintLessThan(u8, pools_count);
    const bytes: usize = switch (random.uintLessThan(u32, 10)) {
        0 => 0,
        1...5 => random.uintLessThan(usize, 64 << 10) + 1,
        6...7 => random.uintLessThan(usize, mib) + 1,
        else => random.uintLessThan(usize, 6 * mib) + 1,
    };
    var options: u32 = random.int(u32) & (w.option_zero | w.option_prefault | w.option_alias);
    if (random.uintLessThan(u32, 8) != 0) options &= ~w.option_prefault;
    const lock = if (random.uintLessThan(u32, 6) == 0) random.uintLessThan(u32, 3) else 0;
    options |= lock << w.option_lock_shift;
    const pages: u32 = if (random.uintLessThan(u32, 4) == 0) random.uintLessThan(u32, 4) else 0;
    options |= pages << w.option_pages_shift;
    if (random.uintLessThan(u32, 5) == 0) options |= random.uintLessThan(u32, 23) << w.option_align_shift;
    const handle = engine.alloc(thread, world.pools[pool], @floatFromInt(bytes), options);
    if (handle < 0) return expectRefusal(world, handle, pool, lock == 2, pages == 3);
    const block = &engine.threads[thread].block;
    const address: usize = @intFromFloat(block[w.address]);
    const held: Held = .{
        .handle = handle,
        .thread = thread,
        .pool = pool,
        .address = address,
        .bytes = bytes,
        .tag = world.next_tag,
        .alias = options & w.option_alias != 0,
        .token = false,
        .wraps = 0,
    };
    world.next_tag = world.next_tag *% 37 +% 11;
    const log2 = options >> w.option_align_shift & 31;
    if (bytes != 0 and log2 != 0 and address & ((@as(usize, 1) << @intCast(log2)) - 1) != 0) return error.Alignment;
    for (world.held[0..world.count]) |other| {
        if (bytes == 0 or other.bytes == 0) continue;
        if (address < other.address + other.bytes and other.address < address + bytes) return error.Overlap;
    }
    if (options & w.option_zero != 0) for (ends(held)) |part| for (part) |byte| if (byte != 0) return error.NotZero;
    if (lock == 2 and bytes != 0 and (@as(u32, @intFromFloat(block[w.flags])) & w.lease_locked) == 0) return error.NotLocked;
    fill(held);
    world.held[world.count] = held;
    world.count += 1;
}

/// The documented answers when something is short, and no others.
fn expectRefusal(world: *World, answer: f64, pool: u8, require: bool, huge: bool) !void {
    const status: Status = @enumFromInt(@as(i32, @intFromFloat(answer)));
    const refused: os.SystemCall = if (world.refusal) |r| r.call else .none;
    switch (status) {
        .limit => if (pool == 0 and !huge) return error.UnexpectedLimit,
        .huge_unavailable => if (!huge) return error.UnexpectedHuge,
        .lock_limit => if (!require) return error.UnexpectedLock,
        .unaligned => if (!huge) return error.UnexpectedUnaligned,
        // Another pool's limit stands behind that one.
        .out_of_memory => if (refused != .mmap and pool != 3) return error.UnexpectedOutOfMemory,
        else => return error.UndocumentedAnswer,
    }
}

fn ends(held: Held) [2][]u8 {
    if (held.bytes == 0) return .{ &.{}, &.{} };
    const base: [*]u8 = @ptrFromInt(held.address);
    const n = @min(held.bytes, 48);
    return .{ base[0..n], base[held.bytes - n .. held.bytes] };
}

fn fill(held: Held) void {
    for (ends(held)) |part| @memset(part, held.tag);
}

fn check(held: Held) !void {
    for (ends(held)) |part| for (part) |byte| if (byte != held.tag) return error.ContentsLost;
}

fn freeOne(world: *World, at: usize) !void {
    const held = world.held[at];
    if (held.token) {
        const handle = engine.adopt(held.thread, held.handle);
        if (handle < 0) return error.AdoptRefused;
        world.held[at].handle = handle;
        world.held[at].token = false;
        world.held[at].adopted = true;
        return freeOne(world, at);
    }
    try check(held);
    const result = engine.free(held.thread, held.handle);
    if (held.wraps == 0) {
        if (result != .ok) return error.FreeRefused;
    } else {
        if (result != .closing) return error.NotClosing;
        // Closing memory is nobody else's until the last deallocator has run.
        try check(held);
        const context: usize = (@as(u64, @intFromFloat(held.handle)) & 0xFF_FFFF) + 1;
        for (0..held.wraps) |_| engine.wrapDropped(context);
    }
    const again = engine.free(held.thread, held.handle);
    if (again != .double_free) return error.DoubleFreeAccepted;
    world.drop(at);
}

/// Parks a lease with one wrap and revives it, or lets its wrap go.
fn parkOne(world: *World, at: usize) !void {
    const held = &world.held[at];
    if (held.token or held.bytes == 0) return;
    try check(held.*);
    const before = held.handle;
    const result = engine.park(held.thread, held.handle);
    if (result != .ok) {
        if (result != .unsupported) return error.UndocumentedAnswer;
        if (held.wraps == 1 and held.bytes <= core.parked_bytes_max and held.bytes != 0 and !held.alias and world.refusal == null) {
            // Only a locked lease, one of a region or one that was adopted may say so.
            const block = &engine.threads[held.thread].block;
            _ = engine.describe(held.thread, held.handle);
            if (@as(u32, @intFromFloat(block[w.flags])) & (w.lease_locked | w.lease_run) == w.lease_run and !held.adopted)
                return error.ParkRefused;
        }
        return check(held.*);
    }
    if (held.wraps != 1) return error.ParkedWhileShown;
    if (engine.free(held.thread, before) != .double_free) return error.ParkedStillLive;
    const pool = world.pools[held.pool];
    if (world.random.boolean()) {
        const handle = engine.revive(held.thread, pool, before, 0);
        if (handle < 0 or handle == before) return error.ReviveRefused;
        if (engine.revive(held.thread, pool, handle, 0) >= 0) return error.RevivedTwice;
        held.handle = handle;
        return check(held.*);
    }
    engine.wrapDropped((@as(u64, @intFromFloat(before)) & 0xFF_FFFF) + 1);
    if (engine.revive(held.thread, pool, before, 0) >= 0) return error.RevivedDead;
    world.drop(at);
}

fn resizeOne(world: *World, at: usize) !void {
    const held = &world.held[at];
    if (held.token) return;
    const bytes = switch (world.random.uintLessThan(u32, 3)) {
        0 => world.random.uintLessThan(usize, 64 << 10),
        1 => world.random.uintLessThan(usize, mib) + 1,
        else => world.random.uintLessThan(usize, 6 * mib) + 1,
    };
    try check(held.*);
    const result = engine.resize(held.thread, held.handle, @floatFromInt(bytes));
    if (held.wraps != 0) return if (result == .busy) {} else error.ResizedWhileShown;
    switch (result) {
        .ok => {},
        .limit, .lock_limit, .huge_unavailable, .out_of_memory => return check(held.*),
        else => return error.UndocumentedAnswer,
    }
    const before = held.*;
    held.address = @intFromFloat(engine.threads[held.thread].block[w.address]);
    held.bytes = bytes;
    // The first bytes came along.
    const n = @min(@min(before.bytes, 48), bytes);
    if (n != 0) for (@as([*]u8, @ptrFromInt(held.address))[0..n]) |byte| if (byte != held.tag) return error.ContentsLost;
    fill(held.*);
}

fn lockOne(world: *World, at: usize) !void {
    const held = world.held[at];
    if (held.token) return;
    const result = if (world.random.boolean()) engine.lock(held.thread, held.handle) else engine.unlock(held.thread, held.handle);
    switch (result) {
        .ok, .lock_limit, .limit => {},
        .unsupported => if (held.pool < layered_first) return error.UndocumentedAnswer,
        else => return error.UndocumentedAnswer,
    }
    try check(held);
}

fn adviseOne(world: *World, at: usize) !void {
    const held = world.held[at];
    if (held.token or held.bytes == 0) return;
    const offset = world.random.uintLessThan(usize, held.bytes);
    const bytes = world.random.uintAtMost(usize, held.bytes - offset);
    const result = engine.prefetch(held.thread, held.handle, @floatFromInt(offset), @floatFromInt(bytes));
    switch (result) {
        .ok => {},
        .system => if (world.refusal == null or world.refusal.?.call != .madvise) return error.PrefetchRefused,
        else => return error.UndocumentedAnswer,
    }
    if (engine.prefetch(held.thread, held.handle, @floatFromInt(offset), @floatFromInt(held.bytes + 1)) != .out_of_range) return error.PrefetchBeyond;
    try check(held);
    switch (engine.purge(held.thread, held.handle, 0, @floatFromInt(held.bytes), 0)) {
        .ok => for (ends(held)) |part| for (part) |byte| if (byte != 0) return error.PurgedNotZero,
        .busy, .unsupported => try check(held),
        .system => if (world.refusal == null) return error.PurgeRefused,
        else => return error.UndocumentedAnswer,
    }
    fill(held);
}

fn wrapOne(world: *World, at: usize) !void {
    const held = &world.held[at];
    if (held.token or held.wraps == 3 or held.bytes == 0) return;
    if (engine.wrap(held.thread, held.handle) != .ok) return error.WrapRefused;
    held.wraps += 1;
}

fn transferOne(world: *World, at: usize) !void {
    const held = &world.held[at];
    if (held.token) return;
    const token = engine.transfer(held.thread, held.handle, 0);
    if (held.alias) return if (token == -14) {} else error.AliasTransferred;
    if (held.wraps != 0) return if (token == -11) {} else error.TransferredWhileShown;
    if (token < 0) return error.TransferRefused;
    if (engine.free(held.thread, held.handle) != .double_free) return error.SourceStillLive;
    held.handle = token;
    held.token = true;
    held.thread = world.random.uintLessThan(u32, threads);
}

fn tickAll(world: *World) !void {
    for (world.pools) |id| if (engine.poolOf(id)) |pool| {
        _ = Engine.layered.tick(&engine, &engine.pools[pool.slot]);
        _ = Engine.Pool.Purge.tick(pool);
    };
}

fn wrongHandles(world: *World) !void {
    for (0..8) |_| {
        const number: f64 = @floatFromInt(world.random.int(u53));
        for (world.held[0..world.count]) |held| {
            if (held.handle == number) break;
        } else {
            const result = engine.free(0, number);
            if (result != .foreign and result != .double_free) return error.ForgedAccepted;
        }
    }
    for ([_]f64{ -1, 0.5, std.math.nan(f64), std.math.inf(f64), 1 << 53 }) |odd| {
        if (engine.free(0, odd) != .foreign) return error.OddAccepted;
        if (engine.alloc(0, world.pools[0], odd, 0) != -17) return error.OddSize;
    }
}

/// A thread ends and a new one takes its index: what it owned is freed unless ArrayBuffers show it.
fn changeThread(world: *World) !void {
    const thread = world.random.uintLessThan(u32, threads);
    for (world.held[0..world.count]) |held| if (held.thread == thread) return;
    if (engine.threadDetach(thread) != .ok) return error.Detach;
    const index = engine.threadAttach();
    if (index != @as(f64, @floatFromInt(thread))) return error.Attach;
    engine.threads[thread].pointer.store(0, .monotonic, .thread_pointer);
}

fn compareFigures(world: *World) !void {
    var out: types.Stats = undefined;
    _ = engine.stats(&out, 0);
    var bytes: f64 = 0;
    var live: f64 = 0;
    for (world.held[0..world.count]) |held| {
        bytes += @floatFromInt(held.bytes);
        live += 1;
    }
    if (out.allocated_bytes != bytes or out.live_handles != live) {
        std.debug.print("figures: {d} bytes in {d} leases, should be {d} in {d}\n", .{ out.allocated_bytes, out.live_handles, bytes, live });
        return error.FiguresWrong;
    }
    if (out.active_bytes < out.allocated_bytes or out.closing_handles != 0) return error.FiguresWrong;
    if (out.resident_bytes > out.mapped_bytes) return error.FiguresWrong;
}

const testing = std.testing;

test "an engine and the model agree over random operations" {
    const seed: u64 = testing.random_seed;
    errdefer std.debug.print("seed {d}\n", .{seed});
    for (0..2) |i| try fuzz(seed +% i, 2500);
}

test "a refused system call gives a documented answer and loses no page" {
    const seed: u64 = testing.random_seed;
    errdefer std.debug.print("seed {d}\n", .{seed});
    try refuseEach(seed, 150, 7);
}
