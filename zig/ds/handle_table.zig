//! Numbers that name leases: each is accepted while its lease lives, and never again.
//!
//! A handle is generation:29 << 24 | index:24, an integer below 2^53. The index picks an entry of
//! 64 bytes; the entry's word holds wraps:32 | phase:3 | generation:29, so that one
//! compare-and-swap decides each end of a lease and exactly one caller wins it. A *wrap* is one
//! ArrayBuffer that JavaScript may still have over the lease's memory; while there is one, a freed
//! lease is `closing` and its payload stays untouched.
//!
//! Invariant: an index issues each generation at most once. Its generations start at random, go up
//! by one with each end of a lease, each token and each adoption, and shortly before they come
//! round the index is retired. So a table of 2^24 indexes serves 2^53 leases and no number twice.
//!
//! Phases: free -> live -> (closing | token) -> free ... -> retired. An entry outside `live` and
//! `token` that is not closing belongs to whoever took it out: between the call that answered
//! finished or leaked and `recycle`, payload and index are the caller's alone.
//!
//! Cost: find is one load and one compare; a lease and its free together cost one compare-and-swap,
//! two stores and a few loads of the same cache line. Memory is the caller's, lazily touched: 64
//! bytes for each lease that ever lived at the same time as all the others.
//!
//! Threads: every operation from any thread, except that a `Cache` belongs to one thread and the
//! payload of a live lease to whoever owns the handle. dropWrap needs no thread state at all.
//!
//! Not a map: payloads are found by handle only. A walk over all leases (`peek`) is for the end of
//! a thread and for statistics.

const std = @import("std");
const tagged_stack = @import("tagged_stack.zig");

const assert = std.debug.assert;
const none = tagged_stack.none;

/// Bits of a handle that are the index.
pub const index_bits = 24;

/// What a wrong number is told: once issued and over, or never issued (or of another kind).
pub const WrongHandle = error{ Freed, Foreign };

/// Sizes that only tests change.
pub const Shape = struct {
    generation_bits: u6 = 29,
    /// Above this a thread's cache gives its colder half to the shared stack.
    cache_max: u32 = 256,
    /// Indexes taken from the shared stack by one compare-and-swap.
    refill_batch: u32 = 64,
    /// Never-used indexes taken at once: one page of entries.
    fresh_batch: u32 = 64,
};

/// State of an entry.
pub const Phase = enum(u3) { free = 0, live = 1, closing = 2, token = 3, retired = 4, _ };

/// What beginFree did.
pub const Freeing = enum {
    /// The caller owns payload and index, and calls `recycle`.
    finished,
    /// The last dropWrap will finish.
    closing,
};

/// What dropWrap did.
pub const Dropped = enum {
    /// Other wraps or the handle are still there.
    still,
    /// Last wrap of a freed lease: the caller owns payload and index, and calls `recycle`.
    finished,
    /// Last wrap of a lease that nobody freed: as finished, and to be counted as leaked.
    leaked,
};

pub fn HandleTable(comptime Sync: type, comptime Payload: type) type {
    return HandleTableShaped(Sync, Payload, .{});
}

