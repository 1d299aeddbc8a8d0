//! From an address to the slab that holds it, in two loads: the page map of a general allocator.
//!
//! `Tree` covers all 47 bits of user addresses: 65,536 roots of 2 GiB, each with a leaf of one word a
//! tile, made when the first slab there is. `Bounds` is for few regions of a caller without a
//! system, or small address spaces: a table for each region, found by its bounds.
//!
//! Both answer the distance of the slab's record from themselves, 0 where there is none. They begin
//! with zeros that are never written, so that distance 0 leads to a record without an owner, and
//! absent leaves lead to absent slabs: the hot path asks nothing.
//!
//! Invariant: an entry names the slab whose span covers that tile, as long as the span is cut.
//!
//! Cost: Tree 768 KiB of addresses, and 256 KiB for each 2 GiB in use; touched by the page. Threads:
//! `find` any; `ensure` and `set` for spans that the caller alone holds, any at the same time.
//!
//! When not: for regions of a pool, whose map is in region/.

const std = @import("std");
const slab_class = @import("slab_class.zig");

const tile_shift = slab_class.tile_shift;

/// Zeros at the start of a map: a slab's record without an owner, at least.
const zeros_bytes = 256;

pub fn Tree(comptime Sync: type) type {
    const Entry = Sync.Atomic(usize);
    return struct {
        /// The empty leaf; must be the first field in memory, as `origin` sees to.
        absent: [leaf_entries]Entry align(64),
        roots: [1 << (address_bits - root_shift)]Entry,

        const Self = @This();
        const address_bits = 47;
        const root_shift = 31;
        const leaf_entries = 1 << (root_shift - tile_shift);
        pub const leaf_bytes = leaf_entries * @sizeOf(Entry);

        pub inline fn origin(map: *const Self) usize {
            return @intFromPtr(&map.absent);
        }

        /// Distance of the slab's record from `origin`; 0: no slab is there.
        pub inline fn find(map: *const Self, address: usize) usize {
            return if (isPlace(address)) map.findAt(address) else 0;
        }

        /// Whether an address is one that `findAt` may be asked about.
        pub inline fn isPlace(address: usize) bool {
            return address >> address_bits == 0;
        }

        pub inline fn findAt(map: *const Self, address: usize) usize {
            return map.leaf(address >> root_shift)[address >> tile_shift & (leaf_entries - 1)].load(.monotonic, .map_entry);
        }

        inline fn leaf(map: *const Self, root: usize) [*]Entry {
            return @ptrFromInt(map.origin() +% map.roots[root].load(.monotonic, .map_root));
        }

        /// Makes room for the entries of a span, which lies in one leaf; `memory` gives zeroed bytes.
        pub fn ensure(map: *Self, address: usize, memory: anytype) bool {
            const root = address >> root_shift;
            if (root >= map.roots.len) return false;
            if (map.roots[root].load(.monotonic, .map_root) != 0) return true;
            const made = memory.zeroed(leaf_bytes) orelse return false;
            // Release: whoever finds entries in this leaf got an address in it from a thread that came
            // later than this one; the leaf's zeros must be seen by those who guess addresses. A lost
            // race leaves a leaf unused, once for each 2 GiB.
            _ = map.roots[root].cmpxchg(0, @intFromPtr(made) -% map.origin(), .release, .monotonic, .map_root);
            return true;
        }

        pub fn set(map: *Self, address: usize, tiles: usize, record: usize) void {
            const entries = map.leaf(address >> root_shift);
            const first = address >> tile_shift & (leaf_entries - 1);
            for (entries[first..][0..tiles]) |*entry| entry.store(record, .monotonic, .map_entry);
        }

        pub fn clear(map: *Self) void {
            for (&map.roots) |*root| {
                if (root.load(.monotonic, .map_root) != 0) root.store(0, .monotonic, .map_root_clear);
            }
        }

        pub fn addRegion(_: *Self, _: usize, _: usize) bool {
            return true;
        }

        pub fn removeRegion(_: *Self, _: usize) void {}
    };
}

