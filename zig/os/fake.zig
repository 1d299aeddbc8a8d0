//! A deterministic system for tests: refuses any call on demand and knows where every page is.
//!
//! Memory is real (one private arena, so reads and writes work, and unmapped parts of it fault),
//! but what is mapped, advised, locked and counted is decided here: the same calls give the same
//! addresses relative to the arena, the same counts and the same refusals in every run. Addresses
//! are the lowest that fit, so an unmapped range is given out again at the next chance, which is
//! what finds stale pointers. Residency is the kernel's own count of the arena's pages, with large
//! pages switched off, and therefore exact also for pages that were only touched.
//!
//! Modelled: the limit of mappings (a mapping is a run of pages with equal attributes, so that
//! partial advice splits and equal neighbours merge, as in Linux), the pool of explicit large
//! pages, the limit of locked bytes, EINVAL of `dont_need` on locked pages, lazily freed pages that
//! vanish or stay, advice that answers 0 and does nothing, a clock that moves when told, threads
//! refused, recorded or really started. Not modelled: large pages by advice take nothing, swap,
//! forks.
//!
//! Cost: about a nanosecond a page per call (a byte of state each); one lock round everything, so
//! threads may share it. State is global: one test at a time, each beginning with `reset`.
//! When NOT to use it: to measure anything.

const std = @import("std");
const builtin = @import("builtin");
const os = @import("os.zig");
const system = os.Native;
const linux = std.os.linux;

const arena_bytes: usize = 64 << 30;
const arena_alignment: usize = 1 << 30;
const pages_max = arena_bytes / 4096;
const calls_count = @typeInfo(os.SystemCall).@"enum".fields.len;
const advice_count = @typeInfo(os.Advice).@"enum".fields.len;

/// What a test decides about its system.
pub const Settings = struct {
    /// For `random` and `failOneIn`.
    seed: u64 = 1,
    large_pages: u64 = 0,
    lock_limit_bytes: u64 = std.math.maxInt(u64),
    map_limit: u64 = 65530,
    lazy_free: enum { drop, keep, mix } = .drop,
    threads: enum { refuse, record, start } = .refuse,
    /// What a `wait` with a timeout does: move the clock to its end and return (one thread), or
    /// really sleep until another thread wakes it or has moved the clock (several threads).
    waiting: enum { advance, sleep } = .advance,
    process_id: u32 = 4711,
    is_alone: bool = true,
    memory_pressure: u32 = 0,
};

/// The attributes of a page; all zero is "not mapped".
const Page = packed struct(u8) {
    mapped: bool = false,
    large: bool = false,
    locked: bool = false,
    huge: bool = false,
    no_huge: bool = false,
    dont_fork: bool = false,
    wipe_on_fork: bool = false,
    dont_dump: bool = false,

    fn changed(page: Page, clear: Page, add: Page) Page {
        const kept = @as(u8, @bitCast(page)) & ~@as(u8, @bitCast(clear));
        return @bitCast(kept | @as(u8, @bitCast(add)));
    }
    const every: Page = @bitCast(@as(u8, 0xFF));
};

/// When calls of one kind are refused.
const Plan = struct {
    calls: u64 = 0,
    refusals: u64 = 0,
    refuse_at: u64 = 0,
    every: u64 = 0,
    one_in: u64 = 0,
    errno: u16 = os.Errno.no_memory,
};

const State = struct {
    settings: Settings = .{},
    plans: [calls_count]Plan = @splat(.{}),
    advice_errno: [advice_count]u16 = @splat(0),
    advice_idle: [advice_count]bool = @splat(false),
    advice_calls: [advice_count]u64 = @splat(0),
    pages_held: u64 = 0,
    files: i32 = 0,
    files_open: u64 = 0,
    locked: u64 = 0,
    large_free: u64 = 0,
    mappings: u64 = 0,
    high_water: usize = 0,
    now_ns: u64 = 1,
    prng: std.Random.DefaultPrng = .init(1),
    spawned: [16]Spawned = undefined,
    spawned_count: usize = 0,
    end_callback: ?os.ThreadEnd = null,
};

/// A thread that was recorded instead of started.
pub const Spawned = struct { entry: os.ThreadEntry, arg: ?*anyopaque };

var state: State = .{};
var pages: [pages_max]Page = @splat(.{});
var arena: ?[*]u8 = null;
var guard: std.atomic.Value(u32) = .init(0);
threadlocal var end_value: usize = 0;