pub fn HandleTableShaped(comptime Sync: type, comptime Payload: type, comptime shape: Shape) type {
    assert(shape.generation_bits >= 4 and shape.generation_bits <= 29);
    assert(shape.cache_max >= 2 and shape.refill_batch >= 1 and shape.fresh_batch >= 1);
    return struct {
        entries: [*]Entry,
        /// Indexes of this table: 1 to capacity - 1; 0 is never issued, so that no handle is 0.
        capacity: u32,
        seed: u64,
        /// First index that was never handed out; may overshoot the capacity.
        fresh: Sync.Atomic(u32),
        retired: Sync.Atomic(u32),
        /// Free indexes of nobody's cache. On its own cache line: the fields above hardly change.
        shared: Shared align(64),

        const Table = @This();
        const Shared = tagged_stack.TaggedStack(Sync);

        pub const Handle = u53;

        /// Operations whose order is stronger than monotonic, for the scheduler's mutation proof
        /// (beside those of the shared stack).
        pub const ordered_sites = [_]@TypeOf(.site){
            .table_publish, .table_find,           .table_wrap,      .table_unwrap,
            .table_free,    .table_free_load,      .table_drop_load, .table_drop,
            .table_token,   .table_end_token_load, .table_adopt,     .table_drop_again,
            .table_peek,
        };

        pub const Entry = extern struct {
            word: Sync.Atomic(u64) align(64),
            /// Next free index while this one is free.
            link: Sync.Atomic(u32),
            /// First generation of this index.
            start: Sync.Atomic(u32),
            /// The thread that answers for the lease, in the caller's own code; written before
            /// publish. Who tidies up after a thread must call `peek` first and read this after it:
            /// the other way round a lease that began in between would pass for the thread's.
            /// For the same reason a lease that becomes a token must stop naming its thread as one
            /// of a live lease before toToken, or its adopter could be tidied away.
            owner: Sync.Atomic(u32),
            spare: u32,
            payload: Payload,
            padding: [payload_bytes_max - @sizeOf(Payload)]u8,
        };

        /// Room for the payload of one entry.
        pub const payload_bytes_max = if (real) 40 else @max(40, @sizeOf(Payload));
        const real = @sizeOf(Sync.Atomic(u64)) == @sizeOf(u64);

        comptime {
            assert(@sizeOf(Payload) <= payload_bytes_max);
            if (real) assert(@sizeOf(Entry) == 64);
        }

        /// Free indexes of one thread: newest first, and a range that was never used.
        pub const Cache = struct {
            first: u32 = none,
            last: u32 = none,
            count: u32 = 0,
            fresh: u32 = 0,
            fresh_end: u32 = 0,
        };

        const generations: u64 = 1 << shape.generation_bits;
        const generation_mask: u32 = @intCast(generations - 1);
        const phase_shift = 29;
        const wrap_one: u64 = 1 << 32;
        /// Kept back so that a lease on an old index can still be transferred a few hundred times.
        const generations_spare: u32 = 1 << (shape.generation_bits / 3);

        /// `memory` is zero, stays mapped as long as the table is used, and is touched lazily.
        pub fn init(memory: []align(64) u8, seed: u64) Table {
            const count = @min(memory.len / @sizeOf(Entry), none);
            return .{
                .entries = @ptrCast(memory.ptr),
                .capacity = @intCast(count),
                .seed = seed,
                .fresh = .init(1),
                .retired = .init(0),
                .shared = .{},
            };
        }

        /// Bytes to reserve for `count` indexes; the full table is `bytesFor(1 << index_bits)`.
        pub fn bytesFor(count: usize) usize {
            return count * @sizeOf(Entry);
        }

        pub inline fn indexOf(handle: Handle) u32 {
            return @intCast(handle & none);
        }

        pub inline fn entry(table: *const Table, index: u32) *Entry {
            assert(index < table.capacity);
            return &table.entries[index];
        }

        /// The links of free indexes, for the shared stack.
        pub fn next(table: *const Table, index: u32) *Sync.Atomic(u32) {
            return &table.entry(index).link;
        }

        // One thread's lease: claim, write the payload, publish; beginFree, read it, recycle.

        /// A free index that nobody else has; null when all are taken or retired. Give it back with
        /// `recycle` if it is not published after all.
        pub inline fn claim(table: *Table, cache: *Cache) ?u32 {
            const index = cache.first;
            if (index == none) {
                @branchHint(.unlikely);
                return table.claimSlow(cache);
            }
            cache.first = table.next(index).load(.monotonic, .table_claim_link);
            cache.count -= 1;
            return index;
        }

        fn claimSlow(table: *Table, cache: *Cache) ?u32 {
            assert(cache.count == 0);
            // Used indexes before fresh ones, so that the table stays small.
            var chain: tagged_stack.Chain = .{};
            if (table.shared.popMany(table, shape.refill_batch, &chain) > 0) {
                cache.first = chain.first;
                cache.last = chain.last;
                cache.count = chain.count;
                return table.claim(cache);
            }
            if (cache.fresh == cache.fresh_end) {
                // Load first: without it callers of a full table would overflow the counter.
                if (table.fresh.load(.monotonic, .table_fresh_load) >= table.capacity) return null;
                const from = table.fresh.fetchAdd(shape.fresh_batch, .monotonic, .table_fresh);
                if (from >= table.capacity) return null;
                cache.fresh = from;
                cache.fresh_end = @min(from + shape.fresh_batch, table.capacity);
            }
            const index = cache.fresh;
            cache.fresh += 1;
            table.start(index);
            return index;
        }

        /// Gives a never-used index its random first generation.
        fn start(table: *Table, index: u32) void {
            const first: u32 = @truncate(mix(table.seed +% index));
            const slot = table.entry(index);
            slot.start.store(first & generation_mask, .monotonic, .table_start);
            slot.word.store(pack(.free, first & generation_mask), .monotonic, .table_start_word);
        }

        /// The index that `claim` would return from the thread's cache, `none` if it has to look
        /// further. Nothing changes until `take`.
        pub inline fn top(cache: *const Cache) u32 {
            return cache.first;
        }

        /// `claim` after a `top` that was not `none`.
        pub inline fn take(table: *const Table, cache: *Cache, index: u32) void {
            cache.first = table.entries[index].link.load(.monotonic, .table_claim_link);
            cache.count -= 1;
        }

        /// Makes a claimed index live; the payload is complete.
        pub inline fn publish(table: *Table, index: u32) Handle {
            const slot = table.entry(index);
            // Exclusive until the store below: nobody changes the word of a free entry.
            const generation = generationOf(slot.word.load(.monotonic, .table_publish_load));
            // Release: pairs with the acquire of find; a thread that was told the number sees the
            // payload.
            slot.word.store(pack(.live, generation), .release, .table_publish);
            return handleOf(index, generation);
        }

        /// The entry of a live handle. The payload may be used as long as nobody ends the lease.
        pub inline fn find(table: *const Table, handle: Handle) WrongHandle!*Entry {
            const index = indexOf(handle);
            if (index >= table.capacity) {
                @branchHint(.unlikely);
                return error.Foreign;
            }
            const slot = table.entry(index);
            // Acquire: pairs with the release of publish.
            const word = slot.word.load(.acquire, .table_find);
            if (@as(u32, @truncate(word)) != pack(.live, generationIn(handle))) {
                @branchHint(.unlikely);
                return table.wrong(handle, word);
            }
            return slot;
        }

        /// Ends the lease for its owner: the number is stale when this returns, whoever wins.
        pub inline fn beginFree(table: *Table, handle: Handle) WrongHandle!Freeing {
            const index = indexOf(handle);
            if (index >= table.capacity) {
                @branchHint(.unlikely);
                return error.Foreign;
            }
            const slot = table.entry(index);
            const generation = generationIn(handle);
            // Acquire: pairs with the release of publish, for `start`, which decides whether the
            // index retires.
            var word = slot.word.load(.acquire, .table_free_load);
            while (@as(u32, @truncate(word)) == pack(.live, generation)) {
                const wrapped = word >= wrap_one;
                const after = if (wrapped)
                    word & ~@as(u64, maxLow) | pack(.closing, generation)
                else
                    ended(slot, generation);
                // Acquire: pairs with the release of dropWrap; what was written through an
                // ArrayBuffer that is gone comes before the next use of the memory.
                // Release: pairs with the acquire of dropWrap; the last one reads our payload.
                word = slot.word.cmpxchg(
                    word,
                    after,
                    .acq_rel,
                    .monotonic,
                    .table_free,
                ) orelse return if (wrapped) .closing else .finished;
            }
            return table.wrong(handle, word);
        }

        /// The common case of `beginFree`: no wrap, and the index has numbers left. True: as
        /// finished. False: nothing has changed, ask `beginFree`.
        pub inline fn endUnwrapped(table: *Table, handle: Handle) bool {
            const index = indexOf(handle);
            if (index >= table.capacity) return false;
            const slot = table.entry(index);
            const generation = generationIn(handle);
            // Acquire: as in beginFree.
            if (slot.word.load(.acquire, .table_free_load) != pack(.live, generation)) return false;
            if (issued(slot, generation) + 1 + generations_spare >= generations) return false;
            const after = pack(.free, (generation +% 1) & generation_mask);
            // As in beginFree, whose sites these are too.
            return slot.word.cmpxchg(
                pack(.live, generation),
                after,
                .acq_rel,
                .monotonic,
                .table_free,
            ) == null;
        }

        /// `recycle` after an `endUnwrapped` that was true: the index has numbers left.
        pub inline fn recycleEnded(table: *Table, own: *Cache, index: u32) void {
            table.entries[index].link.store(own.first, .monotonic, .table_recycle_link);
            if (own.first == none) own.last = index;
            own.first = index;
            own.count += 1;
            if (own.count > shape.cache_max) {
                @branchHint(.unlikely);
                table.spill(own);
            }
        }

        /// Gives an index back: to the thread's cache, or to everyone when there is no thread.
        pub inline fn recycle(table: *Table, cache: ?*Cache, index: u32) void {
            const slot = table.entry(index);
            if (phaseOf(slot.word.load(.monotonic, .table_recycle_load)) == .retired) {
                @branchHint(.unlikely);
                _ = table.retired.fetchAdd(1, .monotonic, .table_retired);
                return;
            }
            table.recycleEnded(cache orelse return table.shared.push(table, index), index);
        }

        /// Gives the colder half of the cache to the shared stack.
        noinline fn spill(table: *Table, cache: *Cache) void {
            const keep = cache.count / 2;
            var last = cache.first;
            for (1..keep) |_| last = table.next(last).load(.monotonic, .table_spill_walk);
            const rest = table.next(last).load(.monotonic, .table_spill_walk);
            table.next(last).store(none, .monotonic, .table_spill_cut);
            table.shared.pushChain(table, rest, cache.last);
            cache.last = last;
            cache.count = keep;
        }

        /// Gives everything in the cache of an ending thread to the others.
        pub fn drain(table: *Table, cache: *Cache) void {
            if (cache.first != none) table.shared.pushChain(table, cache.first, cache.last);
            while (cache.fresh < cache.fresh_end) : (cache.fresh += 1) {
                table.start(cache.fresh);
                table.shared.push(table, cache.fresh);
            }
            cache.* = .{};
        }

        // Wraps: one for each ArrayBuffer over the memory of the lease.

        /// Counts an ArrayBuffer that is about to be made. Owner of the handle.
        pub fn addWrap(table: *Table, handle: Handle) WrongHandle!void {
            // Release: pairs with the acquire of dropWrap; a deallocator that ends a leaked lease
            // reads the payload as it was when the wrap was made.
            _ = try table.changeWraps(handle, 1, .release, .table_wrap);
        }

        /// Takes back a wrap whose ArrayBuffer could not be made: unlike dropWrap it never ends the
        /// lease. False: there was none.
        pub fn cancelWrap(table: *Table, handle: Handle) WrongHandle!bool {
            // Release: as in addWrap; the wrap that is taken back kept the lease from ending, so
            // the owner may have written the payload until now.
            return table.changeWraps(handle, -1, .release, .table_unwrap);
        }

        fn changeWraps(
            table: *Table,
            handle: Handle,
            comptime by: i2,
            comptime order: std.builtin.AtomicOrder,
            comptime site: @TypeOf(.site),
        ) WrongHandle!bool {
            const index = indexOf(handle);
            if (index >= table.capacity) return error.Foreign;
            const slot = table.entry(index);
            var word = slot.word.load(.monotonic, .table_wrap_load);
            while (@as(u32, @truncate(word)) == pack(.live, generationIn(handle))) {
                if (by < 0 and word < wrap_one) return false;
                const after = if (by < 0) word - wrap_one else word + wrap_one;
                word = slot.word.cmpxchg(word, after, order, .monotonic, site) orelse return true;
            }
            return table.wrong(handle, word);
        }

        /// An ArrayBuffer is gone. Called by its deallocator, on any thread, once for each addWrap.
        pub fn dropWrap(table: *Table, index: u32) Dropped {
            const slot = table.entry(index);
            // Acquire: as in beginFree, for `start`.
            var word = slot.word.load(.acquire, .table_drop_load);
            while (true) {
                if (word < wrap_one) {
                    @branchHint(.cold);
                    // The load was older than the addWrap: ask for the newest. Still none: a
                    // deallocator ran twice; do not make it worse.
                    word = slot.word.fetchOr(0, .acquire, .table_drop_again);
                    if (word < wrap_one) return .still;
                }
                const phase = phaseOf(word);
                const last = word < 2 * wrap_one;
                const after = if (last) ended(slot, generationOf(word)) else word - wrap_one;
                // Acquire: pairs with the releases of beginFree (closing) and addWrap: the payload;
                // and with other dropWraps. Release: the last one, or beginFree, comes after what
                // was written through this ArrayBuffer.
                word = slot.word.cmpxchg(
                    word,
                    after,
                    .acq_rel,
                    .monotonic,
                    .table_drop,
                ) orelse {
                    if (!last) return .still;
                    return if (phase == .closing) .finished else .leaked;
                };
            }
        }

        // Parking: a lease ends, but its one ArrayBuffer stays with the caller for the next lease.

        /// Ends a lease whose only wrap the caller keeps: the handle is stale at once, payload and
        /// memory stay for `revive` or for the wrap's dropWrap. False: it has none or several wraps,
        /// nothing has changed.
        pub fn park(table: *Table, handle: Handle) WrongHandle!bool {
            const index = indexOf(handle);
            if (index >= table.capacity) return error.Foreign;
            const slot = table.entry(index);
            const generation = generationIn(handle);
            const parked = wrap_one | pack(.closing, generation);
            // Acquire and release: as in beginFree, of which this is the closing half.
            const seen = slot.word.cmpxchg(
                wrap_one | pack(.live, generation),
                parked,
                .acq_rel,
                .acquire,
                .table_park,
            ) orelse return true;
            if (@as(u32, @truncate(seen)) == pack(.live, generation)) return false;
            return table.wrong(handle, seen);
        }

        /// Makes a parked lease live again under a number of its own; the caller holds its wrap. 0:
        /// the index has no numbers left, the caller drops the wrap instead.
        pub fn revive(table: *Table, index: u32) Handle {
            const slot = table.entry(index);
            const word = slot.word.load(.monotonic, .table_revive_load);
            const generation = generationOf(word);
            if (phaseOf(word) != .closing or word >> 32 != 1) return 0;
            if (issued(slot, generation) + 2 + generations_spare >= generations) return 0;
            const after = (generation +% 1) & generation_mask;
            // Release: pairs with the acquire of find, as publish does. Nobody else changes the word
            // of a parked entry while its one wrap is held.
            _ = slot.word.cmpxchg(
                word,
                wrap_one | pack(.live, after),
                .release,
                .monotonic,
                .table_revive,
            ) orelse return handleOf(index, after);
            return 0;
        }

        // Transfer: the lease becomes a token, and the token one new lease.

        /// Turns a lease into a token with a number of its own; the handle is stale at once. `held`
        /// is the number of wraps that the caller itself holds and that end here; more: Busy.
        /// Exhausted: the index has no numbers left for it (after some 2^29 leases).
        pub fn toToken(
            table: *Table,
            handle: Handle,
            held: u32,
        ) (WrongHandle || error{ Busy, Exhausted })!Handle {
            const index = indexOf(handle);
            if (index >= table.capacity) return error.Foreign;
            const slot = table.entry(index);
            const generation = generationIn(handle);
            var word = slot.word.load(.monotonic, .table_token_load);
            while (@as(u32, @truncate(word)) == pack(.live, generation)) {
                if (word >> 32 > held) return error.Busy;
                if (issued(slot, generation) + 2 >= generations) return error.Exhausted;
                const after = (generation +% 1) & generation_mask;
                // Release: pairs with the acquire of adopt and endToken, which take the payload
                // over. What earlier dropWraps released travels along: this continues their
                // release sequence.
                word = slot.word.cmpxchg(
                    word,
                    pack(.token, after),
                    .release,
                    .monotonic,
                    .table_token,
                ) orelse return handleOf(index, after);
            }
            return table.wrong(handle, word);
        }

        /// Turns a token into a lease with a number of its own; of several callers one wins.
        pub fn adopt(table: *Table, token: Handle) WrongHandle!Handle {
            const after = (generationIn(token) +% 1) & generation_mask;
            // Acquire: pairs with the release of toToken.
            try table.takeToken(token, pack(.live, after), .acquire, .table_adopt);
            return handleOf(indexOf(token), after);
        }

        /// Ends a token that nobody adopted: the caller owns payload and index, and calls
        /// `recycle`.
        pub fn endToken(table: *Table, token: Handle) WrongHandle!void {
            if (indexOf(token) >= table.capacity) return error.Foreign;
            const slot = table.entry(indexOf(token));
            // Acquire: pairs with the release of toToken, for the payload, and for `start` as in
            // beginFree. The swap sees the same word again.
            const word = slot.word.load(.acquire, .table_end_token_load);
            if (word != pack(.token, generationIn(token))) return table.wrong(token, word);
            const after = ended(slot, generationIn(token));
            try table.takeToken(token, after, .monotonic, .table_end_token);
        }

        fn takeToken(
            table: *Table,
            token: Handle,
            after: u64,
            comptime order: std.builtin.AtomicOrder,
            comptime site: @TypeOf(.site),
        ) WrongHandle!void {
            const index = indexOf(token);
            if (index >= table.capacity) return error.Foreign;
            const slot = table.entry(index);
            // A token has no wraps, so its word is known and one attempt decides.
            const before: u64 = pack(.token, generationIn(token));
            const seen = slot.word.cmpxchg(before, after, order, .monotonic, site) orelse return;
            return table.wrong(token, seen);
        }

        // Looking at all.

        /// What an index is doing at this moment.
        pub const Peek = struct { phase: Phase, handle: Handle, wraps: u32 };

        /// State of any index below `end()`; another thread may change it at once, so act on it
        /// only by a call that takes the handle.
        pub fn peek(table: *const Table, index: u32) Peek {
            // Acquire: pairs with the release of publish; the caller reads `owner`.
            const word = table.entry(index).word.load(.acquire, .table_peek);
            return .{
                .phase = phaseOf(word),
                .handle = handleOf(index, generationOf(word)),
                .wraps = @intCast(word >> 32),
            };
        }

        /// One past the last index ever handed out; the first is 1.
        pub fn end(table: *const Table) u32 {
            return @min(table.fresh.load(.monotonic, .table_end), table.capacity);
        }

        /// Indexes whose numbers are used up.
        pub fn retiredCount(table: *const Table) u32 {
            return table.retired.load(.monotonic, .table_retired_load);
        }

        // Words and numbers.

        const maxLow = std.math.maxInt(u32);

        inline fn pack(phase: Phase, generation: u32) u32 {
            return @as(u32, @intFromEnum(phase)) << phase_shift | generation;
        }

        inline fn phaseOf(word: u64) Phase {
            return @enumFromInt(@as(u3, @truncate(word >> phase_shift)));
        }

        inline fn generationOf(word: u64) u32 {
            return @as(u32, @truncate(word)) & (1 << phase_shift) - 1;
        }

        inline fn generationIn(handle: Handle) u32 {
            return @intCast(handle >> index_bits);
        }

        inline fn handleOf(index: u32, generation: u32) Handle {
            return @as(Handle, generation) << index_bits | index;
        }

        /// How many generations the index has issued before `generation`.
        inline fn issued(slot: *const Entry, generation: u32) u32 {
            return (generation -% slot.start.load(.monotonic, .table_start_load)) & generation_mask;
        }

        /// The word after the end of a lease: the next generation, or none any more.
        inline fn ended(slot: *const Entry, generation: u32) u64 {
            if (issued(slot, generation) + 1 + generations_spare >= generations) {
                @branchHint(.unlikely);
                return pack(.retired, generation);
            }
            return pack(.free, (generation +% 1) & generation_mask);
        }

        /// Why a number was refused by the word seen.
        fn wrong(table: *const Table, handle: Handle, word: u64) WrongHandle {
            @branchHint(.cold);
            const index = indexOf(handle);
            const generation = generationIn(handle);
            if (index == 0 or index >= table.end() or generation > generation_mask) {
                return error.Foreign;
            }
            const slot = table.entry(index);
            const asked = issued(slot, generation);
            const now = issued(slot, generationOf(word));
            if (asked != now) return if (asked < now) error.Freed else error.Foreign;
            return switch (phaseOf(word)) {
                .closing, .retired => error.Freed,
                // Not issued yet; or issued, but as the other kind of number.
                else => error.Foreign,
            };
        }
    };
}

