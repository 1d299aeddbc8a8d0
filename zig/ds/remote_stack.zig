//! A mailbox of indexes: any thread pushes, and who takes, the owner as a rule, takes everything at once.
//!
//! The links lie out of line in memory of the caller, as in tagged_stack.zig. Because nothing is
//! ever popped singly there is no ABA and the head needs no tag. The stack can be closed, after
//! which a push is refused and the pusher must find another home for its index: so an owner that
//! ends gets every index exactly once, by its last `takeAll` or by `close`.
//!
//! Invariant: an index whose push returned true is in exactly one chain returned by `takeAll` or
//! `close`; one whose push returned false is in none.
//!
//! Cost: push is one compare-and-swap, takeAll one load when empty and one compare-and-swap otherwise;
//! retried only against others who push or take at that moment. Four bytes.
//!
//! Threads: push, takeAll and isEmpty: any, without thread-local state, also from a deallocator. close and
//! open: the owner.
//!
//! Not for sharing work among takers: that is TaggedStack.

const std = @import("std");
const none = @import("tagged_stack.zig").none;

/// The head of a closed stack; the largest index a stack can hold is below it.
const closed: u32 = none - 1;

pub fn RemoteStack(comptime Sync: type) type {
    return struct {
        head: Sync.Atomic(u32) = .init(none),

        const Stack = @This();

        /// Operations whose order is stronger than monotonic, for the scheduler's mutation proof.
        pub const ordered_sites = [_]@TypeOf(.site){ .remote_push, .remote_take, .remote_close };

        /// A stack that refuses until it is opened.
        pub const initially_closed: Stack = .{ .head = .init(closed) };

        /// False: the stack is closed and the caller still owns `index`.
        pub fn push(stack: *Stack, links: anytype, index: u32) bool {
            std.debug.assert(index < closed);
            var head = stack.head.load(.monotonic, .remote_push_load);
            while (head != closed) {
                links.next(index).store(head, .monotonic, .remote_push_link);
                // Release: pairs with the acquire in takeAll and close, which would otherwise read
                // an old link and lose the rest of the chain, or miss what was written to the slot.
                head = stack.head.cmpxchg(
                    head,
                    index,
                    .release,
                    .monotonic,
                    .remote_push,
                ) orelse return true;
            }
            return false;
        }

        /// The first index of everything pushed so far, as a chain ended by `none`; null when empty
        /// or closed. Any thread: of several each chain goes to one, and what is closed stays so.
        pub fn takeAll(stack: *Stack) ?u32 {
            var seen = stack.head.load(.monotonic, .remote_take_load);
            while (seen != none and seen != closed) {
                // Acquire: pairs with the release of every push in the chain; they are one release
                // sequence, since nobody stores to a stack that is not empty without reading.
                seen = stack.head.cmpxchg(seen, none, .acquire, .monotonic, .remote_take) orelse return seen;
            }
            return null;
        }

        /// Refuses from now on; returns what was still inside. Owner only. Closing twice is
        /// harmless.
        pub fn close(stack: *Stack) ?u32 {
            // Acquire: as in takeAll.
            const first = stack.head.swap(closed, .acquire, .remote_close);
            return if (first == none or first == closed) null else first;
        }

        /// Accepts again after `close`. Owner only.
        pub fn open(stack: *Stack) void {
            std.debug.assert(stack.isClosed());
            stack.head.store(none, .monotonic, .remote_open);
        }

        /// A hint. A closed stack is empty.
        pub fn isEmpty(stack: *const Stack) bool {
            const head = stack.head.load(.monotonic, .remote_is_empty);
            return head == none or head == closed;
        }

        pub fn isClosed(stack: *const Stack) bool {
            return stack.head.load(.monotonic, .remote_is_closed) == closed;
        }
    };
}

const testing = std.testing;
const Real = @import("atomic.zig").Real;

const Links = struct {
    cells: []Real.Atomic(u32),
    pub fn next(links: Links, index: u32) *Real.Atomic(u32) {
        return &links.cells[index];
    }
    fn count(links: Links, first: ?u32) u32 {
        var total: u32 = 0;
        var index = first orelse return 0;
        while (index != none) : (index = links.next(index).load(.monotonic, .t)) total += 1;
        return total;
    }
};

test "what was pushed comes out once, and a closed stack refuses" {
    var cells: [8]Real.Atomic(u32) = @splat(.init(0));
    const links: Links = .{ .cells = &cells };
    var stack: RemoteStack(Real) = .{};
    try testing.expectEqual(null, stack.takeAll());
    for (0..3) |index| try testing.expect(stack.push(links, @intCast(index)));
    try testing.expectEqual(3, links.count(stack.takeAll()));
    try testing.expect(stack.isEmpty());
    for (3..5) |index| try testing.expect(stack.push(links, @intCast(index)));
    try testing.expectEqual(2, links.count(stack.close()));
    try testing.expect(!stack.push(links, 6));
    try testing.expectEqual(null, stack.takeAll());
    try testing.expect(stack.isClosed());
    try testing.expectEqual(null, stack.close());
    stack.open();
    try testing.expect(stack.push(links, 6));
    try testing.expectEqual(6, stack.takeAll().?);
}

test "a stack may begin closed" {
    var cells: [1]Real.Atomic(u32) = @splat(.init(0));
    const links: Links = .{ .cells = &cells };
    var stack = RemoteStack(Real).initially_closed;
    try testing.expect(!stack.push(links, 0));
    stack.open();
    try testing.expect(stack.push(links, 0));
}
