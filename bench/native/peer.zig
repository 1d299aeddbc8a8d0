//! Every allocator of the comparison behind one table of C functions.
//!
//! A peer is opened by `dlopen` and driven through function pointers that the compiler cannot see
//! through, holdfast like all others, so that the price of the call is the same for everyone. glibc
//! is the process's own `malloc`. Debian's jemalloc and gperftools export `malloc` and `free`; they
//! are looked up in their own handle, so the process keeps using glibc for itself. The peers of the
//! Rust registry export `peer_alloc` and `peer_free` (`bench/peers/`).
//!
//! holdfast's C face wants the thread's index and the pool as arguments. `Holdfast` adds them from a
//! thread-local of this executable and jumps on; that costs it a nanosecond that the others save.
//!
//! Thread rule: `open` once, at start, on the main thread; `threadStart` on each further thread.

const std = @import("std");

pub const Alloc = *const fn (usize) callconv(.c) ?*anyopaque;
pub const Free = *const fn (?*anyopaque, usize) callconv(.c) void;

pub const Peer = struct {
    name: []const u8,
    version: []const u8,
    alloc: Alloc,
    /// The second argument is the size asked for; a `free` of one argument ignores its register.
    free: Free,
    thread_start: ?*const fn () callconv(.c) bool = null,
    thread_end: ?*const fn () callconv(.c) void = null,

    pub fn threadStart(peer: *const Peer) !void {
        if (peer.thread_start) |start| if (!start()) return error.ThreadRefused;
    }

    pub fn threadEnd(peer: *const Peer) void {
        if (peer.thread_end) |end| end();
    }
};

pub const Kind = enum { holdfast, glibc, jemalloc, tcmalloc, lgalloc, mimalloc2, mimalloc3 };

pub fn open(kind: Kind, path: ?[*:0]const u8, version_buffer: []u8) !Peer {
    return switch (kind) {
        .holdfast => Holdfast.open(try load(path)),
        .glibc => .{
            .name = "glibc",
            .version = std.mem.span(gnu_get_libc_version()),
            .alloc = @ptrCast(&std.c.malloc),
            .free = @ptrCast(&std.c.free),
        },
        .jemalloc => openJemalloc(try load(path)),
        .tcmalloc => openTcmalloc(try load(path), version_buffer),
        .lgalloc, .mimalloc2, .mimalloc3 => openRegistry(kind, try load(path)),
    };
}

extern "c" fn gnu_get_libc_version() [*:0]const u8;

const Library = *anyopaque;

fn load(path: ?[*:0]const u8) !Library {
    return std.c.dlopen(path orelse return error.NoPath, .{ .NOW = true }) orelse {
        if (std.c.dlerror()) |text| std.debug.print("{s}\n", .{std.mem.span(text)});
        return error.NotLoaded;
    };
}

fn symbol(library: Library, comptime T: type, name: [*:0]const u8) !T {
    return @ptrCast(@alignCast(std.c.dlsym(library, name) orelse {
        std.debug.print("missing symbol {s}\n", .{std.mem.span(name)});
        return error.NoSymbol;
    }));
}

fn openJemalloc(library: Library) !Peer {
    const Mallctl = fn ([*:0]const u8, ?*anyopaque, ?*usize, ?*anyopaque, usize) callconv(.c) c_int;
    const mallctl = try symbol(library, *const Mallctl, "mallctl");
    var text: [*:0]const u8 = "?";
    var text_bytes: usize = @sizeOf([*:0]const u8);
    _ = mallctl("version", @ptrCast(&text), &text_bytes, null, 0);
    return .{
        .name = "jemalloc",
        .version = std.mem.sliceTo(std.mem.span(text), '-'),
        .alloc = try symbol(library, Alloc, "malloc"),
        .free = try symbol(library, Free, "free"),
    };
}

fn openTcmalloc(library: Library, version_buffer: []u8) !Peer {
    const Version = fn (?*c_int, ?*c_int, ?*[*:0]const u8) callconv(.c) [*:0]const u8;
    const version = try symbol(library, *const Version, "tc_version");
    var major: c_int = 0;
    var minor: c_int = 0;
    _ = version(&major, &minor, null);
    return .{
        .name = "tcmalloc",
        .version = try std.fmt.bufPrint(version_buffer, "gperftools {d}.{d}", .{ major, minor }),
        .alloc = try symbol(library, Alloc, "tc_malloc"),
        .free = try symbol(library, Free, "tc_free"),
    };
}

fn openRegistry(kind: Kind, library: Library) !Peer {
    const start = try symbol(library, *const fn () callconv(.c) c_int, "peer_start");
    if (start() != 1) return error.PeerRefused;
    const version = try symbol(library, *const fn () callconv(.c) [*:0]const u8, "peer_version");
    return .{
        .name = @tagName(kind),
        .version = std.mem.span(version()),
        .alloc = try symbol(library, Alloc, "peer_alloc"),
        .free = try symbol(library, Free, "peer_free"),
    };
}

const Holdfast = struct {
    const RegionAlloc = fn (u32, u32, usize, ?*usize) callconv(.c) ?*anyopaque;
    const RegionFree = fn (u32, u32, ?*anyopaque) callconv(.c) i32;

    var region_alloc: *const RegionAlloc = undefined;
    var region_free: *const RegionFree = undefined;
    var attach: *const fn () callconv(.c) f64 = undefined;
    var detach: *const fn (u32) callconv(.c) i32 = undefined;
    var pool: u32 = 0;
    threadlocal var thread: u32 = 0;

    fn open(library: Library) !Peer {
        region_alloc = try symbol(library, *const RegionAlloc, "hf_region_alloc");
        region_free = try symbol(library, *const RegionFree, "hf_region_free");
        attach = try symbol(library, *const fn () callconv(.c) f64, "hf_thread_attach");
        detach = try symbol(library, *const fn (u32) callconv(.c) i32, "hf_thread_detach");
        pool = (try symbol(library, *const fn () callconv(.c) u32, "hf_pool_shared"))();
        if (!threadStart()) return error.ThreadRefused;
        if (region_free(thread, pool, region_alloc(thread, pool, 2 << 20, null)) != 0)
            return error.FreeRefused;
        return .{
            .name = "holdfast",
            .version = "this checkout",
            .alloc = alloc,
            .free = free,
            .thread_start = threadStart,
            .thread_end = threadEnd,
        };
    }

    fn threadStart() callconv(.c) bool {
        const index = attach();
        if (index < 0) return false;
        thread = @trunc(index);
        return true;
    }

    fn threadEnd() callconv(.c) void {
        _ = detach(thread);
    }

    fn alloc(size: usize) callconv(.c) ?*anyopaque {
        return region_alloc(thread, pool, size, null);
    }

    /// The status is left unread so that this ends in a jump, not a call; `open` has seen one free
    /// succeed, and a pool that refused them would run the workload out of memory.
    fn free(ptr: ?*anyopaque, size: usize) callconv(.c) void {
        _ = size;
        _ = region_free(thread, pool, ptr);
    }
};
