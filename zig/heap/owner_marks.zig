//! Which parts of an owner slab others have freed slots in: a byte for each block of 32 slots, and one
//! for each group of 64 blocks, so that the owner finds them without a list.
//!
//! Who has changed a slot's word raises the marks of its block and group, unless they are up; the owner
//! lowers a mark before it looks at the words. Both pass a full fence in between, so either the owner
//! sees the word or the other sees that the mark is down.
//!
//! Invariant: a word that was changed lies under raised marks, or somebody is about to raise them, or
//! the owner is about to look at it.
//!
//! Cost: two loads to raise what is up, which it mostly is, and no locked instruction; a byte for each
//! 32 slots. The owner reads a line for each group with a mark. Threads: raise: any. The rest: the owner.
//!
//! Not for the order in which something was freed, and not for how much: a mark says "look here".

const std = @import("std");

pub const block_slots = 32;
pub const group_blocks = 64;
const group_slots = block_slots * group_blocks;

pub fn Marks(comptime Sync: type) type {
    return extern struct {
        blocks: [*]Mark,
        groups: [*]Mark,
        blocks_count: u32,
        groups_count: u32,

        /// How far the owner has come with looking.
        pub const Round = extern struct {
            /// Groups that the round of `next` has not come to.
            left: u32 = 0,
            group: u32 = 0,
            /// Block of the group that is looked at next, and the first that is not of the group; the same
            /// between two groups.
            block: u32 = 0,
            group_end: u32 = 0,
        };

        const Self = @This();
        pub const Mark = Sync.Atomic(u8);

        fn blocksFor(slots: u32) u32 {
            return std.math.divCeil(u32, slots, block_slots) catch unreachable;
        }

        fn groupsFor(slots: u32) u32 {
            return std.math.divCeil(u32, slots, group_slots) catch unreachable;
        }

        /// Marks that a slab of so many slots needs, all down at first: those of blocks, then of groups.
        pub fn countFor(slots: u32) usize {
            return blocksFor(slots) + groupsFor(slots);
        }

        pub fn init(memory: [*]Mark, slots: u32) Self {
            return .{
                .blocks = memory,
                .groups = memory + blocksFor(slots),
                .blocks_count = blocksFor(slots),
                .groups_count = groupsFor(slots),
            };
        }

        /// After a slot's word was changed by a read-modify-write.
        pub inline fn raise(marks: *const Self, slot: u32) void {
            Sync.fenceAfterChange();
            const block = &marks.blocks[slot / block_slots];
            const group = &marks.groups[slot / group_slots];
            if (block.load(.monotonic, .mark_block) != 0 and group.load(.monotonic, .mark_group) != 0) {
                @branchHint(.likely);
                return;
            }
            raiseSlow(block, group);
        }

        noinline fn raiseSlow(block: *Mark, group: *Mark) void {
            _ = block.swap(1, .monotonic, .mark_block);
            // The owner lowers the group before it looks at its blocks.
            Sync.fenceAfterChange();
            _ = group.swap(1, .monotonic, .mark_group);
            Sync.fenceAfterChange();
        }

        /// Starts to go once round all groups, the rest of the last one first.
        pub fn begin(marks: *const Self, round: *Round) void {
            round.left = marks.groups_count;
        }

        /// The next block to look at, whose mark is down now; null: the round is over.
        pub fn next(marks: *const Self, round: *Round) ?u32 {
            while (true) {
                while (round.block != round.group_end) {
                    const block = round.block;
                    round.block += 1;
                    if (marks.blocks[block].load(.monotonic, .mark_look) == 0) continue;
                    _ = marks.blocks[block].swap(0, .monotonic, .mark_lower);
                    Sync.fenceAfterChange();
                    return block;
                }
                if (round.left == 0) return null;
                round.left -= 1;
                round.group = if (round.group + 1 >= marks.groups_count) 0 else round.group + 1;
                if (marks.groups[round.group].load(.monotonic, .mark_look) == 0) continue;
                _ = marks.groups[round.group].swap(0, .monotonic, .mark_lower);
                Sync.fenceAfterChange();
                round.block = round.group * group_blocks;
                round.group_end = @min(round.block + group_blocks, marks.blocks_count);
            }
        }

        /// A mark is up, or the rest of a group was not looked at.
        pub fn hasAny(marks: *const Self, round: *const Round) bool {
            if (round.block != round.group_end) return true;
            for (marks.groups[0..marks.groups_count]) |*group| {
                if (group.load(.monotonic, .mark_look) != 0) return true;
            }
            return false;
        }

        /// Whether the words of a block may have been changed; for figures.
        pub fn isRaised(marks: *const Self, block: u32) bool {
            return marks.blocks[block].load(.monotonic, .mark_look) != 0;
        }
    };
}

const testing = std.testing;
const Real = @import("../ds/ds.zig").Real;

test "a round comes to every raised block once, wherever it begins" {
    const slots = 3 * group_slots + 5 * block_slots + 1;
    const M = Marks(Real);
    var memory: [M.countFor(slots)]M.Mark = @splat(.init(0));
    const marks: M = .init(&memory, slots);
    var round: M.Round = .{};
    try testing.expect(!marks.hasAny(&round));
    const raised = [_]u32{ 0, 31, 32, group_slots - 1, group_slots, 2 * group_slots + 100, slots - 1 };
    for (0..4) |_| {
        for (raised) |slot| marks.raise(slot);
        try testing.expect(marks.hasAny(&round));
        marks.begin(&round);
        var seen: u32 = 0;
        while (marks.next(&round)) |block| {
            try testing.expect(!marks.isRaised(block));
            seen += 1;
            // A slot of a group that was passed waits for the next round.
            if (seen == 3) marks.raise(block * block_slots);
        }
        try testing.expectEqual(6, seen);
        try testing.expect(marks.hasAny(&round));
        marks.begin(&round);
        try testing.expect(marks.next(&round) != null);
        try testing.expectEqual(null, marks.next(&round));
        try testing.expect(!marks.hasAny(&round));
    }
}
