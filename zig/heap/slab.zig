//! A span of memory cut into equal slots, its bitmaps and its owner: the record of one slab.
//!
//! A record lies apart from the slots, so no write of a program can reach it, and it stays a record
//! for as long as the allocator lives. Three bitmaps tell where each slot is: `free` (freed by the
//! owner), `batch` (about to be handed out by the owner) and `remote` (freed by others, not yet
//! collected); a slot in none of them is live, or in its owner's hand (global.zig). So a double free, and
//! one of a place where no slot begins, are always found.
//!
//! Remote frees. A freer sets the slot's bit in `remote`, one locked instruction, and writes nothing
//! else. Unless `summary` has the word already, it adds it there; only if that was zero before, it
//! mails the slab to its owner. The owner takes all its mail with one swap, then takes
//! `summary` and the words it names by swaps. Each edge from zero has an announcement and a
//! collection, in the order of modification of one word, so nothing is lost and no fence is needed. A
//! free that has returned is in `summary` or collected, so the owner looks at `remote` only if that is
//! not empty.
//! Collecting adds bits to `free` and can do so only once: two frees of one slot by different threads
//! at the same moment may pass unseen at the call, are then found and counted here, and never lead to
//! a slot handed out twice.
//!
//! Invariants: `summary` has the bit of each `remote` word that is announced. A slab with an empty
//! `summary` is in no mail. `left` counts the frees to the next change of state.
//!
//! Cost: a record of 128 bytes to 1.7 KiB for 64 KiB to 1 MiB of slots. Threads: `freeRemote` and
//! `isFree` any; all else the owner, or whoever holds the lock over slabs without one.
//!
//! Not an allocator: which slab serves whom is in global.zig.

const std = @import("std");
const ds = @import("../ds/ds.zig");
const slab_class = @import("slab_class.zig");
const assert = std.debug.assert;

pub const State = enum(u8) {
    /// In no use; its record waits for a span.
    unused = 0,
    /// The slab that a row of its owner takes slots from.
    current,
    /// Has free slots and waits in its owner's list.
    partial,
    /// Few slots are free; waits for more.
    full,
    /// All slots are free; waits in its owner's cache.
    empty,
};

/// `left` of a slab whose frees change nothing. Counts down all the same, and is then set anew.
pub const left_never: u32 = 1 << 31;

