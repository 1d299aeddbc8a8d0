//! Leases of a slot whose pool has a layer: where the engine's operations on them differ from those on
//! regions and page runs. See layer.zig for what a layer is.
//!
//! Invariant: a lease marked `layered` has no region and no pages; its address is the layer's object,
//! which goes back by `Layer.free` once, after the handle table has named the winner of the lease's end.
//!
//! Cost: an allocation is a claim of an index, the layer's alloc and the object's usable size; a free
//! the same. Threads: any attached thread; a deallocator on any thread frees as a remote.

const std = @import("std");
const ds = @import("../ds/ds.zig");
const os = @import("../os/os.zig");
const regions = @import("../region/region.zig");
const heap = @import("../heap/heap.zig");
const types = @import("types.zig");
const w = @import("block.zig");
const Kind = @import("layer.zig").Kind;

const Status = types.Status;
const none = regions.none;
const minus_one: u64 = std.math.maxInt(u64);
const align_default = 16;

/// Sections that a program may add to one global allocator.
pub const added_max = 8;

pub const Added = struct { ptr: ?[*]u8 = null, bytes: usize = 0, low: usize = 0 };

pub fn Layered(comptime E: type) type {
    const Pool = E.Pool;
    const Slot = E.PoolSlot;
    const Lease = E.LeaseRecord;
    const L = E.Layer;
    return struct {
        /// What a request must not ask for if the layer is to serve it.
        const special: u32 = w.option_alias | w.option_prefault | 3 << w.option_pages_shift | 3 << w.option_lock_shift;

        /// The slot of that number if its layer serves the request.
        pub inline fn slotFor(self: *E, id: u32, bytes: usize, options: u32) ?*Slot {
            const slot = &self.pools[id & (E.pools_count - 1)];
            if (slot.id.load(.monotonic, .pool_id) != id or bytes == 0) return null;
            const most = slot.layer().bytesMax();
            if (bytes > most or options & special != 0) return null;
            if (@as(usize, 1) << @intCast(options >> w.option_align_shift & 31) > most) return null;
            return slot;
        }

        pub fn alloc(self: *E, thread_index: u32, slot: *Slot, size: usize, options: u32) f64 {
            const thread = self.threadAt(thread_index) orelse
                return E.status(if (self.isForked()) .forked else .foreign);
            const pool = slot.pool.load(.acquire, .pool).?;
            if (!pool.options.enabled) return E.status(.disabled);
            const log2 = options >> w.option_align_shift & 31;
            if (log2 > 30) return E.status(.out_of_range);
            const index = self.handles.claim(&thread.handles) orelse {
                thread.block[w.bound] = E.handles_count;
                return E.status(.limit);
            };
            const alignment: usize = if (log2 == 0) align_default else @as(usize, 1) << @intCast(log2);
            const ptr = slot.layer().alloc(thread_index, size, alignment) orelse {
                @branchHint(.cold);
                self.handles.recycle(&thread.handles, index);
                return E.status(refusal(self, pool, thread_index, thread, size));
            };
            return publish(self, thread_index, thread, slot, pool, index, ptr, size, options);
        }

        /// Makes `ptr` the memory of the claimed lease.
        pub fn publish(
            self: *E,
            thread_index: u32,
            thread: *E.Thread,
            slot: *Slot,
            pool: *Pool,
            index: u32,
            ptr: [*]u8,
            size: usize,
            options: u32,
        ) f64 {
            if (options & w.option_zero != 0) ds.memory.zero(ptr[0..size]);
            const entry = self.handles.entry(index);
            entry.payload = .{
                .address = @intFromPtr(ptr),
                .bytes = size,
                .region = none,
                .page = 0,
                .pages = 0,
                .pool = pool.slot,
                .flags = .{ .alias = false, .zero = options & w.option_zero != 0, .lock = false, .layered = true },
                .pages_wish = 0,
            };
            entry.owner.store(thread.owner_word.load(.monotonic, .thread_epoch), .monotonic, .owner);
            const usable = slot.layer().usableSize(ptr) orelse size;
            count(pool.cacheOf(thread_index), pool, size, usable, 1);
            describeObject(thread, &entry.payload, usable);
            return @floatFromInt(self.handles.publish(index));
        }

        /// Why the layer got no memory: the pool is asked for as much as a layer asks at least.
        pub fn refusal(self: *E, pool: *Pool, thread_index: u32, thread: *E.Thread, size: usize) Status {
            switch (self.pools[pool.slot].layer()) {
                .small => |small| {
                    const now = small.figures();
                    clearFailure(thread, size);
                    thread.block[w.bound] = now.limit_bytes;
                    thread.block[w.current] = now.in_use;
                    return .limit;
                },
                else => {},
            }
            var failure: heap.Failure = .{};
            const index = pool.take(thread_index, .{ .bytes = 2 * regions.unit_bytes + size }, &failure) catch |err| {
                failure.requested = size;
                return E.report(thread, err, failure, size);
            };
            pool.give(thread_index, index);
            clearFailure(thread, size);
            // The layer asked for more than that at once.
            const limit_bytes = pool.options.limit_bytes orelse return .out_of_memory;
            thread.block[w.bound] = @floatFromInt(limit_bytes);
            thread.block[w.current] = @floatFromInt(pool.charged.load(.monotonic, .charge));
            return .limit;
        }

        noinline fn count(cache: ?*Pool.Cache, pool: *Pool, bytes: usize, usable: usize, comptime sign: i2) void {
            const b: u64 = if (sign > 0) bytes else 0 -% @as(u64, bytes);
            const u: u64 = if (sign > 0) usable else 0 -% @as(u64, usable);
            pool.addTotal(cache, .allocated_bytes, b);
            pool.addTotal(cache, .active_bytes, u);
            pool.addTotal(cache, .live_beside, if (sign > 0) 1 else minus_one);
        }

        /// Takes a lease out of the live figures (`-1`), or back in.
        pub noinline fn recount(self: *E, thread: ?u32, of: *const Lease, comptime sign: i2) void {
            const slot = &self.pools[of.pool];
            const pool = slot.pool.load(.acquire, .pool).?;
            const usable = slot.layer().usableSize(@ptrFromInt(of.address)) orelse of.bytes;
            count(if (thread) |t| pool.cacheOf(t) else null, pool, of.bytes, usable, sign);
        }

        pub fn describe(self: *E, thread: *E.Thread, of: *const Lease) void {
            const usable = self.pools[of.pool].layer().usableSize(@ptrFromInt(of.address)) orelse of.bytes;
            describeObject(thread, of, usable);
        }

        noinline fn describeObject(thread: *E.Thread, of: *const Lease, usable: usize) void {
            const block = &thread.block;
            block[w.address] = @floatFromInt(of.address);
            block[w.byte_length] = @floatFromInt(of.bytes);
            block[w.capacity] = @floatFromInt(usable);
            block[w.region] = none;
            block[w.flags] = 0;
        }

        /// The object of a lease that is over goes back. It is out of the live figures unless `counted`.
        pub fn release(self: *E, thread: ?u32, of: *const Lease, counted: bool) void {
            const slot = &self.pools[of.pool];
            const usable = slot.layer().usableSize(@ptrFromInt(of.address)) orelse of.bytes;
            // The handle table has named one winner: a refusal here would be a damaged slab, which the
            // layer counts.
            slot.layer().free(thread, @ptrFromInt(of.address)) catch {};
            // Counted afterwards: a closer who finds nothing live finds nobody inside.
            const pool = slot.pool.load(.acquire, .pool).?;
            if (counted) count(if (thread) |t| pool.cacheOf(t) else null, pool, of.bytes, usable, -1);
            wakeToAge(self, slot);
        }

        /// The background sleeps once nothing ages; whoever makes something age wakes it.
        pub inline fn wakeToAge(self: *E, slot: *Slot) void {
            if (self.sleeper.asleep.load(.monotonic, .sleeper_look) == 0) return;
            if (slot.layer().ages()) self.sleeper.wake();
        }

        pub fn resizeInPlace(self: *E, thread: u32, of: *Lease, size: usize) bool {
            const slot = &self.pools[of.pool];
            const ptr: [*]u8 = @ptrFromInt(of.address);
            if (size == 0) return false;
            recount(self, thread, of, -1);
            defer recount(self, thread, of, 1);
            if (!slot.layer().resizeInPlace(thread, ptr, size)) return false;
            if (size > of.bytes and of.flags.zero) ds.memory.zero(ptr[of.bytes..size]);
            of.bytes = size;
            return true;
        }

        /// Moves a lease of any kind into an object of its slot's layer.
        pub fn move(self: *E, thread_index: u32, thread: *E.Thread, of: *Lease, size: usize) Status {
            const slot = &self.pools[of.pool];
            const pool = slot.pool.load(.acquire, .pool).?;
            const ptr = slot.layer().alloc(thread_index, size, align_default) orelse return refusal(self, pool, thread_index, thread, size);
            const both = @min(size, of.bytes);
            if (both != 0) ds.memory.copy(ptr[0..both], @as([*]const u8, @ptrFromInt(of.address))[0..both]);
            if (of.flags.zero and size > both) ds.memory.zero(ptr[both..size]);
            const before = of.*;
            of.address = @intFromPtr(ptr);
            of.bytes = size;
            of.region = none;
            of.page = 0;
            of.pages = 0;
            of.flags.layered = true;
            recount(self, thread_index, of, 1);
            self.releaseMoved(thread_index, before);
            describe(self, thread, of);
            return .ok;
        }

        // ---- slots

        /// Makes a pool with a layer over it, whose memory comes from the pool of number `backend`, or for
        /// 0 from its own. Answers its number or a Status.
        pub fn createOver(
            self: *E,
            comptime kind: Kind,
            backend: u32,
            options: heap.Options,
            layer_options: L.Of(kind).Options,
        ) f64 {
            if (self.isForked()) return E.status(.forked);
            if (!self.ensureReady()) return E.status(.out_of_memory);
            self.reap();
            for (self.pools[E.slots_fixed..], E.slots_fixed..) |*slot, i| {
                if (slot.taken.cmpxchg(0, 1, .acquire, .monotonic, .pool_take) != null) continue;
                return open(self, kind, slot, @intCast(i), backend, options, layer_options);
            }
            return E.status(.limit);
        }

        /// The caller has taken the slot.
        pub fn open(
            self: *E,
            comptime kind: Kind,
            slot: *Slot,
            index: u16,
            backend: u32,
            options: heap.Options,
            layer_options: L.Of(kind).Options,
        ) f64 {
            const T = L.Of(kind);
            const pool = self.preparePool(slot, index, options) orelse return E.status(.out_of_memory);
            const place = &slot.layer_memory[@intFromEnum(kind) - 1];
            const bytes = std.mem.alignForward(usize, @sizeOf(T), E.System.pageBytes());
            if (place.*) |old| {
                // Zeros again; who still has the old number finds an empty layer.
                if (E.System.advise(old, bytes, .dont_need) != 0) ds.memory.zero(old[0..@sizeOf(T)]);
            } else place.* = self.table.metadata(@sizeOf(T)) orelse {
                slot.taken.store(0, .release, .pool_take);
                return E.status(.out_of_memory);
            };
            const layer: *T = @ptrCast(@alignCast(place.*.?));
            const memory = backendOf(self, backend) orelse heap.PoolBackend(Pool).of(pool);
            slot.backend = if (backend == 0) 0 else (backend & (E.pools_count - 1)) + 1;
            if (!layer.init(memory, layer_options)) {
                slot.taken.store(0, .release, .pool_take);
                return E.status(.out_of_memory);
            }
            slot.setLayer(kind, layer);
            if (slot.backend != 0) _ = self.pools[slot.backend - 1].dependents.fetchAdd(1, .monotonic, .dependents);
            return self.publishSlot(slot, index);
        }

        /// Open slots whose layer divides memory of this one.
        pub fn openDependents(self: *E, index: u16) u64 {
            if (self.pools[index].dependents.load(.monotonic, .dependents) == 0) return 0;
            var sum: u64 = 0;
            for (&self.pools) |*slot| {
                if (slot.backend == @as(u32, index) + 1 and slot.id.load(.acquire, .pool_id) != 0) sum += 1;
            }
            return sum;
        }

        pub fn liveObjects(self: *E, slot: *Slot) u64 {
            if (slot.layer_kind == .none) return 0;
            self.layers.acquire();
            defer self.layers.release();
            return slot.layer().liveObjects();
        }

        /// Ticks the layer of a slot if it is open. True while something of it ages.
        pub fn tick(self: *E, slot: *Slot) bool {
            self.layers.acquire();
            defer self.layers.release();
            if (slot.id.load(.acquire, .pool_id) == 0) return false;
            slot.layer().tick();
            return slot.layer().ages();
        }

        pub fn ages(self: *E, slot: *Slot) bool {
            if (slot.layer_kind == .none) return false;
            self.layers.acquire();
            defer self.layers.release();
            return slot.id.load(.acquire, .pool_id) != 0 and slot.layer().ages();
        }

        /// The layer of a closed slot of which nothing is leased goes: its regions to the pool.
        pub fn close(self: *E, slot: *Slot) void {
            const layer = slot.layer();
            slot.setLayer(.none, null);
            layer.deinit();
            // Release: pairs with the acquire of who takes the backend down.
            if (slot.backend != 0) _ = self.pools[slot.backend - 1].dependents.fetchSub(1, .release, .dependents);
            slot.backend = 0;
            for (&slot.added) |*added| {
                if (added.ptr) |ptr| giveAdded(self, slot.pool.load(.acquire, .pool).?, ptr, added.*);
                added.* = .{};
            }
        }

        // ---- the global allocator

        pub fn globalPages(self: *E, thread_index: u32, id: u32, pages: usize, align_log2: u32, low: bool) f64 {
            const slot = &self.pools[id & (E.pools_count - 1)];
            const thread = self.threadAt(thread_index) orelse
                return E.status(if (self.isForked()) .forked else .foreign);
            const pool = self.poolOf(id) orelse return E.status(.closed);
            const layer = layerOf(self, .global, id) orelse return E.status(.foreign);
            const page_bytes = L.Global.page_bytes;
            const bytes = std.math.mul(usize, pages, page_bytes) catch return E.status(.out_of_range);
            if (pages == 0 or align_log2 > 30) return E.status(.out_of_range);
            const alignment = @max(page_bytes, @as(usize, 1) << @intCast(align_log2));
            const index = self.handles.claim(&thread.handles) orelse {
                thread.block[w.bound] = E.handles_count;
                return E.status(.limit);
            };
            const ptr = (if (low) layer.allocPagesLow(pages, alignment) else layer.allocPages(thread_index, pages, alignment)) orelse {
                self.handles.recycle(&thread.handles, index);
                if (!low) return E.status(refusal(self, pool, thread_index, thread, bytes));
                clearFailure(thread, bytes);
                return E.status(.out_of_memory);
            };
            return publish(self, thread_index, thread, slot, pool, index, ptr, bytes, w.option_zero);
        }

        fn clearFailure(thread: *E.Thread, requested: usize) void {
            for ([_]usize{ w.errno, w.system_call, w.bound, w.current }) |word| thread.block[word] = 0;
            thread.block[w.requested] = @floatFromInt(requested);
        }

        pub fn globalAddRegion(self: *E, thread_index: u32, id: u32, wanted: usize, low: bool) Status {
            const slot = &self.pools[id & (E.pools_count - 1)];
            const thread = self.threadAt(thread_index) orelse return if (self.isForked()) .forked else .foreign;
            const pool = self.poolOf(id) orelse return .closed;
            const layer = layerOf(self, .global, id) orelse return .foreign;
            if (wanted == 0 or wanted > 1 << 46) return .out_of_range;
            const bytes = std.mem.alignForward(usize, wanted, regions.unit_bytes);
            const place = reserveAdded(self, slot) orelse {
                thread.block[w.bound] = added_max;
                return .limit;
            };
            var errno: u16 = 0;
            const ptr = if (low)
                E.System.reserveLow(bytes, &errno)
            else if (heap.PoolBackend(Pool).of(pool).take(thread_index, bytes, regions.unit_bytes)) |span| span.ptr else null;
            const memory = ptr orelse {
                place.* = .{};
                if (!low) return refusal(self, pool, thread_index, thread, bytes);
                clearFailure(thread, bytes);
                thread.block[w.errno] = @floatFromInt(errno);
                thread.block[w.system_call] = @floatFromInt(@intFromEnum(os.SystemCall.mmap));
                return .out_of_memory;
            };
            place.ptr = memory;
            place.bytes = bytes;
            place.low = @intFromBool(low);
            layer.addRegion(memory[0..bytes], .{ .low = low, .zeroed = low }) catch |err| {
                giveAdded(self, pool, memory, place.*);
                place.* = .{};
                return switch (err) {
                    error.TooManySections => .limit,
                    else => .out_of_range,
                };
            };
            return .ok;
        }

        fn reserveAdded(self: *E, slot: *Slot) ?*Added {
            self.layers.acquire();
            defer self.layers.release();
            for (&slot.added) |*added| {
                if (added.bytes != 0) continue;
                added.bytes = 1;
                return added;
            }
            return null;
        }

        noinline fn giveAdded(self: *E, pool: *Pool, ptr: [*]u8, added: Added) void {
            _ = self;
            // Refused: the system keeps the addresses; there is nothing left to try.
            if (added.low != 0) _ = E.System.unmap(ptr, added.bytes) else heap.PoolBackend(Pool).of(pool).give(null, ptr, added.bytes, regions.unit_bytes);
        }

        pub fn globalSection(self: *E, id: u32, index: u32, out: *types.SectionStats) Status {
            const layer = layerOf(self, .global, id) orelse return .closed;
            const section = layer.buddy.sectionFigures(index) orelse return .out_of_range;
            out.* = .{
                .address = @floatFromInt(section.address),
                .bytes = @floatFromInt(section.bytes),
                .free_bytes = @floatFromInt(@as(u64, section.free_pages) * L.Global.page_bytes),
                .low = @intFromBool(section.low),
                .reserved = 0,
            };
            return .ok;
        }

        /// The figures of a layer, field by field as the ABI declares them.
        pub fn ownStats(self: *E, comptime kind: Kind, id: u32, out: anytype) Status {
            self.layers.acquire();
            defer self.layers.release();
            const layer = layerOf(self, kind, id) orelse return .closed;
            const now = layer.figures();
            inline for (@typeInfo(@TypeOf(out.*)).@"struct".fields) |field| @field(out, field.name) = @field(now, field.name);
            return .ok;
        }

        pub fn globalResetPeak(self: *E, id: u32) Status {
            (layerOf(self, .global, id) orelse return .closed).resetPeak();
            return .ok;
        }

        // ---- the others

        fn backendOf(self: *E, id: u32) ?heap.Backend {
            const pool = self.poolOf(id) orelse return null;
            if (layerOf(self, .global, id)) |layer| return heap.GlobalBackend(L.Global).of(layer);
            return heap.PoolBackend(Pool).of(pool);
        }

        pub fn reclaim(self: *E, id: u32) f64 {
            if (self.isForked()) return E.status(.forked);
            self.layers.acquire();
            defer self.layers.release();
            const layer = layerOf(self, .reclaiming, id) orelse return E.status(.closed);
            return @floatFromInt(layer.reclaim());
        }

        pub fn reclaimingClassStats(self: *E, id: u32, index: u32, out: *types.ReclaimingClassStats) Status {
            self.layers.acquire();
            defer self.layers.release();
            const layer = layerOf(self, .reclaiming, id) orelse return .closed;
            if (index >= L.Reclaiming.classes_count or L.Reclaiming.slotBytes(index) > layer.options.slot_bytes_max) return .out_of_range;
            const now = layer.classFigures(index);
            inline for (@typeInfo(types.ReclaimingClassStats).@"struct".fields) |field| @field(out, field.name) = @field(now, field.name);
            return .ok;
        }

        pub fn resetTrip(self: *E, id: u32) Status {
            (layerOf(self, .small, id) orelse return .closed).resetTrip();
            return .ok;
        }

        // ---- the face without handles

        /// The layer of the open slot of that number, if it is of that kind.
        pub noinline fn layerOf(self: *E, comptime kind: Kind, id: u32) ?*L.Of(kind) {
            const slot = &self.pools[id & (E.pools_count - 1)];
            if (slot.id.load(.monotonic, .pool_id) != id) return null;
            return switch (slot.layer()) {
                kind => |layer| layer,
                else => null,
            };
        }

        /// The layer that the thread used last, if it is that one.
        inline fn warmLayer(self: *E, comptime kind: Kind, thread: u32, id: u32) ?*L.Of(kind) {
            // None before the engine is ready.
            if (thread >= self.threads_top.load(.monotonic, .threads)) return null;
            const front = &self.objects[thread];
            // Written by its own thread; others only clear the key.
            if (front.key.load(.monotonic, .warm) != E.ObjectFront.keyOf(kind, id)) return null;
            return @ptrCast(@alignCast(front.layer.?));
        }

        /// The slot of that number, if it is open and its layer of that kind.
        fn slotOf(self: *E, kind: Kind, id: u32) ?*Slot {
            const slot = &self.pools[id & (E.pools_count - 1)];
            return if (slot.id.load(.monotonic, .pool_id) == id and slot.layer() == kind and kind != .none) slot else null;
        }

        fn remember(self: *E, kind: Kind, thread: u32, id: u32, slot: *Slot) void {
            if (kind == .global or kind == .reclaiming) {
                _ = if (kind == .global) @as(?*anyopaque, E.direct.of(self, thread, id)) else E.reclaiming_direct.of(self, thread, id);
                return;
            }
            self.objects[thread].layer = slot.layer_ptr;
            self.objects[thread].key.store(E.ObjectFront.keyOf(kind, id), .monotonic, .warm);
        }

        pub inline fn objectAlloc(self: *E, comptime kind: Kind, thread: u32, id: u32, bytes: usize, alignment: usize) ?*anyopaque {
            // The usual alignment; longer than a slot is the layer's slow way, not ours.
            if (warmLayer(self, kind, thread, id)) |layer| {
                if ((alignment == 0 or alignment == align_default) and bytes != 0 and bytes <= L.Of(kind).bytes_max) {
                    if (layer.alloc(thread, bytes, 0)) |ptr| return @ptrCast(ptr);
                }
            }
            return objectAllocSlow(self, kind, thread, id, bytes, alignment);
        }

        /// The record of the thread and an allocator if it was used before.
        pub inline fn warmRecord(self: *E, comptime kind: Kind, thread: u32, id: u32) ?*E.Direct(kind).Record {
            if (thread >= self.threads_top.load(.monotonic, .threads)) return null;
            const record = self.directRecord(kind, thread, id);
            return if (record.id.load(.monotonic, .warm) == id and id != 0) record else null;
        }

        /// Not the layer used last, aligned, longer than an object, or refused.
        pub noinline fn objectAllocSlow(self: *E, kind: Kind, thread_index: u32, id: u32, bytes: usize, alignment: usize) ?*anyopaque {
            const thread = self.threadAt(thread_index) orelse return null;
            const pool = self.poolOf(id) orelse return null;
            const slot = slotOf(self, kind, id) orelse return null;
            if (bytes == 0 or bytes > std.math.maxInt(usize) / 2 or @popCount(alignment) > 1) return null;
            remember(self, kind, thread_index, id, slot);
            const most = slot.layer().bytesMax();
            if (bytes <= most and alignment <= most) {
                if (slot.layer().alloc(thread_index, bytes, alignment)) |ptr| return @ptrCast(ptr);
                _ = refusal(self, pool, thread_index, thread, bytes);
                return null;
            }
            var failure: heap.Failure = .{};
            return @ptrCast(pool.alloc(thread_index, .{ .bytes = bytes, .alignment = alignment }, &failure) catch |err| {
                _ = E.report(thread, err, failure, bytes);
                return null;
            });
        }

        pub inline fn objectFree(self: *E, comptime kind: Kind, thread: u32, id: u32, address: ?*anyopaque) Status {
            if (warmLayer(self, kind, thread, id)) |layer| if (address) |ptr| {
                if (layer.free(thread, @ptrCast(ptr))) {
                    if (self.sleeper.asleep.load(.monotonic, .sleeper_look) == 0) return .ok;
                    return woken(self, id);
                } else |_| {}
            };
            return objectFreeSlow(self, kind, thread, id, address);
        }

        pub noinline fn woken(self: *E, id: u32) Status {
            wakeToAge(self, &self.pools[id & (E.pools_count - 1)]);
            return .ok;
        }

        /// Not the layer used last, null, or refused: a refused free changes nothing and is asked again.
        pub noinline fn objectFreeSlow(self: *E, kind: Kind, thread: u32, id: u32, address: ?*anyopaque) Status {
            const ptr: [*]u8 = @ptrCast(address orelse return .ok);
            const slot = slotOf(self, kind, id) orelse return .closed;
            if (!self.isAttached(thread)) return if (self.isForked()) .forked else .foreign;
            remember(self, kind, thread, id, slot);
            slot.layer().free(thread, ptr) catch |err| return switch (err) {
                error.DoubleFree => .double_free,
                error.Foreign => self.regionFree(thread, id, address),
            };
            return woken(self, id);
        }

        /// Usable bytes of an object or region, 0 if it is none.
        noinline fn regionSize(self: *E, id: u32, ptr: [*]u8) usize {
            const index = self.table.find(@intFromPtr(ptr));
            if (index == none) return 0;
            const region = self.table.at(index);
            const tenancy = region.tenancy();
            if (region.address != @intFromPtr(ptr) or tenancy.pool != (id & (E.pools_count - 1)) or tenancy.state != .leased) return 0;
            return Pool.pageRound(region.lease_bytes.load(.monotonic, .lease_bytes));
        }

        pub fn objectSize(self: *E, comptime kind: Kind, id: u32, address: ?*anyopaque) usize {
            const ptr: [*]u8 = @ptrCast(address orelse return 0);
            const layer = layerOf(self, kind, id) orelse return 0;
            return layer.usableSize(ptr) orelse regionSize(self, id, ptr);
        }

        /// Null: the old object is as it was.
        pub fn objectRealloc(self: *E, comptime kind: Kind, thread: u32, id: u32, address: ?*anyopaque, bytes: usize, alignment: usize) ?*anyopaque {
            const old: [*]u8 = @ptrCast(address orelse return objectAllocSlow(self, kind, thread, id, bytes, alignment));
            const layer = layerOf(self, kind, id) orelse return null;
            if (!self.isAttached(thread) or bytes == 0 or alignment & (alignment -% 1) != 0) return null;
            const had = objectSize(self, kind, id, address);
            if (had == 0) return null;
            const aligned = alignment == 0 or @intFromPtr(old) % alignment == 0;
            if (aligned and bytes <= L.Of(kind).bytes_max and layer.resizeInPlace(thread, old, bytes)) return address;
            const fresh: [*]u8 = @ptrCast(objectAllocSlow(self, kind, thread, id, bytes, alignment) orelse return null);
            const both = @min(had, bytes);
            ds.memory.copy(fresh[0..both], old[0..both]);
            self.pools[id & (E.pools_count - 1)].layer().free(thread, old) catch {
                _ = self.regionFree(thread, id, address);
            };
            return @ptrCast(fresh);
        }
    };
}