fn acquire() void {
    var spins: u32 = 0;
    while (guard.swap(1, .acquire) != 0) : (spins += 1) {
        // With more threads than processors the holder may be asleep.
        if (spins % 64 == 63) std.Thread.yield() catch {} else std.atomic.spinLoopHint();
    }
}

fn release() void {
    guard.store(0, .release);
}

// For tests

/// Forgets everything and begins anew, with the usual settings. No other thread may be inside.
pub fn reset() void {
    resetWith(.{});
}

/// As `reset`, with settings.
pub fn resetWith(settings: Settings) void {
    acquire();
    defer release();
    if (arena == null) {
        var errno: u16 = 0;
        const base = system.reserve(arena_bytes, arena_alignment, &errno) orelse
            std.debug.panic("no address space for the fake system: errno {d}", .{errno});
        _ = system.advise(base, arena_bytes, .no_huge);
        arena = base;
        protect(0, arena_bytes / pageBytes(), false);
    } else if (state.high_water > 0) {
        _ = system.advise(address(0), state.high_water * pageBytes(), .dont_need);
        protect(0, state.high_water, false);
        @memset(pages[0..state.high_water], .{});
    }
    state = .{
        .settings = settings,
        .large_free = settings.large_pages,
        .prng = .init(settings.seed),
    };
}

/// Refuses the `nth` call of this kind from now on, once; 1 is the next.
pub fn failNext(call: os.SystemCall, nth: u64) void {
    acquire();
    defer release();
    const plan = planOf(call);
    plan.refuse_at = plan.calls + nth;
}

/// Refuses each `n`th call of this kind; 1 is all, 0 none.
pub fn failEvery(call: os.SystemCall, n: u64) void {
    acquire();
    defer release();
    planOf(call).every = n;
}

/// Refuses one call in `n` of this kind, by the seed; 0 is none.
pub fn failOneIn(call: os.SystemCall, n: u64) void {
    acquire();
    defer release();
    planOf(call).one_in = n;
}

/// The errno of refusals of this kind; ENOMEM unless told.
pub fn failWith(call: os.SystemCall, errno: u16) void {
    acquire();
    defer release();
    planOf(call).errno = errno;
}

/// Refuses this advice with this errno from now on; 0: no longer.
pub fn failAdvice(advice: os.Advice, errno: u16) void {
    acquire();
    defer release();
    state.advice_errno[@intFromEnum(advice)] = errno;
}

/// Makes an advice answer 0 and do nothing, as emulators do; `works` tells.
pub fn idleAdvice(advice: os.Advice, idle: bool) void {
    acquire();
    defer release();
    state.advice_idle[@intFromEnum(advice)] = idle;
}

/// Ends all plans to refuse something.
pub fn failNothing() void {
    acquire();
    defer release();
    for (&state.plans) |*plan| plan.* = .{ .calls = plan.calls, .refusals = plan.refusals };
    state.advice_errno = @splat(0);
}

/// Calls of this kind since `reset`, refused ones too.
pub fn calls(call: os.SystemCall) u64 {
    acquire();
    defer release();
    return planOf(call).calls;
}

/// Calls of this kind that a plan refused since `reset`.
pub fn refusals(call: os.SystemCall) u64 {
    acquire();
    defer release();
    return planOf(call).refusals;
}

/// Calls of `advise` with this advice since `reset`.
pub fn adviceCalls(advice: os.Advice) u64 {
    acquire();
    defer release();
    return state.advice_calls[@intFromEnum(advice)];
}

/// Pages mapped now, resident or not. A test ends with 0.
pub fn pagesHeld() u64 {
    acquire();
    defer release();
    return state.pages_held;
}

/// Mappings now, as the limit counts them.
pub fn mappingsHeld() u64 {
    acquire();
    defer release();
    return state.mappings;
}

/// Bytes locked now.
pub fn lockedBytes() u64 {
    acquire();
    defer release();
    return state.locked * pageBytes();
}

/// Bytes of mapped pages that are resident now.
pub fn residentTotal() u64 {
    acquire();
    defer release();
    var found: u64 = 0;
    var first: usize = 0;
    while (first < state.high_water) {
        var end = first;
        while (end < state.high_water and pages[end].mapped) end += 1;
        if (end > first) found += system.residentBytes(address(first), (end - first) * pageBytes());
        first = end + 1;
    }
    return found;
}

