//! An opponent: `std.heap.wasm_allocator` behind the exports of holdfast.wasm.

const std = @import("std");
const heap = std.heap.wasm_allocator;

fn alloc(bytes: usize, alignment: usize) callconv(.c) usize {
    if (alignment == 0 or alignment & (alignment - 1) != 0) return 0;
    return @intFromPtr(heap.rawAlloc(bytes, .fromByteUnits(alignment), 0));
}

fn free(address: usize, bytes: usize) callconv(.c) void {
    heap.rawFree(@as([*]u8, @ptrFromInt(address))[0..bytes], .@"8", 0);
}

fn realloc(address: usize, old_bytes: usize, new_bytes: usize, alignment: usize) callconv(.c) usize {
    if (address == 0) return alloc(new_bytes, alignment);
    const old = @as([*]u8, @ptrFromInt(address))[0..old_bytes];
    if (heap.rawResize(old, .fromByteUnits(alignment), new_bytes, 0)) return address;
    const moved = alloc(new_bytes, alignment);
    if (moved == 0) return 0;
    @memcpy(@as([*]u8, @ptrFromInt(moved)), old[0..@min(old_bytes, new_bytes)]);
    free(address, old_bytes);
    return moved;
}

comptime {
    @export(&alloc, .{ .name = "heap_alloc" });
    @export(&free, .{ .name = "heap_free" });
    @export(&realloc, .{ .name = "heap_realloc" });
}
