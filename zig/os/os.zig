//! The floor of the operating system: every primitive that differs by system, and nothing else.
//!
//! An implementation is a namespace type (a file) with the functions that `check` lists.
//! `linux.zig` is the real one, `macos.zig` has base pages only, `unsupported.zig` (Windows and
//! WebAssembly) answers `Errno.unsupported`, and `fake.zig` is a deterministic one for tests, which
//! refuses calls on demand and proves that every page came back. Code above this floor is written as
//! `fn Pool(comptime Os: type) type` and gets `os.Native` or `os.fake`.
//!
//! Errors are numbers: 0 is success, anything else the system's errno as a `u16`. There are no
//! error sets here, because the number itself goes up to the user. Sizes are bytes; addresses and
//! sizes are multiples of `pageBytes()` unless a function says otherwise. No primitive allocates
//! from a heap, keeps a lock across a system call, or depends on a C library. All of them may be
//! called from any thread at any time, also while another thread is in the same function.
//!
//! What a refusal means to the caller (`fatal`: the operation that needed it fails with a status;
//! `falls back`: another way is tried, the user sees the result only in what was obtained;
//! `counted`: the operation succeeds, `systemRefusals` in the statistics goes up by one):
//!
//! | primitive          | system call          | a refusal is                                     |
//! | ------------------ | -------------------- | ------------------------------------------------ |
//! | reserve            | mmap                 | falls back to fewer regions; of one: fatal     |
//! | reserveLow         | mmap                 | fatal to the low section that was asked for      |
//! | mapHuge            | mmap, madvise        | fatal for "hugetlb"; "auto" falls back to huge   |
//! | mapShared          | memfd_create, mmap   | fatal for the region                             |
//! | publishShared      | ftruncate, fcntl     | fatal for the call; the lease stays as it was    |
//! | unmap              | munmap               | counted; pages given back, range kept for later  |
//! | .huge              | madvise              | falls back to base pages, counted                |
//! | .no_huge           | madvise              | counted                                          |
//! | .dont_need         | madvise              | counted; the range stays resident and dirty      |
//! | .dont_need_locked  | madvise              | falls back to unlock, dont_need, lock            |
//! | .lazy_free         | madvise              | falls back to dont_need                          |
//! | .populate_write    | madvise              | falls back to touching (inside this floor)       |
//! | .will_need         | madvise              | counted                                          |
//! | .collapse          | madvise              | counted; the pages stay as they are              |
//! | .dont_fork         | madvise              | fatal where an option promised it; else counted  |
//! | .wipe_on_fork      | madvise              | falls back to comparing `processId`              |
//! | .dont_dump         | madvise              | counted                                          |
//! | lock               | mlock                | fatal for lock "require"; "try" falls back       |
//! | unlock             | munlock              | counted; the pages stay locked                   |
//! | residentBytes ...  | mincore, ioctl, read | falls back to a coarser source; at last 0        |
//! | memoryPressure     | read                 | falls back to 0: no pressure is known            |
//! | barrierSetup       | membarrier           | falls back to sequentially consistent fences     |
//! | spawn              | pthread_create       | counted; no background work, purging by calls    |
//! | onThreadEnd        | pthread_key_create   | falls back to thread_detach by the binding       |
//!
//! Do not use this floor to manage memory: it knows no regions. That is `region/`.

const builtin = @import("builtin");

pub const fake = @import("fake.zig");

/// The implementation for the system that is compiled for.
pub const Native = if (builtin.cpu.arch.isWasm()) @import("unsupported.zig") else switch (builtin.os.tag) {
    .linux => @import("linux.zig"),
    .macos => @import("macos.zig"),
    .windows => @import("unsupported.zig"),
    else => @compileError("holdfast knows Linux, macOS, Windows and WebAssembly"),
};

/// Size of the large page that this library deals in: the huge page of x86_64 and of aarch64 with
/// base pages of 4 KiB. Regions are aligned to it on every system.
pub const large_page_bytes: usize = 2 << 20;

/// What may be said to the system about a range of pages. What each one does is the effect that
/// `works` probes; the advice itself may answer 0 and do nothing (emulators do).
pub const Advice = enum(u8) {
    /// Back the range with large pages when it is touched. Splits a mapping unless given to all of
    /// it.
    huge,
    /// Never back the range with large pages.
    no_huge,
    /// Give the pages back now; the next read sees zeros. EINVAL on locked pages.
    dont_need,
    /// As `dont_need`, also on locked pages, which stay locked (Linux 5.18).
    dont_need_locked,
    /// The pages may be taken at any time until they are written again: a read sees the old bytes
    /// or zeros. EINVAL on locked pages.
    lazy_free,
    /// Make the pages resident and writable, contents untouched. Where the system has no such call
    /// the floor touches each page itself, so this never fails for want of support.
    populate_write,
    /// The range will be read soon: starts bringing it in from swap.
    will_need,
    /// Gather what is resident into large pages now. Dear: 2 ms per MiB and more.
    collapse,
    /// A forked child does not have the range.
    dont_fork,
    /// Take `dont_fork` back.
    do_fork,
    /// A forked child sees zeros in the range.
    wipe_on_fork,
    /// The range is left out of core dumps.
    dont_dump,
};

