//! A seeded scheduler with a weak memory model: proves that lock-free structures hand memory over.
//!
//! `Sim` has the interface of `ds.Real`. Each simulated thread is a fiber, each atomic operation a
//! point where another one may go on, and each load may be stale. What a thread may read follows a
//! view-based model: a location keeps its last stores (messages) in order of modification, each
//! message carries the view that its writer released with it, and a thread reads any message not
//! older than its own view of that location. An acquiring read joins the message's view into the
//! thread's, a read-modify-write takes the newest message and passes its view on (release
//! sequence), a full fence joins the thread's view with one that all fences share, and the heavy
//! fence does so for every thread, as membarrier does. Fences move what a thread must read next,
//! never the right to touch `Plain` cells: a race on those is found by vector clocks, so hand-over
//! needs release and acquire here even where a fence might do.
//!
//! Invariant: a schedule is a function of (seed, number) alone; a failure can be repeated.
//!
//! Proof by mutation: `prove` runs a scenario clean, then once for every release and acquire of
//! every site with just that half dropped, and demands that the scenario notices. It also demands
//! that the structure's `ordered_sites` are exactly the sites that it ordered.
//!
//! Cost: 2 to 10 µs a schedule of some fifty steps (ReleaseFast). One global simulation; not for
//! use by two threads. Bounds: 3 simulated threads, 28 locations, the last 8 stores of each, stores
//! in order of execution, no load that looks into the future. So it finds what is missing on real
//! machines (x86-64, aarch64) but is no proof for an abstract one; ThreadSanitizer stands beside
//! it.

const std = @import("std");
const fiber = std.Io.fiber;
const assert = std.debug.assert;

/// Thread 0 sets up and checks; 1 to 3 run.
pub const threads_max = 4;
const lanes = 32;
const locations_max = lanes - threads_max;
/// Stores of a location that can still be read.
const history = 8;
/// Stale reads that a thread is dealt in a schedule, so that every loop comes to an end.
const stale_budget = 24;
/// Steps after which a schedule counts as stuck.
const steps_max = 20_000;
const stack_bytes = 128 * 1024;

/// Lanes 0 to 3: how far each thread's work is known. Others: the oldest readable store of a
/// location. Signed because the baseline x86-64 has a maximum for signed 16-bit lanes only.
const View = @Vector(lanes, i16);
const clock_lanes: @Vector(lanes, bool) = blk: {
    var mask: [lanes]bool = @splat(false);
    for (0..threads_max) |lane| mask[lane] = true;
    break :blk mask;
};

const Message = struct { value: u64, view: [lanes]i16 align(64) };
const Location = struct { newest: i16, messages: [history]Message };

const Thread = struct {
    view: [lanes]i16 align(64),
    stale_left: u32,
    done: bool,
    context: fiber.Context,
    stack: []align(64) u8,
};

const State = struct {
    /// Number of the schedule, from 1; a cell that carries another number is new.
    run: u32 = 0,
    random: u64 = 0,
    threads: [threads_max]Thread = undefined,
    threads_count: u8 = 0,
    current: u8 = 0,
    fibers: bool = false,
    locations: [locations_max]Location = undefined,
    locations_count: u32 = 0,
    fence: [lanes]i16 align(64) = undefined,
    steps: u32 = 0,
    switch_one_in: u32 = 2,
    stale_one_in: u32 = 2,
    body: *const fn (u8) void = undefined,
    main: fiber.Context = undefined,
    failure: ?[]const u8 = null,
    sites: ?*SiteRecord = null,
    drop_light_fence: bool = false,
    drop_heavy_fence: bool = false,
    drop_change_fence: bool = false,
};

var state: State = .{};
var stacks: [threads_max][stack_bytes]u8 align(64) = undefined;

/// Half of an order that can be dropped.
pub const Half = enum { release, acquire };

const SiteRecord = struct {
    name: []const u8,
    linked: bool = false,
    next: ?*SiteRecord = null,
    seen: std.EnumSet(Half) = .initEmpty(),
    dropped: std.EnumSet(Half) = .initEmpty(),
};