/// For up to `regions_max` regions at a time.
pub fn Bounds(comptime regions_max: comptime_int) fn (comptime Sync: type) type {
    return struct {
        fn of(comptime Sync: type) type {
            const Entry = Sync.Atomic(usize);
            return struct {
                absent: [zeros_bytes]u8 align(64),
                regions: [regions_max]Region,
                count: Sync.Atomic(usize),

                const Self = @This();
                const Region = struct { start: Entry, tiles: Entry, table: Entry };

                pub inline fn origin(map: *const Self) usize {
                    return @intFromPtr(&map.absent);
                }

                pub inline fn find(map: *const Self, address: usize) usize {
                    const region = map.regionOf(address) orelse return 0;
                    const table = region.table.load(.monotonic, .map_table);
                    if (table == 0) return 0;
                    return entryOf(region, table, address).load(.monotonic, .map_entry);
                }

                pub inline fn isPlace(_: usize) bool {
                    return true;
                }

                pub inline fn findAt(map: *const Self, address: usize) usize {
                    return map.find(address);
                }

                inline fn regionOf(map: *const Self, address: usize) ?*const Region {
                    for (map.regions[0..map.count.load(.monotonic, .map_count)]) |*region| {
                        const tile = (address >> tile_shift) -% region.start.load(.monotonic, .map_start);
                        if (tile < region.tiles.load(.monotonic, .map_tiles)) return region;
                    }
                    return null;
                }

                inline fn entryOf(region: *const Region, table: usize, address: usize) *Entry {
                    const tile = (address >> tile_shift) - region.start.load(.monotonic, .map_start);
                    return @ptrFromInt(table + tile * @sizeOf(Entry));
                }

                pub fn ensure(map: *Self, address: usize, memory: anytype) bool {
                    const region = @constCast(map.regionOf(address) orelse return false);
                    if (region.table.load(.monotonic, .map_table) != 0) return true;
                    const tiles = region.tiles.load(.monotonic, .map_tiles);
                    const made = memory.zeroed(tiles * @sizeOf(Entry)) orelse return false;
                    // Release: as for a leaf of the tree.
                    _ = region.table.cmpxchg(0, @intFromPtr(made), .release, .monotonic, .map_table);
                    return true;
                }

                pub fn set(map: *Self, address: usize, tiles: usize, record: usize) void {
                    const region = map.regionOf(address).?;
                    const table = region.table.load(.monotonic, .map_table);
                    for (0..tiles) |i| {
                        entryOf(region, table, address + (i << tile_shift)).store(record, .monotonic, .map_entry);
                    }
                }

                /// False: there are too many. The caller sees to it that one thread adds at a time.
                pub fn addRegion(map: *Self, start: usize, bytes: usize) bool {
                    const count = map.count.load(.monotonic, .map_count);
                    const tiles = ((start + bytes - 1) >> tile_shift) - (start >> tile_shift) + 1;
                    for (map.regions[0..count]) |*region| {
                        if (region.tiles.load(.monotonic, .map_tiles) != 0) continue;
                        region.table.store(0, .monotonic, .map_table);
                        region.start.store(start >> tile_shift, .monotonic, .map_start);
                        region.tiles.store(tiles, .monotonic, .map_tiles);
                        return true;
                    }
                    if (count == regions_max) return false;
                    map.regions[count].start.store(start >> tile_shift, .monotonic, .map_start);
                    map.regions[count].tiles.store(tiles, .monotonic, .map_tiles);
                    map.count.store(count + 1, .monotonic, .map_count);
                    return true;
                }

                pub fn clear(map: *Self) void {
                    map.count.store(0, .monotonic, .map_count);
                    map.regions = std.mem.zeroes(@TypeOf(map.regions));
                }

                pub fn removeRegion(map: *Self, start: usize) void {
                    for (map.regions[0..map.count.load(.monotonic, .map_count)]) |*region| {
                        if (region.start.load(.monotonic, .map_start) != start >> tile_shift) continue;
                        region.tiles.store(0, .monotonic, .map_tiles);
                        return;
                    }
                }
            };
        }
    }.of;
}
