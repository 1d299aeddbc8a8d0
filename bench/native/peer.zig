//! Every allocator of the comparison behind one table of C functions.
//!
//! A peer is opened by `dlopen` and driven through function pointers that the compiler cannot see
//! through, holdfast like all others, so that the price of the call is the same for everyone. glibc
//! is the process's own `malloc`. Debian's jemalloc and gperftools export `malloc` and `free`; they
//! are looked up in their own handle, so the process keeps using glibc for itself. The peers of the
//! Rust registry export `peer_alloc` and `peer_free` (`bench/peers/`).
//!
//! holdfast's C faces want the thread's index and the pool as arguments. The workloads are compiled
//! once for each shape of call, so that nobody pays for an adapter.
//!
//! Thread rule: `open` once, at start, on the main thread; `forThread` on each further thread.

const std = @import("std");
const builtin = @import("builtin");
const linked = @import("linked.zig");
const abi = @import("holdfast").abi;

const Alloc = *const fn (usize) callconv(.c) ?*anyopaque;
const Free = *const fn (?*anyopaque, usize) callconv(.c) void;

/// `malloc` and `free` as most of the world has them.
pub const Plain = struct {
    allocate: Alloc,
    /// The second argument is the size asked for; a `free` of one argument ignores its register.
    release: Free,
    /// Frees on threads that did not allocate, where a peer has another function for that.
    release_remote: ?Free = null,

    pub inline fn alloc(face: *const Plain, bytes: usize) ?*anyopaque {
        return face.allocate(bytes);
    }

    pub inline fn free(face: *const Plain, block: *anyopaque, bytes: usize) void {
        face.release(block, bytes);
    }

    pub fn forThread(face: *const Plain) !Plain {
        var own = face.*;
        if (face.release_remote) |remote| own.release = remote;
        return own;
    }

    pub fn threadEnd(_: *const Plain) void {}
};

/// holdfast's regions by address: every call names its thread and its pool.
pub const Indexed = struct {
    region_alloc: *const fn (u32, u32, usize, ?*usize) callconv(.c) ?*anyopaque,
    region_free: *const fn (u32, u32, ?*anyopaque) callconv(.c) i32,
    threads: Threads,
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
        var own = face.*;
        own.thread = try face.threads.own();
        return own;
    }

    pub fn threadEnd(face: *const Indexed) void {
        _ = face.threads.detach(face.thread);
    }
};

/// holdfast's allocators of objects, by address: the general one and the reclaiming one have functions
/// of the same shape. Alignment 0 is the default, as `malloc` has it.
pub const Layered = struct {
    allocate: *const fn (u32, u32, usize, usize) callconv(.c) ?*anyopaque,
    release: *const fn (u32, u32, ?*anyopaque) callconv(.c) i32,
    threads: Threads,
    pool: u32,
    thread: u32 = 0,

    pub inline fn alloc(face: *const Layered, bytes: usize) ?*anyopaque {
        return face.allocate(face.thread, face.pool, bytes, 0);
    }

    /// As `Indexed.free`.
    pub inline fn free(face: *const Layered, block: *anyopaque, _: usize) void {
        _ = face.release(face.thread, face.pool, block);
    }

    pub fn forThread(face: *const Layered) !Layered {
        var own = face.*;
        own.thread = try face.threads.own();
        return own;
    }

    pub fn threadEnd(face: *const Layered) void {
        _ = face.threads.detach(face.thread);
    }
};

/// holdfast as native code has it: each thread keeps the address of its own record.
pub const Direct = struct {
    take: *const fn (?*anyopaque, usize) callconv(.c) ?*anyopaque,
    give: *const fn (?*anyopaque, ?*anyopaque) callconv(.c) i32,
    record: *const fn (u32, u32) callconv(.c) ?*anyopaque,
    threads: Threads,
    pool: u32,
    thread: u32 = 0,
    own: ?*anyopaque = null,

    pub inline fn alloc(face: *const Direct, bytes: usize) ?*anyopaque {
        return face.take(face.own, bytes);
    }

    /// As `Indexed.free`.
    pub inline fn free(face: *const Direct, block: *anyopaque, _: usize) void {
        _ = face.give(face.own, block);
    }

    pub fn forThread(face: *const Direct) !Direct {
        var own = face.*;
        own.thread = try face.threads.own();
        own.own = face.record(own.thread, own.pool) orelse return error.ThreadRefused;
        return own;
    }

    pub fn threadEnd(face: *const Direct) void {
        _ = face.threads.detach(face.thread);
    }
};