/// Explicit large pages left in the pool.
pub fn largePagesFree() u64 {
    acquire();
    defer release();
    return state.large_free;
}

/// Changes the settings without forgetting anything; the large pages become so many free ones.
pub fn configure(settings: Settings) void {
    acquire();
    defer release();
    state.settings = settings;
    state.large_free = settings.large_pages;
}

/// Moves the clock and wakes who waits for it.
pub fn advance(ns: u64) void {
    _ = @atomicRmw(u64, &state.now_ns, .Add, ns, .acq_rel);
}

/// The oldest recorded thread, for the test to run; null when there is none.
pub fn takeSpawned() ?Spawned {
    acquire();
    defer release();
    if (state.spawned_count == 0) return null;
    const first = state.spawned[0];
    state.spawned_count -= 1;
    for (0..state.spawned_count) |index| state.spawned[index] = state.spawned[index + 1];
    return first;
}

/// Plays the end of the calling thread: the callback gets its value.
pub fn endThread() void {
    const value = end_value;
    end_value = 0;
    acquire();
    const callback = state.end_callback;
    release();
    if (value != 0) if (callback) |function| function(value);
}

// Inside, with the lock held

fn planOf(call: os.SystemCall) *Plan {
    return &state.plans[@intFromEnum(call)];
}

/// Counts a call; the errno by which it is refused, or 0.
fn refuse(call: os.SystemCall) u16 {
    const plan = planOf(call);
    plan.calls += 1;
    const planned = plan.calls == plan.refuse_at or
        plan.every != 0 and plan.calls % plan.every == 0 or
        plan.one_in != 0 and state.prng.random().uintLessThan(u64, plan.one_in) == 0;
    if (!planned) return 0;
    plan.refusals += 1;
    return plan.errno;
}

fn address(page: usize) [*]u8 {
    return arena.? + page * pageBytes();
}

const Range = struct { first: usize, count: usize };

/// The pages of a range that lies wholly in the arena, on page bounds.
fn rangeOf(ptr: [*]const u8, bytes: usize) ?Range {
    const base = @intFromPtr(arena orelse return null);
    const start = @intFromPtr(ptr);
    if (start < base or start - base + bytes > arena_bytes) return null;
    if (start % pageBytes() != 0 or bytes % pageBytes() != 0 or bytes == 0) return null;
    return .{ .first = (start - base) / pageBytes(), .count = bytes / pageBytes() };
}

fn slice(range: Range) []Page {
    return pages[range.first..][0..range.count];
}

fn mappedWhole(range: Range) bool {
    for (slice(range)) |page| if (!page.mapped) return false;
    return true;
}

fn anyPage(range: Range, comptime field: []const u8) bool {
    for (slice(range)) |page| if (@field(page, field)) return true;
    return false;
}

fn startsMapping(before: Page, page: Page) u64 {
    return @intFromBool(page.mapped and page != before);
}

/// Changes attributes, unless that makes more mappings than the limit allows.
fn change(range: Range, clear: Page, add: Page) bool {
    const last = if (range.first == 0) Page{} else pages[range.first - 1];
    var old_before = last;
    var new_before = last;
    var old_starts: u64 = 0;
    var new_starts: u64 = 0;
    for (slice(range)) |page| {
        const new = page.changed(clear, add);
        old_starts += startsMapping(old_before, page);
        new_starts += startsMapping(new_before, new);
        old_before = page;
        new_before = new;
    }
    const end = range.first + range.count;
    if (end < pages_max) {
        old_starts += startsMapping(old_before, pages[end]);
        new_starts += startsMapping(new_before, pages[end]);
    }
    const total = state.mappings - old_starts + new_starts;
    if (total > state.mappings and total > state.settings.map_limit) return false;
    state.mappings = total;
    for (slice(range)) |*page| page.* = page.changed(clear, add);
    return true;
}

/// Unmapped parts of the arena fault when used.
fn protect(first: usize, count: usize, usable: bool) void {
    if (builtin.os.tag != .linux) return;
    _ = linux.mprotect(address(first), count * pageBytes(), .{ .READ = usable, .WRITE = usable });
}

fn findFree(count: usize, alignment: usize) ?usize {
    const step = alignment / pageBytes();
    const limit = arena_bytes / pageBytes();
    var first: usize = 0;
    while (first + count <= limit) {
        const taken = lastTaken(first, count) orelse return first;
        first = std.mem.alignForward(usize, taken + 1, step);
    }
    return null;
}

