//! The quick ways of a large pool: regions that a thread takes and frees again without a look at more
//! than its own cache, and what brings regions there that others freed.
//!
//! Three are tried in turn. The hand, by address: the region leased last, a store each way to its tie. The
//! list: the newest region of the class, used to the length before, so that nothing has to be fitted.
//! What others freed for the thread, or the shared stack. Each says what to ask next when it has none.
//!
//! Invariant: a way that answers no has changed nothing. A region taken here was this thread's last, is
//! resident and dirty to the length asked, and has no wrap, lock or advice to be undone.
//!
//! Cost: no locked instruction and no system call; the chains from one pair to the next are in
//! docs/benchmarks/short.md. Threads: the cache's own, and only where thieves have a process-wide
//! barrier. When not: with options of a lease; `LargePool.take` fits a region to those.

const std = @import("std");
const ds = @import("../ds/ds.zig");
const regions = @import("../region/region.zig");
const large_cache = @import("large_cache.zig");

const Flavor = regions.Flavor;
const Tenancy = regions.Tenancy;
const none = regions.none;
const classes = large_cache.classes;
const class_shift_min = large_cache.class_shift_min;
const minus_one = std.math.maxInt(u32);

pub fn Warm(comptime P: type) type {
    return struct {
        const Table = P.Regions;
        const Sync = P.Synchronisation;
        const Cache = P.Cache;
        const Region = P.Region;
        const classBytes = P.classBytes;

        /// Class of a request by its length; `classes` or more if it has none.
        inline fn classUp(bytes: usize) u32 {
            const top = (bytes -% 1) | (classBytes(0) - 1);
            return 64 - class_shift_min - @as(u32, @clz(top));
        }

        /// The warm case of `take` for a tenant with a handle: the thread's own newest region of the
        /// flavor, if it has been used to this length before and nothing has to be fitted to the
        /// tenant. Null: ask `take`, nothing has changed. The warm functions run only where thieves
        /// have a process-wide barrier: the engine offers no warm cache elsewhere.
        pub inline fn takeWarm(cache: *Cache, bytes: usize, alias: bool) ?*Region {
            // Most programs ask for one length many times.
            if (bytes != cache.near.asked) {
                @branchHint(.unlikely);
                const class = classUp(bytes);
                if (class >= classes) return null;
                cache.near.asked = bytes;
                cache.near.asked_row = &cache.rows[class];
            }
            const row = cache.near.asked_row;
            if (!cache.near.lock.tryEnterWarm()) return null;
            var head = &row.heads[cache.near.hot.warm | flavorBit(alias)];
            // Who wants to wrap may take what is not wrapped yet.
            if (alias and head.* == none) head = &row.heads[cache.near.hot.warm];
            const index = head.*;
            const tie = &cache.near.ties[index];
            // Not the end of the list, which has a tie like any other. The region was this thread's
            // last: nothing of another thread or of the system's is to be undone. And what it is asked
            // for is resident and counted as dirty already.
            if (!cache.is(index, .free)) {
                @branchHint(.unlikely);
                cache.near.lock.leave();
                return null;
            }
            const region = &cache.near.descriptors[index];
            if (bytes > region.dirty) {
                @branchHint(.unlikely);
                cache.near.lock.leave();
                return null;
            }
            head.* = region.next.load(.monotonic, .cache_link);
            row.change(minus_one);
            cache.near.lock.leave();
            row.countAllocation(1);
            cache.make(tie, .held);
            region.lease_bytes.store(bytes, .monotonic, .lease_bytes);
            return region;
        }

        pub const Taken = enum {
            /// The region is `near.hand_address`.
            done,
            /// The caller is inside the lock and asks `takeListed`.
            inside,
            /// Ask `takeNear`.
            other,
        };

        /// `takeWarm` by address, first half: the region in hand, if it is free and was leased with this
        /// length. It needs no other look: nothing about it has changed since.
        pub inline fn takeHand(cache: *Cache, bytes: usize) Taken {
            const near = &cache.near;
            if (bytes != near.hand_bytes or !near.lock.tryEnterWarm()) return .other;
            const tie = &near.ties[near.hand.load(.monotonic, .cache_hand)];
            if (tie.word().load(.monotonic, .region_tenancy) != near.home_hand) return .inside;
            cache.make(tie, .leased);
            near.lock.leave();
            near.hand_row.countAllocation(1);
            return .done;
        }

        /// For a length other than the last: the newest region of its list. 0: none, ask `takeShared`.
        noinline fn takeNear(cache: *Cache, bytes: usize) usize {
            const class = classUp(bytes);
            if (class >= classes or !cache.near.lock.tryEnterWarm()) return 0;
            cache.layDown();
            cache.dropHand();
            cache.near.hand_bytes = bytes;
            cache.near.hand_row = &cache.rows[class];
            return takeListed(cache, bytes);
        }

        /// Inside the lock, which it leaves: the newest region of the list for `hand_bytes`, which is
        /// the one in hand from now on. 0: ask `takeShared`, nothing has changed.
        pub inline fn takeListed(cache: *Cache, bytes: usize) usize {
            const near = &cache.near;
            const row = near.hand_row;
            const head = &row.heads[near.hot.warm];
            const index = head.*;
            const tie = &near.ties[index];
            // As in `takeWarm`.
            if (!cache.is(index, .free)) {
                @branchHint(.unlikely);
                near.lock.leave();
                return 0;
            }
            const region = &near.descriptors[index];
            if (bytes > region.dirty) {
                @branchHint(.unlikely);
                near.lock.leave();
                return 0;
            }
            head.* = region.next.load(.monotonic, .cache_link);
            row.change(minus_one);
            near.lock.leave();
            row.countAllocation(1);
            if (row.allocations.load(.monotonic, .count) % 64 == 0) {
                @branchHint(.unlikely);
                near.hand.store(index, .monotonic, .cache_hand);
                near.hand_address = region.address | row.off_hand;
            }
            cache.make(tie, .leased);
            region.lease_bytes.store(bytes, .monotonic, .lease_bytes);
            return region.address;
        }

        inline fn flavorBit(alias: bool) u8 {
            return @as(u8, @bitCast(Flavor{ .kind = .base, .alias = alias }));
        }

        /// One from the thread's list, or when it has none, of those that others freed for this thread or
        /// that lie in the shared stack; more of them go into the list. 0: ask `take`.
        pub fn takeShared(self: *P, cache: *Cache, bytes: usize) usize {
            const address = takeNear(cache, bytes);
            if (address != 0) return address;
            const class = classUp(bytes);
            if (class >= classes or cache.near.hot.warm == Flavor.nothing) return 0;
            const row = &cache.rows[class];
            const flavor: Flavor = @bitCast(cache.near.hot.warm);
            if (topOf(cache, row, flavor) == none) {
                self.collectFreed(cache);
                if (topOf(cache, row, flavor) == none) {
                    var chain: ds.Chain = .{};
                    const stack = &self.stacks[class][flavor.index()].dirty;
                    if (stack.popMany(self.table, @max(1, row.max / 2), &chain) == 0) return 0;
                    cache.counters.count(class, .dirty_out, chain.count);
                    if (!self.keepChain(cache, class, flavor, chain)) return 0;
                }
            }
            makeOurs(self, cache, topOf(cache, row, flavor));
            return takeNear(cache, bytes);
        }

        /// The newest of a list, by the owner; a guess as soon as it is told. `none` too if a thief is inside.
        noinline fn topOf(cache: *Cache, row: *const Cache.Row, flavor: Flavor) u32 {
            if (!cache.near.lock.tryEnter()) return none;
            defer cache.near.lock.leave();
            return row.heads[flavor.index()];
        }

        /// Whose it was that lies in this thread's list is of no use to anyone. What the system may take
        /// back at any time is left to `take`; none of it is certainly resident. `index` is a guess:
        /// a thief may have taken it.
        fn makeOurs(self: *P, cache: *Cache, index: u32) void {
            if (index == none or cache.is(index, .free)) return;
            if (!cache.near.lock.tryEnter()) return;
            defer cache.near.lock.leave();
            const region = self.table.at(index);
            // Wraps of another thread's are for `take` to end.
            if (cache.rows[region.class].heads[cache.near.hot.warm] != index or region.resident == 0) return;
            if (region.wraps.load(.acquire, .wraps) == 0) cache.make(region.tie, .free);
        }

        /// Brings regions that others freed for this thread into its lists, those of the thread that is
        /// known to send first.
        pub fn collectFreed(self: *P, cache: *Cache) void {
            const sender = cache.sender.load(.monotonic, .sender);
            if (sender != none) if (self.cacheIfAny(sender)) |theirs| if (self.collectLane(cache, theirs)) return;
            if (!cache.remote.isEmpty()) self.drainRemote(cache);
        }

        /// Takes what is next in a lane; what is not the thread's own goes to its owner. False: nothing.
        pub noinline fn collectLane(self: *P, cache: *Cache, sender: *Cache) bool {
            // All at once, not a few each time: each look at the lane waits for lines of the sender's.
            var batch: [Cache.lane_slots]u32 = undefined;
            const count = sender.lane.collect(&batch);
            if (count == 0) return false;
            // To be written soon: asked for all at once, since each store waits for those before it.
            for (batch[0..count]) |index| self.table.expect(index);
            const all = self.ticks();
            var chain: ds.Chain = .{};
            var sort: u16 = 0;
            for (batch[0..count]) |index| {
                if (!cache.is(index, .free)) {
                    self.giveRemote(cache, index);
                    continue;
                }
                const region = self.table.at(index);
                if (chain.count != 0 and region.sort() == sort) {
                    self.table.next(chain.last).store(index, .monotonic, .chain_link);
                    chain.last = index;
                    chain.count += 1;
                    continue;
                }
                keepSome(self, cache, &chain, all);
                sort = region.sort();
                chain = .{ .first = index, .last = index, .count = 1 };
            }
            keepSome(self, cache, &chain, all);
            return true;
        }

        /// Puts a chain of one class and flavor, whose end is still open, into the own list, or into the
        /// shared stack if there is no room and it may not stay until the next tick.
        noinline fn keepSome(self: *P, cache: *Cache, chain: *ds.Chain, all: bool) void {
            if (chain.count == 0) return;
            self.table.next(chain.last).store(none, .monotonic, .chain_link);
            const region = self.table.at(chain.first);
            if (all or cache.countOf(region.class) < cache.rows[region.class].max) {
                _ = self.keepChain(cache, region.class, region.flavor, chain.*);
            } else self.shareChainOf(cache, region.class, region.flavor, chain);
        }

        /// The warm case of `give` for a tenant with a handle: the owner frees and has room. False:
        /// ask `give`.
        pub inline fn giveWarm(cache: *Cache, index: u32) bool {
            if (!cache.is(index, .held)) return false;
            const region = &cache.near.descriptors[index];
            var flavor = region.flavor;
            flavor.locked = region.locked != 0;
            // Acquire: what was written through ArrayBuffers that are gone comes before the next use.
            flavor.alias = region.wraps.load(.acquire, .wraps) != 0;
            region.flavor = flavor;
            region.lease.store(none, .monotonic, .region_lease);
            return keepWarm(cache, index, region);
        }

        pub const Freed = enum {
            done,
            /// The thread's list is full; nothing has changed. Ask `freeFull`.
            full,
            /// Nothing has changed. Ask `freeFar` with what `spotOf` said.
            other,
        };

        /// Frees the region in hand, if it is that one and leased; it stays there. False: ask `freeWarm`.
        pub inline fn freeHand(cache: *Cache, address: usize) bool {
            const near = &cache.near;
            if (address != near.hand_address or !near.lock.tryEnterWarm()) return false;
            const tie = &near.ties[near.hand.load(.monotonic, .cache_hand)];
            const ours = tie.word().load(.monotonic, .region_tenancy) == near.home_leased;
            if (ours) cache.make(tie, .hand);
            near.lock.leave();
            return ours;
        }

        /// Frees by address, if the caller leased it. `spot` becomes what lies there for `freeFull` and
        /// `freeFar`: an index, with the page map's mark.
        pub inline fn freeWarm(table: *const Table, cache: *Cache, address: usize, spot: *u32) Freed {
            const near = &cache.near;
            const leaf = table.leafOf(address);
            spot.* = if (leaf == 0) 0 else Table.findIn(leaf, address);
            const index = spot.* & ~regions.starts;
            // First the tie: of another thread's region the descriptor is in another's cache.
            if (!cache.is(index, .leased)) return .other;
            const region = &near.descriptors[index];
            if (region.address != address) return .other;
            // Without a handle it was never wrapped or locked: the flavor is what it was.
            return if (keepWarm(cache, index, region)) .done else .full;
        }

        /// Frees by address what another thread leased, and lays it into the lane to that thread. False:
        /// nothing has changed, ask `free`.
        pub inline fn freeFar(table: *const Table, cache: *Cache, spot: u32, address: usize) bool {
            const index = spot & ~regions.starts;
            // Where it begins the descriptor would say, but nobody else must touch that.
            if (spot & regions.starts == 0 or !Table.mayBegin(address)) return false;
            const tie = &table.ties[index];
            const seen = tie.word().load(.monotonic, .region_tenancy);
            const tenancy: Tenancy = @bitCast(seen);
            const home: Tenancy = @bitCast(cache.near.home);
            if (tenancy.state != .leased or tenancy.pool != home.pool) return false;
            if (tenancy.owner != cache.lane_owner.load(.monotonic, .lane_owner) or !cache.lane.hasRoom()) return false;
            if (!win(tie, seen)) return false;
            cache.lane.sendOne(index);
            return true;
        }

        /// One winner among those who free what another thread leased. Release: pairs with the acquire
        /// of who takes the region from lane or stack, as does its publication there.
        pub inline fn win(tie: *regions.Tie(Sync), seen: u32) bool {
            const freed = seen -% (Tenancy.of(.leased) - Tenancy.of(.free));
            return tie.word().cmpxchg(seen, freed, .acq_rel, .monotonic, .region_free) == null;
        }

        /// Puts a region into the thread's list if there is room.
        inline fn keepWarm(cache: *Cache, index: u32, region: *Region) bool {
            const row = &cache.rows[region.class];
            if (row.count.load(.monotonic, .cache_count) >= row.max or !cache.near.lock.tryEnterWarm()) return false;
            cache.make(&cache.near.ties[index], .free);
            const head = &row.heads[region.flavor.index()];
            region.next.store(head.*, .monotonic, .cache_link);
            head.* = index;
            // Counted again: a thief may have been here before we entered.
            row.change(1);
            cache.near.lock.leave();
            return true;
        }

        /// Frees by address what `freeWarm` found to be the caller's.
        pub fn freeFull(self: *P, cache: *Cache, spot: u32) void {
            const index = spot & ~regions.starts;
            cache.make(&cache.near.ties[index], .free);
            self.keep(cache, index);
            self.wakeIfAsleep();
        }
    };
}
