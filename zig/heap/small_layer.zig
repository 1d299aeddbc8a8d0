//! A SmallHeap over a reservation as a layer of the engine: allocations without a size at their
//! free, for any thread, with every wrong free told.
//!
//! The heap itself gets the size back from its caller. Handles know theirs, but the engine frees by
//! address alone, so two bits per granule lie beside the memory: one where a block begins and one
//! where it ends. The first is the truth about what is live: a free clears it, and a free that finds
//! it clear is a second one, or of an address that is no block's. The length of a block is the
//! distance of the two, in granules; what its last granule has more than was asked for stands in four
//! bits beside the first, so that figures count the bytes requested.
//!
//! Invariant: a bit is set at the first granule of each live block in one map, at its last in the
//! other, and nowhere else. Memory and maps are reserved once at `init`; nothing is touched before
//! the first request. The backend is not asked: the limit is the reservation's, and what the heap
//! does not use goes to the system by `trim`, not to a pool.
//!
//! Cost: a lock around each call (futex, free when nobody else is there); the length of a block is
//! found by words of 64 granules, so 1 µs for 2 MiB. Space: a 64th of what is used, for the maps, and
//! up to a 32nd more where blocks are short.
//!
//! Threads: any, under the lock; a free without a thread takes it too, for less than a microsecond.
//!
//! When not: for speed with many threads (the general allocator), or where the size is known at the
//! free (`SmallHeap`, which needs no maps).

const std = @import("std");
const small_heap = @import("small_heap.zig");
const backend_file = @import("backend.zig");
const Reservation = @import("small_host.zig").Reservation;

const granule_bytes = small_heap.granule_bytes;
const page_bytes = small_heap.host_page_bytes;
/// Granules to a word of a map.
const word_bits = 64;
/// One bit a granule for beginnings, one for ends, four for what is spare.
const maps_count = 2 + 4;

