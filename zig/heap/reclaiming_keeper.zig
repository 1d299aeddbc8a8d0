//! What the reclaiming allocator does off its hot paths: growing, recalling, giving back, counting.
//!
//! Growth asks the backend while holding nothing, then enters the batch under the ledger's lock; who
//! finds by then that another thread was quicker gives its own back. Reclaiming goes in steps, each
//! made safe by settling (reclaiming_guard.zig): blocks that are wholly free are taken from the
//! threads that own them; batches all of whose slots are free are detached and leave the index; their
//! places in the stacks are removed; and only when nobody can have one in hand do memory and records
//! go to the backend.
//!
//! Invariant: each span of the backend is in exactly one place: described by a record, a node of the
//! index, a shelf, or in the hands of one thread. A refusal on the way gives all of them back.
//!
//! Cost: growth two backend calls at most, but for the first batches; reclaiming up to three barriers
//! (some µs each), a look at each batch, and the backend's own. Locks are held for bookkeeping only.
//! Threads: any. Not a part of its own: the other half of reclaiming.zig.

const std = @import("std");
const ds = @import("../ds/ds.zig");
const index_file = @import("reclaiming_index.zig");

const Page = index_file.Page;
const page_bytes = index_file.page_bytes;
/// Pages that growth may need for one batch: its shelf, and two paths of the index.
const spare_max = 8;
/// Nodes of the index that are given back at a time.
const nodes_max = 64;
/// Slack that is worth a reclaim under pressure.
const pressed_slack_bytes = 4096;
/// Hundredths of a per cent of time that some thread waited for memory, from which on it counts.
const pressure_min = 100;

