//! lgalloc: regions of 2 MiB and more.

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
