//! The few functions that only the process's C library can do, imported weakly.
//!
//! The library has no NEEDED entry, so it loads in a process of any C library; what the process
//! happens to export is found by the dynamic linker at load, and what it does not is null here. A
//! program without threads or without a dynamic linker (a static Zig test) simply has none of them.
//!
//! Invariant: nothing of the C library's data layout is relied upon. glibc and musl differ in the
//! size of `pthread_attr_t` (56 and 64 bytes are seen), so it is given 128 aligned zeroed bytes and
//! only written through the library's own functions; where those are missing, null takes its place.
//!
//! Signals: a thread starts with the mask of its creator, so the mask is set around the creation
//! and there is no moment at which the new thread could take a signal. Left open are the signals
//! that a fault of the thread itself raises (blocked, they would kill the process past its crash
//! handler), and 32 to 34, by which glibc and musl make `setuid` and `pthread_cancel` reach all
//! threads: blocking those makes `setuid` wait for ever.
//!
//! Thread rule: all functions from any thread; `onThreadEnd` takes effect once per process.
//! When NOT to use it: for anything that a system call can do.

const std = @import("std");
const builtin = @import("builtin");
const os = @import("os.zig");
const linux = std.os.linux;

const Thread = usize;
const Key = c_uint;
const AttributeInit = *const fn (*Attributes) callconv(.c) c_int;
const AttributeSetSize = *const fn (*Attributes, usize) callconv(.c) c_int;
const AttributeSetState = *const fn (*Attributes, c_int) callconv(.c) c_int;
const Create = *const fn (
    thread: *Thread,
    attributes: ?*const Attributes,
    entry: os.ThreadEntry,
    arg: ?*anyopaque,
) callconv(.c) c_int;
const Detach = *const fn (Thread) callconv(.c) c_int;
const KeyCreate = *const fn (*Key, ?*const fn (?*anyopaque) callconv(.c) void) callconv(.c) c_int;
const SetSpecific = *const fn (Key, ?*const anyopaque) callconv(.c) c_int;

/// Room for any known `pthread_attr_t`.
const Attributes = extern struct { bytes: [128]u8 align(16) = @splat(0) };

/// Enough for a loop of system calls, its signal frame, and the thread-local storage of a large
/// program, which glibc takes out of the stack; refused sizes fall back to the default.
const stack_bytes = 256 << 10;

const detached_state = 1;

/// A program of Zig's own without a C library (tests, fuzzers): there is no dynamic linker to leave
/// a weak symbol null, and std's threads stand in for the C library's.
const standalone = builtin.output_mode == .Exe and !builtin.link_libc;

/// The C library's function of this name, or null in a process that has none.
pub fn import(comptime T: type, comptime name: []const u8) ?T {
    return if (standalone) null else @extern(?T, .{ .name = name, .linkage = .weak });
}

/// See `os.Primitives.spawn`.
pub fn spawn(entry: os.ThreadEntry, arg: ?*anyopaque) u16 {
    const blocked = blockSignals();
    defer restoreSignals(&blocked);
    const create = import(Create, "pthread_create") orelse
        return if (standalone) spawnStandalone(entry, arg) else os.Errno.unsupported;

    var attributes: Attributes = .{};
    if (smallDetached(&attributes)) {
        var thread: Thread = 0;
        if (create(&thread, &attributes, entry, arg) == 0) return 0;
    }
    // No attribute functions, or a stack size that this library refuses: take its defaults.
    const detach = import(Detach, "pthread_detach") orelse return os.Errno.unsupported;
    var thread: Thread = 0;
    const result = create(&thread, null, entry, arg);
    if (result != 0) return @intCast(result);
    _ = detach(thread);
    return 0;
}

fn smallDetached(attributes: *Attributes) bool {
    const init = import(AttributeInit, "pthread_attr_init") orelse return false;
    const setSize = import(AttributeSetSize, "pthread_attr_setstacksize") orelse return false;
    const setState = import(AttributeSetState, "pthread_attr_setdetachstate") orelse return false;
    return init(attributes) == 0 and setSize(attributes, stack_bytes) == 0 and
        setState(attributes, detached_state) == 0;
}

fn spawnStandalone(entry: os.ThreadEntry, arg: ?*anyopaque) u16 {
    const Runner = struct {
        fn run(function: os.ThreadEntry, argument: ?*anyopaque) void {
            _ = function(argument);
        }
    };
    const thread = std.Thread.spawn(.{}, Runner.run, .{ entry, arg }) catch return os.Errno.again;
    thread.detach();
    return 0;
}

const Mask = linux.sigset_t;

fn blockSignals() Mask {
    const open = [_]u6{ 4, 5, 7, 8, 11, 31, 32, 33, 34 }; // ILL TRAP BUS FPE SEGV SYS, C library's
    var mask = linux.sigfillset();
    for (open) |signal| mask[0] &= ~(@as(@TypeOf(mask[0]), 1) << (signal - 1));
    var before = linux.sigemptyset();
    _ = linux.sigprocmask(linux.SIG.BLOCK, &mask, &before);
    return before;
}

fn restoreSignals(mask: *const Mask) void {
    _ = linux.sigprocmask(linux.SIG.SETMASK, mask, null);
}

/// The registered callback, null before the first `onThreadEnd`. Written once, before `end_key` is
/// published; `threadEnded` runs only for threads that read the key.
var end_callback: std.atomic.Value(?os.ThreadEnd) = .init(null);

/// The key + 1 as the C library numbers it; 0 while there is none.
var end_key: std.atomic.Value(u32) = .init(0);

/// See `os.Primitives.onThreadEnd`.
pub fn onThreadEnd(callback: os.ThreadEnd) bool {
    const create = import(KeyCreate, "pthread_key_create") orelse return false;
    if (import(SetSpecific, "pthread_setspecific") == null) return false;
    // Acquire pairs with nobody's need but the callback's code: one winner registers the key.
    if (end_callback.cmpxchgStrong(null, callback, .acq_rel, .acquire)) |other| {
        return other.? == callback and end_key.load(.acquire) != 0;
    }
    var key: Key = 0;
    if (create(&key, threadEnded) != 0) {
        end_callback.store(null, .release);
        return false;
    }
    // Release: a thread that reads the key in setThreadEnd finds the callback set.
    end_key.store(key + 1, .release);
    return true;
}

fn threadEnded(value: ?*anyopaque) callconv(.c) void {
    if (end_callback.load(.acquire)) |callback| callback(@intFromPtr(value));
}

/// See `os.Primitives.setThreadEnd`.
pub fn setThreadEnd(value: usize) void {
    const key = end_key.load(.acquire);
    if (key == 0) return;
    const set = import(SetSpecific, "pthread_setspecific") orelse return;
    _ = set(key - 1, @ptrFromInt(value));
}
