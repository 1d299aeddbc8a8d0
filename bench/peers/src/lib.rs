//! The peers that come from Rust's registry, each behind the same three C functions.
//!
//! The native harness opens this library and looks up `peer_alloc`, `peer_free` and `peer_version`.
//! Exactly one feature is on in a build. Nothing here may cost the peer anything: no lock, no
//! table, no branch beyond the check of the result.

use core::ffi::{c_char, c_void};

#[cfg(not(any(feature = "lgalloc", feature = "mimalloc")))]
compile_error!("choose one peer: --features lgalloc, mimalloc2 or mimalloc3");

#[cfg(feature = "lgalloc")]
mod peer {
    use core::ffi::{c_char, c_void};
    use core::mem::{size_of, transmute};
    use core::ptr::null_mut;
    use std::sync::Once;

    /// lgalloc asks for its handle back at free, and C has only the address and the size. The
    /// handle is exactly those two words; `words_are_address_then_length` proves it on a real one
    /// at start.
    type Words = [usize; 2];
    const _: () = assert!(size_of::<lgalloc::Handle>() == size_of::<Words>());

    static ENABLE: Once = Once::new();

    fn words_are_address_then_length() -> bool {
        let Ok((pointer, capacity, handle)) = lgalloc::allocate::<u8>(2 << 20) else {
            return false;
        };
        // SAFETY: same size, asserted above, and a handle has no invalid bit patterns but null.
        let words: Words = unsafe { transmute(handle) };
        let known = words == [pointer.as_ptr() as usize, capacity];
        if known {
            // SAFETY: the very words that were a live handle a moment ago.
            lgalloc::deallocate(unsafe { transmute::<Words, lgalloc::Handle>(words) });
        }
        known
    }

    pub fn start() -> bool {
        ENABLE.call_once(|| lgalloc::lgalloc_set_config(lgalloc::LgAlloc::new().enable()));
        words_are_address_then_length()
    }

    pub fn version() -> *const c_char {
        c"0.7.0".as_ptr()
    }

    #[inline(always)]
    pub fn alloc(size: usize) -> *mut c_void {
        match lgalloc::allocate::<u8>(size) {
            Ok((pointer, _capacity, handle)) => {
                core::mem::forget(handle);
                pointer.as_ptr().cast()
            }
            Err(_) => null_mut(),
        }
    }

    #[inline(always)]
    pub fn free(pointer: *mut c_void, size: usize) {
        // SAFETY: the harness frees what `alloc` gave, once, with a power of two of at least 2 MiB,
        // which is the region's own length.
        lgalloc::deallocate(unsafe {
            transmute::<Words, lgalloc::Handle>([pointer as usize, size])
        });
    }
}

#[cfg(feature = "mimalloc")]
mod peer {
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

    #[inline(always)]
    pub fn alloc(size: usize) -> *mut c_void {
        // SAFETY: any size may be asked.
        unsafe { libmimalloc_sys2::mi_malloc(size) }
    }

    #[inline(always)]
    pub fn free(pointer: *mut c_void, _size: usize) {
        // SAFETY: the harness frees what `alloc` gave, once.
        unsafe { libmimalloc_sys2::mi_free(pointer) }
    }
}

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

/// `size` bytes, or null.
#[no_mangle]
pub extern "C" fn peer_alloc(size: usize) -> *mut c_void {
    peer::alloc(size)
}

/// Takes back what `peer_alloc(size)` gave, on any thread.
///
/// # Safety
/// `pointer` is live and `size` is the size it was asked with.
#[no_mangle]
pub unsafe extern "C" fn peer_free(pointer: *mut c_void, size: usize) {
    peer::free(pointer, size)
}
