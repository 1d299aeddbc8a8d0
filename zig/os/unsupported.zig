//! The floor where there is nothing to stand on: every primitive answers `Errno.unsupported`.
//!
//! For Windows, so that the library builds and a program gets one clear UNSUPPORTED at its first
//! allocation instead of a failed load. For WebAssembly, so that the code which both builds share
//! compiles: the heap inside one growing memory gets its backend from its caller and never asks here.
//! Nothing is mapped, ever; no thread is started. There is no clock and no randomness either, since
//! without memory nothing above asks for them: `nowNs` stands still and `random` counts. Any thread.

const builtin = @import("builtin");
const os = @import("os.zig");
const unsupported = os.Errno.unsupported;

pub fn pageBytes() usize {
    return if (builtin.cpu.arch.isWasm()) 65536 else 4096;
}

pub fn reserve(bytes: usize, alignment: usize, errno: *u16) ?[*]u8 {
    _ = .{ bytes, alignment };
    errno.* = unsupported;
    return null;
}

pub fn reserveLow(bytes: usize, errno: *u16) ?[*]u8 {
    _ = bytes;
    errno.* = os.Errno.unsupported;
    return null;
}

pub fn mapHuge(bytes: usize, errno: *u16) ?[*]u8 {
    return reserve(bytes, os.large_page_bytes, errno);
}

pub fn mapShared(bytes: usize, file: *i32, errno: *u16) ?[*]u8 {
    _ = file;
    return reserve(bytes, os.large_page_bytes, errno);
}

pub fn publishShared(file: i32, bytes: usize) u16 {
    _ = .{ file, bytes };
    return unsupported;
}

pub fn closeShared(file: i32) void {
    _ = file;
}

pub fn unmap(ptr: [*]u8, bytes: usize) u16 {
    _ = .{ ptr, bytes };
    return unsupported;
}

pub fn advise(ptr: [*]u8, bytes: usize, advice: os.Advice) u16 {
    _ = .{ ptr, bytes, advice };
    return unsupported;
}

pub fn works(advice: os.Advice) bool {
    _ = advice;
    return false;
}

pub fn lock(ptr: [*]u8, bytes: usize) u16 {
    return unmap(ptr, bytes);
}

pub fn unlock(ptr: [*]u8, bytes: usize) u16 {
    return unmap(ptr, bytes);
}

pub fn lockLimit() u64 {
    return 0;
}

pub fn mapLimit() u64 {
    return 0;
}

pub fn residentBytes(ptr: [*]const u8, bytes: usize) u64 {
    _ = .{ ptr, bytes };
    return 0;
}

pub fn hugeBytes(ptr: [*]const u8, bytes: usize) u64 {
    _ = .{ ptr, bytes };
    return 0;
}

pub fn processResident() u64 {
    return 0;
}

pub fn memoryPressure() u32 {
    return 0;
}

pub fn wait(word: *const u32, expected: u32, timeout_ns: ?u64) void {
    _ = .{ word, expected, timeout_ns };
}

pub fn wake(word: *const u32, count: u32) void {
    _ = .{ word, count };
}

pub fn nowNs() u64 {
    return 0;
}

pub fn random(buf: []u8) void {
    for (buf, 1..) |*byte, index| byte.* = @truncate(index);
}

pub fn processId() u32 {
    return 0;
}

pub fn isAlone() bool {
    return false;
}

pub fn barrierSetup() bool {
    return false;
}

pub fn barrier() void {}

pub fn spawn(entry: os.ThreadEntry, arg: ?*anyopaque) u16 {
    _ = .{ entry, arg };
    return unsupported;
}

pub fn nameThread(name: [:0]const u8) void {
    _ = name;
}

pub fn onThreadEnd(callback: os.ThreadEnd) bool {
    _ = callback;
    return false;
}

pub fn setThreadEnd(value: usize) void {
    _ = value;
}

/// Good for nothing but telling one thread from none.
pub fn threadPointer() usize {
    return 1;
}

comptime {
    os.check(@This());
}
