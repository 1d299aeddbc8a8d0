//! Pages of the backend's, cut into the records of batches.
//!
//! A shelf is one page: a header and seven records. Shelves with an unused record are linked; a shelf
//! whose last record is returned leaves the list and goes back to the backend.
//!
//! Invariant: a shelf is in the list exactly while it has an unused record. Cost: constant. Threads:
//! the holder of the ledger's lock. When not: for anything that is not a batch's record.

const std = @import("std");
const page_bytes = @import("reclaiming_index.zig").page_bytes;
const Page = @import("reclaiming_index.zig").Page;

pub fn Shelves(comptime Batch: type) type {
    return struct {
        open: ?*Shelf = null,
        shelves_bytes: usize = 0,
        /// Records in use.
        records: usize = 0,

        const Self = @This();
        const records_count = 7;
        const every: u8 = (1 << records_count) - 1;

        pub const Shelf = extern struct {
            /// A bit for each record in use.
            used: u8,
            newer: ?*Shelf,
            older: ?*Shelf,
            /// As the backend answered.
            bytes: usize,
            records: [records_count]Batch align(64),
        };

        comptime {
            std.debug.assert(@sizeOf(Shelf) == page_bytes);
        }

        pub fn hasRoom(self: *const Self) bool {
            return self.open != null;
        }

        pub fn add(self: *Self, page: Page) void {
            const shelf: *Shelf = @ptrCast(@alignCast(page.ptr));
            shelf.used = 0;
            shelf.bytes = page.bytes;
            self.shelves_bytes += page.bytes;
            self.link(shelf);
        }

        /// An unused record; there is one.
        pub fn take(self: *Self) *Batch {
            const shelf = self.open.?;
            const at: u3 = @intCast(@ctz(~shelf.used));
            shelf.used |= @as(u8, 1) << at;
            if (shelf.used == every) self.unlink(shelf);
            self.records += 1;
            return &shelf.records[at];
        }

        /// Returns a record; the shelf if that was its last, now the caller's to give to the backend.
        pub fn put(self: *Self, batch: *Batch) ?*Shelf {
            const address = @intFromPtr(batch);
            const shelf: *Shelf = @ptrFromInt(address & ~@as(usize, page_bytes - 1));
            const at = (address - @intFromPtr(&shelf.records)) / @sizeOf(Batch);
            if (shelf.used == every) self.link(shelf);
            shelf.used &= ~(@as(u8, 1) << @intCast(at));
            self.records -= 1;
            if (shelf.used != 0) return null;
            self.unlink(shelf);
            self.shelves_bytes -= shelf.bytes;
            return shelf;
        }

        fn link(self: *Self, shelf: *Shelf) void {
            shelf.newer = null;
            shelf.older = self.open;
            if (self.open) |first| first.newer = shelf;
            self.open = shelf;
        }

        fn unlink(self: *Self, shelf: *Shelf) void {
            if (shelf.newer) |newer| newer.older = shelf.older else self.open = shelf.older;
            if (shelf.older) |older| older.newer = shelf.newer;
        }
    };
}