/// One record a site, made by the compiler at each use of its name.
fn Site(comptime site: @TypeOf(.site)) type {
    return struct {
        var record: SiteRecord = .{ .name = @tagName(site) };

        inline fn releases(comptime order: std.builtin.AtomicOrder) bool {
            if (order != .release and order != .acq_rel) return false;
            return note(.release);
        }

        inline fn acquires(comptime order: std.builtin.AtomicOrder) bool {
            if (order != .acquire and order != .acq_rel) return false;
            return note(.acquire);
        }

        fn note(half: Half) bool {
            if (!record.linked) {
                record.linked = true;
                record.next = state.sites;
                state.sites = &record;
            }
            record.seen.insert(half);
            return !record.dropped.contains(half);
        }
    };
}

/// The simulated synchronisation; see the file's head.
pub const Sim = struct {
    /// Which of the two fence protocols runs.
    pub var asymmetric: bool = true;

    pub fn Atomic(comptime T: type) type {
        return extern struct {
            /// The newest value.
            raw: T,
            run: u32 = 0,
            location: u32 = 0,

            const Cell = @This();

            pub fn init(value: T) Cell {
                return .{ .raw = value };
            }

            pub fn load(
                cell: *const Cell,
                comptime order: std.builtin.AtomicOrder,
                comptime site: @TypeOf(.site),
            ) T {
                comptime assert(order == .monotonic or order == .acquire);
                point();
                const number = @constCast(cell).locate();
                return @intCast(read(number, pick(number), Site(site).acquires(order)));
            }

            pub fn store(
                cell: *Cell,
                value: T,
                comptime order: std.builtin.AtomicOrder,
                comptime site: @TypeOf(.site),
            ) void {
                comptime assert(order == .monotonic or order == .release);
                point();
                const number = cell.locate();
                cell.raw = value;
                write(number, value, Site(site).releases(order), false);
            }

            pub fn swap(
                cell: *Cell,
                value: T,
                comptime order: std.builtin.AtomicOrder,
                comptime site: @TypeOf(.site),
            ) T {
                return cell.modify(value, .Xchg, order, site);
            }

            pub fn fetchAdd(
                cell: *Cell,
                value: T,
                comptime order: std.builtin.AtomicOrder,
                comptime site: @TypeOf(.site),
            ) T {
                return cell.modify(value, .Add, order, site);
            }

            pub fn fetchSub(
                cell: *Cell,
                value: T,
                comptime order: std.builtin.AtomicOrder,
                comptime site: @TypeOf(.site),
            ) T {
                return cell.modify(value, .Sub, order, site);
            }

            pub fn fetchOr(
                cell: *Cell,
                value: T,
                comptime order: std.builtin.AtomicOrder,
                comptime site: @TypeOf(.site),
            ) T {
                return cell.modify(value, .Or, order, site);
            }

            pub fn fetchAnd(
                cell: *Cell,
                value: T,
                comptime order: std.builtin.AtomicOrder,
                comptime site: @TypeOf(.site),
            ) T {
                return cell.modify(value, .And, order, site);
            }

            fn modify(
                cell: *Cell,
                value: T,
                comptime kind: std.builtin.AtomicRmwOp,
                comptime order: std.builtin.AtomicOrder,
                comptime site: @TypeOf(.site),
            ) T {
                point();
                const number = cell.locate();
                const newest = state.locations[number].newest;
                const before: T = @intCast(read(number, newest, Site(site).acquires(order)));
                cell.raw = switch (kind) {
                    .Xchg => value,
                    .Add => before +% value,
                    .Sub => before -% value,
                    .Or => before | value,
                    .And => before & value,
                    else => comptime unreachable,
                };
                write(number, cell.raw, Site(site).releases(order), true);
                return before;
            }

            /// A failing compare-and-swap is a load, and may be as stale as one.
            pub fn cmpxchg(
                cell: *Cell,
                expected: T,
                new: T,
                comptime success: std.builtin.AtomicOrder,
                comptime failure: std.builtin.AtomicOrder,
                comptime site: @TypeOf(.site),
            ) ?T {
                point();
                const number = cell.locate();
                const newest = state.locations[number].newest;
                var stamp = pick(number);
                if (messageAt(number, stamp).value == expected) stamp = newest;
                if (messageAt(number, stamp).value != expected) {
                    return @intCast(read(number, stamp, Site(site).acquires(failure)));
                }
                _ = read(number, newest, Site(site).acquires(success));
                cell.raw = new;
                write(number, new, Site(site).releases(success), true);
                return null;
            }

            fn locate(cell: *Cell) u32 {
                if (cell.run != state.run) {
                    cell.run = state.run;
                    cell.location = addLocation(cell.raw);
                }
                return cell.location;
            }
        };
    }

    /// A cell without atomicity: two accesses, one a write, that are not ordered end the schedule.
    pub fn Plain(comptime T: type) type {
        return extern struct {
            raw: T,
            run: u32 = 0,
            write_clock: i16 = 0,
            writer: u8 = 0,
            read_clocks: [threads_max]i16 = @splat(0),

            const Cell = @This();

            pub fn init(value: T) Cell {
                return .{ .raw = value };
            }

            pub fn get(cell: *const Cell) T {
                const own = @constCast(cell);
                own.refresh();
                const view = &state.threads[state.current].view;
                if (own.write_clock > view[own.writer]) {
                    fail("race: a read not ordered after a write");
                }
                own.read_clocks[state.current] = view[state.current];
                return own.raw;
            }

            pub fn set(cell: *Cell, value: T) void {
                cell.refresh();
                const view = &state.threads[state.current].view;
                if (cell.write_clock > view[cell.writer]) fail("race: two writes without order");
                for (cell.read_clocks, view[0..threads_max]) |clock, known| {
                    if (clock > known) fail("race: a write not ordered after a read");
                }
                cell.write_clock = view[state.current];
                cell.writer = state.current;
                cell.raw = value;
            }

            fn refresh(cell: *Cell) void {
                if (cell.run == state.run) return;
                cell.* = .{ .raw = cell.raw, .run = state.run };
            }
        };
    }

    pub fn lightFence() void {
        if (asymmetric or state.drop_light_fence) return;
        point();
        fenceThread(state.current);
    }

    /// A fence of the running thread alone; never dropped.
    pub fn fullFence() void {
        point();
        fenceThread(state.current);
    }

    pub fn heavyFence() void {
        if (state.drop_heavy_fence) return;
        point();
        fenceThread(state.current);
        if (!asymmetric) return;
        var thread: u8 = @intCast(below(threads_max));
        for (0..threads_max) |_| {
            thread = (thread + 1) % threads_max;
            if (thread <= state.threads_count) fenceThread(thread);
        }
        fenceThread(state.current);
    }

    pub fn fenceAfterChange() void {
        if (state.drop_change_fence) return;
        point();
        fenceThread(state.current);
    }

    /// Lets someone else go on: a spinning thread would only repeat itself.
    pub fn pause() void {
        step();
        if (state.fibers) switchToOther();
    }
};

