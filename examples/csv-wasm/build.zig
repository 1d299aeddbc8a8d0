//! A wasm32 project that takes its allocator from holdfast. `zig build` writes zig-out/bin/csv.wasm.

const std = @import("std");

pub fn build(b: *std.Build) void {
    const module = b.addExecutable(.{
        .name = "csv",
        .root_module = b.createModule(.{
            .root_source_file = b.path("csv.zig"),
            .target = b.resolveTargetQuery(.{
                .cpu_arch = .wasm32,
                .os_tag = .freestanding,
                .cpu_features_add = std.Target.wasm.featureSet(&.{.bulk_memory}),
            }),
            .optimize = .ReleaseSmall,
            .strip = true,
            .imports = &.{.{ .name = "holdfast", .module = b.dependency("holdfast", .{}).module("holdfast") }},
        }),
    });
    module.entry = .disabled;
    module.rdynamic = true;
    b.installArtifact(module);
}
