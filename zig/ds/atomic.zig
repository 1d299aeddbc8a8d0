//! The one shim through which every lock-free structure of holdfast reaches memory.
//!
//! A structure is written as `fn Structure(comptime Sync: type) type` and names each of its atomic
//! operations with a `site`, an enum literal. `Real` below turns an operation into the machine
//! instruction and forgets the site; the seeded scheduler in testing/scheduler.zig turns the same
//! operation into a scheduling point of a weak memory model, and can weaken a chosen site to
//! `.monotonic` to prove that a test would notice.
//!
//! Invariant: `Real.Atomic(T)` and `Real.Plain(T)` have the size, alignment and bit pattern of `T`,
//! so that structures may lie in reserved zero pages without being initialised.
//!
//! Cost: none; every function is inline. `lightFence` is a compiler barrier when the process has a
//! heavy barrier (see `setHeavyFence`), otherwise one locked instruction.
//!
//! Threads: `setHeavyFence` may be called while others are inside structures: thieves begin to use the
//! barrier, then every thread passes it once, and only then do owners take the cheap side. Whoever is on
//! the cheap side has therefore passed the barrier since the last thief who did without: it sees what
//! that thief wrote before its fence. `null` takes everything back, with no other thread inside. Floor 0
//! may not know the system, hence the injected function.
//!
//! Not for statistics that nobody synchronises with: those too take `.monotonic` here, but a plain
//! field owned by one thread is better where it can be had.

const std = @import("std");
const builtin = @import("builtin");

/// Order of one atomic operation; the subset of `std.builtin.AtomicOrder` that the structures use.
pub const Order = std.builtin.AtomicOrder;

/// Makes every other running thread of the process pass a full memory barrier before it returns.
pub const HeavyFence = *const fn () void;

var heavy_fence: ?HeavyFence = null;

/// Gives `Real` a process-wide barrier (membarrier on Linux) and so switches owners to the cheap
/// side; `null` goes back to a full fence on both sides.
pub fn setHeavyFence(fence: ?HeavyFence) void {
    const new = fence orelse {
        @atomicStore(bool, &asymmetric, false, .monotonic);
        @atomicStore(?HeavyFence, &heavy_fence, null, .monotonic);
        return;
    };
    // Release, both: pair with the loads in `heavyFence` and `isAsymmetric`, for the C++ model's sake.
    // What orders them is the barrier in between.
    @atomicStore(?HeavyFence, &heavy_fence, new, .release);
    new();
    @atomicStore(bool, &asymmetric, true, .release);
}

/// True once `setHeavyFence` has supplied a process-wide barrier.
var asymmetric: bool = false;