fn lastTaken(first: usize, count: usize) ?usize {
    const end = @min(first + count, state.high_water);
    var index = end;
    while (index > first) {
        index -= 1;
        if (pages[index].mapped) return index;
    }
    return null;
}

fn mapPages(count: usize, alignment: usize, page: Page, errno: *u16) ?Range {
    const first = findFree(count, @max(alignment, pageBytes())) orelse {
        errno.* = os.Errno.no_memory;
        return null;
    };
    const range: Range = .{ .first = first, .count = count };
    state.high_water = @max(state.high_water, first + count);
    if (!change(range, .{}, page)) {
        errno.* = os.Errno.no_memory;
        return null;
    }
    protect(first, count, true);
    state.pages_held += count;
    return range;
}

fn lockedIn(range: Range) u64 {
    var count: u64 = 0;
    for (slice(range)) |page| count += @intFromBool(page.locked);
    return count;
}

// The primitives, as os.zig describes them

pub fn pageBytes() usize {
    return system.pageBytes();
}

pub fn reserve(bytes: usize, alignment: usize, errno: *u16) ?[*]u8 {
    std.debug.assert(bytes > 0 and bytes % pageBytes() == 0);
    std.debug.assert(std.math.isPowerOfTwo(alignment) and alignment >= pageBytes());
    acquire();
    defer release();
    const refused = refuse(.mmap);
    if (refused != 0 or bytes > arena_bytes) {
        errno.* = if (refused != 0) refused else os.Errno.no_memory;
        return null;
    }
    const page: Page = .{ .mapped = true };
    const range = mapPages(bytes / pageBytes(), alignment, page, errno) orelse return null;
    return address(range.first);
}

/// The fake's low addresses are like any: it has no room below four gigabytes.
pub fn reserveLow(bytes: usize, errno: *u16) ?[*]u8 {
    return reserve(bytes, os.large_page_bytes, errno);
}

pub fn mapShared(bytes: usize, file: *i32, errno: *u16) ?[*]u8 {
    std.debug.assert(bytes > 0 and bytes % os.large_page_bytes == 0);
    acquire();
    defer release();
    errno.* = refuse(.memfd_create);
    if (errno.* != 0) return null;
    const page: Page = .{ .mapped = true };
    const range = mapPages(bytes / pageBytes(), os.large_page_bytes, page, errno) orelse return null;
    state.files += 1;
    state.files_open += 1;
    file.* = state.files;
    return address(range.first);
}

pub fn publishShared(file: i32, bytes: usize) u16 {
    std.debug.assert(file > 0 and bytes > 0);
    acquire();
    defer release();
    return refuse(.memfd_create);
}

pub fn closeShared(file: i32) void {
    acquire();
    defer release();
    if (file <= 0 or file > state.files or state.files_open == 0)
        std.debug.panic("close of a file that is not open", .{});
    state.files_open -= 1;
}

/// Files of `mapShared` that are open.
pub fn filesOpen() u64 {
    acquire();
    defer release();
    return state.files_open;
}

pub fn mapHuge(bytes: usize, errno: *u16) ?[*]u8 {
    std.debug.assert(bytes > 0 and bytes % os.large_page_bytes == 0);
    acquire();
    defer release();
    const wanted = bytes / os.large_page_bytes;
    const refused = refuse(.mmap_huge);
    if (refused != 0 or wanted > state.large_free) {
        errno.* = if (refused != 0) refused else os.Errno.no_memory;
        return null;
    }
    const page: Page = .{ .mapped = true, .large = true };
    const count = bytes / pageBytes();
    const range = mapPages(count, os.large_page_bytes, page, errno) orelse return null;
    state.large_free -= wanted;
    _ = system.advise(address(range.first), bytes, .populate_write);
    return address(range.first);
}

pub fn unmap(ptr: [*]u8, bytes: usize) u16 {
    acquire();
    defer release();
    const range = rangeOf(ptr, bytes) orelse return os.Errno.invalid;
    const refused = refuse(.munmap);
    if (refused != 0) return refused;
    // Linux forgives holes; here they are a mistake of the caller's.
    if (!mappedWhole(range)) std.debug.panic("unmap of pages that are not mapped", .{});
    const large = anyPage(range, "large");
    if (large and (bytes % os.large_page_bytes != 0 or @intFromPtr(ptr) % os.large_page_bytes != 0))
        return os.Errno.invalid;
    const locked = lockedIn(range);
    if (!change(range, .every, .{})) return os.Errno.no_memory;
    state.locked -= locked;
    state.pages_held -= range.count;
    if (large) state.large_free += bytes / os.large_page_bytes;
    _ = system.advise(ptr, bytes, .dont_need);
    protect(range.first, range.count, false);
    return 0;
}

