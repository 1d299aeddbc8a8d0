//! Writes `include/holdfast.h` and `src/abi.gen.ts` from `zig/abi.zig`.
//!
//! Types, layouts and values come from compile-time reflection, so they cannot differ from what the
//! compiler built; doc comments and parameter names, which reflection does not have, come from the
//! syntax tree of the same file (and of the file that declares the types it re-exports).
//!
//! Refused with an error, so that nothing reaches a user half described: a public item or a field
//! of a struct without a doc comment (values of an enum may speak for themselves), a function that
//! is not `callconv(.c)`, a type that has no entry in `cType` and `ffiType`, two equal C names.
//!
//! | Zig | C | bun:ffi |
//! | --- | --- | --- |
//! | u32, i32, f64 | uint32_t, int32_t, double | u32, i32, f64 |
//! | enum(i32), enum(u32) | hf_<name>_t (its integer) | i32, u32 |
//! | *T, *const T, [*]T of an extern struct | hf_<name>_t * | buffer: a view, never null |
//! | other pointers, optional or not | void * | ptr |
//! | usize, ?*usize | size_t, size_t * | u64, ptr (the native face only) |
//!
//! Usage: gen_abi <out.h> <out.ts> <abi.zig> <files that declare its types>... One run, one thread,
//! no state; run it through `zig build abi`, which also copies the files to their places.

const std = @import("std");
const abi = @import("abi");
const Ast = std.zig.Ast;
const Writer = std.Io.Writer;

/// The command that regenerates both files, named in their banners.
const command = "npm run zig-build -- abi";
const prefix = "hf_";

const Kind = enum { function, structure, enumeration, constant };

fn kindOf(comptime name: [:0]const u8) Kind {
    const value = @field(abi, name);
    const T = @TypeOf(value);
    if (T != type) return if (@typeInfo(T) == .@"fn") .function else .constant;
    return switch (@typeInfo(value)) {
        .@"struct" => .structure,
        .@"enum" => .enumeration,
        else => @compileError("abi." ++ name ++ ": only extern structs and enums may be public types"),
    };
}

/// The names of the contract of one kind, in source order.
fn namesOf(comptime kind: Kind) []const [:0]const u8 {
    comptime {
        @setEvalBranchQuota(100_000);
        var names: []const [:0]const u8 = &.{};
        for (@typeInfo(abi).@"struct".decls) |decl| {
            if (kindOf(decl.name) == kind) names = names ++ .{decl.name};
        }
        return names;
    }
}

pub fn main(init: std.process.Init) !void {
    const arena = init.arena.allocator();
    const args = try init.minimal.args.toSlice(arena);
    if (args.len < 4) {
        std.log.err("usage: gen_abi <out.h> <out.ts> <abi.zig> [file.zig]...", .{});
        return error.Usage;
    }
    var docs: Docs = .{ .arena = arena };
    for (args[3..]) |path| {
        const source = try std.Io.Dir.cwd().readFileAllocOptions(init.io, path, arena, .limited(1 << 20), .@"1", 0);
        try docs.addFile(source);
    }
    try docs.requireAll();
    try refuseClashes(arena);

    var header: Writer.Allocating = .init(arena);
    try writeHeader(&header.writer, docs);
    try std.Io.Dir.cwd().writeFile(init.io, .{ .sub_path = args[1], .data = header.written() });
    var table: Writer.Allocating = .init(arena);
    try writeTypeScript(&table.writer, docs);
    try std.Io.Dir.cwd().writeFile(init.io, .{ .sub_path = args[2], .data = table.written() });
}

// ---------------------------------------------------------------------------------------------
// What only the syntax tree knows

