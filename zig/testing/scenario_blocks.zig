//! The blocks of the reclaiming heap under the simulated threads: claims, frees by owners and by
//! others, blocks that rest or are given up and taken by their first free, and a remover who steals and
//! detaches.
//!
//! One batch of two blocks of two slots, its stack, and two threads with seats, each with one block that
//! it allocates from; the third is the reclaimer. The code under test is that of reclaiming_batch.zig and
//! reclaiming_guard.zig; what stands here in place of reclaiming_keeper.zig is its skeleton. What a
//! slot holds lies in `Plain` cells, so that a hand-over without release and acquire shows as a race.
//! When the batch has been detached and settled, its memory is the remover's: it writes every slot.

const std = @import("std");
const heap = @import("../heap/heap.zig");
const scheduler = @import("scheduler.zig");

const Sim = scheduler.Sim;
const expect = scheduler.expect;
const below = scheduler.below;

const Batches = heap.ReclaimingBatches(Sim);
const Batch = Batches.Batch;
const Block = Batches.Block;
const Guard = heap.ReclaimingGuard(Sim, rest, 1);

const blocks = 2;
const slots = 2;
const total = blocks * slots;
const remover = 3;

pub const scenario: scheduler.Scenario = .{
    .name = "reclaiming",
    .threads = 3,
    .setup = setup,
    .body = body,
    .check = check,
    .ordered_sites = scheduler.names(&(Batches.ordered_sites ++ Guard.ordered_sites)),
    .inner_sites = scheduler.names(&([_]@TypeOf(.site){.model_mail} ++ Batches.unshown_sites)),
};

var batch: Batch align(64) = undefined;
var stack: Batches.Stack = undefined;
var guard: Guard = undefined;
var seats: [2]Guard.Seat = undefined;
var own: [2]?*Block = undefined;
/// Blocks that each thread owns beside that, by their number in the batch: those places never move.
var rests: [2][blocks]?*Block = undefined;
var mail: [2]Batches.Mail = undefined;
var memory: [total]Sim.Plain(u32) = undefined;
/// What each slot must hold, and who has it; 0: nobody.
var value: [total]u32 = undefined;
var holder: [total]u8 = undefined;
var gone: bool = false;
/// Stands for the fields of the record that every section reads.
var record: Sim.Plain(u32) = undefined;
/// A slot on its way to another thread: its place + 1.
var post: Sim.Atomic(u32) = undefined;

fn rest(_: u32) void {
    Sim.pause();
}

const Seats = struct {
    pub fn count(_: Seats) u32 {
        return seats.len;
    }
    pub fn seat(_: Seats, at: usize) *Guard.Seat {
        return &seats[at];
    }
};

fn setup() void {
    stack = .{};
    guard = .{};
    seats = @splat(.{});
    own = @splat(null);
    rests = @splat(@splat(null));
    mail = @splat(.{});
    memory = @splat(.init(0));
    value = @splat(0);
    holder = @splat(0);
    gone = false;
    record = .init(0);
    post = .init(0);
    _ = batch.init(1 << 20, 1 << 16, 0, blocks, slots);
    batch.publish(&stack);
    batch.list(1, &stack);
}

fn body(thread: u8) void {
    if (thread == remover) {
        for (0..2) |_| reclaim();
        return;
    }
    for (0..5) |_| switch (below(4)) {
        0, 1 => alloc(thread),
        2 => free(thread),
        else => pass(thread),
    };
}

fn placeOf(block: *Block, slot: u5) usize {
    return @as(usize, block.ordinal) * slots + slot;
}

fn alloc(thread: u8) void {
    const seat = &seats[thread - 1];
    const mine = seat.enter(Sim.lightFence);
    defer seat.leave();
    const cell = &own[thread - 1];
    if (mine) if (cell.*) |block| {
        if (block.take()) |slot| return take(thread, block, slot);
        if (block.refill()) return take(thread, block, block.take().?);
        cell.* = null;
        if (below(2) == 0) {
            rests[thread - 1][block.ordinal] = block;
        } else putBack(block);
    };
    if (mine) {
        const rest_of = &rests[thread - 1];
        while (mail[thread - 1].take()) |place| {
            const block = rest_of[place] orelse continue;
            if (block.isUsedUp()) _ = block.refill();
        }
        for (rest_of) |*place| if (place.*) |block| if (!block.isUsedUp()) {
            place.* = null;
            cell.* = block;
            return take(thread, block, block.take().?);
        };
    }
    while (stack.claim()) |block| {
        expect(!gone, "a block of a batch that is gone");
        _ = block.refill();
        const slot = block.take() orelse {
            putBack(block);
            continue;
        };
        take(thread, block, slot);
        if (mine) {
            block.setOwner(thread, @intCast(block.ordinal));
            cell.* = block;
        } else putBack(block);
        return;
    }
}

