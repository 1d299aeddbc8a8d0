//! The handle table against an obvious model: random leases, wraps, tokens and wrong numbers from
//! several caches, on a table so small that indexes retire and run out.
//!
//! Invariant checked: every answer is the model's; a number is issued once; a stale number is
//! `Freed`, one never issued or of the other kind is `Foreign`; an index is out only once; at the
//! end each index is free or retired. One thread; what several do is the matter of the scheduler.
//!
//! Cost: about 1 µs an event. Not a proof of retirement at full width: that is the marathon.

const std = @import("std");
const ds = @import("ds.zig");
const handle_table = @import("handle_table.zig");
const Swarm = @import("../testing/swarm.zig").Swarm;

const Payload = extern struct { tag: u64 };
const Table = handle_table.HandleTableShaped(ds.Real, Payload, .{
    .generation_bits = 5,
    .cache_max = 6,
    .refill_batch = 4,
    .fresh_batch = 3,
});

const entries_max = 24;
const caches_count = 3;
const generations = 32;
/// As the table keeps for transfers at five bits: 2 to the power of 5 / 3.
const generations_spare = 2;

const Operation = enum {
    lease,
    free,
    wrap,
    cancel,
    drop,
    to_token,
    adopt,
    end_token,
    wrong,
    drain,
    give_up,
};

const Kind = enum { free, live, closing, token };

/// What the model knows of one index.
const Slot = struct {
    kind: Kind = .free,
    number: Table.Handle = 0,
    tag: u64 = 0,
    wraps: u32 = 0,
    /// Every generation issued so far, as a handle or a token.
    issued: [generations]bool = @splat(false),
    issued_count: u32 = 0,
    retired: bool = false,
};

