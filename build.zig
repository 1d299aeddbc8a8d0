//! Builds the library, its tests and its generated files.
//!
//!   zig build             zig-out/lib/libholdfast.so for this machine (or -Dplatform=<name>)
//!   zig build wasm        zig-out/holdfast.wasm, with and without statistics, and their sizes
//!   zig build test        unit tests (-Dtest-filter=<text> for some, -Dfault=<name> with a fault)
//!   zig build test-arm64  the unit tests for linux-arm64, under qemu-aarch64-static
//!   zig build race        the tests that use threads, under ThreadSanitizer, and its canary
//!   zig build fuzz        -- [name|smoke|list] [seed] [--events=n]
//!   zig build schedules   -- [--schedules=n] [--seed=n]: interleavings of the lock-free structures
//!   zig build marathon    -- [--leases=n]: the handle table through 2^33 leases
//!   zig build abi         writes include/holdfast.h and src/abi.gen.ts
//!   zig build check       formatting, every platform compiles, generated files are fresh
//!   zig build freestanding  the general allocator without a system, in zig-out/
//!   zig build bench       zig-out/bin/holdfast-bench
//!   zig build cross       the library of every platform (or of -Dplatform=<name>) and the table
//!                         itself as platforms.json, in zig-out/cross/
//!
//! `platforms` is the one table of what is supported; src/library.ts and package.json are held to
//! it by test/floors.test.ts.

const std = @import("std");
const builtin = @import("builtin");

comptime {
    const wanted = "0.16.0";
    if (!std.mem.eql(u8, builtin.zig_version_string, wanted)) @compileError(
        "holdfast builds with Zig " ++ wanted ++ ", this is " ++ builtin.zig_version_string ++
            ". `npm ci` installs the right one: use `npm run zig-build`.",
    );
}

const Platform = struct {
    /// Suffix of the npm package `@holdfast/<name>`.
    name: []const u8,
    /// `process.platform` and `process.arch` in JavaScript.
    os: []const u8,
    cpu: []const u8,
    /// Zig's target. No libc: one file serves glibc and musl.
    target: []const u8,
    library: []const u8,
};

const platforms = [_]Platform{
    .{ .name = "linux-x64", .os = "linux", .cpu = "x64", .target = "x86_64-linux-none", .library = "libholdfast.so" },
    .{ .name = "linux-arm64", .os = "linux", .cpu = "arm64", .target = "aarch64-linux-none", .library = "libholdfast.so" },
    .{ .name = "darwin-arm64", .os = "darwin", .cpu = "arm64", .target = "aarch64-macos", .library = "libholdfast.dylib" },
    .{ .name = "darwin-x64", .os = "darwin", .cpu = "x64", .target = "x86_64-macos", .library = "libholdfast.dylib" },
};

/// The name by which a second copy of the library in the process finds the first.
const soname = "libholdfast.so.1";

const Context = struct {
    b: *std.Build,
    host: std.Build.ResolvedTarget,
    optimize: std.builtin.OptimizeMode,
    config: *std.Build.Step.Options,
    sources: []const []const u8,

    /// A module whose files are zig/**, with the switches of this build as `@import("config")`.
    fn module(ctx: Context, root: []const u8, options: std.Build.Module.CreateOptions) *std.Build.Module {
        var all = options;
        all.root_source_file = ctx.b.path(root);
        if (all.target == null) all.target = ctx.host;
        const created = ctx.b.createModule(all);
        created.addOptions("config", ctx.config);
        return created;
    }
};

pub fn build(b: *std.Build) void {
    const fault = b.option([]const u8, "fault", "Bring one designed-out fault back (test builds)") orelse "";
    const config = b.addOptions();
    config.addOption([]const u8, "fault", fault);
    const ctx: Context = .{
        .b = b,
        .host = b.graph.host,
        .optimize = b.option(std.builtin.OptimizeMode, "optimize", "Default: ReleaseFast, tests Debug") orelse .ReleaseFast,
        .config = config,
        .sources = zigFiles(b),
    };
    // What other Zig projects get from `dependency("holdfast").module("holdfast")`.
    if (exists(b, "zig/holdfast.zig")) {
        const public = b.addModule("holdfast", .{ .root_source_file = b.path("zig/holdfast.zig") });
        public.addOptions("config", config);
    }
    addInstall(ctx);
    const embedded = addWasm(ctx);
    addFreestanding(ctx);
    addTests(ctx);
    addRace(ctx);
    addFuzz(ctx);
    addProgram(ctx, "schedules", "zig/schedules.zig", "Interleavings of the lock-free structures: -- [--schedules=n]");
    addProgram(ctx, "marathon", "zig/table_marathon.zig", "The handle table through 2^33 leases: -- [--leases=n] [--threads=n]");
    addAbiAndCheck(ctx, embedded);
    addBench(ctx);
}

