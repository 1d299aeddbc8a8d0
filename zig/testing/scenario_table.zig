//! The handle table under the simulated threads: leases, wraps, tokens and hand-overs, against an
//! exact model of each lease.
//!
//! Three threads share a table of three indexes with caches of two. Handles, wraps and tokens
//! travel between them through plain lists that order nothing, so that every bit of order must come
//! from the table itself. A number that came that way may be refused, since its reader may not have
//! heard of the lease yet; but whatever the table accepts must be right, each end of a lease must
//! have one winner, and a thread's own numbers must be judged exactly.
//!
//! The payload belongs to the owner while no wrap is out, and to the winner of the end. `memory` is
//! what lies behind the lease: each thread writes a part of its own before it drops a wrap, and the
//! winner of the end writes it all. That needs a wrap which travelled in good order, so half of the
//! leases are `gated`: their wraps pass through an atomic of the model. The other half must do
//! without, and so show the order that addWrap and dropWrap give by themselves.

const std = @import("std");
const ds = @import("../ds/ds.zig");
const handle_table = @import("../ds/handle_table.zig");
const scheduler = @import("scheduler.zig");

const Sim = scheduler.Sim;
const expect = scheduler.expect;
const below = scheduler.below;

const Payload = extern struct { number: Sim.Plain(u32), memory: [4]Sim.Plain(u32) };
const Table = handle_table.HandleTableShaped(Sim, Payload, .{
    // Few, so that an index retired by mistake is not rare; more than a schedule can use up.
    .generation_bits = 5,
    .cache_max = 2,
    .refill_batch = 2,
    .fresh_batch = 1,
});

pub const scenario: scheduler.Scenario = .{
    .name = "handle_table",
    .threads = 3,
    .setup = setup,
    .body = body,
    .check = check,
    .ordered_sites = scheduler.names(&Table.ordered_sites),
    .inner_sites = scheduler.names(&(ds.TaggedStack(Sim).ordered_sites ++ model_sites)),
};

const model_sites = [_]@TypeOf(.site){ .model_gate, .model_gate_take };

const Lease = struct {
    handle: Table.Handle,
    phase: handle_table.Phase,
    /// Whose numbers to believe; 0: handed over, anyone may take it; `contested`: several may free
    /// it at once.
    owner: u8,
    /// In the entry's owner field since it was published.
    named: u32,
    /// What the payload says.
    number: u32,
    /// ArrayBuffers, and of these the ones held by the owner itself.
    wraps: u32 = 0,
    wraps_most: u32 = 0,
    holds: u32 = 0,
    /// Wraps on their way to a deallocator.
    loose: u32 = 0,
    gated: bool = false,
    /// The owner read the payload after it was last released: handing it over would be its fault.
    looked: bool = false,
};

const leases_max = 32;
const indexes = 3;
const no_owner = 99;
const contested = 98;

var memory: [(indexes + 1) * @sizeOf(Table.Entry)]u8 align(64) = undefined;
var table: Table = undefined;
var caches: [4]Table.Cache = undefined;
var leases: [leases_max]Lease = undefined;
var leases_count: u32 = 0;
var next_number: u32 = 0;
/// Operations that this schedule leaves out, so that others come in long rows.
var disabled: [4]u32 = undefined;
/// The longest ways to a mistake have schedules of their own: a lease that thread 1 wrapped and
/// holds, thread 2 drops a wrap of, and thread 3 frees after it was handed over; and one that its
/// owner writes to under a wrap of its own, and frees.
var plot: enum { mixed, hand_over, write_and_free } = .mixed;
/// Wraps that thread 1 makes before all else.
var opening: u32 = 0;
var gates: [indexes + 1]Sim.Atomic(u32) = undefined;

