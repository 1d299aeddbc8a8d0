//! One engine per process: finds the copy of this library that was loaded first.
//!
//! A program may load two copies (two versions in a dependency tree, a bundled and an installed
//! one). Each would have its own handle table and pools, and a handle of one would be foreign to
//! the other. So each copy, before its first use, walks the loaded objects in the order of loading
//! and takes the first with our SONAME and a fitting exported `Marker` as the leader; a copy that
//! is not the leader lets the binding load the leader's path instead, which the dynamic linker
//! answers with the object that is there already.
//!
//! Invariant: all copies find the same leader whenever they ask, because the order of loading does
//! not change and a library linked as never unloaded does not leave it. The marker is plain data
//! that needs no relocation, so it may be read even while another thread is still loading the
//! object. Everything read is checked to lie in a loaded segment of its object first: a strange
//! library is passed over, never followed.
//!
//! Cost: 6 us in a process of some 20 objects; no memory. Thread rule: any thread, at any time; the
//! dynamic linker's own lock is held meanwhile, so the visitor calls nothing.
//! When NOT to use it: in a program that has the allocators linked in; it has one engine by itself.

const std = @import("std");
const builtin = @import("builtin");
const elf = std.elf;

/// The name that every build of this library carries.
pub const soname = "libholdfast.so.1";

/// The name under which the root exports its `Marker`.
pub const marker_name = "hf_engine_marker";

/// What a copy of the library says of itself. Plain data: no pointers, ever.
pub const Marker = extern struct {
    magic: u64 = magic_number,
    /// Copies work together only if this is equal.
    abi: u32,
    bytes: u32 = @sizeOf(Marker),

    const magic_number: u64 = std.mem.readInt(u64, "holdfast", .native);

    fn fits(found: *const Marker, own: *const Marker) bool {
        return found.magic == own.magic and found.abi == own.abi and found.bytes == own.bytes;
    }
};

/// The answer of `findLeader`.
pub const Leader = struct {
    /// Address that the leader is loaded at; 0 when there is no dynamic linker to say.
    base: usize = 0,
    /// The file that the leader was loaded from, as the dynamic linker names it; valid as long as
    /// the leader is loaded, that is always. Empty when there is no dynamic linker.
    path: [:0]const u8 = "",
    /// The leader is the copy that asks.
    is_ourselves: bool = true,
    /// There is also a copy that this one cannot work with: it keeps to itself.
    has_incompatible: bool = false,
};

/// Finds the first loaded copy that fits `own`, which is the marker that this copy exports: its
/// address tells whether the leader is this copy. Where nothing is found (a static program, a
/// renamed library) this copy leads alone.
pub fn findLeader(own: *const Marker) Leader {
    if (!has_dynamic_linker) return .{};
    const weak = @extern(?Iterate, .{ .name = "dl_iterate_phdr", .linkage = .weak });
    const iterate = weak orelse return .{};
    var search: Search = .{ .own = own };
    _ = iterate(visit, &search);
    return search.leader;
}

const has_dynamic_linker = builtin.os.tag == .linux and
    (builtin.link_libc or builtin.output_mode != .Exe);

const Iterate = *const fn (Visit, *Search) callconv(.c) c_int;
const Visit = *const fn (*const Object, usize, *Search) callconv(.c) c_int;

const Search = struct {
    own: *const Marker,
    leader: Leader = .{},
    found: bool = false,
};

/// Called for each object in the order of loading; never stops early, since an incompatible copy
/// may come after the leader.
fn visit(object: *const Object, info_bytes: usize, search: *Search) callconv(.c) c_int {
    if (info_bytes < @sizeOf(Object)) return 0;
    const tables = object.tables() orelse return 0;
    if (!object.hasText(tables.names +% (tables.soname orelse return 0), soname)) return 0;
    const found = object.marker(tables);
    if (found == null or !found.?.fits(search.own)) {
        search.leader.has_incompatible = true;
    } else if (!search.found) {
        search.found = true;
        search.leader.base = object.base;
        search.leader.path = if (object.name) |name| std.mem.span(name) else "";
        search.leader.is_ourselves = found.? == search.own;
    }
    return 0;
}