/// holdfast's leases as TypeScript drives them: a handle instead of an address.
pub const Leased = struct {
    allocate: *const fn (u32, u32, f64, u32) callconv(.c) f64,
    release: *const fn (u32, f64) callconv(.c) i32,
    threads: Threads,
    pool: u32,
    thread: u32 = 0,

    /// The handle stands in for the address: the workloads only carry it about.
    pub inline fn alloc(face: *const Leased, bytes: usize) ?*anyopaque {
        const handle = face.allocate(face.thread, face.pool, @floatFromInt(bytes), 0);
        return if (handle > 0) @ptrFromInt(@as(usize, @trunc(handle))) else null;
    }

    pub inline fn free(face: *const Leased, handle: *anyopaque, _: usize) void {
        _ = face.release(face.thread, @floatFromInt(@intFromPtr(handle)));
    }

    pub fn forThread(face: *const Leased) !Leased {
        var own = face.*;
        own.thread = try face.threads.own();
        return own;
    }

    pub fn threadEnd(face: *const Leased) void {
        _ = face.threads.detach(face.thread);
    }
};

/// Slots of an owner's slab, by address. The thread that opened it owns it; any other frees remotely.
pub const Slots = struct {
    take: *const fn (?*anyopaque) callconv(.c) ?*anyopaque,
    give: *const fn (?*anyopaque, ?*anyopaque) callconv(.c) i32,
    give_remote: *const fn (?*anyopaque, ?*anyopaque) callconv(.c) i32,
    slab: ?*anyopaque,

    pub inline fn alloc(face: *const Slots, _: usize) ?*anyopaque {
        return face.take(face.slab);
    }

    /// As `Indexed.free`.
    pub inline fn free(face: *const Slots, slot: *anyopaque, _: usize) void {
        _ = face.give(face.slab, slot);
    }

    pub fn forThread(face: *const Slots) !Slots {
        var remote = face.*;
        remote.give = face.give_remote;
        return remote;
    }

    pub fn threadEnd(_: *const Slots) void {}
};

/// How a thread gets and gives back the index that holdfast's calls name.
pub const Threads = struct {
    attach: *const fn () callconv(.c) f64,
    detach: *const fn (u32) callconv(.c) i32,

    fn of(library: Library) !Threads {
        return .{
            .attach = try symbol(library, @FieldType(Threads, "attach"), "hf_thread_attach"),
            .detach = try symbol(library, @FieldType(Threads, "detach"), "hf_thread_detach"),
        };
    }

    fn own(threads: Threads) !u32 {
        const index = threads.attach();
        if (index < 0) return error.ThreadRefused;
        return @trunc(index);
    }
};

pub const Peer = struct {
    version: []const u8,
    face: union(enum) { plain: Plain, indexed: Indexed, layered: Layered, direct: Direct, linked: linked.Face, leased: Leased, slots: Slots },
    extra: Extra = .{},
};

/// What only some peers have, for the rows that ask for it.
pub const Extra = struct {
    /// Gives unused memory back.
    reclaim: ?*const fn () callconv(.c) void = null,
    /// Reads the peer's figures.
    stats: ?*const fn () callconv(.c) void = null,
    /// Bytes held from the backend, metadata included; must be nothing after `reclaim`.
    held: ?*const fn () callconv(.c) usize = null,
};

pub const Kind = enum {
    holdfast,
    holdfast_numbers,
    holdfast_global,
    holdfast_direct,
    holdfast_linked,
    holdfast_reclaiming,
    holdfast_reclaiming_direct,
    holdfast_slab,
    holdfast_lease,
    glibc,
    smp,
    jemalloc,
    tcmalloc,
    lgalloc,
    mimalloc2,
    mimalloc3,
    snmalloc,
    buddy_slab_old,
    buddy_slab,
    frusa,
    forge_slab,
    forge_owner,
};