pub fn Slab(comptime Sync: type) type {
    const Word = Sync.Atomic(u64);
    return extern struct {
        // With the words of `remote`, which lie before, lines of those who free from elsewhere.
        summary: Word,
        link: Sync.Atomic(usize),
        /// Next older record; never changes.
        older: ?*Self,
        // With the first pair of words, which lies behind, one line of the owner's.
        /// The owner's index and 1; 0: unused.
        tag: Sync.Atomic(u32),
        class: Sync.Atomic(u8),
        state: Sync.Atomic(u8),
        words_log2: u8,
        span_shift: u8,
        reciprocal: u64,
        base: usize,
        left: u32,
        capacity: u32,
        next: ?*Self,
        prev: ?*Self,

        const Self = @This();

        /// Operations whose order is stronger than monotonic, for the scheduler's mutation proof.
        pub const ordered_sites = [_]@TypeOf(.site){ .slab_remote, .slab_collect_word };
        /// Those that only order two read-modify-writes of one freer.
        pub const announce_sites = [_]@TypeOf(.site){ .slab_summary, .slab_collect };

        pub const Pair = extern struct { free: Word, batch: Word };

        /// Behind the record; the words of `remote` lie before it, downwards, so that the place of no bitmap
        /// depends on its length.
        pub inline fn pair(slab: *Self, word: usize) *Pair {
            return @ptrFromInt(@intFromPtr(slab) + @sizeOf(Self) + word * @sizeOf(Pair));
        }

        pub inline fn remote(slab: *Self, word: usize) *Word {
            return @ptrFromInt(@intFromPtr(slab) - (word + 1) * @sizeOf(Word));
        }

        /// Bytes before and behind the address of a record, whole lines together: `tag` begins a line.
        pub fn place(words_count: usize) struct { before: usize, bytes: usize } {
            const line = 64;
            const own = @offsetOf(Self, "tag");
            const before = std.mem.alignForward(usize, words_count * @sizeOf(Word) + own, line) - own;
            const bytes = before + @sizeOf(Self) + words_count * @sizeOf(Pair);
            return .{ .before = before, .bytes = std.mem.alignForward(usize, bytes, line) };
        }

        /// Cuts the span at `base` anew; all slots are free. Leaves `remote` and `summary` alone: they
        /// are zero, or some freer's who is about to be told.
        pub fn cut(slab: *Self, class: u8, base: usize) void {
            const shape = &slab_class.classes[class];
            slab.class.store(class, .monotonic, .slab_class);
            slab.span_shift = shape.span_shift;
            slab.reciprocal = shape.reciprocal;
            slab.base = base;
            slab.capacity = shape.capacity;
            slab.left = 0;
            slab.next = null;
            slab.prev = null;
            for (0..shape.words) |word| {
                const both = slab.pair(word);
                both.batch.store(0, .monotonic, .slab_batch);
                // Places without a slot count as free, for whoever tries to free them.
                both.free.store(~@as(u64, 0), .monotonic, .slab_free);
            }
        }

        fn validBits(shape: *const slab_class.Class, word: usize) u64 {
            const slots = shape.capacity -| word * 64;
            return if (slots >= 64) ~@as(u64, 0) else (@as(u64, 1) << @intCast(slots)) - 1;
        }

        pub const Batch = struct { word: *Word, index: usize };

        /// Moves free slots of one word to where the owner takes from, looking from `start` on; null: no
        /// word has as many as `least`.
        pub noinline fn refill(slab: *Self, start: usize, least: u32) ?Batch {
            const shape = &slab_class.classes[slab.class.load(.monotonic, .slab_class)];
            var index = start;
            while (true) {
                const both = slab.pair(index);
                const free = both.free.load(.monotonic, .slab_free);
                const takable = free & validBits(shape, index);
                const slots: u32 = @popCount(takable);
                if (slots >= least) {
                    var taken = takable;
                    if (slots > shape.batch) {
                        const first: u6 = @intCast(@ctz(takable) & ~(@as(u7, @intCast(shape.batch)) - 1));
                        taken &= (~@as(u64, 0) >> @intCast(64 - shape.batch)) << first;
                    }
                    both.batch.store(taken, .monotonic, .slab_batch);
                    both.free.store(free & ~taken, .monotonic, .slab_free);
                    return .{ .word = &both.batch, .index = index };
                }
                index += 1;
                if (index == shape.words) index = 0;
                if (index == start) return null;
            }
        }

        /// Puts slots that were about to be handed out back. Owner only, off its rows.
        pub fn unbatch(slab: *Self, index: usize) void {
            const both = slab.pair(index);
            const batch = both.batch.load(.monotonic, .slab_batch);
            const free = both.free.load(.monotonic, .slab_free);
            both.free.store(free | batch, .monotonic, .slab_free);
            both.batch.store(0, .monotonic, .slab_batch);
        }

        /// Slots that are in no bitmap. Exact for the owner, a figure for others.
        pub fn live(slab: *Self) u32 {
            const shape = &slab_class.classes[slab.class.load(.monotonic, .slab_class)];
            var count: u32 = 0;
            for (0..shape.words) |word| count += @popCount(slab.idle(word) & validBits(shape, word));
            return shape.capacity -| count;
        }

        /// Slots that the owner has not got back; those that lie in `remote` are still out.
        pub noinline fn used(slab: *Self) u32 {
            const shape = &slab_class.classes[slab.class.load(.monotonic, .slab_class)];
            var count: u32 = 0;
            for (0..shape.words) |word| {
                const both = slab.pair(word);
                const bits = both.free.load(.monotonic, .slab_free) | both.batch.load(.monotonic, .slab_batch);
                count += @popCount(bits & validBits(shape, word));
            }
            return shape.capacity - count;
        }

        /// Slots of a word that are not live.
        pub inline fn idle(slab: *Self, word: usize) u64 {
            const both = slab.pair(word);
            return both.free.load(.monotonic, .slab_free) | slab.elsewhere(both, word);
        }

        /// Those of them that are not in `free`.
        pub inline fn elsewhere(slab: *Self, both: *Pair, word: usize) u64 {
            return both.batch.load(.monotonic, .slab_batch) |
                slab.remote(word).load(.monotonic, .slab_remote_load);
        }

        /// The slot that begins at `address`; null: none does.
        pub inline fn slotAt(slab: *const Self, address: usize) ?usize {
            const offset = address -% slab.base;
            if (@sizeOf(usize) < 8) {
                const bytes = slab_class.classes[slab.class.load(.monotonic, .slab_class)].bytes;
                return if (offset % bytes == 0) offset / bytes else null;
            }
            const product = std.math.mulWide(u64, offset, slab.reciprocal);
            if (@as(u64, @truncate(product)) >= slab.reciprocal) return null;
            return @intCast(product >> 64);
        }

        pub const Freed = enum { told, mail };

        /// Frees `slot` for the owner, whoever that is. `mail`: the caller must see to it that the
        /// owner gets this slab in its mail. Any thread; two locked instructions at most, and no loop.
        pub fn freeRemote(slab: *Self, slot: usize) error{DoubleFree}!Freed {
            const word = slot / 64;
            const bit = @as(u64, 1) << @intCast(slot % 64);
            if (slab.idle(word) & bit != 0) return error.DoubleFree;
            // Release: pairs with the acquire in collect; without it the owner could hand the slot out
            // while this thread's last writes to it are still on their way.
            const before = slab.remote(word).fetchOr(bit, .release, .slab_remote);
            if (before & bit != 0) return error.DoubleFree;
            const named = @as(u64, 1) << @intCast(word);
            // Whoever was first in the word may not have announced it yet; the owner, told by this thread,
            // must see that something is there.
            if (before != 0 and slab.summary.load(.monotonic, .slab_summary_load) & named != 0) return .told;
            // Release: pairs with the acquire in collect, which must find the word not zero.
            const words_before = slab.summary.fetchOr(named, .release, .slab_summary);
            return if (words_before == 0) .mail else .told;
        }

        pub const Collected = struct { slots: u32 = 0, doubles: u32 = 0 };

        /// Brings remote frees home. Only for who took the slab out of its mail.
        pub fn collect(slab: *Self) Collected {
            var out: Collected = .{};
            // Acquire: pairs with the release of each freer's summary, and so with the words.
            var named = slab.summary.swap(0, .acquire, .slab_collect);
            while (named != 0) : (named &= named - 1) {
                const word = @ctz(named);
                // Acquire: pairs with the release of every freer of the word; they are one release
                // sequence. What was written to the slots comes before their next use.
                const bits = slab.remote(word).swap(0, .acquire, .slab_collect_word);
                const both = slab.pair(word);
                const free = both.free.load(.monotonic, .slab_free);
                const twice = bits & (free | both.batch.load(.monotonic, .slab_batch));
                both.free.store(free | bits, .monotonic, .slab_free);
                out.doubles += @popCount(twice);
                out.slots += @popCount(bits & ~twice);
            }
            return out;
        }
    };
}

