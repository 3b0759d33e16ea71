//! Memory asked for before it is read.

/// Of a cache line.
pub const LINE_BYTES: usize = 64;

/// Ask for the cache line at `address`, so that a read soon after does not wait for memory. A hint: any address is
/// allowed, and where the CPU has none nothing happens.
#[inline(always)]
#[allow(unsafe_code)]
#[cfg_attr(target_arch = "aarch64", allow(clippy::pointers_in_nomem_asm_block))] // a hint: it reads nothing
pub fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction reads nothing and never faults; every x86-64 CPU has it.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the instruction reads nothing that the program sees and never faults; every aarch64 CPU has it.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{0}]", in(reg) address, options(nomem, nostack, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}

/// Ask for the cache lines of values; where they do not begin on one, the last line may be left out.
#[inline(always)]
pub fn prefetch_all<T>(values: &[T]) {
    values.iter().step_by(LINE_BYTES / size_of::<T>()).for_each(|value| prefetch(value));
}
