//! The Linux floor: raw system calls, x86_64 and aarch64, no C library.
//!
//! Nothing here reads a thread-local or calls `getauxval`, so a shared library made of it has only
//! weak undefined symbols (`weak.zig`) and loads with glibc and musl alike. Kernels from 4.14 on
//! work; what came later (POPULATE_WRITE 5.14, DONTNEED_LOCKED 5.18, COLLAPSE 6.1, PAGEMAP_SCAN
//! 6.7) is probed by its effect (`probe.zig`) and has a fallback here or at the caller, as `os.zig`
//! lists.
//!
//! Invariant: a refused call leaves things as they were (see `lock` and `mapHuge`, which clean up
//! after the kernel's halfway states). Cost: one system call each unless the contract says
//! otherwise; `works`, `pageBytes` are loads after their first use. All state is a few idempotent
//! atomics, so every function is safe from any thread and after fork.
//!
//! When NOT to use it: directly. Code above takes an `Os` type, so that tests can pass `fake.zig`.

const std = @import("std");
const builtin = @import("builtin");
const os = @import("os.zig");
const probe = @import("probe.zig");
const proc = @import("proc.zig");
const weak = @import("weak.zig");
const linux = std.os.linux;

pub const spawn = weak.spawn;
pub const onThreadEnd = weak.onThreadEnd;
pub const setThreadEnd = weak.setThreadEnd;
pub const works = probe.works;

fn code(result: usize) u16 {
    return @intCast(@intFromEnum(linux.errno(result)));
}

// Pages

/// Cached page size of aarch64, where the kernel may be built for 4, 16 or 64 KiB.
var page_bytes: std.atomic.Value(usize) = .init(0);

/// See `os.Primitives`.
pub fn pageBytes() usize {
    if (builtin.cpu.arch == .x86_64) return 4096;
    const known = page_bytes.load(.monotonic);
    if (known != 0) return known;
    const auxiliary_page_bytes = 6; // AT_PAGESZ
    const found = proc.auxiliary(auxiliary_page_bytes) orelse 65536; // the largest fits all kernels
    page_bytes.store(found, .monotonic);
    return found;
}

// Address space

const anonymous: linux.MAP = .{ .TYPE = .PRIVATE, .ANONYMOUS = true, .NORESERVE = true };

fn map(bytes: usize, flags: linux.MAP, errno: *u16) ?[*]u8 {
    const result = linux.mmap(null, bytes, .{ .READ = true, .WRITE = true }, flags, -1, 0);
    const refused = code(result);
    if (refused != 0) {
        errno.* = refused;
        return null;
    }
    return @ptrFromInt(result);
}

/// See `os.Primitives`. One call where the kernel happens to align (6.7 does from 2 MiB on), else
/// maps more and cuts both ends off.
pub fn reserve(bytes: usize, alignment: usize, errno: *u16) ?[*]u8 {
    const lucky = map(bytes, anonymous, errno) orelse return null;
    if (std.mem.isAligned(@intFromPtr(lucky), alignment)) return lucky;
    _ = unmap(lucky, bytes);

    const mapped_bytes = std.math.add(usize, bytes, alignment - pageBytes()) catch {
        errno.* = os.Errno.no_memory;
        return null;
    };
    const mapped = map(mapped_bytes, anonymous, errno) orelse return null;
    const start = std.mem.alignForward(usize, @intFromPtr(mapped), alignment);
    const head_bytes = start - @intFromPtr(mapped);
    const tail_bytes = mapped_bytes - head_bytes - bytes;
    // The kernel may have merged the mapping with its neighbours; then cutting splits, and is
    // refused at the limit of mappings. Everything goes back in that case.
    const result: [*]u8 = @ptrFromInt(start);
    if (head_bytes > 0) errno.* = unmap(mapped, head_bytes) else errno.* = 0;
    if (errno.* == 0 and tail_bytes > 0) {
        errno.* = unmap(result + bytes, tail_bytes);
        if (errno.* != 0) _ = unmap(result, bytes + tail_bytes);
    } else if (errno.* != 0) _ = unmap(mapped, mapped_bytes);
    return if (errno.* == 0) result else null;
}

