//! Power-of-two slots over any backend, which gets back what is free: the heap for programs that
//! swell and shrink.
//!
//! Requests round up to a slot of 16 bytes to 4 KiB, or to 2 MiB; a slot lies at a multiple of its
//! size. Slots are cut from batches, 16 KiB to 64 KiB for slots up to a page and 2 MiB above, asked
//! of the backend at multiples of 4 KiB and of 2 MiB. What is larger, or aligned to more, passes through to the
//! backend. No slot has a header: free slots are bits of a record out of line (reclaiming_batch.zig),
//! and an index leads from any address to its record, or to nothing (reclaiming_index.zig).
//!
//! Each thread owns up to 512 KiB of blocks of up to 32 slots a class, in which it allocates and frees
//! without locked instructions: those that it claimed, and full ones in which it freed the first slot.
//! One that is used up rests with its owner until a slot of it is free again; when the places are used
//! up, the one that has rested longest goes. Whoever reclaims takes blocks that are wholly free away from their owners (reclaiming_keeper.zig);
//! a thread whose backend refuses takes everybody's free slots first. So what one thread keeps is
//! never out of reach for the others.
//!
//! Invariants: a free slot is in sight of everyone, but for those in blocks that are owned. No lock is
//! held, and no section is open, during a call of the backend, which may allocate from here. What is
//! not a live slot's address is refused before anything changes. After everything is freed, `reclaim`
//! leaves nothing at the backend, metadata included, whatever threads are alive.
//!
//! Cost: alloc or free in the block last used some 3 ns; in others of one's own a walk of four levels,
//! and elsewhere one locked instruction more; 5 bits of metadata a slot, 0.2 % of index, and 25 KiB of
//! addresses a thread. Threads: any; those with an index below
//! `threads_max` use it one at a time, others pass null and pay a few locked instructions.
//!
//! Not for regions of many MiB (large_pool.zig), nor where memory is never given back.

const std = @import("std");
const ds = @import("../ds/ds.zig");
const os = @import("../os/os.zig");
const backend_file = @import("backend.zig");
const batch_file = @import("reclaiming_batch.zig");
const guard_file = @import("reclaiming_guard.zig");
const index_file = @import("reclaiming_index.zig");
const Shelves = @import("reclaiming_shelf.zig").Shelves;
const Keeper = @import("reclaiming_keeper.zig").Keeper;
const large_pool = @import("large_pool.zig");

const Backend = backend_file.Backend;

/// log2 of the smallest slot.
const shift_min = 4;
const page_bytes = index_file.page_bytes;
/// Batches of slots above a page: the only alignment above 4 KiB that a backend is asked for.
const large_batch_bytes = 2 << 20;
const small_batch_bytes = 64 << 10;
/// Lines over which callers without an index are spread.
const shards_count = 8;
/// Blocks with free slots that a thread keeps of a class beside the current one: so many, or so many
/// bytes. And how many bytes of blocks it owns at all, most of which are used up.
const stash_max = 32;
const stash_bytes = 256 << 10;
const places_bytes = 512 << 10;

pub const Config = struct {
    Os: type = os.Native,
    Sync: type = ds.Real,
    /// The largest slot there can be: 4 KiB to 2 MiB.
    slot_bytes_max: usize = 2 << 20,
    /// Threads that may have an index. Each costs address space, and memory once it comes.
    threads_max: u32 = large_pool.threads_max,
    /// Counts batches looked at, for tests that show that nothing is searched.
    count_steps: bool = false,
};

/// What a free was given instead of a live slot.
pub const Wrong = enum(u8) { foreign, interior, double_free };
pub const FreeError = error{ Foreign, DoubleFree };

