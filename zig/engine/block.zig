//! Words of a thread's block and bits of the allocation options, as the engine uses them. `abi.zig`
//! declares the same numbers for callers, and a comptime check there keeps the two equal.
//! Constants only. Threads: each thread reads and writes its own block.

pub const words = 16;
pub const address = 0;
pub const capacity = 1;
pub const region = 2;
pub const region_address = 3;
pub const region_bytes = 4;
pub const region_epoch = 5;
pub const byte_length = 6;
pub const flags = 7;
pub const errno = 8;
pub const system_call = 9;
pub const requested = 10;
pub const bound = 11;
pub const current = 12;
/// The handle that the thread holds through the end of its views, 0 if none.
pub const held = 13;
/// The handle over which an ArrayBuffer is being made, 0 if none.
pub const wrapping = 14;

pub const lease_locked: u32 = 1;
pub const lease_alias: u32 = 2;
pub const lease_run: u32 = 4;

pub const option_zero: u32 = 1;
pub const option_pages_shift = 1;
pub const option_lock_shift = 3;
pub const option_prefault: u32 = 1 << 5;
pub const option_alias: u32 = 1 << 6;
pub const option_align_shift = 8;
