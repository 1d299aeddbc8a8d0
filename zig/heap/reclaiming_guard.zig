//! Waiting until everyone who might still look at something has left: how the reclaiming allocator
//! takes memory away from under threads that never take a lock.
//!
//! Whoever reads shared structures is inside a section. A thread with an index announces its section
//! by an ordinary store to its own seat; a caller without one counts itself as a guest. The remover
//! first makes something unreachable and then settles: it forces a barrier onto every thread
//! (membarrier) and waits for each seat that is taken and for the guests that were there. Either a
//! section that goes on was seen and awaited, or it began behind the barrier and cannot reach what
//! was made unreachable before. In the same way a remover gets what a thread owns: it says so at the
//! seat, and settles; until it hands back, the thread does without.
//!
//! Invariant: after `settle` no section is left that began before it, and all that was written inside
//! those sections is visible.
//!
//! Cost: a section two stores and a load in a line of one's own; a guest's two locked additions. Settling takes a
//! membarrier (1 to 10 µs) and the rest of the longest section: some tens of nanoseconds, unless its
//! thread is descheduled, for which the remover sleeps. Sections hold no lock and call nobody.
//!
//! Threads: a seat belongs to one thread at a time; guests: any; settle: one remover at a time, outside
//! of every section. When not: to keep others out; that is OwnerLock.

const std = @import("std");

/// `rest(looks)` passes the time between two looks; guests are spread over `shards_count` lines.
pub fn Guard(comptime Sync: type, comptime rest: fn (u32) void, comptime shards_count: usize) type {
    return struct {
        guests: [shards_count]Shard = @splat(.{}),
        /// Which of its two counts a new guest uses.
        phase: Sync.Atomic(u32) = .init(0),

        const Self = @This();

        /// Operations whose order is stronger than monotonic, for the scheduler's mutation proof.
        pub const ordered_sites = [_]@TypeOf(.site){ .seat_mine, .seat_leave, .seat_back, .seat_look, .guest_leave, .guest_look };

        const Shard = extern struct { inside: [2]Sync.Atomic(u32) align(64) = @splat(.init(0)) };

        /// A thread's place: who is inside, and whether what the thread owns is in other hands.
        pub const Seat = struct {
            taken: Sync.Atomic(u32) = .init(0),
            thief: Sync.Atomic(u32) = .init(0),

            /// Begins a section. False: a remover has, or is about to have, what the thread owns; the
            /// thread may look at shared things, but not use its own. Either way `leave` ends it.
            /// `fence` is `lightFence`, or `warmFence` of who knows that removers have a process-wide barrier.
            pub inline fn enter(seat: *Seat, comptime fence: anytype) bool {
                seat.taken.store(1, .monotonic, .seat_enter);
                // Keeps the store before what is read inside; pairs with heavyFence in settle.
                fence();
                // Acquire: pairs with the release in `handBack`.
                return seat.thief.load(.acquire, .seat_mine) == 0;
            }

            pub inline fn leave(seat: *Seat) void {
                // Release: pairs with the acquiring look in settle, which would otherwise hand on
                // memory to which this section still wrote.
                seat.taken.store(0, .release, .seat_leave);
            }

            /// Asks for what the thread owns; one has it after the next `settle`. One remover at a time.
            pub fn steal(seat: *Seat) void {
                seat.thief.store(1, .monotonic, .seat_steal);
            }

            pub fn handBack(seat: *Seat) void {
                // Release: the thread must find its own as the remover has left it.
                seat.thief.store(0, .release, .seat_back);
            }
        };

        pub const Guest = struct { inside: *Sync.Atomic(u32) };

        /// `hint` spreads guests over lines.
        pub fn enter(guard: *Self, hint: usize) Guest {
            const phase = guard.phase.load(.monotonic, .guest_phase);
            const inside = &guard.guests[hint % shards_count].inside[phase & 1];
            _ = inside.fetchAdd(1, .monotonic, .guest_enter);
            // As in Seat.enter.
            Sync.lightFence();
            return .{ .inside = inside };
        }

        pub fn leave(_: *Self, guest: Guest) void {
            // Release: as in Seat.leave.
            _ = guest.inside.fetchSub(1, .release, .guest_leave);
        }

        /// Waits for all sections that have begun. `threads` has `count()`, read behind the barrier,
        /// and `seat(index)`.
        pub fn settle(guard: *Self, threads: anytype) void {
            Sync.heavyFence();
            for (0..threads.count()) |index| {
                const seat: *Seat = threads.seat(index);
                var looks: u32 = 0;
                // Acquire: pairs with the release in Seat.leave.
                while (seat.taken.load(.acquire, .seat_look) != 0) : (looks +|= 1) rest(looks);
            }
            // Both counts in turn: a guest may have read the phase long ago, and new guests use the
            // count that is not waited for, so that a stream of them cannot hold the remover.
            for (0..2) |_| guard.awaitGuests();
        }

        fn awaitGuests(guard: *Self) void {
            const phase = guard.phase.load(.monotonic, .guest_phase);
            guard.phase.store(phase +% 1, .monotonic, .guest_flip);
            for (&guard.guests) |*shard| {
                var looks: u32 = 0;
                // Acquire: pairs with the release in leave.
                while (shard.inside[phase & 1].load(.acquire, .guest_look) != 0) : (looks +|= 1) rest(looks);
            }
        }
    };
}

/// Pauses, and after a while sleeps: the holder may need this very processor.
pub fn Rest(comptime Os: type, comptime Sync: type) type {
    return struct {
        const pauses_max = 64;
        const sleep_ns = 50 * std.time.ns_per_us;
        var nothing: u32 = 0;

        pub noinline fn rest(looks: u32) void {
            if (looks < pauses_max) return Sync.pause();
            Os.wait(&nothing, 0, sleep_ns);
        }
    };
}

/// A lock for the bookkeeping of growth and reclaiming; never held across a call to a backend.
pub fn Latch(comptime Os: type, comptime Sync: type) type {
    return struct {
        word: Sync.Atomic(u32) = .init(0),

        const Self = @This();
        const rest = Rest(Os, Sync).rest;

        pub noinline fn acquire(latch: *Self) void {
            var looks: u32 = 0;
            // Acquire: pairs with the release below, so that the section before is seen whole.
            while (latch.word.swap(1, .acquire, .latch_acquire) != 0) : (looks +|= 1) rest(looks);
        }

        pub fn release(latch: *Self) void {
            // Release: pairs with the acquire above.
            latch.word.store(0, .release, .latch_release);
        }

        /// A hint, for tests.
        pub fn isHeld(latch: *const Self) bool {
            return latch.word.load(.monotonic, .latch_look) != 0;
        }
    };
}
