//! A tiny heap inside one growing memory: the linear memory of a WebAssembly module, or a native
//! reservation with a limit. The caller gives the size back at `free`, so a block carries nothing.
//!
//! Memory is divided into sectors of 512 bytes, and a table at its top has an entry of four bytes for
//! each. A free run of sectors has its size in its first and its last entry and its links between
//! them, in a list of its size (16 lists per doubling; a bit for each says whether it may have any);
//! what is not free has zeros, so a freed block sees at once whether a free run ends just before it
//! or begins just behind it. The table moves up when the memory grows: all below stays one piece.
//!
//! Blocks up to 2 KiB are slots in slabs of 4 KiB: all of one size, a power of two. They are most of
//! the operations and few of the bytes. A free slot is in the list of its size; a slab counts its
//! live slots in the table. Slabs without any become free runs again when a run is looked for and
//! not found, before the memory grows, and before figures are taken.
//!
//! Invariant: no two free runs touch; entries are as said and 0 elsewhere; runs never cross from one
//! region of the memory into another (someone else may grow the memory between our calls, which
//! leaves a gap). The four bytes behind a user's block are never metadata.
//!
//! Cost: alloc and free O(1) but for that collection, which is linear in free slots and in the table.
//! Space 1/128 for the table and the rounding; less than an eighth of what lives, where most bytes
//! are in blocks above 2 KiB. Lists of freed blocks of all sizes in front of runs took 12 to 34 % more
//! (2-vCPU VM, November 2026).
//!
//! Threads: as the host says. A host with `acquire` and `release` makes it safe from any thread; a
//! linear memory has none, and its heap belongs to the Worker that made it.
//!
//! When NOT to use it: for memory that many threads allocate at once, for more than 32 GiB, and to
//! find wrong frees: without headers, a free with a wrong size cannot be noticed.

const std = @import("std");
const ds = @import("../ds/ds.zig");

/// The alignment that every block has.
pub const granule_bytes = 16;
/// What a host grows by: the page of WebAssembly.
pub const host_page_bytes = 64 << 10;
/// Blocks above this count as large in the figures.
pub const large_bytes_min = 32 << 10;
/// Above this a request is refused. Units are counted in 31 bits, with room for sums of two.
pub const request_bytes_max: usize = @min(std.math.maxInt(isize), (1 << 31) * granule_bytes);

/// What runs are counted in.
const sector_bytes_log2 = 9;
const sector_bytes = 1 << sector_bytes_log2;
/// Blocks up to this, of no larger alignment, are slots of a slab.
const slot_bytes_max = 1 << slot_log2_max;
const slot_log2_max = 11;
/// A slab lies at a multiple of its size, so that a slot's address says which slab it is of.
const slab_bytes = 4 << 10;

/// Lists of free runs per doubling of their size, as a power of two; the last holds all above.
const lists_log2 = 4;
const lists = 96;
/// One bit for each list.
const Filled = u32;
const filled_bits = @bitSizeOf(Filled);
/// One more than is used: a power of two.
const filled_words = 4;
/// Memory grows by this part of itself, and what is needed. Linear memory over peak live bytes after
/// 10^6 mixed operations (2-vCPU VM, November 2026): 1.15 with a 64th, 1.13 with a 96th.
const growth_part = 96;
/// Left free below the table, so that a block which is written past its end does not reach it.
const guard_bytes = granule_bytes;

pub const Options = struct {
    /// Count what is in use; half of a kilobyte of code in WebAssembly.
    statistics: bool = true,
    /// Count live blocks by size as well: 257 rows of memory.
    histogram: bool = false,
};

/// Figures of a heap; words are of 4 bytes. Bytes are those requested, words those given.
pub const Statistics = extern struct {
    in_use: u64 = 0,
    high_water: u64 = 0,
    /// As `high_water`, since `resetTrip`.
    trip_high_water: u64 = 0,
    /// Pieces of memory; more than one when someone else grew the memory in between.
    regions: u64 = 0,
    total_words: u64 = 0,
    allocated_words: u64 = 0,
    /// The free run at the top.
    unused_words: u64 = 0,
    /// All other free runs, and their number.
    fragment_words: u64 = 0,
    fragments: u64 = 0,
    /// Host pages of large blocks, each block rounded up, and those that lie whole in free runs.
    total_large_pages: u64 = 0,
    unused_large_pages: u64 = 0,
    allocated_large_pages_words: u64 = 0,
    heap_start: u64 = 0,

    /// All figures on one line.
    pub fn format(figures: Statistics, writer: *std.Io.Writer) std.Io.Writer.Error!void {
        inline for (@typeInfo(Statistics).@"struct".fields, 0..) |field, i| {
            try writer.print("{s}{s}={d}", .{ if (i == 0) "" else " ", field.name, @field(figures, field.name) });
        }
    }
};