/// Doc comments by "item" or "Item.field", and parameter names by function.
const Docs = struct {
    arena: std.mem.Allocator,
    texts: std.StringHashMapUnmanaged([]const []const u8) = .empty,
    parameters: std.StringHashMapUnmanaged([]const []const u8) = .empty,

    fn addFile(docs: *Docs, source: [:0]const u8) !void {
        const tree = try docs.arena.create(Ast);
        tree.* = try Ast.parse(docs.arena, source, .zig);
        if (tree.errors.len != 0) return error.SyntaxError;
        for (tree.rootDecls()) |node| {
            var buffer: [1]Ast.Node.Index = undefined;
            if (tree.fullFnProto(&buffer, node)) |proto| {
                const name = tree.tokenSlice(proto.name_token orelse continue);
                try docs.addText(tree, name, tree.firstToken(node));
                try docs.addParameters(tree, name, proto);
            } else if (tree.fullVarDecl(node)) |decl| {
                const name = tree.tokenSlice(decl.ast.mut_token + 1);
                try docs.addText(tree, name, tree.firstToken(node));
                const value = decl.ast.init_node.unwrap() orelse continue;
                try docs.addFields(tree, name, value);
            }
        }
    }

    fn addFields(docs: *Docs, tree: *const Ast, owner: []const u8, value: Ast.Node.Index) !void {
        var buffer: [2]Ast.Node.Index = undefined;
        const container = tree.fullContainerDecl(&buffer, value) orelse return;
        for (container.ast.members) |member| {
            const field = tree.fullContainerField(member) orelse continue;
            const name = tree.tokenSlice(field.ast.main_token);
            const path = try std.fmt.allocPrint(docs.arena, "{s}.{s}", .{ owner, unquoted(name) });
            try docs.addText(tree, path, field.firstToken());
        }
    }

    fn addParameters(docs: *Docs, tree: *const Ast, name: []const u8, proto: Ast.full.FnProto) !void {
        var names: std.ArrayList([]const u8) = .empty;
        var iterator = proto.iterate(tree);
        while (iterator.next()) |parameter| {
            const token = parameter.name_token orelse return error.UnnamedParameter;
            try names.append(docs.arena, tree.tokenSlice(token));
        }
        try docs.parameters.put(docs.arena, name, names.items);
    }

    /// The `///` lines directly above `first`, without their markers. The file read first wins: the
    /// contract's own words about a type that it re-exports.
    fn addText(docs: *Docs, tree: *const Ast, path: []const u8, first: Ast.TokenIndex) !void {
        if (docs.texts.contains(path)) return;
        var start = first;
        while (start > 0 and tree.tokenTag(start - 1) == .doc_comment) start -= 1;
        if (start == first) return;
        const found = try docs.arena.alloc([]const u8, first - start);
        for (found, start..) |*line, token| {
            line.* = std.mem.trim(u8, tree.tokenSlice(@intCast(token))[3..], " \r");
        }
        try docs.texts.put(docs.arena, path, found);
    }

    fn requireAll(docs: *const Docs) !void {
        var missing: u32 = 0;
        inline for (comptime std.enums.values(Kind)) |kind| inline for (comptime namesOf(kind)) |name| {
            missing += docs.require(name);
            switch (kind) {
                .structure => inline for (comptime fieldsOf(@field(abi, name))) |field| {
                    missing += docs.require(name ++ "." ++ field);
                },
                else => {},
            }
        };
        if (missing != 0) return error.UndocumentedItems;
    }

    fn require(docs: *const Docs, path: []const u8) u32 {
        if (docs.texts.contains(path)) return 0;
        std.log.err("abi.zig: `{s}` has no doc comment", .{path});
        return 1;
    }

    fn lines(docs: Docs, path: []const u8) []const []const u8 {
        return docs.texts.get(path) orelse &.{};
    }
};

fn unquoted(name: []const u8) []const u8 {
    return if (std.mem.startsWith(u8, name, "@\"")) name[2 .. name.len - 1] else name;
}

/// Names of the fields of a struct or enum.
fn fieldsOf(comptime T: type) []const [:0]const u8 {
    return std.meta.fieldNames(T);
}

// ---------------------------------------------------------------------------------------------
// Names

/// `PoolOptions` to `pool_options`.
fn snake(comptime name: []const u8) []const u8 {
    comptime {
        var out: []const u8 = "";
        for (name, 0..) |byte, i| {
            if (std.ascii.isUpper(byte) and i != 0) out = out ++ "_";
            out = out ++ .{std.ascii.toLower(byte)};
        }
        return out;
    }
}

/// `limit_bytes` to `limitBytes`.
fn camel(comptime name: []const u8) []const u8 {
    comptime {
        var out: []const u8 = "";
        var raise = false;
        for (name) |byte| {
            if (byte == '_') {
                raise = true;
            } else {
                out = out ++ .{if (raise) std.ascii.toUpper(byte) else byte};
                raise = false;
            }
        }
        return out;
    }
}

/// `limit_bytes` to `LIMIT_BYTES`.
fn upper(comptime name: []const u8) []const u8 {
    comptime {
        var out: []const u8 = "";
        for (name) |byte| out = out ++ .{std.ascii.toUpper(byte)};
        return out;
    }
}

