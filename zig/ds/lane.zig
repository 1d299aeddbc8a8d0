//! A ring of indexes from one sender to whoever comes to collect: what a mailbox is for many senders.
//!
//! The sender writes a slot and says so with an ordinary store, no locked instruction; sixteen slots
//! lie in a cache line, so that a line crosses between processors once for sixteen indexes. Those who
//! collect take turns by a flag that nobody waits for.
//!
//! Invariant: an index whose `send` returned true comes out of `collect` exactly once, in order.
//!
//! Cost: send two loads and two stores; collect one compare-and-swap for as many as fit the caller's
//! buffer, one load when empty. Four bytes a slot and three cache lines.
//!
//! Threads: hasRoom and send: the sender alone. The rest: any. A second collector finds nothing while
//! the first is inside.
//!
//! Not for many senders (remote_stack.zig), and not where an index must not wait: whoever expects it
//! has to know which lane to look into.

const std = @import("std");

pub fn Lane(comptime Sync: type, comptime slots_max: u32) type {
    std.debug.assert(std.math.isPowerOfTwo(slots_max));
    return struct {
        /// Indexes sent so far; written by the sender.
        sent: Sync.Atomic(u32) align(64) = .init(0),
        /// How many were taken when the sender last looked.
        known: u32 = 0,
        slots: [slots_max]Sync.Plain(u32) align(64) = @splat(.init(0)),
        /// Indexes taken so far; written by who holds `collecting`.
        taken: Sync.Atomic(u32) align(64) = .init(0),
        collecting: Sync.Atomic(u32) = .init(0),

        const Self = @This();
        /// Slots in a cache line.
        const line_slots = 64 / 4;

        /// Operations whose order is stronger than monotonic, for the scheduler's mutation proof.
        pub const ordered_sites = [_]@TypeOf(.site){
            .lane_send, .lane_look, .lane_taken, .lane_room, .lane_claim, .lane_done,
        };

        /// True: the next `send` will not be refused.
        pub inline fn hasRoom(lane: *Self) bool {
            const sent = lane.sent.load(.monotonic, .lane_sent);
            if (sent -% lane.known < slots_max) return true;
            // Acquire: pairs with the release in `collect`: the slots have been read before they are
            // written again.
            lane.known = lane.taken.load(.acquire, .lane_room);
            return sent -% lane.known < slots_max;
        }

        /// False: the lane is full and the caller still owns `index`.
        pub inline fn send(lane: *Self, index: u32) bool {
            if (!lane.hasRoom()) return false;
            lane.sendOne(index);
            return true;
        }

        /// `send` after `hasRoom` said yes.
        pub inline fn sendOne(lane: *Self, index: u32) void {
            const sent = lane.sent.load(.monotonic, .lane_sent);
            lane.slots[sent % slots_max].set(index);
            // The next line is the collector's until it is asked for, and a locked instruction of the
            // sender's would wait for it.
            @prefetch(&lane.slots[(sent +% line_slots) % slots_max], .{ .rw = .write });
            // Release: pairs with the acquire in `collect`, which would otherwise read an old slot, or
            // miss what was written to the memory that the index stands for.
            lane.sent.store(sent +% 1, .release, .lane_send);
        }

        /// Takes the oldest indexes, as many as fit; returns their count.
        pub noinline fn collect(lane: *Self, out: []u32) u32 {
            const expected = lane.taken.load(.monotonic, .lane_is_empty);
            // The lines are the sender's: all are on their way before the first is needed.
            inline for (0..(slots_max + line_slots - 1) / line_slots) |line|
                @prefetch(&lane.slots[(expected +% line * line_slots) % slots_max], .{});
            if (lane.isEmpty()) return 0;
            // Acquire: pairs with the release of the collector before, to see how far it came.
            if (lane.collecting.cmpxchg(0, 1, .acquire, .monotonic, .lane_claim) != null) return 0;
            const taken = lane.taken.load(.monotonic, .lane_taken_look);
            // Acquire: pairs with the release in `send`.
            const ready = lane.sent.load(.acquire, .lane_look) -% taken;
            const count: u32 = @intCast(@min(ready, out.len));
            for (out[0..count], 0..) |*index, i| index.* = lane.slots[(taken +% @as(u32, @intCast(i))) % slots_max].get();
            // Release: pairs with the acquire in `hasRoom`.
            lane.taken.store(taken +% count, .release, .lane_taken);
            // Release: pairs with the acquire of the next collector.
            lane.collecting.store(0, .release, .lane_done);
            return count;
        }

        /// A hint. The sender alone can rely on it, and only when it is true.
        pub inline fn isEmpty(lane: *const Self) bool {
            return lane.sent.load(.monotonic, .lane_is_empty) == lane.taken.load(.monotonic, .lane_is_empty);
        }
    };
}

const testing = std.testing;
const Real = @import("atomic.zig").Real;

test "what was sent comes out once and in order, and a full lane refuses" {
    var lane: Lane(Real, 4) = .{};
    var out: [3]u32 = undefined;
    try testing.expectEqual(0, lane.collect(&out));
    for (0..3) |round| {
        for (0..4) |i| try testing.expect(lane.send(@intCast(10 * round + i)));
        try testing.expect(!lane.hasRoom());
        try testing.expect(!lane.send(99));
        try testing.expectEqual(3, lane.collect(&out));
        try testing.expectEqual([3]u32{ @intCast(10 * round), @intCast(10 * round + 1), @intCast(10 * round + 2) }, out);
        try testing.expect(!lane.isEmpty());
        try testing.expectEqual(1, lane.collect(&out));
        try testing.expectEqual(10 * round + 3, out[0]);
        try testing.expect(lane.isEmpty());
    }
}