/// Which system call refused. The ordinals are part of the ABI: add at the end only.
pub const SystemCall = enum(u8) {
    none = 0,
    /// `reserve`
    mmap = 1,
    /// `mapHuge`
    mmap_huge = 2,
    /// `unmap`
    munmap = 3,
    /// `advise`
    madvise = 4,
    /// `lock`
    mlock = 5,
    /// `unlock`
    munlock = 6,
    /// `residentBytes`
    mincore = 7,
    /// `hugeBytes`
    pagemap_scan = 8,
    /// `wait`, `wake`
    futex = 9,
    /// `barrierSetup`, `barrier`
    membarrier = 10,
    /// `spawn`
    pthread_create = 11,
    /// `onThreadEnd`
    pthread_key_create = 12,
    /// `random`
    getrandom = 13,
    /// `mapShared`, `publishShared`
    memfd_create = 14,
    _,
};

/// The errno values that code above this floor compares with. They are Linux's numbers on every
/// system: the other implementations translate, since only these are ever looked at.
pub const Errno = struct {
    pub const not_permitted: u16 = 1;
    pub const again: u16 = 11;
    pub const no_memory: u16 = 12;
    pub const fault: u16 = 14;
    /// The addresses are taken.
    pub const exists: u16 = 17;
    pub const invalid: u16 = 22;
    /// The system has no such primitive.
    pub const unsupported: u16 = 38;
};

/// What a background thread runs. The result is ignored.
pub const ThreadEntry = *const fn (?*anyopaque) callconv(.c) ?*anyopaque;

/// Called when a thread ends that had a value other than 0 set by `setThreadEnd`, on that thread.
pub const ThreadEnd = *const fn (usize) void;

/// Fails to compile, naming the primitive, unless `Os` has every primitive with exactly its type.
pub fn check(comptime Os: type) void {
    comptime {
        for (@typeInfo(Primitives).@"struct".fields) |primitive| {
            if (!@hasDecl(Os, primitive.name))
                @compileError(@typeName(Os) ++ " lacks the primitive " ++ primitive.name);
            const Found = @TypeOf(@field(Os, primitive.name));
            if (Found != primitive.type)
                @compileError(@typeName(Os) ++ "." ++ primitive.name ++ " is " ++
                    @typeName(Found) ++ ", not " ++ @typeName(primitive.type));
        }
    }
}

/// Where `reserveLow` ends: what devices and formats with 32-bit addresses reach.
pub const low_bound: u64 = 1 << 32;