const World = struct {
    table: Table,
    caches: [caches_count]Table.Cache = @splat(.{}),
    slots: [entries_max]Slot = @splat(.{}),
    random: std.Random,
    next_tag: u64 = 1,

    fn cache(world: *World) *Table.Cache {
        return &world.caches[world.random.uintLessThan(usize, caches_count)];
    }

    /// Some slot of that kind, or null.
    fn pick(world: *World, kind: Kind) ?*Slot {
        const from = world.random.uintLessThan(usize, entries_max);
        for (0..entries_max) |offset| {
            const slot = &world.slots[(from + offset) % entries_max];
            if (slot.kind == kind) return slot;
        }
        return null;
    }

    fn issue(world: *World, number: Table.Handle) !void {
        const slot = &world.slots[Table.indexOf(number)];
        const generation: usize = @intCast(number >> handle_table.index_bits);
        try expect(generation < generations and !slot.issued[generation]);
        slot.issued[generation] = true;
        slot.issued_count += 1;
        slot.number = number;
    }

    fn lease(world: *World) !void {
        const index = world.table.claim(world.cache()) orelse return;
        const slot = &world.slots[index];
        try expect(slot.kind == .free and !slot.retired);
        slot.tag = world.next_tag;
        world.next_tag += 1;
        world.table.entry(index).payload.tag = slot.tag;
        try world.issue(world.table.publish(index));
        slot.kind = .live;
        slot.wraps = 0;
    }

    /// The table answered that the lease is over.
    fn end(world: *World, slot: *Slot) !void {
        const index = Table.indexOf(slot.number);
        try expect(world.table.entry(index).payload.tag == slot.tag);
        slot.kind = .free;
        slot.retired = slot.issued_count + generations_spare >= generations;
        const none = world.random.uintLessThan(u8, 4) == 0;
        world.table.recycle(if (none) null else world.cache(), index);
    }

    fn free(world: *World) !void {
        const slot = world.pick(.live) orelse return;
        if (world.random.boolean() and world.table.endUnwrapped(slot.number)) {
            try expect(slot.wraps == 0);
            return world.end(slot);
        }
        switch (try world.table.beginFree(slot.number)) {
            .finished => {
                try expect(slot.wraps == 0);
                try world.end(slot);
            },
            .closing => {
                try expect(slot.wraps > 0);
                slot.kind = .closing;
            },
        }
    }

    fn wrap(world: *World) !void {
        const slot = world.pick(.live) orelse return;
        try world.table.addWrap(slot.number);
        slot.wraps += 1;
    }

    fn cancel(world: *World) !void {
        const slot = world.pick(.live) orelse return;
        try expect(try world.table.cancelWrap(slot.number) == (slot.wraps > 0));
        slot.wraps -|= 1;
    }

    fn drop(world: *World) !void {
        const kind: Kind = if (world.random.boolean()) .live else .closing;
        const slot = world.pick(kind) orelse return;
        const dropped = world.table.dropWrap(Table.indexOf(slot.number));
        if (slot.wraps == 0) return expect(dropped == .still);
        slot.wraps -= 1;
        if (slot.wraps > 0) return expect(dropped == .still);
        const expected: handle_table.Dropped = if (kind == .closing) .finished else .leaked;
        try expect(dropped == expected);
        try world.end(slot);
    }

    fn toToken(world: *World) !void {
        const slot = world.pick(.live) orelse return;
        const held = world.random.uintLessThan(u32, 2);
        if (world.table.toToken(slot.number, held)) |token| {
            try expect(slot.wraps <= held and slot.issued_count + 2 <= generations);
            try world.issue(token);
            slot.kind = .token;
            slot.wraps = 0;
        } else |wrong| switch (wrong) {
            error.Busy => try expect(slot.wraps > held),
            error.Exhausted => try expect(slot.issued_count + 2 > generations),
            else => return wrong,
        }
    }

    fn adopt(world: *World) !void {
        const slot = world.pick(.token) orelse return;
        try world.issue(try world.table.adopt(slot.number));
        slot.kind = .live;
    }

    fn endToken(world: *World) !void {
        const slot = world.pick(.token) orelse return;
        try world.table.endToken(slot.number);
        try world.end(slot);
    }

    /// A number that is not a live handle, and one that is not a token: refused for the right
    /// reason.
    fn wrongNumber(world: *World) !void {
        const number = world.randomNumber();
        const index = Table.indexOf(number);
        const generation = number >> handle_table.index_bits;
        const slot: ?*Slot = if (index < entries_max) &world.slots[index] else null;
        const good = if (slot) |known|
            known.number == number and (known.kind == .live or known.kind == .token)
        else
            false;
        const reason: handle_table.WrongHandle = blk: {
            if (good or generation >= generations) break :blk error.Foreign;
            const known = slot orelse break :blk error.Foreign;
            break :blk if (known.issued[@intCast(generation)]) error.Freed else error.Foreign;
        };
        if (!(good and slot.?.kind == .live)) {
            try std.testing.expectError(reason, world.table.find(number));
            try std.testing.expectError(reason, world.table.beginFree(number));
            try expect(!world.table.endUnwrapped(number));
            try std.testing.expectError(reason, world.table.addWrap(number));
            try std.testing.expectError(reason, world.table.toToken(number, 0));
        } else try expect((try world.table.find(number)).payload.tag == slot.?.tag);
        if (!(good and slot.?.kind == .token)) {
            try std.testing.expectError(reason, world.table.adopt(number));
            try std.testing.expectError(reason, world.table.endToken(number));
        }
    }

    /// Near the truth, since numbers far from it are refused by anything.
    fn randomNumber(world: *World) Table.Handle {
        const random = world.random;
        const near = world.slots[random.uintLessThan(usize, entries_max)].number;
        return switch (random.uintLessThan(u8, 4)) {
            0 => random.int(Table.Handle),
            1 => near ^ @as(Table.Handle, 1) << random.uintLessThan(u6, 53),
            2 => near,
            else => @as(Table.Handle, random.uintLessThan(u32, generations)) << 24 |
                random.uintLessThan(u32, entries_max + 4),
        };
    }

    fn step(world: *World, operation: Operation) !void {
        switch (operation) {
            .lease => try world.lease(),
            .free => try world.free(),
            .wrap => try world.wrap(),
            .cancel => try world.cancel(),
            .drop => try world.drop(),
            .to_token => try world.toToken(),
            .adopt => try world.adopt(),
            .end_token => try world.endToken(),
            .wrong => try world.wrongNumber(),
            .drain => world.table.drain(world.cache()),
            .give_up => if (world.table.claim(world.cache())) |index| {
                world.table.recycle(world.cache(), index);
            },
        }
    }

    /// Ends all leases; then each index must be free once, or retired.
    fn close(world: *World) !void {
        for (&world.slots) |*slot| {
            if (slot.kind == .token) {
                try world.table.endToken(slot.number);
                try world.end(slot);
            }
            if (slot.kind == .live and try world.table.beginFree(slot.number) == .finished) {
                try world.end(slot);
            } else if (slot.kind == .live) slot.kind = .closing;
            while (slot.kind == .closing) : (slot.wraps -= 1) {
                const dropped = world.table.dropWrap(Table.indexOf(slot.number));
                if (dropped == .finished) try world.end(slot);
            }
        }
        var retired: u32 = 0;
        for (world.slots) |slot| retired += @intFromBool(slot.retired);
        try std.testing.expectEqual(retired, world.table.retiredCount());
        for (&world.caches) |*each| world.table.drain(each);
        var free_count: u32 = 0;
        while (world.table.claim(&world.caches[0])) |index| : (free_count += 1) {
            try expect(!world.slots[index].retired);
        }
        try std.testing.expectEqual(entries_max - 1, free_count + retired);
    }
};

fn expect(ok: bool) error{TestUnexpectedResult}!void {
    if (!ok) return error.TestUnexpectedResult;
}

/// One run, for the registry of fuzzers.
pub fn fuzz(seed: u64, events: u64) anyerror!void {
    var memory: [entries_max * 64]u8 align(64) = @splat(0);
    var prng = std.Random.DefaultPrng.init(seed);
    const random = prng.random();
    var world: World = .{ .table = .init(&memory, seed), .random = random };
    const mix: Swarm(Operation) = .init(random, &.{.lease});
    for (0..events) |_| try world.step(mix.next(random));
    try world.close();
}

test "the handle table and its model agree over random operations" {
    const seed: u64 = std.testing.random_seed;
    for (0..60) |run| {
        errdefer std.debug.print("seed {d}\n", .{seed + run});
        try fuzz(seed + run, 4_000);
    }
}
