//! Regions: who owns which part of the address space, and in what state it is.
//!
//! A region is a run of 2 MiB units at a fixed address, aligned to 2 MiB, cut from an area (one
//! mapping). Its descriptor lies out of line in a table that is reserved once and never unmapped, so
//! that a stale index is harmless to read. A page map leads from any address to the descriptor, and
//! says of an address whether a region begins there. What other threads must see or change of a region,
//! its tie, lies apart in a dense array: who frees another's regions touches one line for sixteen of them.
//!
//! Invariants. A descriptor belongs to one of: the free index ranges, one stack or cache, or one
//! lease; whoever holds it may write its plain fields. [0, dirty) may hold non-zero bytes,
//! [0, resident) may be backed by frames, dirty <= resident <= bytes; all beyond reads as zero.
//!
//! Cost: 132 bytes a region, 4 bytes a 2 MiB unit of mapped address space; address to region is
//! three dependent loads. Adding and removing areas takes a short spin lock, never held across a
//! system call.
//!
//! Threads: any. Not for memory below 2 MiB: page runs and slabs divide regions.

const std = @import("std");
const builtin = @import("builtin");
const assert = std.debug.assert;
const ds = @import("../ds/ds.zig");
const os = @import("../os/os.zig");

pub const none = ds.none;
/// Bytes of the unit that regions are multiples of and aligned to.
pub const unit_bytes: usize = os.large_page_bytes;
/// Most regions alive at once in a process: 2 TiB of the smallest class.
pub const regions_max: u32 = 1 << 20;
/// Most areas alive at once in a process.
pub const areas_max: u32 = 1 << 16;
/// Epochs have as many bits as fit beside a region index in a JavaScript number.
pub const epoch_mask: u32 = (1 << 29) - 1;

/// Kind of pages that a region is made of.
pub const PageKind = enum(u2) { base = 0, thp = 1, hugetlb = 2 };

/// Free regions are interchangeable only within a flavor.
pub const Flavor = packed struct(u8) {
    kind: PageKind,
    locked: bool = false,
    /// An alias ArrayBuffer over the region may be alive.
    alias: bool = false,
    _: u4 = 0,

    pub const count = 16;
    /// As a number: a flavor that no region has, with and without alias.
    pub const nothing: u8 = 3;

    pub fn index(flavor: Flavor) usize {
        return @as(u8, @bitCast(flavor));
    }
};

/// What holds a region.
pub const State = enum(u8) {
    unused = 0,
    free,
    /// As `free`, in the hand of its owner's cache and in no list.
    hand,
    /// A tenant that keeps the address.
    leased,
    /// A tenant with a handle.
    held,
    /// Its handle was freed while an ArrayBuffer shows it.
    closing,
    /// A block of page runs.
    run,
    /// Memory of an allocator of small objects, which has its own figures.
    backing,
};

/// Owner of a region that must not be taken without a closer look.
pub const nobody: u16 = std.math.maxInt(u16);

/// The four bytes of a tie from `owner` to `state` as one word: who has it, and how. A warm
/// operation compares all of it at once with what it must be.
pub const Tenancy = packed struct(u32) {
    owner: u16,
    pool: u8,
    state: State,

    pub inline fn bits(tenancy: Tenancy) u32 {
        return @bitCast(tenancy);
    }

    /// What a state adds to the bits of a tenancy that is `unused`.
    pub inline fn of(state: State) u32 {
        return @as(u32, @intFromEnum(state)) << @bitOffsetOf(Tenancy, "state");
    }
};

/// What other threads see of a region: who has it and how.
pub fn Tie(comptime Sync: type) type {
    return extern struct {
        /// Thread that leases it or leased it last.
        owner: Sync.Atomic(u16) align(4),
        /// Slot of the pool it belongs to.
        pool: u8,
        state: State,

        const Self = @This();

        comptime {
            assert(@sizeOf(Self) == 4);
            assert(builtin.cpu.arch.endian() == .little);
            for (std.meta.fieldNames(Tenancy)) |name|
                assert(@bitOffsetOf(Tenancy, name) == 8 * @offsetOf(Self, name));
        }

        /// `owner` to `state` as the bits of a `Tenancy`. Warm operations store all at once: a narrower
        /// store would stall the next look.
        pub inline fn word(tie: *Self) *Sync.Atomic(u32) {
            return @ptrCast(&tie.owner);
        }

        pub inline fn tenancy(tie: *Self) Tenancy {
            return @bitCast(tie.word().load(.monotonic, .region_tenancy));
        }
    };
}