pub fn SmallLayer(comptime Os: type) type {
    return struct {
        heap: Heap,
        /// First granules of live blocks, then last granules; null: not initialised.
        begins: ?[*]u64,
        ends: [*]u64,
        /// Four bits a granule: bytes of a block's last granule that were not asked for.
        spare: [*]u8,
        map_bytes: usize,
        live: u64,

        const Self = @This();
        /// Its host is `Unlocked`: the lock is taken here, around heap and maps together.
        const Heap = small_heap.SmallHeap(Unlocked, .{});
        /// The largest request; everything goes to the reservation.
        pub const bytes_max: usize = small_heap.request_bytes_max;
        pub const limit_bytes_default = 1 << 30;

        pub const Options = struct {
            /// Addresses that are reserved; 0: the default.
            limit_bytes: usize = 0,
        };

        /// As `SmallStatistics`, and what is live by count.
        pub const Figures = extern struct {
            in_use: f64,
            high_water: f64,
            trip_high_water: f64,
            regions: f64,
            total_words: f64,
            allocated_words: f64,
            unused_words: f64,
            fragment_words: f64,
            fragments: f64,
            total_large_pages: f64,
            unused_large_pages: f64,
            allocated_large_pages_words: f64,
            heap_start: f64,
            live_blocks: f64,
            limit_bytes: f64,
        };

        const Unlocked = struct {
            reservation: Reservation(Os),

            pub fn start(host: *Unlocked) usize {
                return host.reservation.start();
            }
            pub fn end(host: *Unlocked) usize {
                return host.reservation.end();
            }
            pub fn grow(host: *Unlocked, pages: usize) ?usize {
                return host.reservation.grow(pages);
            }
            pub fn decommit(host: *Unlocked, address: usize, bytes: usize) usize {
                return host.reservation.decommit(address, bytes);
            }
        };

        pub fn init(self: *Self, _: backend_file.Backend, options: Options) bool {
            const limit = if (options.limit_bytes == 0) limit_bytes_default else options.limit_bytes;
            const reservation = Reservation(Os).init(limit) catch return false;
            const bytes = reservation.limit_bytes / granule_bytes / 8;
            const map_bytes = std.mem.alignForward(usize, maps_count * bytes, page_bytes);
            var errno: u16 = 0;
            const maps = Os.reserve(map_bytes, page_bytes, &errno) orelse {
                var unused = reservation;
                unused.deinit();
                return false;
            };
            self.* = .{
                .heap = .{ .host = .{ .reservation = reservation } },
                .begins = @ptrCast(@alignCast(maps)),
                .ends = @ptrCast(@alignCast(maps + bytes)),
                .spare = maps + 2 * bytes,
                .map_bytes = map_bytes,
                .live = 0,
            };
            return true;
        }

        /// Nothing is live, and nobody calls any more.
        pub fn deinit(self: *Self) void {
            const maps: [*]u8 = @ptrCast(self.begins orelse return);
            // Refused: the system keeps the addresses, and there is nothing left to try.
            _ = Os.unmap(maps, self.map_bytes);
            self.heap.host.reservation.deinit();
            const bytes: [*]u8 = @ptrCast(self);
            @memset(bytes[0..@sizeOf(Self)], 0);
        }

        pub fn alloc(self: *Self, _: u32, bytes: usize, alignment: usize) ?[*]u8 {
            if (self.begins == null or bytes == 0 or bytes > bytes_max) return null;
            self.acquire();
            defer self.release();
            const ptr = self.heap.alloc(bytes, if (alignment == 0) granule_bytes else alignment) orelse return null;
            self.note(@intFromPtr(ptr), bytes);
            return ptr;
        }

        pub fn free(self: *Self, _: ?u32, ptr: [*]u8) error{ Foreign, DoubleFree }!void {
            if (self.begins == null) return error.Foreign;
            self.acquire();
            defer self.release();
            const room = self.lengthOf(ptr) orelse return if (self.isInside(ptr)) error.DoubleFree else error.Foreign;
            self.heap.free(ptr, self.forget(@intFromPtr(ptr), room));
        }

        pub fn usableSize(self: *Self, ptr: [*]u8) ?usize {
            if (self.begins == null) return null;
            self.acquire();
            defer self.release();
            return self.lengthOf(ptr);
        }

        pub fn resizeInPlace(self: *Self, _: u32, ptr: [*]u8, bytes: usize) bool {
            if (self.begins == null or bytes == 0 or bytes > bytes_max) return false;
            self.acquire();
            defer self.release();
            const room = self.lengthOf(ptr) orelse return false;
            const old = self.forget(@intFromPtr(ptr), room);
            const is_done = self.heap.resize(ptr, old, bytes);
            self.note(@intFromPtr(ptr), if (is_done) bytes else old);
            return is_done;
        }

        pub fn threadEnded(_: *Self, _: u32) void {}

        /// Bytes that were resident and went to the system.
        pub fn trim(self: *Self, _: u32) u64 {
            if (self.begins == null) return 0;
            self.acquire();
            defer self.release();
            return self.heap.trim();
        }

        pub fn tick(_: *Self) void {}

        pub fn ages(_: *Self) bool {
            return false;
        }

        pub fn liveObjects(self: *Self) u64 {
            if (self.begins == null) return 0;
            self.acquire();
            defer self.release();
            return self.live;
        }

        /// The maps of what the heap has grown to.
        pub fn metadataBytes(self: *Self) u64 {
            if (self.begins == null) return 0;
            self.acquire();
            defer self.release();
            return self.heap.host.reservation.used_bytes / (granule_bytes * 8) * maps_count;
        }

        pub fn figures(self: *Self) Figures {
            var out = std.mem.zeroes(Figures);
            if (self.begins == null) return out;
            self.acquire();
            defer self.release();
            const counted = self.heap.stats();
            inline for (@typeInfo(small_heap.Statistics).@"struct".fields) |field| {
                @field(out, field.name) = @floatFromInt(@field(counted, field.name));
            }
            out.live_blocks = @floatFromInt(self.live);
            out.limit_bytes = @floatFromInt(self.heap.host.reservation.limit_bytes);
            return out;
        }

        /// From now on the trip's high water is the most in use after this call.
        pub fn resetTrip(self: *Self) void {
            if (self.begins == null) return;
            self.acquire();
            defer self.release();
            self.heap.resetTrip();
        }

        // -- Maps ---------------------------------------------------------------------------

        fn roomOf(bytes: usize) usize {
            return std.mem.alignForward(usize, bytes, granule_bytes);
        }

        fn isInside(self: *Self, ptr: [*]u8) bool {
            const host = &self.heap.host.reservation;
            return @intFromPtr(ptr) % granule_bytes == 0 and @intFromPtr(ptr) -% host.start() < host.used_bytes;
        }

        inline fn indexOf(self: *Self, address: usize) usize {
            return (address - self.heap.host.reservation.start()) / granule_bytes;
        }

        fn flip(map: [*]u64, index: usize) void {
            map[index / word_bits] ^= @as(u64, 1) << @intCast(index % word_bits);
        }

        fn note(self: *Self, address: usize, bytes: usize) void {
            const room = roomOf(bytes);
            self.flipEnds(address, room);
            const first = self.indexOf(address);
            self.spare[first / 2] |= @as(u8, @intCast(room - bytes)) << spareShift(first);
            self.live += 1;
        }

        /// The bytes that were asked for.
        fn forget(self: *Self, address: usize, room: usize) usize {
            self.flipEnds(address, room);
            const first = self.indexOf(address);
            const nibble = @as(u8, 0xF) << spareShift(first);
            const spare = (self.spare[first / 2] & nibble) >> spareShift(first);
            self.spare[first / 2] &= ~nibble;
            self.live -= 1;
            return room - spare;
        }

        fn spareShift(index: usize) u3 {
            return @intCast(index % 2 * 4);
        }

        fn flipEnds(self: *Self, address: usize, room: usize) void {
            flip(self.begins.?, self.indexOf(address));
            flip(self.ends, self.indexOf(address + room) - 1);
        }

        /// Bytes of a live block; null if none begins here.
        fn lengthOf(self: *Self, ptr: [*]u8) ?usize {
            if (!self.isInside(ptr)) return null;
            const first = self.indexOf(@intFromPtr(ptr));
            const bit = @as(u64, 1) << @intCast(first % word_bits);
            if (self.begins.?[first / word_bits] & bit == 0) return null;
            var word = first / word_bits;
            var bits = self.ends[word] & ~(bit - 1);
            while (bits == 0) {
                word += 1;
                bits = self.ends[word];
            }
            return (word * word_bits + @ctz(bits) + 1 - first) * granule_bytes;
        }

        fn acquire(self: *Self) void {
            self.heap.host.reservation.acquire();
        }

        fn release(self: *Self) void {
            self.heap.host.reservation.release();
        }
    };
}
