//! A tiny heap inside one growing memory: the linear memory of a WebAssembly module, or a native
//! reservation with a limit. The caller gives the size back at `free`, so a block carries nothing.
//!
//! Memory is divided into granules of 16 bytes. A free run of granules lies in a list of its size
//! (16 lists per doubling; a bit for each says whether it has any) and keeps its own description in
//! its first and last granule. A bit per granule, set where a free run begins and where one ends,
//! tells a freed block in O(1) whether a free run ends just before it or begins just behind it. The
//! bits lie at the top of the memory and move up when it grows, so all below them stays one piece.
//!
//! Invariant: no two free runs touch; bits are set at the edges of free runs and nowhere else; runs
//! never cross from one region of the memory into another (someone else may grow the memory between
//! our calls, which leaves a gap). The four bytes behind a user's last granule are never metadata.
//!
//! Cost: alloc and free O(1) but for 2 probes in a list of mixed sizes and, before the memory
//! grows, one walk of that list. Space 1/128 for the bits and the rounding to 16 bytes. Requests
//! over 32 KiB are rounded to pages of 4 KiB and lie at a page, in the same space as the small.
//! Freed blocks merge at once: lists of freed blocks in front of this were faster by a third and
//! took 10 to 40 % more memory (2-vCPU VM, November 2026).
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

