//! What the workloads need of the machine: a clock, a CPU of their own, and the resident set.
//!
//! `now` costs some 20 ns through the vDSO, so a workload reads it around many operations, never
//! around one. `pin` is best effort: in a container that forbids it the rows are noisier, not
//! wrong.

const std = @import("std");
const linux = std.os.linux;

pub const page_bytes = 4096;

/// Nanoseconds of the monotonic clock.
pub fn now() u64 {
    var time: std.c.timespec = undefined;
    _ = std.c.clock_gettime(.MONOTONIC, &time);
    return @as(u64, @intCast(time.sec)) * std.time.ns_per_s + @as(u64, @intCast(time.nsec));
}

/// Keeps the calling thread on one CPU; false where the system has no such CPU or forbids it.
pub fn pin(cpu: usize) bool {
    var set: linux.cpu_set_t = @splat(0);
    set[cpu / @bitSizeOf(usize)] = @as(usize, 1) << @intCast(cpu % @bitSizeOf(usize));
    linux.sched_setaffinity(0, &set) catch return false;
    return true;
}

/// Sleeps without calling anything of the peer.
pub fn sleep(milliseconds: u64) void {
    const request: std.c.timespec = .{
        .sec = @intCast(milliseconds / 1000),
        .nsec = @intCast(milliseconds % 1000 * std.time.ns_per_ms),
    };
    _ = std.c.nanosleep(&request, null);
}

/// Resident bytes of this process, from the kernel; 0 when it will not tell.
pub fn residentBytes() u64 {
    const file = linux.open("/proc/self/statm", .{ .ACCMODE = .RDONLY }, 0);
    const fd: i32 = if (linux.errno(file) == .SUCCESS) @intCast(file) else return 0;
    defer _ = linux.close(fd);
    var text: [128]u8 = undefined;
    const length = linux.read(fd, &text, text.len);
    if (linux.errno(length) != .SUCCESS) return 0;
    var fields = std.mem.tokenizeScalar(u8, text[0..length], ' ');
    _ = fields.next();
    const pages = std.fmt.parseInt(u64, fields.next() orelse return 0, 10) catch return 0;
    return pages * page_bytes;
}

/// Makes every page of a block resident, by writing one byte in each.
pub fn touch(block: *anyopaque, bytes: usize) void {
    const memory: [*]volatile u8 = @ptrCast(block);
    var offset: usize = 0;
    while (offset < bytes) : (offset += page_bytes) memory[offset] = 1;
}
