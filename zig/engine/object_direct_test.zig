//! The direct face of global allocators, on the real system: wrong frees are refused at the call, and a
//! record whose allocator or thread is gone refuses instead of following an old pointer.

const std = @import("std");
const testing = std.testing;
const os = @import("../os/os.zig");
const core = @import("core.zig");
const types = @import("types.zig");

const Engine = core.Engine(os.Native);
const Direct = Engine.direct;
const Status = types.Status;

var engine: Engine align(128) = .{};

fn attach() u32 {
    return @intFromFloat(engine.threadAttach());
}

fn create() u32 {
    return @intFromFloat(engine.globalCreate(&std.mem.zeroes(types.GlobalOptions)));
}

fn give(record: *Direct.Record, ptr: ?*anyopaque) Status {
    return Direct.give(&engine, record, ptr);
}

fn byte(ptr: *anyopaque, offset: usize) *anyopaque {
    return @ptrFromInt(@intFromPtr(ptr) + offset);
}

test "slots, pages and regions are taken and given; sizes that are none are refused" {
    defer engine.deinit();
    const thread = attach();
    const id = create();
    const record = Direct.of(&engine, thread, id).?;
    try testing.expectEqual(record, Direct.of(&engine, thread, id).?);
    for ([_]usize{ 1, 16, 17, 100, 4096, 64 << 10, (64 << 10) + 1, 1 << 20, (1 << 20) + 1, 3 << 20 }) |bytes| {
        const ptr = Direct.take(&engine, record, bytes).?;
        @memset(@as([*]u8, @ptrCast(ptr))[0..bytes], 0xA5);
        try testing.expectEqual(0, @intFromPtr(ptr) % 16);
        try testing.expect(engine.objectSize(.global, id, ptr) >= bytes);
        try testing.expectEqual(Status.foreign, give(record, byte(ptr, 8)));
        try testing.expectEqual(Status.ok, give(record, ptr));
        try testing.expect(give(record, ptr) != .ok);
    }
    for ([_]usize{ 32, 4096, 1 << 16, 1 << 20 }) |alignment| {
        const ptr = Direct.takeAligned(&engine, record, 100, alignment).?;
        try testing.expectEqual(0, @intFromPtr(ptr) % alignment);
        try testing.expectEqual(Status.ok, give(record, ptr));
    }
    try testing.expectEqual(null, Direct.take(&engine, record, 0));
    try testing.expectEqual(null, Direct.take(&engine, record, std.math.maxInt(usize)));
    try testing.expectEqual(null, Direct.takeAligned(&engine, record, 100, 48));
    try testing.expectEqual(null, Direct.takeAligned(&engine, record, 0, 64));
    try testing.expectEqual(Status.ok, give(record, null));
    try testing.expectEqual(0, engine.poolClose(thread, id, 0));
}

test "double, interior and foreign frees change nothing, and the ways mix" {
    defer engine.deinit();
    const thread = attach();
    const id = create();
    const other = create();
    const record = Direct.of(&engine, thread, id).?;
    const elsewhere = Direct.of(&engine, thread, other).?;
    var ptrs: [200]*anyopaque = undefined;
    for (&ptrs) |*ptr| ptr.* = Direct.take(&engine, record, 48).?;
    for (ptrs) |ptr| {
        try testing.expectEqual(Status.foreign, give(record, byte(ptr, 16)));
        try testing.expectEqual(Status.foreign, give(elsewhere, ptr));
    }
    var local: u64 = 0;
    try testing.expectEqual(Status.foreign, give(record, &local));
    try testing.expectEqual(Status.foreign, give(record, @ptrFromInt(std.math.maxInt(usize) - 15)));
    for (ptrs, 0..) |ptr, i| {
        try testing.expectEqual(Status.ok, if (i % 2 == 0) give(record, ptr) else engine.objectFree(.global, thread, id, ptr));
        try testing.expectEqual(Status.double_free, if (i % 3 == 0) give(record, ptr) else engine.objectFree(.global, thread, id, ptr));
    }
    const mixed = engine.objectAlloc(.global, thread, id, 48, 0).?;
    try testing.expectEqual(Status.ok, give(record, mixed));
    try testing.expectEqual(0, engine.poolClose(thread, id, 0));
    try testing.expectEqual(0, engine.poolClose(thread, other, 0));
}

