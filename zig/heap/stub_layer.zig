//! Stub.
const std = @import("std");
const ds = @import("../ds/ds.zig");
const Backend = @import("backend.zig").Backend;
const Buddy = @import("buddy.zig").Buddy(.{});

pub fn StubLayer(comptime Os: type, comptime Sync: type) type {
    _ = Os;
    _ = Sync;
    return struct {
        buddy: Buddy,
        backend: Backend,
        live: u64,
        pub const bytes_max: usize = 1 << 20;
        pub const Options = struct { region_bytes: usize = 8 << 20 };
        const Self = @This();
        pub fn init(self: *Self, backend: Backend, _: Options) bool {
            self.buddy = .{};
            self.backend = backend;
            self.live = 0;
            return true;
        }
        pub fn deinit(self: *Self) void {
            while (self.buddy.sectionFigures(0)) |s| {
                const memory = self.buddy.removeRegion(s.address) catch return;
                self.backend.give(null, memory.ptr, memory.len, 2 << 20);
            }
        }
        pub fn alloc(self: *Self, thread: u32, bytes: usize, alignment: usize) ?[*]u8 {
            while (true) {
                const ptr = self.buddy.alloc((bytes + 4095) / 4096, @max(alignment, 4096), 0) catch {
                    const span = self.backend.take(thread, 8 << 20, 2 << 20) orelse return null;
                    self.buddy.addRegion(span.ptr[0..span.bytes], .{}) catch return null;
                    continue;
                };
                _ = @atomicRmw(u64, &self.live, .Add, 1, .monotonic);
                return ptr;
            }
        }
        pub fn free(self: *Self, _: ?u32, ptr: [*]u8) error{ Foreign, DoubleFree }!void {
            _ = self.buddy.free(@intFromPtr(ptr)) catch |err| return switch (err) {
                error.DoubleFree => error.DoubleFree,
                else => error.Foreign,
            };
            _ = @atomicRmw(u64, &self.live, .Sub, 1, .monotonic);
        }
        pub fn usableSize(self: *Self, ptr: [*]u8) ?usize {
            return (self.buddy.find(@intFromPtr(ptr)) catch return null).pages_count * @as(usize, 4096);
        }
        pub fn resizeInPlace(self: *Self, _: u32, ptr: [*]u8, bytes: usize) bool {
            return self.buddy.resize(@intFromPtr(ptr), (bytes + 4095) / 4096) catch false;
        }
        pub fn threadEnded(_: *Self, _: u32) void {}
        pub fn trim(_: *Self, _: u32) u64 {
            return 0;
        }
        pub fn tick(_: *Self) void {}
        pub fn liveObjects(self: *Self) u64 {
            return @atomicLoad(u64, &self.live, .monotonic);
        }
        pub fn metadataBytes(_: *Self) u64 {
            return 0;
        }
    };
}
