//! The macOS floor: base pages through libSystem, which every program there has.
//!
//! Compiled for each release, not run by its tests (the README says so). There are no explicit
//! large pages, no advice about them, none about forks and dumps. Purging maps fresh pages over the
//! range, since no advice of this system promises zeros; purging lazily is MADV_FREE. Locks are
//! mlock. Waiting is `__ulock`, the call under libc++'s own.
//!
//! Invariant and errors as in `os.zig`; errno values are translated where they are looked at and
//! passed through otherwise. Safe from any thread.
//! When NOT to use it: as a model for another BSD; each purges in its own way.

const std = @import("std");
const builtin = @import("builtin");
const os = @import("os.zig");

const c = struct {
    extern "c" fn mmap(?*anyopaque, usize, c_int, c_int, c_int, i64) usize;
    extern "c" fn munmap(*anyopaque, usize) c_int;
    extern "c" fn madvise(*anyopaque, usize, c_int) c_int;
    extern "c" fn mlock(*const anyopaque, usize) c_int;
    extern "c" fn munlock(*const anyopaque, usize) c_int;
    extern "c" fn mincore(*const anyopaque, usize, [*]u8) c_int;
    extern "c" fn getpagesize() c_int;
    extern "c" fn getpid() c_int;
    extern "c" fn getrlimit(c_int, *[2]u64) c_int;
    extern "c" fn getentropy([*]u8, usize) c_int;
    extern "c" fn clock_gettime_nsec_np(c_int) u64;
    extern "c" fn __error() *c_int;
    extern "c" fn __ulock_wait(u32, *const anyopaque, u64, u32) c_int;
    extern "c" fn __ulock_wake(u32, *const anyopaque, u64) c_int;
    extern "c" fn sigprocmask(c_int, ?*const u32, ?*u32) c_int;
    extern "c" fn pthread_attr_init(*Attributes) c_int;
    extern "c" fn pthread_attr_setstacksize(*Attributes, usize) c_int;
    extern "c" fn pthread_attr_setdetachstate(*Attributes, c_int) c_int;
    extern "c" fn pthread_create(*usize, *const Attributes, os.ThreadEntry, ?*anyopaque) c_int;
    extern "c" fn pthread_setname_np([*:0]const u8) c_int;
    extern "c" fn pthread_key_create(*usize, *const fn (?*anyopaque) callconv(.c) void) c_int;
    extern "c" fn pthread_setspecific(usize, ?*const anyopaque) c_int;
    extern "c" fn pthread_self() usize;
};

const Attributes = extern struct { bytes: [128]u8 align(16) = @splat(0) };

fn failure() u16 {
    return translate(c.__error().*);
}

fn translate(errno: c_int) u16 {
    return switch (errno) {
        35 => os.Errno.again,
        45, 78, 102 => os.Errno.unsupported,
        else => @intCast(errno),
    };
}

fn code(result: c_int) u16 {
    return if (result == 0) 0 else failure();
}

pub fn pageBytes() usize {
    return if (builtin.cpu.arch == .aarch64) 16384 else 4096;
}

const read_write = 1 | 2;
const private_anonymous_noreserve = 0x2 | 0x1000 | 0x40;
const fixed = 0x10;

pub fn reserve(bytes: usize, alignment: usize, errno: *u16) ?[*]u8 {
    const mapped_bytes = std.math.add(usize, bytes, alignment - pageBytes()) catch {
        errno.* = os.Errno.no_memory;
        return null;
    };
    const mapped = c.mmap(null, mapped_bytes, read_write, private_anonymous_noreserve, -1, 0);
    if (mapped == std.math.maxInt(usize)) {
        errno.* = failure();
        return null;
    }
    const start = std.mem.alignForward(usize, mapped, alignment);
    const head_bytes = start - mapped;
    const tail_bytes = mapped_bytes - head_bytes - bytes;
    if (head_bytes > 0) _ = c.munmap(@ptrFromInt(mapped), head_bytes);
    if (tail_bytes > 0) _ = c.munmap(@ptrFromInt(start + bytes), tail_bytes);
    return @ptrFromInt(start);
}

