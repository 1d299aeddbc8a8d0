//! Every allocator of the comparison behind one table of C functions.
//!
//! A peer is opened by `dlopen` and driven through function pointers that the compiler cannot see
//! through, holdfast like all others, so that the price of the call is the same for everyone. glibc
//! is the process's own `malloc`. Debian's jemalloc and gperftools export `malloc` and `free`; they
//! are looked up in their own handle, so the process keeps using glibc for itself. The peers of the
//! Rust registry export `peer_alloc` and `peer_free` (`bench/peers/`).
//!
//! holdfast's C face wants the thread's index and the pool as arguments. The workloads are compiled
//! twice, once for each shape of call (`Plain`, `Indexed`), so that nobody pays for an adapter.
//!
//! Thread rule: `open` once, at start, on the main thread; `forThread` on each further thread.

const std = @import("std");

const Alloc = *const fn (usize) callconv(.c) ?*anyopaque;
const Free = *const fn (?*anyopaque, usize) callconv(.c) void;

/// `malloc` and `free` as most of the world has them.
pub const Plain = struct {
    allocate: Alloc,
    /// The second argument is the size asked for; a `free` of one argument ignores its register.
    release: Free,

    pub inline fn alloc(face: *const Plain, bytes: usize) ?*anyopaque {
        return face.allocate(bytes);
    }

    pub inline fn free(face: *const Plain, block: *anyopaque, bytes: usize) void {
        face.release(block, bytes);
    }

    pub fn forThread(face: *const Plain) !Plain {
        return face.*;
    }

    pub fn threadEnd(_: *const Plain) void {}
};

/// holdfast's regions by address: every call names its thread and its pool.
pub const Indexed = struct {
    region_alloc: *const fn (u32, u32, usize, ?*usize) callconv(.c) ?*anyopaque,
    region_free: *const fn (u32, u32, ?*anyopaque) callconv(.c) i32,
    attach: *const fn () callconv(.c) f64,
    detach: *const fn (u32) callconv(.c) i32,
    pool: u32,
    thread: u32 = 0,

    pub inline fn alloc(face: *const Indexed, bytes: usize) ?*anyopaque {
        return face.region_alloc(face.thread, face.pool, bytes, null);
    }

    /// The status is not looked at, as nobody else has one; `open` has seen a free succeed, and a
    /// pool that refused them would run the workload out of memory.
    pub inline fn free(face: *const Indexed, block: *anyopaque, _: usize) void {
        _ = face.region_free(face.thread, face.pool, block);
    }

    /// The same face for the calling thread.
    pub fn forThread(face: *const Indexed) !Indexed {
        const index = face.attach();
        if (index < 0) return error.ThreadRefused;
        var own = face.*;
        own.thread = @trunc(index);
        return own;
    }

    pub fn threadEnd(face: *const Indexed) void {
        _ = face.detach(face.thread);
    }
};

pub const Peer = struct {
    version: []const u8,
    face: union(enum) { plain: Plain, indexed: Indexed },
};

pub const Kind = enum { holdfast, glibc, jemalloc, tcmalloc, lgalloc, mimalloc2, mimalloc3 };

pub fn open(kind: Kind, path: ?[*:0]const u8, version_buffer: []u8) !Peer {
    return switch (kind) {
        .holdfast => openHoldfast(try load(path)),
        .glibc => .{
            .version = std.mem.span(gnu_get_libc_version()),
            .face = .{ .plain = .{
                .allocate = @ptrCast(&std.c.malloc),
                .release = @ptrCast(&std.c.free),
            } },
        },
        .jemalloc => openJemalloc(try load(path)),
        .tcmalloc => openTcmalloc(try load(path), version_buffer),
        .lgalloc, .mimalloc2, .mimalloc3 => openRegistry(try load(path)),
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
        .version = std.mem.sliceTo(std.mem.span(text), '-'),
        .face = .{ .plain = try plain(library, "malloc", "free") },
    };
}

fn openTcmalloc(library: Library, version_buffer: []u8) !Peer {
    const Version = fn (?*c_int, ?*c_int, ?*[*:0]const u8) callconv(.c) [*:0]const u8;
    const version = try symbol(library, *const Version, "tc_version");
    var major: c_int = 0;
    var minor: c_int = 0;
    _ = version(&major, &minor, null);
    return .{
        .version = try std.fmt.bufPrint(version_buffer, "gperftools {d}.{d}", .{ major, minor }),
        .face = .{ .plain = try plain(library, "tc_malloc", "tc_free") },
    };
}

fn openRegistry(library: Library) !Peer {
    const start = try symbol(library, *const fn () callconv(.c) c_int, "peer_start");
    if (start() != 1) return error.PeerRefused;
    const version = try symbol(library, *const fn () callconv(.c) [*:0]const u8, "peer_version");
    return .{
        .version = std.mem.span(version()),
        .face = .{ .plain = try plain(library, "peer_alloc", "peer_free") },
    };
}

fn plain(library: Library, alloc: [*:0]const u8, free: [*:0]const u8) !Plain {
    return .{
        .allocate = try symbol(library, Alloc, alloc),
        .release = try symbol(library, Free, free),
    };
}

fn openHoldfast(library: Library) !Peer {
    const face: Indexed = .{
        .region_alloc = try symbol(library, @FieldType(Indexed, "region_alloc"), "hf_region_alloc"),
        .region_free = try symbol(library, @FieldType(Indexed, "region_free"), "hf_region_free"),
        .attach = try symbol(library, @FieldType(Indexed, "attach"), "hf_thread_attach"),
        .detach = try symbol(library, @FieldType(Indexed, "detach"), "hf_thread_detach"),
        .pool = (try symbol(library, *const fn () callconv(.c) u32, "hf_pool_shared"))(),
    };
    const own = try face.forThread();
    const block = own.alloc(2 << 20) orelse return error.OutOfMemory;
    if (own.region_free(own.thread, own.pool, block) != 0) return error.FreeRefused;
    return .{ .version = "this checkout", .face = .{ .indexed = own } };
}