/// Below it the kernel may refuse (vm.mmap_min_addr), and programs that are not relocatable lie.
const low_start: usize = 64 << 20;
const low_step: usize = 16 << 20;

/// See `os.Primitives`. Asks for one place after another, at most 252; never takes what is there.
pub fn reserveLow(bytes: usize, errno: *u16) ?[*]u8 {
    var flags = anonymous;
    flags.FIXED_NOREPLACE = true;
    errno.* = os.Errno.no_memory;
    var start = low_start;
    while (start + bytes <= os.low_bound) : (start += low_step) {
        const result = linux.mmap(@ptrFromInt(start), bytes, .{ .READ = true, .WRITE = true }, flags, -1, 0);
        const refused = code(result);
        if (refused != 0) {
            if (refused == os.Errno.exists) continue;
            errno.* = refused;
            return null;
        }
        // Before 4.17 the flag is unknown, and the address a wish.
        if (result == start) return @ptrFromInt(start);
        _ = unmap(@ptrFromInt(result), bytes);
    }
    return null;
}

/// MAP_HUGE_2MB: the page's log2 in the upper six bits of the flags.
const huge_flags: linux.MAP = @bitCast(@as(u32, @bitCast(linux.MAP{
    .TYPE = .PRIVATE,
    .ANONYMOUS = true,
    .HUGETLB = true,
})) | @as(u32, std.math.log2_int(u32, os.large_page_bytes)) << 26);

/// See `os.Primitives`. The mapping takes its pages from the pool's reserve, so that the usual
/// shortage is refused by mmap itself; what is left (a cgroup's limit) is met while populating.
pub fn mapHuge(bytes: usize, errno: *u16) ?[*]u8 {
    const mapped = map(bytes, huge_flags, errno) orelse return null;
    const refused = populateHuge(mapped, bytes);
    if (refused == 0) return mapped;
    _ = unmap(mapped, bytes);
    errno.* = refused;
    return null;
}

fn populateHuge(ptr: [*]u8, bytes: usize) u16 {
    if (works(.populate_write)) {
        return code(linux.madvise(ptr, bytes, adviceNumber(.populate_write)));
    }
    // Before 5.14. Touching could be answered by SIGBUS; a system call that writes there for us is
    // answered by EFAULT instead.
    var offset: usize = 0;
    while (offset < bytes) : (offset += os.large_page_bytes) {
        const cell: *linux.timespec = @ptrCast(@alignCast(ptr + offset));
        const refused = code(rawClock(cell));
        if (refused != 0) return refused;
        cell.* = .{ .sec = 0, .nsec = 0 };
    }
    return 0;
}

/// The last number that a file got. Only a hint: the kernel decides.
var last_file: std.atomic.Value(i32) = .init(0);

/// See `os.Primitives`.
pub fn mapShared(bytes: usize, file: *i32, errno: *u16) ?[*]u8 {
    const ptr = reserve(bytes, os.large_page_bytes, errno) orelse return null;
    errno.* = mapFile(ptr, bytes, file);
    if (errno.* == 0) return ptr;
    _ = unmap(ptr, bytes);
    return null;
}

fn mapFile(ptr: [*]u8, bytes: usize, file: *i32) u16 {
    const made = createFile();
    if (code(made) != 0) return code(made);
    const first: i32 = @intCast(made);
    const numbered = renumber(first);
    closeShared(first);
    if (code(numbered) != 0) return code(numbered);
    file.* = @intCast(numbered);
    var refused = code(linux.ftruncate(file.*, @intCast(bytes)));
    if (refused == 0) {
        const flags: linux.MAP = .{ .TYPE = .SHARED, .FIXED = true, .NORESERVE = true };
        refused = code(linux.mmap(ptr, bytes, .{ .READ = true, .WRITE = true }, flags, file.*, 0));
    }
    if (refused != 0) closeShared(file.*);
    // Where /sys/kernel/mm/transparent_hugepage/shmem_enabled lets advice count.
    if (refused == 0) _ = linux.madvise(ptr, bytes, adviceNumber(.huge));
    return refused;
}

