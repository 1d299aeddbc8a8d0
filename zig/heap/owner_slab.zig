//! Slots of one size that one thread hands out and any thread gives back.
//!
//! A slot is a number: generation << bits | index, where the bits are as many as the largest index
//! needs; so numbers stay small while generations are. One word a slot holds its generation and phase
//! (free, live, claimed) and is the truth: what else there is says only where to look first. The owner
//! keeps free slots in an array used as a stack. Others claim the word by one compare-and-swap and
//! raise a mark over its block (owner_marks.zig), where the owner looks a block an operation. There is
//! no list of what others have freed: links would be written by one processor and followed by another,
//! a cache line a slot, each waiting for the one before.
//!
//! Invariant: a slot leaves `live` once, by whoever changed its word. An entry of the stack whose word
//! does not say so is skipped and counted, so that a damaged entry or mark costs slots only until the
//! next search through the words, which finds all of them again.
//!
//! Cost: the owner's alloc and free are a handful of plain loads and stores, no locked instruction; a
//! remote free is one compare-and-swap, two where the queue is bounded. 8 bytes a slot beside its own
//! (16 with leases).
//!
//! Threads: alloc, free, drain, sleep, close: the owner, or whoever it has handed the slab to with
//! release and acquire. freeRemote, isLive: any thread while it holds a reference (`retain`).
//!
//! When not: for objects of different sizes, or when every thread allocates: that is the general heap.

const std = @import("std");
const ds = @import("../ds/ds.zig");
const policy_file = @import("owner_policy.zig");
const Backend = @import("backend.zig").Backend;
const Policy = policy_file.Policy;
const owner_marks = @import("owner_marks.zig");

const assert = std.debug.assert;

pub const Batch = policy_file.Batch;

pub const generation_bits = 29;
const generation_max: u32 = (1 << generation_bits) - 1;
pub const slots_max: u32 = (1 << 24) - 9;
/// A slot's bytes, padding included.
pub const slot_bytes_max: u32 = 1 << 30;
/// Slots are mapped in pieces of at most this, so that each fits one view of it.
const segment_bytes_max: u64 = 1 << 30;
const segments_max = 4096;

/// What a slot's word says beside its generation.
pub const phase_free: u32 = 0;
pub const phase_live: u32 = 1;
/// Freed by another thread; on its way to the owner.
pub const phase_claimed: u32 = 2;
/// Its generations are used up.
pub const phase_retired: u32 = 3;
const phase_bits = 2;
const phase_mask: u32 = 3;

/// What the bell says: nobody waits, the owner sleeps on it, or there is no owner any more.
pub const bell_quiet: u32 = 0;
const bell_asleep: u32 = 1;
const bell_closed: u32 = 2;

/// Slots that one operation moves at most from what others have freed, or makes anew.
pub const batch_max = owner_marks.block_slots;

/// Operations between two looks at a queue without bound.
const idle_interval = 128;
/// Such a queue may hold so many thresholds while the owner has free slots.
const patience = 16;

/// Words asked for so many frees beforehand.
const ahead = 12;

const line = 128;

pub const Options = struct {
    /// Bytes of a slot; its stride is this rounded up to `alignment`.
    slot_bytes: u32,
    /// A power of two.
    alignment: u32 = 8,
    /// Slots there are room for at first.
    capacity: u32,
    /// Slots there may be; more than `capacity` grows by segments. 0: `capacity`.
    capacity_max: u32 = 0,
    batch: Batch = .{ .fixed = policy_file.default_batch },
    /// Remote frees that wait at most; null: as many as there are slots.
    queue_capacity: ?u32 = null,
    /// Remember who holds each slot.
    leases: bool = false,
    /// Generation that every slot begins with, at least 1. Slabs that begin with different ones refuse
    /// each other's slots.
    generation_start: u32 = 1,
};

pub const FreeError = error{ Foreign, DoubleFree };

/// What became of a remote free.
pub const Outcome = enum {
    done,
    /// Done, and the owner sleeps on `bell`: wake it.
    done_wake,
    /// The queue holds no more; the slot is live as before.
    full,
    /// There is no owner any more; the slot is nobody's.
    closed,
    double_free,
    foreign,
};

/// What became of several remote frees.
pub const Many = struct {
    count: u32,
    /// Of the first that was refused, else `done`.
    outcome: Outcome,
    /// The owner sleeps on `bell`: wake it.
    woken: bool,
};

pub const Figures = struct {
    capacity: u32,
    capacity_max: u32,
    carved: u32,
    live: u32,
    queued: u32,
    retired: u32,
    corruption_events: u32,
    refused: u32,
    takes: u32,
    threshold: u32,
    stride: u32,
    slot_bytes: u32,
    segments: u32,
    bytes: u64,
};

