//! A backend for tests of the reclaiming allocator: knows each span it has given, hands out whatever
//! bytes a test wants to be found in it, and refuses on demand.
//!
//! Memory is mapped and unmapped for each span, so that whoever uses one that was given back faults.
//! Invariant: a span comes back once, with the length and alignment it went out with; anything else is
//! counted in `wrong`. Threads: any. Not for measuring.

const std = @import("std");
const ds = @import("../ds/ds.zig");
const os = @import("../os/os.zig");
const regions = @import("../region/region.zig");
const backend_file = @import("backend.zig");

const Backend = backend_file.Backend;
const Span = backend_file.Span;

pub const Store = struct {
    lock: regions.SpinLock(ds.Real) = .{},
    spans: std.AutoHashMapUnmanaged(usize, Known) = .empty,
    held_bytes: usize = 0,
    takes: u64 = 0,
    gives: u64 = 0,
    refused: u64 = 0,
    wrong: u64 = 0,
    /// Largest request.
    largest: usize = 0,
    /// Byte that memory is filled with before it is handed over.
    fill: ?u8 = null,
    /// Answers this much more than was asked.
    extra: usize = 0,
    /// The take of this number is refused, and with `always` all after it.
    refuse_at: u64 = 0,
    always: bool = false,
    /// One take in so many is refused.
    one_in: u32 = 0,
    prng: std.Random.DefaultPrng = .init(1),
    /// Called in each call, with no lock held.
    hook: ?*const fn (call: Call) void = null,

    pub const Call = enum { take, give };
    const Known = struct { bytes: usize, alignment: usize };

    pub fn backend(store: *Store) Backend {
        return .{ .context = store, .functions = &.{ .take = take, .give = give } };
    }

    pub fn deinit(store: *Store) void {
        store.spans.deinit(std.heap.page_allocator);
    }

    fn take(context: *anyopaque, _: ?u32, bytes: usize, alignment: usize) ?Span {
        const store: *Store = @ptrCast(@alignCast(context));
        if (store.hook) |hook| hook(.take);
        if (store.refuses(bytes)) return null;
        const page = os.Native.pageBytes();
        var errno: u16 = 0;
        const answered = bytes + store.extra;
        const mapped = std.mem.alignForward(usize, answered, page);
        const ptr = os.Native.reserve(mapped, @max(alignment, page), &errno) orelse return null;
        // Who unmapped these addresses before held the lock then: so it comes before this use.
        defer if (store.fill) |byte| @memset(ptr[0..answered], byte);
        store.lock.acquire();
        defer store.lock.release();
        store.spans.put(std.heap.page_allocator, @intFromPtr(ptr), .{ .bytes = answered, .alignment = alignment }) catch unreachable;
        store.held_bytes += answered;
        return .{ .ptr = ptr, .bytes = answered, .zero = store.fill == null };
    }

    fn refuses(store: *Store, bytes: usize) bool {
        store.lock.acquire();
        defer store.lock.release();
        store.takes += 1;
        store.largest = @max(store.largest, bytes);
        const planned = store.refuse_at != 0 and
            (store.takes == store.refuse_at or (store.always and store.takes > store.refuse_at));
        const unlucky = store.one_in != 0 and store.prng.random().uintLessThan(u32, store.one_in) == 0;
        if (!planned and !unlucky) return false;
        store.refused += 1;
        return true;
    }

    fn give(context: *anyopaque, _: ?u32, ptr: [*]u8, bytes: usize, alignment: usize) void {
        const store: *Store = @ptrCast(@alignCast(context));
        if (store.hook) |hook| hook(.give);
        {
            store.lock.acquire();
            defer store.lock.release();
            store.gives += 1;
            const known = store.spans.fetchRemove(@intFromPtr(ptr)) orelse {
                store.wrong += 1;
                return;
            };
            if (known.value.bytes != bytes or known.value.alignment != alignment) store.wrong += 1;
            store.held_bytes -= known.value.bytes;
        }
        _ = os.Native.unmap(ptr, std.mem.alignForward(usize, bytes, os.Native.pageBytes()));
    }

    /// Nothing is held, and nothing came back wrong.
    pub fn expectEmpty(store: *Store) !void {
        try std.testing.expectEqual(0, store.wrong);
        try std.testing.expectEqual(0, store.spans.count());
        try std.testing.expectEqual(0, store.held_bytes);
    }
};
