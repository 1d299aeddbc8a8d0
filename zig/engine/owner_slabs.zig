//! The owner slabs of a process: a table from numbers to slabs, so that any thread can name one, and
//! none can name one that is gone.
//!
//! An entry counts who holds its slab: the owner, each ArrayBuffer over its memory, each native remote.
//! The owner's part ends when it closes the slab or its thread ends; the memory goes with the last of
//! the others, on whichever thread that is. A slab on its way to another owner is a token: it goes on
//! taking remote frees, and of all adopters one wins.
//!
//! Invariant: whoever reads an entry's slab holds a reference, or is its owner. A number that is over
//! is never of another slab: its generation is another.
//!
//! Cost: a load and a compare to find a slab; the table is made at first use. Threads: any, except that
//! an owner's calls are the owner's.
//!
//! When not: Zig programs use heap.OwnerSlab itself.

const std = @import("std");
const ds = @import("../ds/ds.zig");
const heap = @import("../heap/heap.zig");
const types = @import("types.zig");

const Sync = ds.Real;
const Status = types.Status;

const slabs_max = 4096;
const index_bits = 12;
/// Numbers stay below 2^31, which JavaScript passes cheaply.
const generation_max = (1 << 19) - 1;
/// Generations that slots begin with: small, and different from slab to slab.
const starts = 61;
/// Slots that one push takes along.
const many_max = 64;
const phase_bits = 2;
/// Slots of the largest slab that an ABI call names.
const f64_exact: f64 = 1 << 53;

pub const Slab = heap.OwnerSlab(Sync);

