//! A stack of indexes that any thread may push to and pop from (Treiber, with a tag against ABA).
//!
//! The head is one word, index:24 | tag:40. The links lie out of line, in memory of the caller that
//! stays mapped for as long as the stack lives: `links.next(index)` gives the atomic link of an
//! index. A popper may read the link of an index that another thread has already taken; what it
//! read is then thrown away, because every removal raises the tag and its compare-and-swap fails.
//!
//! Invariant: while the head holds (index, tag), the chain from index has not changed since that
//! tag was written, except by pushes, which change the head. So one compare-and-swap may take one
//! index, a whole batch, or everything.
//!
//! Cost: one compare-and-swap an operation without contention, eight bytes. Lock-free, not
//! wait-free. A popper would have to sleep through exactly 2^40 removals to be fooled.
//!
//! Threads: any, all operations. Every change of the head is a read-modify-write, hence one release
//! sequence: an acquiring load of the head sees the work of all who pushed what is still in it.
//!
//! Not for hand-over to one owner (remote_stack.zig needs no tag), and not where order matters.

const std = @import("std");

/// The index that ends every chain. Indexes are below it.
pub const none: u32 = 0xFF_FFFF;

/// Bits of the tag in shipped code: what is left of a word beside the index.
pub const tag_bits_full = 40;

/// A run of indexes linked through `links`, ended by `none`; owned by whoever holds it.
pub const Chain = struct {
    first: u32 = none,
    last: u32 = none,
    count: u32 = 0,
};

pub fn TaggedStack(comptime Sync: type) type {
    return TaggedStackWidth(Sync, tag_bits_full);
}