pub fn OwnerSlab(comptime Sync: type) type {
    return extern struct {
        // The owner's lines, in which nobody else looks: each look would take them away from the owner.
        // TypeScript reads and writes the first three words.
        top: u32 align(line),
        /// Operations until the owner looks at the queue.
        credit: u32,
        carved: u32,
        /// Slots of the first segment that were ever used.
        reach: u32,
        /// Slots that have memory.
        capacity: u32,
        /// Some entry was wrong: the words are to be searched before the slab says that it is full.
        suspect: u32,
        /// Wrong entries that the owner found.
        damaged: u32,
        retired: u32,
        takes: u32,
        /// Slots taken in so far that others had freed.
        collected: u32,
        /// What `noted` was when the last round of looking at marks began, and how much of that it has not
        /// found; 0 between two rounds.
        round_noted: u32,
        round_left: u32,
        round: Marks.Round,
        policy: Policy,

        // What hardly changes.
        /// Address of the first segment, and what a pointer into it is told by.
        base: usize align(line),
        base_bytes: usize,
        /// A multiple of the stride times this, and rotated, is the quotient; what is none becomes more than
        /// there are slots.
        stride_inverse: u64,
        stack: [*]u32,
        states: [*]Word,
        marks: Marks,
        stride: u32,
        stride_zeros: u32,
        bits: u32,
        capacity_max: u32,
        queue_capacity: u32,
        /// Slots that `giveRemote` frees without further questions: those of the first segment, or none
        /// where the queue is bounded.
        remote_reach: u32,
        /// See `bell_quiet`; a futex.
        bell: Word,
        segment_shift: u32,
        /// 1: there is one segment, and never another.
        single: u32,
        /// Written by the owner; others read it after they were given a slot of the newest.
        segments_count: Word,
        slot_bytes: u32,
        alignment: u32,
        /// First generation of each slot.
        start: u32,
        segments: [*]Segment,
        holders: ?[*]Holder,
        meta: [*]u8,
        meta_bytes: usize,
        backend_context: ?*anyopaque,
        backend_functions: ?*const Backend.Functions,

        // The queue's line, written by everyone who frees.
        /// Frees by others so far. A bounded queue counts them exactly, and before they are done; else
        /// they are noted by plain stores afterwards, of which some are lost when several free at once.
        noted: Word align(line),
        /// How many of those in a bounded queue have been taken in.
        taken: Word,
        /// Frees refused because the queue was full.
        refused: Word,

        // Rarely written by anyone.
        refs: Word align(line),
        /// Wrong frees by others.
        wrong: Word,

        const Self = @This();
        pub const Word = Sync.Atomic(u32);
        const Marks = owner_marks.Marks(Sync);
        /// Who holds a slot, and in which generation that was said: so nobody has to take it back.
        const Holder = extern struct { who: Word, generation: Word };
        const Segment = extern struct { address: Sync.Atomic(usize), bytes: usize };

        /// Operations whose order is stronger than monotonic, for the scheduler's mutation proof.
        pub const ordered_sites = [_]@TypeOf(.site){
            .slab_claim, .slab_walk, .slab_release,
        };

        pub const word_top = 0;
        pub const word_credit = 1;
        pub const word_carved = 2;

        // ---- making and ending

        /// Where the tables of a slab lie, and how its slots are cut into segments.
        pub const Layout = struct {
            bits: u5,
            stride: u32,
            capacity: u32,
            capacity_max: u32,
            segment_shift: u5,
            segments: u32,
            segment_bytes: usize,
            segments_at: usize,
            states_at: usize,
            stack_at: usize,
            marks_at: usize,
            holders_at: usize,
            meta_bytes: usize,

            /// Null if the options do not go together.
            pub fn of(options: Options) ?Layout {
                const most = if (options.capacity_max == 0) options.capacity else options.capacity_max;
                if (options.capacity == 0 or most > slots_max or most < options.capacity) return null;
                if (options.slot_bytes == 0 or options.slot_bytes > slot_bytes_max) return null;
                if (!std.math.isPowerOfTwo(options.alignment) or options.alignment > slot_bytes_max) return null;
                if (options.generation_start == 0 or options.generation_start > generation_max) return null;
                const stride = std.mem.alignForward(u64, options.slot_bytes, options.alignment);
                if (stride > slot_bytes_max) return null;
                // One piece where that can be, so that an index needs no search.
                const grows = most > options.capacity and !ds.fault("owner-never-grows");
                var shift: u5 = 0;
                if (grows) {
                    shift = log2Ceil(@max(options.capacity, most / (segments_max / 2)));
                } else shift = log2Ceil(most);
                while (shift > 0 and (stride << shift) > segment_bytes_max and
                    (grows or @as(u64, most) * stride > segment_bytes_max)) shift -= 1;
                const slots = @as(u64, 1) << shift;
                const segments = std.math.divCeil(u64, most, slots) catch unreachable;
                if (segments > segments_max) return null;
                const single = segments == 1 and !grows;
                var at: usize = std.mem.alignForward(usize, @sizeOf(Self), line);
                var layout: Layout = .{
                    .bits = @max(log2Ceil(most), 1),
                    .stride = @intCast(stride),
                    .capacity = if (grows) @intCast(@min(most, std.mem.alignForward(u64, options.capacity, slots))) else most,
                    .capacity_max = most,
                    .segment_shift = shift,
                    .segments = @intCast(segments),
                    .segment_bytes = @intCast(if (single) most * stride else slots * stride),
                    .segments_at = at,
                    .states_at = 0,
                    .stack_at = 0,
                    .marks_at = 0,
                    .holders_at = 0,
                    .meta_bytes = 0,
                };
                at = std.mem.alignForward(usize, at + segments * @sizeOf(Segment), line);
                // States and stack together: what TypeScript looks at is one piece from the start.
                layout.states_at = at;
                at = std.mem.alignForward(usize, at + most * @sizeOf(Word), line);
                layout.stack_at = at;
                at = std.mem.alignForward(usize, at + most * @sizeOf(u32), line);
                layout.marks_at = at;
                at = std.mem.alignForward(usize, at + Marks.countFor(most) * @sizeOf(Marks.Mark), line);
                layout.holders_at = at;
                if (options.leases) at = std.mem.alignForward(usize, at + most * @sizeOf(Holder), line);
                layout.meta_bytes = at;
                return layout;
            }
        };

        fn log2Ceil(value: anytype) u5 {
            return @intCast(std.math.log2_int_ceil(u64, value));
        }

        pub fn isValid(options: Options) bool {
            return Layout.of(options) != null;
        }

        /// A slab over a backend, owned by the caller, with one reference. Null: refused, nothing taken.
        pub fn create(backend: Backend, thread: ?u32, options: Options) ?*Self {
            const layout = Layout.of(options) orelse return null;
            const span = backend.take(thread, layout.meta_bytes, line) orelse return null;
            const self = setUp(span.ptr, span.bytes, span.zero, options, layout);
            self.backend_context = backend.context;
            self.backend_functions = backend.functions;
            var segments = std.math.divCeil(u32, layout.capacity, @as(u32, 1) << layout.segment_shift) catch unreachable;
            while (segments > 0) : (segments -= 1) if (!self.addSegment(thread)) {
                self.giveAll(thread);
                return null;
            };
            return self;
        }

        /// Bytes of a caller's memory that a slab of these options needs with `createIn`.
        pub fn bytesFor(options: Options) ?usize {
            const layout = Layout.of(options) orelse return null;
            if (layout.segments != 1) return null;
            return line + layout.meta_bytes + options.alignment + layout.segment_bytes;
        }

        /// A slab of fixed capacity inside the caller's memory, without any system call. Null: it does
        /// not fit. The memory is the slab's until its last reference is released.
        pub fn createIn(memory: []u8, options: Options) ?*Self {
            const needed = bytesFor(options) orelse return null;
            if (memory.len < needed or options.capacity_max > options.capacity) return null;
            const layout = Layout.of(options).?;
            const start = std.mem.alignForward(usize, @intFromPtr(memory.ptr), line);
            const self = setUp(@ptrFromInt(start), layout.meta_bytes, false, options, layout);
            const slots = std.mem.alignForward(usize, start + layout.meta_bytes, options.alignment);
            self.putSegment(slots, layout.segment_bytes);
            return self;
        }

        fn setUp(meta: [*]u8, meta_bytes: usize, zero: bool, options: Options, layout: Layout) *Self {
            const self: *Self = @ptrCast(@alignCast(meta));
            // A caller's memory may hold anything: words must not pass for slots before they are made.
            if (!zero) @memset(meta[layout.segments_at..layout.meta_bytes], 0);
            const queue = @min(options.queue_capacity orelse layout.capacity_max, layout.capacity_max);
            self.* = .{
                .top = 0,
                .credit = 0,
                .carved = 0,
                .capacity = 0,
                .bits = layout.bits,
                .stride = layout.stride,
                .collected = 0,
                .round = .{},
                .round_noted = 0,
                .round_left = 0,
                .segment_shift = layout.segment_shift,
                .single = @intFromBool(layout.segments == 1),
                .segments_count = .init(0),
                .base = 0,
                .base_bytes = 0,
                .stride_inverse = inverseOf(layout.stride >> @intCast(@ctz(layout.stride))),
                .stride_zeros = @ctz(layout.stride),
                .reach = 0,
                .remote_reach = 0,
                .stack = @ptrCast(@alignCast(meta + layout.stack_at)),
                .states = @ptrCast(@alignCast(meta + layout.states_at)),
                .marks = .init(@ptrCast(@alignCast(meta + layout.marks_at)), layout.capacity_max),
                .segments = @ptrCast(@alignCast(meta + layout.segments_at)),
                .holders = if (options.leases) @ptrCast(@alignCast(meta + layout.holders_at)) else null,
                .capacity_max = layout.capacity_max,
                .slot_bytes = options.slot_bytes,
                .alignment = options.alignment,
                .queue_capacity = queue,
                .start = options.generation_start,
                .suspect = 0,
                .damaged = 0,
                .retired = 0,
                .takes = 0,
                .policy = .init(options.batch, if (ds.fault("owner-threshold-unclamped")) slots_max else queue),
                .meta = meta,
                .meta_bytes = meta_bytes,
                .backend_context = null,
                .backend_functions = null,
                .noted = .init(0),
                .taken = .init(0),
                .refused = .init(0),
                .bell = .init(bell_quiet),
                .refs = .init(1),
                .wrong = .init(0),
            };
            self.credit = self.interval();
            return self;
        }

        /// One holder more: the memory stays until it releases.
        pub fn retain(self: *Self) void {
            _ = self.refs.fetchAdd(1, .monotonic, .slab_retain);
        }

        /// The last one to release gives the memory to the backend, on its own thread. True: it was the last.
        pub noinline fn release(self: *Self, thread: ?u32) bool {
            // Release and acquire: all that any holder did with the memory comes before its end.
            if (self.refs.fetchSub(1, .acq_rel, .slab_release) != 1) return false;
            self.giveAll(thread);
            return true;
        }

        noinline fn giveAll(self: *Self, thread: ?u32) void {
            const backend: Backend = .{
                .context = self.backend_context orelse return,
                .functions = self.backend_functions orelse return,
            };
            for (self.segments[0..self.segmentsCount()]) |segment| {
                backend.give(thread, @ptrFromInt(segment.address.raw), segment.bytes, self.segmentAlignment());
            }
            backend.give(thread, self.meta, self.meta_bytes, line);
        }

        fn segmentAlignment(self: *const Self) usize {
            return @max(self.alignment, line);
        }

        fn addSegment(self: *Self, thread: ?u32) bool {
            const backend: Backend = .{
                .context = self.backend_context orelse return false,
                .functions = self.backend_functions orelse return false,
            };
            const slots = @min(@as(u64, 1) << @intCast(self.segment_shift), self.capacity_max - self.capacity);
            if (slots == 0) return false;
            const span = backend.take(thread, slots * self.stride, self.segmentAlignment()) orelse return false;
            self.putSegment(@intFromPtr(span.ptr), span.bytes);
            return true;
        }

        fn putSegment(self: *Self, address: usize, bytes: usize) void {
            const slots = @min(@as(u64, 1) << @intCast(self.segment_shift), self.capacity_max - self.capacity);
            const ordinal = self.segmentsCount();
            self.segments[ordinal].address.store(address, .monotonic, .slab_segment);
            self.segments[ordinal].bytes = bytes;
            if (ordinal == 0) {
                self.base = address;
                self.base_bytes = slots * self.stride;
                self.remote_reach = if (self.isBounded()) 0 else @intCast(slots);
            }
            self.segments_count.store(ordinal + 1, .monotonic, .slab_segments);
            self.capacity += @intCast(slots);
        }

        inline fn segmentsCount(self: *const Self) u32 {
            return self.segments_count.load(.monotonic, .slab_segments);
        }

        pub fn segmentAddress(self: *const Self, ordinal: u32) ?usize {
            if (ordinal >= self.segmentsCount()) return null;
            return self.segments[ordinal].address.load(.monotonic, .slab_segment);
        }

        // ---- numbers and addresses

        pub inline fn numberOf(self: *const Self, index: u32) u64 {
            const generation = self.states[index].load(.monotonic, .slab_state) >> phase_bits;
            return @as(u64, generation) << @intCast(self.bits) | index;
        }

        inline fn indexOf(self: *const Self, number: u64) u32 {
            return @truncate(number & ((@as(u64, 1) << @intCast(self.bits)) - 1));
        }

        /// The word of the slot while this number is live.
        inline fn liveWord(self: *const Self, number: u64) ?u32 {
            const generation = number >> @intCast(self.bits);
            if (generation == 0 or generation > generation_max) return null;
            return @as(u32, @intCast(generation)) << phase_bits | phase_live;
        }

        pub inline fn addressOf(self: *const Self, index: u32) [*]u8 {
            if (self.single != 0) {
                @branchHint(.likely);
                return @ptrFromInt(self.base + @as(usize, index) * self.stride);
            }
            return self.addressInSegment(index);
        }

        noinline fn addressInSegment(self: *const Self, index: u32) [*]u8 {
            const shift: u5 = @intCast(self.segment_shift);
            const within = index & ((@as(u32, 1) << shift) - 1);
            return @ptrFromInt(self.segments[index >> shift].address.load(.monotonic, .slab_segment) + @as(usize, within) * self.stride);
        }

        /// The slot that begins at this address, null if none does.
        pub inline fn find(self: *const Self, address: usize) ?u32 {
            const offset = address -% self.base;
            if (offset >= self.base_bytes) return self.findInSegment(address);
            return self.slotAt(offset);
        }

        /// Of an odd number, modulo 2^64: each step doubles the bits that are right.
        fn inverseOf(odd: u64) u64 {
            var inverse = odd;
            for (0..5) |_| inverse *%= 2 -% odd *% inverse;
            return inverse;
        }

        /// More than there are slots if no slot begins there.
        inline fn quotient(self: *const Self, offset: usize) u64 {
            return std.math.rotr(u64, offset *% self.stride_inverse, self.stride_zeros);
        }

        inline fn slotAt(self: *const Self, offset: usize) ?u32 {
            const slot = self.quotient(offset);
            return if (slot < slots_max) @intCast(slot) else null;
        }

        noinline fn findInSegment(self: *const Self, address: usize) ?u32 {
            const slots = @as(u32, 1) << @intCast(self.segment_shift);
            for (self.segments[0..self.segmentsCount()], 0..) |*segment, i| {
                const offset = address -% segment.address.load(.monotonic, .slab_segment);
                if (offset >= @as(u64, slots) * self.stride) continue;
                const within = self.slotAt(offset) orelse return null;
                const index = @as(u32, @intCast(i)) * slots + within;
                return if (index < self.capacity_max) index else null;
            }
            return null;
        }

        // ---- the owner

        /// A free slot's index, live now; null when all are taken. `thread`: a hint for the backend.
        pub inline fn alloc(self: *Self, thread: ?u32) ?u32 {
            if (self.top == 0 or self.credit == 0) return self.allocSlow(thread);
            self.credit -= 1;
            return self.pop() orelse self.allocSlow(thread);
        }

        /// Null: the entry was none of a free slot, and is gone.
        inline fn pop(self: *Self) ?u32 {
            const top = self.top - 1;
            const index = self.stack[top];
            self.top = top;
            if (index >= self.carved) {
                if (ds.fault("owner-damage-drops-list")) {
                    self.top = 0;
                    return null;
                }
                return self.wrongEntry();
            }
            const word = self.states[index].load(.monotonic, .slab_state);
            if (!ds.fault("owner-link-trusted") and word & phase_mask != phase_free) return self.wrongEntry();
            self.states[index].store(word & ~phase_mask | phase_live, .monotonic, .slab_live);
            return index;
        }

        noinline fn wrongEntry(self: *Self) ?u32 {
            @branchHint(.cold);
            self.damaged +%= 1;
            self.suspect = 1;
            return null;
        }

        noinline fn allocSlow(self: *Self, thread: ?u32) ?u32 {
            if (self.credit == 0) self.look();
            while (true) {
                if (self.top == 0 and self.refill(thread) == 0) return null;
                if (self.pop()) |index| return index;
            }
        }

        /// Slots ready for `alloc` after some were added if there were none; 0: all are taken. What
        /// others have freed comes before memory that was never used.
        pub fn refill(self: *Self, thread: ?u32) u32 {
            if (self.credit == 0) self.look();
            while (self.top == 0) {
                // A second time, for what came to where the round had been.
                if (self.collect() or self.collect()) {} else if (self.carve()) {} else if (self.suspect != 0) {
                    self.search();
                } else if (!self.addSegment(thread)) break;
            }
            return self.top;
        }

        /// Makes slots that were never used ready, the lowest first.
        fn carve(self: *Self) bool {
            const count = @min(self.capacity - self.carved, batch_max);
            if (count == 0) return false;
            const first = self.carved;
            for (0..count) |i| {
                const index = first + @as(u32, @intCast(i));
                self.states[index].store(self.start << phase_bits | phase_free, .monotonic, .slab_carve);
                self.stack[count - 1 - i] = index;
            }
            self.carved = first + count;
            self.reach = @intCast(@min(self.carved, self.base_bytes / self.stride));
            self.top = count;
            return true;
        }

        /// Ends a live slot: owner only.
        pub fn free(self: *Self, number: u64) FreeError!void {
            const index = self.indexOf(number);
            const live = self.liveWord(number) orelse return self.wrongFree(error.Foreign);
            if (index >= self.carved) return self.wrongFree(error.Foreign);
            const word = self.states[index].load(.monotonic, .slab_state);
            if (word != live) return self.wrongFree(self.whatIsWrong(word, live));
            self.push(index, word);
        }

        /// As `free`, by index; for who holds no number.
        pub inline fn freeIndex(self: *Self, index: u32) FreeError!void {
            if (index >= self.carved) return self.wrongFree(error.Foreign);
            const word = self.states[index].load(.monotonic, .slab_state);
            if (word & phase_mask != phase_live) return self.wrongFree(error.DoubleFree);
            self.push(index, word);
        }

        inline fn push(self: *Self, index: u32, word: u32) void {
            if (word >> phase_bits == generation_max) return self.retire(index);
            self.states[index].store(nextFree(word), .monotonic, .slab_free);
            self.stack[self.top] = index;
            self.top += 1;
            if (self.credit != 0) self.credit -= 1 else self.look();
        }

        /// The word of a slot that ends: free, and of the next generation.
        inline fn nextFree(word: u32) u32 {
            return (word & ~phase_mask) + (1 << phase_bits);
        }

        noinline fn retire(self: *Self, index: u32) void {
            self.states[index].store(generation_max << phase_bits | phase_retired, .monotonic, .slab_free);
            self.retired += 1;
        }

        noinline fn wrongFree(self: *Self, err: FreeError) FreeError!void {
            if (ds.fault("owner-double-free") and err == error.DoubleFree) return;
            if (ds.fault("owner-foreign-silent") and err == error.Foreign) return;
            _ = self.wrong.fetchAdd(1, .monotonic, .slab_wrong);
            return err;
        }

        /// `word` is the slot's, `live` what it would be if the number were good.
        fn whatIsWrong(self: *const Self, word: u32, live: u32) FreeError {
            const generation = live >> phase_bits;
            const current = word >> phase_bits;
            // The current generation was issued unless the slot is free.
            const issued = generation < current or (generation == current and word & phase_mask != phase_free);
            return if (issued and generation >= self.start) error.DoubleFree else error.Foreign;
        }

        // ---- the owner, by address

        /// As `alloc`: the slot's address.
        pub inline fn take(self: *Self) ?[*]u8 {
            const top = self.top;
            const credit = self.credit;
            if (top == 0) {
                @branchHint(.unlikely);
                return self.takeSlow();
            }
            if (credit == 0) {
                @branchHint(.unlikely);
                return self.takeSlow();
            }
            const index = self.stack[top - 1];
            if (index >= self.reach) {
                @branchHint(.unlikely);
                return self.takeSlow();
            }
            const state = &self.states[index];
            const word = state.load(.monotonic, .slab_state);
            if (!ds.fault("owner-link-trusted") and word & phase_mask != phase_free) {
                @branchHint(.unlikely);
                return self.takeSlow();
            }
            self.top = top - 1;
            self.credit = credit - 1;
            state.store(word | phase_live, .monotonic, .slab_live);
            return @ptrFromInt(self.base + @as(usize, index) * self.stride);
        }

        noinline fn takeSlow(self: *Self) ?[*]u8 {
            return self.addressOf(self.alloc(null) orelse return null);
        }

        /// Ends the live slot that begins at this address.
        pub inline fn give(self: *Self, address: usize) FreeError!void {
            const index = self.quotient(address -% self.base);
            const credit = self.credit;
            if (index >= self.reach) {
                @branchHint(.unlikely);
                return self.giveSlow(address);
            }
            if (credit == 0) {
                @branchHint(.unlikely);
                return self.giveSlow(address);
            }
            const state = &self.states[index];
            const word = state.load(.monotonic, .slab_state);
            if (word & phase_mask != phase_live) {
                @branchHint(.unlikely);
                return self.giveSlow(address);
            }
            if (word == generation_max << phase_bits | phase_live) {
                @branchHint(.unlikely);
                return self.giveSlow(address);
            }
            const top = self.top;
            // Free, and of the next generation.
            state.store(word + ((1 << phase_bits) - phase_live), .monotonic, .slab_free);
            self.stack[top] = @intCast(index);
            self.top = top + 1;
            self.credit = credit - 1;
        }

        noinline fn giveSlow(self: *Self, address: usize) FreeError!void {
            return self.freeIndex(self.find(address) orelse return error.Foreign);
        }

        /// Looks at the queue and takes in a block of what others have freed.
        noinline fn look(self: *Self) void {
            self.credit = self.interval();
            const waiting = @max(self.round_left, self.depth(self.noted.load(.monotonic, .slab_look)));
            // Nobody waits for room in the queue: slots stay where they lie until some are needed or many
            // wait, and so those of a block come back together.
            if (!self.isBounded() and self.top >= batch_max and waiting / patience < self.policy.threshold) return;
            if (self.round_left != 0) {
                _ = self.collect();
                return;
            }
            const sight: policy_file.Sight = .{
                .depth = self.depth(self.noted.load(.monotonic, .slab_look)),
                .refused = self.refused.load(.monotonic, .slab_refused),
            };
            const due = if (ds.fault("owner-adaptive-degenerate"))
                self.policy.lookDegenerate(sight)
            else
                self.policy.look(sight);
            if (due) _ = self.collect();
        }

        /// Operations until the next look; fewer where others may wait for room.
        inline fn interval(self: *const Self) u32 {
            return if (self.isBounded()) self.policy.interval else idle_interval;
        }

        /// What was noted after the last round began. More than there can be if notes were lost, of which
        /// the next round makes an end.
        fn depth(self: *const Self, noted: u32) u32 {
            return @min(noted -% self.round_noted, self.capacity_max);
        }

        inline fn isBounded(self: *const Self) bool {
            return self.queue_capacity != self.capacity_max;
        }

        /// Takes in the next block in which others have freed, if there is one. A round of looking at marks
        /// ends when it has found as much as was noted at its begin. False: there is nothing more.
        fn collect(self: *Self) bool {
            if (self.round_left == 0) {
                const noted = self.noted.load(.monotonic, .slab_look);
                self.round_left = @max(self.depth(noted), 1);
                self.round_noted = noted;
                if (ds.fault("owner-drain-allocates") and self.marks.hasAny(&self.round)) {
                    const backend: Backend = .{ .context = self.backend_context.?, .functions = self.backend_functions.? };
                    const span = backend.take(null, 4096, line) orelse {
                        self.round_left = 0;
                        return false;
                    };
                    backend.give(null, span.ptr, span.bytes, line);
                }
                if (self.marks.hasAny(&self.round)) {
                    self.marks.begin(&self.round);
                    self.takes +%= 1;
                }
            }
            var any = false;
            while (self.marks.next(&self.round)) |block| {
                // Those of the next blocks are on their way while these slots are handed out.
                for (1..3) |further| {
                    const other = block + @as(u32, @intCast(further));
                    if (other >= self.marks.blocks_count or !self.marks.isRaised(other)) break;
                    const words = self.states + @as(usize, other) * owner_marks.block_slots;
                    inline for (0..batch_max * @sizeOf(u32) / 64) |at| @prefetch(words + at * (64 / @sizeOf(u32)), .{ .rw = .write });
                }
                const found = self.takeIn(block * owner_marks.block_slots, owner_marks.block_slots);
                self.round_left -|= found;
                any = any or found != 0;
                if (any and !ds.fault("owner-drain-at-once")) return true;
            }
            self.round_left = 0;
            // Somebody is in the middle of a free, or a mark is gone. Notes may be lost, but there are never
            // too many.
            const found_so_far = if (self.isBounded()) self.taken.load(.monotonic, .slab_look) else self.collected;
            if (@as(i32, @bitCast(self.round_noted -% found_so_far)) > 0) self.suspect = 1;
            return any;
        }

        /// Puts what others have freed among these slots on the stack; answers how many.
        fn takeIn(self: *Self, first: u32, count: u32) u32 {
            const before = self.top +% self.retired;
            const end = @min(first + count, self.carved);
            var index = first;
            while (index < end) : (index += 1) {
                // Acquire: pairs with the release in `freeRemoteWord`: what was written to the slot.
                const word = self.states[index].load(.acquire, .slab_walk);
                if (word & phase_mask == phase_claimed) self.reuse(index, word);
            }
            const found = self.top +% self.retired -% before;
            self.collected +%= found;
            if (self.isBounded()) self.taken.store(self.taken.load(.monotonic, .slab_look) +% found, .monotonic, .slab_taken);
            return found;
        }

        fn reuse(self: *Self, index: u32, word: u32) void {
            if (word >> phase_bits == generation_max) return self.retire(index);
            self.states[index].store(nextFree(word), .monotonic, .slab_free);
            self.stack[self.top] = index;
            self.top += 1;
        }

        /// Finds every free and every claimed slot by its word. The stack is empty.
        fn search(self: *Self) void {
            assert(self.top == 0);
            self.suspect = 0;
            _ = self.takeIn(0, self.carved);
            const claimed = self.top;
            for (0..self.carved) |i| {
                const index: u32 = @intCast(i);
                if (self.states[index].load(.monotonic, .slab_state) & phase_mask != phase_free) continue;
                self.stack[self.top] = index;
                self.top += 1;
            }
            // Those that were claimed are free by now, and stand twice.
            std.mem.copyForwards(u32, self.stack[0 .. self.top - claimed], self.stack[claimed..self.top]);
            self.top -= claimed;
        }

        /// Takes everything in that others have freed; answers how many slots that were.
        pub fn drain(self: *Self) u32 {
            const before = self.top;
            while (self.collect()) {}
            // As in `refill`.
            while (self.collect()) {}
            self.credit = self.interval();
            if (self.suspect != 0) {
                self.top = 0;
                self.search();
            }
            return self.top -| before;
        }

        /// Refuses remote frees from now on and takes in what has come. Twice is harmless.
        pub fn close(self: *Self) void {
            if (self.bell.swap(bell_closed, .monotonic, .slab_close) == bell_closed) return;
            // After this, who has claimed a slot and not been seen finds the bell, and takes it back.
            Sync.fenceAfterChange();
            for (0..self.carved) |i| {
                const index: u32 = @intCast(i);
                const word = self.states[index].load(.monotonic, .slab_state);
                if (word & phase_mask != phase_claimed) continue;
                const next = if (word >> phase_bits == generation_max) word | phase_retired else nextFree(word);
                if (self.states[index].cmpxchg(word, next, .monotonic, .monotonic, .slab_state) != null) continue;
                if (next & phase_mask == phase_retired) {
                    self.retired += 1;
                } else {
                    self.stack[self.top] = index;
                    self.top += 1;
                }
            }
        }

        pub fn isClosed(self: *const Self) bool {
            return self.bell.load(.monotonic, .slab_bell) == bell_closed;
        }

        /// The owner is about to sleep on `bell` until something is freed: the value to wait for, null
        /// if there is no need. `wokeUp` must follow.
        pub fn fallAsleep(self: *Self) ?u32 {
            if (self.top != 0) return null;
            if (self.bell.cmpxchg(bell_quiet, bell_asleep, .monotonic, .monotonic, .slab_sleep) != null) return null;
            // Either a mark is seen here, or who raised it sees the bell.
            Sync.fenceAfterChange();
            if (!self.marks.hasAny(&self.round)) return bell_asleep;
            self.wokeUp();
            return null;
        }

        pub fn wokeUp(self: *Self) void {
            // Refused: something was freed meanwhile, which is as well.
            _ = self.bell.cmpxchg(bell_asleep, bell_quiet, .monotonic, .monotonic, .slab_sleep);
        }

        // ---- everyone else

        /// Whether the number is of a slot that is in use.
        pub fn isLive(self: *const Self, number: u64) bool {
            const index = self.indexOf(number);
            const live = self.liveWord(number) orelse return false;
            return index < self.capacity_max and self.states[index].load(.monotonic, .slab_state) == live;
        }

        /// Ends a live slot from any thread.
        pub fn freeRemote(self: *Self, number: u64) Outcome {
            const index = self.indexOf(number);
            const live = self.liveWord(number) orelse return self.wrongRemote(error.Foreign);
            if (index >= self.capacity_max) return self.wrongRemote(error.Foreign);
            return self.freeRemoteWord(index, live);
        }

        /// As `freeRemote`, by index.
        pub fn freeRemoteIndex(self: *Self, index: u32) Outcome {
            if (index >= self.capacity_max) return self.wrongRemote(error.Foreign);
            const word = self.states[index].load(.monotonic, .slab_state);
            return self.freeRemoteWord(index, word & ~phase_mask | phase_live);
        }

        /// As `freeRemote`, by address.
        pub inline fn giveRemote(self: *Self, address: usize) Outcome {
            const index = self.quotient(address -% self.base);
            if (index >= self.remote_reach) {
                @branchHint(.unlikely);
                return self.giveRemoteSlow(address);
            }
            const state = &self.states[index];
            const word = state.load(.monotonic, .slab_state);
            if (word & phase_mask != phase_live) {
                @branchHint(.unlikely);
                return self.giveRemoteSlow(address);
            }
            // Release: as in `claim`.
            const claimed = word + (phase_claimed - phase_live);
            if (state.cmpxchg(word, claimed, .release, .monotonic, .slab_claim) != null) {
                @branchHint(.unlikely);
                return self.giveRemoteSlow(address);
            }
            self.marks.raise(@intCast(index));
            self.note(1);
            if (self.bell.load(.monotonic, .slab_bell) != bell_quiet) {
                @branchHint(.unlikely);
                return self.ring(@intCast(index), claimed);
            }
            return .done;
        }

        noinline fn giveRemoteSlow(self: *Self, address: usize) Outcome {
            return self.freeRemoteIndex(self.find(address) orelse return self.wrongRemote(error.Foreign));
        }

        inline fn freeRemoteWord(self: *Self, index: u32, live: u32) Outcome {
            if (self.isBounded()) if (self.letIn()) |refusal| return refusal;
            if (self.claim(index, live)) |refusal| {
                if (self.isBounded()) _ = self.noted.fetchSub(1, .monotonic, .slab_noted);
                return refusal;
            }
            if (!self.isBounded()) self.note(1);
            if (self.bell.load(.monotonic, .slab_bell) == bell_quiet) {
                @branchHint(.likely);
                return .done;
            }
            return self.ring(index, live & ~phase_mask | phase_claimed);
        }

        /// Claims a live slot and marks its block. Null: done.
        inline fn claim(self: *Self, index: u32, live: u32) ?Outcome {
            // Release: pairs with the acquire in `takeIn`: what was written to the slot.
            if (self.states[index].cmpxchg(live, live & ~phase_mask | phase_claimed, .release, .monotonic, .slab_claim)) |word| {
                return self.wrongRemote(self.whatIsWrong(word, live));
            }
            self.marks.raise(index);
            return null;
        }

        inline fn note(self: *Self, count: u32) void {
            self.noted.store(self.noted.load(.monotonic, .slab_noted) +% count, .monotonic, .slab_noted);
        }

        /// Counts one free more in a bounded queue. Null: there is room for it.
        noinline fn letIn(self: *Self) ?Outcome {
            if (self.isClosed()) return .closed;
            var seen = self.noted.load(.monotonic, .slab_noted);
            while (seen -% self.taken.load(.monotonic, .slab_bound) < self.queue_capacity) {
                seen = self.noted.cmpxchg(seen, seen +% 1, .monotonic, .monotonic, .slab_noted) orelse return null;
            }
            _ = self.refused.fetchAdd(1, .monotonic, .slab_refused);
            return .full;
        }

        /// The owner sleeps, or is gone: then the slot is live again, unless it was taken in at the end.
        noinline fn ring(self: *Self, index: u32, claimed: u32) Outcome {
            if (self.bell.cmpxchg(bell_asleep, bell_quiet, .monotonic, .monotonic, .slab_sleep)) |bell| {
                if (bell == bell_quiet) return .done;
                const lost = self.states[index].cmpxchg(claimed, claimed & ~phase_mask | phase_live, .monotonic, .monotonic, .slab_unclaim) != null;
                return if (lost) .done else .closed;
            }
            return .done_wake;
        }

        /// Ends live slots in their order; answers how many until one was refused.
        pub fn freeRemoteMany(self: *Self, numbers: []const u64) Many {
            var woken = false;
            for (numbers, 0..) |number, i| {
                // The words were written by the owner: the next ones are on their way meanwhile.
                if (i + ahead < numbers.len) @prefetch(&self.states[@min(self.indexOf(numbers[i + ahead]), self.capacity_max - 1)], .{ .rw = .write });
                switch (self.freeRemote(number)) {
                    .done => {},
                    .done_wake => woken = true,
                    else => |refusal| return .{ .count = @intCast(i), .outcome = refusal, .woken = woken },
                }
            }
            return .{ .count = @intCast(numbers.len), .outcome = .done, .woken = woken };
        }

        noinline fn wrongRemote(self: *Self, err: FreeError) Outcome {
            if (self.isClosed()) return .closed;
            if (ds.fault("owner-double-free") and err == error.DoubleFree) return .done;
            if (ds.fault("owner-foreign-silent") and err == error.Foreign) return .done;
            _ = self.wrong.fetchAdd(1, .monotonic, .slab_wrong);
            return if (err == error.DoubleFree) .double_free else .foreign;
        }

        // ---- leases

        /// Says who holds a live slot, so that it can be found when that one is gone. False: not live, or
        /// the slab keeps no leases.
        pub fn hold(self: *Self, number: u64, holder: u32) bool {
            const holders = self.holders orelse return false;
            if (!self.isLive(number)) return false;
            const entry = &holders[self.indexOf(number)];
            entry.who.store(holder, .monotonic, .slab_holder);
            entry.generation.store(@intCast(number >> @intCast(self.bits)), .monotonic, .slab_holder);
            return true;
        }

        /// The next live slot from `from` on whose holder `isWanted` names; 0 if there is none.
        pub fn nextHeld(self: *Self, from: u32, context: anytype, comptime isWanted: fn (@TypeOf(context), u32) bool) u64 {
            const holders = self.holders orelse return 0;
            var index = from;
            while (index < self.carved) : (index += 1) {
                const word = self.states[index].load(.monotonic, .slab_state);
                if (word & phase_mask != phase_live) continue;
                if (holders[index].generation.load(.monotonic, .slab_holder) != word >> phase_bits) continue;
                const who = holders[index].who.load(.monotonic, .slab_holder);
                if (who != 0 and isWanted(context, who)) return self.numberOf(index);
            }
            return 0;
        }

        // ---- figures and checks

        pub fn corruptionEvents(self: *const Self) u32 {
            return self.damaged +% self.wrong.load(.monotonic, .slab_wrong);
        }

        /// Exact while nobody is in the middle of a free.
        pub fn figures(self: *const Self) Figures {
            const queued = self.claimedCount();
            var bytes: u64 = self.meta_bytes;
            for (self.segments[0..self.segmentsCount()]) |segment| bytes += segment.bytes;
            return .{
                .capacity = self.capacity,
                .capacity_max = self.capacity_max,
                .carved = self.carved,
                .live = self.carved -| self.top -| queued -| self.retired,
                .queued = queued,
                .retired = self.retired,
                .corruption_events = self.corruptionEvents(),
                .refused = self.refused.load(.monotonic, .slab_refused),
                .takes = self.takes,
                .threshold = self.policy.threshold,
                .stride = self.stride,
                .slot_bytes = self.slot_bytes,
                .segments = self.segmentsCount(),
                .bytes = bytes,
            };
        }

        /// Compares lists and words; for tests, while nobody frees and nothing was damaged.
        pub fn invariants(self: *const Self) error{Inconsistent}!void {
            var free_words: u32 = 0;
            var claimed: u32 = 0;
            for (self.states[0..self.carved]) |*state| switch (state.load(.monotonic, .slab_state) & phase_mask) {
                phase_free => free_words += 1,
                phase_claimed => claimed += 1,
                else => {},
            };
            if (free_words != self.top) return error.Inconsistent;
            for (self.stack[0..self.top]) |index| {
                if (index >= self.carved) return error.Inconsistent;
                if (self.states[index].load(.monotonic, .slab_state) & phase_mask != phase_free) return error.Inconsistent;
            }
            if (self.claimedCount() != claimed) return error.Inconsistent;
        }

        /// Slots freed by others that the marks lead to.
        fn claimedCount(self: *const Self) u32 {
            var count: u32 = 0;
            var first: u32 = 0;
            while (first < self.carved) : (first += owner_marks.block_slots) {
                if (!self.marks.isRaised(first / owner_marks.block_slots)) continue;
                for (self.states[first..@min(first + owner_marks.block_slots, self.carved)]) |*state| {
                    count += @intFromBool(state.load(.monotonic, .slab_look) & phase_mask == phase_claimed);
                }
            }
            return count;
        }

        // ---- other faces

        /// One slot for each allocation, up to the slot's size and alignment. Owner only.
        pub fn allocator(self: *Self) std.mem.Allocator {
            return .{ .ptr = self, .vtable = &.{ .alloc = stdAlloc, .resize = stdResize, .remap = stdRemap, .free = stdFree } };
        }

        fn fits(self: *const Self, bytes: usize, alignment: usize) bool {
            return bytes <= self.stride and alignment <= self.alignment;
        }

        fn stdAlloc(context: *anyopaque, bytes: usize, alignment: std.mem.Alignment, _: usize) ?[*]u8 {
            const self: *Self = @ptrCast(@alignCast(context));
            // What no slot can serve is no reason to look for a free one.
            if (!self.fits(bytes, alignment.toByteUnits())) {
                if (ds.fault("owner-impossible-drains")) _ = self.drain();
                return null;
            }
            return self.addressOf(self.alloc(null) orelse return null);
        }

        fn stdResize(context: *anyopaque, memory: []u8, alignment: std.mem.Alignment, bytes: usize, _: usize) bool {
            const self: *Self = @ptrCast(@alignCast(context));
            _ = memory;
            return self.fits(bytes, alignment.toByteUnits());
        }

        fn stdRemap(context: *anyopaque, memory: []u8, alignment: std.mem.Alignment, bytes: usize, from: usize) ?[*]u8 {
            return if (stdResize(context, memory, alignment, bytes, from)) memory.ptr else null;
        }

        fn stdFree(context: *anyopaque, memory: []u8, _: std.mem.Alignment, _: usize) void {
            const self: *Self = @ptrCast(@alignCast(context));
            const index = self.find(@intFromPtr(memory.ptr)) orelse return;
            self.freeIndex(index) catch {};
        }
    };
}

