//! What the simulated threads of scheduler.zig do to each lock-free structure, and how they notice
//! that something is wrong.
//!
//! Every scenario keeps an exact model beside the structure. Only one fiber runs at a time and a
//! fiber yields only before an atomic operation, so a model update right after the deciding
//! operation is one step with it. What an index stands for lies in `Plain` cells, so a hand-over
//! without release or acquire shows as a race even when the index itself arrived.
//!
//! Invariant: a scenario passes every schedule of the code as it is, fails when any half of any
//! ordered site is dropped, and its `check` accounts for each index exactly once.
//!
//! The handle table's scenario is in scenario_table.zig, that of the reclaiming heap in
//! scenario_blocks.zig. `all` is the list that the proof runs;
//! `planted` are bugs that must be found.

const std = @import("std");
const ds = @import("../ds/ds.zig");
const tagged_stack = @import("../ds/tagged_stack.zig");
const scheduler = @import("scheduler.zig");

const Sim = scheduler.Sim;
const Scenario = scheduler.Scenario;
const expect = scheduler.expect;
const none = ds.none;

pub const all = [_]Scenario{
    StackScenario(ds.TaggedStack(Sim), "tagged_stack").scenario,
    RemoteScenario.scenario,
    LaneScenario.scenario,
    LockScenario.with(true),
    LockScenario.with(false),
    FenceSwitch(true).scenario,
    @import("scenario_table.zig").scenario,
    @import("scenario_global.zig").scenario,
    @import("scenario_blocks.zig").scenario,
    @import("scenario_slab.zig").scenario,
};

/// Scenarios that must fail: they show that the scheduler can find what it is for.
pub const planted = [_]Scenario{
    // Without a tag a popper that slept is fooled by the same index on top (ABA).
    StackScenario(tagged_stack.TaggedStackWidth(Sim, 0), "stack_without_tag").scenario,
    CounterScenario.scenario,
    MessageScenario.scenario,
    FenceSwitch(false).scenario,
};

/// Indexes with a link and a payload each, and who holds them.
const Nodes = struct {
    const count = 4;
    const in_structure = 0;

    links: [count]Sim.Atomic(u32),
    payload: [count]Sim.Plain(u32),
    value: [count]u32,
    holder: [count]u8,

    fn reset(nodes: *Nodes) void {
        nodes.* = .{
            .links = @splat(.init(none)),
            .payload = @splat(.init(0)),
            .value = @splat(0),
            .holder = @splat(in_structure),
        };
    }

    pub fn next(nodes: *Nodes, index: u32) *Sim.Atomic(u32) {
        return &nodes.links[index];
    }

    /// `thread` got the index out of the structure; it writes a value of its own.
    fn take(nodes: *Nodes, thread: u8, index: u32) void {
        expect(nodes.holder[index] == in_structure, "an index was given out twice");
        nodes.holder[index] = thread;
        expect(nodes.payload[index].get() == nodes.value[index], "an index without its payload");
        nodes.value[index] +%= thread + 1;
        nodes.payload[index].set(nodes.value[index]);
    }

    fn takeChain(nodes: *Nodes, thread: u8, first: u32) u32 {
        var index = first;
        var taken: u32 = 0;
        while (index != none) : (taken += 1) {
            expect(taken < count, "a chain without end");
            const following = nodes.links[index].load(.monotonic, .walk);
            nodes.take(thread, index);
            index = following;
        }
        return taken;
    }

    /// Some index that `thread` holds, now leaving its hands.
    fn give(nodes: *Nodes, thread: u8) ?u32 {
        const from = scheduler.below(count);
        for (0..count) |offset| {
            const index: u32 = @intCast((from + offset) % count);
            if (nodes.holder[index] != thread) continue;
            nodes.holder[index] = in_structure;
            return index;
        }
        return null;
    }

    fn expectAllHeld(nodes: *Nodes) void {
        for (nodes.holder) |holder| expect(holder != in_structure, "an index was lost");
    }
};