/// A bijection of 64 bits with good avalanche (two rounds of multiply and xor-shift), so that the
/// first generations of neighbours tell nothing about each other.
fn mix(value: u64) u64 {
    var bits = value +% 0x9E37_79B9_7F4A_7C15;
    bits = (bits ^ bits >> 32) *% 0xD6E8_FEB8_6659_FD93;
    bits = (bits ^ bits >> 32) *% 0xD6E8_FEB8_6659_FD93;
    return bits ^ bits >> 32;
}

const testing = std.testing;
const Real = @import("atomic.zig").Real;
const TestPayload = extern struct { address: u64, bytes: u64, more: [24]u8 };
const TestTable = HandleTable(Real, TestPayload);

var test_memory: [64 * 1024]u8 align(64) = undefined;

fn testTable(comptime Table: type, count: usize) Table {
    const memory = test_memory[0 .. count * 64];
    @memset(memory, 0);
    return .init(memory, 42);
}

test "a handle is good until it is freed, and never after" {
    var table = testTable(TestTable, 100);
    var cache: TestTable.Cache = .{};
    const index = table.claim(&cache).?;
    table.entry(index).payload.address = 7;
    const handle = table.publish(index);
    try testing.expectEqual(7, (try table.find(handle)).payload.address);
    try testing.expectEqual(.finished, try table.beginFree(handle));
    try testing.expectError(error.Freed, table.find(handle));
    try testing.expectError(error.Freed, table.beginFree(handle));
    table.recycle(&cache, index);

    // The same index again: the old number stays dead.
    try testing.expectEqual(index, table.claim(&cache).?);
    const second = table.publish(index);
    try testing.expect(second != handle);
    try testing.expectError(error.Freed, table.find(handle));
    _ = try table.find(second);
    // The number that will come next is not good yet.
    try testing.expectError(error.Foreign, table.find(second + (1 << index_bits)));
    try testing.expectError(error.Foreign, table.find(0));
    try testing.expectError(error.Foreign, table.find(50));
    try testing.expectError(error.Foreign, table.find(none));
    try testing.expectError(error.Foreign, table.find(std.math.maxInt(u53)));
}

