//! The general allocator: any size and alignment, from any thread, freed from any thread by address
//! alone. Slabs of equal slots up to 64 KiB, runs of pages above, both from a buddy over sections that
//! come from a backend or from the caller.
//!
//! Each thread owns slabs. It takes slots from the word of free bits that its row of the class points
//! at, and frees into the slab's other word: no lock, no atomic read-modify-write, nothing written to
//! the slots. One slot that it has freed stays in its hand (`Hot`) and is taken first. Other threads free
//! by slab.zig's protocol. A slab that has no free slot left is in no list; it comes back when an eighth
//! of it is free, so that each visit is worth its price. An empty one stays with its owner for a while
//! (`cache_bytes`, two ticks), then its span goes back to the buddy; `trim` and idle ticks give whole
//! empty sections to the backend. A thread that ends leaves its slabs to an owner without a thread, from
//! whom anybody adopts.
//!
//! Invariants: a slab in use has one owner, named by its tag; only the owner, or who holds
//! `orphan_lock` for slabs without a thread, changes its words, state and lists. A record is a record
//! for ever. Locks nest in the order orphan_lock, lock, the buddy's; an owner's `spare_lock` holds
//! none. No lock is held across a call of the backend, and each loop retries until it is refused.
//!
//! Cost: pair of 64 bytes about 3 ns; remote free one locked instruction. Metadata lies apart: 0.2 to
//! 2.6 % of the slabs' addresses, touched by the page. Threads: `alloc` and others with a thread index
//! by that thread; `free` without one, `tick`, `figures` and `usableSize` by any.
//!
//! Not for regions that are cached, locked or purged (large_pool.zig), nor where a heap must not grow
//! by more than a page at a time (small_heap.zig).

const std = @import("std");
const ds = @import("../ds/ds.zig");
const buddy_file = @import("buddy.zig");
const backend_file = @import("backend.zig");
const global_map = @import("global_map.zig");
const slab_class = @import("slab_class.zig");
const slab_file = @import("slab.zig");
const assert = std.debug.assert;

const Backend = backend_file.Backend;
const classes = slab_class.classes;
const classes_count = slab_class.count;

pub const Config = struct {
    Sync: type = ds.Real,
    page_bytes: usize = 4096,
    /// Indexes of threads, or of whatever else the caller counts owners by, are below it.
    owners_max: u32 = 1024,
    sections_max: u32 = 256,
    Lock: type = buddy_file.SpinLock,
    /// Physical addresses, for pages that must be low.
    Translate: type = buddy_file.Identity,
    /// The page map: `global_map.Tree` or `global_map.Bounds(n)`.
    Map: fn (comptime Sync: type) type = global_map.Tree,
    /// Sections begin with so much, if the backend has it; they grow with what is in use.
    section_bytes_min: usize = 4 << 20,
    section_bytes_max: usize = 64 << 20,
    /// Until the heap is as large, its sections are on the system's own pages: with huge ones a heap of
    /// a few objects would have megabytes resident.
    fine_bytes: usize = 32 << 20,
    /// Empty slabs that an owner keeps.
    cache_bytes: usize = 1 << 20,
};

/// For a caller without a system: memory by `addRegion` only, page map by bounds.
pub const freestanding: Config = .{ .owners_max = 8, .sections_max = 16, .Map = global_map.Bounds(16) };

pub const FreeError = error{ Foreign, DoubleFree };

/// Kinds of runs in the buddy.
const Tag = struct {
    const pages = 1;
    const slab = 2;
    const metadata = 3;
};

