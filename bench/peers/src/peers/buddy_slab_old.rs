//! buddy-slab-allocator 0.3.0, over one region, with a slab for each CPU.

use crate::{cpu, region};
use buddy_slab_old::{GlobalAllocator, OsImpl};
use core::alloc::Layout;
use core::ffi::{c_char, c_void};
use core::ptr::{null_mut, NonNull};

struct Host;

impl OsImpl for Host {
    fn current_cpu_idx(&self) -> usize {
        cpu::index()
    }

    fn virt_to_phys(&self, address: usize) -> usize {
        address
    }
}

static HOST: Host = Host;
static mut HEAP: GlobalAllocator<4096> = GlobalAllocator::new();

pub fn start() -> bool {
    let Some(memory) = region::reserve() else {
        return false;
    };
    // SAFETY: called once, before any other call; the memory is never unmapped.
    unsafe { (*(&raw mut HEAP)).init(memory, cpu::CPUS, &HOST).is_ok() }
}

pub fn version() -> *const c_char {
    c"0.3.0".as_ptr()
}

#[inline(always)]
pub fn alloc(size: usize) -> *mut c_void {
    // SAFETY: the harness asks for sizes that make a layout; the heap is shared from here on.
    unsafe {
        let layout = Layout::from_size_align_unchecked(size, 16);
        match (*(&raw const HEAP)).alloc(layout) {
            Ok(pointer) => pointer.as_ptr().cast(),
            Err(_) => null_mut(),
        }
    }
}

#[inline(always)]
pub fn free(pointer: *mut c_void, size: usize) {
    // SAFETY: the harness frees what `alloc(size)` gave, once.
    unsafe {
        let layout = Layout::from_size_align_unchecked(size, 16);
        (*(&raw const HEAP)).dealloc(NonNull::new_unchecked(pointer.cast()), layout);
    }
}