test "a freed lease closes until its last wrap is gone" {
    var table = testTable(TestTable, 100);
    var cache: TestTable.Cache = .{};
    const index = table.claim(&cache).?;
    const handle = table.publish(index);
    try table.addWrap(handle);
    try table.addWrap(handle);
    try testing.expectEqual(.closing, try table.beginFree(handle));
    try testing.expectError(error.Freed, table.beginFree(handle));
    try testing.expectError(error.Freed, table.addWrap(handle));
    try testing.expectEqual(.closing, table.peek(index).phase);
    try testing.expectEqual(.still, table.dropWrap(index));
    try testing.expectEqual(.finished, table.dropWrap(index));
    try testing.expectError(error.Freed, table.find(handle));
    table.recycle(null, index);
    try testing.expectEqual(index, table.claim(&cache).?);
}

test "the last wrap of a lease that nobody freed ends it as leaked" {
    var table = testTable(TestTable, 100);
    var cache: TestTable.Cache = .{};
    const index = table.claim(&cache).?;
    const handle = table.publish(index);
    try table.addWrap(handle);
    try table.addWrap(handle);
    try testing.expect(try table.cancelWrap(handle));
    try testing.expectEqual(.leaked, table.dropWrap(index));
    try testing.expectError(error.Freed, table.beginFree(handle));
    table.recycle(&cache, index);

    const again = table.publish(table.claim(&cache).?);
    try table.addWrap(again);
    try testing.expect(try table.cancelWrap(again));
    try testing.expect(!try table.cancelWrap(again));
    _ = try table.find(again);
}