fn createFile() usize {
    const close_on_exec = 1; // MFD_CLOEXEC
    const allow_sealing = 2; // MFD_ALLOW_SEALING
    const never_executable = 8; // MFD_NOEXEC_SEAL, from 6.3
    const made = linux.memfd_create("holdfast", close_on_exec | allow_sealing | never_executable);
    if (code(made) != os.Errno.invalid) return made;
    return linux.memfd_create("holdfast", close_on_exec | allow_sealing);
}

/// The same file under the next number of the upper half; of a high limit, of its first 2^16.
fn renumber(file: i32) usize {
    var limit: linux.rlimit = undefined;
    if (code(linux.getrlimit(.NOFILE, &limit)) != 0) limit.cur = 1024;
    const end: i32 = @intCast(@min(limit.cur, 1 << 16));
    const start = @divTrunc(end, 2);
    const duplicate = 1030; // F_DUPFD_CLOEXEC
    const next = last_file.load(.monotonic) + 1;
    if (next > start and next < end) {
        const result = linux.fcntl(file, duplicate, @intCast(next));
        if (code(result) == 0) {
            last_file.store(@intCast(result), .monotonic);
            return result;
        }
    }
    const result = linux.fcntl(file, duplicate, @intCast(start));
    if (code(result) == 0) last_file.store(@intCast(result), .monotonic);
    return result;
}

/// See `os.Primitives`.
pub fn publishShared(file: i32, bytes: usize) u16 {
    const add_seals = 1033; // F_ADD_SEALS
    const shrink_grow_seal = 2 | 4 | 1; // F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_SEAL
    const refused = code(linux.ftruncate(file, @intCast(bytes)));
    if (refused != 0) return refused;
    return code(linux.fcntl(file, add_seals, shrink_grow_seal));
}

/// See `os.Primitives`.
pub fn closeShared(file: i32) void {
    _ = linux.close(file);
}

/// See `os.Primitives`.
pub fn unmap(ptr: [*]u8, bytes: usize) u16 {
    return code(linux.munmap(ptr, bytes));
}

// Advice

/// The kernel's number of an advice, as its headers have it.
pub fn adviceNumber(advice: os.Advice) u32 {
    return switch (advice) {
        .huge => 14,
        .no_huge => 15,
        .dont_need => 4,
        .dont_need_locked => 24,
        .lazy_free => 8,
        .populate_write => 23,
        .will_need => 3,
        .collapse => 25,
        .dont_fork => 10,
        .do_fork => 11,
        .wipe_on_fork => 18,
        .dont_dump => 16,
    };
}

/// See `os.Primitives`.
pub fn advise(ptr: [*]u8, bytes: usize, advice: os.Advice) u16 {
    return adviseOnce(ptr, bytes, advice);
}

/// Apart, so that it is in the library once.
noinline fn adviseOnce(ptr: [*]u8, bytes: usize, advice: os.Advice) u16 {
    if (advice == .populate_write and !works(.populate_write)) {
        touch(ptr, bytes);
        return 0;
    }
    while (true) {
        const refused = code(linux.madvise(ptr, bytes, adviceNumber(advice)));
        // EAGAIN and EINTR: the kernel was busy or interrupted; both advices may be given again.
        const again = refused == os.Errno.again or refused == @intFromEnum(linux.E.INTR);
        if (!again or (advice != .populate_write and advice != .dont_need)) return refused;
    }
}

/// Writes to each page without changing it: an atomic or, so that a write of another thread to the
/// same byte is not lost.
fn touch(ptr: [*]u8, bytes: usize) void {
    var offset: usize = 0;
    while (offset < bytes) : (offset += pageBytes()) {
        _ = @atomicRmw(u8, &ptr[offset], .Or, 0, .monotonic);
    }
}

