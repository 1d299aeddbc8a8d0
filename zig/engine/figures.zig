//! Options and statistics between the pools and the plain structs of the ABI.
//!
//! Figures are sums of counters that each thread keeps for itself, so a snapshot taken while threads
//! work may be off by what happens meanwhile; a quiet process is exact. No system call and no
//! allocation, except where the kernel is asked (`resident`). Threads: any.

const std = @import("std");
const heap = @import("../heap/heap.zig");
const types = @import("types.zig");

/// Interval bounds in milliseconds.
const interval_max: f64 = 3_600_000;

/// Takes the given fields over into `options`. False, and nothing changed, if one is out of range.
pub fn merge(options: *heap.Options, from: *const types.PoolOptions) bool {
    var merged = options.*;
    if (given(from, .enabled)) merged.enabled = from.enabled != 0;
    if (given(from, .limit_bytes)) {
        if (from.limit_bytes < 0) merged.limit_bytes = null else merged.limit_bytes = bytesOf(from.limit_bytes) orelse return false;
    }
    if (given(from, .local_buffer_bytes)) merged.local_buffer_bytes = bytesOf(from.local_buffer_bytes) orelse return false;
    if (given(from, .growth_dampener)) merged.growth_dampener = from.growth_dampener;
    if (given(from, .eager_return)) merged.eager_return = from.eager_return != 0;
    if (given(from, .background)) {
        merged.background = from.background != 0;
        if (merged.background) {
            if (!(from.interval_ms >= 1 and from.interval_ms <= interval_max)) return false;
            merged.interval_ms = @intFromFloat(from.interval_ms);
            merged.purge_bytes = bytesOf(from.purge_bytes) orelse return false;
            merged.scrub_bytes = bytesOf(from.scrub_bytes) orelse return false;
            merged.lazy = from.lazy != 0;
        }
    }
    if (given(from, .pages)) merged.kind = switch (from.pages) {
        0 => null,
        1 => .base,
        2 => .thp,
        3, 4 => .hugetlb,
        else => return false,
    };
    if (given(from, .pages)) merged.shared = from.pages == @intFromEnum(types.Pages.memfd);
    if (given(from, .fork)) merged.fork = switch (from.fork) {
        0 => .copy,
        1 => .omit,
        2 => .wipe,
        else => return false,
    };
    // A file cannot be zeros in a forked child.
    if (merged.shared and merged.fork == .wipe) return false;
    options.* = merged;
    return true;
}

fn given(from: *const types.PoolOptions, field: types.PoolField) bool {
    return from.given & @intFromEnum(field) != 0;
}

fn bytesOf(value: f64) ?u64 {
    if (!(value >= 0 and value < 1 << 53)) return null;
    return @intFromFloat(value);
}

pub fn optionsOf(options: *const heap.Options, out: *types.PoolOptions) void {
    out.* = .{
        .limit_bytes = if (options.limit_bytes) |limit| @floatFromInt(limit) else -1,
        .local_buffer_bytes = @floatFromInt(options.local_buffer_bytes),
        .interval_ms = @floatFromInt(options.interval_ms),
        .purge_bytes = @floatFromInt(options.purge_bytes),
        .scrub_bytes = @floatFromInt(options.scrub_bytes),
        .given = ~@as(u32, 0),
        .enabled = @intFromBool(options.enabled),
        .growth_dampener = options.growth_dampener,
        .eager_return = @intFromBool(options.eager_return),
        .background = @intFromBool(options.background),
        .lazy = @intFromBool(options.lazy),
        .pages = if (options.shared) @intFromEnum(types.Pages.memfd) else if (options.kind) |kind| @as(u32, @intFromEnum(kind)) + 1 else 0,
        .fork = @intFromEnum(options.fork),
    };
}

