//! Real threads on the lock-free structures, for ThreadSanitizer: `zig build race`.
//!
//! Each test hands plain, unprotected memory from thread to thread through one structure and counts
//! at the end that nothing was lost or doubled. ThreadSanitizer sees every access to that memory; a
//! hand-over without release and acquire is a report and a failed run. Without it (`zig build
//! test`) the same tests are a stress of the machine's own memory order.
//!
//! By hand, one file:
//!   zig test -fsanitize-thread -fllvm -lc -OReleaseSafe zig/race_tests.zig
//!
//! Names contain "threads", by which the race step picks them. The exhaustive search for wrong
//! orders is schedules.zig; this is the cross-check that the simulated model and the machine agree.

const std = @import("std");
const ds = @import("ds/ds.zig");
const os = @import("os/os.zig");

const testing = std.testing;
const Real = ds.Real;

const threads_count = 4;
const rounds = 20_000;

/// Indexes with plain memory behind each.
const Nodes = struct {
    const count = 64;

    links: [count]Real.Atomic(u32) = @splat(.init(ds.none)),
    /// Written by whoever holds the index, without any protection.
    uses: [count]u64 = @splat(0),
    holder: [count]u32 = @splat(0),

    pub fn next(nodes: *Nodes, index: u32) *Real.Atomic(u32) {
        return &nodes.links[index];
    }

    fn use(nodes: *Nodes, thread: u32, index: u32) void {
        nodes.uses[index] += 1;
        nodes.holder[index] = thread;
        std.atomic.spinLoopHint();
        if (nodes.holder[index] != thread) @panic("two threads hold one index");
    }
};

/// Runs `body(context, thread)` on `threads_count` threads, numbered from 1.
fn together(context: anytype, comptime body: fn (@TypeOf(context), u32) void) !void {
    var threads: [threads_count]std.Thread = undefined;
    for (&threads, 1..) |*thread, number| {
        thread.* = try std.Thread.spawn(.{}, body, .{ context, @as(u32, @intCast(number)) });
    }
    for (threads) |thread| thread.join();
}

test "threads hand plain memory over through a tagged stack" {
    const Shared = struct {
        nodes: Nodes = .{},
        stack: ds.TaggedStack(Real) = .{},
        uses: std.atomic.Value(u64) = .init(0),

        fn run(shared: *@This(), thread: u32) void {
            var uses: u64 = 0;
            for (0..rounds) |round| {
                if (round % 16 == 0) {
                    const index = shared.stack.takeAll(&shared.nodes) orelse continue;
                    uses += shared.giveBack(thread, index);
                } else if (round % 4 == 0) {
                    var chain: ds.Chain = undefined;
                    if (shared.stack.popMany(&shared.nodes, 3, &chain) == 0) continue;
                    uses += shared.giveBack(thread, chain.first);
                } else if (shared.stack.pop(&shared.nodes)) |index| {
                    shared.nodes.use(thread, index);
                    uses += 1;
                    shared.stack.push(&shared.nodes, index);
                }
            }
            _ = shared.uses.fetchAdd(uses, .monotonic);
        }

        fn giveBack(shared: *@This(), thread: u32, first: u32) u64 {
            var index = first;
            var last = first;
            var uses: u64 = 0;
            while (index != ds.none) : (uses += 1) {
                shared.nodes.use(thread, index);
                last = index;
                index = shared.nodes.next(index).load(.monotonic, .walk);
            }
            shared.stack.pushChain(&shared.nodes, first, last);
            return uses;
        }
    };
    var shared: Shared = .{};
    for (0..Nodes.count) |index| shared.stack.push(&shared.nodes, @intCast(index));
    try together(&shared, Shared.run);
    var left: u32 = 0;
    while (shared.stack.pop(&shared.nodes)) |_| left += 1;
    try testing.expectEqual(Nodes.count, left);
    var uses: u64 = 0;
    for (shared.nodes.uses) |each| uses += each;
    try testing.expectEqual(shared.uses.raw, uses);
}

