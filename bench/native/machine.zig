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

/// Bytes of the tables that workloads have mapped for themselves.
pub var table_bytes: usize = 0;

/// A table of a workload's own, resident from the start and beside every allocator's memory.
pub fn table(comptime T: type, count: usize) ![]T {
    const bytes = std.mem.alignForward(usize, count * @sizeOf(T), page_bytes);
    const flags: linux.MAP = .{ .TYPE = .PRIVATE, .ANONYMOUS = true, .POPULATE = true };
    const address = linux.mmap(null, bytes, .{ .READ = true, .WRITE = true }, flags, -1, 0);
    if (linux.errno(address) != .SUCCESS) return error.OutOfMemory;
    table_bytes += bytes;
    return @as([*]T, @ptrFromInt(address))[0..count];
}

pub fn untable(comptime T: type, memory: []T) void {
    const bytes = std.mem.alignForward(usize, memory.len * @sizeOf(T), page_bytes);
    _ = linux.munmap(@ptrCast(memory.ptr), bytes);
    table_bytes -= bytes;
}

/// Makes the resident set's high-water mark the present resident set; false if the kernel refuses.
pub fn resetPeak() bool {
    const file = linux.open("/proc/self/clear_refs", .{ .ACCMODE = .WRONLY }, 0);
    const fd: i32 = if (linux.errno(file) == .SUCCESS) @intCast(file) else return false;
    defer _ = linux.close(fd);
    return linux.write(fd, "5", 1) == 1;
}

/// The resident set's high-water mark since `resetPeak`; 0 when the kernel will not tell.
pub fn peakBytes() u64 {
    const file = linux.open("/proc/self/status", .{ .ACCMODE = .RDONLY }, 0);
    const fd: i32 = if (linux.errno(file) == .SUCCESS) @intCast(file) else return 0;
    defer _ = linux.close(fd);
    var text: [4096]u8 = undefined;
    const length = linux.read(fd, &text, text.len);
    if (linux.errno(length) != .SUCCESS) return 0;
    const name = "VmHWM:";
    const at = std.mem.indexOf(u8, text[0..length], name) orelse return 0;
    var words = std.mem.tokenizeAny(u8, text[at + name.len .. length], " \t");
    return (std.fmt.parseInt(u64, words.next() orelse return 0, 10) catch return 0) * 1024;
}