/// A mailbox of slabs: any thread pushes, the owner takes all with one swap. The links lie in the
/// records, which are never unmapped. Zeroed memory is an open and empty one.
pub fn Mail(comptime Sync: type) type {
    return struct {
        head: Sync.Atomic(usize) = .init(0),

        const Self = @This();
        const Record = Slab(Sync);
        const closed = 1;

        pub const ordered_sites = [_]@TypeOf(.site){ .mail_push, .mail_take, .mail_close };

        /// False: closed; the caller still has the slab to deliver.
        pub fn push(mail: *Self, slab: *Record) bool {
            var head = mail.head.load(.monotonic, .mail_push_load);
            while (head != closed) {
                slab.link.store(head, .monotonic, .mail_link);
                // Release: pairs with the acquire in takeAll and close, which would otherwise read an
                // old link.
                head = mail.head.cmpxchg(head, @intFromPtr(slab), .release, .monotonic, .mail_push) orelse return true;
            }
            return false;
        }

        pub inline fn isEmpty(mail: *const Self) bool {
            return mail.head.load(.monotonic, .mail_peek) <= closed;
        }

        /// All that was pushed, linked by `after`. Owner only.
        pub fn takeAll(mail: *Self) ?*Record {
            if (mail.isEmpty()) return null;
            // Acquire: pairs with the release of every push in the chain.
            return fromHead(mail.head.swap(0, .acquire, .mail_take));
        }

        /// Refuses from now on. Owner only.
        pub fn close(mail: *Self) ?*Record {
            // Acquire: as in takeAll.
            return fromHead(mail.head.swap(closed, .acquire, .mail_close));
        }

        /// Accepts again. Owner only.
        pub fn open(mail: *Self) void {
            if (mail.head.load(.monotonic, .mail_peek) == closed) mail.head.store(0, .monotonic, .mail_open);
        }

        /// Read it before the slab is collected: then it may be pushed again.
        pub fn after(slab: *const Record) ?*Record {
            return fromHead(slab.link.load(.monotonic, .mail_link));
        }

        fn fromHead(head: usize) ?*Record {
            return if (head <= closed) null else @ptrFromInt(head);
        }
    };
}
