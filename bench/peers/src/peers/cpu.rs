//! What an allocator with a slab for each CPU asks of its host: which one is the caller's.
//!
//! Threads take the numbers in turn. That is what a pinned thread's CPU would be, and costs one
//! thread-local load; the number only says where to look first, the slabs themselves are locked.

use core::cell::Cell;
use core::sync::atomic::{AtomicUsize, Ordering};

pub const CPUS: usize = 4;

static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static INDEX: Cell<usize> = const { Cell::new(usize::MAX) };
}

#[inline]
pub fn index() -> usize {
    INDEX.with(|index| {
        if index.get() == usize::MAX {
            index.set(NEXT.fetch_add(1, Ordering::Relaxed) % CPUS);
        }
        index.get()
    })
}
