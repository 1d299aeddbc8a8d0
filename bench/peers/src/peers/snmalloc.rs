//! snmalloc, by the C functions that its crate offers beside Rust's.

use crate::Direct;
use core::ffi::{c_char, c_void};

pub fn start() -> bool {
    true
}

pub fn version() -> *const c_char {
    c"0.7.6".as_ptr()
}

/// The library's own functions, so that a call costs what it costs in C.
pub fn direct() -> Direct {
    (
        snmalloc_sys::sn_malloc as *const c_void,
        snmalloc_sys::sn_free as *const c_void,
    )
}
