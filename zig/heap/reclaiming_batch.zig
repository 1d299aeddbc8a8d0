//! Batches of equal slots, their blocks of 32, and the stacks on which batches with room wait.
//!
//! A block is claimed whole by one thread, which from then on takes its slots, and takes back the ones
//! it frees itself, by ordinary loads and stores of `mine`. What others free goes to `word`, by one
//! fetch-or that is wait-free; the owner merges it when `mine` has run out. One more bit of `word`,
//! `held`, says that somebody will see to the block: it has an owner, or its bit is set in the
//! batch. An owner whose block is used up may let it rest: `word` names the owner and the block's place
//! there, and who frees the first slot tells the owner by mail. Or it drops `held`; who then frees the
//! first slot finds it missing and becomes the owner, or lists the block: sets its bit in the batch, and
//! pushes the batch on its class's stack if it is not there. So a free slot is always in somebody's sight,
//! and nobody searches.
//!
//! A slot is free if its bit is in `mine` or in `word`. The owner sets a bit in `mine` before it clears
//! it in `word`, and freers look at `word` first: a second free is found before anything changes.
//!
//! Invariant: the bit of a block in its batch is set exactly while nobody owns the block and it may
//! have free slots. Who clears that bit owns the block. A batch all of whose bits are set, and whose
//! slots are all free, is detached by clearing all bits at once.
//!
//! Cost: a claim is one compare-and-swap, one fetch-and; a record of 576 bytes describes up to 1,024
//! slots. Threads: any, inside of a section (reclaiming_guard.zig), or with the record kept alive
//! otherwise. No system, no allocation. When not: where slots have one owner for good.

const std = @import("std");
const ds = @import("../ds/ds.zig");

/// Slots of a block, at most.
pub const slots_max = 32;
/// Blocks of a batch, at most.
pub const blocks_max = 32;
/// Blocks of one class that a thread can own.
pub const places_max = 256;
/// Records lie at multiples of this.
pub const record_alignment = 64;

/// Somebody sees to the block.
const held: u64 = 1 << 32;
/// Above it, while a thread owns the block: the thread's number, and the block's place with it.
const owner_shift = 33;
const place_shift = owner_shift + 16;
/// The batch is on its class's stack, or about to be.
const listed: u64 = 1 << 32;