fn setup() void {
    @memset(&memory, 0);
    table = .init(&memory, below(1 << 30));
    caches = @splat(.{});
    leases_count = 0;
    next_number = 0;
    disabled = @splat(below(1 << 11) & below(1 << 11) & ~@as(u32, 1 << 3));
    opening = below(4);
    plot = switch (below(8)) {
        0 => .hand_over,
        1 => .write_and_free,
        else => .mixed,
    };
    if (plot == .mixed) return;
    opening = 2;
    const of_owner: u32 = if (plot == .hand_over) 1 << 1 | 1 << 6 else 1 << 3 | 1 << 5;
    disabled[1] = ~of_owner;
    disabled[2] = ~@as(u32, 1 << 7);
    disabled[3] = if (plot == .hand_over) ~@as(u32, 1 << 3) else disabled[2];
}

fn body(thread: u8) void {
    const cache = &caches[thread];
    if (plot == .mixed or thread == 1) begin(thread, cache);
    if (thread == 1 and opening > 0) {
        // Some mistakes need a lease that has seen a lot already.
        for (0..opening) |_| wrap(thread, &leases[leases_count - 1]);
    }
    for (0..6) |_| {
        if (below(2) == 0) Sim.pause();
        const lease = any() orelse continue;
        var operation = below(11);
        while (disabled[thread] >> @intCast(operation) & 1 == 1) operation = below(11);
        switch (operation) {
            0 => begin(thread, cache),
            1 => if (lease.owner == thread and !lease.looked) {
                lease.owner = 0;
            },
            2 => receive(thread, lease),
            3 => free(thread, cache, lease),
            4 => wrap(thread, lease),
            5 => write(thread, lease),
            6 => unhold(thread, lease),
            7 => drop(thread, cache, lease),
            8 => send(thread, lease),
            9 => if (below(3) == 0) endToken(cache, lease) else adopt(thread, lease),
            10 => look(),
            else => unreachable,
        }
    }
    table.drain(cache);
}

/// Mostly one that is not over yet; the others are there to be refused.
fn any() ?*Lease {
    if (leases_count == 0) return null;
    var lease = &leases[below(leases_count)];
    for (0..3) |_| {
        if (lease.phase != .free) break;
        lease = &leases[below(leases_count)];
    }
    return lease;
}

fn add(lease: Lease) void {
    if (leases_count == leases_max) return scheduler.fail("the scenario is too small");
    leases[leases_count] = lease;
    leases_count += 1;
}

fn begin(thread: u8, cache: *Table.Cache) void {
    const index = table.claim(cache) orelse return;
    const entry = table.entry(index);
    next_number += 1;
    const number = next_number;
    entry.payload.number.set(number);
    for (&entry.payload.memory) |*part| part.set(0);
    entry.owner.store(thread, .monotonic, .model_owner);
    const handle = table.publish(index);
    for (leases[0..leases_count]) |lease| {
        expect(lease.handle != handle, "a number was issued twice");
        const over = lease.phase == .free or Table.indexOf(lease.handle) != index;
        expect(over, "an index was given out twice");
    }
    add(.{
        .handle = handle,
        .phase = .live,
        .owner = thread,
        .named = thread,
        .number = number,
        .gated = plot == .hand_over or below(2) == 0,
    });
}

/// Takes over a handle that its owner let go of without telling anyone properly.
fn receive(thread: u8, lease: *Lease) void {
    // Once wrapped, the word may look as it did before the payload changed.
    if (lease.owner != 0 or lease.phase != .live or lease.wraps_most > 0) return;
    lease.owner = thread;
    const entry = table.find(lease.handle) catch {
        lease.owner = 0;
        return;
    };
    expect(lease.phase == .live and lease.owner == thread, "a stale number was accepted");
    lease.looked = true;
    expect(entry.payload.number.get() == lease.number, "a handle without its payload");
}