/// A slab of elements of one type, for Zig programs.
pub fn TypedSlab(comptime Sync: type, comptime T: type) type {
    comptime assert(@sizeOf(T) > 0);
    return struct {
        slab: *Slab,

        const Self = @This();
        pub const Slab = OwnerSlab(Sync);

        /// `options.slot_bytes` and `alignment` are the type's.
        pub fn init(backend: Backend, options: Options) ?Self {
            var own = options;
            own.slot_bytes = @sizeOf(T);
            own.alignment = @alignOf(T);
            return .{ .slab = Slab.create(backend, null, own) orelse return null };
        }

        /// Closes the slab; its memory goes when the last remote has let go.
        pub fn deinit(self: Self) void {
            self.slab.close();
            _ = self.slab.release(null);
        }

        pub fn create(self: Self) ?*T {
            return @ptrCast(@alignCast(self.slab.addressOf(self.slab.alloc(null) orelse return null)));
        }

        pub fn destroy(self: Self, element: *T) FreeError!void {
            try self.slab.freeIndex(self.slab.find(@intFromPtr(element)) orelse return error.Foreign);
        }

        /// From any thread that holds a reference to the slab.
        pub fn destroyRemote(slab: *Slab, element: *T) Outcome {
            return slab.freeRemoteIndex(slab.find(@intFromPtr(element)) orelse return .foreign);
        }
    };
}