pub fn Batches(comptime Sync: type) type {
    return struct {
        /// Operations whose order is stronger than monotonic, for the scheduler's mutation proof.
        pub const ordered_sites = [_]@TypeOf(.site){
            .block_refill, .block_free,   .block_idle, .block_look, .batch_list,
            .batch_claim,  .batch_detach, .batch_push, .batch_head,
        };

        /// Orders that the scenario cannot miss: by the first two a second free is noticed that follows
        /// the first on another thread (unit tests show it); the third keeps two stores to one word
        /// apart, which the simulation carries out in order anyway; the fourth is for the links of several
        /// batches, of which the scenario has one; without the last two a slot is out of its owner's sight
        /// for a while, but not lost.
        pub const unshown_sites = [_]@TypeOf(.site){ .block_merge, .block_check, .block_own_take, .batch_all, .mail_put, .mail_take };

        pub const Block = extern struct {
            /// Slots freed by others, `held`, and whose it is.
            word: Sync.Atomic(u64),
            /// Free slots that the owner knows; frozen while there is no owner.
            mine: Sync.Atomic(u32),
            /// Which of its batch's.
            ordinal: u32,

            pub fn batch(block: *Block) *Batch {
                const first = @intFromPtr(block) - @as(usize, block.ordinal) * @sizeOf(Block);
                return @ptrFromInt(first - @offsetOf(Batch, "blocks"));
            }

            fn ownership(number: u16, place: u8) u64 {
                return @as(u64, number) << owner_shift | @as(u64, place) << place_shift;
            }

            /// Names the owner of a block that nobody else can have. From here on the first of the others who
            /// frees in it tells the owner.
            pub fn setOwner(block: *Block, number: u16, place: u8) void {
                _ = block.word.fetchOr(ownership(number, place), .monotonic, .block_owner);
            }

            /// Number from 1 on; of use to the owner, who alone can rely on the answer.
            pub inline fn isOwner(block: *const Block, number: u16) bool {
                return ownerIn(block.word.load(.monotonic, .block_owner)) == number;
            }

            pub inline fn ownerIn(word: u64) u16 {
                return @truncate(word >> owner_shift);
            }

            pub inline fn placeIn(word: u64) u8 {
                return @truncate(word >> place_shift);
            }

            /// The block's place with its owner. Owner only.
            pub inline fn ownPlace(block: *const Block) u8 {
                return placeIn(block.word.load(.monotonic, .block_owner));
            }

            /// All slots are taken, and nobody owns it. A hint.
            pub inline fn isFull(block: *const Block) bool {
                return block.word.load(.monotonic, .block_own) == 0 and block.isUsedUp();
            }

            /// Nobody else has freed in it since the last `refill`. Owner only.
            pub inline fn mayRest(block: *const Block) bool {
                return @as(u32, @truncate(block.word.load(.monotonic, .block_own))) == 0;
            }

            pub fn isUsedUp(block: *const Block) bool {
                return block.mine.load(.monotonic, .block_mine) == 0;
            }

            /// Frees the first slot of a block that is nobody's, and makes the caller its owner. False: it
            /// is somebody's. The caller holds the live slot.
            pub inline fn freeOwning(block: *Block, slot: u5, number: u16, own_place: u8) bool {
                // Acquire: pairs with the release in `relinquish`: `mine` is written after it was left.
                if (block.word.cmpxchg(0, held | ownership(number, own_place), .acquire, .monotonic, .block_own_take) != null) return false;
                block.mine.store(@as(u32, 1) << slot, .monotonic, .block_take);
                return true;
            }

            /// A free slot, now the caller's. Owner only.
            pub inline fn take(block: *Block) ?u5 {
                return @intCast(block.takeBit() orelse return null);
            }

            /// `take`, for callers to whom a narrow number is a detour.
            pub inline fn takeBit(block: *Block) ?usize {
                const mine = block.mine.load(.monotonic, .block_mine);
                if (mine == 0) {
                    @branchHint(.unlikely);
                    return null;
                }
                block.mine.store(mine & (mine - 1), .monotonic, .block_take);
                return @ctz(mine);
            }

            /// Takes in what others have freed. Owner only.
            pub fn refill(block: *Block) bool {
                // Acquire: pairs with the release of each free in it, whose writes to the slot are past.
                const freed: u32 = @truncate(block.word.load(.acquire, .block_refill));
                if (freed == 0) return false;
                const mine = block.mine.load(.monotonic, .block_mine);
                block.mine.store(mine | freed, .monotonic, .block_take);
                // Release: pairs with the acquire in `freeRemote`: who no longer finds a bit here must
                // find it in `mine`.
                _ = block.word.fetchAnd(~@as(u64, freed), .release, .block_merge);
                return true;
            }

            /// True: the block was used up. Owner only.
            pub inline fn freeLocal(block: *Block, slot: u5) error{DoubleFree}!bool {
                const bit = @as(u32, 1) << slot;
                const mine = block.mine.load(.monotonic, .block_mine);
                const word = block.word.load(.monotonic, .block_own);
                if ((mine | @as(u32, @truncate(word))) & bit != 0) {
                    @branchHint(.unlikely);
                    if (ds.fault("reclaiming-double-free-late")) block.mine.store(mine & ~bit, .monotonic, .block_take);
                    return error.DoubleFree;
                }
                block.mine.store(mine | bit, .monotonic, .block_take);
                return mine == 0;
            }

            /// What is left to do for who has freed a slot.
            pub const After = union(enum) {
                nothing,
                /// The block is to be listed.
                list,
                /// The owner of that number is to be told of the block at that place.
                tell: struct { number: u16, place: u8 },
            };

            /// Not the owner.
            pub fn freeRemote(block: *Block, slot: u5) error{DoubleFree}!After {
                const bit = @as(u32, 1) << slot;
                // Acquire: pairs with the release in `refill`.
                const seen: u32 = @truncate(block.word.load(.acquire, .block_check));
                const mine = block.mine.load(.monotonic, .block_mine);
                if ((seen | mine) & bit != 0) {
                    if (ds.fault("reclaiming-double-free-late")) block.mine.store(mine & ~bit, .monotonic, .block_take);
                    return error.DoubleFree;
                }
                // Release: pairs with the acquires in `refill` and `allFree`.
                const before = block.word.fetchOr(held | bit, .release, .block_free);
                if (before & bit != 0) return error.DoubleFree;
                if (before & held == 0) return .list;
                if (@as(u32, @truncate(before)) != 0 or ownerIn(before) == 0) return .nothing;
                return .{ .tell = .{ .number = ownerIn(before), .place = placeIn(before) } };
            }

            /// Gives the block up, all of whose slots are taken. False: some are not. Owner only.
            pub fn relinquish(block: *Block) bool {
                const word = block.word.load(.monotonic, .block_owner);
                if (!block.isUsedUp() or @as(u32, @truncate(word)) != 0) return false;
                // Release: pairs with the acquire of the next owner: it must read `mine` as it was left.
                return block.word.cmpxchg(word, 0, .release, .monotonic, .block_idle) == null;
            }

            /// Nobody's with a number any more, but still in the caller's hands, who lists it.
            pub fn disown(block: *Block) void {
                _ = block.word.fetchAnd(held | std.math.maxInt(u32), .monotonic, .block_owner);
            }

            /// Free slots, as seen now.
            pub fn freeSlots(block: *const Block) u32 {
                // Acquire: pairs with the release in `freeRemote`; a batch whose last slot was freed
                // there goes to the backend.
                const freed: u32 = @truncate(block.word.load(.acquire, .block_look));
                return freed | block.mine.load(.monotonic, .block_mine);
            }
        };

        pub const Batch = extern struct {
            /// Blocks with room, and `listed`.
            word: Sync.Atomic(u64),
            /// Link of the stack.
            next: Sync.Atomic(usize),
            start: usize,
            /// As the backend answered.
            span_bytes: usize,
            /// List of the class, and of what is being given back; under the ledger's lock.
            newer: ?*Batch,
            older: ?*Batch,
            blocks_count: u8,
            slots_per_block: u8,
            class: u8,
            /// On its way back to the backend.
            detached: bool,
            blocks: [blocks_max]Block align(64),

            /// Describes a batch that nobody sees yet; its first block is the caller's.
            pub fn init(batch: *Batch, start: usize, span_bytes: usize, class: u8, blocks: u32, slots: u32) *Block {
                const every = maskOf(slots);
                batch.* = .{
                    .word = .init(0),
                    .next = .init(0),
                    .start = start,
                    .span_bytes = span_bytes,
                    .newer = null,
                    .older = null,
                    .blocks_count = @intCast(blocks),
                    .slots_per_block = @intCast(slots),
                    .class = class,
                    .detached = false,
                    .blocks = undefined,
                };
                for (&batch.blocks, 0..) |*block, ordinal| block.* = .{
                    .word = .init(held),
                    .mine = .init(every),
                    .ordinal = @intCast(ordinal),
                };
                return &batch.blocks[0];
            }

            /// Shows all blocks but the first.
            pub fn publish(batch: *Batch, stack: *Stack) void {
                const rest = batch.all() & ~@as(u32, 1);
                if (rest != 0) batch.list(rest, stack);
            }

            pub fn all(batch: *const Batch) u32 {
                return maskOf(batch.blocks_count);
            }

            pub fn full(batch: *const Batch) u32 {
                return maskOf(batch.slots_per_block);
            }

            /// Gives up ownership of blocks that may have free slots.
            pub noinline fn list(batch: *Batch, blocks: u32, stack: *Stack) void {
                // Release: pairs with the acquires in `claim` and `detach`; the next owner reads `mine`.
                const before = batch.word.fetchOr(listed | blocks, .release, .batch_list);
                if (before & listed == 0) stack.push(batch);
            }

            /// A block, now the caller's; null if none has room.
            fn claim(batch: *Batch) ?*Block {
                var word = batch.word.load(.monotonic, .batch_look);
                while (true) {
                    const room: u32 = @truncate(word);
                    if (room == 0) return null;
                    const ordinal = choose(room);
                    const without = word & ~(@as(u64, 1) << ordinal);
                    // Acquire: pairs with the release in `list`.
                    word = batch.word.cmpxchg(word, without, .acquire, .monotonic, .batch_claim) orelse
                        return &batch.blocks[ordinal];
                    if (ds.fault("reclaiming-race-is-full")) return null;
                }
            }

            /// Blocks four to a cache line: if possible from a line where no other thread has one.
            fn choose(room: u32) u5 {
                const pairs = room & (room >> 1);
                const lines = pairs & (pairs >> 2) & 0x1111_1111;
                return @intCast(@ctz(if (lines != 0) lines else room));
            }

            /// Of a batch that was taken off the stack: it is listed no longer, unless it has room again.
            fn unlist(batch: *Batch, stack: *Stack) void {
                var word = batch.word.load(.monotonic, .batch_look);
                while (true) {
                    if (@as(u32, @truncate(word)) != 0) return stack.push(batch);
                    word = batch.word.cmpxchg(word, 0, .monotonic, .monotonic, .batch_unlist) orelse return;
                }
            }

            fn allFree(batch: *const Batch) bool {
                for (batch.blocks[0..batch.blocks_count]) |*block| {
                    if (block.freeSlots() != batch.full()) return false;
                }
                return true;
            }

            /// True: nothing of the batch is in use, and nobody can take any of it any more.
            pub fn detach(batch: *Batch, stack: *Stack) bool {
                const word = batch.word.load(.monotonic, .batch_look);
                if (@as(u32, @truncate(word)) != batch.all() or !batch.allFree()) return false;
                // Acquire: pairs with the release in `list`.
                if (batch.word.cmpxchg(word, word & listed, .acquire, .monotonic, .batch_detach) != null) return false;
                // A block may have been claimed and listed again since it was looked at.
                if (batch.allFree()) return true;
                batch.list(batch.all(), stack);
                return false;
            }
        };

        /// How an owner hears of frees by others in blocks that are used up: a bit for each of its places.
        pub const Mail = struct {
            words: [places_max / 64]Sync.Atomic(u64) = @splat(.init(0)),

            pub fn put(mail: *Mail, place: u8) void {
                const bit = @as(u64, 1) << @intCast(place % 64);
                // Release: pairs with the acquire in `take`: who finds the mail must find the slot.
                _ = mail.words[place / 64].fetchOr(bit, .release, .mail_put);
            }

            /// A place, until there are none. Some may be of blocks that are there no longer.
            pub fn take(mail: *Mail) ?u8 {
                for (&mail.words, 0..) |*word, at| {
                    const bits = word.load(.monotonic, .mail_look);
                    if (bits == 0) continue;
                    // Acquire: pairs with the release in `put`.
                    _ = word.fetchAnd(bits & (bits - 1) | ~bits, .acquire, .mail_take);
                    return @intCast(at * 64 + @ctz(bits));
                }
                return null;
            }
        };

        /// Batches with room, the last listed first. A removal changes the tag in the head, so that a
        /// remover who slept is not fooled by the same batch on top (it would have to sleep through a
        /// multiple of 2^22 removals).
        pub const Stack = struct {
            head: Sync.Atomic(u64) = .init(0),

            const tag_bits = 22;
            const pointer_bits = 64 - tag_bits;

            fn at(head: u64) ?*Batch {
                return @ptrFromInt(@as(usize, @truncate((head << tag_bits >> tag_bits) * record_alignment)));
            }

            fn withPointer(head: u64, batch: usize) u64 {
                return head >> pointer_bits << pointer_bits | batch / record_alignment;
            }

            fn removed(head: u64, next: usize) u64 {
                return ((head >> pointer_bits) +% 1) << pointer_bits | next / record_alignment;
            }

            noinline fn push(stack: *Stack, batch: *Batch) void {
                var head = stack.head.load(.monotonic, .batch_push_look);
                while (true) {
                    batch.next.store(@intFromPtr(at(head)), .monotonic, .batch_link);
                    // Release: pairs with the acquiring looks at the head; they follow the link.
                    const next = withPointer(head, @intFromPtr(batch));
                    head = stack.head.cmpxchg(head, next, .release, .monotonic, .batch_push) orelse return;
                }
            }

            /// A block with room, now the caller's. Batches without are dropped on the way.
            pub fn claim(stack: *Stack) ?*Block {
                while (true) {
                    // Acquire: pairs with the release in push.
                    const head = stack.head.load(.acquire, .batch_head);
                    const batch = at(head) orelse return null;
                    if (batch.claim()) |block| return block;
                    // With room left, the race was lost.
                    if (ds.fault("reclaiming-race-is-full") and @as(u32, @truncate(batch.word.load(.monotonic, .batch_look))) != 0) return null;
                    const next = batch.next.load(.monotonic, .batch_next);
                    if (stack.head.cmpxchg(head, removed(head, next), .monotonic, .monotonic, .batch_drop) == null) {
                        batch.unlist(stack);
                    }
                }
            }

            /// Takes detached batches off. One remover at a time; nobody is about to push them.
            pub fn filter(stack: *Stack) void {
                var head = stack.head.load(.monotonic, .batch_push_look);
                // Acquire: pairs with the release in push.
                while (stack.head.cmpxchg(head, removed(head, 0), .acquire, .monotonic, .batch_all)) |found| head = found;
                var rest = at(head);
                while (rest) |batch| {
                    rest = @ptrFromInt(batch.next.load(.monotonic, .batch_next));
                    if (!batch.detached) stack.push(batch);
                }
            }
        };

        fn maskOf(count: u32) u32 {
            return @intCast((@as(u64, 1) << @intCast(count)) - 1);
        }

        comptime {
            std.debug.assert(Sync != ds.Real or @sizeOf(Batch) == 576);
        }
    };
}