fn addInstall(ctx: Context) void {
    const b = ctx.b;
    const wanted = b.option([]const u8, "platform", "Platform to build for, as in the package names");
    const platform = findPlatform(wanted orelse hostPlatform(ctx));
    const library = addSharedLibrary(ctx, platform);
    b.getInstallStep().dependOn(&b.addInstallLibFile(library, platform.library).step);

    const cross = b.step("cross", "Build the library of every platform, and the table of them, into zig-out/cross/");
    const table = std.json.Stringify.valueAlloc(b.allocator, platforms, .{ .whitespace = .indent_2 }) catch @panic("OOM");
    const written = b.addWriteFiles().add("platforms.json", table);
    cross.dependOn(&b.addInstallFile(written, "cross/platforms.json").step);
    for (platforms) |each| {
        if (wanted != null and !std.mem.eql(u8, each.name, platform.name)) continue;
        const path = b.fmt("cross/{s}/{s}", .{ each.name, each.library });
        cross.dependOn(&b.addInstallFile(addSharedLibrary(ctx, each), path).step);
    }
}

/// The small heap as a module of its own: `holdfast.wasm`, `holdfast-bare.wasm` without statistics,
/// and `holdfast-import.wasm`, a side module: it takes a memory that others use as well, and the
/// place of its own data in it (`env.__memory_base`). The last is also text in src/.
fn addWasm(ctx: Context) std.Build.LazyPath {
    const b = ctx.b;
    const wasm = b.step("wasm", "Build zig-out/holdfast*.wasm and print their sizes");
    const sizes = b.addSystemCommand(&.{ "wc", "-c" });
    sizes.stdio = .inherit;
    var side: std.Build.LazyPath = undefined;
    for ([_]struct { []const u8, bool, bool }{
        .{ "holdfast", true, false },
        .{ "holdfast-bare", false, false },
        .{ "holdfast-import", true, true },
    }) |variant| {
        const name, const statistics, const shared = variant;
        const config = b.addOptions();
        config.addOption([]const u8, "fault", "");
        config.addOption(bool, "statistics", statistics);
        config.addOption(bool, "shared", shared);
        const root = b.createModule(.{
            .root_source_file = b.path("zig/wasm.zig"),
            .target = wasmTarget(b),
            .optimize = .ReleaseSmall,
            .strip = true,
            .pic = shared,
        });
        root.addOptions("config", config);
        const object = b.addObject(.{ .name = name, .root_module = root });
        const link = b.addSystemCommand(&.{ b.graph.zig_exe, "wasm-ld", "--export-dynamic", "--gc-sections", "-O2" });
        link.setName(b.fmt("wasm-ld {s}", .{name}));
        // Without the second, every call carries the padding that the linker has for longer numbers. Data
        // at low addresses have short ones; the stack lies above.
        link.addArgs(&.{ "--strip-all", "--compress-relocations", "-z", "stack-size=4096" });
        link.addArgs(if (shared) &.{ "--shared", "--experimental-pic", "--import-memory" } else &.{ "--no-entry", "--global-base=16" });
        link.addFileArg(object.getEmittedBin());
        link.addArg("-o");
        const module = link.addOutputFileArg(b.fmt("{s}.wasm", .{name}));
        wasm.dependOn(&b.addInstallFile(module, b.fmt("{s}.wasm", .{name})).step);
        sizes.addFileArg(module);
        if (shared) side = module;
    }
    wasm.dependOn(&sizes.step);

    const embed = b.addRunArtifact(b.addExecutable(.{
        .name = "embed_wasm",
        .root_module = b.createModule(.{
            .root_source_file = b.path("zig/tools/embed_wasm.zig"),
            .target = ctx.host,
            .optimize = .Debug,
        }),
    }));
    const text = embed.addOutputFileArg("wasm_module.gen.ts");
    embed.addFileArg(side);
    const write = b.addUpdateSourceFiles();
    write.addCopyFileToSource(text, embedded_path);
    wasm.dependOn(&write.step);
    return text;
}