/// The synchronisation that ships: plain machine atomics, zero cost.
pub const Real = struct {
    /// Whether owners may take the cheap side; once true, it stays.
    pub inline fn isAsymmetric() bool {
        return @atomicLoad(bool, &asymmetric, .monotonic);
    }

    pub fn Atomic(comptime T: type) type {
        return extern struct {
            raw: T,

            const Cell = @This();

            comptime {
                std.debug.assert(@sizeOf(Cell) == @sizeOf(T));
            }

            pub inline fn init(value: T) Cell {
                return .{ .raw = value };
            }

            pub inline fn load(
                cell: *const Cell,
                comptime order: Order,
                comptime site: @TypeOf(.site),
            ) T {
                _ = site;
                return @atomicLoad(T, &cell.raw, order);
            }

            pub inline fn store(
                cell: *Cell,
                value: T,
                comptime order: Order,
                comptime site: @TypeOf(.site),
            ) void {
                _ = site;
                @atomicStore(T, &cell.raw, value, order);
            }

            pub inline fn swap(
                cell: *Cell,
                value: T,
                comptime order: Order,
                comptime site: @TypeOf(.site),
            ) T {
                _ = site;
                return @atomicRmw(T, &cell.raw, .Xchg, value, order);
            }

            /// Strong compare-and-swap: null when `new` was stored, else the value found.
            pub inline fn cmpxchg(
                cell: *Cell,
                expected: T,
                new: T,
                comptime success: Order,
                comptime failure: Order,
                comptime site: @TypeOf(.site),
            ) ?T {
                _ = site;
                return @cmpxchgStrong(T, &cell.raw, expected, new, success, failure);
            }

            pub inline fn fetchAdd(
                cell: *Cell,
                value: T,
                comptime order: Order,
                comptime site: @TypeOf(.site),
            ) T {
                _ = site;
                return @atomicRmw(T, &cell.raw, .Add, value, order);
            }

            pub inline fn fetchSub(
                cell: *Cell,
                value: T,
                comptime order: Order,
                comptime site: @TypeOf(.site),
            ) T {
                _ = site;
                return @atomicRmw(T, &cell.raw, .Sub, value, order);
            }

            pub inline fn fetchOr(
                cell: *Cell,
                value: T,
                comptime order: Order,
                comptime site: @TypeOf(.site),
            ) T {
                _ = site;
                return @atomicRmw(T, &cell.raw, .Or, value, order);
            }

            pub inline fn fetchAnd(
                cell: *Cell,
                value: T,
                comptime order: Order,
                comptime site: @TypeOf(.site),
            ) T {
                _ = site;
                return @atomicRmw(T, &cell.raw, .And, value, order);
            }
        };
    }

    /// A cell that is handed from thread to thread but never touched by two at once.
    pub fn Plain(comptime T: type) type {
        return struct {
            raw: T,

            const Cell = @This();

            pub inline fn init(value: T) Cell {
                return .{ .raw = value };
            }

            pub inline fn get(cell: *const Cell) T {
                return cell.raw;
            }

            pub inline fn set(cell: *Cell, value: T) void {
                cell.raw = value;
            }
        };
    }

    /// The owner's half of an asymmetric pair: between its store and its load. With a heavy barrier
    /// on the other side the compiler alone must be held back.
    pub inline fn lightFence() void {
        if (isAsymmetric()) {
            @branchHint(.likely);
            asm volatile ("" ::: .{ .memory = true });
        } else fullFence();
    }

    /// `lightFence` for callers who run only while `isAsymmetric` holds, and need not ask.
    pub inline fn warmFence() void {
        asm volatile ("" ::: .{ .memory = true });
    }

    /// The rare half of an asymmetric pair.
    pub fn heavyFence() void {
        fullFence();
        // After the fence: who finds none has its stores out before owners can take the cheap side.
        if (@atomicLoad(?HeavyFence, &heavy_fence, .acquire)) |fence| {
            fence();
            fullFence();
        }
    }

    /// A full fence right after a read-modify-write of the same thread, which on x86 is one already.
    pub inline fn fenceAfterChange() void {
        if (builtin.cpu.arch == .x86_64) asm volatile ("" ::: .{ .memory = true }) else fullFence();
    }

    /// Spin hint.
    pub inline fn pause() void {
        std.atomic.spinLoopHint();
    }
};

var fence_word: u32 = 0;

/// A sequentially consistent fence; Zig 0.16 has no builtin for it.
inline fn fullFence() void {
    switch (builtin.cpu.arch) {
        // A locked no-op on the stack: a full barrier, and cheaper than mfence on every x86 known.
        .x86_64 => asm volatile ("lock orq $0, (%%rsp)" ::: .{ .memory = true }),
        .aarch64 => asm volatile ("dmb ish" ::: .{ .memory = true }),
        else => if (builtin.single_threaded) {
            asm volatile ("" ::: .{ .memory = true });
        } else {
            _ = @atomicRmw(u32, &fence_word, .Or, 0, .seq_cst);
        },
    }
}

const testing = std.testing;

test "an atomic cell is its value and nothing more" {
    const Word = Real.Atomic(u64);
    try testing.expectEqual(@sizeOf(u64), @sizeOf(Word));
    try testing.expectEqual(@sizeOf(u32), @sizeOf(Real.Atomic(u32)));
    var word = Word.init(5);
    try testing.expectEqual(5, word.fetchAdd(3, .monotonic, .add));
    try testing.expectEqual(8, word.fetchSub(2, .monotonic, .sub));
    try testing.expectEqual(6, word.fetchOr(1, .monotonic, .set));
    try testing.expectEqual(7, word.fetchAnd(3, .monotonic, .clear));
    try testing.expectEqual(3, word.cmpxchg(9, 1, .acq_rel, .monotonic, .miss));
    try testing.expectEqual(null, word.cmpxchg(3, 1, .acq_rel, .monotonic, .hit));
    try testing.expectEqual(1, word.swap(2, .acq_rel, .swap));
    word.store(4, .release, .store);
    try testing.expectEqual(4, word.load(.acquire, .load));
}

test "the heavy fence calls the injected barrier and switches the owner to the cheap side" {
    const Counter = struct {
        var calls: u32 = 0;
        fn fence() void {
            calls += 1;
        }
    };
    defer setHeavyFence(null);
    setHeavyFence(null);
    try testing.expect(!Real.isAsymmetric());
    Real.lightFence();
    Real.heavyFence();
    try testing.expectEqual(0, Counter.calls);
    setHeavyFence(Counter.fence);
    try testing.expect(Real.isAsymmetric());
    // Before owners take the cheap side, everyone passes the barrier once.
    try testing.expectEqual(1, Counter.calls);
    Real.lightFence();
    try testing.expectEqual(1, Counter.calls);
    Real.heavyFence();
    try testing.expectEqual(2, Counter.calls);
}