// Locks

/// See `os.Primitives`. The kernel marks a mapping as locked before it populates, and leaves the
/// mark when that fails: the unlock takes it back.
pub fn lock(ptr: [*]u8, bytes: usize) u16 {
    const refused = code(linux.mlock(ptr, bytes));
    if (refused != 0) _ = linux.munlock(ptr, bytes);
    return refused;
}

/// See `os.Primitives`.
pub fn unlock(ptr: [*]u8, bytes: usize) u16 {
    return code(linux.munlock(ptr, bytes));
}

/// See `os.Primitives`.
pub fn lockLimit() u64 {
    var limit: linux.rlimit = undefined;
    if (code(linux.getrlimit(.MEMLOCK, &limit)) != 0) return std.math.maxInt(u64);
    // maxInt is also the kernel's own "unlimited".
    return if (mayLockAnything()) std.math.maxInt(u64) else limit.cur;
}

/// CAP_IPC_LOCK lifts the limit, if held in the first user namespace: a container's root does not.
fn mayLockAnything() bool {
    const capability_version = 0x20080522; // _LINUX_CAPABILITY_VERSION_3
    const ipc_lock = 14;
    const Header = extern struct { version: u32 = capability_version, pid: i32 = 0 };
    const Set = extern struct { effective: u32 = 0, permitted: u32 = 0, inheritable: u32 = 0 };
    var header: Header = .{};
    var sets: [2]Set = @splat(.{});
    if (code(linux.syscall2(.capget, @intFromPtr(&header), @intFromPtr(&sets))) != 0) return false;
    if (sets[0].effective & (1 << ipc_lock) == 0) return false;
    var lines = proc.Lines.open("/proc/self/uid_map") orelse return true;
    defer lines.close();
    const first = lines.next() orelse return true;
    const length = proc.number(proc.word(first, 2) orelse return true);
    return length == std.math.maxInt(u32);
}

/// Cached limit of mappings; 0 before the first question.
var map_limit: std.atomic.Value(u64) = .init(0);

/// See `os.Primitives`. Read once: it is asked on paths that cannot pay 4 us for a file.
pub fn mapLimit() u64 {
    const known = map_limit.load(.monotonic);
    if (known != 0) return known;
    const kernel_default = 65530;
    const found = proc.fileNumber("/proc/sys/vm/max_map_count") orelse kernel_default;
    map_limit.store(found, .monotonic);
    return found;
}

// What is there

/// See `os.Primitives`. By `mincore`, a byte a page, 4096 pages a call.
pub fn residentBytes(ptr: [*]const u8, bytes: usize) u64 {
    return countResident(ptr, bytes);
}

/// Apart, as `adviseOnce`.
noinline fn countResident(ptr: [*]const u8, bytes: usize) u64 {
    const page = pageBytes();
    var address = std.mem.alignBackward(usize, @intFromPtr(ptr), page);
    const end = std.mem.alignForward(usize, @intFromPtr(ptr) + bytes, page);
    var pages: u64 = 0;
    var states: [4096]u8 = undefined;
    while (address < end) {
        const part = @min(end - address, states.len * page);
        if (code(linux.mincore(@ptrFromInt(address), part, &states)) == 0) {
            for (states[0 .. part / page]) |state| pages += state & 1;
        }
        address += part;
    }
    return pages * page;
}

/// See `os.Primitives`. By the PAGEMAP_SCAN request, else by `smaps`, where a mapping that the
/// range covers in part counts with what it has at most inside.
pub fn hugeBytes(ptr: [*]const u8, bytes: usize) u64 {
    const start = std.mem.alignBackward(usize, @intFromPtr(ptr), pageBytes());
    const end = std.mem.alignForward(usize, @intFromPtr(ptr) + bytes, pageBytes());
    return scanHuge(start, end) orelse readHuge(start, end);
}

