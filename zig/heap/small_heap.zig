//! A tiny heap inside one growing memory: the linear memory of a WebAssembly module, or a native
//! reservation with a limit. The caller gives the size back at `free`, so a block carries nothing.
//!
//! Memory is divided into granules of 16 bytes. A free run of granules lies in a list of its size
//! (8 lists per doubling; a word of bits says which have any) and keeps its own description in its
//! first and last granule. One bit per granule, set at both ends of every free run, tells a freed
//! block in O(1) whether a free run ends just before it or begins just behind it. The bits lie at
//! the top of the memory and move up when it grows, so all below them stays one piece.
//!
//! Invariant: no two free runs touch; bits are set at the ends of free runs and nowhere else; runs
//! never cross from one region of the memory into another (someone else may grow the memory between
//! our calls, which leaves a gap). The four bytes behind a user's last granule are never metadata.
//!
//! Cost: alloc and free O(1) but for 2 probes in a list of mixed sizes and, before the memory
//! grows, one walk of that list. Space 1/128 for the bits and the rounding to 16 bytes. Requests
//! over 32 KiB are rounded to pages of 4 KiB and lie at a page, in the same space as the small.
//!
//! Threads: as the host says. A host with `acquire` and `release` makes it safe from any thread; a
//! linear memory has none, and its heap belongs to the Worker that made it.
//!
//! When NOT to use it: for memory that many threads allocate at once, for more than 32 GiB, and to
//! find wrong frees: without headers, a free with a wrong size cannot be noticed.

const std = @import("std");
const ds = @import("../ds/ds.zig");

/// What a run of memory is counted in; also the alignment that every block has.
pub const granule_bytes = 16;
/// What a host grows by: the page of WebAssembly.
pub const host_page_bytes = 64 << 10;
/// The largest request that is served by granules; above, by runs of pages.
pub const small_bytes_max = 32 << 10;
/// The page of large requests. Smaller than the host's: half a host page would be lost by each.
pub const run_page_bytes = 4 << 10;
/// Above this a request is refused. Granules are counted in 32 bits, with room for sums of two.
pub const request_bytes_max: usize = @min(std.math.maxInt(isize), (1 << 31) * granule_bytes);