/// A number below `bound`, from the schedule's own randomness.
pub fn below(bound: u32) u32 {
    // xorshift64*: fast, and good enough to choose who runs.
    state.random ^= state.random >> 12;
    state.random ^= state.random << 25;
    state.random ^= state.random >> 27;
    const high: u32 = @truncate((state.random *% 0x2545_F491_4F6C_DD1D) >> 32);
    return @intCast(@as(u64, high) * bound >> 32);
}

/// True once in `bound` times.
pub fn oneIn(bound: u32) bool {
    return below(bound) == 0;
}

/// Ends the schedule; for scenarios that found something wrong.
pub fn fail(reason: []const u8) void {
    @branchHint(.cold);
    if (state.failure == null) state.failure = reason;
    if (state.fibers) leaveForMain();
}

pub fn expect(ok: bool, reason: []const u8) void {
    if (!ok) fail(reason);
}

fn step() void {
    state.steps += 1;
    if (state.steps > steps_max) fail("stuck: no end after too many steps");
}

/// Before each atomic operation: perhaps another thread comes first.
inline fn point() void {
    if (!state.fibers) return;
    step();
    if (oneIn(state.switch_one_in)) switchToOther();
}

fn addLocation(value: u64) u32 {
    const number = state.locations_count;
    assert(number < locations_max);
    state.locations_count += 1;
    const location = &state.locations[number];
    location.newest = 0;
    location.messages[0] = .{ .value = value, .view = @splat(0) };
    return number;
}