/// C keeps types, functions and constants in one space, which neither Zig nor TypeScript does.
fn refuseClashes(arena: std.mem.Allocator) !void {
    var seen: std.StringHashMapUnmanaged(void) = .empty;
    inline for (comptime std.enums.values(Kind)) |kind| inline for (comptime namesOf(kind)) |name| {
        const own = comptime switch (kind) {
            .function => prefix ++ name,
            .constant => "HF_" ++ upper(name),
            .structure, .enumeration => prefix ++ snake(name) ++ "_t",
        };
        try refuseClash(arena, &seen, own);
        if (kind == .enumeration) inline for (comptime fieldsOf(@field(abi, name))) |field| {
            try refuseClash(arena, &seen, comptime enumConstant(name, field));
        };
    };
}

fn refuseClash(arena: std.mem.Allocator, seen: *std.StringHashMapUnmanaged(void), name: []const u8) !void {
    if (!(try seen.getOrPut(arena, name)).found_existing) return;
    std.log.err("abi.zig: two items are called {s} in C", .{name});
    return error.NameClash;
}

fn enumConstant(comptime owner: []const u8, comptime field: []const u8) []const u8 {
    return "HF_" ++ upper(snake(owner)) ++ "_" ++ upper(field);
}

// ---------------------------------------------------------------------------------------------
// Types

fn nameOfStruct(comptime T: type) ?[]const u8 {
    comptime {
        for (namesOf(.structure)) |name| if (@field(abi, name) == T) return prefix ++ snake(name) ++ "_t";
        return null;
    }
}

fn nameOfEnum(comptime T: type) ?[]const u8 {
    comptime {
        for (namesOf(.enumeration)) |name| if (@field(abi, name) == T) return prefix ++ snake(name) ++ "_t";
        return null;
    }
}

/// The C spelling, with a trailing space unless it ends in a star, so that a name can follow.
fn cType(comptime T: type) []const u8 {
    return switch (T) {
        u8 => "uint8_t ",
        u16 => "uint16_t ",
        u32 => "uint32_t ",
        u64 => "uint64_t ",
        i32 => "int32_t ",
        i64 => "int64_t ",
        f64 => "double ",
        usize => "size_t ",
        void => "void ",
        else => switch (@typeInfo(T)) {
            .optional => |optional| cType(optional.child),
            .@"enum" => (nameOfEnum(T) orelse @compileError(@typeName(T) ++ " is not in abi.zig")) ++ " ",
            .pointer => |pointer| pointee: {
                const constness = if (pointer.is_const) "const " else "";
                if (pointer.child == anyopaque) break :pointee constness ++ "void *";
                if (nameOfStruct(pointer.child)) |name| break :pointee constness ++ name ++ " *";
                break :pointee constness ++ cType(pointer.child) ++ "*";
            },
            else => @compileError("no C type for " ++ @typeName(T)),
        },
    };
}

/// The `bun:ffi` name.
fn ffiType(comptime T: type) []const u8 {
    return switch (T) {
        u32, i32, f64, void => @typeName(T),
        usize => "u64",
        else => switch (@typeInfo(T)) {
            .@"enum" => |info| ffiType(info.tag_type),
            .optional => "ptr",
            .pointer => |pointer| if (nameOfStruct(pointer.child) != null) "buffer" else "ptr",
            else => @compileError("no FFI type for " ++ @typeName(T)),
        },
    };
}

/// How TypeScript reads a field: the DataView method's suffix, in lower case.
fn fieldKind(comptime T: type) []const u8 {
    return switch (T) {
        u8, u16, u32, u64, i32, i64, f64 => @typeName(T),
        usize => "u64",
        else => switch (@typeInfo(T)) {
            .@"enum" => |info| fieldKind(info.tag_type),
            .pointer => "u64",
            .optional => "u64",
            else => @compileError("no field kind for " ++ @typeName(T)),
        },
    };
}

fn Function(comptime name: [:0]const u8) std.builtin.Type.Fn {
    const info = @typeInfo(@TypeOf(@field(abi, name))).@"fn";
    if (!info.calling_convention.eql(std.builtin.CallingConvention.c)) {
        @compileError("abi." ++ name ++ " must be callconv(.c)");
    }
    return info;
}

// ---------------------------------------------------------------------------------------------
// include/holdfast.h

