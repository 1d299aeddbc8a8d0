//! Owner slabs behind their numbers: ends of owners and threads, references, tokens, wrong numbers.
//!
//! An engine of its own over the real system; a second thread is a real one. Takes milliseconds.

const std = @import("std");
const testing = std.testing;
const os = @import("../os/os.zig");
const core = @import("core.zig");
const types = @import("types.zig");

const Engine = core.Engine(os.Native);

var engine: Engine align(128) = .{};

const plain: types.SlabOptions = .{
    .slot_bytes = 16,
    .alignment = 8,
    .capacity = 8,
    .capacity_max = 0,
    .queue_capacity = -1,
    .batch = 64,
    .pool = 0,
    .leases = 1,
    .spare = 0,
};

fn start() u32 {
    engine = .{};
    return @intFromFloat(engine.threadAttach());
}

fn create(thread: u32, options: types.SlabOptions) !u32 {
    const number = engine.slabs.create(thread, &options);
    if (number < 0) return error.Refused;
    return @intFromFloat(number);
}

fn figures(id: u32) types.SlabStats {
    var out: types.SlabStats = undefined;
    std.debug.assert(engine.slabs.stats(id, &out) == .ok);
    return out;
}

/// Runs `body` on a thread of its own, which attaches before and detaches after.
fn elsewhere(comptime body: fn (u32, u32) f64, id: u32) !f64 {
    const Other = struct {
        fn run(own: u32, answer: *f64) void {
            const thread: u32 = @intFromFloat(engine.threadAttach());
            answer.* = body(thread, own);
            _ = engine.threadDetach(thread);
        }
    };
    var answer: f64 = 0;
    const thread = try std.Thread.spawn(.{}, Other.run, .{ id, &answer });
    thread.join();
    return answer;
}

test "a slab's number dies with its last reference, and no later slab has it" {
    const thread = start();
    defer engine.deinit();
    const id = try create(thread, plain);
    const slot = engine.slabs.alloc(thread, id);
    try testing.expect(slot > 0);
    try testing.expectEqual(.ok, engine.slabs.retain(id));
    try testing.expectEqual(.ok, engine.slabs.close(thread, id));
    try testing.expectEqual(.closed, engine.slabs.close(thread, id));
    try testing.expectEqual(.closed, engine.slabs.freeRemote(thread, id, slot));
    try testing.expectEqual(.ok, engine.slabs.release(id));
    try testing.expectEqual(.closed, engine.slabs.retain(id));
    const next = try create(thread, plain);
    try testing.expect(next != id);
    try testing.expectEqual(.closed, engine.slabs.retain(id));
    try testing.expectEqual(.ok, engine.slabs.close(thread, next));
}

test "only the owner's thread allocates, frees and closes" {
    const thread = start();
    defer engine.deinit();
    const id = try create(thread, plain);
    const closed: f64 = @floatFromInt(@intFromEnum(types.Status.closed));
    const Other = struct {
        fn alloc(own: u32, slab: u32) f64 {
            return engine.slabs.alloc(own, slab);
        }
        fn close(own: u32, slab: u32) f64 {
            return @floatFromInt(@intFromEnum(engine.slabs.close(own, slab)));
        }
    };
    try testing.expectEqual(closed, try elsewhere(Other.alloc, id));
    try testing.expectEqual(closed, try elsewhere(Other.close, id));
    try testing.expectEqual(0, figures(id).closed);
    try testing.expectEqual(.ok, engine.slabs.close(thread, id));
}

test "an owner that frees through its own full queue does not wait for itself" {
    const thread = start();
    defer engine.deinit();
    var options = plain;
    options.queue_capacity = 1;
    const id = try create(thread, options);
    var slots: [4]f64 = undefined;
    for (&slots) |*slot| slot.* = engine.slabs.alloc(thread, id);
    for (slots) |slot| try testing.expectEqual(.ok, engine.slabs.freeRemote(thread, id, slot));
    try testing.expectEqual(0, figures(id).live_slots);
    _ = engine.slabs.close(thread, id);
}

