//! The state of an engine and every operation of the ABI on it. See engine.zig.

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
const global_direct_file = @import("global_direct.zig");
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

    fn run(lease: *const Lease) heap.Run {
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
        /// The record of each thread and global allocator, by slot.
        directs: [*]direct.Record = undefined,
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
        pub const direct = global_direct_file.GlobalDirect(Self);
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
        const owner_index: u32 = heap.threads_max - 1;
        /// Mark in an entry's owner word: the lease is a token, or was until a moment ago.
        const owner_token: u32 = 1 << 31;
        const threads_bytes = heap.threads_max * @sizeOf(Thread);
        /// Those of all threads and pools, and the latest of each thread.
        const fronts_count = heap.threads_max * pools_max;
        const fronts_bytes = (fronts_count + heap.threads_max) * @sizeOf(Front) + heap.threads_max * @sizeOf(ObjectFront) +
            heap.threads_max * pools_max * @sizeOf(direct.Record);
        /// How long after its close a layer may still have a caller inside.
        const closing_ns = 200_000_000;

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
            self.directs = @ptrCast(self.objects + heap.threads_max);
            var seed: [8]u8 = undefined;
            Os.random(&seed);
            self.handles = .init(@alignCast(memory[0..bytes]), @bitCast(seed));
            if (Os.barrierSetup()) ds.setHeavyFence(Os.barrier);
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
                direct.forget(self.directRecord(index, @intCast(slot)));
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
            // Warm operations leave the fence to the thief; without a barrier for it there are none.
            if (!pool.options.enabled or id == 0 or !Sync.asymmetric) return;
            // Options may have changed.
            if (!cache.freshHand()) return;
            cache.near.id = id;
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
        noinline fn forgetCaches(self: *Self, pool: *Pool) void {
            const pool_slot = pool.slot;
            for (0..self.threads_top.load(.monotonic, .threads)) |thread| {
                if (pool.cacheIfAny(@intCast(thread))) |cache| cache.near.lock.bar();
                self.front(@intCast(thread), @intCast(pool_slot)).key.store(0, .monotonic, .warm);
                self.latest[thread].key.store(0, .monotonic, .warm);
                self.objects[thread].key.store(0, .monotonic, .warm);
                direct.forget(self.directRecord(@intCast(thread), @intCast(pool_slot)));
            }
        }

        pub inline fn directRecord(self: *Self, thread: u32, id: u32) *direct.Record {
            return &self.directs[thread * pools_max + (id & (pools_max - 1))];
        }

        /// The index of the record's thread.
        pub fn threadOf(self: *const Self, record: *const direct.Record) u32 {
            return @intCast((@intFromPtr(record) - @intFromPtr(self.directs)) / @sizeOf(direct.Record) / pools_max);
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
        fn callerIf(self: *Self, word: u32) ?u32 {
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
            const lease = &self.handles.entry(index).payload;
            // An alias ArrayBuffer over the region may still be alive: its deallocator will tell.
            if (lease.flags.alias and lease.bytes != 0 and
                self.table.at(lease.region).wraps.load(.acquire, .wraps) != 0) return;
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
        fn obtain(
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
                const run = try Pool.Runs.alloc(pool, thread, request, failure);
                result.region = run.region;
                result.page = run.page;
                result.pages = run.pages;
                result.address = Pool.Runs.addressOf(pool, run);
            }
            return result;
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

        noinline fn describeInto(self: *Self, thread: *Thread, of: *const Lease) void {
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

        noinline fn lockedNow(self: *Self, of: *const Lease) bool {
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
        fn beginClosing(self: *Self, thread: ?u32, index: u32) void {
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

        const Was = enum { live, closing, token, parked };

        /// The caller has won the end of the lease: its memory goes back, its index is recycled.
        noinline fn finish(self: *Self, thread: ?u32, index: u32, was: Was) void {
            const of = self.handles.entry(index).payload;
            self.release(thread, of, was);
            const cache = if (thread) |t| &self.threads[t].handles else null;
            self.handles.recycle(cache, index);
        }

        fn release(self: *Self, thread: ?u32, of: Lease, was: Was) void {
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

        pub noinline fn wrap(self: *Self, thread: u32, handle: f64) Status {
            const number = handleFrom(handle) orelse return .foreign;
            self.handles.addWrap(number) catch |err| return wrong(err);
            if (self.threadAt(thread)) |own| own.block[w.wrapping] = handle;
            return .ok;
        }

        /// `wrap` without an ArrayBuffer: keeps a lease through the end of its views. The thread's
        /// record names it, so that a thread that ends inside does not leave it held.
        pub fn hold(self: *Self, thread_index: u32, handle: f64) Status {
            const thread = self.threadAt(thread_index) orelse return .foreign;
            const result = self.wrap(thread_index, handle);
            thread.block[w.wrapping] = 0;
            if (result == .ok) thread.block[w.held] = handle;
            return result;
        }

        /// Ends `hold`.
        pub fn unhold(self: *Self, thread_index: u32, handle: f64) Status {
            const thread = self.threadAt(thread_index) orelse return .foreign;
            thread.block[w.held] = 0;
            return self.unwrap(thread_index, handle);
        }

        pub noinline fn unwrap(self: *Self, thread: u32, handle: f64) Status {
            if (self.threadAt(thread)) |own| own.block[w.wrapping] = 0;
            const number = handleFrom(handle) orelse return .foreign;
            const had = self.handles.cancelWrap(number) catch |err| return wrong(err);
            return if (had) .ok else .foreign;
        }

        /// An ArrayBuffer over a lease is gone.
        pub fn wrapDropped(self: *Self, context: usize) void {
            if (self.isForked() or context == 0 or context > handles_max) return;
            self.dropWrap(@intCast(context - 1));
        }

        fn dropWrap(self: *Self, index: u32) void {
            const owner = self.handles.entry(index).owner.load(.monotonic, .owner);
            if (self.callerIf(owner)) |own| {
                // The ArrayBuffer was made, and goes before JavaScript said so.
                const wrapping = &self.threads[own].block[w.wrapping];
                if (wrapping.* != 0 and Handles.indexOf(@intCast(wholeOf(wrapping.*))) == index) wrapping.* = 0;
            }
            switch (self.handles.dropWrap(index)) {
                .still => {},
                .finished => {
                    const parked = self.handles.entry(index).payload.flags.parked;
                    self.finish(self.callerIf(owner), index, if (parked) .parked else .closing);
                },
                .leaked => {
                    _ = self.leaked_handles.fetchAdd(1, .monotonic, .count);
                    self.finish(self.callerIf(owner), index, .live);
                },
            }
        }

        /// Ends a lease whose one ArrayBuffer the caller keeps, detached from all views, for the next
        /// lease of that length. UNSUPPORTED: not such a lease, nothing has changed.
        pub fn park(self: *Self, thread: u32, handle: f64) Status {
            const number = handleFrom(handle) orelse return .foreign;
            const entry = self.handles.find(number) catch |err| return wrong(err);
            const of = &entry.payload;
            if ((of.pages == 0 and !of.flags.layered) or of.bytes > parked_bytes_max or of.flags.alias) return .unsupported;
            const pool = self.pools[of.pool].pool.load(.acquire, .pool).?;
            if (entry.owner.load(.monotonic, .owner) != self.ownerWord(thread) or self.lockedNow(of)) return .unsupported;
            // Before the word changes: from then on a deallocator may read it.
            of.flags.parked = true;
            const parked = self.handles.park(number) catch |err| return wrong(err);
            if (!parked) {
                of.flags.parked = false;
                return .unsupported;
            }
            if (of.flags.layered) {
                layered.recount(self, thread, of, -1);
                return .ok;
            }
            const cache = pool.cacheOf(thread);
            pool.uncount(cache, of.bytes);
            pool.addTotal(cache, .live_beside, minus_one);
            return .ok;
        }

        /// Makes a parked lease of this thread live again: its memory, its length, a new handle.
        pub fn revive(self: *Self, thread: u32, pool_id: u32, handle: f64, options: u32) f64 {
            if (self.isForked()) return status(.forked);
            const number = handleFrom(handle) orelse return status(.foreign);
            const pool = self.poolOf(pool_id) orelse return status(.closed);
            if (!pool.options.enabled) return status(.disabled);
            const index = Handles.indexOf(number);
            if (index >= self.handles.end()) return status(.foreign);
            const entry = self.handles.entry(index);
            const of = &entry.payload;
            if (!of.flags.parked or of.pool != pool.slot) return status(.foreign);
            if (entry.owner.load(.monotonic, .owner) != self.ownerWord(thread)) return status(.foreign);
            const revived = self.handles.revive(index);
            if (revived == 0) return status(.limit);
            of.flags.parked = false;
            of.flags.zero = options & w.option_zero != 0;
            if (of.flags.zero) ds.memory.zero(@as([*]u8, @ptrFromInt(of.address))[0..of.bytes]);
            if (of.flags.layered) {
                layered.recount(self, thread, of, 1);
            } else if (pool.cacheOf(thread)) |cache| {
                cache.counters.add(.allocated_bytes, of.bytes);
                cache.counters.add(.active_bytes, Pool.pageRound(of.bytes));
                cache.counters.add(.live_beside, 1);
            }
            return @floatFromInt(revived);
        }

        pub fn regionWrap(self: *Self, thread: u32, index: u32) Status {
            _ = thread;
            if (!self.table.known(index)) return .foreign;
            // Release: pairs with the acquire of who asks whether the region may serve others.
            _ = self.table.at(index).wraps.fetchAdd(1, .acq_rel, .wraps);
            return .ok;
        }

        pub fn regionUnwrap(self: *Self, thread: u32, index: u32) Status {
            _ = thread;
            if (!self.table.known(index)) return .foreign;
            _ = self.table.at(index).wraps.fetchSub(1, .acq_rel, .wraps);
            return .ok;
        }

        /// An alias ArrayBuffer is gone. Context: epoch of the region when it was made times 2^24,
        /// plus the region's index, plus one.
        pub fn regionDropped(self: *Self, context: usize) void {
            if (self.isForked() or context == 0) return;
            const index: u32 = @intCast((context - 1) & none);
            const made: u32 = @intCast((context - 1) >> 24 & regions.epoch_mask);
            if (!self.table.known(index)) return;
            const region = self.table.at(index);
            const epoch = region.epoch.load(.monotonic, .epoch);
            // Nobody can reach the newest wrap any more: whoever comes next makes one of its own.
            if (epoch == made)
                _ = region.epoch.cmpxchg(epoch, (epoch + 1) & regions.epoch_mask, .monotonic, .monotonic, .epoch);
            // Release: what was written through the buffer comes before. Acquire: see all the others.
            const left = region.wraps.fetchSub(1, .acq_rel, .wraps) - 1;
            const tenant = region.lease.load(.monotonic, .region_lease);
            const state = region.tenancy().state;
            if ((state != .held and state != .closing) or tenant == none) return;
            const seen = self.handles.peek(tenant);
            const payload = &self.handles.entry(tenant).payload;
            if (payload.region != index or !payload.flags.alias) return;
            switch (seen.phase) {
                // Freed while the program had given the buffer away: this was the last of them.
                .closing => if (left == 0) self.dropWrap(tenant),
                // Dropped without free: the buffer was the lease's own.
                .live => if (epoch == made) {
                    self.handles.addWrap(seen.handle) catch return;
                    self.dropWrap(tenant);
                },
                else => {},
            }
        }

        pub fn regionEpoch(self: *Self, index: u32) u32 {
            if (!self.table.known(index)) return 0;
            return self.table.at(index).epoch.load(.monotonic, .epoch);
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

        noinline fn leaseOf(self: *Self, handle: f64) error{ Freed, Foreign }!struct { index: u32, lease: *Lease, wraps: u32 } {
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

        pub fn resize(self: *Self, thread_index: u32, handle: f64, bytes: f64) Status {
            if (self.isForked()) return .forked;
            const thread = self.threadAt(thread_index) orelse return .foreign;
            const size = integer(bytes) orelse return .out_of_range;
            const found = self.leaseOf(handle) catch |err| return wrong(err);
            if (found.wraps != 0) return .busy;
            const old = found.lease;
            const pool = self.pools[old.pool].pool.load(.acquire, .pool).?;
            var failure: heap.Failure = .{};
            const fits = self.resizeInPlace(pool, thread_index, old, size, &failure) catch |err|
                return report(thread, err, failure, size);
            if (!fits and old.bytes != size and layered.slotFor(self, self.idOf(old.pool), size, plainWish(self, old)) != null) {
                return layered.move(self, thread_index, thread, old, size);
            }
            if (!fits) {
                const fresh = self.obtain(pool, thread_index, found.index, .{
                    .bytes = size,
                    .kind = switch (@as(u2, @truncate(old.pages_wish))) {
                        0 => null,
                        1 => .base,
                        2 => .thp,
                        3 => .hugetlb,
                    },
                    .lock = if (self.lockedNow(old)) .require else .none,
                    .alias = old.flags.alias,
                    .zero = old.flags.zero,
                }, &failure) catch |err| return report(thread, err, failure, size);
                const both = @min(size, old.bytes);
                if (both != 0) {
                    const to: [*]u8 = @ptrFromInt(fresh.address);
                    const from: [*]const u8 = @ptrFromInt(old.address);
                    ds.memory.copy(to[0..both], from[0..both]);
                }
                const before = old.*;
                old.* = fresh;
                old.pages_wish = before.pages_wish;
                self.release(thread_index, before, .live);
            }
            self.describeInto(thread, old);
            return .ok;
        }

        /// The number of the open pool in a slot, 0 if it is closed.
        fn idOf(self: *Self, slot: u16) u32 {
            return self.pools[slot].id.load(.monotonic, .pool_id);
        }

        /// What the lease was asked for, as far as a layer must know.
        fn plainWish(self: *Self, of: *const Lease) u32 {
            var options: u32 = @as(u32, of.pages_wish) << w.option_pages_shift;
            if (of.flags.alias) options |= w.option_alias;
            if (self.lockedNow(of)) options |= 1 << w.option_lock_shift;
            return options;
        }

        /// True if the memory that the lease has serves the new length too.
        fn resizeInPlace(
            self: *Self,
            pool: *Pool,
            thread: u32,
            of: *Lease,
            size: usize,
            failure: *heap.Failure,
        ) heap.Error!bool {
            if (of.bytes == 0 or size == 0) return of.bytes == size;
            if (of.flags.layered) return layered.resizeInPlace(self, thread, of, size);
            const before = of.bytes;
            const rounded = Pool.pageRound(size);
            const rounded_before = Pool.pageRound(before);
            if (of.pages != 0) {
                if (rounded > rounded_before or size >= region_bytes_min) return false;
                if (rounded < rounded_before) {
                    const keep: u16 = @intCast(rounded / Os.pageBytes());
                    Pool.Runs.shrink(pool, thread, of.run(), keep);
                    of.pages = keep;
                }
            } else {
                const region = self.table.at(of.region);
                if (rounded > region.bytes or size < region_bytes_min) return false;
                if (size != before and self.table.areas[region.area].published) return false;
                if (rounded > region.resident) try pool.charge(region, rounded, failure);
                if (region.locked != 0) try pool.fitLock(region, rounded, .require, failure);
                region.lease_bytes.store(size, .monotonic, .lease_bytes);
            }
            const base: [*]u8 = @ptrFromInt(of.address);
            if (size > before and of.flags.zero) ds.memory.zero(base[before..size]);
            if (of.pages == 0) {
                const region = self.table.at(of.region);
                region.dirty = @max(region.dirty, rounded);
            }
            of.bytes = size;
            if (of.pages != 0) if (pool.cacheOf(thread)) |cache| {
                cache.counters.add(.allocated_bytes, @as(u64, size) -% before);
                cache.counters.add(.active_bytes, @as(u64, rounded) -% rounded_before);
            };
            return true;
        }

        pub fn transfer(self: *Self, thread_index: u32, handle: f64, held: u32) f64 {
            if (self.isForked()) return status(.forked);
            if (self.threadAt(thread_index) == null) return status(.foreign);
            const found = self.leaseOf(handle) catch |err| return status(wrong(err));
            if (found.lease.flags.alias) return status(.unsupported);
            // Marked first: when the sender ends while the token is being adopted, its sweep must not
            // take the adopter's lease for its own.
            const owner = &self.handles.entry(found.index).owner;
            const word = owner.load(.monotonic, .owner);
            owner.store(word | owner_token, .monotonic, .owner);
            const token = self.handles.toToken(handleFrom(handle).?, held) catch |err| {
                owner.store(word, .monotonic, .owner);
                return status(switch (err) {
                    error.Busy => .busy,
                    error.Exhausted => .limit,
                    error.Freed => .freed,
                    error.Foreign => .foreign,
                });
            };
            if (held != 0) self.threads[thread_index].block[w.held] = 0;
            _ = self.pending_tokens.fetchAdd(1, .monotonic, .count);
            return @floatFromInt(token);
        }

        /// `resize` of a lease of that pool under a new handle; the old one is freed. A failure leaves
        /// the lease as it was.
        pub fn realloc(self: *Self, thread_index: u32, pool_id: u32, handle: f64, bytes: f64) f64 {
            const pool = self.poolOf(pool_id) orelse return status(.closed);
            const found = self.leaseOf(handle) catch |err| return status(wrong(err));
            if (found.lease.pool != pool.slot) return status(.foreign);
            const resized = self.resize(thread_index, handle, bytes);
            if (resized != .ok) return status(resized);
            const renumbered = self.handles.toToken(handleFrom(handle).?, 0) catch |err| return status(switch (err) {
                error.Busy => .busy,
                error.Exhausted => .limit,
                error.Freed => .freed,
                error.Foreign => .foreign,
            });
            return @floatFromInt(self.handles.adopt(renumbered) catch |err| return status(wrong(err)));
        }

        pub fn adopt(self: *Self, thread_index: u32, token: f64) f64 {
            if (self.isForked()) return status(.forked);
            const thread = self.threadAt(thread_index) orelse return status(.foreign);
            const number = handleFrom(token) orelse return status(.foreign);
            const handle = self.handles.adopt(number) catch |err| return status(wrong(err));
            _ = self.pending_tokens.fetchSub(1, .monotonic, .count);
            const entry = self.handles.entry(Handles.indexOf(handle));
            entry.owner.store(self.ownerWord(thread_index), .monotonic, .owner);
            self.describeInto(thread, &entry.payload);
            return @floatFromInt(handle);
        }

        pub fn lock(self: *Self, thread_index: u32, handle: f64) Status {
            const thread = self.threadAt(thread_index) orelse return .foreign;
            const found = self.leaseOf(handle) catch |err| return wrong(err);
            const of = found.lease;
            if (of.bytes == 0) return .ok;
            const pool = self.pools[of.pool].pool.load(.acquire, .pool).?;
            if (of.flags.layered) return .unsupported;
            var failure: heap.Failure = .{};
            const result = if (of.pages == 0)
                pool.fitLock(self.table.at(of.region), Pool.pageRound(of.bytes), .require, &failure)
            else result: {
                if (self.lockedNow(of)) break :result {};
                of.flags.lock = true;
                break :result Pool.Runs.lockPages(pool, Pool.Runs.blockOfRun(pool, of.run()), of.run(), &failure);
            };
            result catch |err| return report(thread, err, failure, of.bytes);
            self.describeInto(thread, of);
            return .ok;
        }

        pub fn unlock(self: *Self, thread_index: u32, handle: f64) Status {
            const thread = self.threadAt(thread_index) orelse return .foreign;
            const found = self.leaseOf(handle) catch |err| return wrong(err);
            const of = found.lease;
            if (of.bytes == 0 or of.flags.layered) return .ok;
            const pool = self.pools[of.pool].pool.load(.acquire, .pool).?;
            var failure: heap.Failure = .{};
            if (of.pages == 0)
                pool.fitLock(self.table.at(of.region), 0, .none, &failure) catch {}
            else if (self.lockedNow(of))
                Pool.Runs.unlockPages(pool, Pool.Runs.blockOfRun(pool, of.run()), of.run());
            self.describeInto(thread, of);
            return .ok;
        }

        const Span = struct { ptr: [*]u8, bytes: usize };

        /// Checks a range of a lease and rounds it to pages, outward or inward.
        noinline fn span(of: *const Lease, offset: f64, bytes: f64, outward: bool) ?Span {
            const from = integer(offset) orelse return null;
            const count = integer(bytes) orelse return null;
            if (from > of.bytes or count > of.bytes - from) return null;
            const page = Os.pageBytes();
            const begin = of.address + from;
            const end = begin + count;
            // Unless it is an object among others, the lease owns its last page whole.
            const whole = outward or (from + count == of.bytes and !of.flags.layered);
            const first = if (outward) std.mem.alignBackward(usize, begin, page) else std.mem.alignForward(usize, begin, page);
            const last = if (whole) std.mem.alignForward(usize, end, page) else std.mem.alignBackward(usize, end, page);
            return .{ .ptr = @ptrFromInt(first), .bytes = if (count == 0) 0 else last -| first };
        }

        pub fn prefetch(self: *Self, thread_index: u32, handle: f64, offset: f64, bytes: f64) Status {
            const thread = self.threadAt(thread_index) orelse return .foreign;
            const found = self.leaseOf(handle) catch |err| return wrong(err);
            const range = span(found.lease, offset, bytes, true) orelse return outOfRange(thread, found.lease, offset, bytes);
            if (range.bytes == 0) return .ok;
            const pool = self.pools[found.lease.pool].pool.load(.acquire, .pool).?;
            return systemStatus(thread, pool.tryAdvise(range.ptr, range.bytes, .will_need), range.bytes);
        }

        /// Descriptor of the file that is exactly the lease, or a Status below zero. The lease keeps its
        /// place and length from now on, and its region has no other tenant after it.
        pub fn file(self: *Self, thread_index: u32, handle: f64) i32 {
            const thread = self.threadAt(thread_index) orelse return @intFromEnum(Status.foreign);
            const found = self.leaseOf(handle) catch |err| return @intFromEnum(wrong(err));
            const of = found.lease;
            // A later tenant of an alias region could be seen by views of this one, and a run of pages
            // shares its region with others.
            if (of.bytes == 0 or of.pages != 0 or of.flags.alias) return @intFromEnum(Status.unsupported);
            const area = &self.table.areas[self.table.at(of.region).area];
            if (area.file < 0) return @intFromEnum(Status.unsupported);
            if (!area.published) {
                const errno = Os.publishShared(area.file, of.bytes);
                if (errno != 0) {
                    thread.block[w.errno] = @floatFromInt(errno);
                    thread.block[w.system_call] = @floatFromInt(@intFromEnum(os.SystemCall.memfd_create));
                    thread.block[w.requested] = @floatFromInt(of.bytes);
                    return @intFromEnum(Status.system);
                }
                area.published = true;
            }
            return area.file;
        }

        pub fn purge(self: *Self, thread_index: u32, handle: f64, offset: f64, bytes: f64, lazy: u32) Status {
            const thread = self.threadAt(thread_index) orelse return .foreign;
            const found = self.leaseOf(handle) catch |err| return wrong(err);
            const of = found.lease;
            const range = span(of, offset, bytes, false) orelse return outOfRange(thread, of, offset, bytes);
            if (of.flags.layered and lazy == 0) zeroEdges(of.address + wholeOf(offset), wholeOf(bytes), range);
            if (range.bytes == 0) return .ok;
            if (self.lockedNow(of)) return .busy;
            // A later touch of an explicit huge page that was given back could be a SIGBUS.
            if (self.isHugetlb(of)) return .unsupported;
            const pool = self.pools[of.pool].pool.load(.acquire, .pool).?;
            const advice: os.Advice = if (lazy != 0 and Os.works(.lazy_free)) .lazy_free else .dont_need;
            return systemStatus(thread, pool.tryAdvise(range.ptr, range.bytes, advice), range.bytes);
        }

        /// The lease lies on explicit huge pages. Not every layer lies in regions.
        fn isHugetlb(self: *Self, of: *const Lease) bool {
            const index = if (of.flags.layered) self.table.find(of.address) else of.region;
            return index != none and self.table.at(index).flavor.kind == .hugetlb;
        }

        /// An object shares its first and last page with others: there the contents are zeroed by hand.
        noinline fn zeroEdges(address: usize, bytes: usize, pages: Span) void {
            const first: [*]u8 = @ptrFromInt(address);
            if (pages.bytes == 0) return ds.memory.zero(first[0..bytes]);
            const head = @intFromPtr(pages.ptr) - address;
            ds.memory.zero(first[0..head]);
            ds.memory.zero(first[head + pages.bytes .. bytes]);
        }

        fn outOfRange(thread: *Thread, of: *const Lease, offset: f64, bytes: f64) Status {
            thread.block[w.requested] = offset + bytes;
            thread.block[w.bound] = @floatFromInt(of.bytes);
            return .out_of_range;
        }

        fn systemStatus(thread: *Thread, errno: u16, bytes: usize) Status {
            if (errno == 0) return .ok;
            thread.block[w.errno] = @floatFromInt(errno);
            thread.block[w.system_call] = @floatFromInt(@intFromEnum(os.SystemCall.madvise));
            thread.block[w.requested] = @floatFromInt(bytes);
            return .system;
        }

        pub fn pageKind(self: *Self, thread: u32, handle: f64) i32 {
            _ = thread;
            const found = self.leaseOf(handle) catch |err| return @intFromEnum(wrong(err));
            const of = found.lease;
            const base = @intFromEnum(types.Pages.base);
            if (of.bytes == 0) return base;
            const pages = span(of, 0, @floatFromInt(of.bytes), true).?;
            const resident = Os.residentBytes(pages.ptr, pages.bytes);
            if (resident == 0) return base;
            const huge = Os.hugeBytes(pages.ptr, pages.bytes);
            if (@as(f64, @floatFromInt(huge)) < 0.9 * @as(f64, @floatFromInt(resident))) return base;
            const explicit = self.isHugetlb(of);
            return @intCast(@intFromEnum(if (explicit) types.Pages.hugetlb else types.Pages.thp));
        }

        // ---- pools

        pub noinline fn poolOf(self: *Self, id: u32) ?*Pool {
            const slot = &self.pools[id & (pools_max - 1)];
            if (id == 0 or slot.id.load(.monotonic, .pool_id) != id) return null;
            return slot.pool.load(.acquire, .pool);
        }

        pub fn poolCreate(self: *Self, thread: u32, options: *const types.PoolOptions) f64 {
            _ = thread;
            if (self.isForked()) return status(.forked);
            if (!self.ensureReady()) return status(.out_of_memory);
            var merged: heap.Options = .{};
            if (!figures.merge(&merged, options)) return status(.invalid_argument);
            self.reap();
            for (self.pools[slots_fixed..], slots_fixed..) |*slot, i| {
                if (slot.taken.cmpxchg(0, 1, .acquire, .monotonic, .pool_take) != null) continue;
                return self.openPool(slot, @intCast(i), merged);
            }
            return status(.limit);
        }

        pub fn globalCreate(self: *Self, options: *const types.GlobalOptions) f64 {
            const pool = limited(options.limit_bytes) orelse return status(.invalid_argument);
            const region_bytes = integer(options.region_bytes) orelse return status(.invalid_argument);
            return layered.createOver(self, .global, 0, pool, .{ .region_bytes = region_bytes });
        }

        pub fn globalPages(self: *Self, thread: u32, id: u32, count: f64, align_log2: u32, low: bool) f64 {
            return layered.globalPages(self, thread, id, integer(count) orelse return status(.out_of_range), align_log2, low);
        }

        pub fn globalAddRegion(self: *Self, thread: u32, id: u32, bytes: f64, low: bool) Status {
            return layered.globalAddRegion(self, thread, id, integer(bytes) orelse return .out_of_range, low);
        }

        pub fn globalSection(self: *Self, id: u32, index: u32, out: *types.SectionStats) Status {
            if (self.isForked()) return .forked;
            return layered.globalSection(self, id, index, out);
        }

        pub fn globalStats(self: *Self, id: u32, out: *types.GlobalStats) Status {
            if (self.isForked()) return .forked;
            return layered.ownStats(self, .global, id, out);
        }

        pub fn globalResetPeak(self: *Self, id: u32) Status {
            if (self.isForked()) return .forked;
            return layered.globalResetPeak(self, id);
        }

        pub fn reclaimingCreate(self: *Self, options: *const types.ReclaimingOptions) f64 {
            const pool = limited(options.limit_bytes) orelse return status(.invalid_argument);
            const slot_bytes_max = integer(options.slot_bytes_max) orelse return status(.invalid_argument);
            const every_ms = integer(options.reclaim_every_ms) orelse return status(.invalid_argument);
            const slack_bytes = integer(options.slack_bytes_min) orelse return status(.invalid_argument);
            if (slot_bytes_max != 0 and slot_bytes_max != 4096 and slot_bytes_max != 2 << 20) return status(.invalid_argument);
            if (every_ms > std.math.maxInt(u32)) return status(.invalid_argument);
            if (options.backend != 0 and self.poolOf(options.backend) == null) return status(.closed);
            return layered.createOver(self, .reclaiming, options.backend, pool, .{
                .slot_bytes_max = if (slot_bytes_max == 0) 4096 else slot_bytes_max,
                .reclaim_every_ms = @intCast(every_ms),
                .min_slack_bytes = slack_bytes,
                .under_pressure = options.pressure != 0,
            });
        }

        pub fn reclaimingReclaim(self: *Self, id: u32) f64 {
            if (self.isForked()) return status(.forked);
            return layered.reclaim(self, id);
        }

        pub fn reclaimingStats(self: *Self, id: u32, out: *types.ReclaimingStats) Status {
            if (self.isForked()) return .forked;
            return layered.ownStats(self, .reclaiming, id, out);
        }

        pub fn reclaimingClassStats(self: *Self, id: u32, index: u32, out: *types.ReclaimingClassStats) Status {
            if (self.isForked()) return .forked;
            return layered.reclaimingClassStats(self, id, index, out);
        }

        pub fn smallCreate(self: *Self, options: *const types.SmallOptions) f64 {
            const limit_bytes = integer(options.limit_bytes) orelse return status(.invalid_argument);
            return layered.createOver(self, .small, 0, .{}, .{ .limit_bytes = limit_bytes });
        }

        pub fn smallStats(self: *Self, id: u32, out: *types.SmallStats) Status {
            if (self.isForked()) return .forked;
            return layered.ownStats(self, .small, id, out);
        }

        pub fn smallResetTrip(self: *Self, id: u32) Status {
            if (self.isForked()) return .forked;
            return layered.resetTrip(self, id);
        }

        /// The options of a pool under a layer; null if the bound is no number of bytes.
        fn limited(limit_bytes: f64) ?heap.Options {
            if (limit_bytes <= 0) return .{};
            return .{ .limit_bytes = integer(limit_bytes) orelse return null };
        }

        fn openPool(self: *Self, slot: *PoolSlot, index: u16, options: heap.Options) f64 {
            if (self.preparePool(slot, index, options) == null) return status(.out_of_memory);
            return self.publishSlot(slot, index);
        }

        /// The pool of a slot that the caller has taken. Null: no memory, and the slot is free again.
        pub fn preparePool(self: *Self, slot: *PoolSlot, index: u16, options: heap.Options) ?*Pool {
            slot.setLayer(.none, null);
            if (slot.pool.load(.acquire, .pool)) |pool| {
                pool.reopen(options);
                return pool;
            }
            const memory = self.table.metadata(@sizeOf(Pool)) orelse {
                slot.taken.store(0, .release, .pool_take);
                return null;
            };
            const pool: *Pool = @ptrCast(@alignCast(memory));
            pool.* = .init(&self.table, index, &self.sleeper, options);
            slot.pool.store(pool, .release, .pool);
            return pool;
        }

        /// Opens a prepared slot; answers its number.
        pub fn publishSlot(self: *Self, slot: *PoolSlot, index: u16) f64 {
            slot.generation = (slot.generation + 1) & 0x7FFFFF;
            if (slot.generation == 0) slot.generation = 1;
            const id = slot.generation * pools_max + index;
            slot.closed_ns.store(0, .monotonic, .pool_closed);
            // Release: pairs with the loads of the number: pool and layer are seen whole.
            slot.id.store(id, .release, .pool_id);
            self.clock.ensure(self);
            return @floatFromInt(id);
        }

        pub fn poolShared(self: *Self) u32 {
            return self.sharedSlot(0);
        }

        /// The number of the global allocator that the process shares; made at first use.
        pub fn globalShared(self: *Self) u32 {
            return self.sharedSlot(1);
        }

        fn sharedSlot(self: *Self, comptime index: u16) u32 {
            const slot = &self.pools[index];
            const id = slot.id.load(.acquire, .pool_id);
            if (id != 0) return id;
            if (!self.ensureReady()) return 0;
            if (slot.taken.cmpxchg(0, 1, .acquire, .monotonic, .pool_take) == null)
                _ = if (index == 0) self.openPool(slot, 0, .{}) else layered.open(self, .global, slot, 1, 0, .{}, .{});
            var seen = slot.id.load(.acquire, .pool_id);
            while (seen == 0 and slot.taken.load(.monotonic, .pool_take) == 1) : (seen = slot.id.load(.acquire, .pool_id)) Sync.pause();
            return seen;
        }

        pub fn poolConfigure(self: *Self, thread: u32, id: u32, options: *const types.PoolOptions) Status {
            if (self.isForked()) return .forked;
            _ = thread;
            const pool = self.poolOf(id) orelse return .closed;
            var merged = pool.options;
            if (!figures.merge(&merged, options)) return .invalid_argument;
            pool.configure(merged);
            self.forgetCaches(pool);
            self.clock.ensure(self);
            self.clock.wake(self);
            return .ok;
        }

        pub fn poolOptions(self: *Self, id: u32, out: *types.PoolOptions) Status {
            if (self.isForked()) return .forked;
            const pool = self.poolOf(id) orelse return .closed;
            figures.optionsOf(&pool.options, out);
            return .ok;
        }

        pub fn poolStats(self: *Self, id: u32, out: *types.PoolStats) Status {
            if (self.isForked()) return .forked;
            const pool = self.poolOf(id) orelse return .closed;
            figures.poolStats(Pool, pool, out);
            return .ok;
        }

        pub fn poolClassStats(self: *Self, id: u32, out: *[heap.classes]types.ClassStats) Status {
            if (self.isForked()) return .forked;
            const pool = self.poolOf(id) orelse return .closed;
            figures.classStats(Pool, pool, out);
            return .ok;
        }

        pub fn poolTrim(self: *Self, thread: u32, id: u32) f64 {
            if (self.isForked()) return status(.forked);
            const pool = self.poolOf(id) orelse return status(.closed);
            const own = if (self.isAttached(thread)) self.pools[pool.slot].layer().trimOwn(thread) else 0;
            return @floatFromInt(own + Pool.Purge.trim(pool));
        }

        pub fn poolClose(self: *Self, thread: u32, id: u32, force: u32) f64 {
            if (self.isForked()) return status(.forked);
            const pool = self.poolOf(id) orelse return status(.closed);
            const slot = &self.pools[id & (pools_max - 1)];
            const open = layered.openDependents(self, pool.slot);
            // What closed dependents still hold goes with them.
            const waits = slot.dependents.load(.monotonic, .dependents) != 0;
            const objects = if (waits) 0 else layered.liveObjects(self, slot) -| self.parkedObjects(pool.slot);
            const live = @max(pool.live() + open, objects);
            if (open != 0) return @floatFromInt(live);
            if (live != 0 and force == 0) return @floatFromInt(live);
            // One closer wins; from here on allocation answers CLOSED.
            if (slot.id.cmpxchg(id, 0, .acq_rel, .monotonic, .pool_id) != null) return status(.closed);
            // Pairs with the light fence in `rememberCache`.
            Sync.heavyFence();
            self.forgetCaches(pool);
            if (live != 0) self.revokeAll(thread, pool.slot);
            self.reap();
            return 0;
        }

        /// Objects of a layer that are kept for a lease to come, or shown by an ArrayBuffer after it.
        fn parkedObjects(self: *Self, pool_slot: u16) u64 {
            if (self.pools[pool_slot].layer_kind == .none) return 0;
            var sum: u64 = 0;
            var index: u32 = 1;
            while (index < self.handles.end()) : (index += 1) {
                const of = &self.handles.entry(index).payload;
                if (of.pool != pool_slot or !of.flags.layered) continue;
                if (self.handles.peek(index).phase == .closing) sum += 1;
            }
            return sum;
        }

        fn revokeAll(self: *Self, thread: u32, pool_slot: u16) void {
            var index: u32 = 1;
            while (index < self.handles.end()) : (index += 1) {
                const seen = self.handles.peek(index);
                const of = &self.handles.entry(index).payload;
                if (of.pool != pool_slot or of.bytes == 0) continue;
                switch (seen.phase) {
                    .live => switch (self.handles.beginFree(seen.handle) catch continue) {
                        .finished => self.finish(thread, index, .live),
                        .closing => self.beginClosing(thread, index),
                    },
                    .token => {
                        self.handles.endToken(seen.handle) catch continue;
                        _ = self.pending_tokens.fetchSub(1, .monotonic, .count);
                        self.finish(thread, index, .token);
                    },
                    else => {},
                }
            }
        }

        /// Frees the slots of closed pools that nothing shows any more.
        pub fn reap(self: *Self) void {
            for (&self.pools) |*slot| {
                if (slot.taken.load(.monotonic, .pool_take) == 0 or slot.id.load(.acquire, .pool_id) != 0) continue;
                const pool = slot.pool.load(.acquire, .pool) orelse continue;
                if (slot.dependents.load(.acquire, .dependents) != 0) continue;
                if (slot.layer_kind != .none and !self.closeLayer(slot, pool)) continue;
                _ = Pool.Purge.trim(pool);
                if (pool.mapped_bytes.load(.monotonic, .count) != 0) continue;
                if (pool.live() != 0 or pool.total(.closing) != 0) continue;
                slot.taken.store(0, .release, .pool_take);
            }
        }

        /// Takes the layer of a closed slot down once nothing of it is leased. Another thread may still be
        /// inside a call that began before the close; it is given two looks of the background's time.
        fn closeLayer(self: *Self, slot: *PoolSlot, pool: *Pool) bool {
            if (pool.live() != 0 or pool.total(.closing) != 0) return false;
            if (self.threads_attached.load(.monotonic, .threads) > 1) {
                const now = Os.nowNs();
                const seen = slot.closed_ns.load(.monotonic, .pool_closed);
                if (seen == 0) slot.closed_ns.store(now, .monotonic, .pool_closed);
                if (seen == 0 or now -| seen < closing_ns) return false;
            }
            self.layers.acquire();
            defer self.layers.release();
            if (slot.layer_kind != .none) layered.close(self, slot);
            return true;
        }

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

        fn wrong(err: error{ Freed, Foreign }) Status {
            return switch (err) {
                error.Freed => .freed,
                error.Foreign => .foreign,
            };
        }

        /// A whole number of bytes from an f64, null if it is none. Not inline, as others off the hot paths:
        /// the library is to be small.
        noinline fn integer(value: f64) ?usize {
            if (!(value >= 0 and value < f64_exact)) return null;
            const whole: usize = @intFromFloat(value);
            return if (@as(f64, @floatFromInt(whole)) == value) whole else null;
        }

        /// As `integer`, 0 if it is none.
        inline fn wholeOf(value: f64) u64 {
            if (!(value >= 0 and value < f64_exact)) return 0;
            const whole: i64 = @intFromFloat(value);
            return if (@as(f64, @floatFromInt(whole)) == value) @intCast(whole) else 0;
        }

        /// Of a number below 2^53, without the longer way for unsigned ones.
        inline fn floatOf(value: u64) f64 {
            return @floatFromInt(@as(i64, @bitCast(value)));
        }

        noinline fn handleFrom(value: f64) ?Handles.Handle {
            return @intCast(integer(value) orelse return null);
        }
    };
}