/// Lists of free runs per doubling of their size, as a power of two; the last holds all above 16 MiB.
const lists_log2 = 4;
const lists = 256;
/// One bit for each list.
const Filled = u32;
const filled_bits = @bitSizeOf(Filled);
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
/// the old end or null; optionally `firstEnd()` (how far the memory is the heap's before it has grown
/// it; default: all), `decommit(address, bytes)`, `acquire()`, `release()`. All take `*Host`. The memory starts at 16 or above, and not above its end.
pub fn SmallHeap(comptime Host: type, comptime options: Options) type {
    return struct {
        const Heap = @This();

        host: Host,
        /// What links and bits count from; 0 where addresses fit in a link as they are.
        origin: if (narrow) u0 else usize = 0,
        /// Where the bit of `origin` would be.
        bits: usize = 0,
        /// End of what can be handed out; the guard and the bits lie from here to `end`.
        top: usize = 0,
        /// End of the newest region. 0: nothing was asked of the host yet.
        end: usize = 0,
        /// A bit for each list that is not empty.
        filled: [lists / filled_bits]Filled = @splat(0),
        heads: [lists]Link = @splat(0),
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
            allocated_bytes: usize = 0,
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
            const address = heap.take(bytes, alignment);
            const counted = address != 0 or (ds.fault("small-counts-failures") and bytes <= request_bytes_max);
            if (options.statistics and counted) heap.count(bytes);
            return @ptrFromInt(address);
        }

        /// `bytes` as in the call that gave or last resized the block.
        pub fn free(heap: *Heap, ptr: [*]u8, bytes: usize) void {
            if (bytes == 0) return;
            heap.acquire();
            defer heap.release();
            heap.give(@intFromPtr(ptr), roomOf(bytes));
            if (options.statistics) heap.discount(bytes);
        }

        /// The block with another length where it lies. False: no room; the block is as before.
        pub fn resize(heap: *Heap, ptr: [*]u8, old_bytes: usize, new_bytes: usize) bool {
            if (old_bytes == 0 or new_bytes == 0 or new_bytes > request_bytes_max) return false;
            if (ds.fault("small-always-moves") and new_bytes > old_bytes) return false;
            heap.acquire();
            defer heap.release();
            const address = @intFromPtr(ptr);
            const old = roomOf(old_bytes);
            const new = roomOf(new_bytes);
            var room = old;
            if (new > old and heap.isEdge(address + old)) {
                const run = decode(heap.word(address + old, .size).*);
                if (run >= new - old) {
                    heap.remove(address + old, run);
                    room += run;
                }
            }
            if (new > room) return false;
            if (new < room) heap.give(address + new, room - new);
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
        /// bytes of them were resident.
        pub fn trim(heap: *Heap) usize {
            if (!@hasDecl(Host, "decommit") or ds.fault("small-never-decommits")) return 0;
            heap.acquire();
            defer heap.release();
            var bytes: usize = 0;
            for (&heap.heads) |head| {
                var link = head;
                while (link != 0) : (link = heap.word(heap.at(link), .next).*) {
                    // The first and the last granule describe the run.
                    const run = heap.at(link);
                    const last = run + decode(heap.word(run, .size).*) - granule_bytes;
                    const from = std.mem.alignForward(usize, run + granule_bytes, host_page_bytes);
                    const to = std.mem.alignBackward(usize, last, host_page_bytes);
                    if (to > from) bytes += heap.host.decommit(from, to - from);
                }
            }
            return bytes;
        }

        // -- Free runs ----------------------------------------------------------------------

        /// An address or a size in 32 bits: as it is, or in granules from `origin`.
        const Link = u32;
        const narrow = @sizeOf(usize) == 4;
        const link_unit = if (narrow) 1 else granule_bytes;

        /// Where a free run's first granule keeps what. Its first word is nothing: a user who
        /// writes up to four bytes past the block before damages nothing. The last granule
        /// has the size in the same place.
        const Word = enum(usize) {
            next = 4,
            prev = 8,
            size = if (ds.fault("small-link-past-end")) 0 else 12,
        };

        inline fn word(_: *const Heap, address: usize, comptime what: Word) *Link {
            return @ptrFromInt(address + @intFromEnum(what));
        }

        inline fn sizeBefore(_: *const Heap, address: usize) *Link {
            return @ptrFromInt(address - 4);
        }

        inline fn at(heap: *const Heap, link: Link) usize {
            return heap.origin + @as(usize, link) * link_unit;
        }

        inline fn linkTo(heap: *const Heap, address: usize) Link {
            return @intCast((address - heap.origin) / link_unit);
        }

        inline fn decode(size: Link) usize {
            return @as(usize, size) * link_unit;
        }

        inline fn encode(size: usize) Link {
            return @intCast(size / link_unit);
        }

        inline fn bitsOf(heap: *const Heap, address: usize) *u8 {
            return @ptrFromInt(heap.bits +% ((address - heap.origin) / (8 * granule_bytes)));
        }

        inline fn maskOf(address: usize) u8 {
            return @as(u8, 1) << @truncate(address / granule_bytes);
        }

        /// Whether a free run begins or ends here. Asked at the ends of blocks only, where it can
        /// be but one of both.
        fn isEdge(heap: *const Heap, address: usize) bool {
            return heap.bitsOf(address).* & maskOf(address) != 0;
        }

        /// Marks an edge of a run, or takes the mark away.
        fn flip(heap: *Heap, address: usize) void {
            heap.bitsOf(address).* ^= maskOf(address);
        }

        /// What a block of `bytes` takes.
        fn roomOf(bytes: usize) usize {
            const unit: usize = if (bytes > small_bytes_max) run_page_bytes else granule_bytes;
            return ((bytes - 1) | (unit - 1)) + 1;
        }

        /// The exponent and the first bits of the mantissa of a float: exact for the smallest sizes,
        /// then 16 to a doubling. Less code than the same by shifts.
        fn listOf(size: usize) u32 {
            const scaled: f32 = @floatFromInt(size / granule_bytes + (1 << lists_log2));
            const first = (127 + lists_log2) << lists_log2;
            return @min((@as(u32, @bitCast(scaled)) >> (23 - lists_log2)) - first, lists - 1);
        }

        fn insert(heap: *Heap, address: usize, size: usize) void {
            const list = listOf(size);
            const link = heap.linkTo(address);
            heap.flip(address);
            heap.flip(address + size);
            heap.sizeBefore(address + size).* = encode(size);
            heap.word(address, .size).* = encode(size);
            const next = heap.heads[list];
            heap.heads[list] = link;
            heap.word(address, .next).* = next;
            heap.word(address, .prev).* = 0;
            if (next != 0) heap.word(heap.at(next), .prev).* = link;
            heap.filled[list / filled_bits] |= @as(Filled, 1) << @truncate(list);
        }

        fn remove(heap: *Heap, address: usize, size: usize) void {
            heap.flip(address);
            heap.flip(address + size);
            const next = heap.word(address, .next).*;
            const prev = heap.word(address, .prev).*;
            if (next != 0) heap.word(heap.at(next), .prev).* = prev;
            if (prev != 0) {
                heap.word(heap.at(prev), .next).* = next;
                return;
            }
            const list = listOf(size);
            heap.heads[list] = next;
            if (next == 0) heap.filled[list / filled_bits] ^= @as(Filled, 1) << @truncate(list);
        }

        /// Makes memory free, in one run with what is free on both sides.
        fn give(heap: *Heap, from: usize, bytes: usize) void {
            var address = from;
            var size = bytes;
            if (heap.isEdge(address)) {
                const before = decode(heap.sizeBefore(address).*);
                address -= before;
                size += before;
                heap.remove(address, before);
            }
            if (heap.isEdge(address + size)) {
                const more = decode(heap.word(address + size, .size).*);
                heap.remove(address + size, more);
                size += more;
                const twins = bytes == more and bytes > host_page_bytes;
                if (ds.fault("small-merges-past-end") and twins) size += granule_bytes;
            }
            heap.insert(address, size);
        }

        /// 0: refused.
        fn take(heap: *Heap, bytes_wanted: usize, alignment: usize) usize {
            const bytes = if (ds.fault("small-count-wraps")) @as(u32, @truncate(bytes_wanted)) else bytes_wanted;
            // Above the bound the sums of `grow` would wrap.
            if ((bytes | alignment) > request_bytes_max) return 0;
            const large = bytes > small_bytes_max;
            const least: usize = if (large) run_page_bytes else granule_bytes;
            const mask = (if (large and ds.fault("small-align-ignored")) granule_bytes else @max(alignment, least)) - 1;
            const size = roomOf(bytes);
            var probes: u32 = probes_max;
            while (true) {
                const run = heap.find(size, mask, probes);
                if (run != 0) return heap.cut(run, size, mask);
                if (probes != probes_max and !heap.grow(size, mask)) return 0;
                probes = std.math.maxInt(u32);
            }
        }

        /// Takes `size` at a multiple of `mask` + 1 out of a free run.
        fn cut(heap: *Heap, run: usize, size: usize, mask: usize) usize {
            const room = decode(heap.word(run, .size).*);
            heap.remove(run, room);
            const address = (run + mask) & ~mask;
            if (address != run) heap.insert(run, address - run);
            const rest = run + room - (address + size);
            if (rest != 0) heap.insert(address + size, rest);
            return address;
        }

        /// A free run in which `size` fits at a multiple of `mask` + 1; 0: none.
        fn find(heap: *const Heap, size: usize, mask: usize, probes: u32) usize {
            var list = listOf(size);
            while (list < lists) : (list += 1) {
                const rest = heap.filled[list / filled_bits] >> @truncate(list);
                if (rest == 0) {
                    list |= filled_bits - 1;
                    continue;
                }
                list += @ctz(rest);
                var link = heap.heads[list];
                var left = probes;
                while (link != 0 and left != 0) : (left -= 1) {
                    const run = heap.at(link);
                    const skipped = -%run & mask;
                    if (decode(heap.word(run, .size).*) >= size + skipped) return run;
                    link = heap.word(run, .next).*;
                }
            }
            return 0;
        }

        // -- Growth -------------------------------------------------------------------------

        /// More memory, so that a run of `size` at a multiple of `mask` + 1 can be found, unless
        /// someone else grows the memory meanwhile. False: the host refuses.
        fn grow(heap: *Heap, size: usize, mask: usize) bool {
            @branchHint(.cold);
            if (heap.end == 0 and heap.begin()) return true;
            const end = heap.host.end();
            const span = end - heap.origin;
            var need = size + mask;
            // The bits of the whole span have to lie in what is new.
            need += (span + need) / 127 + 4 * granule_bytes;
            if (end == heap.end and heap.bits != 0) {
                var free_bytes = end - heap.top;
                if (heap.isEdge(heap.top)) free_bytes += decode(heap.sizeBefore(heap.top).*);
                need -|= free_bytes;
            }
            const least = need / host_page_bytes + 1;
            const wished = if (ds.fault("small-grows-by-pages")) 0 else span / (growth_part * host_page_bytes) + 1;
            var pages = @max(least, wished);
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
            const start = std.mem.alignForward(usize, heap.host.start(), granule_bytes);
            // A granule below the start, so that 0 is no link; bits fill bytes.
            if (!narrow) heap.origin = (start - granule_bytes) & ~@as(usize, 8 * granule_bytes - 1);
            heap.top = start;
            heap.end = @max(if (@hasDecl(Host, "firstEnd")) heap.host.firstEnd() else heap.host.end(), start);
            if (options.statistics) heap.counted = .{ .start = start, .regions = 1, .total_bytes = heap.end - start };
            if (heap.end - start < first_region_bytes_min + (start - heap.origin) / 128) return false;
            heap.adopt(heap.end, heap.end);
            return true;
        }

        /// Takes [from, to) over: moves the bits to its end, and frees where they were.
        fn adopt(heap: *Heap, from: usize, to: usize) void {
            const old_top = heap.top;
            const old_end = heap.end;
            const joined = from == old_end or ds.fault("small-joins-gap");
            const place = (to - (to - heap.origin) / (8 * granule_bytes) - 1) & ~@as(usize, granule_bytes - 1);
            const new_bits: [*]u8 = @ptrFromInt(place);
            @memset(new_bits[0 .. to - place], 0);
            if (heap.bits != 0) {
                const kept = (old_top - heap.origin) / (8 * granule_bytes) + 1;
                @memcpy(new_bits[0..kept], @as([*]const u8, @ptrFromInt(heap.bits)));
            }
            heap.bits = place;
            heap.end = to;
            heap.top = place - guard_bytes;
            if (options.statistics) {
                heap.counted.total_bytes += to - from;
                if (!joined) heap.counted.regions += 1;
            }
            var first = old_top;
            if (!joined) {
                heap.giveBetween(old_top, old_end);
                first = std.mem.alignForward(usize, from, granule_bytes);
            }
            heap.giveBetween(first, heap.top);
        }

        fn giveBetween(heap: *Heap, from: usize, to: usize) void {
            const bytes = (to - from) & ~@as(usize, granule_bytes - 1);
            if (bytes != 0) heap.give(from, bytes);
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
            const given = roomOf(bytes);
            figures.allocated_bytes = if (more) figures.allocated_bytes +% given else figures.allocated_bytes -% given;
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
                .allocated_words = counted.allocated_bytes / 4,
                .total_large_pages = counted.large_pages,
                .allocated_large_pages_words = (counted.large_bytes + 3) / 4,
                .heap_start = counted.start,
            };
            for (&heap.heads) |head| {
                var link = head;
                while (link != 0) : (link = heap.word(heap.at(link), .next).*) {
                    const run = decode(heap.word(heap.at(link), .size).*);
                    figures.unused_large_pages += run / host_page_bytes;
                    if (heap.at(link) + run == heap.top) {
                        figures.unused_words = run / 4;
                    } else {
                        figures.fragment_words += run / 4;
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
            var edges: usize = 0;
            for (&heap.heads, 0..) |head, list| {
                const is_filled = heap.filled[list / filled_bits] >> @intCast(list % filled_bits) & 1 == 1;
                if (is_filled != (head != 0)) return error.WrongList;
                var link = head;
                while (link != 0) : (link = heap.word(heap.at(link), .next).*) {
                    const run = heap.at(link);
                    const size = decode(heap.word(run, .size).*);
                    if (listOf(size) != list) return error.WrongList;
                    if (decode(heap.sizeBefore(run + size).*) != size) return error.SizesDiffer;
                    // Two runs that touch would have taken each other's mark away.
                    if (!heap.isEdge(run) or !heap.isEdge(run + size)) return error.EndsUnmarked;
                    edges += 2;
                }
            }
            const map: [*]const u8 = @ptrFromInt(heap.bits);
            var marked: usize = 0;
            for (map[0 .. heap.end - heap.bits]) |byte| marked += @popCount(byte);
            if (marked != edges) return error.BitsDiffer;
        }
    };
}
