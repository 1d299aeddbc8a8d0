//! The synchronisation of one thread alone: the same cells as `Real`'s, read and written plainly.
//!
//! For machines that have no atomic operation on 64 bits (wasm32), and callers that have no threads.
//! Invariant: nobody else touches the cells. Cost: none. When not: as soon as there are two threads,
//! or an interrupt that frees.

const Order = @import("atomic.zig").Order;

pub const Lone = struct {
    pub fn Atomic(comptime T: type) type {
        return extern struct {
            raw: T,

            const Cell = @This();

            pub inline fn init(value: T) Cell {
                return .{ .raw = value };
            }

            pub inline fn load(cell: *const Cell, comptime _: Order, comptime _: @TypeOf(.site)) T {
                return cell.raw;
            }

            pub inline fn store(cell: *Cell, value: T, comptime _: Order, comptime _: @TypeOf(.site)) void {
                cell.raw = value;
            }

            pub inline fn swap(cell: *Cell, value: T, comptime _: Order, comptime _: @TypeOf(.site)) T {
                defer cell.raw = value;
                return cell.raw;
            }

            pub inline fn cmpxchg(
                cell: *Cell,
                expected: T,
                new: T,
                comptime _: Order,
                comptime _: Order,
                comptime _: @TypeOf(.site),
            ) ?T {
                if (cell.raw != expected) return cell.raw;
                cell.raw = new;
                return null;
            }

            pub inline fn fetchAdd(cell: *Cell, value: T, comptime _: Order, comptime _: @TypeOf(.site)) T {
                defer cell.raw +%= value;
                return cell.raw;
            }

            pub inline fn fetchSub(cell: *Cell, value: T, comptime _: Order, comptime _: @TypeOf(.site)) T {
                defer cell.raw -%= value;
                return cell.raw;
            }

            pub inline fn fetchOr(cell: *Cell, value: T, comptime _: Order, comptime _: @TypeOf(.site)) T {
                defer cell.raw |= value;
                return cell.raw;
            }
        };
    }
};