const embedded_path = "src/wasm_module.gen.ts";

fn wasmTarget(b: *std.Build) std.Build.ResolvedTarget {
    return b.resolveTargetQuery(.{
        .cpu_arch = .wasm32,
        .os_tag = .freestanding,
        // Copies by the machine's own instructions; every engine has had them since 2021.
        .cpu_features_add = std.Target.wasm.featureSet(&.{.bulk_memory}),
    });
}

/// Through the command line, since std.Build has no `-z nodelete`: without it `dlclose` unmaps the
/// code under the destructors of ending threads and under ArrayBuffers still alive.
fn addSharedLibrary(ctx: Context, platform: Platform) std.Build.LazyPath {
    const b = ctx.b;
    const run = b.addSystemCommand(&.{ b.graph.zig_exe, "build-lib", "-dynamic", "--name", "holdfast" });
    run.setName(b.fmt("build-lib {s}", .{platform.name}));
    run.addArgs(&.{ "-target", platform.target, "-fPIC" });
    run.addArgs(&.{ "-O", @tagName(ctx.optimize) });
    if (ctx.optimize != .Debug) run.addArgs(&.{ "-fstrip", "-fno-unwind-tables", "-fomit-frame-pointer", "--gc-sections" });
    if (std.mem.eql(u8, platform.os, "linux")) {
        // LLD: the self-hosted linker writes no DT_SONAME and no DF_1_NODELETE.
        run.addArgs(&.{ "-flld", "-fllvm", "-fsoname=" ++ soname, "-z", "nodelete" });
    } else {
        // Else the name is a path in Zig's cache, and every build differs.
        run.addArgs(&.{ "-install_name", b.fmt("@rpath/{s}", .{platform.library}) });
    }
    if (b.cache_root.path) |path| run.addArgs(&.{ "--cache-dir", path });
    if (b.graph.global_cache_root.path) |path| run.addArgs(&.{ "--global-cache-dir", path });
    run.addArgs(&.{ "--dep", "config" });
    run.addPrefixedFileArg("-Mroot=", b.path("zig/lib.zig"));
    run.addPrefixedFileArg("-Mconfig=", ctx.config.getOutput());
    for (ctx.sources) |path| run.addFileInput(b.path(path));
    return run.addPrefixedOutputFileArg("-femit-bin=", platform.library);
}

/// The general allocator without a system: linked for bare x86-64, where a missing symbol is an error,
/// and as a WebAssembly module without imports.
fn addFreestanding(ctx: Context) void {
    const b = ctx.b;
    const step = b.step("freestanding", "Build the allocator without a system: zig-out/freestanding*");
    const bare = b.resolveTargetQuery(.{ .cpu_arch = .x86_64, .os_tag = .freestanding, .abi = .none });
    for ([_]struct { []const u8, std.Build.ResolvedTarget }{
        .{ "freestanding.wasm", wasmTarget(b) },
        .{ "freestanding-x86_64", bare },
    }) |variant| {
        const name, const target = variant;
        const exe = b.addExecutable(.{
            .name = "freestanding",
            .root_module = ctx.module("zig/freestanding.zig", .{
                .target = target,
                .optimize = .ReleaseSmall,
                .strip = true,
            }),
        });
        exe.entry = if (target.result.cpu.arch.isWasm()) .disabled else .{ .symbol_name = "setup" };
        exe.rdynamic = true;
        // All of it is linked, also what nothing calls yet.
        exe.link_gc_sections = false;
        step.dependOn(&b.addInstallFile(exe.getEmittedBin(), name).step);
    }
}

fn addTests(ctx: Context) void {
    const b = ctx.b;
    const filters = b.option([]const []const u8, "test-filter", "Run only tests whose name contains this") orelse &.{};
    const tests = b.addTest(.{
        .name = "unit",
        .filters = filters,
        .root_module = ctx.module("zig/unit_tests.zig", .{ .optimize = testMode(ctx) }),
    });
    const run = b.addRunArtifact(tests);
    // Tests look at the machine (limits, huge pages): a cached success would say nothing.
    run.has_side_effects = true;
    b.step("test", "Run the unit tests").dependOn(&run.step);

    // Through the emulator by name: it runs without being registered with the kernel.
    const arm64 = b.addTest(.{
        .name = "unit-arm64",
        .filters = filters,
        .root_module = ctx.module("zig/unit_tests.zig", .{
            .target = b.resolveTargetQuery(std.Target.Query.parse(.{ .arch_os_abi = findPlatform("linux-arm64").target }) catch unreachable),
            .optimize = .ReleaseSafe,
        }),
    });
    const emulated = b.addSystemCommand(&.{"qemu-aarch64-static"});
    emulated.addArtifactArg(arm64);
    emulated.stdio = .inherit;
    emulated.has_side_effects = true;
    b.step("test-arm64", "Run the unit tests of linux-arm64 in an emulator").dependOn(&emulated.step);
}

