//! forge-alloc's typed pools of eight bytes: `Slab` of one thread, or `SlabOwner` with `SlabRemote`.
//!
//! Both are made with room for the benchmark's slots and in their default policy.

use core::ffi::{c_char, c_void};
use core::mem::MaybeUninit;
use core::ptr::{null_mut, NonNull};
use forge_alloc::{Allocator, Deallocator, MmapBacked, NonZeroLayout};

const SLOTS: usize = 1 << 16;
const BACKING: usize = SLOTS * 8 + (64 << 10);

#[cfg(feature = "forge_slab")]
type Pool = forge_alloc::Slab<u64, MmapBacked>;
#[cfg(feature = "forge_owner")]
type Pool = forge_alloc::SlabOwner<u64, MmapBacked>;

static mut POOL: MaybeUninit<Pool> = MaybeUninit::uninit();

#[inline(always)]
fn pool() -> &'static Pool {
    // SAFETY: `start` has written it. One thread uses it, as its type wants; the harness keeps to that.
    unsafe { (*(&raw const POOL)).assume_init_ref() }
}

#[inline(always)]
fn layout() -> NonZeroLayout {
    NonZeroLayout::for_type::<u64>().unwrap()
}

pub fn start() -> bool {
    let Ok(backing) = MmapBacked::new(BACKING) else {
        return false;
    };
    let Ok(made) = Pool::new(SLOTS, backing) else {
        return false;
    };
    // SAFETY: called once, before any other call.
    unsafe { (*(&raw mut POOL)).write(made) };
    true
}

pub fn version() -> *const c_char {
    c"0.3.7".as_ptr()
}

#[inline(always)]
pub fn alloc(_size: usize) -> *mut c_void {
    match pool().allocate(layout()) {
        Ok(slot) => slot.as_ptr().cast(),
        Err(_) => null_mut(),
    }
}

#[inline(always)]
pub fn free(pointer: *mut c_void, _size: usize) {
    // SAFETY: the harness frees what `alloc` gave, once, on the owner's thread.
    unsafe { pool().deallocate(NonNull::new_unchecked(pointer.cast()), layout()) }
}

#[cfg(feature = "forge_owner")]
mod remote {
    use super::*;
    use std::sync::OnceLock;

    type Remote = forge_alloc::SlabRemote<u64, MmapBacked>;
    static REMOTE: OnceLock<Remote> = OnceLock::new();

    /// Makes the remote that `peer_free_remote` uses; on the owner's thread, before its first use.
    #[no_mangle]
    pub extern "C" fn peer_remote() -> i32 {
        i32::from(REMOTE.set(pool().remote()).is_ok() || REMOTE.get().is_some())
    }

    /// Frees a slot on a thread that is not the owner's.
    ///
    /// # Safety
    /// `pointer` is live, and `peer_remote` was called.
    #[no_mangle]
    pub unsafe extern "C" fn peer_free_remote(pointer: *mut c_void, _size: usize) {
        let remote = unsafe { REMOTE.get().unwrap_unchecked() };
        unsafe { remote.deallocate(NonNull::new_unchecked(pointer.cast()), layout()) }
    }

    /// Takes in what others have freed; on the owner's thread.
    #[no_mangle]
    pub extern "C" fn peer_collect() {
        pool().drain();
    }
}
