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
//! Whoever has a reason to send the owner to its slow path bars it: `tryEnterWarm` then fails until the
//! owner is admitted again. That costs the owner nothing, since the gate is the word that thieves mark.
//!
//! Cost: owner 2 stores and 1 load (about 1 ns); thief one compare-and-swap and one membarrier
//! (about 1 µs, more with many cores). Where the kernel has no membarrier, both sides use a full
//! fence. Eight bytes;
//! zeros are a lock whose owner is barred.
//!
//! Threads: tryEnter, tryEnterWarm, admit and leave: the owner only. The rest: any thread.
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
        /// Whether warm owners are admitted, and whether a thief is inside (or about to look).
        gate: Sync.Atomic(u32) = .init(admitted),

        const Lock = @This();
        const admitted: u32 = 1;
        const thief: u32 = 2;

        /// Operations whose order is stronger than monotonic, for the scheduler's mutation proof.
        pub const ordered_sites = [_]@TypeOf(.site){
            .owner_look, .owner_leave, .owner_retreat, .thief_claim, .thief_look, .thief_leave,
        };

        /// False: a thief is inside; use the shared path. Owner only.
        pub inline fn tryEnter(lock: *Lock) bool {
            return lock.enter(.any);
        }

        /// `tryEnter` for an owner who knows that thieves have a process-wide barrier. Not admitted to
        /// one who is barred, nor where the lock is all zeros.
        pub inline fn tryEnterWarm(lock: *Lock) bool {
            return lock.enter(.warm);
        }

        inline fn enter(lock: *Lock, comptime way: enum { any, warm }) bool {
            lock.busy.store(1, .monotonic, .owner_busy);
            // Keeps the store before the load; pairs with heavyFence in trySteal.
            if (way == .warm) Sync.warmFence() else Sync.lightFence();
            // Acquire: pairs with the release in endSteal, to see what the last thief changed.
            const seen = lock.gate.load(.acquire, .owner_look);
            if (if (way == .warm) seen != admitted else seen & thief != 0) {
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
        pub noinline fn trySteal(lock: *Lock) bool {
            // Acquire: pairs with the release of the previous thief's endSteal.
            const seen = lock.gate.load(.monotonic, .thief_see) & ~thief;
            if (lock.gate.cmpxchg(seen, seen | thief, .acquire, .monotonic, .thief_claim) != null) return false;
            // After this either the owner sees the mark, or we see its busy == 1.
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
            _ = lock.gate.fetchAnd(~thief, .release, .thief_leave);
        }

        /// From now on warm owners are turned away, but for one who has just looked. Any thread.
        pub fn bar(lock: *Lock) void {
            _ = lock.gate.fetchAnd(~admitted, .monotonic, .gate);
        }

        /// The end of `bar`. Owner only, who sees to it that there is no reason left.
        pub fn admit(lock: *Lock) void {
            _ = lock.gate.fetchOr(admitted, .monotonic, .gate);
        }

        /// Whether warm owners are admitted. A hint.
        pub inline fn admits(lock: *const Lock) bool {
            return lock.gate.load(.monotonic, .gate) & admitted != 0;
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

test "a barred owner is turned away on its warm way alone, thieves or not" {
    var lock: OwnerLock(Real) = .{};
    lock.bar();
    try testing.expect(!lock.tryEnterWarm());
    try testing.expect(lock.tryEnter());
    lock.leave();
    try testing.expect(lock.trySteal());
    try testing.expect(!lock.trySteal());
    lock.endSteal();
    try testing.expect(!lock.tryEnterWarm() and !lock.admits());
    lock.admit();
    try testing.expect(lock.trySteal());
    lock.bar();
    lock.admit();
    try testing.expect(!lock.tryEnterWarm());
    lock.endSteal();
    try testing.expect(lock.tryEnterWarm());
    lock.leave();
}