pub fn advise(ptr: [*]u8, bytes: usize, advice: os.Advice) u16 {
    acquire();
    defer release();
    const range = rangeOf(ptr, bytes) orelse return os.Errno.invalid;
    state.advice_calls[@intFromEnum(advice)] += 1;
    const refused = refuse(.madvise);
    if (refused != 0) return refused;
    const advised = state.advice_errno[@intFromEnum(advice)];
    if (advised != 0) return advised;
    if (!mappedWhole(range)) return os.Errno.no_memory;
    if (state.advice_idle[@intFromEnum(advice)]) return 0;
    const applied = switch (advice) {
        .huge => change(range, .{ .no_huge = true }, .{ .huge = true }),
        .no_huge => change(range, .{ .huge = true }, .{ .no_huge = true }),
        .dont_fork => change(range, .{}, .{ .dont_fork = true }),
        .do_fork => change(range, .{ .dont_fork = true }, .{}),
        .wipe_on_fork => change(range, .{}, .{ .wipe_on_fork = true }),
        .dont_dump => change(range, .{}, .{ .dont_dump = true }),
        .dont_need, .dont_need_locked, .lazy_free => return drop(range, advice),
        .populate_write => return system.advise(ptr, bytes, .populate_write),
        .will_need => true,
        .collapse => return collapse(range),
    };
    return if (applied) 0 else os.Errno.no_memory;
}

fn drop(range: Range, advice: os.Advice) u16 {
    if (anyPage(range, "large")) return os.Errno.invalid;
    if (advice != .dont_need_locked and anyPage(range, "locked")) return os.Errno.invalid;
    if (advice != .lazy_free or state.settings.lazy_free == .drop)
        return system.advise(address(range.first), range.count * pageBytes(), .dont_need);
    if (state.settings.lazy_free == .keep) return 0;
    for (range.first..range.first + range.count) |page| {
        if (state.prng.random().boolean()) continue;
        _ = system.advise(address(page), pageBytes(), .dont_need);
    }
    return 0;
}

/// Touched pages of a block count as large from now on: the whole block becomes resident.
fn collapse(range: Range) u16 {
    if (range.count * pageBytes() < os.large_page_bytes) return os.Errno.invalid;
    if (!change(range, .{}, .{ .huge = true })) return os.Errno.no_memory;
    return system.advise(address(range.first), range.count * pageBytes(), .populate_write);
}

pub fn works(advice: os.Advice) bool {
    acquire();
    defer release();
    return !state.advice_idle[@intFromEnum(advice)];
}

pub fn lock(ptr: [*]u8, bytes: usize) u16 {
    acquire();
    defer release();
    const range = rangeOf(ptr, bytes) orelse return os.Errno.invalid;
    const refused = lockRange(range);
    if (refused != 0 and mappedWhole(range)) {
        const before = lockedIn(range);
        if (change(range, .{ .locked = true }, .{})) state.locked -= before;
    }
    return refused;
}

fn lockRange(range: Range) u16 {
    const refused = refuse(.mlock);
    if (refused != 0) return refused;
    if (state.settings.lock_limit_bytes == 0) return os.Errno.not_permitted;
    if (!mappedWhole(range)) return os.Errno.no_memory;
    const more = range.count - lockedIn(range);
    const locked_bytes = (state.locked + more) * pageBytes();
    if (locked_bytes > state.settings.lock_limit_bytes) return os.Errno.no_memory;
    if (!change(range, .{}, .{ .locked = true })) return os.Errno.no_memory;
    state.locked += more;
    return system.advise(address(range.first), range.count * pageBytes(), .populate_write);
}

pub fn unlock(ptr: [*]u8, bytes: usize) u16 {
    acquire();
    defer release();
    const range = rangeOf(ptr, bytes) orelse return os.Errno.invalid;
    const refused = refuse(.munlock);
    if (refused != 0) return refused;
    if (!mappedWhole(range)) return os.Errno.no_memory;
    const before = lockedIn(range);
    if (!change(range, .{ .locked = true }, .{})) return os.Errno.no_memory;
    state.locked -= before;
    return 0;
}