fn messageAt(number: u32, stamp: i16) *Message {
    return &state.locations[number].messages[@as(u16, @bitCast(stamp)) % history];
}

/// The store that a load of this thread reads: the newest, or one it may not have heard of yet.
inline fn pick(number: u32) i16 {
    const thread = &state.threads[state.current];
    const newest = state.locations[number].newest;
    const oldest = @max(thread.view[threads_max + number], newest - (history - 1));
    if (oldest >= newest or thread.stale_left == 0 or !oneIn(state.stale_one_in)) return newest;
    thread.stale_left -= 1;
    return oldest + @as(i16, @intCast(below(@intCast(newest - oldest))));
}

inline fn read(number: u32, stamp: i16, acquire: bool) u64 {
    const view = &state.threads[state.current].view;
    const message = messageAt(number, stamp);
    if (acquire) view.* = joined(view.*, message.view);
    const lane = threads_max + number;
    view[lane] = @max(view[lane], stamp);
    return message.value;
}

inline fn write(number: u32, value: u64, release: bool, continues: bool) void {
    const thread = &state.threads[state.current];
    const location = &state.locations[number];
    const before = messageAt(number, location.newest).view;
    location.newest += 1;
    const lane = threads_max + number;
    thread.view[lane] = location.newest;
    const message = messageAt(number, location.newest);
    message.value = value;
    message.view = if (continues) before else @splat(0);
    message.view[lane] = location.newest;
    if (release) {
        message.view = joined(message.view, thread.view);
        // What comes after is not covered by this release.
        thread.view[state.current] += 1;
    }
}

inline fn joined(a: [lanes]i16, b: [lanes]i16) [lanes]i16 {
    return @max(@as(View, a), @as(View, b));
}

fn fenceThread(number: u8) void {
    const view = &state.threads[number].view;
    state.fence = joined(state.fence, view.*);
    view.* = @select(i16, clock_lanes, @as(View, view.*), @as(View, state.fence));
}

// Fibers.

fn startFiber(number: u8) void {
    const stack: []align(64) u8 = &stacks[number];
    const top = @intFromPtr(stack.ptr) + stack.len;
    state.threads[number].context = switch (@import("builtin").cpu.arch) {
        // As after a call: the return address would lie here.
        .x86_64 => .{ .rsp = top - 8, .rbp = 0, .rip = @intFromPtr(&fiberMain) },
        .aarch64 => .{ .sp = top, .fp = 0, .pc = @intFromPtr(&fiberMain) },
        else => @compileError("no fibers for this processor"),
    };
}

fn fiberMain() callconv(.c) noreturn {
    state.body(state.current);
    state.threads[state.current].done = true;
    // Nobody comes back to a thread that is done; alone, this one falls through.
    switchToOther();
    leaveForMain();
    unreachable;
}

/// Goes on with another thread, if there is one.
fn switchToOther() void {
    var candidates: [threads_max]u8 = undefined;
    var count: u32 = 0;
    for (1..state.threads_count + 1) |number| {
        if (number == state.current or state.threads[number].done) continue;
        candidates[count] = @intCast(number);
        count += 1;
    }
    if (count == 0 or state.current == 0) return;
    const from = state.current;
    state.current = candidates[if (count == 1) 0 else below(count)];
    switchContext(&state.threads[from].context, &state.threads[state.current].context);
}