test "a bound is met and told, and what is given back can be taken again" {
    defer engine.deinit();
    const thread = attach();
    const id = create();
    var options = std.mem.zeroes(types.PoolOptions);
    options.given = @intFromEnum(types.PoolField.limit_bytes);
    options.limit_bytes = 8 << 20;
    try testing.expectEqual(Status.ok, engine.poolConfigure(thread, id, &options));
    const record = Direct.of(&engine, thread, id).?;
    const ptrs = try testing.allocator.alloc(?*anyopaque, 1 << 10);
    defer testing.allocator.free(ptrs);
    for (0..2) |_| {
        var count: usize = 0;
        while (Direct.take(&engine, record, 32 << 10)) |ptr| : (count += 1) ptrs[count] = ptr;
        try testing.expect(count > 100 and count < 256);
        // The block says why.
        try testing.expectEqual(8 << 20, engine.threads[thread].block[@import("block.zig").bound]);
        for (ptrs[0..count]) |ptr| try testing.expectEqual(Status.ok, give(record, ptr));
    }
    try testing.expectEqual(0, engine.poolClose(thread, id, 0));
}

test "after a close a record refuses, until its thread uses the next allocator of the slot" {
    defer engine.deinit();
    const thread = attach();
    const id = create();
    const record = Direct.of(&engine, thread, id).?;
    const ptr = Direct.take(&engine, record, 64).?;
    try testing.expectEqual(Status.ok, give(record, ptr));
    try testing.expectEqual(0, engine.poolClose(thread, id, 0));
    try testing.expectEqual(null, Direct.take(&engine, record, 64));
    try testing.expectEqual(null, Direct.takeAligned(&engine, record, 64, 64));
    try testing.expectEqual(Status.closed, give(record, ptr));
    try testing.expectEqual(null, Direct.of(&engine, thread, id));
    // In the same slot.
    const next = create();
    try testing.expect(next != id);
    try testing.expectEqual(null, Direct.take(&engine, record, 64));
    try testing.expectEqual(Status.closed, give(record, ptr));
    const own = engine.objectAlloc(.global, thread, next, 64, 0).?;
    try testing.expectEqual(record, Direct.of(&engine, thread, next).?);
    try testing.expectEqual(Status.ok, give(record, own));
    try testing.expectEqual(null, engine.objectAlloc(.global, thread, id, 64, 0));
    try testing.expectEqual(Status.closed, engine.objectFree(.global, thread, id, own));
    try testing.expectEqual(0, engine.poolClose(thread, next, 0));
}

test "options that change do not end a record" {
    defer engine.deinit();
    const thread = attach();
    const id = create();
    const record = Direct.of(&engine, thread, id).?;
    const ptr = Direct.take(&engine, record, 64).?;
    try testing.expectEqual(Status.ok, engine.poolConfigure(thread, id, &std.mem.zeroes(types.PoolOptions)));
    try testing.expectEqual(Status.ok, give(record, ptr));
    try testing.expectEqual(Status.double_free, give(record, ptr));
    try testing.expect(Direct.take(&engine, record, 64) != null);
    try testing.expectEqual(1, engine.poolClose(thread, id, 0));
}

test "a pool that is no global allocator has no direct face, nor has a thread that is not attached" {
    defer engine.deinit();
    const thread = attach();
    try testing.expectEqual(null, Direct.of(&engine, thread, engine.poolShared()));
    try testing.expectEqual(null, Direct.of(&engine, thread, 0));
    try testing.expectEqual(null, Direct.of(&engine, thread + 1, create()));
}

test "threads: each frees through its record what another took, and a record ends with its thread" {
    defer engine.deinit();
    const thread = attach();
    const id = create();
    const record = Direct.of(&engine, thread, id).?;
    const Other = struct {
        record: *Direct.Record = undefined,
        ptrs: [1000]*anyopaque,
        wrong: usize = 0,

        fn run(other: *@This(), number: u32) void {
            const own = attach();
            other.record = Direct.of(&engine, own, number).?;
            for (&other.ptrs, 0..) |*ptr, i| {
                other.wrong += @intFromBool(give(other.record, ptr.*) != .ok);
                other.wrong += @intFromBool(give(other.record, ptr.*) != .double_free);
                ptr.* = Direct.take(&engine, other.record, 16 + i).?;
            }
            _ = engine.threadDetach(own);
        }
    };
    var other: Other = .{ .ptrs = undefined };
    for (&other.ptrs) |*ptr| ptr.* = Direct.take(&engine, record, 64).?;
    const running = try std.Thread.spawn(.{}, Other.run, .{ &other, id });
    running.join();
    try testing.expectEqual(0, other.wrong);
    // Of a thread that is gone: nobody may call with it, and who does is refused.
    try testing.expectEqual(null, Direct.take(&engine, other.record, 64));
    try testing.expectEqual(Status.foreign, give(other.record, other.ptrs[0]));
    for (other.ptrs) |ptr| try testing.expectEqual(Status.ok, give(record, ptr));
    try testing.expectEqual(0, engine.poolClose(thread, id, 0));
}