/// The lowest four gigabytes belong to no process here.
pub fn reserveLow(bytes: usize, errno: *u16) ?[*]u8 {
    _ = bytes;
    errno.* = os.Errno.unsupported;
    return null;
}

pub fn mapHuge(bytes: usize, errno: *u16) ?[*]u8 {
    _ = bytes;
    errno.* = os.Errno.unsupported;
    return null;
}

pub fn mapShared(bytes: usize, file: *i32, errno: *u16) ?[*]u8 {
    _ = .{ bytes, file };
    errno.* = os.Errno.unsupported;
    return null;
}

pub fn publishShared(file: i32, bytes: usize) u16 {
    _ = .{ file, bytes };
    return os.Errno.unsupported;
}

pub fn closeShared(file: i32) void {
    _ = file;
}

pub fn unmap(ptr: [*]u8, bytes: usize) u16 {
    return code(c.munmap(ptr, bytes));
}

pub fn advise(ptr: [*]u8, bytes: usize, advice: os.Advice) u16 {
    return switch (advice) {
        .dont_need => replace(ptr, bytes),
        .lazy_free => code(c.madvise(ptr, bytes, 5)), // MADV_FREE
        .will_need => code(c.madvise(ptr, bytes, 3)),
        .populate_write => populate(ptr, bytes),
        else => os.Errno.unsupported,
    };
}

fn replace(ptr: [*]u8, bytes: usize) u16 {
    const mapped = c.mmap(ptr, bytes, read_write, private_anonymous_noreserve | fixed, -1, 0);
    return if (mapped == @intFromPtr(ptr)) 0 else failure();
}

fn populate(ptr: [*]u8, bytes: usize) u16 {
    var offset: usize = 0;
    while (offset < bytes) : (offset += pageBytes()) {
        _ = @atomicRmw(u8, &ptr[offset], .Or, 0, .monotonic);
    }
    return 0;
}

pub fn works(advice: os.Advice) bool {
    return switch (advice) {
        .dont_need, .lazy_free, .will_need, .populate_write => true,
        else => false,
    };
}

pub fn lock(ptr: [*]u8, bytes: usize) u16 {
    const refused = code(c.mlock(ptr, bytes));
    if (refused != 0) _ = c.munlock(ptr, bytes);
    return refused;
}

pub fn unlock(ptr: [*]u8, bytes: usize) u16 {
    return code(c.munlock(ptr, bytes));
}

pub fn lockLimit() u64 {
    const memlock = 6;
    const unlimited = std.math.maxInt(i64);
    var limit: [2]u64 = undefined;
    if (c.getrlimit(memlock, &limit) != 0 or limit[0] >= unlimited) return std.math.maxInt(u64);
    return limit[0];
}

/// The system has no fixed limit.
pub fn mapLimit() u64 {
    return std.math.maxInt(u64);
}

pub fn residentBytes(ptr: [*]const u8, bytes: usize) u64 {
    const page = pageBytes();
    var address = std.mem.alignBackward(usize, @intFromPtr(ptr), page);
    const end = std.mem.alignForward(usize, @intFromPtr(ptr) + bytes, page);
    var pages: u64 = 0;
    var states: [4096]u8 = undefined;
    while (address < end) {
        const part = @min(end - address, states.len * page);
        if (c.mincore(@ptrFromInt(address), part, &states) == 0) {
            for (states[0 .. part / page]) |state| pages += state & 1;
        }
        address += part;
    }
    return pages * page;
}

pub fn hugeBytes(ptr: [*]const u8, bytes: usize) u64 {
    _ = .{ ptr, bytes };
    return 0;
}

pub fn processResident() u64 {
    return 0;
}

