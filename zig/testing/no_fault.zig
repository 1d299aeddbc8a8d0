//! The `config` module of builds that do not go through build.zig: no fault is brought back.
//! Used on a command line as `-Mconfig=zig/testing/no_fault.zig`; never imported by path.
//! It declares what build.zig's options declare, with the values of a release build. No state.

/// Name of the fault to bring back; none.
pub const fault: []const u8 = "";
