//! Root of a program without a system: the general allocator over memory that the caller has, with the
//! caller's own counting of owners. Built for bare x86-64 and as a WebAssembly module without imports,
//! which cannot make a system call; test/freestanding.test.ts runs that one.
//!
//! `setup(address, bytes)` answers whether the memory will do; `add` is for more of it, later. `alloc`
//! and `release` take the owner's index, below 8; an index is one thread of the host at a time.
//! `release` answers 0, or 1 for a foreign address, 2 for a second free.
//!
//! Threads: as the heap's; in WebAssembly one alone. When not: where there is a system; import the module `holdfast` there.

const std = @import("std");
const heap_index = @import("heap/heap.zig");

const config = blk: {
    var chosen = heap_index.global_freestanding;
    // wasm32 has no atomic operation of Zig's on 64 bits: there the caller is one thread.
    if (@sizeOf(usize) < 8) chosen.Sync = @import("ds/ds.zig").Lone;
    break :blk chosen;
};
const Heap = heap_index.Global(config);

var memory: [@sizeOf(Heap)]u8 align(@alignOf(Heap)) = @splat(0);
const heap: *Heap = @ptrCast(&memory);

/// Nothing to say it to.
pub const panic = std.debug.no_panic;

fn setup(address: usize, bytes: usize) callconv(.c) bool {
    heap.initRegion(@as([*]u8, @ptrFromInt(address))[0..bytes]) catch return false;
    return true;
}

fn add(address: usize, bytes: usize) callconv(.c) bool {
    heap.addRegion(@as([*]u8, @ptrFromInt(address))[0..bytes], .{}) catch return false;
    return true;
}

fn alloc(owner: u32, bytes: usize, alignment: usize) callconv(.c) usize {
    if (owner >= Heap.owners_max or alignment & (alignment -% 1) != 0) return 0;
    return @intFromPtr(heap.alloc(owner, @max(bytes, 1), alignment));
}

fn release(owner: u32, address: usize) callconv(.c) u32 {
    if (address == 0) return 0;
    heap.free(if (owner < Heap.owners_max) owner else null, @ptrFromInt(address)) catch |wrong| return switch (wrong) {
        error.Foreign => 1,
        error.DoubleFree => 2,
    };
    return 0;
}

fn usable(address: usize) callconv(.c) usize {
    return if (address == 0) 0 else heap.usableSize(@ptrFromInt(address)) orelse 0;
}

fn trim(owner: u32) callconv(.c) void {
    if (owner < Heap.owners_max) _ = heap.trim(owner);
}

/// Bytes of live blocks.
fn live() callconv(.c) f64 {
    return heap.figures().allocated_bytes;
}

comptime {
    @export(&setup, .{ .name = "setup" });
    @export(&add, .{ .name = "add" });
    @export(&alloc, .{ .name = "alloc" });
    @export(&release, .{ .name = "release" });
    @export(&usable, .{ .name = "usable" });
    @export(&trim, .{ .name = "trim" });
    @export(&live, .{ .name = "live" });
}