pub fn Region(comptime Sync: type) type {
    return extern struct {
        /// First address.
        address: usize align(128),
        /// Bytes that are mapped for it: its class, or for explicit huge pages what was asked.
        bytes: usize,
        /// Bytes of the prefix that may hold anything but zero.
        dirty: usize,
        /// Bytes of the prefix that are locked.
        locked: usize,
        /// Bytes that the tenant without a handle asked for.
        lease_bytes: Sync.Atomic(usize),
        /// What others may look at; the same for all the life of the index.
        tie: *Tie(Sync),
        /// Link in whatever stack holds the region.
        next: Sync.Atomic(u32),
        /// The handle index of its tenant, for a wrap that dies under it.
        lease: Sync.Atomic(u32),
        /// Index of the size class.
        class: u8 align(2),
        flavor: Flavor,
        /// The system may take the dirty bytes at any time (MADV_FREE).
        lazy: bool,
        /// Bytes of the prefix that may be resident.
        resident: usize align(64),
        /// Area that it is cut from.
        area: u32,
        /// Changes when wraps made before must no longer be used. Written by the region's holder.
        epoch: Sync.Atomic(u32),
        /// Alias ArrayBuffers alive over it.
        wraps: Sync.Atomic(u32),
        /// Index of the block that describes it while it is divided into page runs.
        run: u32,

        const Self = @This();

        comptime {
            assert(@sizeOf(Self) == 128);
            // What a warm operation touches is one cache line.
            assert(@offsetOf(Self, "resident") == 64);
        }

        /// Class and flavor as one number, by whoever holds the region.
        pub inline fn sort(region: *const Self) u16 {
            comptime assert(@offsetOf(Self, "flavor") == @offsetOf(Self, "class") + 1);
            return @as(*const u16, @ptrCast(&region.class)).*;
        }

        /// By whoever holds the region.
        pub inline fn become(region: *Self, state: State) void {
            @atomicStore(State, &region.tie.state, state, .monotonic);
        }

        /// The region is of this owner and pool, and in this state.
        pub inline fn belongs(region: *Self, home: u32, state: State) bool {
            return region.tie.word().load(.monotonic, .region_tenancy) -% home == Tenancy.of(state);
        }

        /// As `become`, by who knows the state and goes on to look at the whole word.
        pub inline fn turn(region: *Self, from: State, to: State) void {
            const seen = region.tie.word().load(.monotonic, .region_tenancy);
            region.tie.word().store(seen +% (Tenancy.of(to) -% Tenancy.of(from)), .monotonic, .region_tenancy);
        }

        pub inline fn tenancy(region: *Self) Tenancy {
            return region.tie.tenancy();
        }
    };
}

/// One mapping that regions are cut from.
pub const Area = extern struct {
    address: usize,
    bytes: usize,
    /// First of its indexes; `at` says which of them is which region's.
    first_region: u32,
    regions: u32,
    pool: u16,
    class: u8,
    kind: u8,
    /// Scratch for `trim`: regions collected. Owned by the trimmer of the pool.
    collected: u32,
    /// Link in the list of free area slots.
    next: u32,
    live: bool,
    /// Its file was shown to the program: it is as long as its tenant, and never has another one.
    published: bool = false,
    _: [2]u8 = @splat(0),
    /// Descriptor of the file that has its memory; below 0: memory without a file.
    file: i32 = -1,

    /// Index of the area's region number `i`.
    pub inline fn at(area: *const Area, i: usize) u32 {
        const number: u32 = @intCast(i);
        return area.first_region + if (area.regions <= line_ties) number else spread(number);
    }
};

/// Ties in a cache line, and lines that the indexes of an area are spread over, block by block.
const line_ties = 64 / 4;
const spread_lines = 4;
const spread_block = line_ties * spread_lines;

/// Neighbours in an area get indexes whose ties lie in different lines: threads with a region or two
/// each do not disturb each other, while 64 regions still fill no more than four lines.
fn spread(i: u32) u32 {
    const row = i / spread_lines % line_ties;
    return i / spread_block * spread_block + (i + row) % spread_lines * line_ties + row;
}

/// Indexes that an area takes: whole lines, which are not shared with another area. A small area has
/// one line, since pages of descriptors that are half empty are resident too.
fn indexesFor(count: u32) u32 {
    return std.mem.alignForward(u32, count, if (count <= line_ties) line_ties else spread_block);
}