test "the end of the owner's thread closes its slabs, and a reference keeps the memory" {
    _ = start();
    defer engine.deinit();
    const Other = struct {
        fn make(own: u32, _: u32) f64 {
            const id = create(own, plain) catch return 0;
            _ = engine.slabs.alloc(own, id);
            _ = engine.slabs.retain(id);
            return @floatFromInt(id);
        }
    };
    const id: u32 = @intFromFloat(try elsewhere(Other.make, 0));
    try testing.expect(id > 0);
    try testing.expectEqual(1, figures(id).closed);
    try testing.expectEqual(1, figures(id).live_slots);
    try testing.expectEqual(.ok, engine.slabs.release(id));
    try testing.expectEqual(.closed, engine.slabs.retain(id));
}

test "of a slab's token one adopter wins, and one that nobody adopts is reclaimed" {
    const thread = start();
    defer engine.deinit();
    const id = try create(thread, plain);
    const slot = engine.slabs.alloc(thread, id);
    const token = engine.slabs.transfer(thread, id);
    try testing.expect(token > 0);
    try testing.expectEqual(1, engine.slabs.pendingTokens());
    try testing.expectEqual(.ok, engine.slabs.freeRemote(thread, id, slot));
    try testing.expectEqual(@as(f64, @floatFromInt(id)), engine.slabs.adopt(thread, token));
    try testing.expect(engine.slabs.adopt(thread, token) < 0);
    try testing.expectEqual(1, engine.slabs.drain(thread, id));
    const Other = struct {
        fn pass(own: u32, _: u32) f64 {
            const made = create(own, plain) catch return 0;
            return engine.slabs.transfer(own, made);
        }
    };
    const lost = try elsewhere(Other.pass, 0);
    try testing.expect(lost > 0);
    try testing.expectEqual(1, engine.slabs.pendingTokens());
    _ = engine.trim(thread);
    try testing.expectEqual(0, engine.slabs.pendingTokens());
    try testing.expect(engine.slabs.adopt(thread, lost) < 0);
    try testing.expectEqual(.ok, engine.slabs.close(thread, id));
}

test "what a thread that ended held is listed, and nothing else" {
    const thread = start();
    defer engine.deinit();
    const id = try create(thread, plain);
    var slots: [3]f64 = undefined;
    for (&slots) |*slot| slot.* = engine.slabs.alloc(thread, id);
    const Other = struct {
        var slot: f64 = 0;
        fn hold(own: u32, slab: u32) f64 {
            return @floatFromInt(@intFromEnum(engine.slabs.hold(own, slab, slot, 0)));
        }
    };
    Other.slot = slots[1];
    try testing.expectEqual(.ok, engine.slabs.hold(thread, id, slots[2], 0));
    try testing.expectEqual(0, try elsewhere(Other.hold, id));
    try testing.expectEqual(slots[1], engine.slabs.held(thread, id, 0, 0));
    try testing.expectEqual(slots[2], engine.slabs.held(thread, id, 0, engine.slabs.holderOf(thread)));
    try testing.expectEqual(.ok, engine.slabs.free(thread, id, slots[1]));
    try testing.expectEqual(0, engine.slabs.held(thread, id, 0, 0));
    _ = engine.slabs.close(thread, id);
}

test "a slab in a pool takes that pool's memory and gives it back" {
    const thread = start();
    defer engine.deinit();
    const pool = engine.poolShared();
    var options = plain;
    options.pool = pool;
    options.capacity = 10_000;
    const id = try create(thread, options);
    var before: types.PoolStats = undefined;
    try testing.expectEqual(.ok, engine.poolStats(pool, &before));
    try testing.expect(before.resident_bytes >= 160_000);
    try testing.expectEqual(.ok, engine.slabs.close(thread, id));
    _ = engine.poolTrim(thread, pool);
    try testing.expectEqual(.ok, engine.poolStats(pool, &before));
    try testing.expectEqual(0, before.resident_bytes);
}