const PageRegion = extern struct { start: u64, end: u64, categories: u64 };

/// `struct pm_scan_arg` of the kernel's headers.
const ScanRequest = extern struct {
    size: u64 = @sizeOf(ScanRequest),
    flags: u64 = 0,
    start: u64,
    end: u64,
    walk_end: u64 = 0,
    regions: u64,
    regions_len: u64,
    max_pages: u64 = 0,
    category_inverted: u64 = 0,
    category_mask: u64,
    category_anyof_mask: u64 = 0,
    return_mask: u64,
};

fn scanHuge(start: usize, end: usize) ?u64 {
    const request_number = 0xC0606610; // _IOWR('f', 16, struct pm_scan_arg)
    const page_is_huge = 1 << 6;
    const opened = linux.open("/proc/self/pagemap", .{ .ACCMODE = .RDONLY, .CLOEXEC = true }, 0);
    if (code(opened) != 0) return null;
    const fd: i32 = @intCast(opened);
    defer _ = linux.close(fd);

    var found: u64 = 0;
    var address: u64 = start;
    while (address < end) {
        var regions: [32]PageRegion = undefined;
        var request: ScanRequest = .{
            .start = address,
            .end = end,
            .regions = @intFromPtr(&regions),
            .regions_len = regions.len,
            .category_mask = page_is_huge,
            .return_mask = page_is_huge,
        };
        const count = linux.ioctl(fd, request_number, @intFromPtr(&request));
        if (code(count) != 0) return null;
        for (regions[0..count]) |region| found += region.end - region.start;
        if (request.walk_end <= address) return null;
        address = request.walk_end;
    }
    return found;
}

fn readHuge(start: usize, end: usize) u64 {
    var mappings = proc.Mappings.open() orelse return 0;
    defer mappings.close();
    var found: u64 = 0;
    while (mappings.next()) |mapping| {
        const inside = @min(end, mapping.end) -| @max(start, mapping.start);
        found += @min(inside, mapping.huge_bytes);
    }
    return found;
}

/// See `os.Primitives`.
pub fn processResident() u64 {
    var lines = proc.Lines.open("/proc/self/statm") orelse return 0;
    defer lines.close();
    const line = lines.next() orelse return 0;
    const pages = proc.number(proc.word(line, 1) orelse return 0) orelse return 0;
    return pages * pageBytes();
}

/// See `os.Primitives`. From the kernel's pressure stall information; missing before 4.20, and where
/// it was not built in.
pub fn memoryPressure() u32 {
    var lines = proc.Lines.open("/proc/pressure/memory") orelse return 0;
    defer lines.close();
    return proc.hundredths(lines.next() orelse return 0, "avg10=");
}

// Waiting

/// See `os.Primitives`.
pub fn wait(word: *const u32, expected: u32, timeout_ns: ?u64) void {
    var time: linux.timespec = undefined;
    if (timeout_ns) |ns| time = .{
        .sec = @intCast(ns / std.time.ns_per_s),
        .nsec = @intCast(ns % std.time.ns_per_s),
    };
    const limit: ?*const linux.timespec = if (timeout_ns != null) &time else null;
    _ = linux.futex_4arg(word, .{ .cmd = .WAIT, .private = true }, expected, limit);
}

/// See `os.Primitives`.
pub fn wake(word: *const u32, count: u32) void {
    const most = @min(count, std.math.maxInt(i32));
    _ = linux.futex_3arg(word, .{ .cmd = .WAKE, .private = true }, most);
}

fn rawClock(time: *linux.timespec) usize {
    return linux.syscall2(.clock_gettime, @intFromEnum(linux.CLOCK.MONOTONIC), @intFromPtr(time));
}

/// See `os.Primitives`. The raw call: the faster one in the vDSO is found through `getauxval`.
pub fn nowNs() u64 {
    var time: linux.timespec = undefined;
    if (code(rawClock(&time)) != 0) return 0;
    return @as(u64, @intCast(time.sec)) * std.time.ns_per_s + @as(u64, @intCast(time.nsec));
}