pub fn Keeper(comptime Heap: type) type {
    return struct {
        const Batch = Heap.Record;
        const Block = std.meta.Child(@FieldType(Batch, "blocks"));
        const Entry = Heap.Index.Entry;

        const Spare = struct {
            pages: [spare_max]Page = undefined,
            count: usize = 0,

            pub fn pop(spare: *Spare) ?Page {
                if (spare.count == 0) return null;
                spare.count -= 1;
                return spare.pages[spare.count];
            }

            fn push(spare: *Spare, page: Page) void {
                spare.pages[spare.count] = page;
                spare.count += 1;
            }
        };

        // ---- allocation

        /// A slot of `class`, by claiming a block, growing, or recalling, in this order.
        pub fn alloc(heap: *Heap, thread: ?u32, class: u32) ?[*]u8 {
            var recalled = false;
            var reclaimed = false;
            while (true) {
                if (claim(heap, thread, class)) |ptr| return ptr;
                switch (grow(heap, thread, class)) {
                    .block => |block| return adopt(heap, thread, class, block),
                    .refused => {},
                }
                if (ds.fault("reclaiming-hoards")) return null;
                // What others keep comes before a refusal: first slots of this class, then anything.
                if (!recalled) {
                    recalled = true;
                    recallClass(heap, class);
                } else if (!reclaimed) {
                    reclaimed = true;
                    if (reclaim(heap) == 0) return null;
                } else return null;
            }
        }

        noinline fn claim(heap: *Heap, thread: ?u32, class: u32) ?[*]u8 {
            const section = heap.enter(thread, class);
            defer heap.leave(section);
            if (section.local) |local| if (claimOwn(local, class)) |ptr| return ptr;
            heap.countStep();
            while (heap.classes[class].stack.claim()) |block| {
                // Empty if others took all there was since it was listed.
                _ = block.refill();
                const slot = block.take() orelse {
                    putBack(heap, block);
                    continue;
                };
                install(heap, section, block);
                return at(block, slot);
            }
            return null;
        }

        /// From what the thread has, whose current block has no slot left.
        noinline fn claimOwn(local: *Heap.Local, class: u32) ?[*]u8 {
            const own = &local.own[class];
            const address = own.block.load(.monotonic, .own_block);
            if (address != 0) {
                const block: *Block = @ptrFromInt(address);
                // There may be some: after the backend has allocated in the name of this thread.
                if (block.take() orelse if (block.refill()) block.take() else null) |slot| return atSlot(own, class, slot);
                // It rests. Who frees in it from here on finds its word empty, and tells.
            }
            while (true) {
                if (local.pop(class)) |place| {
                    const block: *Block = @ptrFromInt(place.block.load(.monotonic, .own_place));
                    own.base = place.base;
                    own.block.store(@intFromPtr(block), .monotonic, .own_block);
                    return atSlot(own, class, block.take().?);
                }
                if (!readMail(local, class)) return null;
            }
        }

        inline fn atSlot(own: *const Heap.Own, class: u32, slot: u5) [*]u8 {
            return @ptrFromInt(own.base + slot * Heap.slotBytes(class));
        }

        /// Stashes resting blocks in which others have freed. False: there are none.
        noinline fn readMail(local: *Heap.Local, class: u32) bool {
            const own = &local.own[class];
            while (own.stashed < Heap.stash_counts[class]) {
                const number = local.mail[class].take() orelse break;
                const address = local.placesOf(class)[number].block.load(.monotonic, .own_place);
                // Gone by now, or below: stashed already.
                if (address == 0) continue;
                const block: *Block = @ptrFromInt(address);
                if (block.isUsedUp() and block.refill()) local.push(class, number);
            }
            return own.stashed != 0;
        }

        /// A slot of a block that the caller got from `grow`.
        noinline fn adopt(heap: *Heap, thread: ?u32, class: u32, block: *Block) [*]u8 {
            const section = heap.enter(thread, class);
            defer heap.leave(section);
            _ = block.refill();
            const ptr = at(block, block.take().?);
            install(heap, section, block);
            return ptr;
        }

        /// Makes a block the thread's current one; who may not own any shows it to everyone. Inside of a section.
        noinline fn install(heap: *Heap, section: Heap.Section, block: *Block) void {
            const local = section.local orelse return putBack(heap, block);
            const class = block.batch().class;
            const own = &local.own[class];
            const current: ?*Block = @ptrFromInt(own.block.load(.monotonic, .own_block));
            const place = vacate(heap, local, class) orelse return putBack(heap, block);
            // The backend may have allocated here meanwhile, in the name of this thread.
            if (current) |before| if (!before.isUsedUp()) {
                if (own.stashed < Heap.stash_counts[class]) local.push(class, before.ownPlace()) else letGo(heap, local, class, before);
            };
            block.setOwner(local.number, place);
            own.base = @intFromPtr(at(block, 0));
            settleIn(local, class, place, block, own.base);
            own.slots = block.batch().slots_per_block;
            own.shift = @ctz(Heap.slotBytes(class));
            local.recent = class;
            own.block.store(@intFromPtr(block), .monotonic, .own_block);
        }

        fn settleIn(local: *Heap.Local, class: usize, number: u8, block: *Block, base: usize) void {
            const own = &local.own[class];
            const place = &local.placesOf(class)[number];
            place.base = base;
            // Release: pairs with the acquire in `isWorth`, which looks at the block.
            place.block.store(@intFromPtr(block), .release, .own_place);
            if (own.used.load(.monotonic, .own_used) <= number) own.used.store(@as(u32, number) + 1, .release, .own_used);
        }

        /// An empty place, for which a resting block may have to go; null: all blocks have free slots.
        inline fn vacate(heap: *Heap, local: *Heap.Local, class: usize) ?u8 {
            const own = &local.own[class];
            const places = local.placesOf(class);
            for (0..places.len) |_| {
                const number = own.hand;
                own.hand = if (number + 1 == places.len) 0 else number + 1;
                const address = places[number].block.load(.monotonic, .own_place);
                if (address == 0) return @intCast(number);
                const block: *Block = @ptrFromInt(address);
                if (!block.isUsedUp() or address == own.block.load(.monotonic, .own_block)) continue;
                // The next one to go, which nobody has looked at for long.
                const after: ?*const Block = @ptrFromInt(places[own.hand].block.load(.monotonic, .own_place));
                if (after) |one| @prefetch(one, .{ .rw = .write });
                places[number].block.store(0, .monotonic, .own_place);
                putBack(heap, block);
                return @intCast(number);
            }
            return null;
        }

        /// Frees the first slot of a block that is nobody's, and makes it the thread's. False: it is somebody's,
        /// or the thread has enough.
        pub noinline fn freeOwning(heap: *Heap, local: *Heap.Local, class: usize, block: *Block, slot: u5, base: usize) bool {
            if (!block.isFull() or local.own[class].stashed == Heap.stash_counts[class]) return false;
            const place = vacate(heap, local, class) orelse return false;
            if (!block.freeOwning(slot, local.number, place)) return false;
            settleIn(local, class, place, block, base);
            local.push(class, place);
            return true;
        }

        /// Empties the place of a block that is neither current nor stashed.
        pub noinline fn letGo(heap: *Heap, local: *Heap.Local, class: usize, block: *Block) void {
            local.placesOf(class)[block.ownPlace()].block.store(0, .monotonic, .own_place);
            putBack(heap, block);
        }

        /// Gives up ownership. Inside of a section.
        noinline fn putBack(heap: *Heap, block: *Block) void {
            if (block.relinquish()) return;
            block.disown();
            const batch = block.batch();
            batch.list(@as(u32, 1) << @intCast(block.ordinal), &heap.classes[batch.class].stack);
        }

        noinline fn at(block: *Block, slot: usize) [*]u8 {
            const batch = block.batch();
            const number = @as(usize, block.ordinal) * batch.slots_per_block + slot;
            return @ptrFromInt(batch.start + number * Heap.slotBytes(batch.class));
        }

        // ---- growth

        const Growth = union(enum) { block: *Block, refused };

        /// A block that the caller now owns: of a batch of its own, or of another thread's that came first.
        noinline fn grow(heap: *Heap, thread: ?u32, class: u32) Growth {
            const bytes = Heap.batchBytes(class);
            const alignment = Heap.batchAlignment(class);
            if (ds.fault("reclaiming-locks-backend")) heap.ledger.acquire();
            const taken = heap.backend.take(thread, if (ds.fault("reclaiming-huge-batch")) @max(bytes, 64 * Heap.slotBytes(class)) else bytes, alignment);
            if (ds.fault("reclaiming-locks-backend")) heap.ledger.release();
            const span = taken orelse return refused(heap);
            const start = @intFromPtr(span.ptr);
            const sound = start % alignment == 0 and @as(u64, start + bytes) >> index_file.address_bits == 0;
            var spare: Spare = .{};
            defer while (spare.pop()) |page| heap.backend.give(thread, page.ptr, page.bytes, page_bytes);
            while (sound) {
                heap.ledger.acquire();
                if (heap.classes[class].stack.claim()) |block| {
                    heap.ledger.release();
                    _ = heap.classes[class].lost_races.fetchAdd(1, .monotonic, .total);
                    heap.backend.give(thread, span.ptr, span.bytes, alignment);
                    return .{ .block = block };
                }
                const found = publish(heap, class, start, span.bytes, &spare);
                heap.ledger.release();
                if (found) |block| {
                    _ = heap.classes[class].growths.fetchAdd(1, .monotonic, .total);
                    return .{ .block = block };
                }
                spare.push(takePage(heap, thread) orelse break);
            }
            heap.backend.give(thread, span.ptr, span.bytes, alignment);
            return refused(heap);
        }

        noinline fn refused(heap: *Heap) Growth {
            _ = heap.totals.refusals.fetchAdd(1, .monotonic, .total);
            return .refused;
        }

        noinline fn takePage(heap: *Heap, thread: ?u32) ?Page {
            const span = heap.backend.take(thread, page_bytes, page_bytes) orelse return null;
            const page: Page = .{ .ptr = span.ptr, .bytes = span.bytes };
            if (Heap.Index.fits(page)) return page;
            heap.backend.give(thread, page.ptr, page.bytes, page_bytes);
            return null;
        }

        /// Null: there are too few spare pages. Under the ledger's lock.
        noinline fn publish(heap: *Heap, class: u32, start: usize, span_bytes: usize, spare: *Spare) ?*Block {
            const bytes = Heap.batchBytes(class);
            const shelf = !heap.shelves.hasRoom();
            // All or nothing: nodes added for later could be reclaimed in between, for ever.
            if (spare.count < heap.index.missing(start, bytes) + @intFromBool(shelf)) return null;
            heap.index.ensure(start, bytes, spare);
            if (shelf) heap.shelves.add(spare.pop().?);
            const batch = heap.shelves.take();
            const block = batch.init(start, span_bytes, @intCast(class), Heap.blocksPerBatch(class), Heap.slotsPerBlock(class));
            const family = &heap.classes[class];
            batch.older = family.newest;
            if (family.newest) |newest| newest.newer = batch;
            family.newest = batch;
            family.batches += 1;
            family.batches_bytes += span_bytes;
            heap.index.setRange(start, bytes, .ofBatch(@intFromPtr(batch), @intCast(class)));
            batch.publish(&family.stack);
            return block;
        }

        /// The fault of walking to what the index knows.
        pub fn search(heap: *Heap, address: usize) *Batch {
            heap.ledger.acquire();
            defer heap.ledger.release();
            for (&heap.classes, 0..) |*family, class| {
                var next = family.newest;
                while (next) |batch| : (next = batch.older) {
                    heap.countStep();
                    if (address -% batch.start < Heap.batchBytes(class)) return batch;
                }
            }
            unreachable;
        }

        // ---- what is too large

        pub fn allocPassed(heap: *Heap, thread: ?u32, bytes: usize, alignment: usize) ?[*]u8 {
            if (bytes > std.math.maxInt(isize) - page_bytes) return null;
            const aligned = @max(alignment, page_bytes);
            const span = heap.backend.take(thread, bytes, aligned) orelse {
                _ = refused(heap);
                return null;
            };
            const start = @intFromPtr(span.ptr);
            var spare: Spare = .{};
            defer while (spare.pop()) |page| heap.backend.give(thread, page.ptr, page.bytes, page_bytes);
            const sound = start % aligned == 0 and @as(u64, start) >> index_file.address_bits == 0;
            while (sound) {
                heap.ledger.acquire();
                const ready = spare.count >= heap.index.missing(start, 1);
                if (ready) {
                    heap.index.ensure(start, 1, &spare);
                    heap.index.set(start, .ofPassed(span.bytes, aligned));
                }
                heap.ledger.release();
                if (ready) {
                    _ = heap.totals.passed.fetchAdd(1, .monotonic, .total);
                    _ = heap.totals.passed_total.fetchAdd(1, .monotonic, .total);
                    _ = heap.totals.passed_bytes.fetchAdd(span.bytes, .monotonic, .total);
                    return span.ptr;
                }
                spare.push(takePage(heap, thread) orelse break);
            }
            heap.backend.give(thread, span.ptr, span.bytes, aligned);
            _ = refused(heap);
            return null;
        }

        /// False: it is gone already.
        pub fn freePassed(heap: *Heap, thread: ?u32, address: usize) bool {
            heap.ledger.acquire();
            const entry = heap.index.find(address);
            const live = !entry.isNone() and entry.kind == .passed;
            if (live) heap.index.set(address, .none);
            heap.ledger.release();
            if (!live) return false;
            const bytes: usize = entry.value;
            _ = heap.totals.passed.fetchSub(1, .monotonic, .total);
            _ = heap.totals.passed_bytes.fetchSub(bytes, .monotonic, .total);
            heap.backend.give(thread, @ptrFromInt(address), bytes, @as(usize, 1) << entry.shift);
            return true;
        }

        // ---- recalling

        const Wish = enum { room, whole };

        /// Takes blocks of classes [from, to) from their owners: those with free slots, or all of whose
        /// slots are free. Under the reclaimer's lock, so that no record goes away.
        noinline fn recall(heap: *Heap, from: usize, to: usize, wish: Wish) void {
            const seen = heap.threads_seen.load(.monotonic, .threads_seen);
            var worth = false;
            for (heap.locals[0..seen]) |*local| {
                if (!isWorth(local, from, to, wish)) continue;
                local.seat.steal();
                worth = true;
            }
            if (!worth) return;
            // From here on those threads do without what they own.
            heap.settle();
            var count: u64 = 0;
            for (heap.locals[0..seen]) |*local| {
                if (local.seat.thief.load(.monotonic, .seat_stolen) == 0) continue;
                for (from..to) |class| count += disownSome(heap, local, class, wish);
                local.seat.handBack();
            }
            _ = heap.totals.recalls.fetchAdd(count, .monotonic, .total);
        }

        noinline fn isWorth(local: *Heap.Local, from: usize, to: usize, wish: Wish) bool {
            for (from..to) |class| {
                // Acquire, here and below: pairs with the releases in `settleIn`, which show a block.
                const used = local.own[class].used.load(.acquire, .own_used);
                for (local.placesOf(class)[0..used]) |*place| {
                    if (isWanted(place.block.load(.acquire, .own_look), wish)) return true;
                }
            }
            return false;
        }

        noinline fn isWanted(address: usize, wish: Wish) bool {
            if (address == 0) return false;
            const block: *Block = @ptrFromInt(address);
            const free = block.freeSlots();
            return if (wish == .whole) free == block.batch().full() else free != 0;
        }

        noinline fn disownSome(heap: *Heap, local: *Heap.Local, class: usize, wish: ?Wish) u64 {
            const own = &local.own[class];
            const places = local.placesOf(class);
            var count: u64 = 0;
            var used: u32 = 0;
            for (places[0..own.used.load(.monotonic, .own_used)], 0..) |*place, number| {
                const address = place.block.load(.monotonic, .own_place);
                if (address == 0) continue;
                if (wish != null and !isWanted(address, wish.?)) {
                    used = @intCast(number + 1);
                    continue;
                }
                if (own.block.load(.monotonic, .own_block) == address) {
                    own.block.store(0, .monotonic, .own_block);
                    own.slots = 0;
                }
                place.block.store(0, .monotonic, .own_place);
                putBack(heap, @ptrFromInt(address));
                count += 1;
            }
            own.used.store(used, .monotonic, .own_used);
            local.dropEmpty(class);
            return count;
        }

        noinline fn recallClass(heap: *Heap, class: u32) void {
            heap.reclaimer.acquire();
            recall(heap, class, class + 1, .room);
            heap.reclaimer.release();
        }

        pub fn disown(heap: *Heap, thread: u32) void {
            // No reclaimer may have it at the same time.
            heap.reclaimer.acquire();
            defer heap.reclaimer.release();
            // Acquire: pairs with the release of the thread's last section.
            _ = heap.locals[thread].seat.taken.load(.acquire, .seat_ended);
            for (0..Heap.classes_count) |class| _ = disownSome(heap, &heap.locals[thread], class, null);
        }

        // ---- reclaiming

        pub noinline fn reclaim(heap: *Heap) u64 {
            heap.reclaimer.acquire();
            recall(heap, 0, Heap.classes_count, .whole);
            var first: ?*Batch = null;
            var nodes: [nodes_max]Page = undefined;
            var collected: []Page = nodes[0..0];
            {
                heap.ledger.acquire();
                defer heap.ledger.release();
                for (0..Heap.classes_count) |class| detachFree(heap, class, &first);
                if (!ds.fault("reclaiming-keeps-metadata")) collected = heap.index.collect(&nodes);
            }
            if (first != null) {
                // Whoever listed a block of these batches has pushed the batch by now.
                heap.settle();
                filter(heap, first);
            }
            // Nobody has a record or a node in hand any more.
            if (first != null or collected.len > 0) heap.settle();
            heap.reclaimer.release();

            var bytes: u64 = 0;
            for (collected) |page| bytes += give(heap, page.ptr, page.bytes, page_bytes);
            bytes += giveBatches(heap, first);
            _ = heap.totals.reclaims.fetchAdd(1, .monotonic, .total);
            _ = heap.totals.reclaimed_bytes.fetchAdd(bytes, .monotonic, .total);
            // More nodes than fitted.
            return if (collected.len == nodes_max) bytes + reclaim(heap) else bytes;
        }

        fn give(heap: *Heap, ptr: [*]u8, bytes: usize, alignment: usize) u64 {
            if (ds.fault("reclaiming-gives-locked")) heap.ledger.acquire();
            heap.backend.give(null, ptr, bytes, alignment);
            if (ds.fault("reclaiming-gives-locked")) heap.ledger.release();
            return bytes;
        }

        /// Moves the batches of a class that nobody uses to the list `first`.
        fn detachFree(heap: *Heap, class: usize, first: *?*Batch) void {
            const family = &heap.classes[class];
            var next = family.newest;
            while (next) |batch| {
                next = batch.older;
                if (!batch.detach(&family.stack)) continue;
                batch.detached = true;
                unlink(heap, batch);
                heap.index.setRange(batch.start, Heap.batchBytes(class), .none);
                batch.older = first.*;
                first.* = batch;
            }
        }

        fn unlink(heap: *Heap, batch: *Batch) void {
            const family = &heap.classes[batch.class];
            if (batch.newer) |newer| newer.older = batch.older else family.newest = batch.older;
            if (batch.older) |older| older.newer = batch.newer;
            family.batches -= 1;
            family.batches_bytes -= batch.span_bytes;
        }

        fn filter(heap: *Heap, first: ?*Batch) void {
            var done: u32 = 0;
            var next = first;
            heap.ledger.acquire();
            defer heap.ledger.release();
            while (next) |batch| : (next = batch.older) {
                const bit = @as(u32, 1) << @intCast(batch.class);
                if (done & bit != 0) continue;
                done |= bit;
                heap.classes[batch.class].stack.filter();
            }
        }

        /// Memory first, then records, and shelves that are empty then.
        noinline fn giveBatches(heap: *Heap, first: ?*Batch) u64 {
            var bytes: u64 = 0;
            var next = first;
            while (next) |batch| : (next = batch.older) {
                const given = give(heap, @ptrFromInt(batch.start), batch.span_bytes, Heap.batchAlignment(batch.class));
                _ = heap.classes[batch.class].reclaimed_bytes.fetchAdd(given, .monotonic, .total);
                bytes += given;
            }
            if (ds.fault("reclaiming-keeps-metadata")) return bytes;
            var empty: ?*@TypeOf(heap.shelves).Shelf = null;
            {
                heap.ledger.acquire();
                defer heap.ledger.release();
                next = first;
                while (next) |batch| {
                    next = batch.older;
                    const shelf = heap.shelves.put(batch) orelse continue;
                    shelf.older = empty;
                    empty = shelf;
                }
            }
            while (empty) |shelf| {
                empty = shelf.older;
                bytes += give(heap, @ptrCast(shelf), shelf.bytes, page_bytes);
            }
            return bytes;
        }

        /// Everything, at the end.
        pub fn giveAll(heap: *Heap) void {
            var first: ?*Batch = null;
            for (&heap.classes) |*family| {
                while (family.newest) |batch| {
                    unlink(heap, batch);
                    heap.index.setRange(batch.start, Heap.batchBytes(batch.class), .none);
                    batch.older = first;
                    first = batch;
                }
                family.* = .{};
            }
            const Passed = struct {
                heap: *Heap,
                pub fn passed(self: @This(), address: usize, entry: Entry) void {
                    _ = freePassed(self.heap, null, address);
                    _ = entry;
                }
            };
            heap.index.eachPassed(Passed{ .heap = heap });
            _ = giveBatches(heap, first);
            while (true) {
                var nodes: [nodes_max]Page = undefined;
                const collected = heap.index.collect(&nodes);
                for (collected) |page| heap.backend.give(null, page.ptr, page.bytes, page_bytes);
                if (collected.len == 0) break;
            }
            const seen = heap.threads_seen.load(.monotonic, .threads_seen);
            for (heap.locals[0..seen]) |*local| local.* = .{};
        }

        pub fn tick(heap: *Heap) void {
            const every_ms = heap.options.reclaim_every_ms;
            if (every_ms == 0) return;
            const now = Heap.System.nowNs();
            const last = heap.last_tick_ns.load(.monotonic, .tick);
            if (now -| last < @as(u64, every_ms) * std.time.ns_per_ms) return;
            if (heap.last_tick_ns.cmpxchg(last, now, .monotonic, .monotonic, .tick) != null) return;
            const pressed = heap.options.under_pressure and Heap.System.memoryPressure() >= pressure_min;
            const worth = if (pressed) @min(pressed_slack_bytes, heap.options.min_slack_bytes) else heap.options.min_slack_bytes;
            const found = figures(heap);
            if (found.allocated_from_fallback - found.in_use >= @as(f64, @floatFromInt(worth))) _ = reclaim(heap);
        }

        // ---- figures

        pub fn figures(heap: *Heap) Heap.Figures {
            var all: Heap.Figures = .{};
            var slots_bytes: u64 = 0;
            var live_bytes: u64 = 0;
            heap.ledger.acquire();
            for (&heap.classes, 0..) |*family, class| {
                const live = liveSlots(family);
                all.live_slots += @floatFromInt(live);
                live_bytes += live * Heap.slotBytes(class);
                slots_bytes += family.batches_bytes;
                all.growths += asDouble(&family.growths);
                all.lost_races += asDouble(&family.lost_races);
            }
            const metadata = heap.shelves.shelves_bytes + heap.index.nodes_bytes;
            const metadata_used = heap.shelves.records * @sizeOf(Batch) +
                (heap.index.nodes - heap.index.empty) * page_bytes;
            heap.ledger.release();
            all.allocated_from_fallback = @floatFromInt(slots_bytes + metadata);
            all.in_use = @floatFromInt(live_bytes + metadata_used);
            all.allocated_metadata = @floatFromInt(metadata);
            all.in_use_metadata = @floatFromInt(metadata_used);
            inline for (.{ "passed", "passed_bytes", "passed_total", "refusals", "reclaims", "reclaimed_bytes", "recalls", "wrong_frees" }) |name| {
                @field(all, name) = asDouble(&@field(heap.totals, name));
            }
            return all;
        }

        pub fn classFigures(heap: *Heap, class: usize) Heap.ClassFigures {
            const family = &heap.classes[class];
            heap.ledger.acquire();
            const live = liveSlots(family);
            const batches: u64 = family.batches;
            heap.ledger.release();
            return .{
                .slot_bytes = @floatFromInt(Heap.slotBytes(class)),
                .batches = @floatFromInt(batches),
                .slots = @floatFromInt(batches * (Heap.batchBytes(class) / Heap.slotBytes(class))),
                .live_slots = @floatFromInt(live),
                .growths = asDouble(&family.growths),
                .lost_races = asDouble(&family.lost_races),
                .reclaimed_bytes = asDouble(&family.reclaimed_bytes),
            };
        }

        /// Counted from the bitmaps, so that no operation keeps count. Under the ledger's lock.
        fn liveSlots(family: *Heap.Class) u64 {
            var live: u64 = 0;
            var next = family.newest;
            while (next) |batch| : (next = batch.older) {
                for (batch.blocks[0..batch.blocks_count]) |*block| {
                    live += batch.slots_per_block - @popCount(block.freeSlots());
                }
            }
            return live;
        }

        fn asDouble(total: anytype) f64 {
            return @floatFromInt(total.load(.monotonic, .total));
        }
    };
}
