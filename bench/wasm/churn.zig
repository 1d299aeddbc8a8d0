//! The driver of rows S2 and S3, a module of its own: it calls an allocator of another module, so that
//! every opponent is called in the same way, and only allocation is timed beside a draw of numbers.
//!
//! An operation draws a slot: a live block is freed, an empty slot gets a block of a length that was
//! drawn beforehand. About half of the slots are live; lifetimes are geometric.

extern "heap" fn alloc(bytes: u32, alignment: u32) u32;
extern "heap" fn free(address: u32, bytes: u32) void;

const slots = 4096;
const lengths_count = 1 << 14;

var lengths: [lengths_count]u32 = undefined;
var addresses: [slots]u32 = @splat(0);
var sizes: [slots]u32 = @splat(0);
var state: u32 = 1;
var live: u32 = 0;
var peak: u32 = 0;

export fn lengthsAt() [*]u32 {
    return &lengths;
}

export fn seed(value: u32) void {
    state = value | 1;
}

/// Most bytes that were live at once.
export fn peakLive() u32 {
    return peak;
}

inline fn next() u32 {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

/// The sum of the addresses; 0 if a request was refused.
export fn run(operations: u32) u32 {
    var sum: u32 = 0;
    for (0..operations) |_| {
        const slot = next() % slots;
        const address = addresses[slot];
        if (address != 0) {
            addresses[slot] = 0;
            live -= sizes[slot];
            free(address, sizes[slot]);
            continue;
        }
        const bytes = lengths[next() % lengths_count];
        const fresh = alloc(bytes, 8);
        if (fresh == 0) return 0;
        addresses[slot] = fresh;
        sizes[slot] = bytes;
        live += bytes;
        peak = @max(peak, live);
        sum +%= fresh;
    }
    return sum | 1;
}
