//! From an address to what lies there, for memory that a backend puts anywhere.
//!
//! Batches lie at any multiple of 4 KiB, so the index knows single pages: four levels of 512 entries
//! under a root that lies in the allocator itself. An address that is nobody's ends at an empty entry;
//! its memory is never touched. A page holds either a batch, all of whose pages have an entry, or the
//! beginning of a span that was passed through, whose entry is all there is to know of it.
//!
//! Why not one flat map: reserved address space is a thing of some systems, and the index must go
//! back to the backend with what it describes. Why not a hash: it would have to be rebuilt while it
//! is read; a tree grows and shrinks by single stores.
//!
//! Invariant: the low bits of an inner entry count the entries of the node below it; a node without
//! any is collected when memory is reclaimed.
//!
//! Cost: a lookup is four loads, of which three are nearly always in the nearest cache; 4 KiB of nodes
//! for 2 MiB of batches. Threads: find: any, inside of a section; all else: the holder of the ledger's
//! lock. When not: where the addresses are one's own to choose (region.zig).

const std = @import("std");
const ds = @import("../ds/ds.zig");

pub const page_bytes = 4096;
const fanout = 512;
const fanout_shift = 9;
/// Beyond it lies nothing that a process may have.
pub const address_bits = 48;
/// Records of batches lie at multiples of this; below it their entries have five bits and the kind.
pub const record_alignment = 64;

/// A page of metadata, as a backend gave it.
pub const Page = struct { ptr: [*]u8, bytes: usize };