test "in a forked child a record refuses" {
    defer engine.deinit();
    const thread = attach();
    const id = create();
    const record = Direct.of(&engine, thread, id).?;
    const ptr = Direct.take(&engine, record, 64).?;
    const word = @constCast(@volatileCast(engine.alive orelse return error.SkipZigTest));
    // What the child finds: the engine's page and the records read as zeros.
    const before = record.*;
    word.* = 0;
    record.* = std.mem.zeroes(Direct.Record);
    try testing.expectEqual(null, Direct.take(&engine, record, 64));
    try testing.expectEqual(Status.forked, give(record, ptr));
    word.* = 1;
    record.* = before;
    try testing.expectEqual(Status.ok, give(record, ptr));
}

test "the direct face of a reclaiming allocator refuses wrong frees, and refuses after a close" {
    const Reclaiming = Engine.reclaiming_direct;
    defer engine.deinit();
    const thread = attach();
    const other = attach();
    const options = std.mem.zeroes(types.ReclaimingOptions);
    const id: u32 = @intFromFloat(engine.reclaimingCreate(&options));
    try testing.expectEqual(null, Direct.of(&engine, thread, id));
    const record = Reclaiming.of(&engine, thread, id).?;
    const elsewhere = Reclaiming.of(&engine, other, id).?;
    const global = create();
    try testing.expectEqual(null, Reclaiming.of(&engine, thread, global));
    for ([_]usize{ 1, 16, 17, 100, 4096, 64 << 10, 2 << 20, (2 << 20) + 1 }) |bytes| {
        var ptrs: [70]*anyopaque = undefined;
        for (&ptrs) |*ptr| ptr.* = Reclaiming.take(&engine, record, bytes).?;
        for (ptrs, 0..) |ptr, i| {
            @memset(@as([*]u8, @ptrCast(ptr))[0..bytes], 0x5A);
            try testing.expectEqual(Status.foreign, Reclaiming.give(&engine, record, byte(ptr, 1)));
            const by = if (i % 3 == 0) elsewhere else record;
            try testing.expectEqual(Status.ok, Reclaiming.give(&engine, by, ptr));
            try testing.expect(Reclaiming.give(&engine, record, ptr) != .ok);
            try testing.expect(Reclaiming.give(&engine, elsewhere, ptr) != .ok);
        }
    }
    try testing.expectEqual(null, Reclaiming.take(&engine, record, 0));
    try testing.expectEqual(null, Reclaiming.take(&engine, record, std.math.maxInt(usize)));
    try testing.expectEqual(Status.ok, Reclaiming.give(&engine, record, null));
    var local: u64 = 0;
    try testing.expectEqual(Status.foreign, Reclaiming.give(&engine, record, &local));
    const last = Reclaiming.take(&engine, record, 64).?;
    try testing.expectEqual(Status.ok, engine.objectFree(.reclaiming, other, id, last));
    _ = engine.threadDetach(other);
    try testing.expectEqual(null, Reclaiming.take(&engine, elsewhere, 64));
    try testing.expect(engine.reclaimingReclaim(id) > 0);
    try testing.expectEqual(0, engine.poolClose(thread, id, 0));
    try testing.expectEqual(null, Reclaiming.take(&engine, record, 64));
    try testing.expectEqual(Status.closed, Reclaiming.give(&engine, record, last));
    // A general allocator in the same slot is not what the old record leads to.
    const next = create();
    try testing.expectEqual(null, Reclaiming.take(&engine, record, 64));
    try testing.expectEqual(0, engine.poolClose(thread, next, 0));
    try testing.expectEqual(0, engine.poolClose(thread, global, 0));
}
