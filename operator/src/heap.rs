//! What the allocator does with memory that is free again. Thousands of pods and their events come at one time, when a watch
//! begins or a leader takes over, and what they took is not to be kept for the next thousands.

/// `mi_option_purge_delay` of mimalloc 2 and 3, which the bindings have no name for.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Has the kernel give this process ordinary pages only, since mimalloc could not give back the free part of a huge one, and has
/// mimalloc give back at once what becomes free. To be called before threads are started. Without mimalloc, or huge pages, it
/// changes nothing.
pub fn settle() {
    let _ = nix::sys::prctl::set_thp_disable(true);
    set(PURGE_DELAY, 0);
}

#[allow(unsafe_code, reason = "a C function that stores a number")]
fn set(option: libmimalloc_sys::mi_option_t, value: std::ffi::c_long) {
    // SAFETY: an option that does not exist is ignored, and no value is a pointer.
    unsafe { libmimalloc_sys::mi_option_set(option, value) }
}