/// The interface: one field for each primitive, its type the primitive's, its comment the contract.
const Primitives = struct {
    /// Bytes of a base page: a power of two of at least 4096, the same for the life of the process.
    pageBytes: fn () usize,

    /// Reserves private zeroed memory, readable and writable, without commitment (pages are faulted
    /// in by touch). `alignment` is a power of two of at least a page. Post: the result is aligned,
    /// and is unmapped by `unmap` in whole or in parts; or null with `errno` set and nothing
    /// mapped.
    reserve: fn (bytes: usize, alignment: usize, errno: *u16) ?[*]u8,

    /// As `reserve`, aligned to `large_page_bytes`, with every address below `low_bound`. Null with
    /// `errno` also where the system has no free addresses there.
    reserveLow: fn (bytes: usize, errno: *u16) ?[*]u8,

    /// Maps and populates explicit large pages. `bytes` is a multiple of `large_page_bytes`, the
    /// result is aligned to it, zeroed and resident. A shortage is null with `errno` set here,
    /// never a signal at a later touch; nothing stays mapped then. 40 to 100 us a page, for the
    /// zeroing.
    mapHuge: fn (bytes: usize, errno: *u16) ?[*]u8,

    /// Maps zeroed memory, aligned to `large_page_bytes`, that a file without a name has: `file` is
    /// its descriptor, not inherited by programs that are started. Descriptors are numbers of the
    /// upper half of what the process may have, each used again as late as possible, so that a
    /// number that someone kept leads nowhere rather than elsewhere, and sockets have the lower
    /// half. Post: unmapped by `unmap`, closed by `closeShared`; or null with `errno` set.
    mapShared: fn (bytes: usize, file: *i32, errno: *u16) ?[*]u8,

    /// Makes the file exactly `bytes` long, for good: it is sealed against shrinking and growing,
    /// and memory of its mapping beyond the page of the last byte must not be touched any more.
    publishShared: fn (file: i32, bytes: usize) u16,

    /// Closes a file of `mapShared`. Who has opened it for himself keeps the memory.
    closeShared: fn (file: i32) void,

    /// Unmaps a range of one or of several adjoining mappings (of large pages: whole ones). Locks
    /// go with it. Refused (ENOMEM) when it would split a mapping at the limit of mappings; the
    /// range is then still wholly mapped.
    unmap: fn (ptr: [*]u8, bytes: usize) u16,

    /// Gives `advice` on the range. Each change of `huge`, `no_huge`, `dont_fork`, `do_fork`,
    /// `wipe_on_fork` or `dont_dump` on part of a mapping splits it: they count against `mapLimit`.
    advise: fn (ptr: [*]u8, bytes: usize, advice: Advice) u16,

    /// Whether `advice` does here what it says, probed by its effect at the first question and
    /// remembered. The first question may cost a millisecond, later ones a load. Where it is false
    /// for `dont_need`, an advised range must be taken as dirty.
    works: fn (advice: Advice) bool,

    /// Locks the range into memory and makes it resident. Locks do not nest. On refusal nothing in
    /// the range stays locked, also what was locked before: lock only ranges that you hold
    /// unlocked. ENOMEM: over `lockLimit` (or not mapped), EPERM: a limit of 0, EAGAIN: no memory.
    lock: fn (ptr: [*]u8, bytes: usize) u16,

    /// Unlocks the range; unlocked parts are fine.
    unlock: fn (ptr: [*]u8, bytes: usize) u16,

    /// Bytes that this process may lock, read afresh at each call: the soft RLIMIT_MEMLOCK, or
    /// maxInt(u64) where nothing limits it.
    lockLimit: fn () u64,

    /// Mappings that this process may have; may be the figure of the first question. A load.
    mapLimit: fn () u64,

    /// Resident bytes of a mapped range (pages taken by swap do not count). 50 ns a MiB and more:
    /// for statistics and tests. Any address and size; counts every page that the range touches.
    residentBytes: fn (ptr: [*]const u8, bytes: usize) u64,

    /// Bytes of the range that large pages of any kind back now. Any address and size.
    hugeBytes: fn (ptr: [*]const u8, bytes: usize) u64,

    /// Resident bytes of the process as the system's tools show them; 0 when unknown.
    processResident: fn () u64,

    /// Hundredths of a per cent of the last ten seconds in which some thread waited for memory, as the
    /// system tells; 0 when it does not. Reads a file: some µs.
    memoryPressure: fn () u32,

    /// Sleeps while `word` holds `expected`, until `wake` or for at most `timeout_ns`. May return
    /// early without a reason: look at the word again.
    wait: fn (word: *const u32, expected: u32, timeout_ns: ?u64) void,

    /// Wakes at most `count` threads that `wait` on `word`.
    wake: fn (word: *const u32, count: u32) void,

    /// Nanoseconds of a clock that never goes back; its zero means nothing. Around 50 ns.
    nowNs: fn () u64,

    /// Fills `buf` with random bytes, unpredictable wherever the system has such a source.
    random: fn (buf: []u8) void,

    /// The process's number, asked of the system each time: differs in a forked child.
    processId: fn () u32,

    /// Whether this is the process's only thread; false if that is not known. One system call.
    isAlone: fn () bool,

    /// Prepares `barrier`; false where the system has none. Once per process, before `barrier`. In a
    /// process with several threads it waits for the kernel, 5 to 20 ms.
    barrierSetup: fn () bool,

    /// Every thread of the process passes a full memory barrier before this returns. 2 to 10 us.
    barrier: fn () void,

    /// Starts a detached thread with a small stack and all signals blocked that a program can
    /// await. Who wants to wait for its end gives it a word of its own to `wake`.
    /// `Errno.unsupported` where the process has no threads library.
    spawn: fn (entry: ThreadEntry, arg: ?*anyopaque) u16,

    /// Names the calling thread in the system's lists; at most 15 bytes count.
    nameThread: fn (name: [:0]const u8) void,

    /// Registers the one callback for the ends of threads. False where the process has no threads
    /// library, or when called before with another callback. Once per process.
    onThreadEnd: fn (callback: ThreadEnd) bool,

    /// Sets the value that the callback gets when the calling thread ends; 0: it is not called.
    setThreadEnd: fn (value: usize) void,

    /// A number that differs between threads alive at the same time. One or two instructions.
    threadPointer: fn () usize,
};

comptime {
    check(Native);
}

test "the fake system has every primitive with its type" {
    check(fake);
}