fn writeHeader(w: *Writer, docs: Docs) !void {
    try w.writeAll("/* Generated by `" ++ command ++ "` from zig/abi.zig. Do not edit. */\n");
    try w.writeAll(
        \\#ifndef HOLDFAST_H
        \\#define HOLDFAST_H
        \\
        \\#include <stddef.h>
        \\#include <stdint.h>
        \\
        \\#ifdef __cplusplus
        \\#define HF_STATIC_ASSERT static_assert
        \\extern "C" {
        \\#else
        \\#define HF_STATIC_ASSERT _Static_assert
        \\#endif
        \\
        \\
    );
    inline for (comptime namesOf(.constant)) |name| {
        try writeCComment(w, "", docs.lines(name));
        try w.print("#define HF_{s} {s}\n", .{ comptime upper(name), comptime cValue(@field(abi, name)) });
    }
    inline for (comptime namesOf(.enumeration)) |name| {
        const T = @field(abi, name);
        try w.writeByte('\n');
        try writeCComment(w, "", docs.lines(name));
        try w.print("typedef {s}{s};\nenum {{\n", .{
            comptime cType(@typeInfo(T).@"enum".tag_type), comptime nameOfEnum(T).?,
        });
        inline for (@typeInfo(T).@"enum".fields) |field| {
            try writeCComment(w, "  ", docs.lines(name ++ "." ++ field.name));
            try w.print("  {s} = {d},\n", .{ comptime enumConstant(name, field.name), field.value });
        }
        try w.writeAll("};\n");
    }
    inline for (comptime namesOf(.structure)) |name| try writeCStruct(w, docs, name);
    inline for (comptime namesOf(.function)) |name| {
        const info = comptime Function(name);
        try w.writeByte('\n');
        try writeCComment(w, "", docs.lines(name));
        try w.print("{s}{s}{s}(", .{ comptime cType(info.return_type.?), prefix, name });
        if (info.params.len == 0) try w.writeAll("void");
        inline for (info.params, 0..) |parameter, i| {
            if (i != 0) try w.writeAll(", ");
            try w.print("{s}{s}", .{ comptime cType(parameter.type.?), docs.parameters.get(name).?[i] });
        }
        try w.writeAll(");\n");
    }
    try w.writeAll("\n#ifdef __cplusplus\n}\n#endif\n#endif\n");
}

fn writeCStruct(w: *Writer, docs: Docs, comptime name: [:0]const u8) !void {
    const T = @field(abi, name);
    if (@typeInfo(T).@"struct".layout != .@"extern") @compileError("abi." ++ name ++ " must be extern");
    const c_name = comptime nameOfStruct(T).?;
    try w.writeByte('\n');
    try writeCComment(w, "", docs.lines(name));
    try w.print("typedef struct {s} {{\n", .{c_name});
    inline for (@typeInfo(T).@"struct".fields) |field| {
        try writeCComment(w, "  ", docs.lines(name ++ "." ++ field.name));
        switch (@typeInfo(field.type)) {
            .array => |array| try w.print("  {s}{s}[{d}];\n", .{ comptime cType(array.child), field.name, array.len }),
            else => try w.print("  {s}{s};\n", .{ comptime cType(field.type), field.name }),
        }
    }
    try w.print("}} {s};\n", .{c_name});
    try w.print("HF_STATIC_ASSERT(sizeof({s}) == {d}, \"{s}\");\n", .{ c_name, @sizeOf(T), c_name });
    inline for (@typeInfo(T).@"struct".fields) |field| {
        try w.print("HF_STATIC_ASSERT(offsetof({s}, {s}) == {d}, \"{s}.{s}\");\n", .{
            c_name, field.name, @offsetOf(T, field.name), c_name, field.name,
        });
    }
}

fn writeCComment(w: *Writer, indent: []const u8, lines: []const []const u8) !void {
    for (lines, 0..) |line, i| {
        try w.print("{s}{s} {s}", .{ indent, if (i == 0) "/*" else " *", line });
        try w.writeAll(if (i + 1 == lines.len) " */\n" else "\n");
    }
}

fn cValue(comptime value: anytype) []const u8 {
    return switch (@TypeOf(value)) {
        u32 => std.fmt.comptimePrint("{d}u", .{value}),
        i32, comptime_int => std.fmt.comptimePrint("{d}", .{value}),
        f64 => std.fmt.comptimePrint("{d}.0", .{value}),
        else => |T| if (@typeInfo(T) == .pointer)
            "\"" ++ value ++ "\""
        else
            @compileError("no C value for a constant of type " ++ @typeName(T)),
    };
}

// ---------------------------------------------------------------------------------------------
// src/abi.gen.ts

fn writeTypeScript(w: *Writer, docs: Docs) !void {
    try w.writeAll("// Generated by `" ++ command ++ "` from zig/abi.zig. Do not edit.\n\n");
    try w.writeAll("/** Hash of the contract's text; `hf_fingerprint()` of a library built from it is the same. */\n");
    try w.print("export const FINGERPRINT = {d};\n", .{@as(u64, @intFromFloat(abi.fingerprint()))});
    inline for (comptime namesOf(.constant)) |name| {
        try writeTsComment(w, "", docs.lines(name));
        try w.print("export const {s} = {s};\n", .{ comptime upper(name), comptime tsValue(@field(abi, name)) });
    }
    inline for (comptime namesOf(.enumeration)) |name| {
        try w.writeByte('\n');
        try writeTsComment(w, "", docs.lines(name));
        try w.print("export const {s} = {{\n", .{name});
        inline for (@typeInfo(@field(abi, name)).@"enum".fields) |field| {
            try writeTsComment(w, "  ", docs.lines(name ++ "." ++ field.name));
            try w.print("  {s}: {d},\n", .{ field.name, field.value });
        }
        try w.print("}} as const;\nexport type {s} = (typeof {s})[keyof typeof {s}];\n", .{ name, name, name });
    }
    try w.writeAll("\n/** Layouts of the structures that calls read or fill, in bytes. */\nexport const layouts = {\n");
    inline for (comptime namesOf(.structure)) |name| try writeTsStruct(w, docs, name);
    try w.writeAll("} as const;\n");
    try w.writeAll("\n/** Every function of the library, as `dlopen` wants it. */\nexport const symbols = {\n");
    inline for (comptime namesOf(.function)) |name| {
        const info = comptime Function(name);
        try writeTsComment(w, "  ", docs.lines(name));
        try w.writeAll("  " ++ prefix ++ name ++ ": { args: [");
        inline for (info.params, 0..) |parameter, i| {
            try w.print("{s}\"{s}\"", .{ if (i == 0) "" else ", ", comptime ffiType(parameter.type.?) });
        }
        try w.print("], returns: \"{s}\" }},\n", .{comptime ffiType(info.return_type.?)});
    }
    try w.writeAll("} as const;\n");
    try w.writeAll("\n/** Parameter names of each function, for messages and the benchmark of calls. */\n");
    try w.writeAll("export const parameters = {\n");
    inline for (comptime namesOf(.function)) |name| {
        try w.writeAll("  " ++ prefix ++ name ++ ": [");
        for (docs.parameters.get(name).?, 0..) |parameter, i| {
            try w.print("{s}\"{s}\"", .{ if (i == 0) "" else ", ", parameter });
        }
        try w.writeAll("],\n");
    }
    try w.writeAll("} as const;\n");
}

fn writeTsStruct(w: *Writer, docs: Docs, comptime name: [:0]const u8) !void {
    const T = @field(abi, name);
    try writeTsComment(w, "  ", docs.lines(name));
    try w.print("  {s}: {{\n    size: {d},\n    fields: {{\n", .{ name, @sizeOf(T) });
    inline for (@typeInfo(T).@"struct".fields) |field| {
        const element = switch (@typeInfo(field.type)) {
            .array => |array| array.child,
            else => field.type,
        };
        try writeTsComment(w, "      ", docs.lines(name ++ "." ++ field.name));
        try w.print("      {s}: {{ offset: {d}, kind: \"{s}\"", .{
            comptime camel(field.name), @offsetOf(T, field.name), comptime fieldKind(element),
        });
        if (element != field.type) try w.print(", length: {d}", .{@typeInfo(field.type).array.len});
        try w.writeAll(" },\n");
    }
    try w.writeAll("    },\n  },\n");
}

fn writeTsComment(w: *Writer, indent: []const u8, lines: []const []const u8) !void {
    if (lines.len == 0) return;
    if (lines.len == 1) return w.print("{s}/** {s} */\n", .{ indent, lines[0] });
    try w.print("{s}/**\n", .{indent});
    for (lines) |line| try w.print("{s} * {s}\n", .{ indent, line });
    try w.print("{s} */\n", .{indent});
}

fn tsValue(comptime value: anytype) []const u8 {
    return switch (@TypeOf(value)) {
        u32, i32, f64, comptime_int => std.fmt.comptimePrint("{d}", .{value}),
        else => |T| if (@typeInfo(T) == .pointer)
            "\"" ++ value ++ "\""
        else
            @compileError("no TypeScript value for a constant of type " ++ @typeName(T)),
    };
}