/// Three threads push, pop, take batches and take all.
fn StackScenario(comptime Stack: type, comptime name: []const u8) type {
    return struct {
        var stack: Stack = undefined;
        var nodes: Nodes = undefined;

        const scenario: Scenario = .{
            .name = name,
            .threads = 3,
            .setup = setup,
            .body = body,
            .check = check,
            .ordered_sites = scheduler.names(&Stack.ordered_sites),
        };

        fn setup() void {
            stack = .{};
            nodes.reset();
            for (0..Nodes.count) |index| {
                if (scheduler.oneIn(3)) {
                    nodes.holder[index] = @intCast(1 + scheduler.below(3));
                } else stack.push(&nodes, @intCast(index));
            }
        }

        fn body(thread: u8) void {
            for (0..5) |_| switch (scheduler.below(8)) {
                0, 1 => if (nodes.give(thread)) |index| stack.push(&nodes, index),
                2 => pushTwo(thread),
                3, 4, 5 => if (stack.pop(&nodes)) |index| nodes.take(thread, index),
                6 => popTwo(thread),
                7 => if (stack.takeAll(&nodes)) |first| {
                    _ = nodes.takeChain(thread, first);
                },
                else => unreachable,
            };
        }

        fn pushTwo(thread: u8) void {
            const first = nodes.give(thread) orelse return;
            const last = nodes.give(thread) orelse return stack.push(&nodes, first);
            nodes.next(first).store(last, .monotonic, .link);
            stack.pushChain(&nodes, first, last);
        }

        fn popTwo(thread: u8) void {
            var chain: ds.Chain = undefined;
            const count = stack.popMany(&nodes, 2, &chain);
            if (count == 0) return;
            expect(nodes.takeChain(thread, chain.first) == count, "a chain of another length");
            expect(nodes.links[chain.last].raw == none, "a chain that is not ended");
        }

        fn check() void {
            _ = nodes.takeChain(4, stack.takeAll(&nodes) orelse none);
            expect(stack.isEmpty(), "not empty after all was taken");
            nodes.expectAllHeld();
        }
    };
}

/// Two threads push; the owner takes, closes, and opens again.
const RemoteScenario = struct {
    const Stack = ds.RemoteStack(Sim);
    const owner = 3;
    var stack: Stack = undefined;
    var nodes: Nodes = undefined;

    const scenario: Scenario = .{
        .name = "remote_stack",
        .threads = 3,
        .setup = setup,
        .body = body,
        .check = check,
        .ordered_sites = scheduler.names(&Stack.ordered_sites),
    };

    fn setup() void {
        stack = .{};
        nodes.reset();
        for (&nodes.holder) |*holder| holder.* = @intCast(1 + scheduler.below(2));
    }

    fn body(thread: u8) void {
        if (thread == owner) return own();
        for (0..3) |_| {
            const index = nodes.give(thread) orelse return;
            nodes.value[index] += thread;
            nodes.payload[index].set(nodes.value[index]);
            if (!stack.push(&nodes, index)) nodes.holder[index] = thread;
        }
    }

    fn own() void {
        for (0..4) |_| {
            if (stack.takeAll()) |first| _ = nodes.takeChain(owner, first);
            if (scheduler.oneIn(3)) {
                if (stack.close()) |first| _ = nodes.takeChain(owner, first);
                expect(stack.takeAll() == null, "a closed stack gave something");
                stack.open();
            }
        }
    }

    fn check() void {
        if (stack.close()) |first| _ = nodes.takeChain(owner, first);
        expect(stack.isEmpty(), "not empty after it was closed");
        nodes.expectAllHeld();
    }
};

/// One sender goes round a small ring; two others collect.
const LaneScenario = struct {
    const Lane = ds.Lane(Sim, 2);
    const sender = 1;
    var lane: Lane = undefined;
    var nodes: Nodes = undefined;

    const scenario: Scenario = .{
        .name = "lane",
        .threads = 3,
        .setup = setup,
        .body = body,
        .check = check,
        .ordered_sites = scheduler.names(&Lane.ordered_sites),
    };

    fn setup() void {
        lane = .{};
        nodes.reset();
        for (&nodes.holder) |*holder| holder.* = sender;
    }

    fn body(thread: u8) void {
        if (thread == sender) return send();
        for (0..3) |_| collect(thread);
    }

    fn send() void {
        for (0..6) |_| {
            const index = nodes.give(sender) orelse return;
            nodes.value[index] += sender;
            nodes.payload[index].set(nodes.value[index]);
            const room = lane.hasRoom();
            if (lane.send(index)) continue;
            expect(!room, "refused where there was room");
            nodes.holder[index] = sender;
        }
    }

    fn collect(thread: u8) void {
        var out: [2]u32 = undefined;
        const count = lane.collect(out[0 .. 1 + scheduler.below(2)]);
        for (out[0..count]) |index| nodes.take(thread, index);
    }

    fn check() void {
        while (!lane.isEmpty()) collect(4);
        nodes.expectAllHeld();
    }
};