/// The dynamic linker's `struct dl_phdr_info`, as far as every C library has it.
const Object = extern struct {
    base: usize,
    name: ?[*:0]const u8,
    headers: [*]const elf.Elf64_Phdr,
    headers_count: u16,

    const Tables = struct { names: usize, symbols: usize, hashes: usize, soname: ?u64 };

    /// The value of type T at this address, if that lies in a loaded segment and is aligned.
    fn at(object: *const Object, comptime T: type, address: usize) ?*const T {
        if (!std.mem.isAligned(address, @alignOf(T))) return null;
        if (!object.holds(address, @sizeOf(T))) return null;
        return @ptrFromInt(address);
    }

    fn holds(object: *const Object, address: usize, bytes: usize) bool {
        for (object.headers[0..object.headers_count]) |header| {
            if (header.p_type != elf.PT_LOAD or header.p_flags & elf.PF_R == 0) continue;
            const offset = address -% object.base -% header.p_vaddr;
            if (offset <= header.p_memsz and bytes <= header.p_memsz - offset) return true;
        }
        return false;
    }

    fn hasText(object: *const Object, address: usize, text: [:0]const u8) bool {
        if (!object.holds(address, text.len + 1)) return false;
        const found: [*]const u8 = @ptrFromInt(address);
        return std.mem.eql(u8, found[0 .. text.len + 1], text[0 .. text.len + 1]);
    }

    /// glibc writes absolute addresses into the dynamic section when it loads, musl leaves the
    /// offsets of the file: what lies below the base is an offset.
    fn absolute(object: *const Object, value: u64) usize {
        return if (value < object.base) object.base +% value else value;
    }

    fn tables(object: *const Object) ?Tables {
        const dynamic = for (object.headers[0..object.headers_count]) |header| {
            if (header.p_type == elf.PT_DYNAMIC) break object.base +% header.p_vaddr;
        } else return null;
        var result: Tables = .{ .names = 0, .symbols = 0, .hashes = 0, .soname = null };
        var address = dynamic;
        while (object.at(elf.Elf64_Dyn, address)) |entry| : (address += @sizeOf(elf.Elf64_Dyn)) {
            switch (entry.d_tag) {
                elf.DT_NULL => break,
                elf.DT_STRTAB => result.names = object.absolute(entry.d_val),
                elf.DT_SYMTAB => result.symbols = object.absolute(entry.d_val),
                elf.DT_GNU_HASH => result.hashes = object.absolute(entry.d_val),
                elf.DT_SONAME => result.soname = entry.d_val,
                else => {},
            }
        }
        return if (result.names != 0) result else null;
    }

    /// The exported marker, by the GNU hash table: a bucket of the name's hash starts a chain of
    /// hashes, one for each symbol, whose lowest bit marks the end.
    fn marker(object: *const Object, found: Tables) ?*const Marker {
        const header = object.at([4]u32, found.hashes) orelse return null;
        const buckets_count, const first_symbol, const filter_words = header[0..3].*;
        if (buckets_count == 0) return null;
        const buckets = found.hashes +% @sizeOf([4]u32) +% @as(usize, filter_words) * @sizeOf(u64);
        const chains = buckets +% @as(usize, buckets_count) * @sizeOf(u32);
        const hash = gnuHash(marker_name);
        const slot: usize = hash % buckets_count;
        const bucket = object.at(u32, buckets +% slot * @sizeOf(u32)) orelse return null;
        if (bucket.* < first_symbol) return null;
        var index: usize = bucket.*;
        while (true) : (index += 1) {
            const cell = chains +% (index - first_symbol) * @sizeOf(u32);
            const chain = object.at(u32, cell) orelse return null;
            if (chain.* | 1 == hash | 1) {
                if (object.symbol(found, index)) |marked| return marked;
            }
            if (chain.* & 1 == 1) return null;
        }
    }

    fn symbol(object: *const Object, found: Tables, index: usize) ?*const Marker {
        const address = found.symbols +% index * @sizeOf(elf.Elf64_Sym);
        const entry = object.at(elf.Elf64_Sym, address) orelse return null;
        if (entry.st_shndx == elf.SHN_UNDEF) return null;
        if (!object.hasText(found.names +% entry.st_name, marker_name)) return null;
        return object.at(Marker, object.base +% entry.st_value);
    }
};

/// The hash function of DT_GNU_HASH.
fn gnuHash(name: []const u8) u32 {
    var hash: u32 = 5381;
    for (name) |byte| hash = hash *% 33 +% byte;
    return hash;
}

const testing = std.testing;

