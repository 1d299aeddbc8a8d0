//! Index of floor 0: structures over the caller's memory. No system, no allocation, no globals but
//! the one injected barrier of atomic.zig. Other folders import only this file.
//!
//! Lock-free structures take their atomics as a parameter, `ds.Real` in everything that ships and
//! the simulated one of testing/scheduler.zig in tests.
//!
//! | which | when |
//! | --- | --- |
//! | TaggedStack | many threads push and pop indexes |
//! | RemoteStack | many threads push, one owner takes all |
//! | Lane | one thread sends, another collects many at once |
//! | OwnerLock | one owner all the time, thieves rarely |
//! | HandleTable | numbers that name leases and are never accepted twice |
//! | BitSet | runs of pages in a region |

const atomic = @import("atomic.zig");
const tagged_stack = @import("tagged_stack.zig");

pub const Real = atomic.Real;
pub const Lone = @import("lone.zig").Lone;
pub const Order = atomic.Order;
pub const HeavyFence = atomic.HeavyFence;
pub const setHeavyFence = atomic.setHeavyFence;

pub const none = tagged_stack.none;
pub const Chain = tagged_stack.Chain;
pub const TaggedStack = tagged_stack.TaggedStack;
pub const RemoteStack = @import("remote_stack.zig").RemoteStack;
pub const Lane = @import("lane.zig").Lane;
pub const OwnerLock = @import("owner_lock.zig").OwnerLock;

const handle_table = @import("handle_table.zig");
pub const HandleTable = handle_table.HandleTable;
pub const WrongHandle = handle_table.WrongHandle;

pub const BitSet = @import("bit_set.zig").BitSet;
pub const BitSet512 = @import("bit_set.zig").BitSet512;
pub const size_class = @import("size_class.zig");
pub const memory = @import("memory.zig");

/// `n`, without the compiler knowing: it repeats the body of a short loop with a known end as often as
/// it runs. For loops off every hot path, since the library has little room.
pub inline fn rolled(n: usize) usize {
    if (@inComptime()) return n;
    return asm (""
        : [same] "=r" (-> usize),
        : [n] "0" (n),
    );
}

/// Switches that bring back designed-out faults, in test builds only.
pub const fault = @import("fault.zig").fault;
