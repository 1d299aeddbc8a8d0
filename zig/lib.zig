//! Root of the shared library: exports every public function of `abi.zig` as `hf_<name>`, and
//! nothing else. Adding a function to the contract is one edit, in that file.
//!
//! Rule kept here: nothing unwinds, prints or exits across the border to the host. What would be a
//! panic is a trap in release builds (the host's crash report shows the address) and keeps its
//! message in Debug, which is what `zig build -Doptimize=Debug` is for.
//!
//! No code runs at load and none at exit. Do not import this file: Zig programs import
//! `holdfast.zig`, which has the allocators themselves.

const std = @import("std");
const builtin = @import("builtin");
const abi = @import("abi.zig");
const ds = @import("ds/ds.zig");

comptime {
    // What the compiler itself fills and copies with, hidden from the host.
    ds.memory.exportSymbols();
    for (@typeInfo(abi).@"struct".decls) |decl| {
        const value = &@field(abi, decl.name);
        if (@typeInfo(@TypeOf(value.*)) == .@"fn") @export(value, .{ .name = "hf_" ++ decl.name });
    }
}

/// Called for a failed safety check or `@panic`; see the rule above.
pub const panic = if (builtin.mode == .Debug)
    std.debug.FullPanic(std.debug.defaultPanic)
else
    std.debug.FullPanic(trap);

fn trap(message: []const u8, first_trace_address: ?usize) noreturn {
    _ = message;
    _ = first_trace_address;
    @trap();
}