/// A lock for short, system-call-free critical sections off every hot path.
pub fn SpinLock(comptime Sync: type) type {
    return struct {
        word: Sync.Atomic(u32) = .init(0),

        const Lock = @This();

        pub noinline fn acquire(lock: *Lock) void {
            // Acquire: pairs with the release below, so that the section before is seen whole.
            while (lock.word.swap(1, .acquire, .spin_acquire) != 0) Sync.pause();
        }

        pub noinline fn release(lock: *Lock) void {
            // Release: pairs with the acquire above.
            lock.word.store(0, .release, .spin_release);
        }
    };
}

/// Mark in the page map: the region begins in this unit.
pub const starts: u32 = 1 << 31;

const leaf_units = 2048;
const root_entries = 1 << 16;
const address_end = root_entries * leaf_units * unit_bytes;

pub fn Table(comptime Os: type, comptime Sync: type) type {
    return struct {
        regions: [*]Region(Sync) = undefined,
        ties: [*]Tie(Sync) = undefined,
        /// Indexes ever used; from here on they are fresh. 0 stands for none in the page map: its
        /// descriptor and tie stay zero, and no address and no tenancy matches it.
        regions_top: Sync.Atomic(u32) = .init(0),
        areas: [*]Area = undefined,
        areas_top: u32 = 0,
        areas_free: u32 = 0,
        /// Page map: leaves of 2048 units, by the high bits of the address.
        root: [*]Sync.Atomic(usize) = undefined,
        /// Freed index ranges by their length: heads are area-like records in `ranges`.
        ranges: [ranges_max]Range = @splat(.{}),
        lock: SpinLock(Sync) = .{},
        /// Bytes of bookkeeping mapped here.
        metadata_bytes: Sync.Atomic(usize) = .init(0),
        /// Mappings made here and parts split by locks and advice, as far as the engine knows.
        mappings: Sync.Atomic(u64) = .init(0),
        ready: bool = false,

        const Self = @This();
        pub const Descriptor = Region(Sync);
        pub const System = Os;
        pub const Synchronisation = Sync;
        const Range = struct { first: u32 = 0, count: u32 = 0 };
        const ranges_max = 1024;
        const regions_bytes = @as(usize, regions_max) * @sizeOf(Descriptor);
        /// `none` has a tie too, which stays zero: who looks at the end of a list sees no region of its own.
        const ties_bytes = (@as(usize, none) + 1) * @sizeOf(Tie(Sync));
        const areas_bytes = @as(usize, areas_max) * @sizeOf(Area);
        const root_bytes = root_entries * @sizeOf(usize);
        const leaf_bytes = leaf_units * 4;

        /// Reserves the tables. False if the system refuses; nothing stays mapped then.
        pub fn init(self: *Self) bool {
            if (self.ready) return true;
            const regions = self.metadata(regions_bytes) orelse return false;
            const areas = self.metadata(areas_bytes) orelse {
                self.release(regions, regions_bytes);
                return false;
            };
            const root = self.metadata(root_bytes) orelse {
                self.release(regions, regions_bytes);
                self.release(areas, areas_bytes);
                return false;
            };
            const ties = self.metadata(ties_bytes) orelse {
                self.release(regions, regions_bytes);
                self.release(areas, areas_bytes);
                self.release(root, root_bytes);
                return false;
            };
            self.ties = @ptrCast(@alignCast(ties));
            self.regions = @ptrCast(@alignCast(regions));
            self.regions[0].tie = &self.ties[0];
            self.areas = @ptrCast(@alignCast(areas));
            self.root = @ptrCast(@alignCast(root));
            // Before, all is zero: a table that nobody uses, and that takes no room in a library's file.
            self.regions_top.store(line_ties, .monotonic, .top);
            self.areas_free = none;
            self.ready = true;
            return true;
        }

        /// Unmaps the tables; only tests that count pages do this, when no region is left.
        pub fn deinit(self: *Self) void {
            if (!self.ready) return;
            for (self.root[0..root_entries]) |*slot| {
                const leaf = slot.load(.monotonic, .map_drop);
                if (leaf != 0) self.release(@ptrFromInt(leaf), leaf_bytes);
            }
            self.release(@ptrCast(self.regions), regions_bytes);
            self.release(@ptrCast(self.ties), ties_bytes);
            self.release(@ptrCast(self.areas), areas_bytes);
            self.release(@ptrCast(self.root), root_bytes);
            self.* = .{};
        }

        /// Maps zeroed bookkeeping memory, rounded up to pages.
        pub noinline fn metadata(self: *Self, bytes: usize) ?[*]u8 {
            var errno: u16 = 0;
            const rounded = std.mem.alignForward(usize, bytes, Os.pageBytes());
            const ptr = Os.reserve(rounded, Os.pageBytes(), &errno) orelse return null;
            _ = self.metadata_bytes.fetchAdd(rounded, .monotonic, .count);
            _ = self.mappings.fetchAdd(1, .monotonic, .count);
            return ptr;
        }

        /// Gives back what `metadata` mapped.
        pub noinline fn release(self: *Self, ptr: [*]u8, bytes: usize) void {
            const rounded = std.mem.alignForward(usize, bytes, Os.pageBytes());
            if (Os.unmap(ptr, rounded) != 0) return;
            _ = self.metadata_bytes.fetchSub(rounded, .monotonic, .count);
            _ = self.mappings.fetchSub(1, .monotonic, .count);
        }

        pub inline fn at(self: *const Self, index: u32) *Descriptor {
            return &self.regions[index];
        }

        /// Asks the processor to fetch a tie that will be written soon; any number is harmless.
        pub inline fn expect(self: *const Self, index: u32) void {
            const where = @intFromPtr(self.ties) + @as(usize, index) * @sizeOf(Tie(Sync));
            if (builtin.cpu.arch == .x86_64 and builtin.zig_backend == .stage2_llvm) {
                // Without the feature flag `@prefetch` would ask for a shared copy only; processors
                // that do not know the instruction take it for a no-op.
                asm volatile ("prefetchw (%[where])"
                    :
                    : [where] "r" (where),
                );
            } else @prefetch(@as([*]const u8, @ptrFromInt(where)), .{ .rw = .write });
        }

        /// The link of a region, as the stacks want it.
        pub inline fn next(self: *const Self, index: u32) *Sync.Atomic(u32) {
            return &self.regions[index].next;
        }

        /// Who has the region and how; of any index, also one that no region has had.
        pub inline fn tenancyOf(self: *const Self, index: u32) Tenancy {
            return self.ties[index].tenancy();
        }

        pub inline fn indexOf(self: *const Self, region: *const Descriptor) u32 {
            return @intCast((@intFromPtr(region) - @intFromPtr(self.regions)) / @sizeOf(Descriptor));
        }

        /// True for an index that a region has had.
        pub inline fn known(self: *const Self, index: u32) bool {
            return self.ready and index < self.regions_top.load(.monotonic, .top);
        }

        /// The region that holds `address`, or `none`: three loads. (An optional would go through
        /// memory in two parts and cost a stalled load.)
        pub inline fn find(self: *const Self, address: usize) u32 {
            const leaf = self.leafOf(address);
            if (leaf == 0 or address >= address_end) return none;
            const index = findIn(leaf, address) & ~starts;
            return if (index == 0) none else index;
        }

        /// The first half of a `find` by a caller who goes on to compare the region's address; 0 if
        /// there is none. Addresses that no program has may lead to a region.
        pub inline fn leafOf(self: *const Self, address: usize) usize {
            // Acquire: pairs with the release in `mapLeaves`, so that the leaf is seen zeroed.
            return self.root[address / unit_bytes / leaf_units % root_entries].load(.acquire, .map_find);
        }

        /// The second half: an index, 0 for none, with `starts` if the region begins in that unit.
        pub inline fn findIn(leaf: usize, address: usize) u32 {
            const slots: [*]const Sync.Atomic(u32) = @ptrFromInt(leaf);
            return slots[address / unit_bytes % leaf_units].load(.monotonic, .map_slot);
        }

        /// False for an address at which no region can begin, or that no program has.
        pub inline fn mayBegin(address: usize) bool {
            return address % unit_bytes == 0 and address < address_end;
        }

        /// A region begins at the address.
        pub fn begins(self: *const Self, address: usize) bool {
            const leaf = self.leafOf(address);
            return mayBegin(address) and leaf != 0 and findIn(leaf, address) & starts != 0;
        }

        pub const AddError = error{ OutOfMemory, TooMany };

        /// Registers a mapping as `count` regions of `each` bytes; they come out `free`, linked by
        /// `next` in the order of their addresses and ended by `none`. Returns the index of the first.
        pub fn addArea(
            self: *Self,
            ptr: [*]u8,
            each: usize,
            count: u32,
            pool: u16,
            class: u8,
            kind: PageKind,
        ) AddError!u32 {
            const address = @intFromPtr(ptr);
            try self.mapLeaves(address, each * count);
            self.lock.acquire();
            const area_index = self.takeAreaSlot() orelse {
                self.lock.release();
                return error.TooMany;
            };
            const first = self.takeRange(indexesFor(count)) orelse {
                self.dropAreaSlot(area_index);
                self.lock.release();
                return error.TooMany;
            };
            self.areas[area_index] = .{
                .address = address,
                .bytes = each * count,
                .first_region = first,
                .regions = count,
                .pool = pool,
                .class = class,
                .kind = @intFromEnum(kind),
                .collected = 0,
                .next = none,
                .live = true,
            };
            self.lock.release();
            for (0..count) |i| {
                const index = self.areas[area_index].at(i);
                const region = self.at(index);
                const tie = &self.ties[index];
                const epoch = region.epoch.load(.monotonic, .epoch);
                region.address = address + i * each;
                region.bytes = each;
                region.dirty = 0;
                region.resident = 0;
                region.locked = 0;
                region.tie = tie;
                region.next.store(if (i + 1 == count) none else self.areas[area_index].at(i + 1), .monotonic, .region_new);
                region.flavor = .{ .kind = kind };
                region.lazy = false;
                region.area = area_index;
                region.wraps.store(0, .monotonic, .wraps);
                region.run = none;
                // The epoch goes on from the index's former life, so that no old wrap matches.
                region.epoch.store((epoch + 1) & epoch_mask, .monotonic, .epoch);
                // What a walk over all descriptors reads is written atomically, here and later.
                region.lease_bytes.store(0, .monotonic, .region_new);
                region.lease.store(none, .monotonic, .region_new);
                @atomicStore(u8, &region.class, class, .monotonic);
                const free: Tenancy = .{ .owner = 0, .pool = @intCast(pool), .state = .free };
                tie.word().store(free.bits(), .monotonic, .region_new);
            }
            self.showArea(area_index);
            return first;
        }

        /// Takes an area, all of whose regions the caller holds, off the page map: before it is unmapped, since
        /// from then on its addresses may be another area's.
        pub fn hideArea(self: *Self, area_index: u32) void {
            const area = self.areas[area_index];
            self.setSlots(area.address, area.bytes, 0);
        }

        /// Undoes `hideArea`.
        pub fn showArea(self: *Self, area_index: u32) void {
            const area = self.areas[area_index];
            const each = area.bytes / area.regions;
            for (0..area.regions) |i| self.setSlots(area.address + i * each, each, area.at(i));
        }

        /// Forgets an area that is hidden. The mapping is the caller's.
        pub fn dropArea(self: *Self, area_index: u32) void {
            const area = self.areas[area_index];
            for (0..area.regions) |i| self.at(area.at(i)).become(.unused);
            self.lock.acquire();
            defer self.lock.release();
            self.giveRange(area.first_region, indexesFor(area.regions));
            self.dropAreaSlot(area_index);
        }

        fn takeAreaSlot(self: *Self) ?u32 {
            if (self.areas_free != none) {
                const index = self.areas_free;
                self.areas_free = self.areas[index].next;
                return index;
            }
            if (self.areas_top == areas_max) return null;
            defer self.areas_top += 1;
            return self.areas_top;
        }

        fn dropAreaSlot(self: *Self, index: u32) void {
            self.areas[index].live = false;
            self.areas[index].next = self.areas_free;
            self.areas_free = index;
        }

        /// First fit among freed ranges, else fresh indexes. Ranges number as many as areas were
        /// dropped at once, and growth is rare: a walk is fine here.
        fn takeRange(self: *Self, count: u32) ?u32 {
            for (&self.ranges) |*range| {
                if (range.count < count) continue;
                defer range.* = .{ .first = range.first + count, .count = range.count - count };
                return range.first;
            }
            const top = self.regions_top.load(.monotonic, .top);
            if (regions_max - top < count) return null;
            self.regions_top.store(top + count, .monotonic, .top);
            return top;
        }

        fn giveRange(self: *Self, first: u32, count: u32) void {
            var range: Range = .{ .first = first, .count = count };
            // Join with neighbours first, so that the table cannot fill up with crumbs.
            for (&self.ranges) |*other| {
                if (other.count == 0) continue;
                if (other.first + other.count == range.first) {
                    range = .{ .first = other.first, .count = other.count + range.count };
                    other.count = 0;
                } else if (range.first + range.count == other.first) {
                    range.count += other.count;
                    other.count = 0;
                }
            }
            for (&self.ranges) |*other| {
                if (other.count != 0) continue;
                other.* = range;
                return;
            }
            // Full: the indexes are lost, not the memory; a million remain.
        }

        fn mapLeaves(self: *Self, address: usize, bytes: usize) AddError!void {
            const first = address / unit_bytes / leaf_units;
            const last = (address + bytes - 1) / unit_bytes / leaf_units;
            if (last >= root_entries) return error.OutOfMemory;
            for (first..last + 1) |i| {
                if (self.root[i].load(.monotonic, .map_look) != 0) continue;
                const leaf = self.metadata(leaf_bytes) orelse return error.OutOfMemory;
                // Release: pairs with the acquire in `find`. The loser of a race gives its leaf back.
                if (self.root[i].cmpxchg(0, @intFromPtr(leaf), .release, .monotonic, .map_publish) != null)
                    self.release(leaf, leaf_bytes);
            }
        }

        noinline fn setSlots(self: *Self, address: usize, bytes: usize, value: u32) void {
            const first = address / unit_bytes;
            const end = (address + bytes) / unit_bytes;
            for (first..end) |unit| {
                const leaf = self.root[unit / leaf_units].load(.acquire, .map_find);
                const slots: [*]Sync.Atomic(u32) = @ptrFromInt(leaf);
                const mark = if (unit == first and value != 0) starts else 0;
                slots[unit % leaf_units].store(value | mark, .monotonic, .map_slot);
            }
        }
    };
}