test "a token is adopted once, under a new number" {
    var table = testTable(TestTable, 100);
    var cache: TestTable.Cache = .{};
    const index = table.claim(&cache).?;
    const handle = table.publish(index);
    try table.addWrap(handle);
    try testing.expectError(error.Busy, table.toToken(handle, 0));
    const token = try table.toToken(handle, 1);
    try testing.expectError(error.Freed, table.find(handle));
    try testing.expectError(error.Foreign, table.find(token));
    try testing.expectError(error.Foreign, table.beginFree(token));
    try testing.expectError(error.Freed, table.adopt(handle));
    const adopted = try table.adopt(token);
    try testing.expect(adopted != token and adopted != handle);
    try testing.expectError(error.Freed, table.adopt(token));
    try testing.expectError(error.Foreign, table.adopt(adopted));
    try testing.expectEqual(.finished, try table.beginFree(adopted));
    table.recycle(&cache, index);

    const other = try table.toToken(table.publish(table.claim(&cache).?), 0);
    try table.endToken(other);
    try testing.expectError(error.Freed, table.endToken(other));
    try testing.expectError(error.Freed, table.adopt(other));
}

test "an index retires before its numbers come round, and each number was issued once" {
    const Small = HandleTableShaped(Real, TestPayload, .{ .generation_bits = 8 });
    var table = testTable(Small, 2);
    var cache: Small.Cache = .{};
    var seen: [256]bool = @splat(false);
    var first: ?u53 = null;
    var leases: u32 = 0;
    while (table.claim(&cache)) |index| : (leases += 1) {
        const handle = table.publish(index);
        if (first == null) first = handle;
        try testing.expect(!seen[@intCast(handle >> index_bits)]);
        seen[@intCast(handle >> index_bits)] = true;
        try testing.expectEqual(.finished, try table.beginFree(handle));
        table.recycle(&cache, index);
        try testing.expectError(error.Freed, table.find(first.?));
    }
    // 256 less the spare ones kept for transfers.
    try testing.expectEqual(256 - 4, leases);
    try testing.expectEqual(1, table.retiredCount());
    try testing.expectError(error.Freed, table.find(first.?));
}