test "threads push to one owner, who closes and opens again, and take from it themselves" {
    const Shared = struct {
        nodes: Nodes = .{},
        /// Pushed to the owner, and back from the owner to the pushers.
        inbox: ds.RemoteStack(Real) = .{},
        idle: ds.TaggedStack(Real) = .{},
        pushers: std.atomic.Value(u32) = .init(threads_count - 1),

        fn run(shared: *@This(), thread: u32) void {
            if (thread == 1) return shared.own();
            for (0..rounds) |round| {
                // A thief, who may come when the owner takes or closes.
                if (round % 16 == 0) if (shared.inbox.takeAll()) |first| shared.giveBack(thread, first);
                const index = shared.idle.pop(&shared.nodes) orelse {
                    std.atomic.spinLoopHint();
                    continue;
                };
                shared.nodes.use(thread, index);
                if (shared.inbox.push(&shared.nodes, index)) continue;
                shared.idle.push(&shared.nodes, index);
            }
            _ = shared.pushers.fetchSub(1, .release);
        }

        fn own(shared: *@This()) void {
            var turns: u32 = 0;
            while (shared.pushers.load(.acquire) > 0) : (turns +%= 1) {
                if (shared.inbox.takeAll()) |first| shared.giveBack(1, first);
                if (turns % 8 != 0) continue;
                if (shared.inbox.close()) |first| shared.giveBack(1, first);
                shared.inbox.open();
            }
            if (shared.inbox.close()) |first| shared.giveBack(1, first);
        }

        fn giveBack(shared: *@This(), thread: u32, first: u32) void {
            var index = first;
            while (index != ds.none) {
                const following = shared.nodes.next(index).load(.monotonic, .walk);
                shared.nodes.use(thread, index);
                shared.idle.push(&shared.nodes, index);
                index = following;
            }
        }
    };
    var shared: Shared = .{};
    for (0..Nodes.count) |index| shared.idle.push(&shared.nodes, @intCast(index));
    try together(&shared, Shared.run);
    var left: u32 = 0;
    while (shared.idle.pop(&shared.nodes)) |_| left += 1;
    try testing.expectEqual(Nodes.count, left);
}

test "threads collect from the lane of one sender" {
    const Shared = struct {
        nodes: Nodes = .{},
        lane: ds.Lane(Real, 16) = .{},
        idle: ds.TaggedStack(Real) = .{},
        sending: std.atomic.Value(bool) = .init(true),

        fn run(shared: *@This(), thread: u32) void {
            if (thread == 1) return shared.send();
            while (shared.sending.load(.acquire)) shared.collect(thread);
        }

        fn send(shared: *@This()) void {
            for (0..rounds) |_| {
                const index = shared.idle.pop(&shared.nodes) orelse {
                    std.atomic.spinLoopHint();
                    continue;
                };
                shared.nodes.use(1, index);
                if (!shared.lane.send(index)) shared.idle.push(&shared.nodes, index);
            }
            shared.sending.store(false, .release);
        }

        fn collect(shared: *@This(), thread: u32) void {
            var out: [5]u32 = undefined;
            for (out[0..shared.lane.collect(&out)]) |index| {
                shared.nodes.use(thread, index);
                shared.idle.push(&shared.nodes, index);
            }
        }
    };
    var shared: Shared = .{};
    for (0..Nodes.count) |index| shared.idle.push(&shared.nodes, @intCast(index));
    try together(&shared, Shared.run);
    while (!shared.lane.isEmpty()) shared.collect(1);
    var left: u32 = 0;
    while (shared.idle.pop(&shared.nodes)) |_| left += 1;
    try testing.expectEqual(Nodes.count, left);
}

const Guarded = struct {
    lock: ds.OwnerLock(Real) = .{},
    /// Plain: only the lock protects it.
    counter: u64 = 0,
    entries: std.atomic.Value(u64) = .init(0),

    fn run(guarded: *Guarded, thread: u32) void {
        var entries: u64 = 0;
        if (thread == 1) {
            for (0..rounds * 4) |_| {
                if (!guarded.lock.tryEnter()) continue;
                guarded.counter += 1;
                guarded.lock.leave();
                entries += 1;
            }
        } else for (0..rounds / 8) |_| {
            if (!guarded.lock.trySteal()) continue;
            guarded.counter += 1;
            guarded.lock.endSteal();
            entries += 1;
        }
        _ = guarded.entries.fetchAdd(entries, .monotonic);
    }
};

test "threads steal from an owner with a full fence on both sides" {
    ds.setHeavyFence(null);
    var guarded: Guarded = .{};
    try together(&guarded, Guarded.run);
    try testing.expectEqual(guarded.entries.raw, guarded.counter);
}

test "threads steal from an owner who has no fence, through the process-wide barrier" {
    if (!os.Native.barrierSetup()) return error.SkipZigTest;
    ds.setHeavyFence(os.Native.barrier);
    defer ds.setHeavyFence(null);
    var guarded: Guarded = .{};
    try together(&guarded, Guarded.run);
    try testing.expectEqual(guarded.entries.raw, guarded.counter);
}

