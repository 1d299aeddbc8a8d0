//! The peers that come from Rust's registry, each behind the same C functions.
//!
//! The native harness opens this library and looks up `peer_alloc`, `peer_free` and `peer_version`.
//! Exactly one feature is on in a build. Nothing here may cost the peer anything: no lock, no
//! table, no branch beyond the check of the result. A library that is written in C is not wrapped at
//! all: `peer_direct` tells the addresses of its own functions.

use core::ffi::{c_char, c_void};

#[cfg(feature = "buddy_slab_old")]
#[path = "peers/buddy_slab_old.rs"]
mod peer;
#[cfg(feature = "buddy_slab")]
#[path = "peers/buddy_slab.rs"]
mod peer;
#[cfg(any(feature = "forge_slab", feature = "forge_owner"))]
#[path = "peers/forge.rs"]
mod peer;
#[cfg(feature = "frusa")]
#[path = "peers/frusa.rs"]
mod peer;
#[cfg(feature = "lgalloc")]
#[path = "peers/lgalloc.rs"]
mod peer;
#[cfg(feature = "mimalloc")]
#[path = "peers/mimalloc.rs"]
mod peer;
#[cfg(feature = "snmalloc")]
#[path = "peers/snmalloc.rs"]
mod peer;

#[cfg(any(feature = "buddy_slab", feature = "buddy_slab_old"))]
#[path = "peers/cpu.rs"]
mod cpu;
#[cfg(any(feature = "buddy_slab", feature = "buddy_slab_old"))]
#[path = "peers/region.rs"]
mod region;

/// Addresses of a C library's own `malloc` and `free`.
#[cfg(feature = "in_c")]
type Direct = (*const c_void, *const c_void);

/// Makes the peer ready; 1 when it is, 0 when it cannot be driven from C.
#[no_mangle]
pub extern "C" fn peer_start() -> i32 {
    i32::from(peer::start())
}

/// The peer's own version, a string that lives as long as the process.
#[no_mangle]
pub extern "C" fn peer_version() -> *const c_char {
    peer::version()
}

#[cfg(feature = "in_c")]
mod face {
    use super::*;

    /// The address of the peer's own `malloc` (0) or `free` (1).
    #[no_mangle]
    pub extern "C" fn peer_direct(which: i32) -> *const c_void {
        let (alloc, free) = peer::direct();
        if which == 0 {
            alloc
        } else {
            free
        }
    }
}

#[cfg(not(feature = "in_c"))]
mod face {
    use super::*;

    /// `size` bytes, or null.
    #[no_mangle]
    pub extern "C" fn peer_alloc(size: usize) -> *mut c_void {
        peer::alloc(size)
    }

    /// Takes back what `peer_alloc(size)` gave, on any thread that the peer allows.
    ///
    /// # Safety
    /// `pointer` is live and `size` is the size it was asked with.
    #[no_mangle]
    pub unsafe extern "C" fn peer_free(pointer: *mut c_void, size: usize) {
        peer::free(pointer, size)
    }
}