pub fn lockLimit() u64 {
    acquire();
    defer release();
    return state.settings.lock_limit_bytes;
}

pub fn mapLimit() u64 {
    acquire();
    defer release();
    return state.settings.map_limit;
}

pub fn residentBytes(ptr: [*]const u8, bytes: usize) u64 {
    acquire();
    defer release();
    if (refuse(.mincore) != 0) return 0;
    return system.residentBytes(ptr, bytes);
}

/// Explicit large pages, and advised blocks all of whose pages are resident.
pub fn hugeBytes(ptr: [*]const u8, bytes: usize) u64 {
    acquire();
    defer release();
    if (refuse(.pagemap_scan) != 0) return 0;
    const base = @intFromPtr(arena orelse return 0);
    const start = std.mem.alignForward(usize, @intFromPtr(ptr), os.large_page_bytes);
    const end = std.mem.alignBackward(usize, @intFromPtr(ptr) + bytes, os.large_page_bytes);
    if (start < base or end > base + arena_bytes) return 0;
    var found: u64 = 0;
    var block = start;
    while (block < end) : (block += os.large_page_bytes) {
        const range: Range = .{
            .first = (block - base) / pageBytes(),
            .count = os.large_page_bytes / pageBytes(),
        };
        var advised = true;
        for (slice(range)) |page| advised = advised and (page.huge or page.large);
        const resident = system.residentBytes(@ptrFromInt(block), os.large_page_bytes);
        if (advised and resident == os.large_page_bytes) found += resident;
    }
    return found;
}

pub fn processResident() u64 {
    return residentTotal();
}

pub fn memoryPressure() u32 {
    acquire();
    defer release();
    return state.settings.memory_pressure;
}

pub fn wait(word: *const u32, expected: u32, timeout_ns: ?u64) void {
    acquire();
    _ = refuse(.futex);
    const waiting = state.settings.waiting;
    release();
    if (@atomicLoad(u32, word, .acquire) != expected) return;
    const ns = timeout_ns orelse return system.wait(word, expected, null);
    const end_ns = nowNs() +| ns;
    if (waiting == .advance) return advance(ns);
    const slice_ns = 200 * std.time.ns_per_us;
    while (nowNs() < end_ns and @atomicLoad(u32, word, .acquire) == expected) {
        system.wait(word, expected, slice_ns);
    }
}

pub fn wake(word: *const u32, count: u32) void {
    system.wake(word, count);
}

pub fn nowNs() u64 {
    return @atomicLoad(u64, &state.now_ns, .acquire);
}

pub fn random(buf: []u8) void {
    acquire();
    defer release();
    _ = refuse(.getrandom);
    state.prng.random().bytes(buf);
}

pub fn processId() u32 {
    acquire();
    defer release();
    return state.settings.process_id;
}

pub fn isAlone() bool {
    acquire();
    defer release();
    return state.settings.is_alone;
}

pub fn barrierSetup() bool {
    acquire();
    defer release();
    return refuse(.membarrier) == 0 and system.barrierSetup();
}

pub fn barrier() void {
    system.barrier();
}

pub fn spawn(entry: os.ThreadEntry, arg: ?*anyopaque) u16 {
    acquire();
    defer release();
    const refused = refuse(.pthread_create);
    if (refused != 0) return refused;
    switch (state.settings.threads) {
        .refuse => return os.Errno.unsupported,
        .start => return system.spawn(entry, arg),
        .record => {
            if (state.spawned_count == state.spawned.len) return os.Errno.again;
            state.spawned[state.spawned_count] = .{ .entry = entry, .arg = arg };
            state.spawned_count += 1;
            return 0;
        },
    }
}

pub fn nameThread(name: [:0]const u8) void {
    _ = name;
}

pub fn onThreadEnd(callback: os.ThreadEnd) bool {
    acquire();
    defer release();
    if (refuse(.pthread_key_create) != 0) return false;
    if (state.end_callback) |other| return other == callback;
    state.end_callback = callback;
    return true;
}

pub fn setThreadEnd(value: usize) void {
    end_value = value;
}

pub fn threadPointer() usize {
    return system.threadPointer();
}

comptime {
    os.check(@This());
}

const testing = std.testing;

