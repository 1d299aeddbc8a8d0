//! Power-of-two blocks of pages over memory of the caller: the floor under slabs and large objects.
//!
//! Memory comes in sections. A section keeps its own metadata in its prefix, 12 bytes a page, and
//! manages as many pages behind it as fit. Blocks lie at multiples of their size in absolute
//! addresses, whatever the section's start, so an alignment needs no search: the block's order
//! gives it. A request takes exactly its pages; the tail of the block goes back at once.
//!
//! Invariants: every page belongs to one free block or one taken run. Only the first page of either
//! has a state, all others are `inside`; so one byte tells a double, an interior or a foreign free,
//! always. Two free buddies of one order never stand side by side. `free_pages` is the sum over the
//! lists; `nonempty` has the bit of each list with a block.
//!
//! Cost: alloc finds its list by one bit scan per section, at most 20 splits; free at most 20 merges
//! for each power of two in the count. Walks of lists: only for low pages and, bounded, before a
//! refusal. A section is found by a binary search. Memory known to be zero is not touched by
//! `addRegion`, so a large reservation costs only what is used.
//!
//! Threads: any; one lock (`Options.Lock`) around steps that make no call but `Translate`, and
//! regions can be added and removed while others allocate. No system, no globals: freestanding.
//!
//! Not for small objects (slab.zig), and not for regions that are cached, locked or purged
//! (large_pool.zig).

const std = @import("std");
const ds = @import("../ds/ds.zig");
const assert = std.debug.assert;

/// Blocks have 2^0 to 2^20 pages: 4 GiB with pages of 4 KiB.
pub const order_max = 20;
pub const orders_count = order_max + 1;
/// `allocLow` answers below this physical address.
pub const low_bound: u64 = 1 << 32;
/// Free blocks looked at per list before a refusal, so that a refusal cannot hold the lock for long.
const visits_max = 128;
/// End of a list; also more pages than a section may have.
const no_page: u32 = std.math.maxInt(u32);

pub const Options = struct {
    page_bytes: usize = 4096,
    /// Regions at one time. The table costs 24 bytes for each.
    sections_max: u32 = 256,
    Lock: type = SpinLock,
    Translate: type = Identity,
};

/// For callers without a system: waits by spinning. Sections under it are short.
pub const SpinLock = struct {
    word: ds.Real.Atomic(u32) = .init(0),

    pub noinline fn lock(spin: *SpinLock) void {
        // Acquire: pairs with the release in unlock; without it the lists could be read as they
        // were before the last holder.
        while (spin.word.swap(1, .acquire, .spin_lock) != 0) {
            while (spin.word.load(.monotonic, .spin_wait) != 0) ds.Real.pause();
        }
    }

    pub fn unlock(spin: *SpinLock) void {
        spin.word.store(0, .release, .spin_unlock);
    }
};

/// For one thread, or a caller with a lock of its own.
pub const NoLock = struct {
    pub fn lock(_: *NoLock) void {}
    pub fn unlock(_: *NoLock) void {}
};

/// Physical addresses are the virtual ones: right for low mappings and without paging.
pub const Identity = struct {
    /// Neighbouring pages of a section are neighbours physically: a run is judged by its ends.
    pub const contiguous = true;

    pub fn physical(_: *const Identity, address: usize) ?u64 {
        return address;
    }
};

pub const AddError = error{ TooSmall, TooLarge, Overlap, TooManySections };
pub const AllocError = error{ InvalidCount, InvalidAlignment, OutOfMemory };
pub const FreeError = error{ Foreign, Interior, DoubleFree };

pub const Figures = struct {
    managed_bytes: u64,
    allocated_bytes: u64,
    peak_bytes: u64,
    metadata_bytes: u64,
    allocations: u64,
    frees: u64,
    refusals: u64,
    sections: u32,
    /// Pages of the largest free block.
    largest_free_run: u64,
    /// Free blocks of each order.
    free_runs: [orders_count]u64,
};

