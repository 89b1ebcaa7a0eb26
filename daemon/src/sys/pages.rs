//! Memory of whole pages, which O_DIRECT reads from without a copy.

use std::ffi::c_void;
use std::io;
use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// Zeroed memory that begins at a page and goes back to the system when it is dropped.
#[derive(Debug)]
pub struct Pages {
    address: NonNull<c_void>,
    length: usize,
}

// SAFETY: owner: `Pages`, alone; no other pointer to the mapping is handed out but by borrows of it. Lifetime: until it
// is dropped, on whatever thread. The kernel keeps the mapping for the process, not for a thread of it.
unsafe impl Send for Pages {}

impl Pages {
    /// Maps `length` bytes, of huge pages where the kernel has some: a direct write pins each page by itself. The
    /// mapping is aligned for huge pages only since Linux 6.7, and where `length` is a multiple of 2 MiB.
    pub fn map(length: usize) -> io::Result<Pages> {
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: owner: the `Pages` that is made of it. Lifetime: until that is dropped. The kernel chooses the
        // address, so that no memory of anybody's is replaced.
        let address = unsafe { mmap_anonymous(std::ptr::null_mut(), length, access, flags) }?;
        let address = NonNull::new(address).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: owner: as above. Lifetime: the call's. The kernel keeps the advice with the mapping; it changes no
        // byte. Refused where there are no huge pages, which is no harm.
        let _ = unsafe { madvise(address.as_ptr(), length, Advice::LinuxHugepage) };
        Ok(Pages { address, length })
    }

    /// Returns the memory.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: owner: `self`, whose mapping has `length` bytes that anybody may read, zeroed by the kernel.
        // Lifetime: that of the borrow, which no mutable one overlaps. The kernel keeps nothing.
        unsafe { std::slice::from_raw_parts(self.address.as_ptr().cast(), self.length) }
    }

    /// Returns the memory, to be written.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: owner: `self`, borrowed mutably, whose mapping has `length` bytes. Lifetime: that of the borrow. The
        // kernel keeps nothing: calls that write to it or read from it end before their borrow does.
        unsafe { std::slice::from_raw_parts_mut(self.address.as_ptr().cast(), self.length) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: owner: `self`, which nobody can use after this. Lifetime: no borrow of it outlives it. The kernel
        // keeps nothing of it but what a write under way has pinned, of which there is none: they are waited for.
        let _ = unsafe { munmap(self.address.as_ptr(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::Pages;

    #[test]
    fn pages_are_zeroed_aligned_and_writable_from_any_thread() {
        let mut pages = Pages::map(4 << 20).unwrap();
        assert_eq!(pages.as_slice().as_ptr().align_offset(4096), 0);
        assert!(pages.as_slice().iter().all(|byte| *byte == 0));
        pages.as_mut_slice().fill(7);
        let pages = std::thread::spawn(move || pages).join().unwrap();
        assert_eq!((pages.as_slice().len(), pages.as_slice()[(4 << 20) - 1]), (4 << 20, 7));
    }

    #[test]
    fn what_no_memory_can_hold_is_refused() {
        Pages::map(usize::MAX / 2).unwrap_err();
        Pages::map(0).unwrap_err();
    }
}