fn leaveForMain() void {
    switchContext(&state.threads[state.current].context, &state.main);
}

noinline fn switchContext(old: *fiber.Context, new: *fiber.Context) void {
    _ = fiber.contextSwitch(&.{ .old = old, .new = new });
}

// Runs.

/// A structure under test, with static state of its own.
pub const Scenario = struct {
    name: []const u8,
    /// Simulated threads, 1 to 3.
    threads: u8,
    /// Makes everything new.
    setup: *const fn () void,
    body: *const fn (thread: u8) void,
    /// When all have ended; sees what they did.
    check: *const fn () void,
    /// Sites whose halves are dropped one by one.
    ordered_sites: []const []const u8,
    /// Sites of structures inside, proved by their own scenario.
    inner_sites: []const []const u8 = &.{},
    asymmetric: bool = true,
};

/// The names of a structure's `ordered_sites`.
pub fn names(comptime sites: []const @TypeOf(.site)) []const []const u8 {
    comptime var list: [sites.len][]const u8 = undefined;
    inline for (&list, sites) |*name, site| name.* = @tagName(site);
    const final = list;
    return &final;
}

pub const Failure = struct { reason: []const u8, schedule: u64 };

/// Runs the schedules `from` to `from + count - 1` of `seed`; the first that fails.
pub fn explore(scenario: *const Scenario, seed: u64, from: u64, count: u64) ?Failure {
    Sim.asymmetric = scenario.asymmetric;
    for (from..from + count) |schedule| {
        if (runOne(scenario, seed, schedule)) |reason| {
            return .{ .reason = reason, .schedule = schedule };
        }
    }
    return null;
}

fn runOne(scenario: *const Scenario, seed: u64, schedule: u64) ?[]const u8 {
    var mixer: std.Random.SplitMix64 = .init(seed +% schedule *% 0x9E37_79B9_7F4A_7C15);
    state.run +%= 1;
    if (state.run == 0) state.run = 1;
    state.random = mixer.next() | 1;
    state.threads_count = 0;
    state.current = 0;
    state.fibers = false;
    state.locations_count = 0;
    state.fence = @splat(0);
    state.steps = 0;
    state.failure = null;
    // Some bugs want many changes of thread, some want long runs; some want old values.
    state.switch_one_in = ([_]u32{ 2, 3, 4, 8 })[below(4)];
    state.stale_one_in = ([_]u32{ 2, 2, 4, 1_000_000 })[below(4)];

    const main = &state.threads[0];
    main.view = @splat(0);
    main.view[0] = 1;
    main.stale_left = 0;
    scenario.setup();

    state.threads_count = scenario.threads;
    state.body = scenario.body;
    for (1..scenario.threads + 1) |number| {
        const thread = &state.threads[number];
        thread.view = main.view;
        thread.view[number] = 1;
        thread.stale_left = stale_budget;
        thread.done = false;
        startFiber(@intCast(number));
    }
    // What setup does after this moment would not be seen; nothing does.
    main.view[0] += 1;
    enter(@intCast(1 + below(scenario.threads)));
    if (state.failure) |reason| return reason;

    for (1..scenario.threads + 1) |number| {
        main.view = joined(main.view, state.threads[number].view);
    }
    // The check reads only what is newest.
    for (0..state.locations_count) |number| {
        main.view[threads_max + number] = state.locations[number].newest;
    }
    state.body = struct {
        var check: *const fn () void = undefined;
        fn run(_: u8) void {
            check();
        }
        fn of(function: *const fn () void) *const fn (u8) void {
            check = function;
            return run;
        }
    }.of(scenario.check);
    startFiber(0);
    enter(0);
    return state.failure;
}

fn enter(number: u8) void {
    state.current = number;
    state.fibers = true;
    switchContext(&state.main, &state.threads[number].context);
    state.fibers = false;
    state.current = 0;
}