/// One owner, two thieves, one counter.
const LockScenario = struct {
    const Lock = ds.OwnerLock(Sim);
    var lock: Lock = undefined;
    var counter: Sim.Plain(u32) = undefined;
    var inside: u8 = 0;
    var entries: u32 = 0;

    fn with(comptime asymmetric: bool) Scenario {
        return .{
            .name = if (asymmetric) "owner_lock" else "owner_lock_symmetric",
            .threads = 3,
            .setup = setup,
            .body = body,
            .check = check,
            .ordered_sites = scheduler.names(&Lock.ordered_sites),
            .asymmetric = asymmetric,
        };
    }

    fn setup() void {
        lock = .{};
        counter = .init(0);
        inside = 0;
        entries = 0;
    }

    fn body(thread: u8) void {
        if (thread == 1) {
            for (0..4) |_| if (lock.tryEnter()) {
                work(thread);
                lock.leave();
            };
        } else for (0..2) |_| if (lock.trySteal()) {
            work(thread);
            lock.endSteal();
        };
    }

    fn work(thread: u8) void {
        expect(inside == 0, "two are inside");
        inside = thread;
        entries += 1;
        const seen = counter.get();
        Sim.pause();
        counter.set(seen + 1);
        expect(inside == thread, "two are inside");
        inside = 0;
    }

    fn check() void {
        expect(counter.get() == entries, "a lost update");
        expect(lock.tryEnter(), "the lock stayed shut");
        lock.leave();
        expect(lock.trySteal(), "the lock stayed shut");
    }
};

/// An owner and a thief while a third thread switches the process to the barrier, as `setHeavyFence` in
/// ds/atomic.zig does. Without the barrier in the middle both may be inside.
fn FenceSwitch(comptime has_middle: bool) type {
    return struct {
        /// `Sim` with the two words that the switch is about.
        const Switched = struct {
            pub const Atomic = Sim.Atomic;
            pub const pause = Sim.pause;
            var has_barrier: Sim.Atomic(u32) = undefined;
            var is_asymmetric: Sim.Atomic(u32) = undefined;

            pub inline fn lightFence() void {
                if (is_asymmetric.load(.monotonic, .switch_cheap) == 0) Sim.fullFence();
            }

            pub const warmFence = lightFence;

            pub fn heavyFence() void {
                Sim.fullFence();
                if (has_barrier.load(.monotonic, .switch_barrier) != 0) Sim.heavyFence();
            }

            fn set() void {
                has_barrier.store(1, .monotonic, .switch_barrier_set);
                if (has_middle) Sim.heavyFence();
                is_asymmetric.store(1, .monotonic, .switch_cheap_set);
            }
        };
        const Lock = ds.OwnerLock(Switched);
        var lock: Lock = undefined;
        var inside: u8 = 0;

        const scenario: Scenario = .{
            .name = if (has_middle) "fence_switch" else "fence_switch_without_barrier",
            .threads = 3,
            .setup = setup,
            .body = body,
            .check = check,
            .ordered_sites = &.{},
            .inner_sites = scheduler.names(&Lock.ordered_sites),
        };

        fn setup() void {
            lock = .{};
            inside = 0;
            Switched.has_barrier = .init(0);
            Switched.is_asymmetric = .init(0);
        }

        fn body(thread: u8) void {
            switch (thread) {
                1 => for (0..3) |_| if (lock.tryEnter()) {
                    work(thread);
                    lock.leave();
                },
                2 => for (0..2) |_| if (lock.trySteal()) {
                    work(thread);
                    lock.endSteal();
                },
                else => Switched.set(),
            }
        }

        fn work(thread: u8) void {
            expect(inside == 0, "two are inside");
            inside = thread;
            Sim.pause();
            expect(inside == thread, "two are inside");
            inside = 0;
        }

        fn check() void {
            expect(lock.tryEnter(), "the lock stayed shut");
            lock.leave();
        }
    };
}

/// The canary: a counter that loads and stores instead of adding.
const CounterScenario = struct {
    var counter: Sim.Atomic(u32) = undefined;

    const scenario: Scenario = .{
        .name = "lost_update",
        .threads = 2,
        .setup = setup,
        .body = body,
        .check = check,
        .ordered_sites = &.{},
    };

    fn setup() void {
        counter = .init(0);
    }

    fn body(_: u8) void {
        const seen = counter.load(.acquire, .planted_load);
        counter.store(seen + 1, .release, .planted_store);
    }

    fn check() void {
        expect(counter.load(.monotonic, .planted_check) == 2, "a lost update");
    }
};

/// A flag that is raised and read without order: the data behind it is not there.
const MessageScenario = struct {
    var flag: Sim.Atomic(u32) = undefined;
    var data: Sim.Atomic(u32) = undefined;

    const scenario: Scenario = .{
        .name = "message_without_order",
        .threads = 2,
        .setup = setup,
        .body = body,
        .check = check,
        .ordered_sites = &.{},
    };

    fn setup() void {
        flag = .init(0);
        data = .init(0);
    }

    fn body(thread: u8) void {
        if (thread == 1) {
            data.store(1, .monotonic, .planted_data);
            flag.store(1, .monotonic, .planted_flag);
        } else if (flag.load(.monotonic, .planted_flag_load) == 1) {
            expect(data.load(.monotonic, .planted_data_load) == 1, "a message before its data");
        }
    }

    fn check() void {}
};
