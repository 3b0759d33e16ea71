//! What the CPU says it is.
#![allow(unsafe_code)]

use std::arch::x86_64::__cpuid;

/// Maker and number of an x86 CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cpu {
    Amd { family: u32 },
    Intel { family: u32, model: u32 },
    Other,
}

#[allow(unused_unsafe)] // Rust 1.89, which we support, calls `__cpuid` unsafe; later ones do not
pub(super) fn cpu() -> Cpu {
    // SAFETY: every x86-64 CPU has leaves 0 and 1.
    let [maker, version] = [0, 1].map(|leaf| unsafe { __cpuid(leaf) });
    let maker = [maker.ebx, maker.edx, maker.ecx].map(u32::to_le_bytes);
    let field = |first: u32, bits: u32| version.eax >> first & ((1 << bits) - 1);
    let (base, more) = (field(8, 4), field(20, 8));
    let family = if base == 0xf { base + more } else { base };
    match maker.as_flattened() {
        b"AuthenticAMD" => Cpu::Amd { family },
        b"GenuineIntel" => Cpu::Intel { family, model: field(4, 4) | field(16, 4) << 4 },
        _ => Cpu::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the operating system reads the same registers.
    #[test]
    fn the_cpu_is_that_of_the_system() {
        let Ok(text) = std::fs::read_to_string("/proc/cpuinfo") else {
            println!("not run: no /proc/cpuinfo");
            return;
        };
        let of = |name: &str| {
            let line = text.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name));
            line.and_then(|line| line.split(':').nth(1))
                .map(|value| value.trim().to_string())
                .unwrap_or_default()
        };
        let number = |name: &str| of(name).parse().expect("a number");
        let want = match &*of("vendor_id") {
            "AuthenticAMD" => Cpu::Amd { family: number("cpu family") },
            "GenuineIntel" => Cpu::Intel { family: number("cpu family"), model: number("model") },
            _ => Cpu::Other,
        };
        assert_eq!(cpu(), want);
    }
}
