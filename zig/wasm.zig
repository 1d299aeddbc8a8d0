//! Root of holdfast.wasm: a SmallHeap over the module's own or an imported memory, for any module
//! and any host of WebAssembly.
//!
//! Exports `alloc(bytes, alignment)`, `free(address, bytes)`, `realloc(address, old, new,
//! alignment)`, and, unless built without statistics, `stats()` and `resetTrip()`. Addresses are
//! offsets into the memory; 0 says "refused". The caller gives the size back at `free`, since blocks
//! have no header. `alloc(0, n)` answers an address that needs no `free`.
//!
//! One thread: the heap belongs to the Worker whose instance it is. Built for size. When NOT to use
//! it: inside a Zig module for wasm32; import `SmallHeap` there instead.

const heap_index = @import("heap/heap.zig");
const config = @import("config");

/// The stack alone is 4 KiB, where there is one.
const Host = if (config.shared)
    heap_index.LinearMemoryFrom(behindState, endOfState)
else
    heap_index.LinearMemoryFrom(heap_index.linearMemoryBase, heap_index.linearMemoryEnd);
const Heap = heap_index.SmallHeap(Host, .{ .statistics = config.statistics });

/// All data of the module.
var state: struct {
    heap: Heap = .{ .host = .{} },
    figures: heap_index.SmallStatistics = .{},
} = .{};
const heap = &state.heap;

/// A side module does not know the end of its data by name. The heap does not begin below 2 KiB.
fn behindState() usize {
    return @max(@intFromPtr(&state) + @sizeOf(@TypeOf(state)), 2 << 10);
}

/// At the beginning of a memory, all of it is the heap's; elsewhere one page was grown for it.
fn endOfState() usize {
    const page = 64 << 10;
    const end = (behindState() + page - 1) & ~@as(usize, page - 1);
    return if (end == page) @as(usize, @wasmMemorySize(0)) * page else end;
}

fn alloc(bytes: usize, alignment: usize) callconv(.c) usize {
    if (alignment == 0 or alignment & (alignment - 1) != 0) return 0;
    return @intFromPtr(heap.alloc(bytes, alignment));
}

fn free(address: usize, bytes: usize) callconv(.c) void {
    if (address != 0) heap.free(@ptrFromInt(address), bytes);
}

/// The old block stays as it is when the answer is 0.
fn realloc(address: usize, old_bytes: usize, new_bytes: usize, alignment: usize) callconv(.c) usize {
    if (address == 0) return alloc(new_bytes, alignment);
    return @intFromPtr(heap.realloc(@ptrFromInt(address), old_bytes, new_bytes, alignment));
}

/// Address of 13 little-endian u64, in the order of `Statistics`; written anew by each call.
fn stats() callconv(.c) usize {
    state.figures = heap.stats();
    return @intFromPtr(&state.figures);
}

fn resetTrip() callconv(.c) void {
    heap.resetTrip();
}

comptime {
    @export(&alloc, .{ .name = "alloc" });
    @export(&free, .{ .name = "free" });
    @export(&realloc, .{ .name = "realloc" });
    if (config.statistics) {
        @export(&stats, .{ .name = "stats" });
        @export(&resetTrip, .{ .name = "resetTrip" });
    }
}