/// `ReleaseFast` is this file's default for the library; tests want the checks of Debug.
fn testMode(ctx: Context) std.builtin.OptimizeMode {
    return if (ctx.optimize == .ReleaseFast) .Debug else ctx.optimize;
}

/// LLVM and libc are needed here and only here: Zig's own backend emits no calls into
/// ThreadSanitizer, which then finds nothing. The canary proves that it does.
fn addRace(ctx: Context) void {
    const b = ctx.b;
    const race = b.step("race", "Run the tests that use threads under ThreadSanitizer");
    const options: std.Build.Module.CreateOptions = .{
        .optimize = .ReleaseSafe,
        .sanitize_thread = true,
        .link_libc = true,
        .pic = true,
    };
    const tests = b.addTest(.{
        .name = "race",
        .filters = &.{"threads"},
        .root_module = ctx.module("zig/unit_tests.zig", options),
        .use_llvm = true,
        .use_lld = true,
    });
    const run = b.addRunArtifact(tests);
    run.setEnvironmentVariable("TSAN_OPTIONS", "halt_on_error=1");
    run.has_side_effects = true;
    race.dependOn(&run.step);

    const canary = b.addExecutable(.{
        .name = "race_canary",
        .root_module = ctx.module("zig/testing/race_canary.zig", options),
        .use_llvm = true,
        .use_lld = true,
    });
    const run_canary = b.addRunArtifact(canary);
    run_canary.setEnvironmentVariable("TSAN_OPTIONS", "exitcode=66");
    run_canary.expectStdErrMatch("WARNING: ThreadSanitizer: data race");
    run_canary.expectExitCode(66);
    run_canary.has_side_effects = true;
    race.dependOn(&run_canary.step);
}

fn addFuzz(ctx: Context) void {
    const b = ctx.b;
    const fuzz = b.step("fuzz", "Run the fuzzers: -- [name|smoke|list] [seed] [--events=n]");
    const exe = b.addExecutable(.{
        .name = "holdfast-fuzz",
        .root_module = ctx.module("zig/fuzz.zig", .{ .optimize = .ReleaseSafe }),
    });
    const run = b.addRunArtifact(exe);
    if (b.args) |args| run.addArgs(args) else run.addArg("smoke");
    run.stdio = .inherit;
    fuzz.dependOn(&run.step);
}

/// A proof at full size; `zig build test` runs a little of it.
fn addProgram(ctx: Context, name: []const u8, root: []const u8, description: []const u8) void {
    const b = ctx.b;
    const exe = b.addExecutable(.{
        .name = b.fmt("holdfast-{s}", .{name}),
        .root_module = ctx.module(root, .{ .optimize = .ReleaseFast }),
    });
    const run = b.addRunArtifact(exe);
    if (b.args) |args| run.addArgs(args);
    run.stdio = .inherit;
    b.step(name, description).dependOn(&run.step);
}