/// Drops one half of one site's order until `restore`. Only sites that have run are known.
pub fn weaken(name: []const u8, half: Half) error{UnknownSite}!void {
    (find(name) orelse return error.UnknownSite).dropped.insert(half);
}

pub const Fences = struct { light: bool = true, heavy: bool = true, change: bool = true };

/// Leaves fences out until `restore`.
pub fn setFences(fences: Fences) void {
    state.drop_light_fence = !fences.light;
    state.drop_heavy_fence = !fences.heavy;
    state.drop_change_fence = !fences.change;
}

/// Everything in order again.
pub fn restore() void {
    setFences(.{});
    var record = state.sites;
    while (record) |site| : (record = site.next) site.dropped = .initEmpty();
}

fn find(name: []const u8) ?*SiteRecord {
    var record = state.sites;
    while (record) |site| : (record = site.next) {
        if (std.mem.eql(u8, site.name, name)) return site;
    }
    return null;
}

pub const Proof = struct {
    seed: u64,
    /// Schedules without any mutation; all must pass.
    schedules: u64,
    /// Schedules within which each mutation must be found.
    mutation_budget: u64,
    /// Prints a line for each mutation.
    verbose: bool = false,
};

/// See the head of the file. Prints what went wrong and how to repeat it.
pub fn prove(scenario: *const Scenario, proof: Proof) error{ProofFailed}!void {
    restore();
    var record = state.sites;
    while (record) |site| : (record = site.next) site.seen = .initEmpty();

    if (explore(scenario, proof.seed, 0, proof.schedules)) |failure| {
        std.debug.print("{s}: {s}\n  repeat: --only={s} --seed={d} --from={d} --schedules=1\n", .{
            scenario.name, failure.reason, scenario.name, proof.seed, failure.schedule,
        });
        return error.ProofFailed;
    }
    try checkListed(scenario);

    var mutations: u32 = 0;
    var slowest: u64 = 0;
    for (scenario.ordered_sites) |listed| {
        const site = find(listed).?;
        for ([_]Half{ .release, .acquire }) |half| {
            if (!site.seen.contains(half)) continue;
            restore();
            site.dropped.insert(half);
            defer restore();
            const failure = explore(scenario, proof.seed, 0, proof.mutation_budget) orelse {
                std.debug.print("{s}: without {t} at {s} nothing went wrong in {d} schedules\n", .{
                    scenario.name, half, site.name, proof.mutation_budget,
                });
                return error.ProofFailed;
            };
            mutations += 1;
            slowest = @max(slowest, failure.schedule + 1);
            const line = "  without {t:<8} at {s:<20} schedule {d:>7}: {s}\n";
            if (proof.verbose) std.debug.print(line, .{
                half, site.name, failure.schedule, failure.reason,
            });
        }
    }
    if (proof.verbose) std.debug.print(
        "{s}: {d} schedules clean; {d} of {d} mutations found, the last after {d} schedules\n",
        .{ scenario.name, proof.schedules, mutations, mutations, slowest },
    );
}

/// Each ordered site is listed, and each listed one was reached with its order.
fn checkListed(scenario: *const Scenario) error{ProofFailed}!void {
    var record = state.sites;
    while (record) |site| : (record = site.next) {
        if (site.seen.count() == 0) continue;
        if (isIn(scenario.ordered_sites, site.name)) continue;
        if (isIn(scenario.inner_sites, site.name)) continue;
        std.debug.print("{s}: site {s} is ordered but not listed\n", .{ scenario.name, site.name });
        return error.ProofFailed;
    }
    for (scenario.ordered_sites) |listed| {
        if (find(listed)) |site| if (site.seen.count() > 0) continue;
        std.debug.print("{s}: site {s} is listed but never reached\n", .{ scenario.name, listed });
        return error.ProofFailed;
    }
}

fn isIn(sites: []const []const u8, name: []const u8) bool {
    for (sites) |site| if (std.mem.eql(u8, site, name)) return true;
    return false;
}
