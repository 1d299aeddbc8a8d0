//! Reading the kernel's own files of numbers (`/proc`) without a heap.
//!
//! Files are read through a fixed buffer on the stack, line by line; numbers are parsed here. Cost:
//! a few microseconds for the small ones; `smaps` walks the page tables of the whole process and
//! takes 0.2 to 10 ms, so it is read only to probe an advice and where nothing better exists. A
//! file that is missing or odd gives null, never an error: each caller has a default for it. Lines
//! longer than the buffer are cut, which can only hit names of files. Safe from any thread. When
//! NOT to use it: on any path that an allocation takes more than once.

const std = @import("std");
const linux = std.os.linux;

/// One open file, read line by line.
pub const Lines = struct {
    fd: i32,
    start: usize = 0,
    end: usize = 0,
    /// Bytes asked for at a time. The kernel makes no more of a long file than was asked for.
    part: usize = 4096,
    buffer: [4096]u8 = undefined,

    pub fn open(path: [*:0]const u8) ?Lines {
        const result = linux.open(path, .{ .ACCMODE = .RDONLY, .CLOEXEC = true }, 0);
        if (linux.errno(result) != .SUCCESS) return null;
        return .{ .fd = @intCast(result) };
    }

    pub fn close(lines: *Lines) void {
        _ = linux.close(lines.fd);
    }

    /// The next line without its newline, valid until the next call; null at the end.
    pub fn next(lines: *Lines) ?[]const u8 {
        while (true) {
            const held = lines.buffer[lines.start..lines.end];
            if (find(held, "\n")) |length| {
                lines.start += length + 1;
                return held[0..length];
            }
            if (lines.start > 0) {
                for (held, 0..) |byte, index| lines.buffer[index] = byte;
                lines.end -= lines.start;
                lines.start = 0;
            }
            if (lines.end == lines.buffer.len) {
                const whole = lines.buffer[0..lines.end];
                lines.start = lines.end;
                return whole;
            }
            if (!lines.fill()) {
                const rest = lines.buffer[lines.start..lines.end];
                lines.start = lines.end;
                return if (rest.len == 0) null else rest;
            }
        }
    }

    fn fill(lines: *Lines) bool {
        while (true) {
            const room = lines.buffer[lines.end..];
            const result = linux.read(lines.fd, room.ptr, @min(room.len, lines.part));
            switch (linux.errno(result)) {
                .SUCCESS => {},
                .INTR => continue,
                else => return false,
            }
            lines.end += result;
            return result > 0;
        }
    }
};

/// Where `wanted` begins in `text`. The standard library's search is quicker for long texts and ten times
/// as much code.
pub noinline fn find(text: []const u8, wanted: []const u8) ?usize {
    var start: usize = 0;
    while (start + wanted.len <= text.len) : (start += 1) {
        for (wanted, text[start..][0..wanted.len]) |want, have| {
            if (want != have) break;
        } else return start;
    }
    return null;
}

/// The number that `text` is, in lower case digits of base 16.
fn hexadecimal(text: []const u8) ?usize {
    if (text.len == 0 or text.len > 2 * @sizeOf(usize)) return null;
    var value: usize = 0;
    for (text) |letter| value = value << 4 | switch (letter) {
        '0'...'9' => letter - '0',
        'a'...'f' => letter - 'a' + 10,
        else => return null,
    };
    return value;
}

/// The first number in `text`, after any spaces and letters.
pub fn number(text: []const u8) ?u64 {
    var index: usize = 0;
    while (index < text.len and (text[index] < '0' or text[index] > '9')) index += 1;
    if (index == text.len) return null;
    var value: u64 = 0;
    while (index < text.len and text[index] >= '0' and text[index] <= '9') : (index += 1) {
        value = value *| 10 +| (text[index] - '0');
    }
    return value;
}

/// Hundredths of the decimal number behind `name` in `text`; 0 if there is none.
pub fn hundredths(text: []const u8, name: []const u8) u32 {
    const start = find(text, name) orelse return 0;
    var value: u32 = 0;
    var decimals: ?u32 = null;
    for (text[start + name.len ..]) |letter| {
        if (letter == '.' and decimals == null) {
            decimals = 0;
            continue;
        }
        if (letter < '0' or letter > '9' or decimals == 2) break;
        value = value *| 10 +| (letter - '0');
        if (decimals) |count| decimals = count + 1;
    }
    for (0..2 - (decimals orelse 0)) |_| value *|= 10;
    return value;
}

/// The word at `position` (0 is the first) among words separated by spaces.
pub fn word(text: []const u8, position: usize) ?[]const u8 {
    var words = std.mem.tokenizeAny(u8, text, " \t");
    for (0..position) |_| _ = words.next() orelse return null;
    return words.next();
}

/// The number of a file that holds one number.
pub fn fileNumber(path: [*:0]const u8) ?u64 {
    var lines = Lines.open(path) orelse return null;
    defer lines.close();
    return number(lines.next() orelse return null);
}

