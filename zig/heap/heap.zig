//! Index of the allocators. Other floors import only this file.
//!
//! | which | when |
//! | --- | --- |
//! | LargePool | regions of 2 MiB to 64 GiB, recycled |
//! | page runs of a LargePool | exact pages, below a region |
//! | SmallHeap | small objects inside one growing memory, WebAssembly's or a reservation |
//! | Buddy | pages over memory of the caller, for other allocators; no system |
//! | Global | any size and alignment, from and for any thread; also freestanding |
//! | Reclaiming | power-of-two slots over any backend, which gets back what is free |
//! | OwnerSlab, TypedSlab | slots of one size: one thread allocates, any thread frees |
//! | Backend | where one allocator gets its memory from another, the system or a caller |
//! | Typed, PoolAllocator | a LargePool for Zig programs, by elements or as `std.mem.Allocator` |

const large_pool = @import("large_pool.zig");
const large_cache = @import("large_cache.zig");

pub const LargePool = large_pool.LargePool;
pub const Request = large_pool.Request;
pub const Failure = large_pool.Failure;
pub const Error = large_pool.Error;
pub const Options = large_pool.Options;
pub const ForkPolicy = large_pool.ForkPolicy;
pub const LockWish = large_pool.LockWish;
pub const Sleeper = large_pool.Sleeper;
pub const threads_max = large_pool.threads_max;
pub const align_max = large_pool.align_max;
pub const classes = large_pool.classes;
pub const class_shift_min = large_pool.class_shift_min;
pub const Buddy = @import("buddy.zig").Buddy;
pub const Global = @import("global.zig").Global;
pub const GlobalConfig = @import("global.zig").Config;
pub const global_freestanding = @import("global.zig").freestanding;
pub const Typed = @import("typed.zig").Typed;
pub const PoolAllocator = @import("typed.zig").Allocator;
pub const Run = @import("page_run.zig").Run;
const owner_slab = @import("owner_slab.zig");
pub const OwnerSlab = owner_slab.OwnerSlab;
pub const TypedSlab = owner_slab.TypedSlab;
pub const SlabOptions = owner_slab.Options;
pub const SlabBatch = owner_slab.Batch;
pub const SlabOutcome = owner_slab.Outcome;
pub const slab_slots_max = owner_slab.slots_max;
pub const Event = large_cache.Event;
pub const Total = large_cache.Total;

const backend = @import("backend.zig");
pub const Span = backend.Span;
pub const Backend = backend.Backend;
pub const SystemBackend = backend.SystemBackend;
pub const PoolBackend = backend.PoolBackend;
pub const GlobalBackend = backend.GlobalBackend;

const reclaiming = @import("reclaiming.zig");
pub const Reclaiming = reclaiming.Reclaiming;
pub const ReclaimingConfig = reclaiming.Config;
/// Parts of it, for the simulated scheduler.
pub const ReclaimingBatches = @import("reclaiming_batch.zig").Batches;
pub const ReclaimingGuard = @import("reclaiming_guard.zig").Guard;

const small_heap = @import("small_heap.zig");
pub const SmallHeap = small_heap.SmallHeap;
pub const SmallOptions = small_heap.Options;
pub const SmallStatistics = small_heap.Statistics;
pub const SmallLayer = @import("small_layer.zig").SmallLayer;
pub const LinearMemory = @import("small_host.zig").LinearMemory;
pub const LinearMemoryFrom = @import("small_host.zig").LinearMemoryFrom;
pub const linearMemoryBase = @import("small_host.zig").heapBase;
pub const linearMemoryEnd = @import("small_host.zig").heapEnd;
pub const Reservation = @import("small_host.zig").Reservation;
