//! A small generator of random numbers, seeded, the same on every machine: splitmix64.

pub const Random = struct {
    state: u64,

    pub fn init(seed: u64) Random {
        return .{ .state = seed };
    }

    pub inline fn next(random: *Random) u64 {
        random.state +%= 0x9e3779b97f4a7c15;
        var mixed = random.state;
        mixed = (mixed ^ (mixed >> 30)) *% 0xbf58476d1ce4e5b9;
        mixed = (mixed ^ (mixed >> 27)) *% 0x94d049bb133111eb;
        return mixed ^ (mixed >> 31);
    }

    /// Below `bound`, which is at most 2^32; a bias of 2^-32 does no harm here.
    pub inline fn below(random: *Random, bound: usize) usize {
        return @intCast(((random.next() >> 32) * bound) >> 32);
    }

    /// From `low` to `high`, both included.
    pub inline fn between(random: *Random, low: usize, high: usize) usize {
        return low + random.below(high - low + 1);
    }
};