test "threads share the system and every page comes back" {
    if (builtin.single_threaded) return error.SkipZigTest;
    resetWith(.{ .seed = testing.random_seed, .lock_limit_bytes = 64 * pageBytes() });
    errdefer std.debug.print("seed {d}\n", .{testing.random_seed});
    failOneIn(.mmap, 5);
    failOneIn(.mlock, 5);
    const Worker = struct {
        fn run(seed: u64) void {
            var prng = std.Random.DefaultPrng.init(seed);
            var held: [8]?[]u8 = @splat(null);
            for (0..500) |_| {
                const slot = &held[prng.random().uintLessThan(usize, held.len)];
                if (slot.*) |range| {
                    // Nobody else was given these pages: they hold what was written.
                    std.debug.assert(range[0] == @as(u8, @truncate(seed)));
                    std.debug.assert(unmap(range.ptr, range.len) == 0);
                    slot.* = null;
                    continue;
                }
                var errno: u16 = 0;
                const bytes = (1 + prng.random().uintLessThan(usize, 16)) * pageBytes();
                const ptr = reserve(bytes, pageBytes(), &errno) orelse continue;
                std.debug.assert(ptr[0] == 0);
                if (prng.random().boolean()) _ = lock(ptr, bytes);
                ptr[0] = @truncate(seed);
                slot.* = ptr[0..bytes];
            }
            for (held) |slot| if (slot) |range| std.debug.assert(unmap(range.ptr, range.len) == 0);
        }
    };
    var threads: [4]std.Thread = undefined;
    for (&threads, 0..) |*thread, index| {
        thread.* = try std.Thread.spawn(.{}, Worker.run, .{testing.random_seed +% index});
    }
    for (threads) |thread| thread.join();
    try testing.expectEqual(0, pagesHeld());
    try testing.expectEqual(0, mappingsHeld());
    try testing.expectEqual(0, lockedBytes());
    try testing.expectEqual(0, residentTotal());
    try testing.expect(refusals(.mmap) > 0 and refusals(.mmap) < calls(.mmap));
}

test "every page comes back, and addresses repeat" {
    reset();
    var errno: u16 = 0;
    const page = pageBytes();
    const first = reserve(4 * page, page, &errno).?;
    const second = reserve(os.large_page_bytes, os.large_page_bytes, &errno).?;
    try testing.expect(std.mem.isAligned(@intFromPtr(second), os.large_page_bytes));
    try testing.expectEqual(4 + os.large_page_bytes / page, pagesHeld());
    try testing.expectEqual(2, mappingsHeld());
    first[page] = 1;
    try testing.expectEqual(page, residentBytes(first, 4 * page));
    try testing.expectEqual(page, residentTotal());
    try testing.expectEqual(0, unmap(first, 4 * page));
    const again = reserve(2 * page, page, &errno).?;
    try testing.expectEqual(first, again);
    try testing.expectEqual(0, again[page]);
    try testing.expectEqual(0, unmap(again, 2 * page));
    try testing.expectEqual(0, unmap(second, os.large_page_bytes));
    try testing.expectEqual(0, pagesHeld());
    try testing.expectEqual(0, mappingsHeld());
    try testing.expectEqual(0, residentTotal());
}

test "calls are refused when planned, with the planned errno" {
    reset();
    var errno: u16 = 0;
    const page = pageBytes();
    failNext(.mmap, 2);
    const ptr = reserve(page, page, &errno).?;
    try testing.expectEqual(null, reserve(page, page, &errno));
    try testing.expectEqual(os.Errno.no_memory, errno);
    failWith(.munmap, os.Errno.invalid);
    failEvery(.munmap, 1);
    try testing.expectEqual(os.Errno.invalid, unmap(ptr, page));
    try testing.expectEqual(1, pagesHeld());
    failNothing();
    try testing.expectEqual(0, unmap(ptr, page));
    try testing.expectEqual(2, calls(.mmap));
    try testing.expectEqual(1, refusals(.mmap));
    try testing.expectEqual(0, pagesHeld());
}