const testing = std.testing;

test "an address inside an area leads to its region, and to none when the area is gone" {
    const Os = os.fake;
    Os.reset();
    defer Os.reset();
    var table: Table(Os, ds.Real) = .{};
    try testing.expect(table.init());
    var errno: u16 = 0;
    const ptr = Os.reserve(8 * unit_bytes, unit_bytes, &errno).?;
    const first = try table.addArea(ptr, 2 * unit_bytes, 4, 0, 1, .base);
    for (0..4) |i| {
        const inside = @intFromPtr(ptr) + i * 2 * unit_bytes + unit_bytes + 77;
        try testing.expectEqual(table.areas[0].at(i), table.find(inside));
        const leaf = table.leafOf(inside);
        try testing.expectEqual(0, @TypeOf(table).findIn(leaf, inside) & starts);
        try testing.expectEqual(table.find(inside) | starts, @TypeOf(table).findIn(leaf, inside - unit_bytes));
    }
    try testing.expectEqual(none, table.find(@intFromPtr(ptr) + 8 * unit_bytes));
    const epoch = table.at(first).epoch.load(.monotonic, .epoch);
    const area = table.at(first).area;
    table.hideArea(area);
    try testing.expectEqual(none, table.find(@intFromPtr(ptr)));
    table.showArea(area);
    for (0..4) |i| try testing.expectEqual(table.areas[0].at(i), table.find(@intFromPtr(ptr) + i * 2 * unit_bytes));
    table.hideArea(area);
    table.dropArea(area);
    try testing.expectEqual(none, table.find(@intFromPtr(ptr)));
    // The indexes come back, with another epoch.
    try testing.expectEqual(first, try table.addArea(ptr, 2 * unit_bytes, 4, 0, 1, .base));
    try testing.expect(table.at(first).epoch.load(.monotonic, .epoch) != epoch);
    // The system may give the addresses to another thread before the area is forgotten.
    table.hideArea(table.at(first).area);
    const other = try table.addArea(ptr, 2 * unit_bytes, 4, 0, 1, .base);
    table.dropArea(table.at(first).area);
    try testing.expectEqual(other, table.find(@intFromPtr(ptr)));
    table.hideArea(table.at(other).area);
    table.dropArea(table.at(other).area);
    try testing.expectEqual(0, Os.unmap(ptr, 8 * unit_bytes));
    table.deinit();
    try testing.expectEqual(0, Os.pagesHeld());
}

test "neighbours have ties in different cache lines, and a block is used up" {
    var seen: ds.BitSet512 = .empty;
    for (0..512) |i| {
        const index = spread(@intCast(i));
        try testing.expect(!seen.isSet(index));
        seen.setRange(index, 1);
        if (i % spread_block == 0) continue;
        try testing.expect(index / line_ties != spread(@intCast(i - 1)) / line_ties);
        // Nor do the first of two batches of four.
        if (i % spread_block >= spread_lines)
            try testing.expect(index / line_ties != spread(@intCast(i - spread_lines)) / line_ties);
    }
}
