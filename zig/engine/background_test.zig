//! When the process-wide barrier is set up: at once in a process with one thread, by the background
//! thread later where the system would make us wait, and at once again where that thread cannot start.
//! Cost: nothing; a fake system whose threads are recorded, and run here.

const std = @import("std");
const testing = std.testing;
const ds = @import("../ds/ds.zig");
const os = @import("../os/os.zig");
const core = @import("core.zig");

const Os = os.fake;

var engine: core.Engine(Os) align(128) = .{};

fn begin(settings: Os.Settings) !void {
    Os.resetWith(settings);
    ds.setHeavyFence(null);
    engine = .{};
    try testing.expect(engine.ensureReady());
}

test "the process-wide barrier waits for the background thread unless it costs nothing" {
    if (!os.Native.barrierSetup()) return error.SkipZigTest;
    defer {
        ds.setHeavyFence(os.Native.barrier);
        Os.reset();
    }
    try begin(.{ .threads = .record });
    try testing.expect(ds.Real.isAsymmetric());
    try testing.expectEqual(null, Os.takeSpawned());
    engine.deinit();

    try begin(.{ .threads = .record, .is_alone = false });
    const started = Os.nowNs();
    try testing.expect(!ds.Real.isAsymmetric());
    const background = Os.takeSpawned().?;
    try testing.expectEqual(null, background.entry(background.arg));
    try testing.expect(ds.Real.isAsymmetric());
    try testing.expect(Os.nowNs() - started >= 50 * std.time.ns_per_ms);
    engine.deinit();

    try begin(.{ .threads = .refuse, .is_alone = false });
    try testing.expect(ds.Real.isAsymmetric());
    engine.deinit();
}