/// Lists of free runs per doubling of their size.
const lists_per_doubling = 8;
const lists = (32 - 2) * lists_per_doubling;
/// Runs looked at in a list of mixed sizes before one of the next list is taken.
const probes_max = 2;
/// A first region with less than this waits until the memory grows.
const first_region_bytes_min = 1024;
/// Memory grows by this part of itself. Linear memory over peak live bytes after 10^6 mixed
/// operations (2-vCPU VM, November 2026): 1.19 with a 16th, 1.15 with a 64th.
const growth_part = 64;
/// Left free below the bits, so that a block which is written past its end does not reach them.
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
/// the old end or null; optionally `decommit(address, bytes)`, `acquire()`, `release()`. All take
/// `*Host`. The memory starts at 16 or above, and not above its end.
pub fn SmallHeap(comptime Host: type, comptime options: Options) type {
    return struct {
        const Heap = @This();

        host: Host,
        /// Granule 0 is here: it never belongs to a run, so 0 says "none".
        base: usize = 0,
        /// Where the bit of granule 0 would be.
        bits: usize = 0,
        /// End of what can be handed out; the guard and the bits lie from here to `end`.
        top: usize = 0,
        /// End of the newest region. 0: nothing was asked of the host yet.
        end: usize = 0,
        heads: [lists]u32 = @splat(0),
        /// A bit for each list that is not empty.
        filled: [4]u64 = @splat(0),
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
            allocated_granules: usize = 0,
            large_bytes: usize = 0,
            large_pages: usize = 0,
        };

        // -- Operations ---------------------------------------------------------------------

        /// Null: refused by the host, or above the bound. Nothing needs no memory, and gets an
        /// address that is not null. `alignment` is a power of two.
        pub fn alloc(heap: *Heap, bytes: usize, alignment: usize) ?[*]u8 {
            if (bytes == 0) return @ptrFromInt(alignment);
            heap.acquire();
            defer heap.release();
            const address = heap.take(bytes, alignment) orelse {
                if (ds.fault("small-counts-failures") and bytes <= request_bytes_max) heap.count(bytes);
                return null;
            };
            if (options.statistics) heap.count(bytes);
            return @ptrFromInt(address);
        }

        /// `bytes` as in the call that gave or last resized the block.
        pub fn free(heap: *Heap, ptr: [*]u8, bytes: usize) void {
            if (bytes == 0) return;
            heap.acquire();
            defer heap.release();
            heap.give(heap.indexOf(@intFromPtr(ptr)), granules(bytes));
            if (options.statistics) heap.discount(bytes);
        }

        /// The block with another length where it lies. False: no room; the block is as before.
        pub fn resize(heap: *Heap, ptr: [*]u8, old_bytes: usize, new_bytes: usize) bool {
            if (old_bytes == 0 or new_bytes == 0 or new_bytes > request_bytes_max) return false;
            if (ds.fault("small-always-moves") and new_bytes > old_bytes) return false;
            heap.acquire();
            defer heap.release();
            const index = heap.indexOf(@intFromPtr(ptr));
            const old = granules(old_bytes);
            const new = granules(new_bytes);
            if (new > old) {
                if (!heap.takeBehind(index + old, new - old)) return false;
            } else if (new < old) heap.give(index + new, old - new);
            if (options.statistics) {
                heap.discount(old_bytes);
                heap.count(new_bytes);
            }
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
        /// bytes of addresses that were.
        pub fn trim(heap: *Heap) usize {
            if (!@hasDecl(Host, "decommit") or ds.fault("small-never-decommits")) return 0;
            heap.acquire();
            defer heap.release();
            var bytes: usize = 0;
            for (heap.heads) |head| {
                var index = head;
                while (index != 0) : (index = heap.word(index, .next).*) {
                    // The first and the last granule describe the run.
                    const last = index + heap.word(index, .size).* - 1;
                    const from = std.mem.alignForward(usize, heap.addressOf(index + 1), host_page_bytes);
                    const to = std.mem.alignBackward(usize, heap.addressOf(last), host_page_bytes);
                    if (to > from) bytes += heap.host.decommit(from, to - from);
                }
            }
            return bytes;
        }

        // -- Free runs ----------------------------------------------------------------------

        /// Where a free run's first granule keeps what. Its first word is nothing: a user who
        /// writes up to four bytes past the block before damages nothing. The last granule
        /// has the size in the same place.
        const Word = enum(usize) {
            next = 4,
            prev = 8,
            size = if (ds.fault("small-link-past-end")) 0 else 12,
        };
        const last_size = 12;

        inline fn addressOf(heap: *const Heap, index: u32) usize {
            return heap.base + @as(usize, index) * granule_bytes;
        }

        inline fn indexOf(heap: *const Heap, address: usize) u32 {
            return @intCast((address - heap.base) / granule_bytes);
        }

        inline fn word(heap: *const Heap, index: u32, comptime what: Word) *u32 {
            return @ptrFromInt(heap.addressOf(index) + @intFromEnum(what));
        }

        inline fn lastSize(heap: *const Heap, last: u32) *u32 {
            return @ptrFromInt(heap.addressOf(last) + last_size);
        }

        inline fn bitsOf(heap: *const Heap, index: u32) *u8 {
            return @ptrFromInt(heap.bits +% (index >> 3));
        }

        inline fn maskOf(index: u32) u8 {
            return @as(u8, 1) << @intCast(index & 7);
        }

        inline fn isEnd(heap: *const Heap, index: u32) bool {
            return heap.bitsOf(index).* & maskOf(index) != 0;
        }

        fn granules(bytes: usize) u32 {
            const unit: usize = if (bytes > small_bytes_max) run_page_bytes else granule_bytes;
            return @intCast((((bytes - 1) | (unit - 1)) / granule_bytes) + 1);
        }

        /// Sizes below 16 granules have a list each; then 8 lists share a doubling.
        inline fn listOf(size: u32) u32 {
            if (size < lists_per_doubling) return size;
            const log2: u5 = @intCast(31 - @clz(size));
            return (@as(u32, log2) - 3) * lists_per_doubling + (size >> (log2 - 3));
        }

        /// Marks a run's ends, or takes the marks away: one function is less code than two.
        fn flip(heap: *Heap, index: u32, last: u32) void {
            heap.bitsOf(index).* ^= maskOf(index);
            if (last != index) heap.bitsOf(last).* ^= maskOf(last);
        }

        fn insert(heap: *Heap, index: u32, size: u32) void {
            const last = index + size - 1;
            heap.lastSize(last).* = size;
            heap.word(index, .size).* = size;
            heap.flip(index, last);
            const list = listOf(size);
            const next = heap.heads[list];
            heap.heads[list] = index;
            heap.word(index, .next).* = next;
            heap.word(index, .prev).* = 0;
            if (next != 0) heap.word(next, .prev).* = index;
            heap.filled[list >> 6] |= @as(u64, 1) << @intCast(list & 63);
        }

        fn remove(heap: *Heap, index: u32, size: u32) void {
            const last = index + size - 1;
            heap.flip(index, last);
            const next = heap.word(index, .next).*;
            const prev = heap.word(index, .prev).*;
            if (next != 0) heap.word(next, .prev).* = prev;
            if (prev != 0) {
                heap.word(prev, .next).* = next;
                return;
            }
            const list = listOf(size);
            heap.heads[list] = next;
            if (next == 0) heap.filled[list >> 6] &= ~(@as(u64, 1) << @intCast(list & 63));
        }

        /// Makes granules free, in one run with what is free on both sides.
        fn give(heap: *Heap, index: u32, size: u32) void {
            var first = index;
            var all = size;
            if (heap.isEnd(index - 1)) {
                const before = heap.lastSize(index - 1).*;
                first -= before;
                all += before;
                heap.remove(first, before);
            }
            const behind = index + size;
            if (heap.isEnd(behind)) {
                const more = heap.word(behind, .size).*;
                all += more;
                heap.remove(behind, more);
                const twins = size == more and size > host_page_bytes / granule_bytes;
                if (ds.fault("small-merges-past-end") and twins) all += 1;
            }
            heap.insert(first, all);
        }

        /// Granules at exactly this place, if they are free.
        fn takeBehind(heap: *Heap, index: u32, size: u32) bool {
            if (!heap.isEnd(index)) return false;
            const run = heap.word(index, .size).*;
            if (run < size) return false;
            heap.remove(index, run);
            if (run > size) heap.insert(index + size, run - size);
            return true;
        }

        fn take(heap: *Heap, bytes_wanted: usize, alignment: usize) ?usize {
            const bytes = if (ds.fault("small-count-wraps")) @as(u32, @truncate(bytes_wanted)) else bytes_wanted;
            var wide = alignment;
            if (bytes > small_bytes_max) {
                // An alignment or a size above the bound would wrap the sum below.
                if ((bytes | alignment) > request_bytes_max) return null;
                wide = if (ds.fault("small-align-ignored")) granule_bytes else @max(alignment, run_page_bytes);
            }
            const size = granules(bytes);
            const mask = @max(wide, granule_bytes) - 1;
            var probes: u32 = probes_max;
            const index = while (true) {
                if (heap.find(size, mask, probes)) |found| break found;
                if (probes != probes_max and !heap.grow(size, mask)) return null;
                probes = std.math.maxInt(u32);
            };
            const run = heap.word(index, .size).*;
            heap.remove(index, run);
            const address = (heap.addressOf(index) + mask) & ~mask;
            const skipped: u32 = @intCast((address - heap.addressOf(index)) / granule_bytes);
            if (skipped > 0) heap.insert(index, skipped);
            const rest = run - skipped - size;
            if (rest > 0) heap.insert(index + skipped + size, rest);
            return address;
        }

        /// A free run in which `size` granules fit at a multiple of `mask` + 1.
        fn find(heap: *const Heap, size: u32, mask: usize, probes: u32) ?u32 {
            var list = listOf(size);
            while (list < lists) : (list += 1) {
                const rest = heap.filled[list >> 6] >> @intCast(list & 63);
                if (rest == 0) {
                    list |= 63;
                    continue;
                }
                list += @ctz(rest);
                var index = heap.heads[list];
                var left = probes;
                while (index != 0 and left != 0) : (left -= 1) {
                    const address = heap.addressOf(index);
                    const skipped: u32 = @intCast((((address + mask) & ~mask) - address) / granule_bytes);
                    const run = heap.word(index, .size).*;
                    if (run >= size and run - size >= skipped) return index;
                    index = heap.word(index, .next).*;
                }
            }
            return null;
        }

        // -- Growth -------------------------------------------------------------------------

        /// More memory, so that a run of `size` granules at a multiple of `mask` + 1 can be found,
        /// unless someone else grows the memory meanwhile. False: the host refuses.
        fn grow(heap: *Heap, size: u32, mask: usize) bool {
            @branchHint(.cold);
            if (heap.end == 0 and heap.begin()) return true;
            const end = heap.host.end();
            const span: u64 = end - heap.base;
            var need: u64 = @as(u64, size) * granule_bytes + mask;
            if (end == heap.end) need -|= heap.freeAtEnd();
            // The bits of the whole span have to lie in what is new, and a 128th of it is bits.
            need += span / 128 + 4 * granule_bytes;
            need += need / 127;
            const least = std.mem.alignForward(u64, need, host_page_bytes);
            const wished = std.mem.alignForward(u64, @max(need, span / growth_part), host_page_bytes);
            const stingy = ds.fault("small-grows-by-pages");
            return (!stingy and heap.growBy(end, wished)) or heap.growBy(end, least);
        }

        fn growBy(heap: *Heap, end: usize, bytes: u64) bool {
            const reach: u64 = end - heap.base + bytes;
            if (end + bytes > std.math.maxInt(usize) or reach / granule_bytes > std.math.maxInt(u32)) return false;
            const old_end = heap.host.grow(@intCast(bytes / host_page_bytes)) orelse return false;
            heap.adopt(old_end, old_end + @as(usize, @intCast(bytes)));
            return true;
        }

        /// Bytes that join what is grown next: the free run below the bits, and the bits.
        fn freeAtEnd(heap: *const Heap) usize {
            const last = heap.indexOf(heap.top) - 1;
            const run: usize = if (heap.bits != 0 and heap.isEnd(last)) heap.lastSize(last).* else 0;
            return run * granule_bytes + (heap.end - heap.top);
        }

        /// The memory as the host has it at the first request. True if there is any to hand out.
        fn begin(heap: *Heap) bool {
            const start = std.mem.alignForward(usize, heap.host.start(), granule_bytes);
            // Granules are counted from a multiple of 8 of them, so that their bits fill bytes.
            heap.base = (start - granule_bytes) & ~@as(usize, 8 * granule_bytes - 1);
            heap.top = start;
            heap.end = @max(heap.host.end(), start);
            if (options.statistics) heap.counted = .{ .start = start, .regions = 1, .total_bytes = heap.end - start };
            if (heap.end - start < first_region_bytes_min) return false;
            heap.adopt(heap.end, heap.end);
            return true;
        }

        /// Takes [from, to) over: moves the bits to its end, and frees where they were.
        fn adopt(heap: *Heap, from: usize, to: usize) void {
            const old_top = heap.top;
            const old_end = heap.end;
            const joined = from == old_end or ds.fault("small-joins-gap");
            const bytes = (to - heap.base) / (8 * granule_bytes) + 1;
            const place = (to - bytes) & ~@as(usize, granule_bytes - 1);
            const new_bits: [*]u8 = @ptrFromInt(place);
            const kept = if (heap.bits == 0) 0 else (old_top - heap.base) / (8 * granule_bytes) + 1;
            @memcpy(new_bits[0..kept], @as([*]const u8, @ptrFromInt(@max(heap.bits, 1))));
            @memset(new_bits[kept .. to - place], 0);
            heap.bits = place;
            heap.end = to;
            heap.top = place - guard_bytes;
            if (options.statistics) {
                heap.counted.total_bytes += to - from;
                if (!joined) heap.counted.regions += 1;
            }
            if (joined) return heap.giveBetween(old_top, heap.top);
            heap.giveBetween(old_top, old_end);
            heap.giveBetween(std.mem.alignForward(usize, from, granule_bytes), heap.top);
        }

        fn giveBetween(heap: *Heap, from: usize, to: usize) void {
            if (to >= from + granule_bytes) heap.give(heap.indexOf(from), @intCast((to - from) / granule_bytes));
        }

        // -- Figures ------------------------------------------------------------------------

        fn count(heap: *Heap, bytes: usize) void {
            const figures = &heap.counted;
            figures.in_use +%= bytes;
            figures.high_water = @max(figures.high_water, figures.in_use);
            figures.trip_high_water = @max(figures.trip_high_water, figures.in_use);
            heap.countSize(bytes, true);
        }

        fn discount(heap: *Heap, bytes: usize) void {
            heap.counted.in_use -%= bytes;
            heap.countSize(bytes, false);
        }

        fn countSize(heap: *Heap, bytes: usize, comptime more: bool) void {
            const figures = &heap.counted;
            const given = granules(bytes);
            figures.allocated_granules = if (more) figures.allocated_granules +% given else figures.allocated_granules -% given;
            if (bytes > small_bytes_max) {
                const pages = (bytes - 1) / host_page_bytes + 1;
                figures.large_bytes = if (more) figures.large_bytes +% bytes else figures.large_bytes -% bytes;
                figures.large_pages = if (more) figures.large_pages +% pages else figures.large_pages -% pages;
            }
            if (!options.histogram) return;
            const row = &heap.sizes[@min((bytes + 3) / 4, size_rows - 1)];
            row.count = if (more) row.count + 1 else row.count - 1;
            row.high_water = @max(row.high_water, row.count);
            row.trip_high_water = @max(row.trip_high_water, row.count);
        }

        /// Linear in the number of free runs.
        pub fn stats(heap: *Heap) Statistics {
            heap.acquire();
            defer heap.release();
            const counted = &heap.counted;
            var figures: Statistics = .{
                .in_use = counted.in_use,
                .high_water = counted.high_water,
                .trip_high_water = counted.trip_high_water,
                .regions = counted.regions,
                .total_words = counted.total_bytes / 4,
                .allocated_words = counted.allocated_granules * (granule_bytes / 4),
                .total_large_pages = counted.large_pages,
                .allocated_large_pages_words = (counted.large_bytes + 3) / 4,
                .heap_start = counted.start,
            };
            for (heap.heads) |head| {
                var index = head;
                while (index != 0) : (index = heap.word(index, .next).*) {
                    const run: u64 = heap.word(index, .size).*;
                    const words = run * (granule_bytes / 4);
                    figures.unused_large_pages += run / (host_page_bytes / granule_bytes);
                    if (heap.addressOf(index) + run * granule_bytes == heap.top) {
                        figures.unused_words = words;
                    } else {
                        figures.fragment_words += words;
                        figures.fragments += 1;
                    }
                }
            }
            figures.total_large_pages += figures.unused_large_pages;
            return figures;
        }

        /// From now on `trip_high_water` is the most in use after this call.
        pub fn resetTrip(heap: *Heap) void {
            heap.acquire();
            defer heap.release();
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

        pub const Broken = error{ RunsTouch, EndsUnmarked, SizesDiffer, WrongList, BitsDiffer };

        /// Walks everything; tests only.
        pub fn invariants(heap: *const Heap) Broken!void {
            if (heap.bits == 0) return;
            var ends: usize = 0;
            for (heap.heads, 0..) |head, list| {
                const is_filled = heap.filled[list >> 6] >> @intCast(list & 63) & 1 == 1;
                if (is_filled != (head != 0)) return error.WrongList;
                var index = head;
                while (index != 0) : (index = heap.word(index, .next).*) {
                    const run = heap.word(index, .size).*;
                    const last = index + run - 1;
                    if (listOf(run) != list) return error.WrongList;
                    if (heap.lastSize(last).* != run) return error.SizesDiffer;
                    if (!heap.isEnd(index) or !heap.isEnd(last)) return error.EndsUnmarked;
                    if (heap.isEnd(index - 1) or heap.isEnd(last + 1)) return error.RunsTouch;
                    ends += if (run == 1) 1 else 2;
                }
            }
            const map: [*]const u8 = @ptrFromInt(heap.bits);
            var marked: usize = 0;
            for (map[0 .. heap.end - heap.bits]) |byte| marked += @popCount(byte);
            if (marked != ends) return error.BitsDiffer;
        }
    };
}