fn addAbiAndCheck(ctx: Context, embedded: std.Build.LazyPath) void {
    const b = ctx.b;
    const generator = b.addExecutable(.{
        .name = "gen_abi",
        .root_module = b.createModule(.{
            .root_source_file = b.path("zig/tools/gen_abi.zig"),
            .target = ctx.host,
            .optimize = .Debug,
            .imports = &.{.{ .name = "abi", .module = ctx.module("zig/abi.zig", .{ .optimize = .Debug }) }},
        }),
    });
    const generate = b.addRunArtifact(generator);
    const header = generate.addOutputFileArg("holdfast.h");
    const table = generate.addOutputFileArg("abi.gen.ts");
    for ([_][]const u8{ "zig/abi.zig", "zig/engine/types.zig", "zig/os/os.zig" }) |path| {
        generate.addFileArg(b.path(path));
    }

    const write = b.addUpdateSourceFiles();
    write.addCopyFileToSource(header, "include/holdfast.h");
    write.addCopyFileToSource(table, "src/abi.gen.ts");
    b.step("abi", "Write include/holdfast.h and src/abi.gen.ts from zig/abi.zig").dependOn(&write.step);

    const check = b.step("check", "Formatting, all platforms compile, generated files are fresh");
    check.dependOn(&b.addFmt(.{ .paths = &.{ "build.zig", "zig" }, .check = true }).step);
    check.dependOn(addDiff(b, "include/holdfast.h", header));
    check.dependOn(addDiff(b, "src/abi.gen.ts", table));
    check.dependOn(addDiff(b, embedded_path, embedded));
    for (platforms) |platform| {
        const query = std.Target.Query.parse(.{ .arch_os_abi = platform.target }) catch @panic(platform.target);
        const library = b.addLibrary(.{
            .name = b.fmt("holdfast-{s}", .{platform.name}),
            .linkage = .dynamic,
            .root_module = ctx.module("zig/lib.zig", .{
                .target = b.resolveTargetQuery(query),
                .optimize = .ReleaseFast,
                .pic = true,
            }),
        });
        check.dependOn(&library.step);
    }
}

/// Fails, and shows the difference, when a committed file is not what the generator writes.
fn addDiff(b: *std.Build, committed: []const u8, fresh: std.Build.LazyPath) *std.Build.Step {
    const diff = b.addSystemCommand(&.{ "diff", "-u" });
    diff.setName(b.fmt("{s} is fresh (else: npm run zig-build -- abi, or -- wasm)", .{committed}));
    diff.addFileArg(b.path(committed));
    diff.addFileArg(fresh);
    diff.expectExitCode(0);
    return &diff.step;
}

/// The harness that drives every allocator through one C table; it loads them at run time.
fn addBench(ctx: Context) void {
    const b = ctx.b;
    const bench = b.step("bench", "Build zig-out/bin/holdfast-bench, the native benchmark");
    if (!exists(b, "bench/native.zig")) return;
    const root = ctx.module("bench/native.zig", .{ .optimize = .ReleaseFast, .link_libc = true, .strip = true });
    // The row "linked in" has holdfast as other Zig programs have it.
    root.addImport("holdfast", ctx.module("zig/holdfast.zig", .{ .optimize = .ReleaseFast }));
    const exe = b.addExecutable(.{ .name = "holdfast-bench", .root_module = root });
    bench.dependOn(&b.addInstallArtifact(exe, .{}).step);
}

fn hostPlatform(ctx: Context) []const u8 {
    const target = ctx.host.result;
    const os = switch (target.os.tag) {
        .linux => "linux",
        .macos => "darwin",
        else => @tagName(target.os.tag),
    };
    const cpu = switch (target.cpu.arch) {
        .x86_64 => "x64",
        .aarch64 => "arm64",
        else => @tagName(target.cpu.arch),
    };
    return ctx.b.fmt("{s}-{s}", .{ os, cpu });
}

fn findPlatform(name: []const u8) Platform {
    for (platforms) |platform| if (std.mem.eql(u8, platform.name, name)) return platform;
    std.debug.print("holdfast is not built for {s}; -Dplatform= takes one of", .{name});
    for (platforms) |platform| std.debug.print(" {s}", .{platform.name});
    std.debug.print("\n", .{});
    std.process.exit(1);
}

/// Every Zig source, so that the library's command is run again when any of them changes.
fn zigFiles(b: *std.Build) []const []const u8 {
    var files: std.ArrayList([]const u8) = .empty;
    var dir = b.build_root.handle.openDir(b.graph.io, "zig", .{ .iterate = true }) catch @panic("zig/ is missing");
    defer dir.close(b.graph.io);
    var walker = dir.walk(b.allocator) catch @panic("OOM");
    while (walker.next(b.graph.io) catch @panic("cannot read zig/")) |entry| {
        if (entry.kind != .file or !std.mem.endsWith(u8, entry.path, ".zig")) continue;
        files.append(b.allocator, b.pathJoin(&.{ "zig", entry.path })) catch @panic("OOM");
    }
    return files.items;
}

fn exists(b: *std.Build, path: []const u8) bool {
    b.build_root.handle.access(b.graph.io, path, .{}) catch return false;
    return true;
}
