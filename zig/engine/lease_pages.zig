//! The pages under a lease: locked in RAM, asked for beforehand, given back, shown as a file.
//!
//! Invariant: advice and locks cover whole pages that are the lease's alone; what is rounded is said at
//! each function. A refusal of the system changes no figure.
//!
//! Cost: one system call or two. Threads: any attached thread. When not: for a whole pool, see
//! `Purge.trim`.

const std = @import("std");
const ds = @import("../ds/ds.zig");
const os = @import("../os/os.zig");
const regions = @import("../region/region.zig");
const heap = @import("../heap/heap.zig");
const types = @import("types.zig");
const w = @import("block.zig");

const Status = types.Status;
const none = regions.none;

pub fn LeasePages(comptime E: type) type {
    return struct {
        const Pool = E.Pool;
        const Lease = E.LeaseRecord;
        const Thread = E.Thread;
        const Os = E.System;
        const wrong = E.wrong;
        const integer = E.integer;
        const wholeOf = E.wholeOf;
        const report = E.report;

        pub fn lock(self: *E, thread_index: u32, handle: f64) Status {
            const thread = self.threadAt(thread_index) orelse return .foreign;
            const found = self.leaseOf(handle) catch |err| return wrong(err);
            const of = found.lease;
            if (of.bytes == 0) return .ok;
            const pool = self.pools[of.pool].pool.load(.acquire, .pool).?;
            if (of.flags.layered) return .unsupported;
            var failure: heap.Failure = .{};
            const result = if (of.pages == 0)
                pool.fitLock(self.table.at(of.region), Pool.pageRound(of.bytes), .require, &failure)
            else result: {
                if (self.lockedNow(of)) break :result {};
                of.flags.lock = true;
                break :result Pool.Runs.lockPages(pool, Pool.Runs.blockOfRun(pool, of.run()), of.run(), &failure);
            };
            result catch |err| return report(thread, err, failure, of.bytes);
            self.describeInto(thread, of);
            return .ok;
        }

        pub fn unlock(self: *E, thread_index: u32, handle: f64) Status {
            const thread = self.threadAt(thread_index) orelse return .foreign;
            const found = self.leaseOf(handle) catch |err| return wrong(err);
            const of = found.lease;
            if (of.bytes == 0 or of.flags.layered) return .ok;
            const pool = self.pools[of.pool].pool.load(.acquire, .pool).?;
            var failure: heap.Failure = .{};
            if (of.pages == 0)
                pool.fitLock(self.table.at(of.region), 0, .none, &failure) catch {}
            else if (self.lockedNow(of))
                Pool.Runs.unlockPages(pool, Pool.Runs.blockOfRun(pool, of.run()), of.run());
            self.describeInto(thread, of);
            return .ok;
        }

        const Span = struct { ptr: [*]u8, bytes: usize };

        /// Checks a range of a lease and rounds it to pages, outward or inward.
        noinline fn span(of: *const Lease, offset: f64, bytes: f64, outward: bool) ?Span {
            const from = integer(offset) orelse return null;
            const count = integer(bytes) orelse return null;
            if (from > of.bytes or count > of.bytes - from) return null;
            const page = Os.pageBytes();
            const begin = of.address + from;
            const end = begin + count;
            // Unless it is an object among others, the lease owns its last page whole.
            const whole = outward or (from + count == of.bytes and !of.flags.layered);
            const first = if (outward) std.mem.alignBackward(usize, begin, page) else std.mem.alignForward(usize, begin, page);
            const last = if (whole) std.mem.alignForward(usize, end, page) else std.mem.alignBackward(usize, end, page);
            return .{ .ptr = @ptrFromInt(first), .bytes = if (count == 0) 0 else last -| first };
        }

        pub fn prefetch(self: *E, thread_index: u32, handle: f64, offset: f64, bytes: f64) Status {
            const thread = self.threadAt(thread_index) orelse return .foreign;
            const found = self.leaseOf(handle) catch |err| return wrong(err);
            const range = span(found.lease, offset, bytes, true) orelse return outOfRange(thread, found.lease, offset, bytes);
            if (range.bytes == 0) return .ok;
            const pool = self.pools[found.lease.pool].pool.load(.acquire, .pool).?;
            return systemStatus(thread, pool.tryAdvise(range.ptr, range.bytes, .will_need), range.bytes);
        }

        /// Descriptor of the file that is exactly the lease, or a Status below zero. The lease keeps its
        /// place and length from now on, and its region has no other tenant after it.
        pub fn file(self: *E, thread_index: u32, handle: f64) i32 {
            const thread = self.threadAt(thread_index) orelse return @intFromEnum(Status.foreign);
            const found = self.leaseOf(handle) catch |err| return @intFromEnum(wrong(err));
            const of = found.lease;
            // A later tenant of an alias region could be seen by views of this one, and a run of pages
            // shares its region with others.
            if (of.bytes == 0 or of.pages != 0 or of.flags.alias) return @intFromEnum(Status.unsupported);
            const area = &self.table.areas[self.table.at(of.region).area];
            if (area.file < 0) return @intFromEnum(Status.unsupported);
            if (!area.published) {
                const errno = Os.publishShared(area.file, of.bytes);
                if (errno != 0) {
                    thread.block[w.errno] = @floatFromInt(errno);
                    thread.block[w.system_call] = @floatFromInt(@intFromEnum(os.SystemCall.memfd_create));
                    thread.block[w.requested] = @floatFromInt(of.bytes);
                    return @intFromEnum(Status.system);
                }
                area.published = true;
            }
            return area.file;
        }

        pub fn purge(self: *E, thread_index: u32, handle: f64, offset: f64, bytes: f64, lazy: u32) Status {
            const thread = self.threadAt(thread_index) orelse return .foreign;
            const found = self.leaseOf(handle) catch |err| return wrong(err);
            const of = found.lease;
            const range = span(of, offset, bytes, false) orelse return outOfRange(thread, of, offset, bytes);
            if (of.flags.layered and lazy == 0) zeroEdges(of.address + wholeOf(offset), wholeOf(bytes), range);
            if (range.bytes == 0) return .ok;
            if (self.lockedNow(of)) return .busy;
            // A later touch of an explicit huge page that was given back could be a SIGBUS.
            if (isHugetlb(self, of)) return .unsupported;
            const pool = self.pools[of.pool].pool.load(.acquire, .pool).?;
            const advice: os.Advice = if (lazy != 0 and Os.works(.lazy_free)) .lazy_free else .dont_need;
            return systemStatus(thread, pool.tryAdvise(range.ptr, range.bytes, advice), range.bytes);
        }

        /// The lease lies on explicit huge pages. Not every layer lies in regions.
        fn isHugetlb(self: *E, of: *const Lease) bool {
            const index = if (of.flags.layered) self.table.find(of.address) else of.region;
            return index != none and self.table.at(index).flavor.kind == .hugetlb;
        }

        /// An object shares its first and last page with others: there the contents are zeroed by hand.
        noinline fn zeroEdges(address: usize, bytes: usize, pages: Span) void {
            const first: [*]u8 = @ptrFromInt(address);
            if (pages.bytes == 0) return ds.memory.zero(first[0..bytes]);
            const head = @intFromPtr(pages.ptr) - address;
            ds.memory.zero(first[0..head]);
            ds.memory.zero(first[head + pages.bytes .. bytes]);
        }

        fn outOfRange(thread: *Thread, of: *const Lease, offset: f64, bytes: f64) Status {
            thread.block[w.requested] = offset + bytes;
            thread.block[w.bound] = @floatFromInt(of.bytes);
            return .out_of_range;
        }

        fn systemStatus(thread: *Thread, errno: u16, bytes: usize) Status {
            if (errno == 0) return .ok;
            thread.block[w.errno] = @floatFromInt(errno);
            thread.block[w.system_call] = @floatFromInt(@intFromEnum(os.SystemCall.madvise));
            thread.block[w.requested] = @floatFromInt(bytes);
            return .system;
        }

        pub fn pageKind(self: *E, thread: u32, handle: f64) i32 {
            _ = thread;
            const found = self.leaseOf(handle) catch |err| return @intFromEnum(wrong(err));
            const of = found.lease;
            const base = @intFromEnum(types.Pages.base);
            if (of.bytes == 0) return base;
            const pages = span(of, 0, @floatFromInt(of.bytes), true).?;
            const resident = Os.residentBytes(pages.ptr, pages.bytes);
            if (resident == 0) return base;
            const huge = Os.hugeBytes(pages.ptr, pages.bytes);
            if (@as(f64, @floatFromInt(huge)) < 0.9 * @as(f64, @floatFromInt(resident))) return base;
            const explicit = isHugetlb(self, of);
            return @intCast(@intFromEnum(if (explicit) types.Pages.hugetlb else types.Pages.thp));
        }
    };
}