test "partial advice splits a mapping, the limit refuses it, undoing it merges" {
    resetWith(.{ .map_limit = 3 });
    var errno: u16 = 0;
    const page = pageBytes();
    const ptr = reserve(8 * page, page, &errno).?;
    try testing.expectEqual(0, advise(ptr + 2 * page, page, .dont_fork));
    try testing.expectEqual(3, mappingsHeld());
    try testing.expectEqual(os.Errno.no_memory, advise(ptr + 5 * page, page, .dont_fork));
    try testing.expectEqual(os.Errno.no_memory, unmap(ptr + 5 * page, page));
    try testing.expectEqual(0, advise(ptr + 2 * page, page, .do_fork));
    try testing.expectEqual(1, mappingsHeld());
    try testing.expectEqual(0, unmap(ptr + 5 * page, page));
    try testing.expectEqual(2, mappingsHeld());
    try testing.expectEqual(0, unmap(ptr, 5 * page));
    try testing.expectEqual(0, unmap(ptr + 6 * page, 2 * page));
    try testing.expectEqual(0, mappingsHeld());
}

test "locks are counted, limited and keep pages from dont_need" {
    const page = pageBytes();
    resetWith(.{ .lock_limit_bytes = 3 * page });
    var errno: u16 = 0;
    const ptr = reserve(4 * page, page, &errno).?;
    try testing.expectEqual(0, lock(ptr, 2 * page));
    try testing.expectEqual(2 * page, lockedBytes());
    try testing.expectEqual(2 * page, residentBytes(ptr, 4 * page));
    try testing.expectEqual(0, lock(ptr, 2 * page)); // does not nest
    try testing.expectEqual(2 * page, lockedBytes());
    try testing.expectEqual(os.Errno.no_memory, lock(ptr + 2 * page, 2 * page));
    ptr[0] = 8;
    try testing.expectEqual(os.Errno.invalid, advise(ptr, 4 * page, .dont_need));
    try testing.expectEqual(8, ptr[0]);
    try testing.expectEqual(0, advise(ptr, 2 * page, .dont_need_locked));
    try testing.expectEqual(0, ptr[0]);
    try testing.expectEqual(0, unmap(ptr, 4 * page));
    try testing.expectEqual(0, lockedBytes());
}

test "explicit large pages come from a pool that runs out" {
    resetWith(.{ .large_pages = 2 });
    var errno: u16 = 0;
    try testing.expectEqual(null, mapHuge(3 * os.large_page_bytes, &errno));
    try testing.expectEqual(os.Errno.no_memory, errno);
    const ptr = mapHuge(2 * os.large_page_bytes, &errno).?;
    try testing.expectEqual(0, largePagesFree());
    try testing.expectEqual(2 * os.large_page_bytes, hugeBytes(ptr, 2 * os.large_page_bytes));
    try testing.expectEqual(os.Errno.invalid, unmap(ptr, pageBytes()));
    try testing.expectEqual(0, unmap(ptr, 2 * os.large_page_bytes));
    try testing.expectEqual(2, largePagesFree());
    try testing.expectEqual(0, pagesHeld());
}

test "an idle advice answers 0 and does nothing" {
    reset();
    var errno: u16 = 0;
    const ptr = reserve(pageBytes(), pageBytes(), &errno).?;
    ptr[0] = 1;
    idleAdvice(.dont_need, true);
    try testing.expect(!works(.dont_need) and works(.lazy_free));
    try testing.expectEqual(0, advise(ptr, pageBytes(), .dont_need));
    try testing.expectEqual(1, ptr[0]);
    idleAdvice(.dont_need, false);
    try testing.expectEqual(0, advise(ptr, pageBytes(), .dont_need));
    try testing.expectEqual(0, ptr[0]);
    try testing.expectEqual(0, unmap(ptr, pageBytes()));
}

test "the clock moves when told, threads are recorded, ends are played" {
    resetWith(.{ .threads = .record });
    const start_ns = nowNs();
    advance(100);
    const word: u32 = 5;
    wait(&word, 5, 50);
    wait(&word, 6, 50);
    try testing.expectEqual(start_ns + 150, nowNs());
    const Probe = struct {
        var ended: usize = 0;
        fn entry(arg: ?*anyopaque) callconv(.c) ?*anyopaque {
            return arg;
        }
        fn end(value: usize) void {
            ended += value;
        }
    };
    try testing.expectEqual(0, spawn(Probe.entry, null));
    try testing.expectEqual(@as(os.ThreadEntry, Probe.entry), takeSpawned().?.entry);
    try testing.expectEqual(null, takeSpawned());
    try testing.expect(onThreadEnd(Probe.end));
    setThreadEnd(3);
    endThread();
    endThread();
    try testing.expectEqual(3, Probe.ended);
}
