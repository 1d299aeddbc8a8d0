//! frusa 0.1.3 over the system's allocator.
//!
//! It hangs when its backend's memory is not zero, so the backend here zeroes it.

use core::alloc::{GlobalAlloc, Layout};
use core::ffi::{c_char, c_void};
use frusa::Frusa4K;
use std::alloc::System;

struct Zeroed;

// SAFETY: the system's allocator, with zeros.
unsafe impl GlobalAlloc for Zeroed {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

static BACKEND: Zeroed = Zeroed;
static HEAP: Frusa4K = Frusa4K::new(&BACKEND);

pub fn start() -> bool {
    true
}

pub fn version() -> *const c_char {
    c"0.1.3".as_ptr()
}

#[inline(always)]
pub fn alloc(size: usize) -> *mut c_void {
    // SAFETY: the harness asks for sizes that make a layout.
    unsafe { HEAP.alloc(Layout::from_size_align_unchecked(size, 8)).cast() }
}

#[inline(always)]
pub fn free(pointer: *mut c_void, size: usize) {
    // SAFETY: the harness frees what `alloc(size)` gave, once.
    unsafe { HEAP.dealloc(pointer.cast(), Layout::from_size_align_unchecked(size, 8)) }
}

/// Gives unused memory back to the backend.
#[no_mangle]
pub extern "C" fn peer_reclaim() {
    HEAP.reclaim();
}