/// See `os.Primitives`. Where `getrandom` is barred, the clock and addresses stand in: then the
/// bytes differ between processes, but can be guessed.
pub fn random(buf: []u8) void {
    var filled: usize = 0;
    while (filled < buf.len) {
        const rest = buf[filled..];
        const result = linux.getrandom(rest.ptr, rest.len, 0);
        switch (linux.errno(result)) {
            .SUCCESS => filled += result,
            .INTR => {},
            else => {
                const mixed = nowNs() ^ @intFromPtr(buf.ptr) ^ @as(u64, processId()) << 32;
                var weaker = std.Random.SplitMix64.init(mixed);
                for (rest) |*byte| byte.* = @truncate(weaker.next());
                return;
            },
        }
    }
}

/// See `os.Primitives`.
pub fn processId() u32 {
    return @intCast(linux.getpid());
}

// Barriers

const barrier_private = 1 << 3; // MEMBARRIER_CMD_PRIVATE_EXPEDITED
const barrier_private_register = 1 << 4;

/// See `os.Primitives`.
pub fn isAlone() bool {
    var tasks: linux.Statx = undefined;
    const mask: linux.STATX = .{ .NLINK = true };
    if (code(linux.statx(linux.AT.FDCWD, "/proc/self/task", 0, mask, &tasks)) != 0) return false;
    // A folder with a folder for each thread.
    return tasks.nlink == 2 + 1;
}

/// See `os.Primitives`.
pub fn barrierSetup() bool {
    if (code(linux.syscall3(.membarrier, barrier_private_register, 0, 0)) != 0) return false;
    return code(linux.syscall3(.membarrier, barrier_private, 0, 0)) == 0;
}

/// See `os.Primitives`.
pub fn barrier() void {
    _ = linux.syscall3(.membarrier, barrier_private, 0, 0);
}

// Threads

/// See `os.Primitives`.
pub fn nameThread(name: [:0]const u8) void {
    _ = linux.prctl(@intFromEnum(linux.PR.SET_NAME), @intFromPtr(name.ptr), 0, 0, 0);
}

/// See `os.Primitives`. The thread block's address, by which every C library finds its
/// thread-locals.
pub fn threadPointer() usize {
    return switch (builtin.cpu.arch) {
        .x86_64 => asm volatile ("movq %%fs:0, %[ret]"
            : [ret] "=r" (-> usize),
        ),
        .aarch64 => asm volatile ("mrs %[ret], tpidr_el0"
            : [ret] "=r" (-> usize),
        ),
        else => @compileError("holdfast knows x86_64 and aarch64 on Linux"),
    };
}

comptime {
    os.check(@This());
}

const testing = std.testing;

test "reserved memory is aligned, zeroed, writable and not resident until touched" {
    var errno: u16 = 0;
    for ([_]usize{ pageBytes(), 1 << 16, os.large_page_bytes, 1 << 30 }) |alignment| {
        const bytes = 3 * pageBytes();
        const ptr = reserve(bytes, alignment, &errno).?;
        defer testing.expectEqual(0, unmap(ptr, bytes)) catch unreachable;
        try testing.expect(std.mem.isAligned(@intFromPtr(ptr), alignment));
        try testing.expectEqual(0, residentBytes(ptr, bytes));
        ptr[pageBytes()] = 7;
        try testing.expectEqual(pageBytes(), residentBytes(ptr, bytes));
        try testing.expectEqual(0, ptr[0]);
    }
}

