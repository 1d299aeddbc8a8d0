//! The two memories that a SmallHeap lives in.
//!
//! `LinearMemory` is the memory of the WebAssembly module itself, from the end of its data on;
//! others in the module may grow it too, and it never shrinks. `Reservation` is address space that
//! is reserved once and up to a limit, handed to the heap page by page; untouched pages cost
//! nothing, and pages that the heap no longer needs go back to the system.
//!
//! Invariant of both: `end` never goes down, and memory below it stays where it is. A refused
//! `grow` changes nothing. Threads: a reservation has a lock that its heap takes around each call
//! (a futex, free when nobody else is there); a linear memory has none.
//!
//! When NOT to use them: for memory that other code hands out as well, except by growing it.

const std = @import("std");
const os = @import("../os/os.zig");

const host_page_bytes = 64 << 10;

/// The memory of this module. What it had in the beginning is the heap's from `first()` to `last()`;
/// what others have grown before the first request is theirs. Only in WebAssembly.
pub fn LinearMemoryFrom(comptime first: fn () usize, comptime last: fn () usize) type {
    return struct {
        const Host = @This();

        /// The last page of 4 GiB is left alone: its end is no address.
        const pages_max: usize = 65535;

        pub fn start(_: *Host) usize {
            return first();
        }

        pub fn firstEnd(_: *Host) usize {
            return last();
        }

        pub fn end(_: *Host) usize {
            return @as(usize, @wasmMemorySize(0)) *% host_page_bytes;
        }

        pub inline fn grow(_: *Host, pages: usize) ?usize {
            if (pages + @wasmMemorySize(0) > pages_max) return null;
            const old = @wasmMemoryGrow(0, pages);
            return if (old < 0) null else @as(usize, @intCast(old)) * host_page_bytes;
        }
    };
}

/// The memory of this module behind its data and its stack, as a heap usually has it.
pub const LinearMemory = LinearMemoryFrom(heapBaseAboveTable, heapEnd);

/// Both are the linker's.
const Bounds = struct {
    extern const __heap_base: u8;
    extern const __heap_end: u8;
};

/// For a module that is linked with more than 2 KiB below its heap.
pub fn heapBase() usize {
    return @intFromPtr(&Bounds.__heap_base);
}

/// A module with a short stack and little data may end before.
fn heapBaseAboveTable() usize {
    return @max(heapBase(), 2 << 10);
}

pub fn heapEnd() usize {
    return @intFromPtr(&Bounds.__heap_end);
}

/// Address space of the system, up to a limit.
pub fn Reservation(comptime Os: type) type {
    return struct {
        const Host = @This();

        address: [*]u8,
        limit_bytes: usize,
        used_bytes: usize = 0,
        refusals: u64 = 0,
        /// 0 free, 1 held, 2 held and somebody waits.
        lock: std.atomic.Value(u32) = .init(0),

        pub const Error = error{OutOfMemory};

        /// Reserves `limit_bytes`, rounded up to host pages. No page is touched.
        pub fn init(limit_bytes: usize) Error!Host {
            if (limit_bytes == 0 or limit_bytes > std.math.maxInt(isize)) return error.OutOfMemory;
            const bytes = std.mem.alignForward(usize, limit_bytes, host_page_bytes);
            var errno: u16 = 0;
            const address = Os.reserve(bytes, host_page_bytes, &errno) orelse return error.OutOfMemory;
            return .{ .address = address, .limit_bytes = bytes };
        }

        /// All addresses go back to the system.
        pub fn deinit(host: *Host) void {
            // Refused: the system keeps the addresses, and there is nothing left to try.
            if (Os.unmap(host.address, host.limit_bytes) != 0) host.refusals += 1;
            host.* = undefined;
        }

        pub fn start(host: *Host) usize {
            return @intFromPtr(host.address);
        }

        pub fn end(host: *Host) usize {
            return @intFromPtr(host.address) + host.used_bytes;
        }

        pub fn grow(host: *Host, pages: usize) ?usize {
            if (pages > (host.limit_bytes - host.used_bytes) / host_page_bytes) return null;
            const old_end = host.end();
            host.used_bytes += pages * host_page_bytes;
            return old_end;
        }

        /// Bytes given back: those that were resident, or none if the system refuses.
        pub fn decommit(host: *Host, address: usize, bytes: usize) usize {
            const resident = Os.residentBytes(@ptrFromInt(address), bytes);
            if (resident == 0) return 0;
            if (Os.advise(@ptrFromInt(address), bytes, .dont_need) == 0) return @intCast(resident);
            host.refusals += 1;
            return 0;
        }

        pub noinline fn acquire(host: *Host) void {
            // Pairs with the release below: what the last holder wrote is seen.
            if (host.lock.cmpxchgStrong(0, 1, .acquire, .monotonic) == null) return;
            while (host.lock.swap(2, .acquire) != 0) Os.wait(&host.lock.raw, 2, null);
        }

        pub fn release(host: *Host) void {
            if (host.lock.swap(0, .release) == 2) Os.wake(&host.lock.raw, 1);
        }
    };
}
