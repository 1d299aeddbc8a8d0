//! The one list of files whose `test` blocks run: `zig build test`, and those whose name contains
//! "threads" again under ThreadSanitizer by `zig build race`.
//!
//! A file with a test that is missing here is found by test/floors.test.ts. Only this root may name
//! files inside other folders; the tests themselves keep to the floors. The tests of files that
//! ask for a fault need build.zig's `config` module (see ds/fault.zig).

comptime {
    // Floor 0
    _ = @import("ds/atomic.zig");
    _ = @import("ds/bit_set.zig");
    _ = @import("ds/handle_table.zig");
    _ = @import("ds/handle_table_fuzz.zig");
    _ = @import("ds/memory.zig");
    _ = @import("ds/lane.zig");
    _ = @import("ds/owner_lock.zig");
    _ = @import("ds/remote_stack.zig");
    _ = @import("ds/size_class.zig");
    _ = @import("ds/tagged_stack.zig");
    _ = @import("race_tests.zig");
    _ = @import("schedules.zig");
    _ = @import("table_marathon.zig");
    _ = @import("testing/model.zig");
    _ = @import("testing/swarm.zig");
    // Floor 1
    _ = @import("os/fake.zig");
    _ = @import("os/linux.zig");
    _ = @import("os/os.zig");
    _ = @import("os/probe.zig");
    _ = @import("os/proc.zig");
    // Floor 2
    _ = @import("region/region.zig");
    // Floor 3
    _ = @import("heap/buddy_fuzz.zig");
    _ = @import("heap/buddy_test.zig");
    _ = @import("heap/faults_test.zig");
    _ = @import("heap/global_fuzz.zig");
    _ = @import("heap/global_test.zig");
    _ = @import("heap/large_pool_test.zig");
    _ = @import("heap/reclaiming_fuzz.zig");
    _ = @import("heap/reclaiming_test.zig");
    _ = @import("heap/shared_pool_test.zig");
    _ = @import("heap/slab_class.zig");
    _ = @import("heap/owner_marks.zig");
    _ = @import("heap/owner_policy.zig");
    _ = @import("heap/owner_slab_fuzz.zig");
    _ = @import("heap/owner_slab_test.zig");
    _ = @import("heap/owner_slab_threads_test.zig");
    _ = @import("heap/small_heap_fuzz.zig");
    _ = @import("heap/small_heap_test.zig");
    _ = @import("heap/small_layer_test.zig");
    _ = @import("heap/typed_fuzz.zig");
    // Floor 4
    _ = @import("engine/background_test.zig");
    _ = @import("engine/discovery.zig");
    _ = @import("engine/large_direct_test.zig");
    _ = @import("engine/object_direct_test.zig");
    _ = @import("engine/layered_test.zig");
    _ = @import("engine/owner_slabs_test.zig");
    _ = @import("engine/region_face_test.zig");
    _ = @import("engine/threads_test.zig");
    _ = @import("engine/engine_fuzz.zig");
    _ = @import("engine/engine_threads_test.zig");
}