pub fn Index(comptime Sync: type) type {
    return struct {
        root: Node = .{ .entries = @splat(.init(0)) },
        nodes: u32 = 0,
        /// Bytes of the nodes, as the backend counts them.
        nodes_bytes: usize = 0,
        /// Nodes without entries.
        empty: u32 = 0,

        const Self = @This();
        const Node = extern struct { entries: [fanout]Sync.Atomic(u64) };

        comptime {
            std.debug.assert(@sizeOf(Node) == page_bytes);
            // The pages of 2 MiB are counted above an address.
            std.debug.assert(64 - address_bits >= 9);
        }

        /// What lies at a page.
        pub const Entry = packed struct(u64) {
            kind: enum(u1) { batch, passed } = .batch,
            /// Of a passed span: log2 of the alignment that was asked for.
            shift: u6 = 0,
            /// Of a passed span: its bytes.
            value: u57 = 0,

            pub const none: Entry = .{};

            /// Of a batch: its record, in whose low bits, which are zero, its class stands, and above the
            /// address which of the batch's pages this is. So a free need not look at the record.
            pub fn ofBatch(address: usize, class_number: u5) Entry {
                return @bitCast(@as(u64, address) | @as(u64, class_number) << 1);
            }

            /// The entry of the next page.
            fn next(entry: Entry) Entry {
                return if (entry.isNone()) entry else @bitCast(@as(u64, @bitCast(entry)) + (1 << address_bits));
            }

            pub inline fn class(entry: Entry) u5 {
                return @truncate(@as(u64, @bitCast(entry)) >> 1);
            }

            /// Of a batch: how far in it `address` is, which lies on this page.
            pub inline fn offsetOf(entry: Entry, address: usize) usize {
                const wide: u64 = @bitCast(entry);
                return @intCast((wide >> address_bits << 12) + (address & (page_bytes - 1)));
            }

            pub fn ofPassed(bytes: usize, alignment: usize) Entry {
                return .{ .kind = .passed, .shift = @intCast(@ctz(alignment)), .value = @intCast(bytes) };
            }

            pub fn isNone(entry: Entry) bool {
                return @as(u64, @bitCast(entry)) == 0;
            }

            pub fn record(entry: Entry) usize {
                return @truncate(@as(u64, @bitCast(entry)) & ((1 << address_bits) - record_alignment));
            }
        };

        /// Inner entries: a node's address, the number of its entries, and whether the backend gave
        /// more than a page for it: then its bytes stand behind it.
        const Link = packed struct(u64) {
            long: bool = false,
            count: u11 = 0,
            page: u52 = 0,

            fn node(link: Link) ?*Node {
                return @ptrFromInt(@as(usize, @truncate(@as(u64, link.page) * page_bytes)));
            }

            fn given(link: Link) Page {
                const ptr: [*]u8 = @ptrCast(link.node().?);
                const bytes: *align(1) usize = @ptrCast(ptr + page_bytes);
                return .{ .ptr = ptr, .bytes = if (link.long) bytes.* else page_bytes };
            }
        };

        inline fn step(address: u64, comptime level: u32) usize {
            return @intCast(address >> (12 + fanout_shift * (3 - level)) & (fanout - 1));
        }

        /// What lies at the page of `address`. Inside of a section.
        pub inline fn find(index: *const Self, address: usize) Entry {
            const wide: u64 = address;
            if (wide >> address_bits != 0) return .none;
            // Acquire, here and below: pairs with the release in `add` and `set`, so that a node is seen
            // cleared and a record filled in.
            var node: *const Node = &index.root;
            inline for (0..3) |level| {
                const link: Link = @bitCast(node.entries[step(wide, level)].load(.acquire, .index_link));
                node = link.node() orelse return .none;
            }
            return @bitCast(node.entries[step(wide, 3)].load(.acquire, .index_entry));
        }

        /// Whether a node of `page` can be had: a backend may give more than was asked, but not so
        /// little more that its length finds no place.
        pub fn fits(page: Page) bool {
            const address: u64 = @intFromPtr(page.ptr);
            if (address % page_bytes != 0 or address >> address_bits != 0) return false;
            return page.bytes == page_bytes or page.bytes >= page_bytes + @sizeOf(usize);
        }

        /// Path from the root to the leaf of an address.
        const Path = struct { links: [3]*Sync.Atomic(u64), leaf: *Node };

        noinline fn path(index: *Self, address: u64) ?Path {
            var found: Path = .{ .links = undefined, .leaf = &index.root };
            inline for (0..3) |level| {
                found.links[level] = &found.leaf.entries[step(address, level)];
                const link: Link = @bitCast(found.links[level].load(.monotonic, .index_walk));
                found.leaf = link.node() orelse return null;
            }
            return found;
        }

        /// Nodes that `ensure` would add for a range, at most.
        pub fn missing(index: *const Self, start: usize, bytes: usize) u32 {
            const last = start + bytes - 1;
            const apart = step(start, 2) != step(last, 2);
            return index.missingAt(start) + if (apart) index.missingAt(last) else 0;
        }

        noinline fn missingAt(index: *const Self, address: u64) u32 {
            var node: *const Node = &index.root;
            inline for (0..3) |level| {
                const link: Link = @bitCast(node.entries[step(address, level)].load(.monotonic, .index_walk));
                node = link.node() orelse return 3 - level;
            }
            return 0;
        }

        /// Makes room for a range's entries, from `spare` pages, of which there are enough.
        pub fn ensure(index: *Self, start: usize, bytes: usize, spare: anytype) void {
            index.ensureAt(start, spare);
            index.ensureAt(start + bytes - 1, spare);
        }

        noinline fn ensureAt(index: *Self, address: usize, spare: anytype) void {
            var node = &index.root;
            var above: ?*Sync.Atomic(u64) = null;
            inline for (0..3) |level| {
                const cell = &node.entries[step(address, level)];
                var link: Link = @bitCast(cell.load(.monotonic, .index_walk));
                if (link.page == 0) {
                    const page: Page = spare.pop().?;
                    link = index.add(cell, page);
                    if (above) |parent| index.count(parent, 1);
                }
                node = link.node().?;
                above = cell;
            }
        }

        fn add(index: *Self, cell: *Sync.Atomic(u64), page: Page) Link {
            const node: *Node = @ptrCast(@alignCast(page.ptr));
            for (&node.entries) |*entry| {
                if (!ds.fault("reclaiming-trusts-zero")) entry.* = .init(0);
            }
            const link: Link = .{ .long = page.bytes != page_bytes, .page = @intCast(@intFromPtr(node) / page_bytes) };
            if (link.long) {
                const bytes: *align(1) usize = @ptrCast(page.ptr + page_bytes);
                bytes.* = page.bytes;
            }
            index.nodes += 1;
            index.nodes_bytes += page.bytes;
            index.empty += 1;
            // Release: pairs with the acquires in `find`.
            cell.store(@bitCast(link), .release, .index_add);
            return link;
        }

        /// Changes how many entries the node behind `cell` has.
        fn count(index: *Self, cell: *Sync.Atomic(u64), change: i2) void {
            var link: Link = @bitCast(cell.load(.monotonic, .index_walk));
            if (link.count == 0) index.empty -= 1;
            link.count = @intCast(@as(i32, link.count) + change);
            if (link.count == 0) index.empty += 1;
            // Release: who reads this value must see the node cleared, too.
            cell.store(@bitCast(link), .release, .index_count);
        }

        /// Enters or removes (`Entry.none`) what lies at a page; there is room for it.
        pub noinline fn set(index: *Self, address: usize, entry: Entry) void {
            const found = index.path(address).?;
            // Release: pairs with the acquire in `find`.
            found.leaf.entries[step(address, 3)].store(@bitCast(entry), .release, .index_set);
            index.count(found.links[2], if (entry.isNone()) -1 else 1);
        }

        /// Enters or removes a batch for each page from `start` on; `first` is the first page's entry.
        pub noinline fn setRange(index: *Self, start: usize, bytes: usize, first: Entry) void {
            var address = start;
            var entry = first;
            while (address < start + bytes) : (address += page_bytes) {
                index.set(address, entry);
                entry = entry.next();
            }
        }

        /// Takes nodes without entries out of sight; they may be given back after a `settle`.
        pub fn collect(index: *Self, pages: []Page) []Page {
            var taken: usize = 0;
            if (index.empty > 0) index.collectBelow(&index.root, null, 2, pages, &taken);
            return pages[0..taken];
        }

        noinline fn collectBelow(index: *Self, node: *Node, above: ?*Sync.Atomic(u64), deeper: u32, pages: []Page, taken: *usize) void {
            for (&node.entries) |*cell| {
                var link: Link = @bitCast(cell.load(.monotonic, .index_walk));
                const below = link.node() orelse continue;
                if (deeper > 0 and link.count > 0) {
                    index.collectBelow(below, cell, deeper - 1, pages, taken);
                    link = @bitCast(cell.load(.monotonic, .index_walk));
                }
                if (link.count > 0) continue;
                if (taken.* == pages.len) return;
                pages[taken.*] = link.given();
                taken.* += 1;
                index.nodes -= 1;
                index.nodes_bytes -= link.given().bytes;
                index.empty -= 1;
                cell.store(0, .monotonic, .index_remove);
                if (above) |parent| index.count(parent, -1);
            }
        }

        /// Calls `context.passed(address, entry)` for each passed span; nobody else is there.
        pub fn eachPassed(index: *Self, context: anytype) void {
            index.visit(&index.root, 0, 0, context);
        }

        fn visit(index: *Self, node: *Node, prefix: u64, comptime level: u32, context: anytype) void {
            for (&node.entries, 0..) |*cell, at| {
                const raw = cell.load(.monotonic, .index_walk);
                if (raw == 0) continue;
                const address = (prefix | at) << (if (level == 3) 12 else fanout_shift);
                if (level == 3) {
                    const entry: Entry = @bitCast(raw);
                    if (entry.kind == .passed) context.passed(@intCast(address), entry);
                } else index.visit(@as(Link, @bitCast(raw)).node().?, address, level + 1, context);
            }
        }
    };
}