fn take(thread: u8, block: *Block, slot: u5) void {
    const at = placeOf(block, slot);
    expect(holder[at] == 0, "a slot was given out twice");
    expect(memory[at].get() == value[at], "a slot without what was written to it");
    holder[at] = thread;
    value[at] +%= thread;
    memory[at].set(value[at]);
}

fn putBack(block: *Block) void {
    if (block.relinquish()) return;
    block.disown();
    batch.list(@as(u32, 1) << @intCast(block.ordinal), &stack);
}

fn held(thread: u8) ?usize {
    const from = below(total);
    for (0..total) |offset| {
        const at = (from + offset) % total;
        if (holder[at] == thread) return at;
    }
    return null;
}

fn free(thread: u8) void {
    const at = held(thread) orelse return;
    freeAt(thread, at);
}

fn freeAt(thread: u8, at: usize) void {
    holder[at] = 0;
    const block = &batch.blocks[at / slots];
    const slot: u5 = @intCast(at % slots);
    if (scheduler.oneIn(4)) {
        const guest = guard.enter(0);
        defer guard.leave(guest);
        return freeRemote(block, slot);
    }
    const seat = &seats[thread - 1];
    const mine = seat.enter(Sim.lightFence);
    defer seat.leave();
    if (mine) {
        if (block.isOwner(thread)) {
            _ = block.freeLocal(slot) catch scheduler.fail("a live slot was taken for a free one");
            return;
        }
        if (own[thread - 1] == null and block.freeOwning(slot, thread, @intCast(block.ordinal))) {
            own[thread - 1] = block;
            return;
        }
    }
    freeRemote(block, slot);
}

fn freeRemote(block: *Block, slot: u5) void {
    const after = block.freeRemote(slot) catch return scheduler.fail("a live slot was taken for a free one");
    // The batch may be nobody's by now, but not the backend's.
    expect(record.get() == 0, "a record that has gone back");
    switch (after) {
        .nothing => {},
        .list => batch.list(@as(u32, 1) << @intCast(block.ordinal), &stack),
        .tell => |owner| mail[owner.number - 1].put(owner.place),
    }
}

/// Leaves a slot for the other thread, and frees what lay there.
fn pass(thread: u8) void {
    const at = held(thread) orelse return;
    holder[at] = 4;
    const found = post.swap(@intCast(at + 1), .acq_rel, .model_mail);
    if (found == 0) return;
    value[found - 1] +%= thread;
    memory[found - 1].set(value[found - 1]);
    freeAt(thread, found - 1);
}

fn reclaim() void {
    if (gone) return;
    for (&seats) |*seat| seat.steal();
    guard.settle(Seats{});
    for (&seats, &own, &rests) |*seat, *cell, *resting| {
        if (cell.*) |block| putBack(block);
        cell.* = null;
        for (resting) |*place| {
            if (place.*) |block| putBack(block);
            place.* = null;
        }
        seat.handBack();
    }
    if (!batch.detach(&stack)) return;
    batch.detached = true;
    guard.settle(Seats{});
    stack.filter();
    guard.settle(Seats{});
    gone = true;
    record.set(1);
    for (&memory, &value, holder) |*cell, *wanted, who| {
        expect(who == 0, "a live slot was reclaimed");
        expect(cell.get() == wanted.*, "reclaimed before it was written");
        wanted.* +%= 1;
        cell.set(wanted.*);
    }
}

fn check() void {
    for (&mail, &rests) |*letters, resting| {
        var told: [blocks]bool = @splat(false);
        while (letters.take()) |place| told[place] = true;
        for (resting, told) |place, one| if (place) |block| {
            const unseen = block.isUsedUp() and block.freeSlots() != 0;
            expect(one or !unseen, "a slot that its owner was not told of");
        };
    }
    for (holder, 0..) |who, at| if (who != 0) {
        expect(!gone, "a live slot in a batch that is gone");
        const block = &batch.blocks[at / slots];
        holder[at] = 0;
        freeRemote(block, @intCast(at % slots));
    };
    if (gone) {
        expect(stack.claim() == null, "a batch that is gone is still listed");
        return;
    }
    for (&own, &rests) |cell, resting| {
        if (cell) |block| putBack(block);
        for (resting) |place| if (place) |block| putBack(block);
    }
    expect(batch.detach(&stack), "a slot or a block was lost");
}