pub fn OwnerSlabs(comptime Engine: type) type {
    return struct {
        entries: Sync.Atomic(?[*]Entry) = .init(null),
        top: Sync.Atomic(u32) = .init(0),
        made: Sync.Atomic(u32) = .init(0),

        const Self = @This();
        const Phase = enum(u32) { free = 0, owned = 1, token = 2, closed = 3 };
        const entries_bytes = slabs_max * @sizeOf(Entry);

        const Entry = struct {
            /// Generation and phase.
            word: Sync.Atomic(u32) align(64),
            refs: Sync.Atomic(u32),
            /// Word of the owner's thread.
            owner: Sync.Atomic(u32),
            /// Times that the slab became a token.
            tokens: Sync.Atomic(u32),
            slab: Sync.Atomic(?*Slab),
        };

        inline fn engineOf(self: *Self) *Engine {
            return @alignCast(@fieldParentPtr("slabs", self));
        }

        // ---- the table

        fn table(self: *Self) ?[*]Entry {
            if (self.entries.load(.acquire, .slabs)) |entries| return entries;
            const memory = self.engineOf().table.metadata(entries_bytes) orelse return null;
            const fresh: [*]Entry = @ptrCast(@alignCast(memory));
            if (self.entries.cmpxchg(null, fresh, .acq_rel, .acquire, .slabs)) |other| {
                self.engineOf().table.release(memory, entries_bytes);
                return other;
            }
            return fresh;
        }

        /// Gives all slabs back; for engines of tests.
        pub fn deinit(self: *Self) void {
            const entries = self.entries.load(.acquire, .slabs) orelse return;
            for (entries[0..self.top.load(.monotonic, .slabs_top)]) |*entry| {
                if (entry.refs.load(.monotonic, .slab_refs) == 0) continue;
                if (entry.slab.load(.monotonic, .slab_pointer)) |slab| _ = slab.release(null);
            }
            self.engineOf().table.release(@ptrCast(entries), entries_bytes);
        }

        inline fn numberOf(index: u32, word: u32) u32 {
            return (word >> phase_bits) << index_bits | index;
        }

        inline fn phaseOf(word: u32) Phase {
            return @enumFromInt(word & 3);
        }

        fn wordOf(generation: u32, phase: Phase) u32 {
            return generation << phase_bits | @intFromEnum(phase);
        }

        /// The entry of a number that is not over.
        noinline fn entryOf(self: *Self, id: u32) ?*Entry {
            const entries = self.entries.load(.acquire, .slabs) orelse return null;
            if (self.engineOf().isForked()) return null;
            const index = id & (slabs_max - 1);
            if (index >= self.top.load(.monotonic, .slabs_top)) return null;
            const entry = &entries[index];
            // Acquire: pairs with the release in `create`, so that the slab is seen whole.
            const word = entry.word.load(.acquire, .slab_word);
            if (phaseOf(word) == .free or numberOf(index, word) != id) return null;
            return entry;
        }

        /// What a number without a slab is answered.
        fn gone(self: *Self) Status {
            return if (self.engineOf().isForked()) .forked else .closed;
        }

        /// The slab of a number, for who holds a reference to it.
        pub inline fn find(self: *Self, id: u32) ?*Slab {
            const entry = self.entryOf(id) orelse return null;
            return entry.slab.load(.monotonic, .slab_pointer);
        }

        /// The slab, if the calling thread owns it.
        noinline fn owned(self: *Self, thread: u32, id: u32) ?*Slab {
            const entry = self.entryOf(id) orelse return null;
            if (phaseOf(entry.word.load(.monotonic, .slab_word)) != .owned) return null;
            if (entry.owner.load(.monotonic, .slab_owner) != self.engineOf().ownerWord(thread)) return null;
            return entry.slab.load(.monotonic, .slab_pointer);
        }

        fn isOwner(self: *Self, thread: u32, id: u32) bool {
            return self.engineOf().threadAt(thread) != null and self.owned(thread, id) != null;
        }

        // ---- making and ending

        pub fn create(self: *Self, thread: u32, from: *const types.SlabOptions) f64 {
            const engine = self.engineOf();
            if (engine.isForked()) return status(.forked);
            if (!engine.ensureReady()) return status(.out_of_memory);
            if (engine.threadAt(thread) == null) return status(.foreign);
            var options: heap.SlabOptions = .{
                .slot_bytes = small(from.slot_bytes) orelse return status(.out_of_range),
                .alignment = small(from.alignment) orelse return status(.out_of_range),
                .capacity = small(from.capacity) orelse return status(.out_of_range),
                .capacity_max = small(from.capacity_max) orelse return status(.out_of_range),
                .batch = if (from.batch == 0) .adaptive else .{ .fixed = from.batch },
                .queue_capacity = if (from.queue_capacity < 0) null else small(@min(from.queue_capacity, 1 << 24)),
                .leases = from.leases != 0,
            };
            options.generation_start = 1 + self.made.fetchAdd(1, .monotonic, .slabs_made) % starts;
            if (!Slab.isValid(options)) return status(.out_of_range);
            const backend = if (from.pool == 0)
                heap.SystemBackend(Engine.System).backend
            else
                heap.PoolBackend(Engine.Pool).of(engine.poolOf(from.pool) orelse return status(.closed));
            const entry = self.claim() orelse return status(.limit);
            const slab = Slab.create(backend, thread, options) orelse {
                entry.refs.store(0, .release, .slab_refs);
                return status(.out_of_memory);
            };
            const index = self.indexOf(entry);
            entry.slab.store(slab, .monotonic, .slab_pointer);
            entry.owner.store(engine.ownerWord(thread), .monotonic, .slab_owner);
            const generation = (entry.word.load(.monotonic, .slab_word) >> phase_bits) + 1;
            const word = wordOf(generation, .owned);
            // Release: pairs with the acquire in `entryOf`.
            entry.word.store(word, .release, .slab_word);
            return @floatFromInt(numberOf(index, word));
        }

        /// A free entry, with the owner's reference.
        fn claim(self: *Self) ?*Entry {
            const entries = self.table() orelse return null;
            for (entries[0..slabs_max], 0..) |*entry, i| {
                const word = entry.word.load(.monotonic, .slab_word);
                if (phaseOf(word) != .free or word >> phase_bits == generation_max) continue;
                // Acquire: pairs with the release in `drop`, whose slab is gone by then.
                if (entry.refs.cmpxchg(0, 1, .acquire, .monotonic, .slab_refs) != null) continue;
                // Dropped in between, and taken and dropped again: still free, for the word says so.
                if (phaseOf(entry.word.load(.monotonic, .slab_word)) != .free) {
                    entry.refs.store(0, .release, .slab_refs);
                    continue;
                }
                const top: u32 = @intCast(i + 1);
                var seen = self.top.load(.monotonic, .slabs_top);
                while (seen < top) seen = self.top.cmpxchg(seen, top, .monotonic, .monotonic, .slabs_top) orelse break;
                return entry;
            }
            return null;
        }

        fn indexOf(self: *Self, entry: *const Entry) u32 {
            const entries = self.entries.load(.acquire, .slabs).?;
            return @intCast((@intFromPtr(entry) - @intFromPtr(entries)) / @sizeOf(Entry));
        }

        /// One reference more, for an ArrayBuffer or a native remote.
        pub fn retain(self: *Self, id: u32) Status {
            if (self.engineOf().isForked()) return .forked;
            const entry = self.entryOf(id) orelse return self.gone();
            var refs = entry.refs.load(.monotonic, .slab_refs);
            while (refs != 0) {
                // Acquire: pairs with the release in `drop`, so that a word of another slab is seen.
                refs = entry.refs.cmpxchg(refs, refs + 1, .acquire, .monotonic, .slab_refs) orelse {
                    if (numberOf(self.indexOf(entry), entry.word.load(.monotonic, .slab_word)) == id and
                        phaseOf(entry.word.load(.monotonic, .slab_word)) != .free) return .ok;
                    self.drop(entry);
                    return .closed;
                };
            }
            return .closed;
        }

        pub fn release(self: *Self, id: u32) Status {
            self.drop(self.entryOf(id) orelse return self.gone());
            return .ok;
        }

        /// An ArrayBuffer over the slab is gone. Any thread, without thread-local state.
        pub fn dropped(self: *Self, context: usize) void {
            const entries = self.entries.load(.acquire, .slabs) orelse return;
            if (context == 0 or context > slabs_max) return;
            self.drop(&entries[context - 1]);
        }

        pub fn contextOf(id: u32) u32 {
            return (id & (slabs_max - 1)) + 1;
        }

        noinline fn drop(self: *Self, entry: *Entry) void {
            _ = self;
            // Release and acquire: all that any holder did with the memory comes before its end.
            if (entry.refs.fetchSub(1, .acq_rel, .slab_refs) != 1) return;
            // From nothing nobody retains, and only a free entry is claimed.
            const slab = entry.slab.load(.monotonic, .slab_pointer);
            entry.slab.store(null, .monotonic, .slab_pointer);
            if (slab) |memory| _ = memory.release(null);
            const generation = entry.word.load(.monotonic, .slab_word) >> phase_bits;
            // Release: pairs with the acquire of the next `claim`.
            entry.word.store(wordOf(generation, .free), .release, .slab_word);
        }

        /// Ends the owner's part: once, by whoever moves the phase on.
        fn end(self: *Self, entry: *Entry, from: Phase) bool {
            const word = entry.word.load(.monotonic, .slab_word);
            if (phaseOf(word) != from) return false;
            const closed = wordOf(word >> phase_bits, .closed);
            // Acquire: pairs with the release in `transfer`, whose owner's work comes before this.
            if (entry.word.cmpxchg(word, closed, .acquire, .monotonic, .slab_word) != null) return false;
            const slab = entry.slab.load(.monotonic, .slab_pointer).?;
            slab.close();
            self.engineOf().wakeSlab(slab);
            self.drop(entry);
            return true;
        }

        /// Closes what the thread owns.
        pub fn threadEnded(self: *Self, word: u32) void {
            const entries = self.entries.load(.acquire, .slabs) orelse return;
            for (entries[0..self.top.load(.monotonic, .slabs_top)]) |*entry| {
                if (entry.owner.load(.monotonic, .slab_owner) == word) _ = self.end(entry, .owned);
            }
        }

        /// Closes slabs whose tokens nobody has adopted, and whose threads are gone.
        pub fn reclaimTokens(self: *Self) void {
            const entries = self.entries.load(.acquire, .slabs) orelse return;
            for (entries[0..self.top.load(.monotonic, .slabs_top)]) |*entry| {
                if (phaseOf(entry.word.load(.monotonic, .slab_word)) != .token) continue;
                if (!self.engineOf().ownerGone(entry.owner.load(.monotonic, .slab_owner))) continue;
                _ = self.end(entry, .token);
            }
        }

        pub fn pendingTokens(self: *Self) u32 {
            const entries = self.entries.load(.acquire, .slabs) orelse return 0;
            var count: u32 = 0;
            for (entries[0..self.top.load(.monotonic, .slabs_top)]) |*entry| {
                count += @intFromBool(phaseOf(entry.word.load(.monotonic, .slab_word)) == .token);
            }
            return count;
        }

        pub fn close(self: *Self, thread: u32, id: u32) Status {
            if (!self.isOwner(thread, id)) return self.gone();
            const entry = self.entryOf(id) orelse return self.gone();
            return if (self.end(entry, .owned)) .ok else .closed;
        }

        /// The owner's part as a number for another thread: how often, and which.
        pub fn transfer(self: *Self, thread: u32, id: u32) f64 {
            if (!self.isOwner(thread, id)) return status(self.gone());
            const entry = self.entryOf(id) orelse return status(self.gone());
            const count = (entry.tokens.load(.monotonic, .slab_tokens) + 1) & 0x1FFFFF;
            entry.tokens.store(count, .monotonic, .slab_tokens);
            const word = entry.word.load(.monotonic, .slab_word);
            // Release: pairs with the acquire in `adopt`: the owner's lists go with the token.
            entry.word.store(wordOf(word >> phase_bits, .token), .release, .slab_word);
            return @floatFromInt(@as(u64, count) << 32 | id);
        }

        /// The slab's number, to the one who adopts it first.
        pub fn adopt(self: *Self, thread: u32, token: f64) f64 {
            const engine = self.engineOf();
            if (engine.isForked()) return status(.forked);
            if (engine.threadAt(thread) == null) return status(.foreign);
            if (!(token >= 0 and token < f64_exact)) return status(.foreign);
            const packed_token: u64 = @intFromFloat(token);
            const id: u32 = @truncate(packed_token);
            const entry = self.entryOf(id) orelse return status(.freed);
            if (entry.tokens.load(.monotonic, .slab_tokens) != packed_token >> 32) return status(.freed);
            const word = entry.word.load(.monotonic, .slab_word);
            if (phaseOf(word) != .token) return status(.freed);
            // Acquire: pairs with the release in `transfer`. Closed first: between the two words nobody
            // may take the slab for one whose owner is gone.
            const between = wordOf(word >> phase_bits, .closed);
            if (entry.word.cmpxchg(word, between, .acquire, .monotonic, .slab_word) != null) return status(.freed);
            entry.owner.store(engine.ownerWord(thread), .monotonic, .slab_owner);
            entry.word.store(wordOf(word >> phase_bits, .owned), .release, .slab_word);
            return @floatFromInt(id);
        }

        // ---- the owner

        /// Slots that are ready for the owner; LIMIT if all are taken.
        pub fn refill(self: *Self, thread: u32, id: u32) i32 {
            const slab = self.owned(thread, id) orelse return @intFromEnum(Status.closed);
            const ready = slab.refill(thread);
            return if (ready == 0) @intFromEnum(Status.limit) else @intCast(ready);
        }

        /// As `refill`, after the operations between two looks at the queue.
        pub fn alloc(self: *Self, thread: u32, id: u32) f64 {
            const slab = self.owned(thread, id) orelse return status(self.gone());
            return @floatFromInt(slab.numberOf(slab.alloc(thread) orelse return status(.limit)));
        }

        pub fn free(self: *Self, thread: u32, id: u32, slot: f64) Status {
            const slab = self.owned(thread, id) orelse return self.gone();
            slab.free(whole(slot)) catch |err| return wrong(err);
            return .ok;
        }

        pub fn drain(self: *Self, thread: u32, id: u32) f64 {
            const slab = self.owned(thread, id) orelse return status(self.gone());
            return @floatFromInt(slab.drain());
        }

        /// Sleeps until a slot is there, at most this long: ok, or BUSY when there is none.
        pub fn wait(self: *Self, thread: u32, id: u32, timeout_ms: u32) Status {
            const slab = self.owned(thread, id) orelse return self.gone();
            if (slab.refill(thread) > 0) return .ok;
            if (slab.fallAsleep()) |value| {
                Engine.System.wait(&slab.bell.raw, value, @as(u64, timeout_ms) * std.time.ns_per_ms);
                slab.wokeUp();
            }
            return if (slab.refill(thread) > 0) .ok else .busy;
        }

        // ---- everyone

        /// Frees a slot from any thread; the owner's own goes straight to its list.
        pub fn freeRemote(self: *Self, thread: u32, id: u32, slot: f64) Status {
            const slab = self.find(id) orelse return self.gone();
            const number = whole(slot);
            switch (slab.freeRemote(number)) {
                .done => return .ok,
                .done_wake => {
                    self.engineOf().wakeSlab(slab);
                    return .ok;
                },
                .full => {
                    // The owner that waited for itself would wait for ever.
                    if (ds.fault("owner-waits-for-itself") or self.owned(thread, id) == null) return .busy;
                    slab.free(number) catch |err| return wrong(err);
                    return .ok;
                },
                .closed => return .closed,
                .double_free => return .double_free,
                .foreign => return .foreign,
            }
        }

        /// Frees slots in their order; how many until one was refused.
        pub fn freeMany(self: *Self, thread: u32, id: u32, slots: []const f64) u32 {
            const slab = self.find(id) orelse return 0;
            var numbers: [many_max]u64 = undefined;
            var done: u32 = 0;
            while (done < slots.len) {
                const part = slots[done..@min(slots.len, done + many_max)];
                for (part, numbers[0..part.len]) |slot, *number| number.* = whole(slot);
                const freed = slab.freeRemoteMany(numbers[0..part.len]);
                done += freed.count;
                if (freed.woken) self.engineOf().wakeSlab(slab);
                if (freed.outcome == .done) continue;
                // An owner's own goes straight to its list.
                if (freed.outcome != .full or self.freeRemote(thread, id, slots[done]) != .ok) return done;
                done += 1;
            }
            return done;
        }

        /// Says that a thread holds a slot; 0: the calling one.
        pub fn hold(self: *Self, thread: u32, id: u32, slot: f64, holder: u32) Status {
            const slab = self.find(id) orelse return self.gone();
            if (slab.holders == null) return .unsupported;
            const who = if (holder == 0) self.holderOf(thread) else holder;
            return if (slab.hold(whole(slot), who)) .ok else .freed;
        }

        pub fn holderOf(self: *Self, thread: u32) u32 {
            return self.engineOf().ownerWord(thread) + 1;
        }

        /// The next slot, from index `from` on, of that holder; 0: of any whose thread is gone.
        pub fn held(self: *Self, thread: u32, id: u32, from: u32, holder: u32) f64 {
            const slab = self.owned(thread, id) orelse return status(self.gone());
            if (slab.holders == null) return status(.unsupported);
            const Wanted = struct {
                engine: *Engine,
                holder: u32,
                fn is(wanted: @This(), found: u32) bool {
                    if (wanted.holder != 0) return found == wanted.holder;
                    return wanted.engine.ownerGone(found - 1);
                }
            };
            const next = slab.nextHeld(from, Wanted{ .engine = self.engineOf(), .holder = holder }, Wanted.is);
            return @floatFromInt(next);
        }

        // ---- what JavaScript looks at

        pub fn info(self: *Self, id: u32, out: *types.SlabInfo) Status {
            const slab = self.find(id) orelse return self.gone();
            const base = @intFromPtr(slab);
            out.* = .{
                .address = @floatFromInt(slab.segmentAddress(0).?),
                .meta_address = @floatFromInt(base),
                .states_offset = @floatFromInt(@intFromPtr(slab.states) - base),
                .stack_offset = @floatFromInt(@intFromPtr(slab.stack) - base),
                .marks_offset = @floatFromInt(@intFromPtr(slab.marks.blocks) - base),
                .stride = @floatFromInt(slab.stride),
                .segment_slots = if (slab.single != 0)
                    @floatFromInt(slab.capacity)
                else
                    @floatFromInt(@as(u32, 1) << @intCast(slab.segment_shift)),
                .capacity = @floatFromInt(slab.capacity),
                .capacity_max = @floatFromInt(slab.capacity_max),
                .bits = slab.bits,
                .segment_shift = slab.segment_shift,
                .leases = @intFromBool(slab.holders != null),
                .context = contextOf(id),
            };
            return .ok;
        }

        pub fn segment(self: *Self, id: u32, ordinal: u32) f64 {
            const slab = self.find(id) orelse return status(self.gone());
            return @floatFromInt(slab.segmentAddress(ordinal) orelse return status(.out_of_range));
        }

        pub fn stats(self: *Self, id: u32, out: *types.SlabStats) Status {
            const slab = self.find(id) orelse return self.gone();
            const entry = self.entryOf(id) orelse return self.gone();
            const figures = slab.figures();
            out.* = .{
                .capacity = @floatFromInt(figures.capacity),
                .capacity_max = @floatFromInt(figures.capacity_max),
                .live_slots = @floatFromInt(figures.live),
                .carved_slots = @floatFromInt(figures.carved),
                .queued_slots = @floatFromInt(figures.queued),
                .retired_slots = @floatFromInt(figures.retired),
                .corruption_events = @floatFromInt(figures.corruption_events),
                .refused_frees = @floatFromInt(figures.refused),
                .drains = @floatFromInt(figures.takes),
                .threshold = @floatFromInt(figures.threshold),
                .adaptive = @floatFromInt(@intFromBool(slab.policy.isAdaptive())),
                .stride_bytes = @floatFromInt(figures.stride),
                .segments = @floatFromInt(figures.segments),
                .mapped_bytes = @floatFromInt(figures.bytes),
                .holders = @floatFromInt(entry.refs.load(.monotonic, .slab_refs)),
                .closed = @floatFromInt(@intFromBool(slab.isClosed())),
            };
            return .ok;
        }

        // ---- helpers

        inline fn status(value: Status) f64 {
            return @floatFromInt(@intFromEnum(value));
        }

        fn wrong(err: anyerror) Status {
            return if (err == error.DoubleFree) .double_free else .foreign;
        }

        /// A slot's number; what is none is 0, which no slot is.
        inline fn whole(value: f64) u64 {
            if (!(value >= 0 and value < f64_exact)) return 0;
            const number: i64 = @intFromFloat(value);
            return if (@as(f64, @floatFromInt(number)) == value) @intCast(number) else 0;
        }

        fn small(value: f64) ?u32 {
            if (!(value >= 0 and value <= 1 << 31)) return null;
            const number: u32 = @intFromFloat(value);
            return if (@as(f64, @floatFromInt(number)) == value) number else null;
        }
    };
}
