//! The blocks of the reclaiming heap under the simulated threads: claims, frees by owners and by
//! others, blocks given up and taken by their first free, and a remover who steals and detaches.
//!
//! One batch of two blocks of two slots, its stack, and two threads with seats that each own at most
//! one block; the third is the reclaimer. The code under test is that of reclaiming_batch.zig and
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
    memory = @splat(.init(0));
    value = @splat(0);
    holder = @splat(0);
    gone = false;
    record = .init(0);
    post = .init(0);
    const first = batch.init(1 << 20, 1 << 16, 0, blocks, slots);
    batch.publish(&stack);
    first.setOwner(0);
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
    const mine = seat.enter();
    defer seat.leave();
    const cell = &own[thread - 1];
    if (mine) if (cell.*) |block| {
        if (block.take()) |slot| return take(thread, block, slot);
        if (block.refill() or !block.relinquish()) {
            block.setOwner(thread);
            _ = block.refill();
            return take(thread, block, block.take().?);
        }
        cell.* = null;
    };
    while (stack.claim()) |block| {
        expect(!gone, "a block of a batch that is gone");
        _ = block.refill();
        const slot = block.take() orelse {
            putBack(block);
            continue;
        };
        take(thread, block, slot);
        if (mine) {
            block.setOwner(thread);
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
    block.setOwner(0);
    if (block.mine.load(.monotonic, .block_mine) == 0 and block.relinquish()) return;
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
    const mine = seat.enter();
    defer seat.leave();
    if (mine) {
        if (block.isOwner(thread)) {
            block.freeLocal(slot) catch scheduler.fail("a live slot was taken for a free one");
            return;
        }
        if (own[thread - 1] == null and block.freeOwning(slot, thread)) {
            own[thread - 1] = block;
            return;
        }
    }
    freeRemote(block, slot);
}

fn freeRemote(block: *Block, slot: u5) void {
    const list = block.freeRemote(slot) catch return scheduler.fail("a live slot was taken for a free one");
    // The batch may be nobody's by now, but not the backend's.
    expect(record.get() == 0, "a record that has gone back");
    if (list) batch.list(@as(u32, 1) << @intCast(block.ordinal), &stack);
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
    for (&seats, &own) |*seat, *cell| {
        if (cell.*) |block| putBack(block);
        cell.* = null;
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
    for (holder, 0..) |who, at| if (who != 0) {
        expect(!gone, "a live slot in a batch that is gone");
        const block = &batch.blocks[at / slots];
        holder[at] = 0;
        const owned = for (own) |one| {
            if (one == block) break true;
        } else false;
        if (owned) {
            block.freeLocal(@intCast(at % slots)) catch scheduler.fail("a live slot was taken for a free one");
        } else if (block.freeRemote(@intCast(at % slots)) catch return scheduler.fail("a second free")) {
            batch.list(@as(u32, 1) << @intCast(block.ordinal), &stack);
        }
    };
    if (gone) {
        expect(stack.claim() == null, "a batch that is gone is still listed");
        return;
    }
    for (&own) |*cell| if (cell.*) |block| putBack(block);
    expect(batch.detach(&stack), "a slot or a block was lost");
}