test "low memory is aligned, below the bound, apart, and refused when there is no room" {
    var errno: u16 = 0;
    const bytes = 32 << 20;
    const first = reserveLow(bytes, &errno).?;
    defer testing.expectEqual(0, unmap(first, bytes)) catch unreachable;
    const second = reserveLow(bytes, &errno).?;
    defer testing.expectEqual(0, unmap(second, bytes)) catch unreachable;
    for ([_][*]u8{ first, second }) |ptr| {
        try testing.expect(@intFromPtr(ptr) + bytes <= os.low_bound);
        try testing.expect(std.mem.isAligned(@intFromPtr(ptr), os.large_page_bytes));
        try testing.expectEqual(0, ptr[bytes - 1]);
    }
    try testing.expect(@intFromPtr(second) >= @intFromPtr(first) + bytes);
    try testing.expectEqual(null, reserveLow(1 << 32, &errno));
    try testing.expectEqual(os.Errno.no_memory, errno);
}

test "a reservation that no machine has is an errno" {
    var errno: u16 = 0;
    try testing.expectEqual(null, reserve(1 << 60, pageBytes(), &errno));
    try testing.expectEqual(os.Errno.no_memory, errno);
    errno = 0;
    const most = std.math.maxInt(usize) - pageBytes() + 1;
    try testing.expectEqual(null, reserve(most, 1 << 30, &errno));
    try testing.expect(errno != 0);
}

test "dont_need gives zeros, populate_write makes resident and keeps the contents" {
    var errno: u16 = 0;
    const bytes = 64 * pageBytes();
    const ptr = reserve(bytes, pageBytes(), &errno).?;
    defer _ = unmap(ptr, bytes);
    try testing.expectEqual(0, advise(ptr, bytes, .no_huge));
    ptr[5 * pageBytes()] = 9;
    try testing.expectEqual(0, advise(ptr, bytes, .populate_write));
    try testing.expectEqual(bytes, residentBytes(ptr, bytes));
    try testing.expectEqual(9, ptr[5 * pageBytes()]);
    try testing.expectEqual(0, advise(ptr, bytes, .dont_need));
    try testing.expectEqual(0, residentBytes(ptr, bytes));
    try testing.expectEqual(0, ptr[5 * pageBytes()]);
    touch(ptr, bytes);
    try testing.expectEqual(bytes, residentBytes(ptr, bytes));
}

test "a locked page refuses dont_need and takes dont_need_locked" {
    var errno: u16 = 0;
    const bytes = 2 * pageBytes();
    if (lockLimit() < bytes) return error.SkipZigTest;
    const ptr = reserve(bytes, pageBytes(), &errno).?;
    defer _ = unmap(ptr, bytes);
    try testing.expectEqual(0, lock(ptr, bytes));
    ptr[0] = 3;
    try testing.expectEqual(os.Errno.invalid, advise(ptr, bytes, .dont_need));
    if (works(.dont_need_locked)) {
        try testing.expectEqual(0, advise(ptr, bytes, .dont_need_locked));
        try testing.expectEqual(0, ptr[0]);
    }
    try testing.expectEqual(0, unlock(ptr, bytes));
    try testing.expectEqual(0, advise(ptr, bytes, .dont_need));
}

test "a shared file is zeroed, sealed at its length, outlives its mapping, and takes new numbers" {
    var errno: u16 = 0;
    var file: i32 = -1;
    const bytes = 2 * os.large_page_bytes;
    const ptr = mapShared(bytes, &file, &errno) orelse return error.SkipZigTest;
    try testing.expect(std.mem.isAligned(@intFromPtr(ptr), os.large_page_bytes));
    try testing.expectEqual(0, ptr[0]);
    ptr[4999] = 7;
    try testing.expectEqual(0, publishShared(file, 5000));
    try testing.expectEqual(os.Errno.not_permitted, code(linux.ftruncate(file, 4999)));
    try testing.expectEqual(os.Errno.not_permitted, code(linux.ftruncate(file, 5001)));

    const reader: i32 = @intCast(linux.dup(file));
    defer closeShared(reader);
    try testing.expectEqual(0, unmap(ptr, bytes));
    closeShared(file);
    var end: [2]u8 = undefined;
    try testing.expectEqual(1, linux.pread(reader, &end, 2, 4999));
    try testing.expectEqual(7, end[0]);

    var next: i32 = -1;
    const other = mapShared(bytes, &next, &errno).?;
    try testing.expect(next != file);
    try testing.expectEqual(0, unmap(other, bytes));
    closeShared(next);
}

