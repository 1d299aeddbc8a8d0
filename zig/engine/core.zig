//! The state of an engine: its threads, and how a lease begins and ends. See engine.zig.
//!
//! What else can be done with leases, pools and regions stands in a file a noun and is named here, so that
//! the ABI finds every operation on the engine: wraps, lease_changes, lease_pages, pool_slots, layered,
//! region_face.

const std = @import("std");
const ds = @import("../ds/ds.zig");
const os = @import("../os/os.zig");
const regions = @import("../region/region.zig");
const heap = @import("../heap/heap.zig");
const types = @import("types.zig");
const background = @import("background.zig");
const figures = @import("figures.zig");
const owner_slabs = @import("owner_slabs.zig");
const abi_words = @import("block.zig");
const layer_file = @import("layer.zig");
const layered_file = @import("layered.zig");
const object_direct_file = @import("object_direct.zig");
const region_face_file = @import("region_face.zig");

const Sync = ds.Real;
const Status = types.Status;
const none = regions.none;
const w = abi_words;

pub const pools_max = 256;
/// Longest lease that can be parked: above, a fresh ArrayBuffer costs no more.
pub const parked_bytes_max = 64 << 10;
/// Leases at once in a process; the handle table's indexes.
const handles_max = 1 << 24;
/// From here on a request gets regions of its own, below it gets page runs.
pub const region_bytes_min: usize = 1 << 20;
/// Largest integer that an f64 holds exactly, plus one.
const f64_exact: f64 = 1 << 53;
const minus_one: u64 = std.math.maxInt(u64);

/// What an entry of the handle table says about its lease.
pub const Lease = extern struct {
    /// 0 for a lease without memory.
    address: usize,
    bytes: usize,
    region: u32,
    /// First page and number of pages of a run; 0 pages: the lease is the region.
    page: u16,
    pages: u16,
    pool: u16,
    flags: Flags,
    /// Kind of pages asked for, as in the options.
    pages_wish: u8,

    pub const Flags = packed struct(u8) { alias: bool, zero: bool, lock: bool, parked: bool = false, layered: bool = false, _: u3 = 0 };

    comptime {
        for (std.meta.fieldNames(heap.Run)) |name| {
            const at = @offsetOf(Lease, name) - @offsetOf(Lease, "region");
            std.debug.assert(@bitOffsetOf(heap.Run, name) == 8 * at);
        }
        std.debug.assert(@offsetOf(Lease, "region") % @alignOf(heap.Run) == 0);
    }

    /// Region, page and pages as one word.
    inline fn place(lease: *Lease) *heap.Run {
        return @ptrCast(@alignCast(&lease.region));
    }

    pub fn run(lease: *const Lease) heap.Run {
        return .{ .region = lease.region, .page = lease.page, .pages = lease.pages };
    }
};

