//! The address space that a buddy allocator manages: given whole at the start, paged in when touched.

const BYTES: usize = 4 << 30;

/// Never given back: it lives as long as the process.
pub fn reserve() -> Option<&'static mut [u8]> {
    // SAFETY: an anonymous mapping of its own.
    let start = unsafe {
        libc::mmap(
            core::ptr::null_mut(),
            BYTES,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if start == libc::MAP_FAILED {
        return None;
    }
    // SAFETY: mapped above, readable and writable, zero.
    Some(unsafe { core::slice::from_raw_parts_mut(start.cast(), BYTES) })
}