pub fn open(kind: Kind, path: ?[*:0]const u8, version_buffer: []u8) !Peer {
    return switch (kind) {
        .holdfast => openHoldfast(try load(path)),
        .holdfast_numbers => openNumbers(try load(path)),
        .holdfast_global => openGlobal(try load(path)),
        .holdfast_direct => openGlobalDirect(try load(path)),
        .holdfast_reclaiming_direct => openReclaimingDirect(try load(path)),
        .holdfast_reclaiming => openReclaiming(try load(path)),
        .holdfast_lease => openLease(try load(path)),
        .holdfast_slab => openSlab(try load(path)),
        .holdfast_linked => .{ .version = "linked in", .face = .{ .linked = try linked.open() } },
        .glibc => .{
            .version = std.mem.span(gnu_get_libc_version()),
            .face = .{ .plain = .{
                .allocate = @ptrCast(&std.c.malloc),
                .release = @ptrCast(&std.c.free),
            } },
        },
        .smp => .{
            .version = "Zig " ++ builtin.zig_version_string,
            .face = .{ .plain = .{ .allocate = smpAlloc, .release = smpFree } },
        },
        .jemalloc => openJemalloc(try load(path)),
        .tcmalloc => openTcmalloc(try load(path), version_buffer),
        .lgalloc,
        .mimalloc2,
        .mimalloc3,
        .snmalloc,
        .buddy_slab_old,
        .buddy_slab,
        .frusa,
        .forge_slab,
        .forge_owner,
        => openRegistry(try load(path)),
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

/// A function that only some libraries have.
fn optional(library: Library, comptime T: type, name: [*:0]const u8) ?T {
    return @ptrCast(@alignCast(std.c.dlsym(library, name) orelse return null));
}

/// A function that a library of this checkout may not have yet; the row is then skipped by name.
fn face_of(library: Library, comptime T: type, name: [*:0]const u8) !T {
    return optional(library, T, name) orelse {
        missing_face = std.mem.span(name);
        return error.MissingFace;
    };
}

/// The function that `open` missed when it answered `MissingFace`.
pub var missing_face: []const u8 = "";

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
    const Address = fn (c_int) callconv(.c) ?*const anyopaque;
    // A library in C is called at its own addresses, past Rust's wrapper.
    const direct: ?*const Address = optional(library, *const Address, "peer_direct");
    return .{
        .version = std.mem.span(version()),
        .face = .{ .plain = if (direct) |address| .{
            .allocate = @ptrCast(@alignCast(address(0) orelse return error.NoSymbol)),
            .release = @ptrCast(@alignCast(address(1) orelse return error.NoSymbol)),
        } else .{
            .allocate = try symbol(library, Alloc, "peer_alloc"),
            .release = try symbol(library, Free, "peer_free"),
            .release_remote = try remoteFree(library),
        } },
        .extra = .{
            .reclaim = optional(library, *const fn () callconv(.c) void, "peer_reclaim"),
        },
    };
}

fn remoteFree(library: Library) !?Free {
    const prepare = optional(library, *const fn () callconv(.c) c_int, "peer_remote") orelse return null;
    if (prepare() != 1) return error.PeerRefused;
    return try symbol(library, Free, "peer_free_remote");
}

fn smpAlloc(bytes: usize) callconv(.c) ?*anyopaque {
    return std.heap.smp_allocator.rawAlloc(bytes, .@"16", @returnAddress());
}

fn smpFree(block: ?*anyopaque, bytes: usize) callconv(.c) void {
    const memory: [*]u8 = @ptrCast(block.?);
    std.heap.smp_allocator.rawFree(memory[0..bytes], .@"16", @returnAddress());
}

fn plain(library: Library, alloc: [*:0]const u8, free: [*:0]const u8) !Plain {
    return .{
        .allocate = try symbol(library, Alloc, alloc),
        .release = try symbol(library, Free, free),
    };
}

fn openHoldfast(library: Library) !Peer {
    const shared = try face_of(library, *const fn () callconv(.c) u32, "hf_pool_shared");
    return openRecord(library, shared(), "hf_large", 2 << 20, .{});
}

fn openNumbers(library: Library) !Peer {
    const face: Indexed = .{
        .region_alloc = try symbol(library, @FieldType(Indexed, "region_alloc"), "hf_region_alloc"),
        .region_free = try symbol(library, @FieldType(Indexed, "region_free"), "hf_region_free"),
        .threads = try .of(library),
        .pool = (try symbol(library, *const fn () callconv(.c) u32, "hf_pool_shared"))(),
    };
    const own = try face.forThread();
    const block = own.alloc(2 << 20) orelse return error.OutOfMemory;
    if (own.region_free(own.thread, own.pool, block) != 0) return error.FreeRefused;
    return .{ .version = "this checkout, by numbers", .face = .{ .indexed = own } };
}

fn openGlobal(library: Library) !Peer {
    const Shared = fn () callconv(.c) u32;
    const shared = try face_of(library, *const Shared, "hf_global_shared");
    return openLayered(library, shared(), "hf_global_alloc", "hf_global_free", .{});
}

fn openGlobalDirect(library: Library) !Peer {
    const shared = try face_of(library, *const fn () callconv(.c) u32, "hf_global_shared");
    return openRecord(library, shared(), "hf_global", 64, .{});
}

fn openReclaimingDirect(library: Library) !Peer {
    const own = try (try Threads.of(library)).own();
    return openRecord(library, try reclaiming.create(library, own), "hf_reclaiming", 64, reclaiming.extra);
}

/// The direct face of the allocator of that number; `first` bytes are allocated and freed.
fn openRecord(library: Library, pool: u32, comptime noun: []const u8, first: usize, extra: Extra) !Peer {
    var face: Direct = .{
        .take = try face_of(library, @FieldType(Direct, "take"), noun ++ "_take"),
        .give = try face_of(library, @FieldType(Direct, "give"), noun ++ "_give"),
        .record = try face_of(library, @FieldType(Direct, "record"), noun ++ "_direct"),
        .threads = try .of(library),
        .pool = pool,
    };
    face = try face.forThread();
    const block = face.alloc(first) orelse return error.OutOfMemory;
    if (face.give(face.own, block) != 0) return error.FreeRefused;
    return .{ .version = "this checkout, direct", .face = .{ .direct = face }, .extra = extra };
}

fn openReclaiming(library: Library) !Peer {
    const own = try (try Threads.of(library)).own();
    const pool = try reclaiming.create(library, own);
    return openLayered(library, pool, "hf_reclaiming_alloc", "hf_reclaiming_free", reclaiming.extra);
}

fn openLayered(library: Library, pool: u32, alloc: [*:0]const u8, free: [*:0]const u8, extra: Extra) !Peer {
    var face: Layered = .{
        .allocate = try face_of(library, @FieldType(Layered, "allocate"), alloc),
        .release = try face_of(library, @FieldType(Layered, "release"), free),
        .threads = try .of(library),
        .pool = pool,
    };
    face = try face.forThread();
    const block = face.alloc(64) orelse return error.OutOfMemory;
    if (face.release(face.thread, face.pool, block) != 0) return error.FreeRefused;
    return .{ .version = "this checkout", .face = .{ .layered = face }, .extra = extra };
}

fn openLease(library: Library) !Peer {
    const face: Leased = .{
        .allocate = try symbol(library, @FieldType(Leased, "allocate"), "hf_alloc"),
        .release = try symbol(library, @FieldType(Leased, "release"), "hf_free"),
        .threads = try .of(library),
        .pool = (try symbol(library, *const fn () callconv(.c) u32, "hf_pool_shared"))(),
    };
    return .{ .version = "this checkout", .face = .{ .leased = try face.forThread() } };
}

/// A slab of 8-byte slots with room for as many as forge's, in its default policy.
fn openSlab(library: Library) !Peer {
    const Give = @FieldType(Slots, "give");
    const create = try face_of(library, *const fn (u32, *const anyopaque) callconv(.c) f64, "hf_slab_create");
    const direct = try face_of(library, *const fn (u32) callconv(.c) ?*anyopaque, "hf_slab_direct");
    if (!@hasDecl(abi, "SlabOptions")) return error.MissingFace;
    const options: abi.SlabOptions = .{
        .slot_bytes = 8,
        .alignment = 8,
        .capacity = 1 << 16,
        .capacity_max = 0,
        .queue_capacity = -1,
        .batch = 64,
        .pool = 0,
        .leases = 0,
        .spare = 0,
    };
    const number = create(try (try Threads.of(library)).own(), &options);
    if (number < 0) return error.CreateRefused;
    return .{ .version = "this checkout", .face = .{ .slots = .{
        .take = try face_of(library, @FieldType(Slots, "take"), "hf_slab_take"),
        .give = try face_of(library, Give, "hf_slab_give"),
        .give_remote = try face_of(library, Give, "hf_slab_give_remote"),
        .slab = direct(@trunc(number)),
    } } };
}

/// The one reclaiming allocator of this process, behind functions without arguments.
const reclaiming = struct {
    var thread: u32 = 0;
    var pool: u32 = 0;
    var reclaim_function: *const fn (u32, u32) callconv(.c) f64 = undefined;
    var stats_function: *const fn (u32, *abi.ReclaimingStats) callconv(.c) i32 = undefined;

    fn create(library: Library, own: u32) !u32 {
        const Create = fn (u32, *const abi.ReclaimingOptions) callconv(.c) f64;
        const made = try face_of(library, *const Create, "hf_reclaiming_create");
        reclaim_function = try face_of(library, @TypeOf(reclaim_function), "hf_reclaiming_reclaim");
        stats_function = try face_of(library, @TypeOf(stats_function), "hf_reclaiming_stats");
        // As TypeScript makes one without options.
        const number = made(own, &std.mem.zeroes(abi.ReclaimingOptions));
        if (number < 0) return error.CreateRefused;
        thread = own;
        pool = @trunc(number);
        return pool;
    }

    const extra: Extra = .{ .reclaim = reclaim, .stats = stats, .held = held };

    fn reclaim() callconv(.c) void {
        _ = reclaim_function(thread, pool);
    }

    fn stats() callconv(.c) void {
        _ = figures();
    }

    fn held() callconv(.c) usize {
        return @trunc(figures().allocated_from_fallback);
    }

    fn figures() abi.ReclaimingStats {
        var out = std.mem.zeroes(abi.ReclaimingStats);
        _ = stats_function(pool, &out);
        return out;
    }
};