pub fn Engine(comptime Os: type) type {
    return struct {
        table: Table = .{},
        handles: Handles = undefined,
        handle_memory: ?[*]u8 = null,
        pools: [pools_max]PoolSlot = @splat(.{}),
        /// Records of threads: static, reused, made at start.
        threads: [*]Thread = undefined,
        /// The cache of each pool that a thread has used, by both; made with the records.
        fronts: [*]Front = undefined,
        /// Of each thread, the front of the pool whose regions it used last by address.
        latest: [*]Front = undefined,
        /// The layer that each thread used last without handles.
        objects: [*]ObjectFront = undefined,
        /// The records of each kind of allocator of objects, by thread and slot.
        directs: [object_direct_file.kinds.len][*]direct.Record = undefined,
        threads_top: Sync.Atomic(u32) = .init(0),
        threads_attached: Sync.Atomic(u32) = .init(0),
        shared: [4]Sync.Atomic(u32) align(64) = @splat(.init(0)),
        sleeper: heap.Sleeper(Sync) = undefined,
        clock: background.Clock(Self) = .{},
        state: Sync.Atomic(u32) = .init(uninitialised),
        /// A page that reads 0 in a child made by fork, where the system can do that.
        alive: ?*const volatile u32 = null,
        pending_tokens: Sync.Atomic(u64) = .init(0),
        leaked_handles: Sync.Atomic(u64) = .init(0),
        /// Held by who takes a layer down, lets it age or looks at all of it.
        layers: regions.SpinLock(Sync) = .{},
        slabs: owner_slabs.OwnerSlabs(Self) = .{},
        /// Live leases without memory, which no pool counts.
        empty_leases: Sync.Atomic(u64) = .init(0),

        const Self = @This();
        pub const System = Os;
        pub const Table = regions.Table(Os, Sync);
        pub const Pool = heap.LargePool(Table);
        pub const Handles = ds.HandleTable(Sync, Lease);
        pub const Layer = layer_file.Layer(Pool);
        pub const LeaseRecord = Lease;
        pub const layered = layered_file.Layered(Self);
        pub const direct = object_direct_file.ObjectDirect(Self, .global);
        pub const reclaiming_direct = object_direct_file.ObjectDirect(Self, .reclaiming);
        pub const region_face = region_face_file.RegionFace(Self);
        pub const pools_count = pools_max;
        pub const handles_count = handles_max;
        /// Slots of the pools that the process shares: the large pool and the global allocator.
        pub const slots_fixed = 2;
        const uninitialised = 0;
        const initialising = 1;
        const ready = 2;
        const failed = 3;
        /// Bits of an owner word that are the thread's index.
        pub const owner_index: u32 = heap.threads_max - 1;
        /// Mark in an entry's owner word: the lease is a token, or was until a moment ago.
        pub const owner_token: u32 = 1 << 31;
        const threads_bytes = heap.threads_max * @sizeOf(Thread);
        /// Those of all threads and pools, and the latest of each thread.
        const fronts_count = heap.threads_max * pools_max;
        const fronts_bytes = (fronts_count + heap.threads_max) * @sizeOf(Front) + heap.threads_max * @sizeOf(ObjectFront) +
            fronts_count * object_direct_file.kinds.len * @sizeOf(direct.Record);
        /// How long after its close a layer may still have a caller inside.
        pub const closing_ns = 200_000_000;

        pub const PoolSlot = struct {
            /// Number of the open pool in this slot, 0 if there is none.
            id: Sync.Atomic(u32) = .init(0),
            /// 1 while the slot is taken: open, or closed with memory that JavaScript still shows.
            taken: Sync.Atomic(u32) = .init(0),
            generation: u32 = 0,
            /// Made once, then reused: a racing caller with an old number finds valid memory.
            pool: Sync.Atomic(?*Pool) = .init(null),
            /// What serves small requests; set while the slot has no number, or before it is published. Not
            /// as a union: that has undefined bytes, and the engine would lie in the library's file.
            layer_kind: layer_file.Kind = .none,
            layer_ptr: ?*anyopaque = null,
            /// Memory of each kind of layer that this slot has ever had.
            layer_memory: [layer_file.kinds]?[*]u8 = @splat(null),
            /// Layers of other slots whose memory comes from here.
            dependents: Sync.Atomic(u32) = .init(0),
            /// One more than the slot whose memory the layer divides, if that is another; else 0.
            backend: u32 = 0,
            /// When the background saw the slot closed, for a layer that others may still be inside.
            closed_ns: Sync.Atomic(u64) = .init(0),
            /// Sections that were asked for, to be given back after the layer's end.
            added: [layered_file.added_max]layered_file.Added = @splat(.{}),
            /// When the background last saw that something of the layer ages.
            aged_ns: u64 = 0,

            pub inline fn layer(slot: *const PoolSlot) Layer {
                return switch (slot.layer_kind) {
                    .none => .none,
                    inline else => |kind| @unionInit(Layer, @tagName(kind), @ptrCast(@alignCast(slot.layer_ptr))),
                };
            }

            pub fn setLayer(slot: *PoolSlot, comptime kind: layer_file.Kind, ptr: ?*anyopaque) void {
                slot.layer_ptr = ptr;
                slot.layer_kind = kind;
            }
        };

        pub const Thread = struct {
            block: [w.words]f64 align(128),
            handles: Handles.Cache,
            attached: Sync.Atomic(u32),
            /// The index and, above ten bits, which of the threads that had it one after another: what
            /// entries have as their owner.
            owner_word: Sync.Atomic(u32),
            pointer: Sync.Atomic(usize),
        };

        /// One look tells that thread and pool are what the caller says, and where to go.
        const Front = extern struct {
            /// One more than the number of the pool while it is open and enabled; 0 if the slow path
            /// must look, and in a forked child.
            key: Sync.Atomic(u64),
            cache: *Pool.Cache,

            inline fn open(slot: *Front, id: u32) ?*Pool.Cache {
                // The slot is written by its own thread; others only clear the key.
                return if (slot.key.load(.monotonic, .warm) == @as(u64, id) + 1) slot.cache else null;
            }
        };

        /// As `Front`, for the faces of layers: that the thread is attached, the slot open and the layer of
        /// that kind. Before the engine is ready, and in a forked child, no key matches.
        pub const ObjectFront = extern struct {
            /// One more than kind and number.
            key: Sync.Atomic(u64),
            layer: ?*anyopaque,

            pub inline fn keyOf(kind: layer_file.Kind, id: u32) u64 {
                return (@as(u64, @intFromEnum(kind)) << 32 | id) + 1;
            }
        };

        // ---- start

        /// Makes the engine ready; the first caller does it, others wait.
        pub fn ensureReady(self: *Self) bool {
            // Acquire: pairs with the release below, so that the engine is seen whole.
            if (self.state.load(.acquire, .engine_ready) == ready) return true;
            return self.start();
        }

        fn start(self: *Self) bool {
            @branchHint(.cold);
            if (self.state.cmpxchg(uninitialised, initialising, .acquire, .acquire, .engine_start)) |state| {
                var seen = state;
                while (seen == initialising) : (seen = self.state.load(.acquire, .engine_ready)) Sync.pause();
                return seen == ready;
            }
            const good = self.setUp();
            self.state.store(if (good) ready else uninitialised, .release, .engine_start);
            return good;
        }

        fn setUp(self: *Self) bool {
            if (!self.table.init()) return false;
            const bytes = Handles.bytesFor(handles_max);
            const memory = self.table.metadata(bytes) orelse {
                self.table.deinit();
                return false;
            };
            self.handle_memory = memory;
            const threads = self.table.metadata(threads_bytes) orelse {
                self.table.release(memory, bytes);
                self.table.deinit();
                return false;
            };
            const fronts = self.table.metadata(fronts_bytes) orelse {
                self.table.release(threads, threads_bytes);
                self.table.release(memory, bytes);
                self.table.deinit();
                return false;
            };
            self.threads = @ptrCast(@alignCast(threads));
            self.fronts = @ptrCast(@alignCast(fronts));
            self.latest = self.fronts + fronts_count;
            self.objects = @ptrCast(self.latest + heap.threads_max);
            const records: [*]direct.Record = @ptrCast(self.objects + heap.threads_max);
            for (&self.directs, 0..) |*table, kind| table.* = records + kind * fronts_count;
            var seed: [8]u8 = undefined;
            Os.random(&seed);
            self.handles = .init(@alignCast(memory[0..bytes]), @bitCast(seed));
            self.sleeper = .{ .wake = wakeClock, .purges = &self.shared[0] };
            if (self == nativeInstance()) _ = Os.onThreadEnd(threadEnd);
            if (Os.works(.wipe_on_fork)) if (self.table.metadata(Os.pageBytes())) |page| {
                // Without threads nothing is warm, so that warm operations need not look at the page.
                if (Os.advise(page, Os.pageBytes(), .wipe_on_fork) == 0 and
                    Os.advise(fronts, fronts_bytes, .wipe_on_fork) == 0 and
                    Os.advise(threads, threads_bytes, .wipe_on_fork) == 0)
                {
                    const word: *u32 = @ptrCast(@alignCast(page));
                    word.* = 1;
                    self.alive = word;
                } else self.table.release(page, Os.pageBytes());
            };
            self.clock.begin(self);
            return true;
        }

        /// Gives everything back to the system; only tests of engines of their own do this.
        pub fn deinit(self: *Self) void {
            self.clock.stop(self);
            self.slabs.deinit();
            // Layers over others' memory first.
            for ([_]bool{ true, false }) |is_over| for (&self.pools) |*slot| {
                if (slot.layer_kind != .none and (slot.backend != 0) == is_over) layered.close(self, slot);
            };
            for (&self.pools) |*slot| if (slot.pool.load(.acquire, .pool)) |pool| {
                pool.deinit();
                self.table.release(@ptrCast(pool), @sizeOf(Pool));
                inline for (1..layer_file.kinds + 1) |kind| if (slot.layer_memory[kind - 1]) |memory|
                    self.table.release(memory, @sizeOf(Layer.Of(@enumFromInt(kind))));
            };
            if (self.alive) |word| self.table.release(@ptrCast(@constCast(@volatileCast(word))), Os.pageBytes());
            if (self.state.load(.acquire, .engine_ready) == ready) {
                self.table.release(@ptrCast(self.threads), threads_bytes);
                self.table.release(@ptrCast(self.fronts), fronts_bytes);
            }
            if (self.handle_memory) |memory| self.table.release(memory, Handles.bytesFor(handles_max));
            self.table.deinit();
            self.* = .{};
        }

        /// Callbacks have no argument for the engine: they serve the process's own.
        fn nativeInstance() ?*Self {
            if (Os != os.Native) return null;
            return @import("engine.zig").instance;
        }

        fn threadEnd(value: usize) void {
            const self = nativeInstance() orelse return;
            if (value == 0 or value > heap.threads_max) return;
            _ = self.threadDetach(@intCast(value - 1));
        }

        /// Wakes the owner that sleeps on its slab's queue.
        pub fn wakeSlab(self: *Self, slab: *owner_slabs.Slab) void {
            _ = self;
            Os.wake(&slab.bell.raw, 1);
        }

        fn wakeClock() void {
            const self = nativeInstance() orelse return;
            self.clock.wake(self);
        }

        // ---- threads

        pub fn threadAttach(self: *Self) f64 {
            if (!self.ensureReady()) return status(.out_of_memory);
            // Else a child's thread would pass where being attached is all that is asked.
            if (self.isForked()) return status(.forked);
            const pointer = Os.threadPointer();
            const top = self.threads_top.load(.monotonic, .threads);
            for (self.threads[0..top], 0..) |*thread, i| {
                if (thread.pointer.load(.monotonic, .thread_pointer) == pointer and pointer != 0) return @floatFromInt(i);
            }
            for (self.threads[0..heap.threads_max], 0..) |*thread, i| {
                // Acquire: pairs with the release in `threadDetach`: what the last user left is seen.
                if (thread.attached.cmpxchg(0, 1, .acquire, .monotonic, .thread_claim) != null) continue;
                const index: u32 = @intCast(i);
                thread.handles = .{};
                var seen = self.threads_top.load(.monotonic, .threads);
                while (seen <= index)
                    seen = self.threads_top.cmpxchg(seen, index + 1, .monotonic, .monotonic, .threads) orelse break;
                thread.pointer.store(pointer, .monotonic, .thread_pointer);
                const word = thread.owner_word.load(.monotonic, .thread_epoch);
                thread.owner_word.store(word & ~(owner_index | owner_token) | index, .monotonic, .thread_epoch);
                _ = self.threads_attached.fetchAdd(1, .monotonic, .threads);
                for (&self.pools) |*slot| if (slot.pool.load(.acquire, .pool)) |pool| pool.threadStarted(index);
                Os.setThreadEnd(index + 1);
                return @floatFromInt(index);
            }
            return status(.limit);
        }

        pub fn threadDetach(self: *Self, index: u32) Status {
            const thread = self.threadAt(index) orelse return if (self.isForked()) .forked else .foreign;
            self.sweep(index);
            self.slabs.threadEnded(self.ownerWord(index));
            for (&self.pools) |*slot| {
                const pool = slot.pool.load(.acquire, .pool) orelse continue;
                // Its objects first: they may give regions to the pool's cache of this thread.
                slot.layer().threadEnded(index);
                pool.threadEnded(index);
            }
            self.handles.drain(&thread.handles);
            for (0..pools_max) |slot| {
                self.front(index, @intCast(slot)).key.store(0, .monotonic, .warm);
                self.forgetDirect(index, @intCast(slot));
            }
            self.latest[index].key.store(0, .monotonic, .warm);
            self.objects[index].key.store(0, .monotonic, .warm);
            thread.pointer.store(0, .monotonic, .thread_pointer);
            Os.setThreadEnd(0);
            _ = thread.owner_word.fetchAdd(owner_index + 1, .monotonic, .thread_epoch);
            _ = self.threads_attached.fetchSub(1, .monotonic, .threads);
            // Release: pairs with the acquire of the next thread that claims the record.
            thread.attached.store(0, .release, .thread_claim);
            return .ok;
        }

        pub fn threadBlock(self: *Self, index: u32) ?*anyopaque {
            const thread = self.threadAt(index) orelse return null;
            return @ptrCast(&thread.block);
        }

        pub fn sharedBlock(self: *Self) ?*anyopaque {
            return @ptrCast(&self.shared);
        }

        pub inline fn threadAt(self: *Self, index: u32) ?*Thread {
            if (index >= self.threads_top.load(.monotonic, .threads)) return null;
            const thread = &self.threads[index];
            return if (thread.attached.load(.monotonic, .thread_attached) == 1) thread else null;
        }

        /// Whether this process is a child of the one that the engine belongs to.
        pub inline fn isForked(self: *const Self) bool {
            const word = self.alive orelse return false;
            return word.* == 0;
        }

        /// Whether the thread is attached; never in a forked child.
        pub inline fn isAttached(self: *Self, index: u32) bool {
            return index < self.threads_top.load(.monotonic, .threads) and
                self.threads[index].attached.load(.monotonic, .thread_attached) == 1;
        }

        /// The front of an index below `threads_max` and a pool.
        inline fn front(self: *Self, thread: u32, id: u32) *Front {
            return &self.fronts[thread * pools_max + (id & (pools_max - 1))];
        }

        /// The cache for a warm operation, null if something has to be looked at first.
        inline fn warmCache(self: *Self, thread: u32, id: u32) ?*Pool.Cache {
            // None before the engine is ready.
            if (thread >= self.threads_top.load(.monotonic, .threads)) return null;
            return self.front(thread, id).open(id);
        }

        /// `warmCache` for the pool that the thread used last by address, where each instruction counts.
        /// False: ask `renew`.
        pub inline fn findLatest(self: *Self, thread: u32, id: u32, cache: **Pool.Cache) bool {
            if (thread >= self.threads_top.load(.monotonic, .threads)) return false;
            const slot = &self.latest[thread];
            if (slot.key.load(.monotonic, .warm) != @as(u64, id) + 1) return false;
            cache.* = slot.cache;
            return true;
        }

        /// As `warmCache`, and the pool is the latest from now on.
        pub noinline fn renew(self: *Self, thread: u32, id: u32) ?*Pool.Cache {
            const cache = self.warmCache(thread, id) orelse return null;
            const slot = &self.latest[thread];
            slot.cache = cache;
            slot.key.store(@as(u64, id) + 1, .monotonic, .warm);
            return cache;
        }

        pub noinline fn rememberCache(self: *Self, thread: u32, id: u32, pool: *Pool) void {
            const cache = pool.cacheIfAny(thread) orelse return;
            if (id == 0) return;
            // What the thread's direct record is asked about.
            cache.near.id = id;
            // Warm operations leave the fence to the thief; without a barrier for it there are none.
            if (!pool.options.enabled or !Sync.isAsymmetric()) return;
            // Options may have changed.
            if (!cache.freshHand()) return;
            const slot = self.front(thread, id);
            slot.cache = cache;
            slot.key.store(@as(u64, id) + 1, .monotonic, .warm);
            cache.near.lock.admit();
            // Pairs with the heavy fence in `poolClose`: it shuts what we admit, or we see it closed.
            Sync.warmFence();
            if (self.poolOf(id) != null) return;
            slot.key.store(0, .monotonic, .warm);
            cache.near.lock.bar();
        }

        /// Makes every thread look at the pool again before its next operation.
        pub noinline fn forgetCaches(self: *Self, pool: *Pool) void {
            const pool_slot = pool.slot;
            for (0..self.threads_top.load(.monotonic, .threads)) |thread| {
                if (pool.cacheIfAny(@intCast(thread))) |cache| cache.near.lock.bar();
                self.front(@intCast(thread), @intCast(pool_slot)).key.store(0, .monotonic, .warm);
                self.latest[thread].key.store(0, .monotonic, .warm);
                self.objects[thread].key.store(0, .monotonic, .warm);
                self.forgetDirect(@intCast(thread), @intCast(pool_slot));
            }
        }

        pub fn Direct(comptime kind: layer_file.Kind) type {
            return if (kind == .global) direct else reclaiming_direct;
        }

        inline fn directsOf(self: *const Self, comptime kind: layer_file.Kind) [*]Direct(kind).Record {
            return @ptrCast(self.directs[@intFromBool(kind == .reclaiming)]);
        }

        pub inline fn directRecord(self: *Self, comptime kind: layer_file.Kind, thread: u32, id: u32) *Direct(kind).Record {
            return &self.directsOf(kind)[thread * pools_max + (id & (pools_max - 1))];
        }

        /// The index of the record's thread.
        pub fn threadOf(self: *const Self, comptime kind: layer_file.Kind, record: *const Direct(kind).Record) u32 {
            return @intCast((@intFromPtr(record) - @intFromPtr(self.directsOf(kind))) / @sizeOf(direct.Record) / pools_max);
        }

        fn forgetDirect(self: *Self, thread: u32, pool_slot: u32) void {
            inline for (object_direct_file.kinds) |kind| Direct(kind).forget(self.directRecord(kind, thread, pool_slot));
        }

        pub fn ownerWord(self: *Self, index: u32) u32 {
            return self.threads[index].owner_word.load(.monotonic, .thread_epoch);
        }

        pub fn ownerGone(self: *Self, word: u32) bool {
            const index = word & owner_index;
            const thread = &self.threads[index];
            return thread.attached.load(.monotonic, .thread_attached) == 0 or self.ownerWord(index) != word;
        }

        /// The index of the running thread if it is the owner in `word`; null on any other thread.
        pub fn callerIf(self: *Self, word: u32) ?u32 {
            const index = word & owner_index;
            const pointer = self.threads[index].pointer.load(.monotonic, .thread_pointer);
            return if (pointer != 0 and pointer == Os.threadPointer()) index else null;
        }

        /// Frees the leases that the thread owned and that no ArrayBuffer shows, as leaks.
        fn sweep(self: *Self, thread: u32) void {
            // JavaScript was stopped between `hold` and `unhold`: nobody will end it but we.
            const held = self.threads[thread].block[w.held];
            if (held != 0) _ = self.unhold(thread, held);
            // The same between `wrap` and its ArrayBuffer.
            const wrapping = self.threads[thread].block[w.wrapping];
            self.threads[thread].block[w.wrapping] = 0;
            if (wrapping != 0) _ = self.unwrap(thread, wrapping);
            const word = self.ownerWord(thread);
            var index: u32 = 1;
            while (index < self.handles.end()) : (index += 1) {
                // The number first, its owner after: whatever lease comes later has another number.
                const seen = self.handles.peek(index);
                if (self.handles.entry(index).owner.load(.monotonic, .owner) != word) continue;
                self.freeIfUnshown(thread, index, seen);
            }
        }

        fn freeIfUnshown(self: *Self, thread: ?u32, index: u32, seen: Handles.Peek) void {
            if (seen.phase != .live or seen.wraps != 0) return;
            // As if it were wrapped: so nobody else can end the lease, and the next one write here, while it
            // is read.
            self.handles.addWrap(seen.handle) catch return;
            const lease = &self.handles.entry(index).payload;
            // An alias ArrayBuffer over the region may still be alive: its deallocator will tell.
            const shown = lease.flags.alias and lease.bytes != 0 and
                self.table.at(lease.region).wraps.load(.acquire, .wraps) != 0;
            // Freed meanwhile: it waits for this.
            _ = self.handles.cancelWrap(seen.handle) catch return wraps.dropWrap(self, index);
            if (shown) return;
            switch (self.handles.beginFree(seen.handle) catch return) {
                .finished => {
                    _ = self.leaked_handles.fetchAdd(1, .monotonic, .count);
                    self.finish(thread, index, .live);
                },
                .closing => {},
            }
        }

        // ---- leases

        pub fn alloc(self: *Self, thread_index: u32, pool_id: u32, bytes: f64, options: u32) f64 {
            // The common case: nothing asked but memory or an alias view, and it is warm.
            if (options & ~w.option_alias == 0) {
                if (self.warmCache(thread_index, pool_id)) |cache| {
                    const handle = self.allocWarm(cache, thread_index, pool_id, bytes, options & w.option_alias != 0);
                    if (handle != 0) return floatOf(handle);
                }
            }
            return self.allocSlow(thread_index, pool_id, bytes, options);
        }

        /// 0: not warm, nothing has changed.
        inline fn allocWarm(self: *Self, cache: *Pool.Cache, thread_index: u32, pool_id: u32, bytes: f64, alias: bool) u64 {
            const size = wholeOf(bytes);
            const thread = &self.threads[thread_index];
            const index = Handles.top(&thread.handles);
            if (size == 0 or index == none) return 0;
            const entry = self.handles.entry(index);
            const of = &entry.payload;
            var run: heap.Run = .{ .region = none, .page = 0, .pages = 0 };
            if (size >= region_bytes_min) {
                const region = Pool.takeWarm(cache, size, alias) orelse return 0;
                run.region = @intCast((@intFromPtr(region) - @intFromPtr(cache.near.descriptors)) / @sizeOf(Table.Descriptor));
            } else run = Pool.Runs.takeWarm(cache, size, alias);
            if (run.region == none) return 0;
            self.handles.take(&thread.handles, index);
            const region = &cache.near.descriptors[run.region];
            if (run.pages == 0) region.lease.store(index, .monotonic, .region_lease);
            of.place().* = run;
            of.address = region.address + @as(usize, run.page) * Os.pageBytes();
            of.bytes = size;
            of.pool = @intCast(pool_id & (pools_max - 1));
            of.flags = .{ .alias = alias, .zero = false, .lock = false };
            of.pages_wish = 0;
            entry.owner.store(thread.owner_word.load(.monotonic, .thread_epoch), .monotonic, .owner);
            describeRegion(&thread.block, of, region);
            var flags: u32 = if (alias) w.lease_alias else 0;
            if (run.pages != 0) flags |= w.lease_run;
            thread.block[w.flags] = floatOf(flags);
            return self.handles.publish(index);
        }

        noinline fn allocSlow(self: *Self, thread_index: u32, pool_id: u32, bytes: f64, options: u32) f64 {
            if (layered.slotFor(self, pool_id, wholeOf(bytes), options)) |slot|
                return layered.alloc(self, thread_index, slot, wholeOf(bytes), options);
            if (self.isForked()) return status(.forked);
            const thread = self.threadAt(thread_index) orelse return status(.foreign);
            const size = integer(bytes) orelse return status(.out_of_range);
            const pool = self.poolOf(pool_id) orelse return status(.closed);
            const index = self.handles.claim(&thread.handles) orelse {
                thread.block[w.bound] = handles_max;
                return status(.limit);
            };
            const entry = self.handles.entry(index);
            defer self.rememberCache(thread_index, pool_id, pool);
            const request = requestFrom(size, options) orelse {
                self.handles.recycle(&thread.handles, index);
                return status(.out_of_range);
            };
            var failure: heap.Failure = .{};
            entry.payload = self.obtain(pool, thread_index, index, request, &failure) catch |err| {
                @branchHint(.cold);
                self.handles.recycle(&thread.handles, index);
                return status(report(thread, err, failure, size));
            };
            entry.payload.pages_wish = @intCast(options >> w.option_pages_shift & 3);
            entry.owner.store(self.ownerWord(thread_index), .monotonic, .owner);
            self.describeInto(thread, &entry.payload);
            return @floatFromInt(self.handles.publish(index));
        }

        /// Memory for a request of the lease `index`: a region, a run of pages, or none for no bytes.
        pub fn obtain(
            self: *Self,
            pool: *Pool,
            thread: u32,
            index: u32,
            request: heap.Request,
            failure: *heap.Failure,
        ) heap.Error!Lease {
            var result: Lease = .{
                .address = 0,
                .bytes = request.bytes,
                .region = none,
                .page = 0,
                .pages = 0,
                .pool = pool.slot,
                .flags = .{ .alias = request.alias, .zero = request.zero, .lock = request.lock != .none },
                .pages_wish = 0,
            };
            if (request.bytes == 0) {
                _ = self.empty_leases.fetchAdd(1, .monotonic, .count);
            } else if (request.bytes >= region_bytes_min or request.alignment > regions.unit_bytes) {
                result.region = try pool.take(thread, request, failure);
                const region = self.table.at(result.region);
                region.lease.store(index, .monotonic, .region_lease);
                region.become(.held);
                result.address = region.address;
            } else {
                const run = keptRun(pool, thread, request) orelse try Pool.Runs.alloc(pool, thread, request, failure);
                result.region = run.region;
                result.page = run.page;
                result.pages = run.pages;
                result.address = Pool.Runs.addressOf(pool, run);
            }
            return result;
        }

        /// What the thread freed last and kept for the warm way, for requests that the warm way would
        /// take if it were open: before the process-wide barrier is set up, or where there is none.
        fn keptRun(pool: *Pool, thread: u32, request: heap.Request) ?heap.Run {
            if (!pool.options.enabled or request.kind != null or request.lock != .none) return null;
            if (request.zero or request.prefault or request.alignment != 0) return null;
            const cache = pool.cacheIfAny(thread) orelse return null;
            const run = Pool.Runs.takeWarm(cache, request.bytes, request.alias);
            return if (run.region == none) null else run;
        }

        fn requestFrom(size: usize, options: u32) ?heap.Request {
            const align_log2 = options >> w.option_align_shift & 31;
            if (align_log2 > 30) return null;
            return .{
                .bytes = size,
                .alignment = if (align_log2 == 0) 0 else @as(usize, 1) << @intCast(align_log2),
                .kind = switch (@as(u2, @truncate(options >> w.option_pages_shift))) {
                    0 => null,
                    1 => .base,
                    2 => .thp,
                    3 => .hugetlb,
                },
                .lock = switch (@as(u2, @truncate(options >> w.option_lock_shift))) {
                    0 => .none,
                    1 => .attempt,
                    2 => .require,
                    3 => return null,
                },
                .alias = options & w.option_alias != 0,
                .zero = options & w.option_zero != 0,
                .prefault = options & w.option_prefault != 0,
            };
        }

        /// Writes why a request failed into the thread's block.
        pub fn report(thread: *Thread, err: heap.Error, failure: heap.Failure, requested: usize) Status {
            thread.block[w.errno] = @floatFromInt(failure.errno);
            thread.block[w.system_call] = @floatFromInt(@intFromEnum(failure.call));
            thread.block[w.requested] = @floatFromInt(if (failure.requested != 0) failure.requested else requested);
            thread.block[w.bound] = @floatFromInt(failure.bound);
            thread.block[w.current] = @floatFromInt(failure.current);
            return switch (err) {
                error.OutOfMemory => .out_of_memory,
                error.Limit => .limit,
                error.SizeClass => .size_class,
                error.Disabled => .disabled,
                error.Unaligned => .unaligned,
                error.LockLimit => .lock_limit,
                error.HugeUnavailable => .huge_unavailable,
            };
        }

        pub noinline fn describeInto(self: *Self, thread: *Thread, of: *const Lease) void {
            const block = &thread.block;
            if (of.bytes == 0) {
                block[w.address] = 0;
                block[w.byte_length] = 0;
                block[w.capacity] = 0;
                block[w.flags] = 0;
                block[w.region] = none;
                return;
            }
            if (of.flags.layered) return layered.describe(self, thread, of);
            describeRegion(block, of, self.table.at(of.region));
            var flags: u32 = 0;
            if (self.lockedNow(of)) flags |= w.lease_locked;
            if (of.flags.alias) flags |= w.lease_alias;
            if (of.pages != 0) flags |= w.lease_run;
            block[w.flags] = @floatFromInt(flags);
        }

        /// All words but the flags, of a lease that has memory.
        inline fn describeRegion(block: *[w.words]f64, of: *const Lease, region: *const Table.Descriptor) void {
            block[w.address] = floatOf(of.address);
            block[w.byte_length] = floatOf(of.bytes);
            block[w.capacity] = floatOf(Pool.pageRound(of.bytes));
            block[w.region] = floatOf(of.region);
            block[w.region_address] = floatOf(region.address);
            block[w.region_bytes] = floatOf(region.bytes);
            block[w.region_epoch] = floatOf(region.epoch.load(.monotonic, .epoch));
        }

        pub noinline fn lockedNow(self: *Self, of: *const Lease) bool {
            if (of.bytes == 0 or of.flags.layered) return false;
            if (of.pages == 0) return self.table.at(of.region).locked >= of.bytes;
            const pool = self.pools[of.pool].pool.load(.acquire, .pool).?;
            return Pool.Runs.blockOfRun(pool, of.run()).locked.isSet(of.page);
        }

        pub fn free(self: *Self, thread_index: u32, handle: f64) Status {
            // In a forked child no thread is attached.
            if (thread_index < self.threads_top.load(.monotonic, .threads)) {
                const number: Handles.Handle = @intCast(wholeOf(handle));
                const thread = &self.threads[thread_index];
                if (number != 0 and thread.attached.load(.monotonic, .thread_attached) == 1 and
                    self.handles.endUnwrapped(number))
                {
                    const index = Handles.indexOf(number);
                    if (!self.giveWarm(thread_index, &self.handles.entry(index).payload))
                        return self.finishFreed(thread_index, index);
                    self.handles.recycleEnded(&thread.handles, index);
                    self.wakeIfAsleep();
                    return .ok;
                }
            }
            return self.freeSlow(thread_index, handle);
        }

        /// Gives the memory of a lease that is over to its thread's lists, if that is all there is to
        /// do. False: nothing has changed.
        inline fn giveWarm(self: *Self, thread: u32, of: *Lease) bool {
            const run = of.place().*;
            const slot = self.front(thread, of.pool);
            // Of an open pool this thread knows the cache.
            if (run.region == none or slot.key.load(.monotonic, .warm) == 0) return false;
            if (run.pages == 0) return Pool.giveWarm(slot.cache, run.region);
            return !of.flags.lock and Pool.Runs.giveWarm(slot.cache, run, of.bytes);
        }

        noinline fn finishFreed(self: *Self, thread_index: u32, index: u32) Status {
            self.finish(thread_index, index, .live);
            return .ok;
        }

        noinline fn freeSlow(self: *Self, thread_index: u32, handle: f64) Status {
            if (self.isForked()) return .forked;
            const number = handleFrom(handle) orelse return .foreign;
            if (self.threadAt(thread_index) == null) return .foreign;
            const freeing = self.handles.beginFree(number) catch |err| return switch (err) {
                error.Freed => .double_free,
                error.Foreign => .foreign,
            };
            const index = Handles.indexOf(number);
            switch (freeing) {
                .finished => {
                    self.finish(thread_index, index, .live);
                    return .ok;
                },
                .closing => {
                    self.beginClosing(thread_index, index);
                    return .closing;
                },
            }
        }

        /// As `Pool.wakeIfAsleep`, after a warm operation: one load shorter, and without the question
        /// whether there is a process-wide barrier.
        pub inline fn wakeIfAsleep(self: *Self) void {
            // Pairs with the heavy fence between the sleeper's flag and its last look at the pools.
            Sync.warmFence();
            if (self.sleeper.asleep.load(.monotonic, .sleeper_look) != 0) {
                @branchHint(.unlikely);
                self.sleeper.wake();
            }
        }

        /// The lease is dead but shown: it leaves the live figures, its memory stays.
        pub fn beginClosing(self: *Self, thread: ?u32, index: u32) void {
            const of = &self.handles.entry(index).payload;
            if (of.bytes == 0) return;
            const pool = self.pools[of.pool].pool.load(.acquire, .pool).?;
            const cache = if (thread) |t| pool.cacheOf(t) else null;
            pool.addTotal(cache, .closing, 1);
            if (of.flags.layered) return layered.recount(self, thread, of, -1);
            if (of.pages == 0) {
                self.table.at(of.region).become(.closing);
                return;
            }
            pool.uncount(cache, of.bytes);
            pool.addTotal(cache, .live_beside, minus_one);
        }

        pub const Was = enum { live, closing, token, parked };

        /// The caller has won the end of the lease: its memory goes back, its index is recycled.
        pub noinline fn finish(self: *Self, thread: ?u32, index: u32, was: Was) void {
            const of = self.handles.entry(index).payload;
            self.release(thread, of, was);
            const cache = if (thread) |t| &self.threads[t].handles else null;
            self.handles.recycle(cache, index);
        }

        pub fn release(self: *Self, thread: ?u32, of: Lease, was: Was) void {
            if (of.bytes == 0) {
                _ = self.empty_leases.fetchSub(1, .monotonic, .count);
                return;
            }
            const pool = self.pools[of.pool].pool.load(.acquire, .pool).?;
            if (was == .closing) {
                const cache = if (thread) |t| pool.cacheOf(t) else null;
                pool.addTotal(cache, .closing, minus_one);
            }
            if (of.flags.layered) {
                layered.release(self, thread, &of, was != .closing and was != .parked);
            } else if (of.pages != 0) {
                Pool.Runs.free(pool, thread, of.run(), of.bytes, was != .closing and was != .parked);
            } else pool.give(thread, of.region);
        }

        /// The memory that a lease had before it moved.
        pub fn releaseMoved(self: *Self, thread: u32, of: Lease) void {
            self.release(thread, of, .live);
        }

        pub fn leaked(self: *Self, thread: u32, handle: f64) Status {
            const number = handleFrom(handle) orelse return .foreign;
            const seen = self.handles.find(number) catch |err| return wrong(err);
            _ = seen;
            const result = self.free(thread, handle);
            if (@intFromEnum(result) >= 0) _ = self.leaked_handles.fetchAdd(1, .monotonic, .count);
            return result;
        }

        // ---- changing a lease

        pub noinline fn leaseOf(self: *Self, handle: f64) error{ Freed, Foreign }!struct { index: u32, lease: *Lease, wraps: u32 } {
            const number = handleFrom(handle) orelse return error.Foreign;
            const entry = try self.handles.find(number);
            const index = Handles.indexOf(number);
            return .{ .index = index, .lease = &entry.payload, .wraps = self.handles.peek(index).wraps };
        }

        pub fn describe(self: *Self, thread_index: u32, handle: f64) Status {
            const thread = self.threadAt(thread_index) orelse return .foreign;
            const found = self.leaseOf(handle) catch |err| return wrong(err);
            self.describeInto(thread, found.lease);
            return .ok;
        }

        // ---- pools

        pub noinline fn poolOf(self: *Self, id: u32) ?*Pool {
            const slot = &self.pools[id & (pools_max - 1)];
            if (id == 0 or slot.id.load(.monotonic, .pool_id) != id) return null;
            return slot.pool.load(.acquire, .pool);
        }

        // ---- operations that stand in files of their own

        const wraps = @import("wraps.zig").Wraps(Self);
        pub const wrap = wraps.wrap;
        pub const hold = wraps.hold;
        pub const unhold = wraps.unhold;
        pub const unwrap = wraps.unwrap;
        pub const wrapDropped = wraps.wrapDropped;
        pub const park = wraps.park;
        pub const revive = wraps.revive;
        pub const regionWrap = wraps.regionWrap;
        pub const regionUnwrap = wraps.regionUnwrap;
        pub const regionDropped = wraps.regionDropped;
        pub const regionEpoch = wraps.regionEpoch;

        const lease_changes = @import("lease_changes.zig").LeaseChanges(Self);
        pub const resize = lease_changes.resize;
        pub const transfer = lease_changes.transfer;
        pub const realloc = lease_changes.realloc;
        pub const adopt = lease_changes.adopt;

        const lease_pages = @import("lease_pages.zig").LeasePages(Self);
        pub const lock = lease_pages.lock;
        pub const unlock = lease_pages.unlock;
        pub const prefetch = lease_pages.prefetch;
        pub const file = lease_pages.file;
        pub const purge = lease_pages.purge;
        pub const pageKind = lease_pages.pageKind;

        const pool_slots = @import("pool_slots.zig").PoolSlots(Self);
        pub const poolCreate = pool_slots.poolCreate;
        pub const globalCreate = pool_slots.globalCreate;
        pub const globalPages = pool_slots.globalPages;
        pub const globalAddRegion = pool_slots.globalAddRegion;
        pub const globalSection = pool_slots.globalSection;
        pub const globalStats = pool_slots.globalStats;
        pub const globalResetPeak = pool_slots.globalResetPeak;
        pub const reclaimingCreate = pool_slots.reclaimingCreate;
        pub const reclaimingReclaim = pool_slots.reclaimingReclaim;
        pub const reclaimingStats = pool_slots.reclaimingStats;
        pub const reclaimingClassStats = pool_slots.reclaimingClassStats;
        pub const smallCreate = pool_slots.smallCreate;
        pub const smallStats = pool_slots.smallStats;
        pub const smallResetTrip = pool_slots.smallResetTrip;
        pub const preparePool = pool_slots.preparePool;
        pub const publishSlot = pool_slots.publishSlot;
        pub const poolShared = pool_slots.poolShared;
        pub const globalShared = pool_slots.globalShared;
        pub const poolConfigure = pool_slots.poolConfigure;
        pub const poolOptions = pool_slots.poolOptions;
        pub const poolStats = pool_slots.poolStats;
        pub const poolClassStats = pool_slots.poolClassStats;
        pub const poolTrim = pool_slots.poolTrim;
        pub const poolClose = pool_slots.poolClose;
        pub const reap = pool_slots.reap;

        // ---- the process

        pub fn stats(self: *Self, out: *types.Stats, resident: u32) Status {
            if (self.isForked()) return .forked;
            figures.stats(Self, self, out, resident != 0);
            return .ok;
        }

        pub fn trim(self: *Self, thread: u32) f64 {
            if (self.isForked()) return status(.forked);
            if (!self.ensureReady()) return 0;
            self.reclaimOwnerless();
            self.slabs.reclaimTokens();
            self.reap();
            var bytes: u64 = 0;
            for (&self.pools) |*slot| {
                if (slot.id.load(.acquire, .pool_id) == 0) continue;
                const pool = slot.pool.load(.acquire, .pool) orelse continue;
                if (self.isAttached(thread)) bytes += slot.layer().trimOwn(thread);
                bytes += Pool.Purge.trim(pool);
            }
            return @floatFromInt(bytes);
        }

        /// Tokens whose thread is gone, and leases of gone threads that nothing shows.
        fn reclaimOwnerless(self: *Self) void {
            var index: u32 = 1;
            while (index < self.handles.end()) : (index += 1) {
                const seen = self.handles.peek(index);
                if (seen.phase != .token and seen.phase != .live) continue;
                const owner = self.handles.entry(index).owner.load(.monotonic, .owner);
                // A live lease with the mark has been adopted this moment.
                if (seen.phase == .live and owner & owner_token != 0) continue;
                if (!self.ownerGone(owner & ~owner_token)) continue;
                if (seen.phase == .live) {
                    self.freeIfUnshown(null, index, seen);
                    continue;
                }
                self.handles.endToken(seen.handle) catch continue;
                _ = self.pending_tokens.fetchSub(1, .monotonic, .count);
                _ = self.leaked_handles.fetchAdd(1, .monotonic, .count);
                self.finish(null, index, .token);
            }
        }

        // ---- the faces without handles

        pub inline fn objectAlloc(self: *Self, comptime kind: layer_file.Kind, thread: u32, id: u32, bytes: usize, alignment: usize) ?*anyopaque {
            return layered.objectAlloc(self, kind, thread, id, bytes, alignment);
        }

        pub inline fn objectFree(self: *Self, comptime kind: layer_file.Kind, thread: u32, id: u32, address: ?*anyopaque) Status {
            return layered.objectFree(self, kind, thread, id, address);
        }

        pub fn objectAllocSlow(self: *Self, comptime kind: layer_file.Kind, thread: u32, id: u32, bytes: usize, alignment: usize) ?*anyopaque {
            return layered.objectAllocSlow(self, kind, thread, id, bytes, alignment);
        }

        pub fn objectFreeSlow(self: *Self, comptime kind: layer_file.Kind, thread: u32, id: u32, address: ?*anyopaque) Status {
            return layered.objectFreeSlow(self, kind, thread, id, address);
        }

        pub fn objectRealloc(self: *Self, comptime kind: layer_file.Kind, thread: u32, id: u32, address: ?*anyopaque, bytes: usize, alignment: usize) ?*anyopaque {
            return layered.objectRealloc(self, kind, thread, id, address, bytes, alignment);
        }

        pub fn objectSize(self: *Self, comptime kind: layer_file.Kind, id: u32, address: ?*anyopaque) usize {
            return layered.objectSize(self, kind, id, address);
        }

        pub inline fn regionAlloc(self: *Self, thread: u32, id: u32, bytes: usize, capacity: ?*usize) ?*anyopaque {
            return region_face.alloc(self, thread, id, bytes, capacity);
        }

        pub inline fn regionFree(self: *Self, thread: u32, id: u32, address: ?*anyopaque) Status {
            return region_face.free(self, thread, id, address);
        }

        /// Bytes of bookkeeping in use: of the reserved tables only what has been touched counts.
        pub fn metadataTouched(self: *const Self) u64 {
            var bytes: u64 = @as(u64, self.handles.end()) * @sizeOf(Handles.Entry);
            bytes += @as(u64, self.table.regions_top.load(.monotonic, .top)) * @sizeOf(Table.Descriptor);
            for (&self.pools) |*slot| if (slot.pool.load(.acquire, .pool)) |pool| {
                bytes += pool.metadataBytes() + slot.layer().metadataBytes();
            };
            return bytes;
        }

        // ---- small helpers

        /// Allocates, writes, frees and trims a little, and compares what the engine says of it.
        pub fn selfTest(self: *Self) Status {
            const attached = self.threadAttach();
            if (attached < 0) return @enumFromInt(@as(i32, @intFromFloat(attached)));
            const thread: u32 = @intFromFloat(attached);
            const created = self.poolCreate(thread, &std.mem.zeroes(types.PoolOptions));
            if (created < 0) return @enumFromInt(@as(i32, @intFromFloat(created)));
            const pool: u32 = @intFromFloat(created);
            for ([_]f64{ 1, 4096, 100_000, 1 << 20, 3 << 20 }) |bytes| {
                const handle = self.alloc(thread, pool, bytes, w.option_zero);
                if (handle < 0) return @enumFromInt(@as(i32, @intFromFloat(handle)));
                const block = &self.threads[thread].block;
                const ptr: [*]u8 = @ptrFromInt(@as(usize, @intFromFloat(block[w.address])));
                const size: usize = @intFromFloat(bytes);
                if (ptr[0] != 0 or ptr[size - 1] != 0) return .invalid_argument;
                ds.memory.set(ptr[0..size], 0x5A);
                if (self.free(thread, handle) != .ok) return .invalid_argument;
                if (self.free(thread, handle) != .double_free) return .invalid_argument;
            }
            const closed = self.poolClose(thread, pool, 0);
            return if (closed == 0) .ok else .busy;
        }

        pub inline fn status(value: Status) f64 {
            return @floatFromInt(@intFromEnum(value));
        }

        pub fn wrong(err: error{ Freed, Foreign }) Status {
            return switch (err) {
                error.Freed => .freed,
                error.Foreign => .foreign,
            };
        }

        /// A whole number of bytes from an f64, null if it is none. Not inline, as others off the hot paths:
        /// the library is to be small.
        pub noinline fn integer(value: f64) ?usize {
            if (!(value >= 0 and value < f64_exact)) return null;
            const whole: usize = @intFromFloat(value);
            return if (@as(f64, @floatFromInt(whole)) == value) whole else null;
        }

        /// As `integer`, 0 if it is none.
        pub inline fn wholeOf(value: f64) u64 {
            if (!(value >= 0 and value < f64_exact)) return 0;
            const whole: i64 = @intFromFloat(value);
            return if (@as(f64, @floatFromInt(whole)) == value) @intCast(whole) else 0;
        }

        /// Of a number below 2^53, without the longer way for unsigned ones.
        inline fn floatOf(value: u64) f64 {
            return @floatFromInt(@as(i64, @bitCast(value)));
        }

        pub noinline fn handleFrom(value: f64) ?Handles.Handle {
            return @intCast(integer(value) orelse return null);
        }
    };
}