fn free(thread: u8, cache: *Table.Cache, lease: *Lease) void {
    if (lease.owner == 0) lease.owner = contested;
    if (lease.owner != thread and lease.owner != contested) return;
    const index = Table.indexOf(lease.handle);
    if (below(2) == 0 and table.endUnwrapped(lease.handle)) {
        expect(lease.phase == .live, "a stale number was freed");
        expect(lease.wraps == 0, "freed under an ArrayBuffer");
        return finish(cache, lease, index);
    }
    const freeing = table.beginFree(lease.handle) catch {
        // Another's number may be unheard of; one's own is judged exactly.
        return expect(lease.owner != thread or lease.phase != .live, "a live number was refused");
    };
    expect(lease.phase == .live, "a stale number was freed");
    switch (freeing) {
        .finished => {
            expect(lease.wraps == 0, "freed under an ArrayBuffer");
            finish(cache, lease, index);
        },
        .closing => {
            expect(lease.wraps > 0, "closing without an ArrayBuffer");
            lease.phase = .closing;
            lease.loose += lease.holds;
            lease.holds = 0;
        },
    }
}

/// The winner of an end: everything is its own.
fn finish(cache: *Table.Cache, lease: *Lease, index: u32) void {
    lease.phase = .free;
    const payload = &table.entry(index).payload;
    expect(payload.number.get() == lease.number, "an end without the payload");
    for (&payload.memory) |*part| part.set(part.get() + 1);
    payload.number.set(0);
    table.recycle(if (below(3) == 0) null else cache, index);
}

fn wrap(thread: u8, lease: *Lease) void {
    if (lease.owner != thread) return;
    if (lease.phase == .live and lease.wraps == 0) {
        // As a resize does: the payload changes while nobody else can see it.
        const payload = &table.entry(Table.indexOf(lease.handle)).payload;
        next_number += 1;
        lease.number = next_number;
        payload.number.set(lease.number);
    }
    table.addWrap(lease.handle) catch {
        return expect(lease.phase != .live, "a live number was refused");
    };
    expect(lease.phase == .live, "a stale number was wrapped");
    lease.wraps += 1;
    lease.wraps_most = @max(lease.wraps_most, lease.wraps);
    lease.looked = false;
    if (lease.gated) _ = gates[Table.indexOf(lease.handle)].fetchAdd(1, .release, .model_gate);
    const loose = lease.wraps == 1 or (plot == .mixed and below(2) == 0);
    if (loose) lease.loose += 1 else lease.holds += 1;
}

/// A wrap of its own keeps the lease from ending, so the owner may write the payload meanwhile.
fn write(thread: u8, lease: *Lease) void {
    if (lease.owner != thread or lease.phase != .live or lease.holds == 0) return;
    next_number += 1;
    lease.number = next_number;
    table.entry(Table.indexOf(lease.handle)).payload.number.set(lease.number);
    lease.looked = true;
}

fn unhold(thread: u8, lease: *Lease) void {
    if (lease.owner != thread or lease.holds == 0) return;
    lease.holds -= 1;
    const done = table.cancelWrap(lease.handle) catch {
        return expect(lease.phase != .live, "a live number was refused");
    };
    expect(done and lease.phase == .live and lease.wraps > 0, "no wrap was there to take back");
    lease.wraps -= 1;
    lease.looked = false;
}

/// A deallocator: it knows the index and nothing else.
fn drop(thread: u8, cache: *Table.Cache, lease: *Lease) void {
    if (lease.loose == 0) return;
    lease.loose -= 1;
    const index = Table.indexOf(lease.handle);
    if (lease.gated) {
        _ = gates[index].fetchAdd(1, .acquire, .model_gate_take);
        table.entry(index).payload.memory[thread].set(thread);
    }
    switch (table.dropWrap(index)) {
        .still => {
            expect(lease.wraps > 1, "the last wrap did not end the lease");
            lease.wraps -= 1;
        },
        .finished => {
            expect(lease.phase == .closing and lease.wraps == 1, "finished too early");
            lease.wraps = 0;
            finish(cache, lease, index);
        },
        .leaked => {
            expect(lease.phase == .live and lease.wraps == 1, "leaked too early");
            lease.wraps = 0;
            finish(cache, lease, index);
        },
    }
}

