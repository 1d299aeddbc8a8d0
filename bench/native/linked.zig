//! holdfast's general allocator linked into the harness, as another Zig program would have it: no
//! library, no table of functions, calls the compiler may inline.

pub const Face = struct {
    pub inline fn alloc(_: *const Face, _: usize) ?*anyopaque {
        return null;
    }

    pub inline fn free(_: *const Face, _: *anyopaque, _: usize) void {}

    pub fn forThread(face: *const Face) !Face {
        return face.*;
    }

    pub fn threadEnd(_: *const Face) void {}
};

pub fn open() !Face {
    return error.MissingFace;
}
