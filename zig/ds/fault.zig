//! Switches that bring back one fault of the allocators this library learned from, so that a test
//! can show that it would notice: `if (ds.fault("double-count")) ...`.
//!
//! Invariant: a build has at most one fault, chosen by `zig build test -Dfault=<name>`; every other
//! build has none, and the branch is gone before code is generated, so a switch costs nothing and
//! cannot be turned on at run time. The name stands in `test/faults.json` with the test that must
//! turn red; `npm run test:faults` runs the pairs.
//!
//! Floor 0: no system, no state. When NOT to use it: for options (they belong to `PoolOptions`),
//! and for faults that only crash the compiler or the linker.
//!
//! `config` is a module that build.zig makes. Files that ask for a fault are tested through it
//! (`zig build test -Dtest-filter=<text>`) or by hand with
//!   zig test --dep config -Mroot=zig/unit_tests.zig -Mconfig=zig/testing/no_fault.zig

const std = @import("std");
const config = @import("config");

/// True in a build made with `-Dfault=<name>`.
pub inline fn fault(comptime name: []const u8) bool {
    return comptime std.mem.eql(u8, config.fault, name);
}
