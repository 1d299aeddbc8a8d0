//! The owner slab against a list of who holds which slot: random allocations, frees by the owner and by
//! others, wrong numbers, drains, damaged entries and marks, growth and refusals of the backend.
//!
//! Invariant checked: no slot is handed out twice, contents stay, wrong numbers are refused, nothing is
//! lost except while the backend refuses; a damaged entry loses nothing. One thread. Cost: below 1 µs
//! an event, and a walk every 256.

const std = @import("std");
const ds = @import("../ds/ds.zig");
const backend_file = @import("backend.zig");
const owner_slab = @import("owner_slab.zig");
const Swarm = @import("../testing/swarm.zig").Swarm;

const Slab = owner_slab.OwnerSlab(ds.Real);
const Operation = enum { alloc, free, free_remote, wrong, drain, damage, fill };
const live_max = 300;

/// One run, for the registry of fuzzers.
pub fn fuzz(seed: u64, events: u64) anyerror!void {
    var prng: std.Random.DefaultPrng = .init(seed);
    const random = prng.random();
    const mix: Swarm(Operation) = .init(random, &.{ .alloc, .free_remote });
    const grows = random.boolean();
    const bounded = random.boolean();
    const options: owner_slab.Options = .{
        .slot_bytes = 1 + random.uintLessThan(u32, 70),
        .alignment = @as(u32, 1) << random.uintLessThan(u5, 5),
        .capacity = 1 + random.uintLessThan(u32, 100),
        .capacity_max = if (grows) 250 else 0,
        .batch = if (random.boolean()) .adaptive else .{ .fixed = random.uintLessThan(u32, 100) },
        .queue_capacity = if (bounded) random.uintLessThan(u32, 40) else null,
        .generation_start = 1 + random.uintLessThan(u32, 1000),
    };
    const allocator = std.heap.smp_allocator;
    const backend = backend_file.Backend.ofAllocator(&allocator);
    const slab = Slab.create(backend, null, options) orelse return error.Refused;
    defer _ = slab.release(null);
    const bits: u6 = @intCast(slab.bits);
    const most = slab.capacity_max;
    const whole = @min(most, live_max);
    var live: [live_max]u64 = undefined;
    var count: usize = 0;
    var old: [64]u64 = @splat(0);
    var damaged = false;
    for (0..events) |event| {
        switch (mix.next(random)) {
            .alloc => {
                if (count == live_max) continue;
                const index = slab.alloc(null) orelse {
                    // Every slot is held: nothing was lost.
                    if (count != whole) return error.SlotsLost;
                    continue;
                };
                const number = slab.numberOf(index);
                for (live[0..count]) |other| {
                    if (other == number or (other ^ number) << (63 - bits) << 1 == 0) return error.HandedOutTwice;
                }
                const ptr = slab.addressOf(index);
                if (@intFromPtr(ptr) % options.alignment != 0) return error.Misaligned;
                if (slab.find(@intFromPtr(ptr)) != index) return error.NotFound;
                @memset(ptr[0..options.slot_bytes], tag(number));
                live[count] = number;
                count += 1;
            },
            .free, .free_remote => |operation| {
                if (count == 0) continue;
                const at = random.uintLessThan(usize, count);
                const number = live[at];
                try check(slab, number, options.slot_bytes);
                if (operation == .free) {
                    try slab.free(number);
                } else switch (slab.freeRemote(number)) {
                    .done => {},
                    .full => {
                        if (!bounded or !slab.isLive(number)) return error.RefusedWrongly;
                        if (!damaged and options.queue_capacity.? > 0 and slab.figures().queued == 0) return error.RefusedEmpty;
                        continue;
                    },
                    else => return error.NotFreed,
                }
                if (slab.isLive(number)) return error.StillLive;
                count -= 1;
                live[at] = live[count];
                old[event % old.len] = number;
            },
            .wrong => {
                const wrong = switch (random.uintLessThan(u32, 3)) {
                    0 => old[random.uintLessThan(usize, old.len)],
                    1 => random.int(u64) >> @intCast(random.uintLessThan(u32, 64)),
                    else => if (count == 0) 0 else live[0] ^ (@as(u64, 1) << random.int(u6)),
                };
                if (std.mem.indexOfScalar(u64, live[0..count], wrong) != null) continue;
                if (slab.isLive(wrong)) return error.WrongIsLive;
                if (slab.free(wrong)) |_| return error.WrongFreeAccepted else |_| {}
                switch (slab.freeRemote(wrong)) {
                    .double_free, .foreign, .full => {},
                    else => return error.WrongFreeAccepted,
                }
            },
            .drain => _ = slab.drain(),
            .damage => {
                damaged = true;
                if (slab.top > 0 and random.boolean()) {
                    slab.stack[random.uintLessThan(u32, slab.top)] = random.int(u32) >> @intCast(random.uintLessThan(u32, 32));
                } else slab.marks.blocks[random.uintLessThan(u32, most) / 32].raw = random.uintLessThan(u8, 2);
            },
            .fill => {
                // To the end and back.
                const before = count;
                while (count < live_max) : (count += 1) {
                    const index = slab.alloc(null) orelse break;
                    live[count] = slab.numberOf(index);
                    @memset(slab.addressOf(index)[0..options.slot_bytes], tag(live[count]));
                }
                if (count != whole) return error.SlotsLost;
                while (count > before) {
                    count -= 1;
                    try slab.free(live[count]);
                }
            },
        }
        if (event % 256 == 0 and !damaged) {
            try slab.invariants();
            if (slab.figures().live != count) return error.MiscountedLive;
        }
    }
    for (live[0..count]) |number| try check(slab, number, options.slot_bytes);
    slab.close();
    for (live[0..count]) |number| if (slab.freeRemote(number) != .closed) return error.ClosedAccepts;
}

fn tag(number: u64) u8 {
    return @truncate(number *% 0x9E37_79B9_7F4A_7C15 >> 56);
}

fn check(slab: *Slab, number: u64, bytes: u32) !void {
    if (!slab.isLive(number)) return error.NotLive;
    const index: u32 = @truncate(number & ((@as(u64, 1) << @intCast(slab.bits)) - 1));
    for (slab.addressOf(index)[0..bytes]) |byte| if (byte != tag(number)) return error.ContentsLost;
}

test "the owner slab agrees with the model over random operations" {
    const seed: u64 = std.testing.random_seed;
    errdefer std.debug.print("seed {d}\n", .{seed});
    for (0..20) |run| try fuzz(seed +% run, 3_000);
}
