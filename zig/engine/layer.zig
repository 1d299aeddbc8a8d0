//! Allocators of small objects over a pool: which there are, and how a pool's slot reaches its own.
//!
//! A slot has a LargePool and, if it was made so, one layer over it, which takes regions from that pool
//! as its backing. Requests of plain memory up to `bytes_max` go to the layer; everything else (locked,
//! populated, special pages, alias, longer) goes to the pool as in a slot without a layer, so handles,
//! limits, purging and closing are the pool's in both cases.
//!
//! Invariant: the layer's memory is made once in a slot and reused, so a caller with an old number
//! reads valid memory. `layer` is set before the slot's number is published and stays until nothing of
//! the slot is leased.
//!
//! Cost: one switch on the kind, then the layer's own pair. Threads: as the layer's.
//!
//! When not: Zig code that needs no handles uses the allocators of heap/ directly.

const std = @import("std");
const heap = @import("../heap/heap.zig");

pub const Kind = enum(u8) { none, global, reclaiming, small };
pub const kinds = std.meta.fields(Kind).len - 1;

/// The layers over a pool of type `Pool`.
pub fn Layer(comptime Pool: type) type {
    return union(Kind) {
        none,
        global: *Global,
        reclaiming: *Reclaiming,
        small: *Small,

        const Self = @This();
        pub const Global = heap.Global(.{ .Sync = Pool.Synchronisation, .owners_max = heap.threads_max });
        pub const Reclaiming = heap.Reclaiming(.{ .Os = Pool.System, .Sync = Pool.Synchronisation });
        pub const Small = heap.SmallLayer(Pool.System);

        pub fn Of(comptime kind: Kind) type {
            return switch (kind) {
                .none => void,
                .global => Global,
                .reclaiming => Reclaiming,
                .small => Small,
            };
        }

        /// Largest request that the layer serves; 0 without a layer.
        pub inline fn bytesMax(self: Self) usize {
            return switch (self) {
                .none => 0,
                inline else => |layer| @TypeOf(layer.*).bytes_max,
            };
        }

        /// Null if there is no memory; the pool knows why.
        pub noinline fn alloc(self: Self, thread: u32, bytes: usize, alignment: usize) ?[*]u8 {
            return switch (self) {
                .none => null,
                .global => |layer| layer.allocCold(thread, bytes, alignment),
                inline else => |layer| layer.alloc(thread, bytes, alignment),
            };
        }

        pub noinline fn free(self: Self, thread: ?u32, ptr: [*]u8) error{ Foreign, DoubleFree }!void {
            return switch (self) {
                .none => error.Foreign,
                .global => |layer| layer.freeCold(thread, ptr),
                inline else => |layer| layer.free(thread, ptr),
            };
        }

        pub noinline fn usableSize(self: Self, ptr: [*]u8) ?usize {
            return switch (self) {
                .none => null,
                inline else => |layer| layer.usableSize(ptr),
            };
        }

        pub noinline fn resizeInPlace(self: Self, thread: u32, ptr: [*]u8, bytes: usize) bool {
            return switch (self) {
                .none => false,
                inline else => |layer| layer.resizeInPlace(thread, ptr, bytes),
            };
        }

        pub fn threadEnded(self: Self, thread: u32) void {
            switch (self) {
                .none => {},
                inline else => |layer| layer.threadEnded(thread),
            }
        }

        pub fn trim(self: Self, thread: u32) u64 {
            return switch (self) {
                .none => 0,
                inline else => |layer| layer.trim(thread),
            };
        }

        /// Trims the layer. Bytes that went to the system, not to the pool: its own trim counts those.
        pub fn trimOwn(self: Self, thread: u32) u64 {
            const bytes = self.trim(thread);
            return if (self == .small) bytes else 0;
        }

        pub fn tick(self: Self) void {
            switch (self) {
                .none => {},
                inline else => |layer| layer.tick(),
            }
        }

        /// Something is left that time alone gives back.
        pub fn ages(self: Self) bool {
            return switch (self) {
                .none => false,
                inline else => |layer| layer.ages(),
            };
        }

        pub fn deinit(self: Self) void {
            switch (self) {
                .none => {},
                inline else => |layer| layer.deinit(),
            }
        }

        /// Objects that are out, those of handles among them.
        pub fn liveObjects(self: Self) u64 {
            return switch (self) {
                .none => 0,
                inline else => |layer| layer.liveObjects(),
            };
        }

        /// Bytes of bookkeeping beside the backing.
        pub fn metadataBytes(self: Self) u64 {
            return switch (self) {
                .none => 0,
                inline else => |layer| layer.metadataBytes(),
            };
        }
    };
}