/// The stack with a tag of `tag_bits`; anything but `tag_bits_full` is for the test that shows what
/// the tag is for.
pub fn TaggedStackWidth(comptime Sync: type, comptime tag_bits: u6) type {
    std.debug.assert(tag_bits <= tag_bits_full);
    return struct {
        head: Sync.Atomic(u64) = .init(none),

        const Stack = @This();

        /// Operations whose order is stronger than monotonic, for the scheduler's mutation proof.
        pub const ordered_sites = [_]@TypeOf(.site){
            .stack_push, .stack_pop_load, .stack_pop, .stack_pop_many_load, .stack_pop_many,
            .stack_take,
        };

        pub fn push(stack: *Stack, links: anytype, index: u32) void {
            stack.pushChain(links, index, index);
        }

        /// Pushes the chain first..last, which the caller has linked; the link of `last` is set
        /// here.
        pub noinline fn pushChain(stack: *Stack, links: anytype, first: u32, last: u32) void {
            std.debug.assert(first < none and last < none);
            var head = stack.head.load(.monotonic, .stack_push_load);
            while (true) {
                links.next(last).store(indexOf(head), .monotonic, .stack_push_link);
                // Release: pairs with the acquiring head loads of pop, popMany and takeAll. Without
                // it they would see the index but neither its link nor what the index stands for.
                // The tag stays: only removals can make a popper's link stale.
                head = stack.head.cmpxchg(
                    head,
                    withIndex(head, first),
                    .release,
                    .monotonic,
                    .stack_push,
                ) orelse return;
            }
        }

        pub fn pop(stack: *Stack, links: anytype) ?u32 {
            // Acquire here and on failure below: pairs with the release in pushChain. (On success
            // the swap read the same value again and needs no order; success may not be the
            // weaker.)
            var head = stack.head.load(.acquire, .stack_pop_load);
            while (indexOf(head) != none) {
                const index = indexOf(head);
                const next = links.next(index).load(.monotonic, .stack_pop_link);
                head = stack.head.cmpxchg(
                    head,
                    removed(head, next),
                    .acquire,
                    .acquire,
                    .stack_pop,
                ) orelse return index;
            }
            return null;
        }

        /// Takes up to `max` indexes with one compare-and-swap; returns their count and fills
        /// `chain`.
        pub noinline fn popMany(stack: *Stack, links: anytype, max: u32, chain: *Chain) u32 {
            chain.* = .{};
            if (max == 0) return 0;
            // Acquire: as in pop.
            var head = stack.head.load(.acquire, .stack_pop_many_load);
            while (indexOf(head) != none) {
                const first = indexOf(head);
                var last = first;
                var count: u32 = 1;
                // The walk may stray into indexes taken meanwhile; `max` bounds it and the swap
                // below rejects it.
                var next = links.next(last).load(.monotonic, .stack_pop_many_link);
                while (count < max and next != none) : (count += 1) {
                    last = next;
                    next = links.next(last).load(.monotonic, .stack_pop_many_link);
                }
                head = stack.head.cmpxchg(
                    head,
                    removed(head, next),
                    .acquire,
                    .acquire,
                    .stack_pop_many,
                ) orelse {
                    links.next(last).store(none, .monotonic, .stack_pop_many_end);
                    chain.* = .{ .first = first, .last = last, .count = count };
                    return count;
                };
            }
            return 0;
        }

        /// Takes everything: the first index of a chain ended by `none`.
        pub fn takeAll(stack: *Stack, links: anytype) ?u32 {
            _ = links;
            // No link is read, so only the swap that succeeds needs the acquire.
            var head = stack.head.load(.monotonic, .stack_take_load);
            while (indexOf(head) != none) {
                // Acquire: pairs with the release in pushChain.
                head = stack.head.cmpxchg(
                    head,
                    removed(head, none),
                    .acquire,
                    .monotonic,
                    .stack_take,
                ) orelse return indexOf(head);
            }
            return null;
        }

        /// A hint: another thread may change it at once.
        pub fn isEmpty(stack: *const Stack) bool {
            return indexOf(stack.head.load(.monotonic, .stack_is_empty)) == none;
        }

        fn indexOf(head: u64) u32 {
            return @intCast(head & none);
        }

        fn withIndex(head: u64, index: u32) u64 {
            return head & ~@as(u64, none) | index;
        }

        fn removed(head: u64, next: u32) u64 {
            const mask = (@as(u64, 1) << tag_bits) - 1;
            const tag = ((head >> 24) + 1) & mask;
            return tag << 24 | next;
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
};

test "a stack gives back in the reverse order, one by one, in batches, or all at once" {
    var cells: [8]Real.Atomic(u32) = @splat(.init(0));
    const links: Links = .{ .cells = &cells };
    var stack: TaggedStack(Real) = .{};
    try testing.expect(stack.isEmpty());
    try testing.expectEqual(null, stack.pop(links));
    for (0..6) |index| stack.push(links, @intCast(index));
    try testing.expectEqual(5, stack.pop(links).?);

    var chain: Chain = undefined;
    try testing.expectEqual(0, stack.popMany(links, 0, &chain));
    try testing.expectEqual(3, stack.popMany(links, 3, &chain));
    try testing.expectEqual(Chain{ .first = 4, .last = 2, .count = 3 }, chain);
    try testing.expectEqual(none, links.next(2).load(.monotonic, .t));

    stack.pushChain(links, chain.first, chain.last);
    try testing.expectEqual(4, stack.takeAll(links).?);
    var seen: u32 = 0;
    var index: u32 = 4;
    while (index != none) : (index = links.next(index).load(.monotonic, .t)) seen += 1;
    try testing.expectEqual(5, seen);
    try testing.expect(stack.isEmpty());
    try testing.expectEqual(0, stack.popMany(links, 9, &chain));
    try testing.expectEqual(null, stack.takeAll(links));
}

test "each removal changes the head word, also when the same index is on top again" {
    var cells: [1]Real.Atomic(u32) = @splat(.init(0));
    const links: Links = .{ .cells = &cells };
    var stack: TaggedStack(Real) = .{};
    stack.push(links, 0);
    const before = stack.head.load(.monotonic, .t);
    _ = stack.pop(links);
    stack.push(links, 0);
    try testing.expect(stack.head.load(.monotonic, .t) != before);
}