/// What `figures` tells; whole numbers, as doubles for the binding.
pub const ReclaimingFigures = extern struct {
    /// Bytes of batches and metadata that the backend has given; what passed through is apart.
    allocated_from_fallback: f64 = 0,
    /// Bytes of live slots, and of metadata in use.
    in_use: f64 = 0,
    allocated_metadata: f64 = 0,
    in_use_metadata: f64 = 0,
    live_slots: f64 = 0,
    /// Live spans that passed through, their bytes, and how many there have been.
    passed: f64 = 0,
    passed_bytes: f64 = 0,
    passed_total: f64 = 0,
    /// Batches that were added, and those given back because another thread had been quicker.
    growths: f64 = 0,
    lost_races: f64 = 0,
    /// Requests that the backend refused.
    refusals: f64 = 0,
    reclaims: f64 = 0,
    reclaimed_bytes: f64 = 0,
    /// Blocks that were taken back from the threads that owned them.
    recalls: f64 = 0,
    wrong_frees: f64 = 0,
};

/// The same for one size of slots.
pub const ReclaimingClassFigures = extern struct {
    slot_bytes: f64 = 0,
    batches: f64 = 0,
    slots: f64 = 0,
    live_slots: f64 = 0,
    growths: f64 = 0,
    lost_races: f64 = 0,
    reclaimed_bytes: f64 = 0,
};

