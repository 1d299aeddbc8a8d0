//! What other Zig projects get from `dependency("holdfast").module("holdfast")`.
//!
//!     const Heap = @import("holdfast").heap.Global(.{});
//!     var memory: [@sizeOf(Heap)]u8 align(@alignOf(Heap)) = @splat(0);
//!     const heap: *Heap = @ptrCast(&memory);
//!     if (!heap.init(holdfast.system_backend, .{})) return error.Refused;
//!     const block = heap.alloc(thread_index, 64, 0) orelse return error.OutOfMemory;
//!
//! Each type says at its head what it costs, which threads may call it and when not to use it; those
//! that take a `thread` want an index below `heap.threads_max` that no other live thread uses.

const os = @import("os/os.zig");

/// The allocators.
pub const heap = @import("heap/heap.zig");
/// The operating system of this build.
pub const System = os.Native;
/// Mappings of the system's, for an allocator that takes a backend.
pub const system_backend = heap.SystemBackend(System).backend;
/// The contract of the shared library, for programs that load it: its constants and structures.
pub const abi = @import("abi.zig");
