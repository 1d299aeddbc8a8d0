//! What the simulated threads of scheduler.zig do to the general allocator's remote frees: two threads
//! free slots of two slabs, whose owner reads its mail, brings them home, hands them out again, and in
//! the end closes its mail, so that late slabs go to nobody's.
//!
//! What a slot holds is a `Plain` cell, so a slot that comes home without release and acquire shows as
//! a race. Handing out goes through an atomic of the model, as a program would do it.
//!
//! Two orders cannot be missed here: the announcement of a word (`slab_summary`, `slab_collect`) keeps
//! two read-modify-writes of one freer in order for machines that would reorder them, and the
//! simulation executes those in order. They stand in `inner_sites`.
//!
//! Invariant: each slot is with one thread or free, and at the end no slab is announced. See
//! scenarios.zig.

const std = @import("std");
const slab_file = @import("../heap/slab.zig");
const slab_class = @import("../heap/slab_class.zig");
const scheduler = @import("scheduler.zig");

const Sim = scheduler.Sim;
const expect = scheduler.expect;
const Slab = slab_file.Slab(Sim);
const Mail = slab_file.Mail(Sim);

pub const scenario: scheduler.Scenario = .{
    .name = "global",
    .threads = 3,
    .setup = setup,
    .body = body,
    .check = check,
    .ordered_sites = scheduler.names(&(Slab.ordered_sites ++ Mail.ordered_sites)),
    .inner_sites = scheduler.names(&(Slab.announce_sites ++ [_]@TypeOf(.site){ .model_gate, .model_gate_take })),
};

const slabs_count = 2;
const slots_count = 3;
const owner = 3;
const home = 0;
/// One word of slots.
const class: u8 = slab_class.class_of[1024 / 16];
const place = Slab.place(1);

var memory: [slabs_count][place.bytes]u8 align(64) = undefined;
var mail: Mail = undefined;
var nobody: Mail = undefined;
var payload: [slabs_count][slots_count]Sim.Plain(u32) = undefined;
var gates: [slabs_count][slots_count]Sim.Atomic(u32) = undefined;
/// Thread that has the slot; `home` while it is free or on its way there.
var holder: [slabs_count][slots_count]u8 = undefined;
var value: [slabs_count][slots_count]u32 = undefined;

fn slabOf(index: usize) *Slab {
    return @ptrCast(@alignCast(&memory[index][place.before]));
}

fn setup() void {
    mail = .{};
    nobody = .{};
    for (0..slabs_count) |index| {
        @memset(&memory[index], 0);
        const slab = slabOf(index);
        slab.cut(class, 0);
        slab.pair(0).free.store(~@as(u64, (1 << slots_count) - 1), .monotonic, .slab_free);
        for (0..slots_count) |slot| {
            payload[index][slot] = .init(0);
            gates[index][slot] = .init(0);
            value[index][slot] = 0;
            holder[index][slot] = @intCast(1 + scheduler.below(2));
        }
    }
}

fn body(thread: u8) void {
    if (thread == owner) return own();
    for (0..5) |_| {
        const index = scheduler.below(slabs_count);
        const slot = scheduler.below(slots_count);
        if (holder[index][slot] == thread) {
            free(thread, index, slot);
        } else if (holder[index][slot] == owner) receive(thread, index, slot);
    }
}

fn free(thread: u8, index: usize, slot: usize) void {
    value[index][slot] += thread;
    payload[index][slot].set(value[index][slot]);
    holder[index][slot] = home;
    const slab = slabOf(index);
    const freed = slab.freeRemote(slot) catch return scheduler.fail("a live slot was called free");
    if (freed == .mail and !mail.push(slab)) expect(nobody.push(slab), "nobody's mail is closed");
}

/// Takes over a slot that the owner has handed out.
fn receive(thread: u8, index: usize, slot: usize) void {
    // Acquire: the model's own; what the owner did to the words comes before.
    if (gates[index][slot].cmpxchg(1, 0, .acquire, .monotonic, .model_gate_take) != null) return;
    holder[index][slot] = thread;
    expect(payload[index][slot].get() == value[index][slot], "a slot without its contents");
}

fn own() void {
    for (0..4) |_| {
        read(mail.takeAll());
        if (scheduler.oneIn(6)) {
            read(mail.close());
            expect(mail.takeAll() == null, "closed mail gave something");
            mail.open();
        }
    }
}

fn read(first: ?*Slab) void {
    var next = first;
    var seen: u32 = 0;
    while (next) |slab| : (seen += 1) {
        if (seen == slabs_count) return scheduler.fail("a chain without end");
        next = Mail.after(slab);
        const came = slab.collect();
        expect(came.doubles == 0, "a free was counted twice");
        for (0..slabs_count) |index| if (slabOf(index) == slab) handOut(index);
    }
}

/// What came home is looked at, and some of it goes out again.
fn handOut(index: usize) void {
    const both = slabOf(index).pair(0);
    for (0..slots_count) |slot| {
        const bit = @as(u64, 1) << @intCast(slot);
        const bits = both.free.load(.monotonic, .slab_free);
        if (bits & bit == 0) continue;
        expect(holder[index][slot] == home, "a slot came home that somebody has");
        expect(payload[index][slot].get() == value[index][slot], "a slot without its contents");
        if (scheduler.oneIn(2)) continue;
        both.free.store(bits & ~bit, .monotonic, .slab_free);
        value[index][slot] += owner;
        payload[index][slot].set(value[index][slot]);
        holder[index][slot] = owner;
        gates[index][slot].store(1, .release, .model_gate);
    }
}

fn check() void {
    var mails = [_]?*Slab{ mail.close(), nobody.takeAll() };
    for (&mails) |*first| {
        while (first.*) |slab| {
            first.* = Mail.after(slab);
            expect(slab.collect().doubles == 0, "a free was counted twice");
        }
    }
    for (0..slabs_count) |index| {
        const slab = slabOf(index);
        expect(slab.summary.load(.monotonic, .model_check) == 0, "a slab was announced to nobody");
        for (0..slots_count) |slot| {
            const free_now = slab.pair(0).free.load(.monotonic, .slab_free) >> @intCast(slot) & 1 != 0;
            expect(free_now == (holder[index][slot] == home), "a slot was lost");
            if (free_now) expect(payload[index][slot].get() == value[index][slot], "a slot without its contents");
        }
    }
}