pub fn Reclaiming(comptime config: Config) type {
    const Os = config.Os;
    const Sync = config.Sync;
    const shift_max = std.math.log2_int(usize, config.slot_bytes_max);
    comptime std.debug.assert(std.math.isPowerOfTwo(config.slot_bytes_max));
    comptime std.debug.assert(shift_max >= 12 and shift_max <= 21);
    comptime std.debug.assert(config.threads_max < std.math.maxInt(u16));
    const rest = guard_file.Rest(Os, Sync).rest;
    const Batches = batch_file.Batches(Sync);
    const Block = Batches.Block;
    const Batch = Batches.Batch;

    return struct {
        backend: Backend = undefined,
        options: Options = .{},
        index: Index = .{},
        guard: Guard = .{},
        /// Order: the reclaimer's before the ledger's.
        reclaimer: Latch align(64) = .{},
        ledger: Latch = .{},
        shelves: Shelves(Batch) = .{},
        classes: [classes_count]Class = @splat(.{}),
        /// Threads below this index may own blocks.
        threads_seen: Sync.Atomic(u32) = .init(0),
        last_tick_ns: Sync.Atomic(u64) = .init(0),
        totals: Totals = .{},
        locals: [config.threads_max]Local = @splat(.{}),

        const Self = @This();
        pub const System = Os;
        pub const Synchronisation = Sync;
        pub const Record = Batch;
        pub const Index = index_file.Index(Sync);
        pub const Guard = guard_file.Guard(Sync, rest, shards_count);
        pub const Latch = guard_file.Latch(Os, Sync);
        pub const threads_max = config.threads_max;
        pub const classes_count = shift_max - shift_min + 1;
        /// The largest request that a slot serves.
        pub const bytes_max = config.slot_bytes_max;
        pub const Figures = ReclaimingFigures;
        pub const ClassFigures = ReclaimingClassFigures;
        const Kept = Keeper(Self);

        pub const Options = struct {
            /// Requests above pass through: 4 KiB to `config.slot_bytes_max`.
            slot_bytes_max: usize = config.slot_bytes_max,
            /// `tick` reclaims so often; 0: never.
            reclaim_every_ms: u32 = 0,
            /// ... if at least so much is free.
            min_slack_bytes: u64 = 1 << 20,
            /// ... or 4 KiB, while the system is short of memory.
            under_pressure: bool = false,
            /// Called, inside of no section, when a free is wrong. May end the process.
            on_wrong: ?*const fn (wrong: Wrong, address: usize) void = null,
        };

        pub const Class = struct {
            /// Batches with room.
            stack: Batches.Stack align(64) = .{},
            /// All batches; under the ledger's lock.
            newest: ?*Batch = null,
            batches: u32 = 0,
            /// As the backend answered.
            batches_bytes: usize = 0,
            growths: Sync.Atomic(u64) = .init(0),
            lost_races: Sync.Atomic(u64) = .init(0),
            reclaimed_bytes: Sync.Atomic(u64) = .init(0),
        };

        const Totals = struct {
            passed: Sync.Atomic(u64) = .init(0),
            passed_bytes: Sync.Atomic(u64) = .init(0),
            passed_total: Sync.Atomic(u64) = .init(0),
            refusals: Sync.Atomic(u64) = .init(0),
            reclaims: Sync.Atomic(u64) = .init(0),
            reclaimed_bytes: Sync.Atomic(u64) = .init(0),
            recalls: Sync.Atomic(u64) = .init(0),
            wrong_frees: Sync.Atomic(u64) = .init(0),
            steps: Sync.Atomic(u64) = .init(0),
        };

        /// What a thread owns of one class: the thread's alone, or a remover's who has stolen it. Others
        /// look at places only, to see whether stealing is worth it.
        pub const Own = struct {
            /// The block it allocates from; 0: none.
            block: Sync.Atomic(usize) = .init(0),
            /// Of its first slot.
            base: usize = 0,
            /// How many it has; 0 while there is no block.
            slots: u16 = 0,
            /// log2 of their bytes.
            shift: u16 = 0,
            /// Places in the stash.
            stashed: u32 = 0,
            /// Places behind this one are empty.
            used: Sync.Atomic(u32) = .init(0),
            /// Where the next place to be emptied is looked for.
            hand: u32 = 0,
        };

        /// A block of a thread's. One that is used up rests until a slot of it is freed: by the thread,
        /// who stashes it, or by another, who sends mail.
        pub const Place = struct {
            /// 0: none.
            block: Sync.Atomic(usize) = .init(0),
            /// Of its first slot.
            base: usize = 0,
        };

        pub const Local = struct {
            seat: Guard.Seat align(128) = .{},
            /// Its index + 1, as blocks name their owner; 0: not yet seen by reclaimers.
            number: u16 = 0,
            /// Class in which it last allocated or freed.
            recent: u8 = 0,
            own: [classes_count]Own = @splat(.{}),
            mail: [classes_count]Batches.Mail align(64) = @splat(.{}),
            places: [places_total]Place align(64) = @splat(.{}),
            /// Places of blocks with free slots, but for the current one; of each class the first `stashed`.
            stash: [places_total]u8 = @splat(0),

            pub inline fn placesOf(local: *Local, class: usize) []Place {
                return local.places[place_first[class]..][0..place_counts[class]];
            }

            /// Has room for one more while `own.stashed` is below `stash_counts`.
            pub inline fn push(local: *Local, class: usize, place: u8) void {
                const own = &local.own[class];
                local.stash[place_first[class] + own.stashed] = place;
                own.stashed += 1;
            }

            /// Forgets what is stashed of places that are empty.
            pub fn dropEmpty(local: *Local, class: usize) void {
                const own = &local.own[class];
                const stashed = own.stashed;
                own.stashed = 0;
                for (local.stash[place_first[class]..][0..stashed]) |place| {
                    if (local.placesOf(class)[place].block.load(.monotonic, .own_place) != 0) local.push(class, place);
                }
            }

            pub inline fn pop(local: *Local, class: usize) ?*Place {
                const own = &local.own[class];
                if (own.stashed == 0) return null;
                own.stashed -= 1;
                const place = local.stash[place_first[class] + own.stashed];
                return &local.places[place_first[class] + place];
            }
        };

        comptime {
            std.debug.assert(Sync != ds.Real or @sizeOf(Own) == 32);
        }

        // ---- shape

        /// Blocks that a thread owns of a class, most of them used up.
        const place_counts: [classes_count]u16 = blk: {
            var counts: [classes_count]u16 = undefined;
            for (&counts, 0..) |*count, class| count.* = @max(2, @min(batch_file.places_max, places_bytes / blockBytes(class)));
            break :blk counts;
        };

        const place_first: [classes_count]u16 = blk: {
            var first: [classes_count]u16 = undefined;
            var sum: u16 = 0;
            for (&first, place_counts) |*place, count| {
                place.* = sum;
                sum += count;
            }
            break :blk first;
        };

        const places_total = place_first[classes_count - 1] + place_counts[classes_count - 1];

        /// How many of them may have free slots, beside the current one.
        pub const stash_counts: [classes_count]u8 = blk: {
            var counts: [classes_count]u8 = undefined;
            for (&counts, 0..) |*count, class| count.* = @max(1, @min(stash_max, stash_bytes / blockBytes(class)));
            break :blk counts;
        };

        fn blockBytes(class: usize) usize {
            return slotsPerBlock(class) * slotBytes(class);
        }

        pub fn slotBytes(class: usize) usize {
            return @as(usize, 1) << @intCast(class + shift_min);
        }

        /// At most 1,024 slots, and not below 16 where the alignment allows: one object asks for little.
        pub fn batchBytes(class: usize) usize {
            if (slotBytes(class) > page_bytes) return large_batch_bytes;
            return @min(small_batch_bytes, slotBytes(class) * batch_file.slots_max * batch_file.blocks_max);
        }

        pub fn batchAlignment(class: usize) usize {
            return if (batchBytes(class) >= large_batch_bytes) large_batch_bytes else page_bytes;
        }

        pub fn slotsPerBlock(class: usize) u32 {
            return @intCast(@min(batch_file.slots_max, batchBytes(class) / slotBytes(class)));
        }

        pub fn blocksPerBatch(class: usize) u32 {
            return @intCast(batchBytes(class) / slotBytes(class) / slotsPerBlock(class));
        }

        /// Class of a request; null: it passes through.
        inline fn classOf(self: *const Self, bytes: usize, alignment: usize) ?u32 {
            const wanted: usize = @max(bytes, alignment, 1 << shift_min);
            if (ds.fault("reclaiming-size-wraps") and wanted > 1 << 63) return 0;
            if (wanted > self.options.slot_bytes_max) {
                @branchHint(.unlikely);
                return null;
            }
            if (ds.fault("reclaiming-short-classes") and wanted == 1 << shift_max) return null;
            return @bitSizeOf(usize) - @as(u32, @clz(wanted - 1)) - shift_min;
        }

        // ---- life

        /// `self` is zeroed memory, or has the values of its declaration. False: the options are wrong.
        pub fn init(self: *Self, backend: Backend, options: Options) bool {
            const largest = options.slot_bytes_max;
            if (!std.math.isPowerOfTwo(largest)) return false;
            if (largest < page_bytes or largest > config.slot_bytes_max) return false;
            self.backend = backend;
            self.options = options;
            return true;
        }

        /// Gives everything to the backend, live or not. No other thread is here.
        pub fn deinit(self: *Self) void {
            Kept.giveAll(self);
        }

        // ---- allocation

        /// At least `bytes` at a multiple of `alignment` (a power of two; 0: 16).
        pub noinline fn alloc(self: *Self, thread: u32, bytes: usize, alignment: usize) ?[*]u8 {
            if (alignment <= 1 << shift_min) {
                if (takeOwn(self.ownerAt(thread), bytes, Sync.lightFence)) |ptr| return ptr;
                if (takeStashed(self.ownerAt(thread), bytes)) |ptr| return ptr;
            }
            return self.allocSlow(thread, bytes, alignment);
        }

        /// What `takeWarm` and `giveWarm` want, which a caller may keep.
        pub inline fn ownerAt(self: *Self, thread: u32) *Local {
            return &self.locals[thread];
        }

        /// `alloc` at the usual alignment from the thread's own block; null: ask `alloc`. For callers who
        /// know that removers have a process-wide barrier.
        pub inline fn takeWarm(local: *Local, bytes: usize) ?[*]u8 {
            return takeOwn(local, bytes, if (@hasDecl(Sync, "warmFence")) Sync.warmFence else Sync.lightFence);
        }

        inline fn takeOwn(local: *Local, bytes: usize, comptime fence: anytype) ?[*]u8 {
            const last = bytes -% 1;
            // Classes above the options' largest slot have no blocks.
            if (last >= config.slot_bytes_max) return null;
            const top = topOf(last);
            const class = top - (shift_min - 1);
            const own = &local.own[class];
            defer local.seat.leave();
            if (!local.seat.enter(fence)) return null;
            const block: *Block = @ptrFromInt(zeroless(own.block.load(.monotonic, .own_block)) orelse return null);
            const slot = block.takeBit() orelse return null;
            local.recent = @intCast(class);
            return @ptrFromInt(own.base + (slot << @intCast(top) << 1));
        }

        /// From a stashed block, which becomes the current one. Null: there is more to it.
        pub noinline fn takeStashed(local: *Local, bytes: usize) ?[*]u8 {
            const last = bytes -% 1;
            if (last >= config.slot_bytes_max) return null;
            const top = topOf(last);
            const class = top - (shift_min - 1);
            const own = &local.own[class];
            defer local.seat.leave();
            if (!local.seat.enter(Sync.lightFence) or own.stashed == 0) return null;
            const before = own.block.load(.monotonic, .own_block);
            // It may rest only while nobody else has freed in it: who does so from here on tells.
            if (before == 0 or !@as(*Block, @ptrFromInt(before)).mayRest()) return null;
            const place = local.pop(class).?;
            const address = place.block.load(.monotonic, .own_place);
            own.base = place.base;
            own.block.store(address, .monotonic, .own_block);
            const slot = @as(*Block, @ptrFromInt(address)).takeBit() orelse return null;
            local.recent = @intCast(class);
            return @ptrFromInt(place.base + (slot << @intCast(top) << 1));
        }

        /// As the processor counts: the highest bit of the last byte's offset.
        inline fn topOf(last: usize) u32 {
            return @as(u32, @bitSizeOf(usize) - 1) ^ @as(u32, @clz(last | (1 << shift_min) - 1));
        }

        inline fn zeroless(word: usize) ?usize {
            return if (word == 0) null else word;
        }

        /// For a caller without an index.
        pub fn allocAny(self: *Self, bytes: usize, alignment: usize) ?[*]u8 {
            const class = self.classOf(bytes, alignment) orelse return self.allocPassed(null, bytes, alignment);
            return Kept.alloc(self, null, class);
        }

        /// `alloc` where `takeWarm` had nothing.
        pub noinline fn allocSlow(self: *Self, thread: u32, bytes: usize, alignment: usize) ?[*]u8 {
            const class = self.classOf(bytes, alignment) orelse return self.allocPassed(thread, bytes, alignment);
            return Kept.alloc(self, thread, class);
        }

        noinline fn allocPassed(self: *Self, thread: ?u32, bytes: usize, alignment: usize) ?[*]u8 {
            @branchHint(.cold);
            return Kept.allocPassed(self, thread, bytes, alignment);
        }

        /// Frees a live slot, or what passed through. A caller without an index waits for nobody.
        pub noinline fn free(self: *Self, thread: ?u32, ptr: [*]u8) FreeError!void {
            const address = @intFromPtr(ptr);
            if (thread) |number| {
                const local = self.ownerAt(number);
                if (giveOwn(local, address, Sync.lightFence) or self.giveOwned(local, address)) return;
            }
            return self.freeSlow(thread, address);
        }

        /// `free` of a slot of the thread's own block; false: nothing has changed, ask `free`. As `takeWarm`.
        pub inline fn giveWarm(local: *Local, address: usize) bool {
            return giveOwn(local, address, if (@hasDecl(Sync, "warmFence")) Sync.warmFence else Sync.lightFence);
        }

        /// `free` of a live slot where `giveWarm` changed nothing. False: it is none, or there is more to it.
        pub noinline fn giveOwned(self: *Self, local: *Local, address: usize) bool {
            defer local.seat.leave();
            // Nobody's blocks have the number of who was not seen yet.
            if (!local.seat.enter(Sync.lightFence) or local.number == 0) return false;
            const entry = self.index.find(address);
            if (config.count_steps) self.countStep();
            if (entry.isNone() or entry.kind == .passed or ds.fault("reclaiming-walks")) return false;
            // From the entry alone: the record's own line may be far away.
            const batch: *Batch = @ptrFromInt(entry.record());
            const class = entry.class();
            const number = std.math.rotr(usize, entry.offsetOf(address), class + shift_min);
            // Inside of a slot.
            if (number >= batch_file.slots_max * batch_file.blocks_max) return false;
            const block = &batch.blocks[number / batch_file.slots_max];
            const bit: u5 = @truncate(number);
            if (!block.isOwner(local.number)) {
                const base = address - (@as(usize, bit) << @intCast(class + shift_min));
                if (!Kept.freeOwning(self, local, class, block, bit, base)) self.freeRemote(batch, block, bit) catch return false;
                return true;
            }
            const rested = block.freeLocal(bit) catch return false;
            self.noteFreed(local, class, block, rested);
            return true;
        }

        /// A slot of one of the thread's blocks was freed.
        inline fn noteFreed(self: *Self, local: *Local, class: u8, block: *Block, rested: bool) void {
            const own = &local.own[class];
            local.recent = class;
            if (!rested or own.block.load(.monotonic, .own_block) == @intFromPtr(block)) return;
            if (own.stashed == stash_counts[class]) return Kept.letGo(self, local, class, block);
            local.push(class, block.ownPlace());
        }

        /// In the class last used, which is known before the address is.
        inline fn giveOwn(local: *Local, address: usize, comptime fence: anytype) bool {
            const own = &local.own[local.recent];
            defer local.seat.leave();
            return local.seat.enter(fence) and freeOwn(own, address);
        }

        /// False: not in the current block of that class, or free already.
        inline fn freeOwn(own: *const Own, address: usize) bool {
            // What is inside of a slot, or before the block, becomes a number that no slot has.
            const slot = std.math.rotr(usize, address -% own.base, own.shift);
            if (slot >= own.slots) return false;
            const block: *Block = @ptrFromInt(own.block.load(.monotonic, .own_block));
            _ = block.freeLocal(@intCast(slot)) catch return false;
            return true;
        }

        /// `free` where `giveWarm` changed nothing.
        pub noinline fn freeSlow(self: *Self, thread: ?u32, address: usize) FreeError!void {
            const section = self.enter(thread, address);
            const place = self.lookUp(address) catch |err| {
                self.leave(section);
                return self.wrong(if (err == error.Interior) .interior else .foreign, address);
            };
            switch (place) {
                .passed => {
                    self.leave(section);
                    if (Kept.freePassed(self, thread, address)) return;
                    return self.wrong(.foreign, address);
                },
                .slot => |slot| {
                    const freed = self.freeSlot(section, slot);
                    self.leave(section);
                    return freed catch self.wrong(.double_free, address);
                },
            }
        }

        inline fn freeSlot(self: *Self, section: Section, slot: Slot) error{DoubleFree}!void {
            const class = slot.batch.class;
            if (section.local) |local| {
                if (slot.block.isOwner(local.number)) {
                    const rested = try slot.block.freeLocal(slot.bit);
                    return self.noteFreed(local, class, slot.block, rested);
                }
            }
            return self.freeRemote(slot.batch, slot.block, slot.bit);
        }

        noinline fn freeRemote(self: *Self, batch: *Batch, block: *Block, bit: u5) error{DoubleFree}!void {
            switch (try block.freeRemote(bit)) {
                .nothing => {},
                .list => batch.list(@as(u32, 1) << @intCast(block.ordinal), &self.classes[batch.class].stack),
                .tell => |owner| self.locals[owner.number - 1].mail[batch.class].put(owner.place),
            }
        }

        fn wrong(self: *Self, what: Wrong, address: usize) FreeError {
            @branchHint(.cold);
            _ = self.totals.wrong_frees.fetchAdd(1, .monotonic, .total);
            if (self.options.on_wrong) |call| call(what, address);
            return if (what == .double_free) error.DoubleFree else error.Foreign;
        }

        // ---- where an address leads

        const Slot = struct { batch: *Batch, block: *Block, bit: u5 };
        const Found = union(enum) { slot: Slot, passed: Index.Entry };

        /// Inside of a section, or under the ledger's lock.
        noinline fn lookUp(self: *Self, address: usize) error{ Foreign, Interior }!Found {
            if (config.count_steps) self.countStep();
            const entry = self.index.find(address);
            if (entry.isNone()) return error.Foreign;
            if (entry.kind == .passed) {
                return if (address % page_bytes == 0) .{ .passed = entry } else error.Interior;
            }
            const batch: *Batch = if (ds.fault("reclaiming-walks"))
                Kept.search(self, address)
            else
                @ptrFromInt(entry.record());
            const offset = address - batch.start;
            const number = offset >> @intCast(batch.class + shift_min);
            const interior = number << @intCast(batch.class + shift_min) != offset;
            if (interior and !ds.fault("reclaiming-interior")) return error.Interior;
            return .{ .slot = .{
                .batch = batch,
                .block = &batch.blocks[number / batch_file.slots_max],
                .bit = @truncate(number % batch_file.slots_max),
            } };
        }

        pub fn countStep(self: *Self) void {
            if (config.count_steps) _ = self.totals.steps.fetchAdd(1, .monotonic, .total);
        }

        pub const Section = struct {
            seat: ?*Guard.Seat = null,
            guest: Guard.Guest = undefined,
            /// Of a thread that may use its own.
            local: ?*Local = null,
        };

        pub noinline fn enter(self: *Self, thread: ?u32, hint: usize) Section {
            const number = thread orelse return .{ .guest = self.guard.enter(hint / page_bytes) };
            const local = &self.locals[number];
            if (local.number == 0) self.see(number);
            const mine = local.seat.enter(Sync.lightFence);
            return .{ .seat = &local.seat, .local = if (mine) local else null };
        }

        pub noinline fn leave(self: *Self, section: Section) void {
            if (section.seat) |seat| seat.leave() else self.guard.leave(section.guest);
        }

        /// A thread shows itself to reclaimers, before its first section that others matter to.
        noinline fn see(self: *Self, thread: u32) void {
            var seen = self.threads_seen.load(.monotonic, .threads_seen);
            // The fence of the section that follows pairs with the one in `settle`, which counts the
            // threads behind it.
            while (seen <= thread) {
                seen = self.threads_seen.cmpxchg(seen, thread + 1, .monotonic, .monotonic, .threads_see) orelse break;
            }
            self.locals[thread].number = @intCast(thread + 1);
        }

        /// The seats, for `settle`.
        pub const Seats = struct {
            heap: *Self,

            pub fn count(seats: Seats) u32 {
                return seats.heap.threads_seen.load(.monotonic, .threads_seen);
            }

            pub fn seat(seats: Seats, index: usize) *Guard.Seat {
                return &seats.heap.locals[index].seat;
            }
        };

        pub noinline fn settle(self: *Self) void {
            self.guard.settle(Seats{ .heap = self });
        }

        // ---- sizes

        /// Bytes that the holder of a live slot may use; null: it is none.
        pub fn usableSize(self: *Self, ptr: [*]const u8) ?usize {
            const section = self.enter(null, @intFromPtr(ptr));
            defer self.leave(section);
            return switch (self.lookUp(@intFromPtr(ptr)) catch return null) {
                .passed => |entry| entry.value,
                .slot => |slot| blk: {
                    const bit = @as(u32, 1) << slot.bit;
                    break :blk if (slot.block.freeSlots() & bit != 0) null else slotBytes(slot.batch.class);
                },
            };
        }

        /// Whether a live slot serves `bytes` where it is: those of the same class do.
        pub fn resizeInPlace(self: *Self, thread: u32, ptr: [*]u8, bytes: usize) bool {
            return self.resizeAny(thread, ptr, bytes);
        }

        pub fn resizeAny(self: *Self, thread: ?u32, ptr: [*]const u8, bytes: usize) bool {
            if (ds.fault("reclaiming-always-moves")) return false;
            const section = self.enter(thread, @intFromPtr(ptr));
            defer self.leave(section);
            const room = switch (self.lookUp(@intFromPtr(ptr)) catch return false) {
                .passed => |entry| entry.value,
                .slot => |slot| slotBytes(slot.batch.class),
            };
            return bytes <= room and bytes > room / 2;
        }

        // ---- giving back

        /// What a thread owned is everybody's again; it has ended, or is the caller.
        pub fn threadEnded(self: *Self, thread: u32) void {
            Kept.disown(self, thread);
        }

        /// Gives to the backend what is wholly free, and the metadata of it; returns its bytes.
        pub fn reclaim(self: *Self) u64 {
            return Kept.reclaim(self);
        }

        pub fn trim(self: *Self, _: u32) u64 {
            return self.reclaim();
        }

        /// Reclaims if the options ask for it by now. Any thread, every now and then.
        pub fn tick(self: *Self) void {
            Kept.tick(self);
        }

        // ---- figures

        pub fn figures(self: *Self) Figures {
            return Kept.figures(self);
        }

        /// Slots that are out, and spans that passed through.
        pub fn liveObjects(self: *Self) u64 {
            const now = self.figures();
            return @intFromFloat(now.live_slots + now.passed);
        }

        /// Bytes of bookkeeping beside the backend's.
        pub fn metadataBytes(_: *Self) u64 {
            return 0;
        }

        /// Whether ticks have something to do.
        pub fn ages(self: *Self) bool {
            return self.options.reclaim_every_ms != 0 or self.options.under_pressure;
        }

        /// With `config.count_steps`: batches looked at so far.
        pub fn steps(self: *const Self) u64 {
            return self.totals.steps.load(.monotonic, .total);
        }

        pub fn classFigures(self: *Self, class: usize) ClassFigures {
            return Kept.classFigures(self, class);
        }

        // ---- std.mem.Allocator

        /// For any thread. `face` is quicker.
        pub fn allocator(self: *Self) std.mem.Allocator {
            return .{ .ptr = self, .vtable = &Anyone.vtable };
        }

        const Anyone = struct {
            const vtable: std.mem.Allocator.VTable = .{ .alloc = take, .resize = resize, .remap = remap, .free = give };

            fn take(context: *anyopaque, bytes: usize, alignment: std.mem.Alignment, _: usize) ?[*]u8 {
                const self: *Self = @ptrCast(@alignCast(context));
                return self.allocAny(bytes, alignment.toByteUnits());
            }

            fn resize(context: *anyopaque, memory: []u8, _: std.mem.Alignment, bytes: usize, _: usize) bool {
                const self: *Self = @ptrCast(@alignCast(context));
                return self.resizeAny(null, memory.ptr, bytes);
            }

            fn remap(context: *anyopaque, memory: []u8, alignment: std.mem.Alignment, bytes: usize, caller: usize) ?[*]u8 {
                return if (resize(context, memory, alignment, bytes, caller)) memory.ptr else null;
            }

            fn give(context: *anyopaque, memory: []u8, _: std.mem.Alignment, _: usize) void {
                const self: *Self = @ptrCast(@alignCast(context));
                self.free(null, memory.ptr) catch |err| self.fatal(err);
            }
        };

        /// `std.mem.Allocator` for the thread with an index.
        pub const Face = struct {
            heap: *Self,
            thread: u32,

            const vtable: std.mem.Allocator.VTable = .{ .alloc = take, .resize = resize, .remap = remap, .free = give };

            pub fn allocator(one: *Face) std.mem.Allocator {
                return .{ .ptr = one, .vtable = &vtable };
            }

            fn take(context: *anyopaque, bytes: usize, alignment: std.mem.Alignment, _: usize) ?[*]u8 {
                const one: *Face = @ptrCast(@alignCast(context));
                return one.heap.alloc(one.thread, bytes, alignment.toByteUnits());
            }

            fn resize(context: *anyopaque, memory: []u8, _: std.mem.Alignment, bytes: usize, _: usize) bool {
                const one: *Face = @ptrCast(@alignCast(context));
                return one.heap.resizeInPlace(one.thread, memory.ptr, bytes);
            }

            fn remap(context: *anyopaque, memory: []u8, alignment: std.mem.Alignment, bytes: usize, caller: usize) ?[*]u8 {
                return if (resize(context, memory, alignment, bytes, caller)) memory.ptr else null;
            }

            fn give(context: *anyopaque, memory: []u8, _: std.mem.Alignment, _: usize) void {
                const one: *Face = @ptrCast(@alignCast(context));
                one.heap.free(one.thread, memory.ptr) catch |err| one.heap.fatal(err);
            }
        };

        pub fn face(self: *Self, thread: u32) Face {
            return .{ .heap = self, .thread = thread };
        }

        /// The interface cannot answer; with a hook, that has decided already.
        fn fatal(self: *Self, err: FreeError) void {
            if (self.options.on_wrong == null) std.debug.panic("wrong free: {s}", .{@errorName(err)});
        }
    };
}