/// What `sections()` tells about one.
pub const SectionFigures = struct {
    address: usize,
    bytes: usize,
    pages_count: u32,
    free_pages: u32,
    low: bool,
};

pub fn Buddy(comptime options: Options) type {
    comptime assert(std.math.isPowerOfTwo(options.page_bytes));
    comptime assert(options.sections_max > 0);
    return struct {
        lock: options.Lock = .{},
        translate: options.Translate = .{},
        /// By address; an entry without a section is being prepared.
        extents: [options.sections_max]Extent = undefined,
        extents_count: u32 = 0,
        /// In the order in which allocation tries them: ordinary ones, then low ones; each by age.
        turns: [options.sections_max]*Section = undefined,
        turns_count: u32 = 0,
        allocated_pages: u64 = 0,
        peak_pages: u64 = 0,
        allocations: u64 = 0,
        frees: u64 = 0,
        refusals: u64 = 0,

        const Self = @This();
        pub const page_bytes = options.page_bytes;
        const page_shift = @ctz(options.page_bytes);

        const Extent = struct { start: usize, end: usize, section: ?*Section };

        const State = enum(u8) { inside = 0, free, taken, _ };

        /// Zero is `inside`, so that zeroed memory is a valid table.
        const Page = extern struct {
            state: State,
            order: u8,
            /// The caller's word about a taken run.
            tag: u16,
            prev: u32,
            /// Next free block of the order; of a taken run its pages.
            next: u32,
        };

        const Section = struct {
            extent_start: usize,
            extent_end: usize,
            base: usize,
            /// Absolute number of the first page: buddies are found in absolute numbers.
            base_frame: usize,
            pages: [*]Page,
            pages_count: u32,
            free_pages: u32,
            low: bool,
            kept: bool,
            nonempty: u32,
            heads: [orders_count]u32,
            counts: [orders_count]u32,

            fn frame(section: *const Section, index: u32) usize {
                return section.base_frame + index;
            }

            fn address(section: *const Section, index: u32) usize {
                return section.base + (@as(usize, index) << page_shift);
            }

            fn link(section: *Section, index: u32, order: u5) void {
                const next = section.heads[order];
                section.pages[index] = .{
                    .state = .free,
                    .order = order,
                    .tag = 0,
                    .prev = no_page,
                    .next = next,
                };
                if (next != no_page) section.pages[next].prev = index;
                section.heads[order] = index;
                section.counts[order] += 1;
                section.nonempty |= @as(u32, 1) << order;
                section.free_pages += @as(u32, 1) << order;
            }

            fn unlink(section: *Section, index: u32) void {
                const page = &section.pages[index];
                assert(page.state == .free);
                const order: u5 = @intCast(page.order);
                if (page.next != no_page) section.pages[page.next].prev = page.prev;
                if (page.prev != no_page) {
                    section.pages[page.prev].next = page.next;
                } else {
                    section.heads[order] = page.next;
                    if (page.next == no_page) section.nonempty &= ~(@as(u32, 1) << order);
                }
                page.state = .inside;
                section.counts[order] -= 1;
                section.free_pages -= @as(u32, 1) << order;
            }

            /// Makes free blocks of a range that is in none, each as large as its place allows.
            fn give(section: *Section, start: u32, count: u32, comptime merging: bool) void {
                var index = start;
                var left = count;
                while (left > 0) {
                    const by_place = @min(order_max, @ctz(section.frame(index)));
                    const order: u5 = @intCast(@min(by_place, std.math.log2_int(u32, left)));
                    const pages = @as(u32, 1) << order;
                    if (merging) section.merge(index, order) else section.link(index, order);
                    index += pages;
                    left -= pages;
                }
            }

            fn merge(section: *Section, first: u32, first_order: u5) void {
                var index = first;
                var order = first_order;
                while (order < order_max) : (order += 1) {
                    const other_frame = section.frame(index) ^ (@as(usize, 1) << order);
                    if (other_frame < section.base_frame) break;
                    const other = other_frame - section.base_frame;
                    if (other >= section.pages_count) break;
                    const page = section.pages[other];
                    if (page.state != .free or page.order != order) break;
                    section.unlink(@intCast(other));
                    index = @min(index, @as(u32, @intCast(other)));
                }
                section.link(index, order);
            }

            /// Takes [start, start + count) out of the free block at `block`.
            fn carve(section: *Section, block: u32, start: u32, count: u32, tag: u16) void {
                const end = block + (@as(u32, 1) << @intCast(section.pages[block].order));
                section.unlink(block);
                section.give(block, start - block, false);
                section.give(start + count, end - start - count, false);
                section.mark(start, count, tag);
            }

            fn mark(section: *Section, start: u32, count: u32, tag: u16) void {
                section.pages[start] = .{
                    .state = .taken,
                    .order = 0,
                    .tag = tag,
                    .prev = no_page,
                    .next = count,
                };
            }

            /// Pages from `start` on that are free without a gap, counted until there are `enough`.
            fn span(section: *const Section, start: u32, enough: u32) u32 {
                var pages: u32 = 0;
                while (pages < enough and section.pages_count - start > pages) {
                    const page = section.pages[start + pages];
                    if (page.state != .free) break;
                    pages += @as(u32, 1) << @intCast(page.order);
                }
                return pages;
            }

            /// The free block that ends where `start` begins.
            fn before(section: *const Section, start: u32) ?u32 {
                for (0..orders_count) |order| {
                    const pages = @as(u32, 1) << @intCast(order);
                    if (pages > start) return null;
                    const page = section.pages[start - pages];
                    if (page.state == .free and page.order == order) return start - pages;
                }
                return null;
            }

            /// Takes `count` pages from `start` on out of neighbouring free blocks.
            fn takeSpan(section: *Section, start: u32, count: u32) void {
                var pages: u32 = 0;
                while (pages < count) {
                    const order: u5 = @intCast(section.pages[start + pages].order);
                    section.unlink(start + pages);
                    pages += @as(u32, 1) << order;
                }
                section.give(start + count, pages - count, false);
            }
        };

        /// Where the parts of a region lie.
        pub const Layout = struct {
            section: usize,
            pages: usize,
            base: usize,
            pages_count: u32,

            /// As many pages as fit behind their own metadata.
            pub fn of(start: usize, bytes: usize) AddError!Layout {
                const end_raw = std.math.add(usize, start, bytes) catch return error.TooLarge;
                const end = std.mem.alignBackward(usize, end_raw, page_bytes);
                const section = alignUp(start, @alignOf(Section)) orelse return error.TooLarge;
                const pages = section + @sizeOf(Section);
                if (end <= pages) return error.TooSmall;
                // An upper estimate without rounding; at most one page less fits.
                var count = (end - pages) / (page_bytes + @sizeOf(Page));
                while (true) : (count -= 1) {
                    if (count == 0) return error.TooSmall;
                    const table_end = pages + count * @sizeOf(Page);
                    const base = alignUp(table_end, page_bytes) orelse return error.TooLarge;
                    if (base > end or (end - base) >> page_shift < count) continue;
                    const exact = if (ds.fault("buddy-index-wraps"))
                        @as(u32, @truncate(count))
                    else
                        std.math.cast(u32, count) orelse return error.TooLarge;
                    if (exact == no_page) return error.TooLarge;
                    return .{
                        .section = section,
                        .pages = pages,
                        .base = base,
                        .pages_count = exact,
                    };
                }
            }
        };

        pub const RegionOptions = struct {
            /// The memory reads as zero: its metadata need not be cleared.
            zeroed: bool = false,
            /// Kept for `allocLow` as long as other sections can serve.
            low: bool = false,
            /// Stays also when no page of it is taken, until `removeRegion` names it.
            kept: bool = false,
        };

        /// Manages `memory` too, from now on; all of it belongs to the buddy until `removeRegion`.
        /// On an error nothing was written to it.
        pub fn addRegion(buddy: *Self, memory: []u8, region: RegionOptions) AddError!void {
            const start = @intFromPtr(memory.ptr);
            const layout: Layout = try .of(start, memory.len);
            const extent: Extent = .{ .start = start, .end = start + memory.len, .section = null };
            {
                buddy.lock.lock();
                defer buddy.lock.unlock();
                try buddy.claimLocked(extent);
            }
            // Without the lock: clearing the table of a large region takes a while. The claim keeps
            // others away.
            const section: *Section = @ptrFromInt(layout.section);
            section.* = .{
                .extent_start = extent.start,
                .extent_end = extent.end,
                .base = layout.base,
                .base_frame = layout.base >> page_shift,
                .pages = @ptrFromInt(layout.pages),
                .pages_count = layout.pages_count,
                .free_pages = 0,
                .low = region.low,
                .kept = region.kept,
                .nonempty = 0,
                .heads = @splat(no_page),
                .counts = @splat(0),
            };
            const table = section.pages[0..section.pages_count];
            if (!region.zeroed) ds.memory.zero(std.mem.sliceAsBytes(table));
            section.give(0, section.pages_count, false);
            buddy.lock.lock();
            defer buddy.lock.unlock();
            buddy.extents[buddy.extentAt(start).?].section = section;
            var at = buddy.turns_count;
            if (!region.low and !ds.fault("buddy-low-eaten")) {
                while (at > 0 and buddy.turns[at - 1].low) at -= 1;
            }
            insert(*Section, buddy.turns[0 .. buddy.turns_count + 1], at, section);
            buddy.turns_count += 1;
        }

        fn claimLocked(buddy: *Self, extent: Extent) AddError!void {
            const count = buddy.extents_count;
            var at: u32 = 0;
            while (at < count and buddy.extents[at].start < extent.start) at += 1;
            if (!ds.fault("buddy-overlap")) {
                if (at > 0 and buddy.extents[at - 1].end > extent.start) return error.Overlap;
                if (at < count and buddy.extents[at].start < extent.end) return error.Overlap;
            }
            if (count == options.sections_max) return error.TooManySections;
            insert(Extent, buddy.extents[0 .. count + 1], at, extent);
            buddy.extents_count += 1;
        }

        /// Gives back the region that holds `address`; Busy as long as a page of it is taken.
        pub fn removeRegion(buddy: *Self, address: usize) error{ Foreign, Busy }![]u8 {
            buddy.lock.lock();
            defer buddy.lock.unlock();
            const at = buddy.extentAt(address) orelse return error.Foreign;
            const section = buddy.extents[at].section orelse return error.Busy;
            if (section.free_pages != section.pages_count) return error.Busy;
            if (ds.fault("buddy-never-removed")) return error.Busy;
            const extent = buddy.extents[at];
            remove(Extent, buddy.extents[0..buddy.extents_count], at);
            buddy.extents_count -= 1;
            const turns = buddy.turns[0..buddy.turns_count];
            remove(*Section, turns, std.mem.indexOfScalar(*Section, turns, section).?);
            buddy.turns_count -= 1;
            return @as([*]u8, @ptrFromInt(extent.start))[0 .. extent.end - extent.start];
        }

        /// Gives back a region of which no page is taken and that is not kept; null: there is none.
        pub fn removeEmpty(buddy: *Self) ?[]u8 {
            while (true) {
                const base = blk: {
                    buddy.lock.lock();
                    defer buddy.lock.unlock();
                    for (buddy.turns[0..buddy.turns_count]) |section| {
                        if (section.free_pages == section.pages_count and !section.kept) break :blk section.base;
                    }
                    return null;
                };
                // Somebody may take a page of it in between, or the whole region.
                return buddy.removeRegion(base) catch continue;
            }
        }

        /// A region, whatever is taken of it, for the end of everything.
        pub fn anyRegion(buddy: *Self) ?struct { memory: []u8, kept: bool } {
            buddy.lock.lock();
            defer buddy.lock.unlock();
            if (buddy.extents_count == 0) return null;
            buddy.extents_count -= 1;
            const extent = buddy.extents[buddy.extents_count];
            return .{
                .memory = @as([*]u8, @ptrFromInt(extent.start))[0 .. extent.end - extent.start],
                .kept = if (extent.section) |section| section.kept else true,
            };
        }

        /// `count` pages at a multiple of `alignment` bytes (0: a page). `tag` comes back from
        /// `find`: a kind, set in the same step as the pages are taken.
        pub fn alloc(
            buddy: *Self,
            count: usize,
            alignment: usize,
            tag: u16,
        ) AllocError![*]align(page_bytes) u8 {
            return buddy.allocAmong(count, alignment, tag, true);
        }

        /// The same, but not from sections that are kept for low requests. For callers who can add
        /// another section before they use those up.
        pub fn allocSparing(
            buddy: *Self,
            count: usize,
            alignment: usize,
            tag: u16,
        ) AllocError![*]align(page_bytes) u8 {
            return buddy.allocAmong(count, alignment, tag, false);
        }

        fn allocAmong(
            buddy: *Self,
            count: usize,
            alignment: usize,
            tag: u16,
            low_too: bool,
        ) AllocError![*]align(page_bytes) u8 {
            const wish: Wish = try .of(count, alignment);
            buddy.lock.lock();
            defer buddy.lock.unlock();
            var sections = buddy.turns[0..buddy.turns_count];
            // Low ones come last.
            while (!low_too and sections.len != 0 and sections[sections.len - 1].low) sections.len -= 1;
            for (sections) |section| {
                const block = takeFirst(section, wish, tag) orelse continue;
                return buddy.takenLocked(section, block);
            }
            for (sections) |section| {
                const block = takeBeside(section, wish, tag) orelse continue;
                return buddy.takenLocked(section, block);
            }
            buddy.refusals += 1;
            return error.OutOfMemory;
        }

        /// The same, with each page below `low_bound` physically. Low sections are tried first.
        pub fn allocLow(
            buddy: *Self,
            count: usize,
            alignment: usize,
            tag: u16,
        ) AllocError![*]align(page_bytes) u8 {
            const wish: Wish = try .of(count, alignment);
            buddy.lock.lock();
            defer buddy.lock.unlock();
            for ([_]bool{ true, false }) |low| {
                for (buddy.turns[0..buddy.turns_count]) |section| {
                    if (section.low != low) continue;
                    const index = buddy.takeLow(section, wish, tag) orelse continue;
                    return buddy.takenLocked(section, index);
                }
            }
            buddy.refusals += 1;
            return error.OutOfMemory;
        }

        const Wish = struct {
            count: u32,
            /// Of the smallest block that holds the count.
            order: u5,
            /// Of the alignment alone.
            align_order: u5,
            /// Of a block that has both.
            effective: u5,

            fn of(count: usize, alignment: usize) AllocError!Wish {
                if (count == 0 or count > 1 << order_max) return error.InvalidCount;
                const wanted = if (alignment == 0) page_bytes else alignment;
                if (!std.math.isPowerOfTwo(wanted) or wanted < page_bytes) return error.InvalidAlignment;
                const asked_order = @ctz(wanted) - page_shift;
                if (asked_order > order_max) return error.InvalidAlignment;
                const align_order = if (ds.fault("buddy-relative-alignment")) 0 else asked_order;
                const order: u5 = @intCast(std.math.log2_int_ceil(usize, count));
                return .{
                    .count = @intCast(count),
                    .order = order,
                    .align_order = @intCast(align_order),
                    .effective = @max(order, @as(u5, @intCast(align_order))),
                };
            }
        };

        fn takeFirst(section: *Section, wish: Wish, tag: u16) ?u32 {
            const large_enough = section.nonempty >> wish.effective;
            if (large_enough == 0) return null;
            const block = section.heads[wish.effective + @ctz(large_enough)];
            const whole = ds.fault("buddy-whole-blocks");
            section.carve(block, block, if (whole) @as(u32, 1) << wish.order else wish.count, tag);
            return block;
        }

        /// Before a refusal: smaller blocks that happen to be aligned or have free neighbours.
        fn takeBeside(section: *Section, wish: Wish, tag: u16) ?u32 {
            const align_mask = (@as(usize, 1) << wish.align_order) - 1;
            var order: u5 = wish.order -| 1;
            while (order < wish.effective) : (order += 1) {
                var block = section.heads[order];
                var visits: u32 = 0;
                while (block != no_page and visits < visits_max) : (visits += 1) {
                    var start = block;
                    var enough = section.span(start, wish.count) >= wish.count;
                    while (!enough or section.frame(start) & align_mask != 0) {
                        start = section.before(start) orelse break;
                        enough = section.span(start, wish.count) >= wish.count;
                    } else {
                        section.takeSpan(start, wish.count);
                        section.mark(start, wish.count, tag);
                        return start;
                    }
                    block = section.pages[block].next;
                }
            }
            return null;
        }

        fn takeLow(buddy: *Self, section: *Section, wish: Wish, tag: u16) ?u32 {
            var order = wish.effective;
            while (order <= order_max) : (order += 1) {
                var block = section.heads[order];
                while (block != no_page) : (block = section.pages[block].next) {
                    const start = buddy.lowPart(section, block, order, wish) orelse continue;
                    section.carve(block, start, wish.count, tag);
                    return start;
                }
            }
            return null;
        }

        /// Where in a free block the run would be low.
        fn lowPart(buddy: *Self, section: *Section, block: u32, order: u5, wish: Wish) ?u32 {
            if (options.Translate.contiguous) {
                const whole = ds.fault("buddy-low-whole-block");
                const judged = if (whole) @as(u32, 1) << order else wish.count;
                return if (buddy.isLow(section.address(block), judged)) block else null;
            }
            const step = @as(u32, 1) << wish.effective;
            const end = block + (@as(u32, 1) << order);
            var start = block;
            while (start < end) : (start += step) {
                if (buddy.isLow(section.address(start), wish.count)) return start;
            }
            return null;
        }

        fn isLow(buddy: *Self, address: usize, count: u32) bool {
            if (options.Translate.contiguous) {
                const first = buddy.translate.physical(address) orelse return false;
                const bytes = @as(u64, count) << page_shift;
                return first <= low_bound and bytes <= low_bound - first;
            }
            for (0..count) |i| {
                const page = buddy.translate.physical(address + (i << page_shift)) orelse return false;
                if (page > low_bound - page_bytes) return false;
            }
            return true;
        }

        fn takenLocked(buddy: *Self, section: *Section, index: u32) [*]align(page_bytes) u8 {
            buddy.allocated_pages += section.pages[index].next;
            buddy.peak_pages = @max(buddy.peak_pages, buddy.allocated_pages);
            buddy.allocations += 1;
            return @ptrFromInt(section.address(index));
        }

        /// Gives a run back; returns its pages. Wrong addresses change nothing.
        pub fn free(buddy: *Self, address: usize) FreeError!u32 {
            return buddy.freeOf(address, null);
        }

        /// `free` for runs of one kind: others are foreign.
        pub fn freeTagged(buddy: *Self, address: usize, tag: u16) FreeError!u32 {
            return buddy.freeOf(address, tag);
        }

        fn freeOf(buddy: *Self, address: usize, tag: ?u16) FreeError!u32 {
            buddy.lock.lock();
            defer buddy.lock.unlock();
            const place = buddy.takenAtLocked(address) catch |wrong| {
                if (ds.fault("buddy-foreign-ignored") and wrong == error.Foreign) return 0;
                if (ds.fault("buddy-double-free") and wrong == error.DoubleFree) return 0;
                if (ds.fault("buddy-interior-free") and wrong == error.Interior) return 0;
                return wrong;
            };
            const page = &place.section.pages[place.index];
            if (tag) |wanted| if (page.tag != wanted) return error.Foreign;
            const count = page.next;
            page.state = .inside;
            place.section.give(place.index, count, true);
            buddy.allocated_pages -= count;
            buddy.frees += 1;
            return count;
        }

        /// Makes a run longer or shorter where it is; false: the pages behind it are not free.
        pub fn resize(buddy: *Self, address: usize, count: usize) (FreeError || AllocError)!bool {
            const wish: Wish = try .of(count, 0);
            buddy.lock.lock();
            defer buddy.lock.unlock();
            const place = try buddy.takenAtLocked(address);
            const section = place.section;
            const page = &section.pages[place.index];
            const old = page.next;
            const end = place.index + old;
            if (wish.count > old) {
                const more = wish.count - old;
                if (section.span(end, more) < more) return false;
                section.takeSpan(end, more);
                buddy.allocated_pages += more;
                buddy.peak_pages = @max(buddy.peak_pages, buddy.allocated_pages);
            } else if (wish.count < old) {
                section.give(place.index + wish.count, old - wish.count, true);
                buddy.allocated_pages -= old - wish.count;
            }
            page.next = wish.count;
            return true;
        }

        pub const Found = struct { address: usize, pages_count: u32, tag: u16 };

        /// The run that begins at `address`.
        pub fn find(buddy: *Self, address: usize) FreeError!Found {
            buddy.lock.lock();
            defer buddy.lock.unlock();
            const place = try buddy.takenAtLocked(address);
            const page = place.section.pages[place.index];
            return .{ .address = address, .pages_count = page.next, .tag = page.tag };
        }

        /// Whether a page of the buddy's lies at `address`.
        pub fn holds(buddy: *Self, address: usize) bool {
            buddy.lock.lock();
            defer buddy.lock.unlock();
            const at = buddy.extentAt(address) orelse return false;
            const section = buddy.extents[at].section orelse return false;
            return address >= section.base;
        }

        const Place = struct { section: *Section, index: u32 };

        noinline fn takenAtLocked(buddy: *Self, address: usize) FreeError!Place {
            const at = buddy.extentAt(address) orelse return error.Foreign;
            const section = buddy.extents[at].section orelse return error.Foreign;
            if (address < section.base) return error.Foreign;
            const offset = (address - section.base) >> page_shift;
            if (offset >= section.pages_count) return error.Foreign;
            const index: u32 = @intCast(offset);
            const aligned = address % page_bytes == 0;
            if (aligned and section.pages[index].state == .taken) {
                return .{ .section = section, .index = index };
            }
            // Off the hot path: the next page below with a state says what this one is inside of.
            var head = index;
            while (section.pages[head].state == .inside) head -= 1;
            return if (section.pages[head].state == .taken) error.Interior else error.DoubleFree;
        }

        /// The extent that holds `address`.
        fn extentAt(buddy: *const Self, address: usize) ?u32 {
            var low: u32 = 0;
            var high = buddy.extents_count;
            while (low < high) {
                const middle = low + (high - low) / 2;
                const extent = buddy.extents[middle];
                if (address < extent.start) {
                    high = middle;
                } else if (address >= extent.end) {
                    low = middle + 1;
                } else return middle;
            }
            return null;
        }

        /// Section `ordinal` by address; null out of range.
        pub fn sectionFigures(buddy: *Self, ordinal: usize) ?SectionFigures {
            buddy.lock.lock();
            defer buddy.lock.unlock();
            if (ordinal >= buddy.extents_count) return null;
            const section = buddy.extents[ordinal].section orelse return null;
            return .{
                .address = section.base,
                .bytes = @as(usize, section.pages_count) << page_shift,
                .pages_count = section.pages_count,
                .free_pages = section.free_pages,
                .low = section.low,
            };
        }

        pub fn managedBytes(buddy: *Self) u64 {
            return buddy.figures().managed_bytes;
        }

        pub fn allocatedBytes(buddy: *Self) u64 {
            buddy.lock.lock();
            defer buddy.lock.unlock();
            return buddy.allocated_pages << page_shift;
        }

        pub fn resetPeak(buddy: *Self) void {
            buddy.lock.lock();
            defer buddy.lock.unlock();
            buddy.peak_pages = buddy.allocated_pages;
        }

        /// One consistent look; linear in the sections.
        pub fn figures(buddy: *Self) Figures {
            buddy.lock.lock();
            defer buddy.lock.unlock();
            var out: Figures = .{
                .managed_bytes = 0,
                .allocated_bytes = buddy.allocated_pages << page_shift,
                .peak_bytes = buddy.peak_pages << page_shift,
                .metadata_bytes = 0,
                .allocations = buddy.allocations,
                .frees = buddy.frees,
                .refusals = buddy.refusals,
                .sections = buddy.turns_count,
                .largest_free_run = 0,
                .free_runs = @splat(0),
            };
            for (buddy.turns[0..buddy.turns_count]) |section| {
                const bytes = @as(u64, section.pages_count) << page_shift;
                out.managed_bytes += bytes;
                out.metadata_bytes += section.extent_end - section.extent_start - bytes;
                for (&out.free_runs, section.counts) |*sum, count| sum.* += count;
                if (section.nonempty == 0) continue;
                const largest = @as(u64, 1) << std.math.log2_int(u32, section.nonempty);
                out.largest_free_run = @max(out.largest_free_run, largest);
            }
            return out;
        }

        /// Walks everything and compares; for tests and fuzzers.
        pub fn invariants(buddy: *Self) error{Broken}!void {
            buddy.lock.lock();
            defer buddy.lock.unlock();
            var taken: u64 = 0;
            for (buddy.turns[0..buddy.turns_count]) |section| {
                var index: u32 = 0;
                var free_pages: u32 = 0;
                var counts: [orders_count]u32 = @splat(0);
                while (index < section.pages_count) {
                    const page = section.pages[index];
                    const pages = switch (page.state) {
                        .free => @as(u32, 1) << @intCast(page.order),
                        .taken => page.next,
                        else => return error.Broken,
                    };
                    if (pages == 0 or pages > section.pages_count - index) return error.Broken;
                    for (section.pages[index + 1 .. index + pages]) |inner| {
                        if (inner.state != .inside) return error.Broken;
                    }
                    if (page.state == .free) {
                        if (section.frame(index) & (pages - 1) != 0) return error.Broken;
                        counts[page.order] += 1;
                        free_pages += pages;
                    } else taken += pages;
                    index += pages;
                }
                if (free_pages != section.free_pages) return error.Broken;
                for (counts, section.counts, 0..) |seen, said, order| {
                    const bit = section.nonempty >> @intCast(order) & 1 != 0;
                    if (seen != said or bit != (said > 0)) return error.Broken;
                    var listed: u32 = 0;
                    var block = section.heads[order];
                    while (block != no_page) : (block = section.pages[block].next) {
                        if (section.pages[block].state != .free or listed > said) return error.Broken;
                        listed += 1;
                    }
                    if (listed != said) return error.Broken;
                }
            }
            if (taken != buddy.allocated_pages) return error.Broken;
        }
    };
}

fn alignUp(address: usize, alignment: usize) ?usize {
    const sum = std.math.add(usize, address, alignment - 1) catch return null;
    return sum & ~(alignment - 1);
}

/// Puts `value` at `at`; the last place of `items` is free before.
fn insert(comptime T: type, items: []T, at: usize, value: T) void {
    std.mem.copyBackwards(T, items[at + 1 ..], items[at .. items.len - 1]);
    items[at] = value;
}

/// Closes the gap at `at`; the last place of `items` is free after.
fn remove(comptime T: type, items: []T, at: usize) void {
    std.mem.copyForwards(T, items[at .. items.len - 1], items[at + 1 ..]);
}
