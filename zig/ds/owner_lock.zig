//! Mutual exclusion between one owner, who comes all the time, and thieves, who come rarely.
//!
//! The owner announces itself with an ordinary store and looks for a thief with an ordinary load:
//! no locked instruction. Between a store and a later load the processor may swap the two; the
//! thief pays for that by forcing a barrier onto every thread (membarrier) between its own store
//! and load. So of an owner and a thief who meet, at least one sees the other. The owner never
//! waits: meeting a thief it turns back and takes the caller's shared path. The thief waits for the
//! owner to leave, but only a bounded while, since an owner may be descheduled inside.
//!
//! Invariant: owner and thief are never inside together, and each sees all that the one before it
//! wrote.
//!
//! Cost: owner 2 stores and 1 load (about 1 ns); thief one compare-and-swap and one membarrier
//! (about 1 µs, more with many cores). Where the kernel has no membarrier, both sides use a full
//! fence. Eight bytes.
//!
//! Threads: tryEnter and leave: the owner only. trySteal and endSteal: any thread.
//!
//! Not a general lock: nobody can wait for it, and two owners would not see each other.

const std = @import("std");

/// Looks at a busy owner before a thief gives up. An owner's section is some tens of nanoseconds;
/// after this many pauses (about 10 µs) it has been descheduled, and waiting is a waste.
const looks_max = 256;

pub fn OwnerLock(comptime Sync: type) type {
    return struct {
        /// Owner is inside (or about to look).
        busy: Sync.Atomic(u32) = .init(0),
        /// A thief is inside (or about to look).
        thief: Sync.Atomic(u32) = .init(0),

        const Lock = @This();

        /// Operations whose order is stronger than monotonic, for the scheduler's mutation proof.
        pub const ordered_sites = [_]@TypeOf(.site){
            .owner_look, .owner_leave, .owner_retreat, .thief_claim, .thief_look, .thief_leave,
        };

        /// False: a thief is inside; use the shared path. Owner only.
        pub inline fn tryEnter(lock: *Lock) bool {
            return lock.enter(Sync.lightFence);
        }

        /// `tryEnter` for an owner who knows that thieves have a process-wide barrier.
        pub inline fn tryEnterWarm(lock: *Lock) bool {
            return lock.enter(Sync.warmFence);
        }

        inline fn enter(lock: *Lock, comptime fence: anytype) bool {
            lock.busy.store(1, .monotonic, .owner_busy);
            // Keeps the store before the load; pairs with heavyFence in trySteal.
            fence();
            // Acquire: pairs with the release in endSteal, to see what the last thief changed.
            if (lock.thief.load(.acquire, .owner_look) != 0) {
                @branchHint(.unlikely);
                // Release, though nothing was done inside this time: a thief that reads this zero
                // must still see what the owner wrote before its last leave.
                lock.busy.store(0, .release, .owner_retreat);
                return false;
            }
            return true;
        }

        /// Owner only, after a tryEnter that returned true.
        pub inline fn leave(lock: *Lock) void {
            // Release: pairs with the acquiring look in trySteal.
            lock.busy.store(0, .release, .owner_leave);
        }

        /// True: the caller is inside and the owner is kept out until endSteal. False: another
        /// thief is inside, or the owner did not leave in time.
        pub fn trySteal(lock: *Lock) bool {
            // Acquire: pairs with the release of the previous thief's endSteal.
            if (lock.thief.cmpxchg(0, 1, .acquire, .monotonic, .thief_claim) != null) return false;
            // After this either the owner sees thief == 1, or we see its busy == 1.
            Sync.heavyFence();
            for (0..looks_max) |_| {
                // Acquire: pairs with the releases in leave and tryEnter.
                if (lock.busy.load(.acquire, .thief_look) == 0) return true;
                Sync.pause();
            }
            lock.endSteal();
            return false;
        }

        /// After a trySteal that returned true.
        pub fn endSteal(lock: *Lock) void {
            // Release: pairs with the acquires of the owner's look and the next thief's claim.
            lock.thief.store(0, .release, .thief_leave);
        }
    };
}

const testing = std.testing;
const Real = @import("atomic.zig").Real;

test "owner and thief keep each other out" {
    var lock: OwnerLock(Real) = .{};
    try testing.expect(lock.tryEnter());
    try testing.expect(!lock.trySteal());
    lock.leave();
    try testing.expect(lock.trySteal());
    try testing.expect(!lock.trySteal());
    try testing.expect(!lock.tryEnter());
    lock.endSteal();
    try testing.expect(lock.tryEnter());
    lock.leave();
}