fn send(thread: u8, lease: *Lease) void {
    if (lease.owner != thread) return;
    const held = lease.holds;
    if (lease.phase != .live) return;
    // A lease that only deallocators hold may end at any moment: the sender holds a wrap itself.
    if (lease.wraps > 0 and held == 0) return;
    // First nobody's, then a token: else a third thread could read the old owner of a new lease.
    const entry = table.entry(Table.indexOf(lease.handle));
    entry.owner.store(no_owner, .monotonic, .model_owner);
    const token = table.toToken(lease.handle, held) catch |wrong| {
        // The sender may not have heard of the last deallocators yet.
        if (wrong == error.Busy) return expect(lease.wraps_most > held, "busy without a reason");
        return expect(lease.phase != .live, "a live number was refused");
    };
    expect(lease.phase == .live and lease.wraps == held, "a stale or wrapped lease was sent");
    lease.phase = .free;
    lease.holds = 0;
    lease.wraps = 0;
    add(.{
        .handle = token,
        .phase = .token,
        .owner = 0,
        .named = no_owner,
        .number = lease.number,
    });
}

fn adopt(thread: u8, lease: *Lease) void {
    if (lease.owner != 0) return;
    const handle = table.adopt(lease.handle) catch return;
    expect(lease.phase == .token, "something else than a token was adopted");
    lease.phase = .free;
    add(.{
        .handle = handle,
        .phase = .live,
        .owner = thread,
        .named = no_owner,
        .number = lease.number,
        .looked = true,
    });
    const entry = table.entry(Table.indexOf(handle));
    expect(entry.payload.number.get() == lease.number, "an adoption without the payload");
}

fn endToken(cache: *Table.Cache, lease: *Lease) void {
    table.endToken(lease.handle) catch return;
    expect(lease.phase == .token, "something else than a token was ended");
    finish(cache, lease, Table.indexOf(lease.handle));
}

/// As a thread that tidies up after another: the owner it reads must be the one of that lease.
fn look() void {
    const index = 1 + below(indexes);
    if (index >= table.end()) return;
    const peek = table.peek(index);
    if (peek.phase != .live) return;
    const owner = table.entry(index).owner.load(.monotonic, .model_owner_load);
    for (leases[0..leases_count]) |lease| {
        if (lease.handle != peek.handle or lease.phase != .live) continue;
        // The sender marks its lease before the token exists.
        expect(owner == lease.named or owner == no_owner, "a live lease with the owner of another");
    }
}

/// With everything in view: each lease is where the model says, and each index can be had again.
fn check() void {
    const cache = &caches[0];
    var number: u32 = 0;
    while (number < leases_count) : (number += 1) {
        const lease = &leases[number];
        const index = Table.indexOf(lease.handle);
        if (lease.phase == .live) {
            lease.loose += lease.holds;
            lease.holds = 0;
            if (table.beginFree(lease.handle)) |freeing| switch (freeing) {
                .finished => finish(cache, lease, index),
                .closing => lease.phase = .closing,
            } else |_| scheduler.fail("a live number was refused");
        }
        while (lease.loose > 0) drop(0, cache, lease);
        if (lease.phase == .token) endToken(cache, lease);
        expect(lease.phase == .free, "a lease without an end");
    }
    for (leases[0..leases_count]) |lease| {
        if (table.find(lease.handle)) |_| scheduler.fail("a stale number was accepted") else |_| {}
        if (table.adopt(lease.handle)) |_| scheduler.fail("a stale token was adopted") else |_| {}
    }
    for (0..indexes) |_| expect(table.claim(cache) != null, "an index was lost");
    expect(table.claim(cache) == null, "an index too many");
}
