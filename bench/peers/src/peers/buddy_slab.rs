//! buddy-slab-allocator 0.6.1, over one region, with a slab for each CPU.
//!
//! From 0.6 on its locks are the host's. Here they are the spin locks that older versions had of their
//! own: one exchange to take, one store to leave, no interrupts to mask in a process.

use crate::{cpu, region};
use buddy_slab::interface::BuddySlabIf;
use buddy_slab::{GlobalAllocator, PerCpuSlab, SlabPoolTrait, StaticSlabPool};
use ax_sync::interface::{AcquireResult, ContextState, LockMetadata, SpinOps};
use core::alloc::Layout;
use core::ffi::{c_char, c_void};
use core::panic::Location;
use core::ptr::{null_mut, NonNull};
use core::sync::atomic::{AtomicBool, Ordering};

const PAGE: usize = 4096;

static POOL: StaticSlabPool<PAGE, { cpu::CPUS }> = StaticSlabPool::new(
    [
        PerCpuSlab::new(0),
        PerCpuSlab::new(1),
        PerCpuSlab::new(2),
        PerCpuSlab::new(3),
    ],
    cpu::index,
);
static HEAP: GlobalAllocator<PAGE> = GlobalAllocator::new();

struct Host;

#[ax_crate_interface::impl_interface]
impl BuddySlabIf for Host {
    fn virt_to_phys(address: usize) -> usize {
        address
    }

    fn slab_pool() -> &'static dyn SlabPoolTrait {
        &POOL
    }
}

struct Locks;

const NO_CONTEXT: ContextState = ContextState::new(0, 0);

#[ax_crate_interface::impl_interface]
impl SpinOps for Locks {
    fn acquire(
        locked: &AtomicBool,
        _metadata: &LockMetadata,
        _lock_addr: usize,
        _context: u8,
        _subclass: u32,
        _caller: &'static Location<'static>,
    ) -> ContextState {
        while locked.swap(true, Ordering::Acquire) {
            while locked.load(Ordering::Relaxed) {
                core::hint::spin_loop();
            }
        }
        NO_CONTEXT
    }

    fn try_acquire(
        locked: &AtomicBool,
        _metadata: &LockMetadata,
        _lock_addr: usize,
        _context: u8,
        _subclass: u32,
        _caller: &'static Location<'static>,
    ) -> AcquireResult {
        AcquireResult::new(!locked.swap(true, Ordering::Acquire), NO_CONTEXT)
    }

    fn release(locked: &AtomicBool, _lock_addr: usize, _context: u8, _state: ContextState) {
        locked.store(false, Ordering::Release);
    }

    fn force_release(locked: &AtomicBool, _lock_addr: usize, _context: u8) {
        locked.store(false, Ordering::Release);
    }

    fn is_locked(locked: &AtomicBool) -> bool {
        locked.load(Ordering::Relaxed)
    }
}

pub fn start() -> bool {
    let Some(memory) = region::reserve() else {
        return false;
    };
    // SAFETY: the memory is never unmapped.
    unsafe { HEAP.init(memory).is_ok() }
}

pub fn version() -> *const c_char {
    c"0.6.1".as_ptr()
}

#[inline(always)]
pub fn alloc(size: usize) -> *mut c_void {
    // SAFETY: the harness asks for sizes that make a layout.
    let layout = unsafe { Layout::from_size_align_unchecked(size, 16) };
    match HEAP.alloc(layout) {
        Ok(pointer) => pointer.as_ptr().cast(),
        Err(_) => null_mut(),
    }
}

#[inline(always)]
pub fn free(pointer: *mut c_void, size: usize) {
    // SAFETY: the harness frees what `alloc(size)` gave, once.
    unsafe {
        let layout = Layout::from_size_align_unchecked(size, 16);
        HEAP.dealloc(NonNull::new_unchecked(pointer.cast()), layout);
    }
}