test "a lease on the last numbers of an index can be transferred until they run out" {
    const Small = HandleTableShaped(Real, TestPayload, .{ .generation_bits = 4 });
    var table = testTable(Small, 2);
    var cache: Small.Cache = .{};
    var handle = table.publish(table.claim(&cache).?);
    var transfers: u32 = 0;
    while (table.toToken(handle, 0)) |token| : (transfers += 1) {
        handle = try table.adopt(token);
    } else |wrong| try testing.expectEqual(error.Exhausted, wrong);
    try testing.expectEqual(7, transfers);
    _ = try table.find(handle);
    try testing.expectEqual(.finished, try table.beginFree(handle));
    table.recycle(&cache, Small.indexOf(handle));
    try testing.expectEqual(1, table.retiredCount());
    try testing.expectEqual(null, table.claim(&cache));
}

test "a full cache spills to the others, and an ending thread leaves nothing behind" {
    var table = testTable(TestTable, 1001);
    var one: TestTable.Cache = .{};
    var two: TestTable.Cache = .{};
    for (0..2) |_| {
        var taken: u32 = 0;
        var all: [1000]u32 = undefined;
        while (table.claim(&one)) |index| : (taken += 1) all[taken] = index;
        try testing.expectEqual(1000, taken);
        for (all) |index| {
            _ = try table.beginFree(table.publish(index));
            table.recycle(&one, index);
        }
        try testing.expect(one.count <= 256);
        try testing.expect(!table.shared.isEmpty());
        table.drain(&one);
        for (0..1000) |_| try testing.expect(table.claim(&two) != null);
        try testing.expectEqual(null, table.claim(&two));
        for (all) |index| table.recycle(null, index);
    }
    // Fresh indexes of a cache go over too.
    var other = testTable(TestTable, 100);
    _ = other.claim(&one).?;
    other.drain(&one);
    var taken: u32 = 0;
    var cache: TestTable.Cache = .{};
    while (other.claim(&cache)) |_| taken += 1;
    try testing.expectEqual(98, taken);
}

test "a parked lease is stale, revives under another number, and ends with its wrap" {
    var memory: [64 * 16]u8 align(64) = @splat(0);
    const Small = HandleTable(Real, extern struct { value: u64 });
    var table: Small = .init(&memory, 7);
    var cache: Small.Cache = .{};
    const index = table.claim(&cache).?;
    table.entry(index).payload.value = 5;
    const first = table.publish(index);
    try testing.expect(!try table.park(first));
    try table.addWrap(first);
    try testing.expect(try table.park(first));
    try testing.expectError(error.Freed, table.find(first));
    try testing.expectError(error.Freed, table.park(first));
    const second = table.revive(index);
    try testing.expect(second != 0 and second != first);
    try testing.expectEqual(5, (try table.find(second)).payload.value);
    try testing.expectEqual(0, table.revive(index));
    try table.addWrap(second);
    try testing.expect(!try table.park(second));
    try testing.expectEqual(.still, table.dropWrap(index));
    try testing.expect(try table.park(second));
    try testing.expectEqual(.finished, table.dropWrap(index));
    try testing.expectError(error.Freed, table.find(second));
}