/// A loaded library in miniature: what the dynamic linker would have mapped, at any address.
const TestLibrary = struct {
    headers: [2]elf.Elf64_Phdr = undefined,
    image: extern struct {
        dynamic: [6]elf.Elf64_Dyn align(64) = undefined,
        /// The reserved symbol 0, an unrelated one, the marker.
        symbols: [3]elf.Elf64_Sym = undefined,
        hash_header: [4]u32 = .{ 1, 1, 1, 0 },
        hash_filter: [1]u64 = .{std.math.maxInt(u64)},
        hash_buckets: [1]u32 = .{1},
        hash_chains: [2]u32 = undefined,
        names: [64]u8 = undefined,
        marker: Marker = undefined,
    } = .{},

    const names_text = "\x00" ++ soname ++ "\x00" ++ "hf_other" ++ "\x00" ++ marker_name ++ "\x00";
    const other_offset = 1 + soname.len + 1;
    const marker_offset = other_offset + "hf_other".len + 1;

    /// `is_relocated`: as glibc leaves the dynamic section, else as musl does.
    fn init(library: *TestLibrary, marker: Marker, is_relocated: bool) Object {
        library.* = .{};
        const image = &library.image;
        const Image = @TypeOf(image.*);
        const base = @intFromPtr(image);
        const shift = if (is_relocated) base else 0;
        @memcpy(image.names[0..names_text.len], names_text);
        image.dynamic = .{
            .{ .d_tag = elf.DT_SONAME, .d_val = 1 },
            .{ .d_tag = elf.DT_STRTAB, .d_val = shift + @offsetOf(Image, "names") },
            .{ .d_tag = elf.DT_SYMTAB, .d_val = shift + @offsetOf(Image, "symbols") },
            .{ .d_tag = elf.DT_GNU_HASH, .d_val = shift + @offsetOf(Image, "hash_header") },
            .{ .d_tag = elf.DT_NULL, .d_val = 0 },
            .{ .d_tag = elf.DT_NULL, .d_val = 0 },
        };
        const blank = std.mem.zeroes(elf.Elf64_Sym);
        image.symbols = @splat(blank);
        for ([_]u32{ other_offset, marker_offset }, 1..) |name, index| {
            image.symbols[index].st_name = name;
            image.symbols[index].st_shndx = 1;
            image.symbols[index].st_value = @offsetOf(Image, "marker");
        }
        image.hash_chains = .{ gnuHash("hf_other") & ~@as(u32, 1), gnuHash(marker_name) | 1 };
        image.marker = marker;
        library.headers = @splat(std.mem.zeroes(elf.Elf64_Phdr));
        library.headers[0].p_type = elf.PT_LOAD;
        library.headers[0].p_flags = elf.PF_R;
        library.headers[0].p_memsz = @sizeOf(Image);
        library.headers[1].p_type = elf.PT_DYNAMIC;
        library.headers[1].p_vaddr = @offsetOf(Image, "dynamic");
        return .{
            .base = base,
            .name = "/lib/copy.so",
            .headers = &library.headers,
            .headers_count = library.headers.len,
        };
    }
};

fn testSearch(own: *const Marker, objects: []const Object) !Leader {
    var search: Search = .{ .own = own };
    for (objects) |*object| try testing.expectEqual(0, visit(object, @sizeOf(Object), &search));
    return search.leader;
}

test "the first fitting copy leads, relocated or not, and a copy knows itself" {
    var libraries: [2]TestLibrary = undefined;
    for ([_]bool{ false, true }) |is_relocated| {
        const objects = [_]Object{
            libraries[0].init(.{ .abi = 1 }, is_relocated),
            libraries[1].init(.{ .abi = 1 }, is_relocated),
        };
        const first = try testSearch(&libraries[0].image.marker, &objects);
        try testing.expect(first.is_ourselves and !first.has_incompatible);
        try testing.expectEqual(objects[0].base, first.base);
        try testing.expectEqualStrings("/lib/copy.so", first.path);
        const second = try testSearch(&libraries[1].image.marker, &objects);
        try testing.expect(!second.is_ourselves and !second.has_incompatible);
        try testing.expectEqual(objects[0].base, second.base);
    }
}

test "a copy of another ABI, magic or size is reported and not followed" {
    var libraries: [2]TestLibrary = undefined;
    const own: Marker = .{ .abi = 7 };
    const others = [_]Marker{
        .{ .abi = 8 },
        .{ .abi = 7, .magic = 1 },
        .{ .abi = 7, .bytes = 99 },
    };
    for (others) |other| {
        const objects = [_]Object{ libraries[0].init(other, true), libraries[1].init(own, true) };
        const leader = try testSearch(&libraries[1].image.marker, &objects);
        try testing.expect(leader.is_ourselves and leader.has_incompatible);
        try testing.expectEqual(objects[1].base, leader.base);
    }
}

test "damaged and foreign libraries are passed over" {
    var library: TestLibrary = undefined;
    const own: Marker = .{ .abi = 7 };
    var prng = std.Random.DefaultPrng.init(testing.random_seed);
    errdefer std.debug.print("seed {d}\n", .{testing.random_seed});
    const random = prng.random();
    for (0..2000) |_| {
        const object = library.init(own, random.boolean());
        // Any few bytes of what the search reads; reads outside the image must not happen (they
        // would fault or be found by the allocator's guard), whatever the answer is.
        const bytes = std.mem.asBytes(&library.image);
        for (0..random.uintLessThan(u8, 8)) |_| {
            bytes[random.uintLessThan(usize, bytes.len)] = random.int(u8);
        }
        const leader = try testSearch(&own, &.{object});
        try testing.expect(leader.base == 0 or leader.base == object.base);
    }
    var object = library.init(own, true);
    library.image.names[3] = 'x';
    const renamed = try testSearch(&own, &.{object});
    try testing.expect(renamed.is_ourselves and !renamed.has_incompatible and renamed.base == 0);
    object = library.init(own, true);
    library.image.names[TestLibrary.marker_offset] = 'x';
    try testing.expect((try testSearch(&own, &.{object})).has_incompatible);
}

test "a static program leads alone" {
    if (has_dynamic_linker) return error.SkipZigTest;
    const own: Marker = .{ .abi = 7 };
    const leader = findLeader(&own);
    try testing.expect(leader.is_ourselves and leader.base == 0);
}
