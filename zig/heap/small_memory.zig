//! A linear memory in miniature, for tests: one buffer of the test's allocator, grown by pages of
//! 64 KiB, in which others may grow too and which can be told to refuse.
//!
//! Fresh pages hold 0xA5, since a heap that needs zeros would be wrong on an imported memory.
//! One thread. When NOT to use it: outside of tests.

const std = @import("std");

pub const page = 64 << 10;

/// Host of a SmallHeap over the caller's buffer.
pub const Memory = struct {
    buffer: []align(page) u8,
    /// Where the heap begins, as data of the module lies before it.
    first: usize = 0,
    pages: usize = 0,
    /// Pages of the beginning: what others grow before the first request is theirs.
    first_pages: usize = 0,
    /// Pages above which growth is refused.
    pages_max: usize,
    /// Calls of `grow`, the refused ones too.
    grows: u64 = 0,
    refuse: bool = false,

    pub fn init(pages_max: usize) !Memory {
        const buffer = try std.testing.allocator.alignedAlloc(u8, .fromByteUnits(page), pages_max * page);
        return .{ .buffer = buffer, .pages_max = pages_max };
    }

    pub fn deinit(memory: *Memory) void {
        std.testing.allocator.free(memory.buffer);
    }

    pub fn start(memory: *Memory) usize {
        return @intFromPtr(memory.buffer.ptr) + memory.first;
    }

    pub fn end(memory: *Memory) usize {
        return @intFromPtr(memory.buffer.ptr) + memory.pages * page;
    }

    pub fn firstEnd(memory: *Memory) usize {
        return @intFromPtr(memory.buffer.ptr) + memory.first_pages * page;
    }

    pub fn grow(memory: *Memory, pages: usize) ?usize {
        memory.grows += 1;
        if (memory.refuse or pages > memory.pages_max - memory.pages) return null;
        return memory.growForeign(pages);
    }

    /// Someone else's growth, between two calls of the heap.
    pub fn growForeign(memory: *Memory, pages: usize) usize {
        const old = memory.end();
        memory.pages += pages;
        @memset(memory.buffer[(memory.pages - pages) * page ..][0 .. pages * page], 0xA5);
        return old;
    }
};
