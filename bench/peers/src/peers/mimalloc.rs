//! mimalloc 2 or 3, by the feature of its crate.

use crate::Direct;
use core::ffi::{c_char, c_void};
use std::ffi::CString;
use std::sync::OnceLock;

static VERSION: OnceLock<CString> = OnceLock::new();

pub fn start() -> bool {
    true
}

pub fn version() -> *const c_char {
    VERSION
        .get_or_init(|| {
            // SAFETY: a pure function of the library.
            let n = unsafe { libmimalloc_sys2::mi_version() };
            CString::new(format!("{}.{}.{}", n / 10_000, n / 100 % 100, n % 100)).unwrap()
        })
        .as_ptr()
}

/// The library's own functions, so that a call costs what it costs in C.
pub fn direct() -> Direct {
    (
        libmimalloc_sys2::mi_malloc as *const c_void,
        libmimalloc_sys2::mi_free as *const c_void,
    )
}