test "threads lease, wrap, transfer and free through one handle table" {
    const Payload = extern struct { address: u64, uses: u64 };
    const Table = ds.HandleTable(Real, Payload);
    const Shared = struct {
        table: Table,
        /// Plain memory behind each index, handed over by the table alone.
        memory: [entries_max]u64 = @splat(0),
        /// A wrap (index) or a token on its way to another thread; 0 is none.
        wrap: [4]std.atomic.Value(u64) = @splat(.init(0)),
        token: [4]std.atomic.Value(u64) = @splat(.init(0)),
        begun: std.atomic.Value(u64) = .init(0),
        ended: std.atomic.Value(u64) = .init(0),

        const entries_max = 1024;

        fn run(shared: *@This(), thread: u32) void {
            const table = &shared.table;
            var cache: Table.Cache = .{};
            var prng = std.Random.DefaultPrng.init(thread);
            var begun: u64 = 0;
            for (0..rounds / 2) |_| {
                const slot = prng.random().uintLessThan(usize, 4);
                switch (prng.random().uintLessThan(u8, 4)) {
                    0 => {
                        begun += 1;
                        const handle = shared.begin(&cache) orelse continue;
                        if (table.beginFree(handle) catch unreachable == .finished) {
                            shared.end(&cache, Table.indexOf(handle));
                        }
                    },
                    1 => {
                        begun += 1;
                        const handle = shared.begin(&cache) orelse continue;
                        table.addWrap(handle) catch unreachable;
                        const old = shared.wrap[slot].swap(Table.indexOf(handle), .monotonic);
                        if (old != 0) shared.drop(&cache, @intCast(old));
                        // The deallocator may have been first: then the lease is over already.
                        if (table.beginFree(handle)) |freeing| {
                            if (freeing == .finished) @panic("freed under a wrap");
                        } else |_| {}
                    },
                    2 => {
                        const old = shared.wrap[slot].swap(0, .monotonic);
                        if (old != 0) shared.drop(&cache, @intCast(old));
                    },
                    3 => {
                        begun += 1;
                        const handle = shared.begin(&cache) orelse continue;
                        const token = table.toToken(handle, 0) catch @panic("no token");
                        const old = shared.token[slot].swap(token, .monotonic);
                        if (old != 0) shared.adopt(&cache, @intCast(old));
                    },
                    else => unreachable,
                }
            }
            _ = shared.begun.fetchAdd(begun, .monotonic);
            table.drain(&cache);
        }

        fn begin(shared: *@This(), cache: *Table.Cache) ?Table.Handle {
            const index = shared.table.claim(cache) orelse @panic("the table is too small");
            shared.memory[index] += 1;
            shared.table.entry(index).payload = .{ .address = index, .uses = 1 };
            return shared.table.publish(index);
        }

        fn drop(shared: *@This(), cache: *Table.Cache, index: u32) void {
            switch (shared.table.dropWrap(index)) {
                .still => @panic("another wrap"),
                .finished, .leaked => shared.end(cache, index),
            }
        }

        fn adopt(shared: *@This(), cache: *Table.Cache, token: Table.Handle) void {
            const handle = shared.table.adopt(token) catch @panic("a token without its lease");
            const found = shared.table.find(handle) catch unreachable;
            found.payload.uses += 1;
            shared.memory[Table.indexOf(handle)] += 1;
            if (shared.table.beginFree(handle) catch unreachable != .finished) @panic("wraps");
            shared.end(cache, Table.indexOf(handle));
        }

        fn end(shared: *@This(), cache: *Table.Cache, index: u32) void {
            const payload = &shared.table.entry(index).payload;
            if (payload.address != index or payload.uses == 0) @panic("another lease's payload");
            payload.* = .{ .address = 0, .uses = 0 };
            shared.memory[index] += 1;
            shared.table.recycle(cache, index);
            _ = shared.ended.fetchAdd(1, .monotonic);
        }
    };
    const bytes = Table.bytesFor(Shared.entries_max);
    const memory = try testing.allocator.alignedAlloc(u8, .fromByteUnits(64), bytes);
    defer testing.allocator.free(memory);
    @memset(memory, 0);
    var shared: Shared = .{ .table = .init(memory, testing.random_seed) };
    try together(&shared, Shared.run);
    var cache: Table.Cache = .{};
    for (&shared.wrap) |*wrap| if (wrap.raw != 0) shared.drop(&cache, @intCast(wrap.raw));
    for (&shared.token) |*token| if (token.raw != 0) shared.adopt(&cache, @intCast(token.raw));
    try testing.expectEqual(shared.begun.raw, shared.ended.raw);
    for (1..shared.table.end()) |index| {
        try testing.expectEqual(.free, shared.table.peek(@intCast(index)).phase);
    }
}