/// The kernel's entry of this type in the auxiliary vector.
pub fn auxiliary(kind: usize) ?usize {
    const result = linux.open("/proc/self/auxv", .{ .ACCMODE = .RDONLY, .CLOEXEC = true }, 0);
    if (linux.errno(result) != .SUCCESS) return null;
    const fd: i32 = @intCast(result);
    defer _ = linux.close(fd);
    while (true) {
        var pair: [2]usize = undefined;
        const got = linux.read(fd, @ptrCast(&pair), @sizeOf(@TypeOf(pair)));
        if (linux.errno(got) != .SUCCESS or got != @sizeOf(@TypeOf(pair))) return null;
        if (pair[0] == 0) return null;
        if (pair[0] == kind) return pair[1];
    }
}

/// What `smaps` says of one mapping.
pub const Mapping = struct {
    start: usize,
    end: usize,
    huge_bytes: u64 = 0,
    lazy_bytes: u64 = 0,
    flags: Flags = .{},

    /// The flags that an advice sets.
    pub const Flags = packed struct(u8) {
        huge: bool = false,
        no_huge: bool = false,
        dont_fork: bool = false,
        wipe_on_fork: bool = false,
        dont_dump: bool = false,
        locked: bool = false,
        _: u2 = 0,
    };

    fn header(line: []const u8) ?Mapping {
        const dash = find(line, "-") orelse return null;
        const space = find(line, " ") orelse return null;
        if (space <= dash) return null;
        return .{
            .start = hexadecimal(line[0..dash]) orelse return null,
            .end = hexadecimal(line[dash + 1 .. space]) orelse return null,
        };
    }

    fn detail(mapping: *Mapping, line: []const u8) void {
        const startsWith = std.mem.startsWith;
        if (startsWith(u8, line, "AnonHugePages:") or startsWith(u8, line, "Private_Hugetlb:")) {
            mapping.huge_bytes += (number(line) orelse 0) * 1024;
        } else if (startsWith(u8, line, "LazyFree:")) {
            mapping.lazy_bytes = (number(line) orelse 0) * 1024;
        } else if (startsWith(u8, line, "VmFlags:")) {
            var words = std.mem.tokenizeScalar(u8, line["VmFlags:".len..], ' ');
            while (words.next()) |flag| {
                inline for (.{
                    .{ "hg", "huge" },         .{ "nh", "no_huge" },   .{ "dc", "dont_fork" },
                    .{ "wf", "wipe_on_fork" }, .{ "dd", "dont_dump" }, .{ "lo", "locked" },
                }) |pair| {
                    if (std.mem.eql(u8, flag, pair[0])) @field(mapping.flags, pair[1]) = true;
                }
            }
        }
    }
};

/// Walks `smaps`, one mapping at a time, ascending.
pub const Mappings = struct {
    lines: Lines,
    ahead: ?Mapping = null,

    pub fn open() ?Mappings {
        var lines = Lines.open("/proc/self/smaps") orelse return null;
        lines.part = 512; // less than what it says of one mapping
        return .{ .lines = lines };
    }

    pub fn close(mappings: *Mappings) void {
        mappings.lines.close();
    }

    pub fn next(mappings: *Mappings) ?Mapping {
        while (mappings.lines.next()) |line| {
            if (line.len == 0 or line[0] >= 'A' and line[0] <= 'Z') {
                if (mappings.ahead) |*mapping| mapping.detail(line);
                continue;
            }
            const found = Mapping.header(line) orelse continue;
            defer mappings.ahead = found;
            if (mappings.ahead) |complete| return complete;
        }
        defer mappings.ahead = null;
        return mappings.ahead;
    }
};

test "a number is found behind its name" {
    try std.testing.expectEqual(65530, number("65530\n"));
    try std.testing.expectEqual(12, number("LazyFree:     12 kB"));
    try std.testing.expectEqual(null, number("none"));
    try std.testing.expectEqualStrings("22", word("11  22 33", 1).?);
    try std.testing.expectEqual(6, find("alpha beta", "beta"));
    try std.testing.expectEqual(null, find("alpha bet", "beta"));
    try std.testing.expectEqual(0x7f00abcd, hexadecimal("7f00abcd"));
    for ([_][]const u8{ "", "7g", "10000000000000000" }) |wrong| try std.testing.expectEqual(null, hexadecimal(wrong));
    try std.testing.expectEqual(1207, hundredths("some avg10=12.07 avg60=3.00", "avg10="));
    try std.testing.expectEqual(300, hundredths("some avg10=12.07 avg60=3", "avg60="));
    try std.testing.expectEqual(0, hundredths("some", "avg10="));
}

test "the mappings of this process hold its own stack and code" {
    if (@import("builtin").os.tag != .linux) return error.SkipZigTest;
    var mappings = Mappings.open() orelse return error.SkipZigTest;
    defer mappings.close();
    const code = @intFromPtr(&number);
    const stack = @intFromPtr(&mappings);
    var found: u32 = 0;
    var last: usize = 0;
    while (mappings.next()) |mapping| {
        try std.testing.expect(mapping.start >= last and mapping.end > mapping.start);
        last = mapping.end;
        for ([_]usize{ code, stack }) |address| {
            if (address >= mapping.start and address < mapping.end) found += 1;
        }
    }
    try std.testing.expectEqual(2, found);
}