pub fn Global(comptime config: Config) type {
    const Sync = config.Sync;
    return struct {
        map: config.Map(Sync),
        owners: [config.owners_max + 1]Owner,
        state: Sync.Atomic(u32),
        backend: ?Backend,
        region_bytes: usize,
        buddy: Buddy,
        /// Guards records that are free, and the arena of metadata.
        lock: config.Lock,
        /// Guards slabs without a thread.
        orphan_lock: config.Lock,
        orphans: Sync.Atomic(u32),
        /// Empty slabs that no owner keeps, by length. They are free memory, and no figure knows them as
        /// slabs; but they are resident, so that they are taken before other spans, which would become so.
        empties: [slab_class.span_shifts_count]?*Slab,
        empties_lock: config.Lock,
        empties_bytes: Sync.Atomic(u64),
        /// The least that there was of each length since the last tick: what nobody needed.
        empties_count: [slab_class.span_shifts_count]u32,
        empties_unneeded: [slab_class.span_shifts_count]u32,
        newest: Sync.Atomic(usize),
        records_free: [std.math.log2_int(usize, slab_class.words_max) + 1]?*Slab,
        arena: [*]u8,
        arena_bytes: usize,
        chunks: ?*Chunk,
        metadata_bytes: Sync.Atomic(u64),
        backend_calls: Sync.Atomic(u64),
        /// Owners above it have never had a slab.
        owners_used: Sync.Atomic(u32),
        idle_ticks: Sync.Atomic(u32),
        sections_bytes: Sync.Atomic(u64),
        peak_pages: Sync.Atomic(u64),

        const Self = @This();
        pub const Buddy = buddy_file.Buddy(.{
            .page_bytes = config.page_bytes,
            .sections_max = config.sections_max,
            .Lock = config.Lock,
            .Translate = config.Translate,
        });
        pub const Slab = slab_file.Slab(Sync);
        const Mail = slab_file.Mail(Sync);

        /// The largest request that this is meant for; larger ones belong to a pool.
        pub const bytes_max: usize = 1 << 20;
        pub const page_bytes = config.page_bytes;
        pub const owners_max = config.owners_max;
        /// Index of the owner of slabs without a thread.
        const nobody: u32 = config.owners_max;
        const unit_bytes = 2 << 20;
        const spares_max = 16;
        const ticks_spare = 2;
        const ticks_section = 10;

        comptime {
            assert(config.page_bytes <= slab_class.tile_bytes);
            if (@sizeOf(usize) == 8 and Sync == ds.Real and config.Lock == buddy_file.SpinLock) assert(std.math.isPowerOfTwo(@sizeOf(Owner)));
        }

        const State = enum(u32) { uninitialised = 0, initialising, ready };

        /// Where a thread's next slots of one class come from. All zeros: nowhere.
        const Row = struct {
            /// Distance of the word of free slots from the map's origin.
            word: usize,
            /// Address of the slot of bit 0.
            base: usize,
            slab: ?*Slab,
            /// Index of the word.
            index: u32,
            /// Of a slot.
            bytes: u32,
        };

        /// A slot that the owner freed while there was none here: it is taken first, and no bitmap has it.
        /// One for all classes, so that its place is known before the slot's class is: an allocation after a
        /// free would wait for the page map otherwise (11 ns a pair instead of 7). The owner writes; others
        /// look whether it is the one that they free.
        const Hot = struct {
            address: Sync.Atomic(usize),
            /// Its class and 1; 0: there is none.
            class: Sync.Atomic(u32),
        };

        pub const Owner = struct {
            hot: Hot align(64),
            rows: [classes_count]Row align(64),
            partial: [classes_count]?*Slab,
            mail: Mail align(64),
            spare_lock: config.Lock align(64),
            spares: ?*Slab,
            spares_count: u32,
            spares_bytes: usize,
            /// Ticks since the spares were last used.
            spares_age: u32,
            refills: Sync.Atomic(u64),
            adoptions: Sync.Atomic(u64),
            remote_frees: Sync.Atomic(u64),
            doubles: Sync.Atomic(u64),
            /// Slabs looked at because of remote frees.
            visits: Sync.Atomic(u64),
            // To a power of two: an index becomes an address by a shift.
            padding: [padding_bytes]u8,

            const used_bytes = 64 + classes_count * (@sizeOf(Row) + @sizeOf(?*Slab)) + 64 + 9 * 8;
            const padding_bytes = (std.math.ceilPowerOfTwo(usize, used_bytes) catch unreachable) - used_bytes;
        };

        const Chunk = struct { next: ?*Chunk, bytes: usize };
        const chunk_alignment = 4096;

        pub const Options = struct {
            /// Bytes of a section, rounded up to units; 0: by what is in use.
            region_bytes: usize = 0,
        };

        // --- Beginning and end

        /// Memory of `self` is zeroed. False: it is in use already.
        pub fn init(self: *Self, backend: ?Backend, options: Options) bool {
            // Acquire: pairs with the release in deinit. Of two who initialise at once one wins, and a
            // second call never touches a heap in use.
            const found = self.state.cmpxchg(0, @intFromEnum(State.initialising), .acquire, .monotonic, .global_init);
            if (found != null and !ds.fault("global-reinit")) return false;
            self.backend = backend;
            self.region_bytes = @min(options.region_bytes, std.math.maxInt(isize));
            self.buddy = .{};
            // Release: pairs with the acquire of whoever asks; a thread that sees `ready` sees a heap.
            self.state.store(@intFromEnum(State.ready), .release, .global_ready);
            return true;
        }

        pub const RegionError = buddy_file.AddError || error{ NotInitialised, AlreadyInitialised };

        /// Over the caller's memory alone. On an error nothing is left behind.
        pub fn initRegion(self: *Self, memory: []u8) RegionError!void {
            if (!self.init(null, .{})) return error.AlreadyInitialised;
            errdefer if (!ds.fault("global-no-rollback")) self.state.store(0, .monotonic, .global_rollback);
            try self.addRegion(memory, .{});
        }

        fn isReady(self: *const Self) bool {
            // Acquire: pairs with the release in init.
            return self.state.load(.acquire, .global_is_ready) == @intFromEnum(State.ready);
        }

        /// Gives everything to the backend. Nothing is live, and nobody calls any more.
        pub fn deinit(self: *Self) void {
            if (!self.isReady()) return;
            if (self.backend) |backend| {
                while (self.buddy.anyRegion()) |region| {
                    if (!region.kept) backend.give(null, region.memory.ptr, region.memory.len, unit_bytes);
                }
                while (self.chunks) |chunk| {
                    self.chunks = chunk.next;
                    backend.give(null, @ptrCast(chunk), chunk.bytes, chunk_alignment);
                }
            }
            // Zeros again, without touching what nobody has written to.
            self.map.clear();
            for (self.ownersInUse()) |*owner| owner.* = std.mem.zeroes(Owner);
            self.owners[nobody] = std.mem.zeroes(Owner);
            inline for (@typeInfo(Self).@"struct".fields) |field| {
                if (comptime std.mem.eql(u8, field.name, "map") or std.mem.eql(u8, field.name, "owners")) continue;
                ds.memory.zero(std.mem.asBytes(&@field(self, field.name)));
            }
        }

        pub const RegionOptions = struct { low: bool = false, zeroed: bool = false };

        /// Manages `memory` of the caller too, while others allocate; it stays until the end.
        pub fn addRegion(self: *Self, memory: []u8, options: RegionOptions) RegionError!void {
            if (!self.isReady()) return error.NotInitialised;
            return self.addSection(memory, options, true);
        }

        noinline fn addSection(self: *Self, memory: []u8, options: RegionOptions, kept: bool) RegionError!void {
            {
                self.lock.lock();
                defer self.lock.unlock();
                if (!self.map.addRegion(@intFromPtr(memory.ptr), memory.len)) return error.TooManySections;
            }
            errdefer self.map.removeRegion(@intFromPtr(memory.ptr));
            try self.buddy.addRegion(memory, .{ .low = options.low, .zeroed = options.zeroed, .kept = kept });
            _ = self.sections_bytes.fetchAdd(memory.len, .monotonic, .global_sections);
        }

        // --- Allocation

        /// `alignment` is a power of two; 0 stands for 16. Null: refused.
        pub inline fn alloc(self: *Self, thread: u32, bytes: usize, alignment: usize) ?[*]u8 {
            if (bytes > slab_class.slot_bytes_max or alignment > slab_class.slot_bytes_min) {
                @branchHint(.unlikely);
                return self.allocOther(thread, bytes, alignment);
            }
            return self.allocClass(thread, slab_class.class_of[(bytes + slab_class.slot_bytes_min - 1) / slab_class.slot_bytes_min]);
        }

        /// `alloc` as a call, where its price does not matter.
        pub noinline fn allocCold(self: *Self, thread: u32, bytes: usize, alignment: usize) ?[*]u8 {
            return self.alloc(thread, bytes, alignment);
        }

        noinline fn allocClassCold(self: *Self, thread: u32, class: u8) ?[*]u8 {
            return self.allocClass(thread, class);
        }

        inline fn allocClass(self: *Self, thread: u32, class: u8) ?[*]u8 {
            return self.takeClass(&self.owners[thread], class) orelse {
                @branchHint(.unlikely);
                return self.allocSlow(thread, class);
            };
        }

        pub const slot_bytes_max = slab_class.slot_bytes_max;

        /// Of a request from 1 to `slot_bytes_max` bytes.
        pub inline fn classOf(bytes: usize) u8 {
            return slab_class.class_of[1..][(bytes - 1) / slab_class.slot_bytes_min];
        }

        inline fn takeClass(self: *Self, owner: *Owner, class: u8) ?[*]u8 {
            if (hasHot(owner, class)) return @ptrFromInt(takeHot(owner));
            const address = self.takeBit(owner, class);
            return if (address != 0) @ptrFromInt(address) else null;
        }

        /// Whether the slot in the owner's hand is of that class. For callers who have a slow way of their own
        /// and want no frame, as `takeHot` and `takeBit`.
        pub inline fn hasHot(owner: *const Owner, class: u8) bool {
            return owner.hot.class.load(.monotonic, .hot_class_load) == @as(u32, class) + 1;
        }

        pub inline fn takeHot(owner: *Owner) usize {
            owner.hot.class.store(0, .monotonic, .hot_class_none);
            return owner.hot.address.load(.monotonic, .hot_load);
        }

        /// A slot of the word that the row is at, 0 if it has none left.
        pub inline fn takeBit(self: *Self, owner: *Owner, class: u8) usize {
            const row = &owner.rows[class];
            const word: *Sync.Atomic(u64) = @ptrFromInt(self.map.origin() +% row.word);
            const bits = word.load(.monotonic, .slab_take_load);
            if (bits == 0) return 0;
            word.store(bits & (bits - 1), .monotonic, .slab_take);
            return row.base + @as(usize, @ctz(bits)) * row.bytes;
        }

        /// What `takeHot` and `takeBit` want, which a caller may keep.
        pub inline fn ownerAt(self: *Self, thread: u32) *Owner {
            return &self.owners[thread];
        }

        noinline fn allocSlow(self: *Self, thread: u32, class: u8) ?[*]u8 {
            const owner = &self.owners[thread];
            const row = &owner.rows[class];
            // One of another class would stay for ever where nobody wants that.
            _ = self.cool(thread);
            while (true) {
                if (row.slab) |slab| {
                    if (slab.refill(row.index, slab_class.word_slots_min)) |batch| return self.takeFirst(row, batch);
                    // Too few are left for visits to be worth it.
                    row.* = std.mem.zeroes(Row);
                    self.shelve(slab);
                }
                bump(&owner.refills);
                if (ds.fault("global-first-mail-only")) self.readFirst(thread) else self.readMail(thread);
                const slab = self.nextSlab(thread, class) orelse return self.lastResort(thread, class);
                if (row.slab != null) {
                    // The backend allocated from this very row meanwhile.
                    self.park(thread, slab);
                    continue;
                }
                seat(row, slab);
            }
        }

        fn takeFirst(self: *Self, row: *Row, batch: Slab.Batch) [*]u8 {
            row.index = @intCast(batch.index);
            row.word = @intFromPtr(batch.word) -% self.map.origin();
            row.base = row.slab.?.base + batch.index * 64 * row.bytes;
            const bits = batch.word.load(.monotonic, .slab_take_load);
            batch.word.store(bits & (bits - 1), .monotonic, .slab_take);
            return @ptrFromInt(row.base + @as(usize, @ctz(bits)) * row.bytes);
        }

        noinline fn seat(row: *Row, slab: *Slab) void {
            slab.state.store(@intFromEnum(slab_file.State.current), .monotonic, .slab_state);
            slab.left = slab_file.left_never;
            row.slab = slab;
            row.bytes = classes[slab.class.load(.monotonic, .slab_class)].bytes;
        }

        /// A slab that left its row waits in no list until enough of it is free.
        noinline fn shelve(_: *Self, slab: *Slab) void {
            const idle = slab.capacity - slab.used();
            slab.left = classes[slab.class.load(.monotonic, .slab_class)].threshold - idle;
            slab.state.store(@intFromEnum(slab_file.State.full), .monotonic, .slab_state);
        }

        /// There is no memory for a slab: slots that were not worth a visit are now, larger ones will do,
        /// and pages serve for large ones. Walks all slabs.
        noinline fn lastResort(self: *Self, thread: u32, class: u8) ?[*]u8 {
            // A slab may be empty but for its hot slot.
            if (self.cool(thread)) return self.allocClassCold(thread, class);
            const row = &self.owners[thread].rows[class];
            var next = if (row.slab == null) self.firstRecord() else null;
            while (next) |slab| : (next = slab.older) {
                if (slab.tag.load(.monotonic, .slab_tag_load) != thread + 1) continue;
                if (slab.class.load(.monotonic, .slab_class) != class) continue;
                if (slab.state.load(.monotonic, .slab_state) != @intFromEnum(slab_file.State.full)) continue;
                const batch = slab.refill(0, 1) orelse continue;
                seat(row, slab);
                return self.takeFirst(row, batch);
            }
            if (!self.isReady()) return null;
            const bytes = classes[class].bytes;
            // Every alignment for which this class was chosen.
            const natural = @as(usize, 1) << @intCast(@ctz(bytes));
            for (self.owners[thread].rows[class + 1 ..], classes[class + 1 ..]) |*larger, shape| {
                const slab = larger.slab orelse continue;
                if (shape.bytes % natural != 0) continue;
                const word: *Sync.Atomic(u64) = @ptrFromInt(self.map.origin() +% larger.word);
                if (word.load(.monotonic, .slab_take_load) != 0) {
                    return self.takeFirst(larger, .{ .word = word, .index = larger.index });
                }
                if (slab.refill(larger.index, 1)) |batch| return self.takeFirst(larger, batch);
            }
            if (bytes <= page_bytes / 2) return null;
            const alignment = @max(page_bytes, natural);
            const count = (bytes + page_bytes - 1) / page_bytes;
            return self.buddy.alloc(count, alignment, Tag.pages) catch null;
        }

        fn firstRecord(self: *Self) ?*Slab {
            // Acquire: pairs with the release in takeRecord.
            return @ptrFromInt(self.newest.load(.acquire, .global_newest));
        }

        fn bump(counter: *Sync.Atomic(u64)) void {
            counter.store(counter.load(.monotonic, .global_counter) + 1, .monotonic, .global_counter_store);
        }

        noinline fn allocOther(self: *Self, thread: u32, bytes: usize, alignment: usize) ?[*]u8 {
            if (slab_class.aligned(bytes, @max(alignment, 1))) |class| return self.allocClassCold(thread, class);
            const count = std.math.divCeil(usize, @max(bytes, 1), page_bytes) catch return null;
            return self.allocPages(thread, count, @max(alignment, page_bytes));
        }

        /// `count` pages at a multiple of `alignment` bytes, freed by `free`.
        pub fn allocPages(self: *Self, thread: u32, count: usize, alignment: usize) ?[*]u8 {
            if (!self.isReady()) return null;
            while (true) {
                return self.takeRun(thread, count, alignment, Tag.pages) orelse if (self.cool(thread)) continue else null;
            }
        }

        /// The same, with each page below 4 GiB physically. The backend is not asked for such memory.
        pub fn allocPagesLow(self: *Self, count: usize, alignment: usize) ?[*]u8 {
            if (!self.isReady()) return null;
            return self.buddy.allocLow(count, alignment, Tag.pages) catch null;
        }

        // --- Slabs for a row

        /// A slab of the class with a free slot, in no list. The caller makes it what it shall be.
        fn nextSlab(self: *Self, thread: u32, class: u8) ?*Slab {
            const owner = &self.owners[thread];
            if (owner.partial[class]) |slab| {
                unlist(owner, class, slab);
                return slab;
            }
            if (ds.fault("global-full-walk")) {
                var next = self.firstRecord();
                while (next) |slab| : (next = slab.older) add(&owner.visits, 1);
            }
            if (self.takeSpare(thread, class)) |slab| return slab;
            if (self.adopt(thread, class)) |slab| return slab;
            if (self.takeEmpty(thread, classes[class].span_shift)) |slab| return self.recut(thread, class, slab);
            return self.freshSlab(thread, class);
        }

        noinline fn enlist(owner: *Owner, class: u8, slab: *Slab) void {
            slab.prev = null;
            slab.next = owner.partial[class];
            if (slab.next) |next| next.prev = slab;
            owner.partial[class] = slab;
        }

        noinline fn unlist(owner: *Owner, class: u8, slab: *Slab) void {
            if (slab.next) |next| next.prev = slab.prev;
            if (slab.prev) |prev| prev.next = slab.next else owner.partial[class] = slab.next;
            slab.next = null;
            slab.prev = null;
        }

        fn freshSlab(self: *Self, thread: u32, class: u8) ?*Slab {
            if (!self.isReady()) return null;
            const span_bytes = @as(usize, 1) << classes[class].span_shift;
            const span = self.takeRun(thread, span_bytes / page_bytes, span_bytes, Tag.slab) orelse return null;
            return self.slabOver(thread, class, @intFromPtr(span)) orelse {
                if (!ds.fault("global-leak-on-refusal")) _ = self.buddy.free(@intFromPtr(span)) catch unreachable;
                return null;
            };
        }

        noinline fn slabOver(self: *Self, thread: u32, class: u8, span: usize) ?*Slab {
            if (!self.map.ensure(span, Metadata{ .self = self, .thread = thread })) return null;
            const slab = self.takeRecord(thread, classes[class].words) orelse return null;
            self.noteOwner(thread);
            slab.cut(class, span);
            slab.tag.store(thread + 1, .monotonic, .slab_tag);
            self.map.set(span, @as(usize, 1) << (classes[class].span_shift - slab_class.tile_shift), @intFromPtr(slab) -% self.map.origin());
            return slab;
        }

        noinline fn noteOwner(self: *Self, thread: u32) void {
            self.owners[thread].mail.open();
            var used = self.owners_used.load(.monotonic, .global_owners);
            while (used <= thread) {
                used = self.owners_used.cmpxchg(used, thread + 1, .monotonic, .monotonic, .global_owners_raise) orelse break;
            }
        }

        /// An empty slab's span goes back. The caller alone holds it.
        noinline fn destroy(self: *Self, slab: *Slab) void {
            const span = slab.base;
            self.map.set(span, @as(usize, 1) << @intCast(slab.span_shift - slab_class.tile_shift), 0);
            self.giveRecord(slab);
            _ = self.buddy.free(span) catch unreachable;
        }

        // --- Empty slabs

        noinline fn keepSpare(self: *Self, thread: u32, slab: *Slab) void {
            const owner = &self.owners[thread];
            const bytes = @as(usize, 1) << @intCast(slab.span_shift);
            slab.state.store(@intFromEnum(slab_file.State.empty), .monotonic, .slab_state);
            if (thread == nobody) {
                self.orphans.store(self.orphans.load(.monotonic, .global_orphans) -% 1, .monotonic, .global_orphans_store);
            } else {
                owner.spare_lock.lock();
                defer owner.spare_lock.unlock();
                owner.spares_age = 0;
                const room = owner.spares_bytes + bytes <= config.cache_bytes or owner.spares == null;
                if (room and owner.spares_count < spares_max) {
                    slab.next = owner.spares;
                    owner.spares = slab;
                    // Written under the lock, read by `ages` without it.
                    @atomicStore(u32, &owner.spares_count, owner.spares_count + 1, .monotonic);
                    owner.spares_bytes += bytes;
                    return;
                }
            }
            self.leave(slab);
        }

        /// An empty slab of the caller's is there for everyone.
        noinline fn leave(self: *Self, slab: *Slab) void {
            const length = slab.span_shift - slab_class.tile_shift;
            slab.tag.store(nobody + 1, .monotonic, .slab_tag);
            self.empties_lock.lock();
            defer self.empties_lock.unlock();
            slab.next = self.empties[length];
            self.empties[length] = slab;
            @atomicStore(u32, &self.empties_count[length], self.empties_count[length] + 1, .monotonic);
            self.addEmpties(slab.span_shift, 1);
        }

        noinline fn takeEmpty(self: *Self, thread: u32, span_shift: u8) ?*Slab {
            if (self.empties_bytes.load(.monotonic, .global_empties) == 0) return null;
            self.noteOwner(thread);
            // Two who free a slot at the same moment may have mailed it.
            self.orphan_lock.lock();
            defer self.orphan_lock.unlock();
            const slab = self.popEmpty(span_shift - slab_class.tile_shift) orelse return null;
            slab.tag.store(thread + 1, .monotonic, .slab_tag);
            return slab;
        }

        noinline fn popEmpty(self: *Self, length: usize) ?*Slab {
            self.empties_lock.lock();
            defer self.empties_lock.unlock();
            const slab = self.empties[length] orelse return null;
            self.empties[length] = slab.next;
            slab.next = null;
            @atomicStore(u32, &self.empties_count[length], self.empties_count[length] - 1, .monotonic);
            @atomicStore(u32, &self.empties_unneeded[length], @min(@atomicLoad(u32, &self.empties_unneeded[length], .monotonic), self.empties_count[length]), .monotonic);
            self.addEmpties(slab.span_shift, -1);
            return slab;
        }

        fn addEmpties(self: *Self, span_shift: u8, comptime sign: i2) void {
            const bytes = @as(u64, 1) << @intCast(span_shift);
            const now = self.empties_bytes.load(.monotonic, .global_empties);
            self.empties_bytes.store(if (sign > 0) now + bytes else now - bytes, .monotonic, .global_empties_store);
        }

        /// Spans of empty slabs go back: of those that nobody needed since the last call, or of all.
        /// Answers whether there was one.
        noinline fn dropEmpties(self: *Self, all: bool) bool {
            var any = false;
            for (0..slab_class.span_shifts_count) |length| any = self.dropEmptiesOf(length, all) or any;
            return any;
        }

        noinline fn dropEmptiesOf(self: *Self, length: usize, all: bool) bool {
            const unneeded = &self.empties_unneeded[length];
            // Others may take some meanwhile: then a few too many go.
            const most = if (all) std.math.maxInt(u32) else @atomicLoad(u32, unneeded, .monotonic);
            var left = most;
            while (left != 0) : (left -= 1) {
                self.orphan_lock.lock();
                const found = self.popEmpty(length);
                if (found) |slab| slab.tag.store(0, .monotonic, .slab_tag);
                self.orphan_lock.unlock();
                self.destroy(found orelse break);
            }
            @atomicStore(u32, unneeded, @atomicLoad(u32, &self.empties_count[length], .monotonic), .monotonic);
            return left != most;
        }

        noinline fn takeSpare(self: *Self, thread: u32, class: u8) ?*Slab {
            const owner = &self.owners[thread];
            const slab = blk: {
                owner.spare_lock.lock();
                defer owner.spare_lock.unlock();
                owner.spares_age = 0;
                var link = &owner.spares;
                while (link.*) |slab| : (link = &slab.next) {
                    if (slab.span_shift != classes[class].span_shift) continue;
                    link.* = slab.next;
                    @atomicStore(u32, &owner.spares_count, owner.spares_count - 1, .monotonic);
                    owner.spares_bytes -= @as(usize, 1) << @intCast(slab.span_shift);
                    slab.next = null;
                    break :blk slab;
                }
                return null;
            };
            return self.recut(thread, class, slab);
        }

        /// An empty slab of the caller's for objects of another class.
        noinline fn recut(self: *Self, thread: u32, class: u8, slab: *Slab) ?*Slab {
            if (slab.class.load(.monotonic, .slab_class) == class) return slab;
            if (slab.words_log2 == wordsLog2(classes[class].words)) {
                slab.cut(class, slab.base);
                return slab;
            }
            // Its record has another length.
            const span = slab.base;
            const other = self.slabOver(thread, class, span) orelse {
                self.destroy(slab);
                return null;
            };
            self.giveRecord(slab);
            return other;
        }

        /// The owner's empty slabs, for any thread, are nobody's from now on.
        noinline fn dropSpares(self: *Self, owner: *Owner, age: ?u32) void {
            var slab = blk: {
                owner.spare_lock.lock();
                defer owner.spare_lock.unlock();
                if (age) |wanted| {
                    owner.spares_age +|= 1;
                    if (owner.spares_age <= wanted) return;
                }
                const first = owner.spares;
                owner.spares = null;
                @atomicStore(u32, &owner.spares_count, 0, .monotonic);
                owner.spares_bytes = 0;
                break :blk first;
            };
            while (slab) |spare| {
                slab = spare.next;
                self.leave(spare);
            }
        }

        // --- Free

        /// From the thread of that index, or without one from any thread. Wrong addresses change nothing.
        pub inline fn free(self: *Self, thread: ?u32, ptr: [*]u8) FreeError!void {
            if (thread) |index| {
                if (self.giveWarm(&self.owners[index], index + 1, @intFromPtr(ptr))) return;
            }
            return self.freeCold(thread, ptr);
        }

        /// `free` by the owner of that tag (its index and 1) if it is a matter of one word; false: nothing has
        /// changed, ask `freeCold`.
        pub inline fn giveWarm(self: *Self, owner: *Owner, tag: u32, address: usize) bool {
            if (!@TypeOf(self.map).isPlace(address)) return false;
            const slab: *Slab = @ptrFromInt(self.map.origin() +% self.map.findAt(address));
            if (slab.tag.load(.monotonic, .slab_tag_load) != tag) return false;
            const slot = slotOf(slab, address) catch return false;
            const both = slab.pair(slot / 64);
            const taken = both.free.load(.monotonic, .slab_free) | both.batch.load(.monotonic, .slab_batch);
            if (taken >> @intCast(slot % 64) & 1 != 0) return false;
            // Others have freed slots of it, maybe this one.
            if (slab.summary.load(.monotonic, .slab_summary_load) != 0) return false;
            if (owner.hot.class.load(.monotonic, .hot_class_load) != 0) return giveRest(owner, slab, slot, address);
            owner.hot.address.store(address, .monotonic, .hot_store);
            // Release: pairs with the acquire in `isHot`.
            owner.hot.class.store(@as(u32, slab.class.load(.monotonic, .slab_class)) + 1, .release, .hot_class_store);
            return true;
        }

        /// There is a hot slot already, which may be the one that is freed. Not inline, so that those who
        /// have none need no frame.
        noinline fn giveRest(owner: *const Owner, slab: *Slab, slot: usize, address: usize) bool {
            // Of a slab's last two, one may be the hot one.
            if (owner.hot.address.load(.monotonic, .hot_load) == address or slab.left <= 2) return false;
            const free_bits = &slab.pair(slot / 64).free;
            const bit = @as(u64, 1) << @intCast(slot % 64);
            free_bits.store(free_bits.load(.monotonic, .slab_free) | bit, .monotonic, .slab_free_store);
            slab.left -%= 1;
            return true;
        }

        pub noinline fn freeCold(self: *Self, thread: ?u32, ptr: [*]u8) FreeError!void {
            const address = @intFromPtr(ptr);
            const slab: *Slab = @ptrFromInt(self.map.origin() +% self.map.find(address));
            const tag = if (thread) |index| index + 1 else return self.freeOther(slab, address);
            if (slab.tag.load(.monotonic, .slab_tag_load) != tag) return self.freeOther(slab, address);
            const slot = try slotOf(slab, address);
            const word = slot / 64;
            const bit = @as(u64, 1) << @intCast(slot % 64);
            const both = slab.pair(word);
            const free_bits = both.free.load(.monotonic, .slab_free);
            if ((free_bits | slab.elsewhere(both, word)) & bit != 0 or self.isHot(slab, address)) {
                if (ds.fault("global-double-free") and slot < slab.capacity) return;
                return if (slot < slab.capacity) error.DoubleFree else error.Foreign;
            }
            both.free.store(free_bits | bit, .monotonic, .slab_free_store);
            slab.left -%= 1;
            if (slab.left == 0) return self.credit(tag - 1, slab, 0);
            // It may be empty but for the hot one.
            const owner = &self.owners[tag - 1];
            if (slab.left == 1 and owner.hot.address.load(.monotonic, .hot_load) -% slab.base >> @intCast(slab.span_shift) == 0) _ = self.cool(tag - 1);
        }

        /// Whether the slot waits for its owner: free, though no bitmap has it.
        fn isHot(self: *Self, slab: *const Slab, address: usize) bool {
            const tag = slab.tag.load(.monotonic, .slab_tag_load);
            if (tag == 0) return false;
            const owner = &self.owners[tag - 1];
            // Acquire: pairs with the releases where it is written: who sees the class sees the address that
            // belongs to it, and who sees that there is none any more sees the bit that the slot has instead.
            const class = owner.hot.class.load(.acquire, .hot_look);
            return class == @as(u32, slab.class.load(.monotonic, .slab_class)) + 1 and owner.hot.address.load(.monotonic, .hot_load) == address;
        }

        /// The hot slot goes to its slab; answers whether there was one. Owner only.
        noinline fn cool(self: *Self, thread: u32) bool {
            const owner = &self.owners[thread];
            if (owner.hot.class.load(.monotonic, .hot_class_load) == 0) return false;
            const address = owner.hot.address.load(.monotonic, .hot_load);
            const slab: *Slab = @ptrFromInt(self.map.origin() +% self.map.find(address));
            const slot = slab.slotAt(address).?;
            const both = slab.pair(slot / 64);
            const bit = @as(u64, 1) << @intCast(slot % 64);
            both.free.store(both.free.load(.monotonic, .slab_free) | bit, .monotonic, .slab_free_store);
            // Release: pairs with the acquire in `isHot`.
            owner.hot.class.store(0, .release, .hot_class_store);
            slab.left -%= 1;
            if (slab.left == 0) self.credit(thread, slab, 0);
            return true;
        }

        noinline fn freeOther(self: *Self, slab: *Slab, address: usize) FreeError!void {
            if (slab.tag.load(.monotonic, .slab_tag_load) == 0) return self.freePages(address);
            const slot = try slotOf(slab, address);
            if (slot >= slab.capacity) return error.Foreign;
            if (!ds.fault("global-hot-unseen") and self.isHot(slab, address)) return error.DoubleFree;
            if (ds.fault("global-double-free") and slab.idle(slot / 64) >> @intCast(slot % 64) & 1 != 0) return;
            if (ds.fault("global-late-count")) {
                // As a freer that sleeps between its push and its count.
                if (late_heap == self and self.buddy.holds(late_count)) @as(*u32, @ptrFromInt(late_count)).* +%= 1;
                late_heap = self;
                late_count = address;
            }
            if (try slab.freeRemote(slot) == .mail) self.post(slab);
        }

        var late_heap: ?*Self = null;
        var late_count: usize = 0;

        inline fn slotOf(slab: *const Slab, address: usize) FreeError!usize {
            if (ds.fault("global-interior-free")) {
                return (address - slab.base) / classes[slab.class.load(.monotonic, .slab_class)].bytes;
            }
            return slab.slotAt(address) orelse error.Foreign;
        }

        fn freePages(self: *Self, address: usize) FreeError!void {
            if (!self.isReady()) return error.Foreign;
            if (ds.fault("global-header-trusted") and self.buddy.holds(address)) {
                const header: *const u32 = @ptrFromInt(std.mem.alignBackward(usize, address, page_bytes));
                if (header.* == 0x534C4142) return;
            }
            _ = self.buddy.freeTagged(address, Tag.pages) catch |wrong| return switch (wrong) {
                error.DoubleFree => error.DoubleFree,
                error.Foreign, error.Interior => error.Foreign,
            };
        }

        /// To the owner's mail. An owner that is ending has closed it: then to nobody's, where the next
        /// reader looks at the tag again, under the lock under which tags change.
        noinline fn post(self: *Self, slab: *Slab) void {
            const tag = slab.tag.load(.monotonic, .slab_tag_load);
            if (tag != 0 and self.owners[tag - 1].mail.push(slab)) return;
            _ = self.owners[nobody].mail.push(slab);
        }

        noinline fn readMail(self: *Self, thread: u32) void {
            const owner = &self.owners[thread];
            self.settleAll(thread, owner.mail.takeAll());
        }

        /// The fault: one slab at each look.
        fn readFirst(self: *Self, thread: u32) void {
            const first = self.owners[thread].mail.takeAll() orelse return;
            var next = Mail.after(first);
            while (next) |slab| {
                next = Mail.after(slab);
                self.post(slab);
            }
            first.link.store(0, .monotonic, .mail_link);
            self.settleAll(thread, first);
        }

        noinline fn settleAll(self: *Self, thread: u32, first: ?*Slab) void {
            const owner = &self.owners[thread];
            var next = first;
            while (next) |slab| {
                next = Mail.after(slab);
                add(&owner.visits, 1);
                // So that a slot which two have freed at the same moment is found to be free. Before the
                // look at the tag, since the slab may be empty then.
                _ = self.cool(thread);
                if (slab.tag.load(.monotonic, .slab_tag_load) != thread + 1) {
                    self.post(slab);
                    continue;
                }
                const came = slab.collect();
                add(&owner.remote_frees, came.slots);
                add(&owner.doubles, came.doubles);
                self.credit(thread, slab, came.slots);
            }
        }

        fn add(counter: *Sync.Atomic(u64), value: u64) void {
            counter.store(counter.load(.monotonic, .global_counter) + value, .monotonic, .global_counter_store);
        }

        /// `slots` more have come back than `left` knows; at 0 the slab changes its state.
        noinline fn credit(self: *Self, thread: u32, slab: *Slab, slots: u32) void {
            if (slots < slab.left) {
                slab.left -= slots;
                return;
            }
            const beyond = slots - slab.left;
            const owner = &self.owners[thread];
            const class = slab.class.load(.monotonic, .slab_class);
            switch (@as(slab_file.State, @enumFromInt(slab.state.load(.monotonic, .slab_state)))) {
                .current => slab.left = slab_file.left_never,
                .full => {
                    if (ds.fault("global-full-misjudged") and slab.summary.load(.monotonic, .slab_summary_load) != 0) return;
                    slab.left = slab.capacity - classes[class].threshold - beyond;
                    if (slab.left == 0) return self.keepSpare(thread, slab);
                    slab.state.store(@intFromEnum(slab_file.State.partial), .monotonic, .slab_state);
                    enlist(owner, class, slab);
                },
                .partial => {
                    unlist(owner, class, slab);
                    self.keepSpare(thread, slab);
                },
                .empty, .unused => {},
            }
        }

        /// A slab in no list and no row goes where its use says.
        noinline fn park(self: *Self, thread: u32, slab: *Slab) void {
            const class = slab.class.load(.monotonic, .slab_class);
            const used = slab.used();
            if (used == 0) return self.keepSpare(thread, slab);
            const idle = slab.capacity - used;
            if (idle >= classes[class].threshold) {
                slab.left = used;
                slab.state.store(@intFromEnum(slab_file.State.partial), .monotonic, .slab_state);
                enlist(&self.owners[thread], class, slab);
            } else {
                slab.left = classes[class].threshold - idle;
                slab.state.store(@intFromEnum(slab_file.State.full), .monotonic, .slab_state);
            }
        }

        // --- Threads that end

        /// The slabs of a thread that calls no more are nobody's from now on.
        pub fn threadEnded(self: *Self, thread: u32) void {
            if (!self.isReady()) return;
            const owner = &self.owners[thread];
            _ = self.cool(thread);
            self.dropSpares(owner, null);
            self.orphan_lock.lock();
            defer self.orphan_lock.unlock();
            const mail = owner.mail.close();
            for (&owner.rows) |*row| {
                if (row.slab) |slab| slab.unbatch(row.index);
                row.* = std.mem.zeroes(Row);
            }
            owner.partial = @splat(null);
            var next = self.firstRecord();
            var count: u32 = 0;
            while (next) |slab| : (next = slab.older) {
                if (slab.tag.load(.monotonic, .slab_tag_load) != thread + 1) continue;
                slab.tag.store(nobody + 1, .monotonic, .slab_tag);
                self.park(nobody, slab);
                count += 1;
            }
            self.orphans.store(self.orphans.load(.monotonic, .global_orphans) +% count, .monotonic, .global_orphans_store);
            self.settleAll(nobody, mail);
        }

        noinline fn adopt(self: *Self, thread: u32, class: u8) ?*Slab {
            if (self.orphans.load(.monotonic, .global_orphans) == 0) return null;
            if (ds.fault("global-never-adopted")) return null;
            self.orphan_lock.lock();
            defer self.orphan_lock.unlock();
            self.readMail(nobody);
            const orphans = &self.owners[nobody];
            const slab = orphans.partial[class] orelse return null;
            unlist(orphans, class, slab);
            self.noteOwner(thread);
            slab.tag.store(thread + 1, .monotonic, .slab_tag);
            self.orphans.store(self.orphans.load(.monotonic, .global_orphans) -% 1, .monotonic, .global_orphans_store);
            bump(&self.owners[thread].adoptions);
            return slab;
        }

        // --- Records and other metadata

        fn wordsLog2(words: u8) u8 {
            return std.math.log2_int_ceil(u8, words);
        }

        fn takeRecord(self: *Self, thread: u32, words: u8) ?*Slab {
            const log2 = wordsLog2(words);
            {
                self.lock.lock();
                defer self.lock.unlock();
                if (self.records_free[log2]) |slab| {
                    self.records_free[log2] = slab.next;
                    slab.next = null;
                    return slab;
                }
            }
            const place = Slab.place(@as(usize, 1) << @intCast(log2));
            const memory = self.metadata(thread, place.bytes) orelse return null;
            const slab: *Slab = @ptrCast(@alignCast(memory + place.before));
            slab.words_log2 = log2;
            var newest = self.newest.load(.monotonic, .global_newest_load);
            while (true) {
                slab.older = @ptrFromInt(newest);
                // Release: pairs with the acquire of those who walk the records.
                newest = self.newest.cmpxchg(newest, @intFromPtr(slab), .release, .monotonic, .global_newest_push) orelse return slab;
            }
        }

        fn giveRecord(self: *Self, slab: *Slab) void {
            self.lock.lock();
            defer self.lock.unlock();
            slab.state.store(@intFromEnum(slab_file.State.unused), .monotonic, .slab_state);
            slab.tag.store(0, .monotonic, .slab_tag);
            slab.next = self.records_free[slab.words_log2];
            self.records_free[slab.words_log2] = slab;
        }

        const Metadata = struct {
            self: *Self,
            thread: u32,
            pub fn zeroed(memory: Metadata, bytes: usize) ?[*]u8 {
                return memory.self.metadata(memory.thread, bytes);
            }
        };

        /// Zeroed bytes at a cache line, for ever.
        fn metadata(self: *Self, thread: u32, bytes: usize) ?[*]u8 {
            const wanted = std.mem.alignForward(usize, bytes, 64);
            while (true) {
                {
                    self.lock.lock();
                    defer self.lock.unlock();
                    if (self.arena_bytes >= wanted) {
                        const memory = self.arena;
                        self.arena += wanted;
                        self.arena_bytes -= wanted;
                        return memory;
                    }
                }
                const span = self.takeChunk(thread, wanted + 64) orelse return null;
                self.lock.lock();
                if (self.arena_bytes >= wanted) {
                    // Another was faster.
                    self.lock.unlock();
                    self.giveChunk(thread, span);
                    continue;
                }
                defer self.lock.unlock();
                const chunk: *Chunk = @ptrCast(@alignCast(span.ptr));
                chunk.* = .{ .next = self.chunks, .bytes = span.bytes };
                self.chunks = chunk;
                self.arena = span.ptr + 64;
                self.arena_bytes = span.bytes - 64;
                _ = self.metadata_bytes.fetchAdd(span.bytes, .monotonic, .global_metadata);
            }
        }

        fn takeChunk(self: *Self, thread: u32, bytes: usize) ?backend_file.Span {
            if (self.backend) |backend| {
                const wanted = std.mem.alignForward(usize, @max(bytes, 128 << 10), chunk_alignment);
                const span = backend.takeFine(thread, wanted, chunk_alignment) orelse return null;
                if (!span.zero) ds.memory.zero(span.ptr[0..span.bytes]);
                return .{ .ptr = span.ptr, .bytes = span.bytes, .zero = true };
            }
            const count = (bytes + page_bytes - 1) / page_bytes;
            const run = self.buddy.alloc(count, 0, Tag.metadata) catch return null;
            ds.memory.zero(run[0 .. count * page_bytes]);
            return .{ .ptr = run, .bytes = count * page_bytes, .zero = true };
        }

        fn giveChunk(self: *Self, thread: u32, span: backend_file.Span) void {
            if (self.backend) |backend| return backend.give(thread, span.ptr, span.bytes, chunk_alignment);
            _ = self.buddy.free(@intFromPtr(span.ptr)) catch unreachable;
        }

        // --- Sections

        fn takeRun(self: *Self, thread: u32, count: usize, alignment: usize, tag: u16) ?[*]u8 {
            var tries: u32 = 0;
            while (true) {
                return self.buddy.allocSparing(count, alignment, tag) catch |wrong| {
                    if (wrong != error.OutOfMemory) return null;
                    tries += 1;
                    if (ds.fault("global-one-retry") and tries == 2) return null;
                    const empty_bytes = self.empties_bytes.load(.monotonic, .global_empties);
                    const much = empty_bytes > self.sections_bytes.load(.monotonic, .global_sections_load) / 2;
                    if (much and self.dropEmpties(true)) continue;
                    if (self.grow(thread, count, alignment, tag)) |grown| switch (grown) {
                        .added => continue,
                        .run => |run| return run,
                    }
                    // Other lengths than the one wanted, and low memory, are what is left.
                    else if (self.dropEmpties(true)) continue else return self.buddy.alloc(count, alignment, tag) catch null;
                };
            }
        }

        const Grown = union(enum) { added, run: [*]u8 };

        noinline fn grow(self: *Self, thread: u32, count: usize, alignment: usize, tag: u16) ?Grown {
            const backend = self.backend orelse return null;
            // What must fit beside the section's own pages.
            const pages = std.math.ceilPowerOfTwo(usize, count) catch return null;
            const content = std.math.mul(usize, pages, page_bytes) catch return null;
            const slack = @max(alignment, slab_class.tile_bytes);
            const least = std.math.add(usize, content, slack + content / 256) catch return null;
            const least_units = std.mem.alignForward(usize, least, unit_bytes);
            const managed = self.sections_bytes.load(.monotonic, .global_sections_load);
            const bounded = std.math.clamp(managed / 4, config.section_bytes_min, config.section_bytes_max);
            const wished = if (self.region_bytes != 0) std.mem.alignForward(usize, self.region_bytes, unit_bytes) else std.math.floorPowerOfTwo(usize, @intCast(bounded));
            var bytes = @max(least_units, wished);
            const span = while (true) {
                const taken = if (managed < config.fine_bytes) backend.takeFine(thread, bytes, unit_bytes) else backend.take(thread, bytes, unit_bytes);
                if (taken) |span| break span;
                if (bytes == least_units) return null;
                bytes = @max(least_units, bytes / 2);
            };
            self.idle_ticks.store(0, .monotonic, .global_idle);
            // Another thread may have grown meanwhile: then this memory was taken for nothing.
            if (self.buddy.allocSparing(count, alignment, tag)) |run| {
                backend.give(thread, span.ptr, span.bytes, unit_bytes);
                return .{ .run = run };
            } else |_| {}
            self.addSection(span.ptr[0..span.bytes], .{}, false) catch {
                backend.give(thread, span.ptr, span.bytes, unit_bytes);
                return null;
            };
            return .added;
        }

        /// Whole empty sections go to the backend; answers their bytes.
        fn giveSections(self: *Self, thread: ?u32) u64 {
            const backend = self.backend orelse return 0;
            var bytes: u64 = 0;
            while (self.buddy.removeEmpty()) |memory| {
                self.map.removeRegion(@intFromPtr(memory.ptr));
                _ = self.sections_bytes.fetchSub(memory.len, .monotonic, .global_sections_sub);
                backend.give(thread, memory.ptr, memory.len, unit_bytes);
                bytes += memory.len;
            }
            return bytes;
        }

        /// Gives back what can be had now: own mail, own empty slabs, everyone's spares, and then
        /// sections. Answers the bytes that went to the backend.
        pub fn trim(self: *Self, thread: u32) u64 {
            if (!self.isReady()) return 0;
            _ = self.cool(thread);
            self.readMail(thread);
            const owner = &self.owners[thread];
            for (&owner.rows) |*row| {
                const slab = row.slab orelse continue;
                if (slab.used() > 0) continue;
                slab.unbatch(row.index);
                row.* = std.mem.zeroes(Row);
                self.keepSpare(thread, slab);
            }
            {
                self.orphan_lock.lock();
                defer self.orphan_lock.unlock();
                self.readMail(nobody);
            }
            for (self.ownersInUse()) |*each| self.dropSpares(each, null);
            _ = self.dropEmpties(true);
            return self.giveSections(thread);
        }

        fn ownersInUse(self: *Self) []Owner {
            return self.owners[0..self.owners_used.load(.monotonic, .global_owners)];
        }

        /// Lets empty slabs and sections age. Any thread, one at a time.
        pub fn tick(self: *Self) void {
            if (!self.isReady()) return;
            if (!self.owners[nobody].mail.isEmpty()) {
                self.orphan_lock.lock();
                defer self.orphan_lock.unlock();
                self.readMail(nobody);
            }
            _ = self.dropEmpties(false);
            for (self.ownersInUse()) |*each| self.dropSpares(each, ticks_spare);
            const idle = self.idle_ticks.load(.monotonic, .global_idle_load) +| 1;
            self.idle_ticks.store(idle, .monotonic, .global_idle);
            if (idle >= ticks_section) _ = self.giveSections(null);
        }

        /// Whether ticks have something left to give back.
        pub fn ages(self: *Self) bool {
            if (!self.isReady()) return false;
            for (self.ownersInUse()) |*each| {
                if (@atomicLoad(u32, &each.spares_count, .monotonic) != 0) return true;
            }
            if (self.empties_bytes.load(.monotonic, .global_empties) != 0) return true;
            return self.idle_ticks.load(.monotonic, .global_idle_load) < ticks_section and
                self.sections_bytes.load(.monotonic, .global_sections_load) != 0;
        }

        // --- Sizes

        /// Bytes that the block may use; null: no block begins there.
        pub fn usableSize(self: *Self, ptr: [*]const u8) ?usize {
            const address = @intFromPtr(ptr);
            const slab: *Slab = @ptrFromInt(self.map.origin() +% self.map.find(address));
            if (slab.tag.load(.monotonic, .slab_tag_load) == 0) {
                const run = self.buddy.find(address) catch return null;
                return if (run.tag == Tag.pages) @as(usize, run.pages_count) * page_bytes else null;
            }
            const slot = slab.slotAt(address) orelse return null;
            if (slot >= slab.capacity) return null;
            if (slab.idle(slot / 64) >> @intCast(slot % 64) & 1 != 0 or self.isHot(slab, address)) return null;
            return classes[slab.class.load(.monotonic, .slab_class)].bytes;
        }

        /// Whether the block now has `bytes` where it is. Slots do so within their class, runs of pages
        /// where the pages behind them are free; a run shrinks to its pages at once.
        pub fn resizeInPlace(self: *Self, thread: u32, ptr: [*]u8, bytes: usize) bool {
            _ = thread;
            const address = @intFromPtr(ptr);
            const usable = self.usableSize(ptr) orelse return false;
            if (self.map.find(address) != 0) return bytes <= usable;
            const count = std.math.divCeil(usize, @max(bytes, 1), page_bytes) catch return false;
            return self.buddy.resize(address, count) catch false;
        }

        /// Moves only if it must, or if the block would be less than half used; null: refused, and the
        /// old block is as it was.
        pub fn realloc(self: *Self, thread: u32, old: ?[*]u8, bytes: usize, alignment: usize) ?[*]u8 {
            const ptr = old orelse return self.allocCold(thread, bytes, alignment);
            const usable = self.usableSize(ptr) orelse return null;
            const wasteful = bytes < usable / 2 and usable <= slab_class.slot_bytes_max;
            if (!wasteful and !ds.fault("global-realloc-copies") and self.resizeInPlace(thread, ptr, bytes)) return ptr;
            const new = self.allocCold(thread, bytes, alignment) orelse return null;
            ds.memory.copy(new[0..@min(bytes, usable)], ptr[0..@min(bytes, usable)]);
            self.freeCold(thread, ptr) catch {};
            return new;
        }

        pub fn allocZeroed(self: *Self, thread: u32, bytes: usize, alignment: usize) ?[*]u8 {
            const ptr = self.alloc(thread, bytes, alignment) orelse return null;
            ds.memory.zero(ptr[0..bytes]);
            return ptr;
        }

        // --- Faces

        /// `std.mem.Allocator` for the thread of one index.
        pub const Face = struct {
            heap: *Self,
            thread: u32,

            pub fn allocator(face: *Face) std.mem.Allocator {
                return .{ .ptr = face, .vtable = &.{ .alloc = stdAlloc, .resize = stdResize, .remap = stdRemap, .free = stdFree } };
            }

            fn stdAlloc(context: *anyopaque, bytes: usize, alignment: std.mem.Alignment, _: usize) ?[*]u8 {
                const face: *Face = @ptrCast(@alignCast(context));
                return face.heap.alloc(face.thread, bytes, alignment.toByteUnits());
            }

            fn stdResize(context: *anyopaque, memory: []u8, _: std.mem.Alignment, bytes: usize, _: usize) bool {
                const face: *Face = @ptrCast(@alignCast(context));
                return face.heap.resizeInPlace(face.thread, memory.ptr, bytes);
            }

            fn stdRemap(context: *anyopaque, memory: []u8, _: std.mem.Alignment, bytes: usize, _: usize) ?[*]u8 {
                const face: *Face = @ptrCast(@alignCast(context));
                return if (face.heap.resizeInPlace(face.thread, memory.ptr, bytes)) memory.ptr else null;
            }

            fn stdFree(context: *anyopaque, memory: []u8, _: std.mem.Alignment, _: usize) void {
                const face: *Face = @ptrCast(@alignCast(context));
                face.heap.free(face.thread, memory.ptr) catch unreachable;
            }
        };

        // --- Figures

        pub const Figures = extern struct {
            /// Bytes of live slots and of live runs of pages.
            allocated_bytes: f64,
            slots_live: f64,
            slots_capacity: f64,
            slots_live_bytes: f64,
            pages_bytes: f64,
            slabs: f64,
            slabs_empty: f64,
            slabs_bytes: f64,
            slabs_orphaned: f64,
            managed_bytes: f64,
            mapped_bytes: f64,
            metadata_bytes: f64,
            peak_bytes: f64,
            largest_free_run_bytes: f64,
            sections: f64,
            remote_frees: f64,
            late_double_frees: f64,
            adoptions: f64,
            refills: f64,
            visits: f64,
            refusals: f64,
        };

        /// What `classFigures` tells about the slots of one size.
        pub const ClassFigures = struct {
            slot_bytes: u32 = 0,
            slabs: u64 = 0,
            slabs_empty: u64 = 0,
            live: u64 = 0,
            capacity: u64 = 0,
        };

        /// Of class `class`, below `slab_class.count`; linear in the slabs.
        pub fn classFigures(self: *Self, class: u8) ClassFigures {
            var out: ClassFigures = .{ .slot_bytes = classes[class].bytes };
            var next = self.firstRecord();
            while (next) |slab| : (next = slab.older) {
                const tag = slab.tag.load(.monotonic, .slab_tag_load);
                if (tag == 0) continue;
                if (slab.class.load(.monotonic, .slab_class) != class) continue;
                const is_empty = slab.state.load(.monotonic, .slab_state) == @intFromEnum(slab_file.State.empty);
                if (is_empty and tag == nobody + 1) continue;
                out.slabs += 1;
                out.slabs_empty += @intFromBool(is_empty);
                out.live += slab.live();
                out.capacity += classes[class].capacity;
            }
            for (self.ownersInUse()) |*owner| out.live -|= @intFromBool(hotOf(owner) == class);
            return out;
        }

        /// What `ownerFigures` tells about one thread.
        pub const OwnerFigures = struct {
            slabs: u64 = 0,
            live_bytes: u64 = 0,
            refills: u64,
            adoptions: u64,
            /// Slots of its own that others have freed.
            remote_frees: u64,
        };

        /// Of the owner of that index; `owners_max` is who has the slabs without a thread.
        pub fn ownerFigures(self: *Self, thread: u32) OwnerFigures {
            const owner = &self.owners[thread];
            var out: OwnerFigures = .{
                .refills = owner.refills.load(.monotonic, .global_counter),
                .adoptions = owner.adoptions.load(.monotonic, .global_counter),
                .remote_frees = owner.remote_frees.load(.monotonic, .global_counter),
            };
            var next = self.firstRecord();
            while (next) |slab| : (next = slab.older) {
                if (slab.tag.load(.monotonic, .slab_tag_load) != thread + 1) continue;
                const is_empty = slab.state.load(.monotonic, .slab_state) == @intFromEnum(slab_file.State.empty);
                if (is_empty and thread == nobody) continue;
                out.slabs += 1;
                out.live_bytes += @as(u64, slab.live()) * classes[slab.class.load(.monotonic, .slab_class)].bytes;
            }
            if (hotOf(owner)) |class| out.live_bytes -|= classes[class].bytes;
            return out;
        }

        /// The class of the owner's hot slot, which its slab takes for live.
        fn hotOf(owner: *const Owner) ?u32 {
            const class = owner.hot.class.load(.monotonic, .hot_class_load);
            return if (class == 0) null else class - 1;
        }

        /// One look, while others work; linear in the slabs.
        pub fn figures(self: *Self) Figures {
            var out = std.mem.zeroes(Figures);
            if (!self.isReady()) return out;
            var next = self.firstRecord();
            while (next) |slab| : (next = slab.older) {
                const tag = slab.tag.load(.monotonic, .slab_tag_load);
                if (tag == 0) continue;
                const is_empty = slab.state.load(.monotonic, .slab_state) == @intFromEnum(slab_file.State.empty);
                if (is_empty and tag == nobody + 1) continue;
                const class = classes[slab.class.load(.monotonic, .slab_class)];
                const live: f64 = @floatFromInt(slab.live());
                out.slabs += 1;
                out.slabs_bytes += @floatFromInt(@as(u64, 1) << class.span_shift);
                out.slots_live += live;
                out.slots_live_bytes += live * @as(f64, @floatFromInt(class.bytes));
                out.slots_capacity += @floatFromInt(class.capacity);
                if (tag == nobody + 1) out.slabs_orphaned += 1;
                if (is_empty) out.slabs_empty += 1;
            }
            for (self.owners[0..]) |*owner| {
                if (@intFromPtr(owner) != @intFromPtr(&self.owners[nobody]) and
                    @intFromPtr(owner) >= @intFromPtr(&self.owners[self.owners_used.load(.monotonic, .global_owners)])) continue;
                out.remote_frees += @floatFromInt(owner.remote_frees.load(.monotonic, .global_counter));
                out.late_double_frees += @floatFromInt(owner.doubles.load(.monotonic, .global_counter));
                out.adoptions += @floatFromInt(owner.adoptions.load(.monotonic, .global_counter));
                out.visits += @floatFromInt(owner.visits.load(.monotonic, .global_counter));
                out.refills += @floatFromInt(owner.refills.load(.monotonic, .global_counter));
            }
            for (self.ownersInUse()) |*owner| if (hotOf(owner)) |class| {
                out.slots_live = @max(0, out.slots_live - 1);
                out.slots_live_bytes = @max(0, out.slots_live_bytes - @as(f64, @floatFromInt(classes[class].bytes)));
            };
            const runs = self.buddy.figures();
            const metadata_bytes: f64 = @floatFromInt(self.metadata_bytes.load(.monotonic, .global_metadata_load));
            const inside = if (self.backend == null) metadata_bytes else 0;
            const slabs_now = out.slabs_bytes + @as(f64, @floatFromInt(self.empties_bytes.load(.monotonic, .global_empties)));
            out.pages_bytes = @max(0, @as(f64, @floatFromInt(runs.allocated_bytes)) - slabs_now - inside);
            out.allocated_bytes = out.slots_live_bytes + out.pages_bytes;
            out.managed_bytes = @floatFromInt(runs.managed_bytes);
            out.metadata_bytes = metadata_bytes + @as(f64, @floatFromInt(runs.metadata_bytes));
            out.mapped_bytes = @as(f64, @floatFromInt(runs.managed_bytes + runs.metadata_bytes)) + (metadata_bytes - inside);
            out.peak_bytes = @floatFromInt(runs.peak_bytes);
            out.largest_free_run_bytes = @floatFromInt(runs.largest_free_run * page_bytes);
            out.sections = @floatFromInt(runs.sections);
            out.refusals = @floatFromInt(runs.refusals);
            return out;
        }

        /// Slots and runs of pages that are out.
        pub fn liveObjects(self: *Self) u64 {
            if (!self.isReady()) return 0;
            const now = self.figures();
            const runs = self.buddy.figures();
            var others: u64 = @intFromFloat(now.slabs);
            for (&self.empties_count) |*slabs| others += @atomicLoad(u32, slabs, .monotonic);
            return @as(u64, @intFromFloat(now.slots_live)) + (runs.allocations -| runs.frees -| others);
        }

        /// Bytes of bookkeeping beside the backing: what has been touched.
        pub fn metadataBytes(self: *Self) u64 {
            return @as(u64, self.owners_used.load(.monotonic, .global_owners) + 1) * @sizeOf(Owner);
        }

        pub fn resetPeak(self: *Self) void {
            self.buddy.resetPeak();
        }
    };
}