const compare_and_wait = 1; // UL_COMPARE_AND_WAIT
const no_errno = 0x1000000; // ULF_NO_ERRNO

pub fn memoryPressure() u32 {
    return 0;
}

pub fn wait(word: *const u32, expected: u32, timeout_ns: ?u64) void {
    const forever = 0;
    const longest_us = std.math.maxInt(u32);
    const us = if (timeout_ns) |ns| @min(ns / 1000 + 1, longest_us) else forever;
    _ = c.__ulock_wait(compare_and_wait | no_errno, word, expected, @intCast(us));
}

pub fn wake(word: *const u32, count: u32) void {
    const wake_all = 0x100;
    const how_many: u32 = if (count > 1) wake_all else 0;
    _ = c.__ulock_wake(compare_and_wait | no_errno | how_many, word, 0);
}

pub fn nowNs() u64 {
    const monotonic_raw = 4;
    return c.clock_gettime_nsec_np(monotonic_raw);
}

pub fn random(buf: []u8) void {
    const most = 256;
    var rest = buf;
    while (rest.len > 0) {
        const part = @min(rest.len, most);
        if (c.getentropy(rest.ptr, part) != 0) {
            var weaker = std.Random.SplitMix64.init(nowNs() ^ @intFromPtr(buf.ptr));
            for (rest[0..part]) |*byte| byte.* = @truncate(weaker.next());
        }
        rest = rest[part..];
    }
}

pub fn processId() u32 {
    return @intCast(c.getpid());
}

pub fn isAlone() bool {
    return false;
}

pub fn barrierSetup() bool {
    return false;
}

pub fn barrier() void {}

pub fn spawn(entry: os.ThreadEntry, arg: ?*anyopaque) u16 {
    const detached = 2;
    const stack_bytes = 256 << 10;
    const block = 1;
    const set = 3;
    // ILL, TRAP, FPE, BUS, SEGV, SYS: what a fault of the thread itself raises.
    const open: u32 = 1 << 3 | 1 << 4 | 1 << 7 | 1 << 9 | 1 << 10 | 1 << 11;
    var before: u32 = 0;
    _ = c.sigprocmask(block, &~open, &before);
    defer _ = c.sigprocmask(set, &before, null);
    var attributes: Attributes = .{};
    _ = c.pthread_attr_init(&attributes);
    _ = c.pthread_attr_setstacksize(&attributes, stack_bytes);
    _ = c.pthread_attr_setdetachstate(&attributes, detached);
    var thread: usize = 0;
    return translate(c.pthread_create(&thread, &attributes, entry, arg));
}

pub fn nameThread(name: [:0]const u8) void {
    _ = c.pthread_setname_np(name.ptr);
}

var end_callback: std.atomic.Value(?os.ThreadEnd) = .init(null);

/// The key + 1; 0 while there is none.
var end_key: std.atomic.Value(usize) = .init(0);

pub fn onThreadEnd(callback: os.ThreadEnd) bool {
    if (end_callback.cmpxchgStrong(null, callback, .acq_rel, .acquire)) |other| {
        return other.? == callback and end_key.load(.acquire) != 0;
    }
    var key: usize = 0;
    if (c.pthread_key_create(&key, threadEnded) != 0) {
        end_callback.store(null, .release);
        return false;
    }
    // Release: who reads the key in setThreadEnd finds the callback set.
    end_key.store(key + 1, .release);
    return true;
}

fn threadEnded(value: ?*anyopaque) callconv(.c) void {
    if (end_callback.load(.acquire)) |callback| callback(@intFromPtr(value));
}

pub fn setThreadEnd(value: usize) void {
    const key = end_key.load(.acquire);
    if (key != 0) _ = c.pthread_setspecific(key - 1, @ptrFromInt(value));
}

pub fn threadPointer() usize {
    return c.pthread_self();
}

comptime {
    os.check(@This());
}