pub fn poolStats(comptime Pool: type, pool: *Pool, out: *types.PoolStats) void {
    const census = pool.census();
    out.* = .{
        .allocated_bytes = float(census.bytes +% pool.total(.allocated_bytes)),
        .active_bytes = float(census.active +% pool.total(.active_bytes)),
        .mapped_bytes = float(pool.mapped_bytes.load(.monotonic, .count)),
        .resident_bytes = float(pool.charged.load(.monotonic, .charge)),
        .locked_bytes = float(pool.locked_bytes.load(.monotonic, .count)),
        .huge_bytes = float(pool.huge_bytes.load(.monotonic, .count)),
        .lazy_free_bytes = float(pool.lazy_bytes.load(.monotonic, .count)),
        .metadata_bytes = float(pool.metadataBytes()),
        .live_handles = float(census.leases +% pool.total(.live_beside)),
        .closing_handles = float(pool.total(.closing)),
        .advice_calls = float(pool.advice_calls.load(.monotonic, .count)),
        .system_refusals = float(pool.refusals.load(.monotonic, .count)),
        .mappings = float(pool.areasCount()),
        .steals = float(pool.total(.steals)),
        .scrubbed_regions = float(pool.total(.scrubbed)),
        .limit_bytes = if (pool.options.limit_bytes) |limit| @floatFromInt(limit) else -1,
    };
}

pub fn classStats(comptime Pool: type, pool: *Pool, out: *[heap.classes]types.ClassStats) void {
    const census = pool.census();
    for (out, 0..) |*row, class| {
        const regions = pool.area_regions[class].load(.monotonic, .areas);
        const allocations = pool.allocations(class);
        row.* = .{
            .class_bytes = @floatFromInt(Pool.classBytes(class)),
            .areas = float(pool.areas[class].load(.monotonic, .areas)),
            .area_total_bytes = float(pool.area_bytes[class].load(.monotonic, .areas)),
            .free_regions = float(regions -| census.used[class]),
            .clean_regions = float(pool.event(class, .clean_in) -% pool.event(class, .clean_out)),
            .global_regions = float(pool.event(class, .dirty_in) -% pool.event(class, .dirty_out)),
            .thread_regions = float(pool.threadRegions(class)),
            .allocations = float(allocations),
            .slow_path = float(pool.event(class, .slow_path)),
            .refill = float(pool.event(class, .refill)),
            .deallocations = float(allocations -| census.used[class]),
            .clear_eager_total = float(pool.event(class, .cleared_eager)),
            .clear_slow_total = float(pool.event(class, .cleared_slow)),
        };
    }
}

pub fn stats(comptime Engine: type, engine: *Engine, out: *types.Stats, ask_kernel: bool) void {
    out.* = std.mem.zeroes(types.Stats);
    if (engine.state.load(.acquire, .engine_ready) == 0) return;
    for (&engine.pools) |*slot| {
        const pool = slot.pool.load(.acquire, .pool) orelse continue;
        if (slot.taken.load(.monotonic, .pool_take) == 0) continue;
        var one: types.PoolStats = undefined;
        poolStats(Engine.Pool, pool, &one);
        out.allocated_bytes += one.allocated_bytes;
        out.active_bytes += one.active_bytes;
        out.mapped_bytes += one.mapped_bytes;
        out.resident_bytes += one.resident_bytes;
        out.locked_bytes += one.locked_bytes;
        out.huge_bytes += one.huge_bytes;
        out.lazy_free_bytes += one.lazy_free_bytes;
        out.live_handles += one.live_handles;
        out.closing_handles += one.closing_handles;
        out.system_refusals += one.system_refusals;
        out.advice_calls += one.advice_calls;
        out.pools += 1;
    }
    out.retained_bytes = @max(0, out.mapped_bytes - out.active_bytes);
    out.live_handles += float(engine.empty_leases.load(.monotonic, .count));
    out.metadata_bytes = float(engine.metadataTouched());
    out.leaked_handles = float(engine.leaked_handles.load(.monotonic, .count));
    out.pending_tokens = float(engine.pending_tokens.load(.monotonic, .count) + engine.slabs.pendingTokens());
    out.mappings = float(engine.table.mappings.load(.monotonic, .count));
    out.threads = float(engine.threads_attached.load(.monotonic, .threads));
    if (!ask_kernel) return;
    var resident: u64 = 0;
    var huge: u64 = 0;
    for (0..engine.table.areas_top) |i| {
        const area = engine.table.areas[i];
        if (!area.live) continue;
        resident += Engine.System.residentBytes(@ptrFromInt(area.address), area.bytes);
        huge += Engine.System.hugeBytes(@ptrFromInt(area.address), area.bytes);
    }
    out.resident_bytes = float(resident);
    out.huge_bytes = float(huge);
}

fn float(value: u64) f64 {
    // A difference between two threads' counters may be read half-way: never below zero.
    return if (value > 1 << 62) 0 else @floatFromInt(value);
}
