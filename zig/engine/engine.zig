//! The engine of a process: threads, pools and leases behind the C ABI.
//!
//! `Engine` joins the floors below: a region table, the pools, and the handle table whose entries say
//! what each lease holds. All checks of arguments happen here; nothing panics. There is one instance
//! in a process (`instance`); tests make their own over the fake system.
//!
//! Invariant: each lease ends exactly once, by whoever wins its word in the handle table; only then
//! does its memory go back to the pool. A handle is the only way to a lease.
//!
//! Cost: a warm pair of alloc and free is a claim and a recycle of an index, one compare-and-swap,
//! and the pool's own pair. Threads: any attached thread; deallocators on any thread at all.
//!
//! When not: Zig code that needs no handles uses the allocators of heap/ directly.

const std = @import("std");
const ds = @import("../ds/ds.zig");
const os = @import("../os/os.zig");
const types = @import("types.zig");
const core = @import("core.zig");
const discovery = @import("discovery.zig");
const owner_slabs = @import("owner_slabs.zig");

pub const Status = types.Status;
pub const SystemCall = os.SystemCall;
pub const Pages = types.Pages;
pub const Lock = types.Lock;
pub const Fork = types.Fork;
pub const PoolField = types.PoolField;
pub const PoolOptions = types.PoolOptions;
pub const ClassStats = types.ClassStats;
pub const PoolStats = types.PoolStats;
pub const Stats = types.Stats;
pub const EngineInfo = types.EngineInfo;
pub const GlobalOptions = types.GlobalOptions;
pub const GlobalStats = types.GlobalStats;
pub const SectionStats = types.SectionStats;
pub const ReclaimingOptions = types.ReclaimingOptions;
pub const SmallOptions = types.SmallOptions;
pub const ReclaimingStats = types.ReclaimingStats;
pub const ReclaimingClassStats = types.ReclaimingClassStats;
pub const SmallStats = types.SmallStats;
pub const SlabOptions = types.SlabOptions;
pub const SlabInfo = types.SlabInfo;
pub const SlabStats = types.SlabStats;

/// The numbers that abi.zig declares for callers.
pub const block = @import("block.zig");

pub const Engine = core.Engine;
pub const Native = core.Engine(os.Native);

/// The engine of this process. Zeros are an engine that has not started, so it takes no room in the
/// library's file.
pub const instance: *Native = @ptrCast(&memory);
var memory: [@sizeOf(Native)]u8 align(128) = @splat(0);

/// What this copy says of itself to other copies in the process; lib.zig exports it.
pub const Marker = discovery.Marker;
pub const marker_name = discovery.marker_name;

/// Which copy of the library leads this process.
pub fn info(out: *EngineInfo, own: *const Marker) Status {
    const leader = discovery.findLeader(own);
    out.* = .{
        .path_address = if (leader.is_ourselves) 0 else @floatFromInt(@intFromPtr(leader.path.ptr)),
        .self = @intFromBool(leader.is_ourselves),
        .abi_version = own.abi,
    };
    return if (leader.has_incompatible and !leader.is_ourselves) .abi_mismatch else .ok;
}

/// Deallocator of ArrayBuffers over a lease. Context: handle index plus one.
pub fn wrapDeallocator(_: ?*anyopaque, context: ?*anyopaque) callconv(.c) void {
    instance.wrapDropped(@intFromPtr(context));
}

/// Deallocator of alias ArrayBuffers over a region. Context: see `Engine.regionDropped`.
pub fn regionDeallocator(_: ?*anyopaque, context: ?*anyopaque) callconv(.c) void {
    instance.regionDropped(@intFromPtr(context));
}

/// Deallocator of ArrayBuffers over an owner slab. Context: `SlabInfo.context`.
pub fn slabDeallocator(_: ?*anyopaque, context: ?*anyopaque) callconv(.c) void {
    instance.slabs.dropped(@intFromPtr(context));
}

/// The face of allocators of objects without numbers, for callers that keep a record's address.
fn ObjectDirect(comptime D: type, comptime kind: @EnumLiteral()) type {
    return struct {
        pub fn of(thread: u32, pool: u32) ?*anyopaque {
            return @ptrCast(D.of(instance, thread, pool));
        }

        /// The record of numbers that were used before.
        pub inline fn known(thread: u32, pool: u32) ?*anyopaque {
            return @ptrCast(Native.layered.warmRecord(instance, kind, thread, pool));
        }

        pub inline fn take(record: ?*anyopaque, bytes: usize) ?*anyopaque {
            const at: *D.Record = @ptrCast(@alignCast(record));
            return D.take(instance, at, bytes);
        }

        pub inline fn takeAligned(record: ?*anyopaque, bytes: usize, alignment: usize) ?*anyopaque {
            return D.takeAligned(instance, @ptrCast(@alignCast(record)), bytes, alignment);
        }

        pub inline fn give(record: ?*anyopaque, address: ?*anyopaque) Status {
            const at: *D.Record = @ptrCast(@alignCast(record));
            return D.give(instance, at, address);
        }
    };
}

pub const global_direct = ObjectDirect(Native.direct, .global);
pub const reclaiming_direct = ObjectDirect(Native.reclaiming_direct, .reclaiming);

/// The face of large pools without numbers, for callers that keep a record's address.
pub const large_direct = struct {
    const face = Native.region_face;

    pub fn of(thread: u32, pool: u32) ?*anyopaque {
        return @ptrCast(face.of(instance, thread, pool));
    }

    pub inline fn take(record: ?*anyopaque, bytes: usize) ?*anyopaque {
        return face.take(instance, @ptrCast(@alignCast(record)), bytes);
    }

    pub inline fn give(record: ?*anyopaque, address: ?*anyopaque) Status {
        return face.give(instance, @ptrCast(@alignCast(record)), address);
    }
};

/// The face without numbers, for C and Zig callers that keep the slab's own address.
pub const direct = struct {
    pub fn slabOf(id: u32) ?*anyopaque {
        return @ptrCast(instance.slabs.find(id));
    }

    pub fn take(slab: ?*anyopaque) ?*anyopaque {
        const own: *owner_slabs.Slab = @ptrCast(@alignCast(slab));
        return own.take();
    }

    pub fn give(slab: ?*anyopaque, address: ?*anyopaque) Status {
        const own: *owner_slabs.Slab = @ptrCast(@alignCast(slab));
        own.give(@intFromPtr(address)) catch |err| return if (err == error.DoubleFree) .double_free else .foreign;
        return .ok;
    }

    pub fn giveRemote(slab: ?*anyopaque, address: ?*anyopaque) Status {
        const own: *owner_slabs.Slab = @ptrCast(@alignCast(slab));
        const outcome = own.giveRemote(@intFromPtr(address));
        if (outcome == .done) {
            @branchHint(.likely);
            return .ok;
        }
        return statusOf(own, outcome);
    }

    noinline fn statusOf(own: *owner_slabs.Slab, outcome: anytype) Status {
        return switch (outcome) {
            .done => .ok,
            .done_wake => {
                instance.wakeSlab(own);
                return .ok;
            },
            .full => .busy,
            .closed => .closed,
            .double_free => .double_free,
            .foreign => .foreign,
        };
    }
};
