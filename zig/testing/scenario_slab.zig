//! What the simulated threads of scheduler.zig do to the owner slab: an owner allocates, frees, drains,
//! searches and closes while two others free what it handed out, now and then twice.
//!
//! What a slot holds is a `Plain` cell, so a slot that comes back without release and acquire shows as
//! a race. The slab's own memory is a static buffer; words and marks are simulated cells. The queue is
//! bounded in some schedules, and its bound is checked.
//!
//! Invariant: each slot is in one place, and at the end all are accounted for. See scenarios.zig.

const std = @import("std");
const owner_slab = @import("../heap/owner_slab.zig");
const scheduler = @import("scheduler.zig");

const Sim = scheduler.Sim;
const expect = scheduler.expect;
const Slab = owner_slab.OwnerSlab(Sim);

pub const scenario: scheduler.Scenario = .{
    .name = "owner_slab",
    .threads = 3,
    .setup = setup,
    .body = body,
    .check = check,
    .ordered_sites = scheduler.names(&Slab.ordered_sites),
};

const count = 3;
const owner = 3;
const nobody = 0;

var memory: [4096]u8 align(128) = undefined;
var slab: *Slab = undefined;
var payload: [count]Sim.Plain(u32) = undefined;
var numbers: [count]u64 = undefined;
/// Thread that may free the slot; `nobody` while it is free or on its way back.
var holder: [count]u8 = undefined;
var bound: u32 = 0;
var closed: bool = false;
var last: u32 = 0;

fn setup() void {
    bound = if (scheduler.oneIn(2)) 1 else count;
    slab = Slab.createIn(&memory, .{
        .slot_bytes = 1,
        .alignment = 1,
        .capacity = count,
        .queue_capacity = bound,
        .batch = .{ .fixed = 1 },
    }).?;
    closed = false;
    last = 0;
    for (&payload) |*cell| cell.* = .init(0);
    for (0..count) |_| {
        const index = slab.alloc(null).?;
        numbers[index] = slab.numberOf(index);
        holder[index] = @intCast(1 + scheduler.below(2));
    }
    slab.retain();
    slab.retain();
}

fn body(thread: u8) void {
    if (thread == owner) own() else for (0..3) |_| other(thread);
    // Whoever is last may give the memory back: everyone's work on it is before that.
    if (slab.release(null)) {
        last += 1;
        for (&payload) |*cell| cell.set(7);
    }
}

fn own() void {
    // Nobody takes the queue: is its bound kept?
    if (scheduler.oneIn(3)) return;
    for (0..4) |_| switch (scheduler.below(6)) {
        0, 1 => {
            const index = slab.alloc(null) orelse continue;
            take(index);
            if (scheduler.oneIn(2)) {
                slab.free(numbers[index]) catch scheduler.fail("the owner's free was refused");
                holder[index] = nobody;
                const again = slab.free(numbers[index]);
                expect(again == error.DoubleFree, "a second free was accepted");
            }
        },
        2 => expect(slab.drain() <= count, "more came back than there are"),
        3 => {
            // The owner sleeps, is woken or not, and looks.
            if (slab.fallAsleep() != null) slab.wokeUp();
        },
        4 => {
            // As after a damaged link: the words alone say what is free.
            while (slab.alloc(null)) |index| take(index);
            slab.suspect = 1;
            if (slab.alloc(null)) |index| take(index);
        },
        5 => if (scheduler.oneIn(3)) {
            slab.close();
            closed = true;
            break;
        },
        else => unreachable,
    };
}

fn take(index: u32) void {
    expect(holder[index] == nobody, "a slot was handed out twice");
    holder[index] = owner;
    numbers[index] = slab.numberOf(index);
    payload[index].set(payload[index].get() + 1);
}

/// Two slots by one push.
fn otherTwo(thread: u8) void {
    var both: [2]u64 = undefined;
    var found: u32 = 0;
    for (0..count) |index| if (holder[index] == thread and found < 2) {
        payload[index].set(payload[index].get() + thread);
        both[found] = numbers[index];
        found += 1;
        holder[index] = nobody;
    };
    const freed = slab.freeRemoteMany(both[0..found]);
    expect(freed.outcome != .foreign and freed.outcome != .double_free, "a good free was refused");
    if (freed.count == found or freed.outcome == .closed) return;
    for (both[freed.count..found]) |number| holder[@intCast(number & 3)] = thread;
}

fn other(thread: u8) void {
    if (scheduler.oneIn(3)) return otherTwo(thread);
    const from = scheduler.below(count);
    for (0..count) |offset| {
        const index = (from + offset) % count;
        if (holder[index] != thread) continue;
        payload[index].set(payload[index].get() + thread);
        const number = numbers[index];
        holder[index] = nobody;
        switch (slab.freeRemote(number)) {
            .done, .done_wake => if (scheduler.oneIn(3)) switch (slab.freeRemote(number)) {
                .double_free, .full, .closed => {},
                else => scheduler.fail("a second free was accepted"),
            },
            .full => {
                expect(bound < count, "an unbounded queue is full");
                holder[index] = thread;
            },
            .closed => expect(closed or slab.isClosed(), "closed without an end"),
            else => scheduler.fail("a good free was refused"),
        }
        return;
    }
}

fn check() void {
    expect(last == 1, "not exactly one was the last");
    if (!closed) {
        expect(waiting() <= bound, "more wait than the queue holds");
        _ = slab.drain();
    }
    var free: u32 = 0;
    for (slab.states[0..count]) |*state| {
        if (state.raw & 3 == owner_slab.phase_free) free += 1;
    }
    expect(free == slab.top, "a free slot is in no list");
    expect(slab.damaged == 0, "a whole slab was taken for a damaged one");
    for (holder, 0..) |who, index| {
        const word = slab.states[index].raw;
        if (who != nobody) {
            expect(word & 3 == owner_slab.phase_live, "a held slot is not live");
        } else if (!closed) expect(word & 3 == owner_slab.phase_free, "a slot was lost");
    }
}

fn waiting() u32 {
    var found: u32 = 0;
    for (slab.states[0..count]) |*state| found += @intFromBool(state.raw & 3 == owner_slab.phase_claimed);
    return found;
}