/// Live blocks of one size in words; the last row holds all above.
pub const SizeRow = struct { count: u32 = 0, high_water: u32 = 0, trip_high_water: u32 = 0 };
pub const size_rows = 257;

/// `Host`: `start()` and `end()` addresses of the memory now, `grow(pages)` by pages of 64 KiB to
/// the old end or null; optionally `firstEnd()` (how far the memory is the heap's before it has grown
/// it; default: all), `decommit(address, bytes)`, `acquire()`, `release()`. All take `*Host`. The memory starts at 2 KiB or above, and not above its end, which is at
/// a multiple of 4 KiB.
pub fn SmallHeap(comptime Host: type, comptime options: Options) type {
    return struct {
        const Heap = @This();

        host: Host,
        /// What sectors count from; 0 where an address fits in 32 bits.
        origin: if (narrow) u0 else usize = 0,
        /// Where the entry before that of sector 0 lies.
        table: usize = 0,
        /// End of what can be handed out; the guard and the table lie from here to `end`.
        top: usize = 0,
        /// End of the newest region. 0: nothing was asked of the host yet.
        end: usize = 0,
        /// A bit for each list, set for all that are not empty.
        filled: [filled_words]Filled = @splat(0),
        /// Free slots of each size, by its logarithm.
        slots: [slot_log2_max + 1]Sector = @splat(0),
        /// Whether a slab may have no live slot.
        has_empty: bool = false,
        counted: if (options.statistics) Counted else void = if (options.statistics) .{} else {},
        sizes: if (options.histogram) [size_rows]SizeRow else void =
            if (options.histogram) @splat(.{}) else {},

        const Counted = struct {
            start: usize = 0,
            in_use: usize = 0,
            high_water: usize = 0,
            trip_high_water: usize = 0,
            regions: u32 = 0,
            total_bytes: usize = 0,
            /// Of blocks that are runs.
            allocated_sectors: usize = 0,
            large_bytes: usize = 0,
            large_pages: usize = 0,
        };

        // -- Operations ---------------------------------------------------------------------

        /// Null: refused by the host, or above the bound. Nothing needs no memory, and gets an
        /// address that is not null. `alignment` is a power of two.
        pub fn alloc(heap: *Heap, bytes: usize, alignment: usize) ?[*]u8 {
            heap.acquire();
            defer heap.release();
            // Of no bytes all bits are set.
            const longest = (bytes -% 1) | (alignment - 1) | (granule_bytes - 1);
            const address = if (longest < slot_bytes_max)
                heap.takeSlot(@bitSizeOf(u32) - @as(u32, @clz(@as(u32, @intCast(longest)))))
            else if (bytes != 0)
                heap.takeRun(bytes, alignment)
            else
                alignment;
            const counted = address != 0 or (ds.fault("small-counts-failures") and bytes <= request_bytes_max);
            if (options.statistics and counted) heap.count(bytes);
            return @ptrFromInt(address);
        }

        /// `bytes` as in the call that gave or last resized the block.
        pub fn free(heap: *Heap, ptr: [*]u8, bytes: usize) void {
            if (bytes == 0) return;
            heap.acquire();
            defer heap.release();
            heap.giveBlock(@intFromPtr(ptr), bytes);
            if (options.statistics) heap.discount(bytes);
        }

        /// The block with another length where it lies. False: no room; the block is as before.
        pub fn resize(heap: *Heap, ptr: [*]u8, old_bytes: usize, new_bytes: usize) bool {
            if (old_bytes == 0 or new_bytes == 0 or new_bytes > request_bytes_max) return false;
            if (ds.fault("small-always-moves") and new_bytes > old_bytes) return false;
            heap.acquire();
            defer heap.release();
            if (!heap.resizeBlock(@intFromPtr(ptr), old_bytes, new_bytes)) return false;
            if (options.statistics) {
                heap.discount(old_bytes);
                heap.count(new_bytes);
            }
            return true;
        }

        fn resizeBlock(heap: *Heap, address: usize, old_bytes: usize, new_bytes: usize) bool {
            const slab = heap.slabOf(address);
            if (isSlab(slab)) return (new_bytes - 1) >> @intCast(slab[at.slot_log2]) == 0;
            const sector = heap.sectorOf(address);
            const old = sectorsOf(old_bytes);
            const new = sectorsOf(new_bytes);
            const behind = @max(heap.entries(sector + old)[at.size], 0);
            const rest = old + behind - new;
            if (rest < 0) return false;
            if (behind != 0) heap.remove(sector + old, behind);
            heap.insert(sector + new, rest);
            if (options.statistics) heap.counted.allocated_sectors +%= @bitCast(@as(isize, new - old));
            return true;
        }

        /// As `resize`, else the contents move to a new block. Null: the old block is as before.
        pub fn realloc(heap: *Heap, ptr: [*]u8, old_bytes: usize, new_bytes: usize, alignment: usize) ?[*]u8 {
            if (heap.resize(ptr, old_bytes, new_bytes)) return ptr;
            const moved = heap.alloc(new_bytes, alignment) orelse return null;
            @memcpy(moved[0..@min(old_bytes, new_bytes)], ptr);
            heap.free(ptr, old_bytes);
            return moved;
        }

        /// Gives the pages inside free runs back to a host that can take them, and says how many
        /// bytes of them were resident.
        pub fn trim(heap: *Heap) usize {
            if (!@hasDecl(Host, "decommit") or ds.fault("small-never-decommits")) return 0;
            heap.acquire();
            defer heap.release();
            heap.collect();
            if (heap.table == 0) return 0;
            var bytes: usize = 0;
            for (0..lists) |list| {
                var run = heap.entries(headOf(@intCast(list)))[at.next];
                while (run != 0) : (run = heap.entries(run)[at.next]) {
                    const first = heap.addressOf(run);
                    const last = first + bytesOf(heap.entries(run)[at.size]);
                    const from = std.mem.alignForward(usize, first, host_page_bytes);
                    const to = std.mem.alignBackward(usize, last, host_page_bytes);
                    if (to > from) bytes += heap.host.decommit(from, to - from);
                }
            }
            return bytes;
        }

        // -- The table ----------------------------------------------------------------------

        const narrow = @sizeOf(usize) == 4;
        /// Where a sector's entry lies in the table, so `entry` more for each; also how many sectors, in
        /// the same measure. Negative numbers are lists.
        const Sector = i32;
        const entry = @sizeOf(Sector);

        /// What the first entries of a free run, of a slab or of a list say. The last entry of a
        /// free run has its size, too. All other entries are 0: a run that is neighbour to a block
        /// is free if the entry there is above 0.
        const at = struct {
            /// The last entry of what is before.
            const before = 0;
            /// Of a free run.
            const size = 1;
            /// Of a slab: slots that are live, counted from `empty`.
            const tag = 1;
            const slot_log2 = 2;
            const next = 2;
            const prev = 3;
        };
        /// Below the numbers of lists, since a free run that begins just before may have one there.
        const empty = -2 * slots_max;
        const slots_max = 512;
        /// Below it, entries are of no sector: nothing is before and behind what is in no list.
        const first_sector = 4 * entry;
        const slab_sectors = slab_bytes / sector_bytes * entry;
        /// Shorter runs are found by their neighbours only: no request is for so little.
        const listed_sectors_min = 4 * entry;

        inline fn entries(heap: *const Heap, sector: Sector) [*]Sector {
            return inTable(heap.table, sector);
        }

        inline fn inTable(table: usize, sector: Sector) [*]Sector {
            return @ptrFromInt(table +% @as(usize, @bitCast(@as(isize, sector))));
        }

        /// Lists lie before the table, where sectors of negative numbers would.
        inline fn headOf(list: u32) Sector {
            return (@as(Sector, @bitCast(list)) - (lists + 1)) * entry;
        }

        /// Of a multiple of `sector_bytes`.
        inline fn sectorOf(heap: *const Heap, address: usize) Sector {
            return @intCast((address - heap.origin) >> (sector_bytes_log2 - 2));
        }

        /// The entries of the first sector of what would be a slab there.
        inline fn slabOf(heap: *const Heap, address: usize) [*]Sector {
            return heap.entries(heap.sectorOf(address) & ~@as(Sector, slab_sectors - 1));
        }

        inline fn isSlab(first: [*]const Sector) bool {
            return first[at.tag] <= empty + slots_max;
        }

        inline fn addressOf(heap: *const Heap, sector: Sector) usize {
            return heap.origin + bytesOf(sector);
        }

        inline fn sectorsOf(bytes: usize) Sector {
            return @intCast((bytes + sector_bytes - 1) >> sector_bytes_log2 << 2);
        }

        inline fn bytesOf(sectors: Sector) usize {
            return @as(usize, @intCast(sectors)) << (sector_bytes_log2 - 2);
        }

        // -- Slots --------------------------------------------------------------------------

        /// An address in 32 bits: as it is, or in granules from `origin`.
        inline fn encode(heap: *const Heap, address: usize) Sector {
            return if (narrow) @bitCast(address) else @bitCast(@as(u32, @intCast((address - heap.origin) / granule_bytes)));
        }

        inline fn decode(heap: *const Heap, code: Sector) usize {
            const all: u32 = @bitCast(code);
            return if (narrow) all else heap.origin + @as(usize, all) * granule_bytes;
        }

        /// Where a free slot names the next. The word before is nothing: a user who writes up to
        /// four bytes past the block before damages nothing.
        inline fn nextOf(slot: usize) *Sector {
            return @ptrFromInt(slot + if (ds.fault("small-link-past-end")) 0 else 4);
        }

        /// 0: refused.
        inline fn takeSlot(heap: *Heap, log2: u32) usize {
            const list = &heap.slots[log2];
            if (list.* == 0 and heap.newSlab(log2) == 0) return 0;
            const slot = heap.decode(list.*);
            list.* = nextOf(slot).*;
            heap.slabOf(slot)[at.tag] += 1;
            return slot;
        }

        /// 0: refused.
        noinline fn newSlab(heap: *Heap, log2: u32) Sector {
            const sector = heap.take(slab_sectors, slab_sectors - 1);
            if (sector == 0) return 0;
            const slab = heap.entries(sector);
            slab[at.tag] = empty;
            slab[at.slot_log2] = @bitCast(log2);
            const first = heap.addressOf(sector);
            var slot = first + slab_bytes;
            while (slot != first) {
                slot -= @as(usize, 1) << @intCast(log2);
                heap.push(log2, slot);
            }
            return sector;
        }

        inline fn push(heap: *Heap, log2: u32, slot: usize) void {
            nextOf(slot).* = heap.slots[log2];
            heap.slots[log2] = heap.encode(slot);
        }

        /// Gives back the slabs that have no live slot.
        fn collect(heap: *Heap) void {
            if (!heap.has_empty) return;
            heap.has_empty = false;
            for (&heap.slots) |*list| {
                var link = list;
                while (link.* != 0) {
                    const slot = heap.decode(link.*);
                    const next = nextOf(slot);
                    if (heap.slabOf(slot)[at.tag] == empty) link.* = next.* else link = next;
                }
            }
            var sector = heap.sectorOf(heap.end);
            while (sector != 0) {
                sector -= slab_sectors;
                const slab = heap.entries(sector);
                if (slab[at.tag] == empty) {
                    slab[at.tag] = 0;
                    slab[at.slot_log2] = 0;
                    heap.give(sector, slab_sectors);
                }
            }
        }

        // -- Runs ---------------------------------------------------------------------------

        /// The exponent and the first bits of the mantissa of a float: exact for the smallest sizes,
        /// then 16 to a doubling. Less code than the same by shifts.
        inline fn listOf(size: Sector) u32 {
            const scaled: f32 = @floatFromInt(size + (entry << lists_log2));
            const first = (127 + 2 + lists_log2) << lists_log2;
            return @min((@as(u32, @bitCast(scaled)) >> (23 - lists_log2)) - first, lists - 1);
        }

        fn insert(heap: *Heap, sector: Sector, size: Sector) void {
            if (size == 0) return;
            const table = heap.table;
            const run = inTable(table, sector);
            run[at.size] = size;
            inTable(table, sector + size)[at.before] = size;
            if (size < listed_sectors_min) return;
            const list = listOf(size);
            const head = inTable(table, headOf(list));
            const next = head[at.next];
            head[at.next] = sector;
            run[at.next] = next;
            run[at.prev] = headOf(list);
            // Of nothing, this is an entry of no sector.
            inTable(table, next)[at.prev] = sector;
            heap.filled[list / filled_bits] |= @as(Filled, 1) << @truncate(list);
        }

        fn remove(heap: *Heap, sector: Sector, size: Sector) void {
            const table = heap.table;
            const run = inTable(table, sector);
            run[at.size] = 0;
            inTable(table, sector + size)[at.before] = 0;
            if (size < listed_sectors_min) return;
            const next = run[at.next];
            const prev = run[at.prev];
            run[at.next] = 0;
            run[at.prev] = 0;
            inTable(table, next)[at.prev] = prev;
            inTable(table, prev)[at.next] = next;
        }

        fn giveBlock(heap: *Heap, address: usize, bytes: usize) void {
            const slab = heap.slabOf(address);
            if (isSlab(slab)) {
                heap.push(@bitCast(slab[at.slot_log2]), address);
                slab[at.tag] -= 1;
                if (slab[at.tag] == empty) heap.has_empty = true;
                return;
            }
            if (options.statistics) heap.counted.allocated_sectors -%= @intCast(sectorsOf(bytes));
            heap.give(heap.sectorOf(address), sectorsOf(bytes));
        }

        /// Makes sectors free, in one run with what is free on both sides.
        fn give(heap: *Heap, from: Sector, sectors: Sector) void {
            const table = heap.table;
            var sector = from;
            var size = sectors;
            const more = inTable(table, sector + size)[at.size];
            if (more > 0) {
                heap.remove(sector + size, more);
                size += more;
                const twins = sectors == more and bytesOf(sectors) > host_page_bytes;
                if (ds.fault("small-merges-past-end") and twins) size += entry;
            }
            const before = inTable(table, sector)[at.before];
            if (before != 0) {
                sector -= before;
                size += before;
                heap.remove(sector, before);
            }
            heap.insert(sector, size);
        }

        /// 0: refused.
        fn takeRun(heap: *Heap, bytes_wanted: usize, alignment: usize) usize {
            const bytes = if (ds.fault("small-count-wraps")) @as(u32, @truncate(bytes_wanted)) else bytes_wanted;
            // Above the bound the sums of `grow` would wrap.
            if ((bytes | alignment) > request_bytes_max) return 0;
            const size = sectorsOf(bytes);
            const mask: Sector = if (bytes > large_bytes_min and ds.fault("small-align-ignored")) 0 else @intCast((alignment - 1) >> (sector_bytes_log2 - 2));
            const sector = heap.take(size, mask);
            if (sector == 0) return 0;
            if (options.statistics) heap.counted.allocated_sectors +%= @intCast(size);
            return heap.addressOf(sector);
        }

        /// `size` at a multiple of `mask` + 1; 0: refused.
        fn take(heap: *Heap, size: Sector, mask: Sector) Sector {
            while (true) {
                const run = heap.find(size, mask);
                if (run != 0) {
                    const room = heap.entries(run)[at.size];
                    const skip = heap.skipped(run, mask);
                    const sector = run + skip;
                    heap.remove(run, room);
                    heap.insert(sector + size, room - skip - size);
                    heap.insert(run, skip);
                    return sector;
                }
                if (heap.has_empty) heap.collect() else if (!heap.grow(size, mask)) return 0;
            }
        }

        /// What of a run is before the next multiple of `mask` + 1.
        inline fn skipped(heap: *const Heap, run: Sector, mask: Sector) Sector {
            const base: Sector = if (narrow) 0 else @bitCast(@as(u32, @truncate(heap.origin >> (sector_bytes_log2 - 2))));
            return (0 -% (base +% run)) & mask;
        }

        /// A free run in which `size` fits at a multiple of `mask` + 1; 0: none.
        fn find(heap: *Heap, size: Sector, mask: Sector) Sector {
            var list = listOf(size);
            while (list < lists) {
                const word = &heap.filled[list / filled_bits % filled_words];
                const rest = word.* >> @truncate(list);
                if (rest == 0) {
                    list = (list | (filled_bits - 1)) + 1;
                    continue;
                }
                list += @ctz(rest);
                const run = heap.entries(headOf(list))[at.next];
                if (run == 0) {
                    word.* ^= @as(Filled, 1) << @truncate(list);
                } else if (heap.entries(run)[at.size] >= size + heap.skipped(run, mask)) return run;
                list += 1;
            }
            return 0;
        }

        // -- Growth -------------------------------------------------------------------------

        /// Bytes before the entry of sector 0: the lists.
        const heads_bytes = (lists + 1) * entry;
        /// What the table takes at most, but for its entries.
        const table_extra_bytes = heads_bytes + guard_bytes + sector_bytes + (if (narrow) 0 else 2 * slab_sectors);

        /// More memory, so that a run of `size` at a multiple of `mask` + 1 can be found, unless
        /// someone else grows the memory meanwhile. False: the host refuses.
        fn grow(heap: *Heap, size: Sector, mask: Sector) bool {
            @branchHint(.cold);
            if (heap.end == 0 and heap.begin()) return true;
            const end = heap.host.end();
            const span = end - heap.origin;
            var need = bytesOf(size + mask);
            // The whole table has to lie in what is new.
            const table_bytes = span / 127 + need / 127 + table_extra_bytes;
            if (end == heap.end and heap.table != 0) {
                need -|= end - heap.top + bytesOf(@max(heap.entries(heap.sectorOf(heap.top))[at.before], 0));
            }
            const least = (need + table_bytes) / host_page_bytes + 1;
            const more = if (ds.fault("small-grows-by-pages")) 0 else span / (growth_part * host_page_bytes);
            var pages = least + more;
            while (narrow or heap.end - heap.origin + pages * host_page_bytes <= std.math.maxInt(u32) * granule_bytes) {
                if (heap.host.grow(pages)) |old_end| {
                    heap.adopt(old_end, old_end + pages * host_page_bytes);
                    return true;
                }
                if (pages == least) break;
                pages = least;
            }
            return false;
        }

        /// The memory as the host has it at the first request. True if there is any to hand out.
        fn begin(heap: *Heap) bool {
            // The first entries of the table are nobody's.
            const start = heap.host.start();
            if (!narrow) heap.origin = (start & ~@as(usize, slab_bytes - 1)) - slab_bytes;
            heap.top = (start + sector_bytes - 1) & ~@as(usize, sector_bytes - 1);
            heap.end = if (@hasDecl(Host, "firstEnd")) heap.host.firstEnd() else heap.host.end();
            if (options.statistics) heap.counted = .{ .start = start, .regions = 1, .total_bytes = heap.end - start };
            if (heap.end < heap.top + 2 * sector_bytes + (heap.end - heap.origin) / 127 + table_extra_bytes) return false;
            heap.adopt(heap.end, heap.end);
            return true;
        }

        /// Takes [from, to) over: moves the table to its end, and frees where it was.
        fn adopt(heap: *Heap, from: usize, to: usize) void {
            const old_table = heap.table;
            const old_top = heap.top;
            const old_end = heap.end;
            const joined = from == old_end or ds.fault("small-joins-gap");
            const first_entry = to - @as(usize, @intCast(heap.sectorOf(to)));
            heap.table = first_entry - entry;
            heap.end = to;
            const low: [*]u8 = @ptrFromInt(first_entry - heads_bytes);
            @memset(low[0 .. to - @intFromPtr(low)], 0);
            if (old_table != 0) {
                const kept = heads_bytes + @as(usize, @intCast(heap.sectorOf(old_top)));
                @memcpy(low[0..kept], @as([*]const u8, @ptrFromInt(old_table + entry - heads_bytes)));
            }
            heap.top = (@intFromPtr(low) - guard_bytes) & ~@as(usize, sector_bytes - 1);
            if (options.statistics) {
                heap.counted.total_bytes += to - from;
                if (!joined) heap.counted.regions += 1;
            }
            var first = heap.sectorOf(old_top);
            if (!joined) {
                if (old_end > old_top) heap.give(first, heap.sectorOf(old_end) - first);
                first = heap.sectorOf(from);
            }
            heap.give(first, heap.sectorOf(heap.top) - first);
        }

        // -- Figures ------------------------------------------------------------------------

        fn count(heap: *Heap, bytes: usize) void {
            const figures = &heap.counted;
            figures.in_use +%= bytes;
            figures.trip_high_water = @max(figures.trip_high_water, figures.in_use);
            heap.countSize(bytes, true);
        }

        fn discount(heap: *Heap, bytes: usize) void {
            heap.counted.in_use -%= bytes;
            heap.countSize(bytes, false);
        }

        inline fn countSize(heap: *Heap, bytes: usize, comptime more: bool) void {
            if (bytes > large_bytes_min) heap.countLarge(bytes, more);
            if (!options.histogram) return;
            const row = &heap.sizes[@min((bytes + 3) / 4, size_rows - 1)];
            row.count = if (more) row.count + 1 else row.count - 1;
            row.high_water = @max(row.high_water, row.count);
            row.trip_high_water = @max(row.trip_high_water, row.count);
        }

        fn countLarge(heap: *Heap, bytes: usize, more: bool) void {
            const figures = &heap.counted;
            const pages = (bytes - 1) / host_page_bytes + 1;
            figures.large_bytes = if (more) figures.large_bytes +% bytes else figures.large_bytes -% bytes;
            figures.large_pages = if (more) figures.large_pages +% pages else figures.large_pages -% pages;
        }

        /// Linear in the memory: an entry of the table for every 512 bytes.
        pub fn stats(heap: *Heap) Statistics {
            heap.acquire();
            defer heap.release();
            heap.collect();
            const counted = &heap.counted;
            var figures: Statistics = .{
                .in_use = counted.in_use,
                .high_water = @max(counted.high_water, counted.trip_high_water),
                .trip_high_water = counted.trip_high_water,
                .regions = counted.regions,
                .total_words = counted.total_bytes / 4,
                .total_large_pages = counted.large_pages,
                .allocated_large_pages_words = (counted.large_bytes + 3) / 4,
                .heap_start = counted.start,
            };
            var allocated = counted.allocated_sectors * (sector_bytes / entry);
            var sector: Sector = first_sector;
            const last = if (heap.table == 0) 0 else heap.sectorOf(heap.top);
            while (sector < last) {
                const first = heap.entries(sector)[at.size];
                var step: Sector = entry;
                if (first > 0) {
                    const run = bytesOf(first);
                    figures.unused_large_pages += run / host_page_bytes;
                    step = first;
                    if (sector + first == last) {
                        figures.unused_words = run / 4;
                    } else {
                        figures.fragment_words += run / 4;
                        figures.fragments += 1;
                    }
                }
                if (first < 0) {
                    const slab = heap.entries(sector);
                    const live = bytesOfSlots(slab, first -% empty);
                    allocated += live;
                    step = slab_sectors;
                    figures.fragment_words += (slab_bytes - live) / 4;
                    figures.fragments += @intFromBool(live != slab_bytes);
                }
                sector += step;
            }
            figures.allocated_words = allocated / 4;
            figures.total_large_pages += figures.unused_large_pages;
            return figures;
        }

        fn bytesOfSlots(slab: [*]const Sector, slots: Sector) usize {
            return @as(usize, @intCast(slots)) << @intCast(slab[at.slot_log2]);
        }

        /// From now on `trip_high_water` is the most in use after this call.
        pub fn resetTrip(heap: *Heap) void {
            heap.acquire();
            defer heap.release();
            heap.counted.high_water = @max(heap.counted.high_water, heap.counted.trip_high_water);
            heap.counted.trip_high_water = heap.counted.in_use;
            if (options.histogram) for (&heap.sizes) |*row| {
                row.trip_high_water = row.count;
            };
        }

        // -- Threads, std.mem.Allocator -----------------------------------------------------

        inline fn acquire(heap: *Heap) void {
            if (@hasDecl(Host, "acquire")) heap.host.acquire();
        }

        inline fn release(heap: *Heap) void {
            if (@hasDecl(Host, "release")) heap.host.release();
        }

        pub fn allocator(heap: *Heap) std.mem.Allocator {
            return .{ .ptr = heap, .vtable = &.{
                .alloc = faceAlloc,
                .resize = faceResize,
                .remap = faceRemap,
                .free = faceFree,
            } };
        }

        fn faceAlloc(context: *anyopaque, bytes: usize, alignment: std.mem.Alignment, _: usize) ?[*]u8 {
            const heap: *Heap = @ptrCast(@alignCast(context));
            return heap.alloc(bytes, alignment.toByteUnits());
        }

        fn faceResize(context: *anyopaque, memory: []u8, _: std.mem.Alignment, bytes: usize, _: usize) bool {
            const heap: *Heap = @ptrCast(@alignCast(context));
            return heap.resize(memory.ptr, memory.len, bytes);
        }

        fn faceRemap(context: *anyopaque, memory: []u8, alignment: std.mem.Alignment, bytes: usize, _: usize) ?[*]u8 {
            const heap: *Heap = @ptrCast(@alignCast(context));
            return heap.realloc(memory.ptr, memory.len, bytes, alignment.toByteUnits());
        }

        fn faceFree(context: *anyopaque, memory: []u8, _: std.mem.Alignment, _: usize) void {
            const heap: *Heap = @ptrCast(@alignCast(context));
            heap.free(memory.ptr, memory.len);
        }

        // -- Checks for tests ---------------------------------------------------------------

        pub const Broken = error{ RunsTouch, SizesDiffer, WrongList, WrongSlab, EntryLeft };

        /// Walks everything; tests only.
        pub fn invariants(heap: *const Heap) Broken!void {
            if (heap.table == 0) return;
            var runs: usize = 0;
            var free_slots: [slot_log2_max + 1]usize = @splat(0);
            var after_run = false;
            var sector: Sector = first_sector;
            while (sector < heap.sectorOf(heap.end)) {
                const first = heap.entries(sector)[at.size];
                var step: Sector = entry;
                if (first > 0) {
                    if (after_run) return error.RunsTouch;
                    if (heap.entries(sector + first)[at.before] != first) return error.SizesDiffer;
                    if (sector + first > heap.sectorOf(heap.top)) return error.SizesDiffer;
                    const is_listed = first >= listed_sectors_min;
                    runs += @intFromBool(is_listed);
                    var inner = sector + @as(Sector, if (is_listed) 3 * entry else entry);
                    while (inner < sector + first - entry) : (inner += entry) {
                        if (heap.entries(inner)[at.size] != 0) return error.EntryLeft;
                    }
                    step = first;
                } else if (first < 0) {
                    const slab = heap.entries(sector);
                    if (sector & (slab_sectors - 1) != 0) return error.WrongSlab;
                    if (slab[at.tag] == empty and !heap.has_empty) return error.WrongSlab;
                    const log2: u5 = @intCast(slab[at.slot_log2]);
                    free_slots[log2] += (@as(usize, slab_bytes) >> log2) - @as(usize, @intCast(slab[at.tag] -% empty));
                    for (at.slot_log2 + 1..slab_sectors / entry + 1) |i| if (slab[i] != 0) return error.EntryLeft;
                    step = slab_sectors;
                }
                after_run = first > 0;
                sector += step;
            }
            for (0..lists) |list| {
                var prev = headOf(@intCast(list));
                const is_filled = heap.filled[list / filled_bits] >> @intCast(list % filled_bits) & 1 == 1;
                if (!is_filled and heap.entries(prev)[at.next] != 0) return error.WrongList;
                while (heap.entries(prev)[at.next] != 0) {
                    const each = heap.entries(prev)[at.next];
                    if (heap.entries(each)[at.prev] != prev) return error.WrongList;
                    if (listOf(heap.entries(each)[at.size]) != list or runs == 0) return error.WrongList;
                    runs -= 1;
                    prev = each;
                }
            }
            if (runs != 0) return error.WrongList;
            for (heap.slots, free_slots, 0..) |first, slots_count, log2| {
                var left = slots_count;
                var code = first;
                while (code != 0) : (code = nextOf(heap.decode(code)).*) {
                    const slot = heap.decode(code);
                    if (slot >= heap.top or slot < heap.origin + first_sector / entry * sector_bytes) return error.WrongSlab;
                    const slab = heap.slabOf(slot);
                    if (!isSlab(slab) or slab[at.slot_log2] != log2 or left == 0) return error.WrongSlab;
                    left -= 1;
                }
                if (left != 0) return error.WrongSlab;
            }
        }
    };
}