test "large pages by advice are seen by both ways of counting" {
    if (!works(.huge)) return error.SkipZigTest;
    var errno: u16 = 0;
    const bytes = 2 * os.large_page_bytes;
    const ptr = reserve(bytes, os.large_page_bytes, &errno).?;
    defer _ = unmap(ptr, bytes);
    try testing.expectEqual(0, advise(ptr, bytes, .huge));
    try testing.expectEqual(0, advise(ptr, bytes, .populate_write));
    const found = hugeBytes(ptr, bytes);
    try testing.expect(found <= bytes and found % os.large_page_bytes == 0);
    try testing.expectEqual(found, readHuge(@intFromPtr(ptr), @intFromPtr(ptr) + bytes));
    try testing.expectEqual(bytes, residentBytes(ptr, bytes));
}

test "explicit large pages come populated or as an errno" {
    var errno: u16 = 0;
    const bytes = 2 * os.large_page_bytes;
    if (mapHuge(bytes, &errno)) |ptr| {
        defer testing.expectEqual(0, unmap(ptr, bytes)) catch unreachable;
        try testing.expectEqual(bytes, hugeBytes(ptr, bytes));
        try testing.expect(std.mem.allEqual(u8, ptr[0..bytes], 0));
    } else try testing.expect(errno != 0);
}

test "the writes that populate large pages before 5.14 leave zeros" {
    var errno: u16 = 0;
    const bytes = os.large_page_bytes;
    const ptr = reserve(bytes, bytes, &errno).?;
    defer _ = unmap(ptr, bytes);
    const cell: *linux.timespec = @ptrCast(@alignCast(ptr));
    try testing.expectEqual(0, code(rawClock(cell)));
    const nowhere: *linux.timespec = @ptrFromInt(8);
    try testing.expectEqual(os.Errno.fault, code(rawClock(nowhere)));
}

test "the clock runs, a wait ends by its timeout, random bytes differ" {
    const word: u32 = 1;
    const start_ns = nowNs();
    wait(&word, 1, 2 * std.time.ns_per_ms);
    try testing.expect(nowNs() - start_ns >= 2 * std.time.ns_per_ms);
    wait(&word, 0, null); // differs: returns at once
    var first: [16]u8 = @splat(0);
    var second: [16]u8 = @splat(0);
    random(&first);
    random(&second);
    try testing.expect(!std.mem.eql(u8, &first, &second));
}

const TestThread = struct {
    done: u32 = 0,
    pointer: usize = 0,
    is_alone: bool = true,

    fn run(arg: ?*anyopaque) callconv(.c) ?*anyopaque {
        const thread: *TestThread = @ptrCast(@alignCast(arg.?));
        nameThread("holdfast-test");
        thread.pointer = threadPointer();
        thread.is_alone = isAlone();
        @atomicStore(u32, &thread.done, 1, .release);
        wake(&thread.done, 1);
        return null;
    }
};

test "a spawned thread runs, has a thread pointer of its own and wakes who waits" {
    var thread: TestThread = .{};
    try testing.expectEqual(0, spawn(TestThread.run, &thread));
    while (@atomicLoad(u32, &thread.done, .acquire) == 0) wait(&thread.done, 0, std.time.ns_per_s);
    try testing.expect(thread.pointer != 0 and thread.pointer != threadPointer());
    try testing.expect(!thread.is_alone);
}

test "limits and figures of this process make sense" {
    try testing.expect(mapLimit() >= 1024);
    try testing.expect(processResident() >= pageBytes());
    try testing.expect(processId() > 0);
    try testing.expect(lockLimit() > 0);
    if (barrierSetup()) barrier();
}
