//! The allocator of both sides, with a counter that can be switched on.
//!
//! Off, which it is except in the child processes of `memory-per-entry`, it costs each call one relaxed load.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

#[cfg(feature = "mimalloc")]
static INNER: mimalloc::MiMalloc = mimalloc::MiMalloc;
#[cfg(not(feature = "mimalloc"))]
static INNER: std::alloc::System = std::alloc::System;

/// Its name, for the report.
pub const NAME: &str = if cfg!(feature = "mimalloc") { "mimalloc" } else { "system allocator" };

static ON: AtomicBool = AtomicBool::new(false);
static LIVE: AtomicUsize = AtomicUsize::new(0);

pub struct Counting;

/// Counts from here on.
pub fn count() {
    ON.store(true, Ordering::Relaxed);
}

/// Bytes that were asked for since [`count`] and not given back. What was there before must stay meanwhile.
pub fn live() -> usize {
    LIVE.load(Ordering::Relaxed)
}

fn note(more: usize, less: usize) {
    if ON.load(Ordering::Relaxed) {
        LIVE.fetch_add(more.wrapping_sub(less), Ordering::Relaxed);
    }
}

// SAFETY: every call goes unchanged to an allocator that keeps the contract; counting touches two atomics only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), 0);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { INNER.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), 0);
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { INNER.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        note(0, layout.size());
        // SAFETY: `at` came from `INNER`, with this layout.
        unsafe { INNER.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size, layout.size());
        // SAFETY: `at` came from `INNER`, with this layout; the caller vouches for `size`.
        unsafe { INNER.realloc(at, layout, size) }
    }
}
