//! Which kernels this CPU can run, and which of them runs: detection, self-test, the environment.

use std::sync::OnceLock;

#[cfg(target_arch = "aarch64")]
use super::neon;
use super::portable;
use super::self_test::passes_self_test;
use super::tile::{Kernel, Precision};
#[cfg(target_arch = "x86_64")]
use super::{amx, avx2, avx512, fixed_avx2, fixed_avx512};
use crate::error::{Error, Result};

/// Fastest first within a precision, as far as instruction sets tell.
pub(super) static KERNELS: &[Kernel] = &[
    #[cfg(target_arch = "x86_64")]
    amx::EXACT,
    #[cfg(target_arch = "x86_64")]
    amx::BF16,
    #[cfg(target_arch = "x86_64")]
    avx512::F32,
    #[cfg(target_arch = "x86_64")]
    avx512::BF16,
    #[cfg(target_arch = "x86_64")]
    fixed_avx512::I16,
    #[cfg(target_arch = "x86_64")]
    avx2::F32,
    #[cfg(target_arch = "x86_64")]
    fixed_avx2::VNNI,
    #[cfg(target_arch = "x86_64")]
    fixed_avx2::I16,
    #[cfg(target_arch = "aarch64")]
    neon::F32,
    portable::F32,
    portable::BF16,
    portable::I16,
];

/// Environment variable that names the kernel of every product, or one for each precision (`a,b`).
pub const FORCE_VARIABLE: &str = "SSL_RISK_KERNEL";

/// Environment variable whose value `0` refuses the AMX kernels and `1` admits both, also the one that is off by
/// default.
pub const AMX_VARIABLE: &str = "SSL_RISK_AMX";

/// The kernels this CPU can run, in the order of preference.
pub fn usable() -> &'static [&'static Kernel] {
    static USABLE: OnceLock<Vec<&'static Kernel>> = OnceLock::new();
    USABLE.get_or_init(|| KERNELS.iter().filter(|kernel| works(kernel)).collect())
}

/// Whether a kernel takes part on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// Found by detection, and its self-test passed.
    Usable,
    /// Off by default and not asked for; nothing is known of this CPU.
    OffByDefault,
    /// This CPU or system cannot run it, or its self-test failed.
    Missing,
}

/// All kernels, usable or not.
pub fn list() -> Vec<(&'static str, Precision, Availability)> {
    let availability = |kernel: &Kernel| {
        if usable().iter().any(|u| u.name == kernel.name) {
            Availability::Usable
        } else if is_admitted(kernel) {
            Availability::Missing
        } else {
            Availability::OffByDefault
        }
    };
    KERNELS.iter().map(|k| (k.name, k.precision, availability(k))).collect()
}

/// The kernel for products that may lose what `precision` says: of those that `SSL_RISK_KERNEL` names the first
/// of this precision (one of another if there is none), else the first that this CPU can run. A bfloat16 kernel, or one of
/// whole numbers, is chosen only on CPUs known to be faster with it, else the exact one. One of whole numbers stands in for
/// no other. Nothing is timed: equal processes choose equally.
///
/// # Errors
/// [`Error::Parameter`] if the variable names a kernel that does not exist or that this CPU cannot run.
pub fn choose(precision: Precision) -> Result<&'static Kernel> {
    let forced = forced()?;
    let of = |wanted: Precision| forced.iter().copied().find(|k| k.precision == wanted);
    let named = of(precision).or_else(|| of(Precision::Exact)).or_else(|| of(Precision::Bf16));
    Ok(named.unwrap_or_else(|| choose_among(usable(), precision)))
}

/// The kernels of scores and of other products that may round: where bfloat16 does not pay, whole numbers may, of scores
/// ([`super::FixedScores`]).
///
/// # Errors
/// Those of [`choose`].
pub fn choose_rounding() -> Result<(&'static Kernel, &'static Kernel)> {
    let others = choose(Precision::Bf16)?;
    let scores = if others.precision == Precision::Exact { choose(Precision::Fixed)? } else { others };
    Ok((scores, others))
}

pub(super) fn choose_among(usable: &[&'static Kernel], precision: Precision) -> &'static Kernel {
    let first = |wanted: Precision| usable.iter().copied().filter(move |k| k.precision == wanted);
    let exact = first(Precision::Exact).next().expect("portable is always usable");
    match precision {
        Precision::Exact => exact,
        Precision::Bf16 | Precision::Fixed => first(precision).find(|k| (k.pays)()).unwrap_or(exact),
    }
}

/// The kernels that the environment names, separated by commas; empty if it names none.
fn forced() -> Result<Vec<&'static Kernel>> {
    let kernel = |name: &str| {
        usable().iter().copied().find(|k| k.name == name).ok_or_else(|| {
            Error::Parameter(format!(
                "{FORCE_VARIABLE}={name} names no kernel that this CPU can run; it can run {}",
                usable().iter().map(|k| k.name).collect::<Vec<_>>().join(", ")
            ))
        })
    };
    forced_names().map(kernel).collect()
}

fn forced_names() -> impl Iterator<Item = &'static str> {
    static FORCED: OnceLock<String> = OnceLock::new();
    let names = FORCED.get_or_init(|| std::env::var(FORCE_VARIABLE).unwrap_or_default());
    names.split(',').map(str::trim).filter(|name| !name.is_empty())
}

/// Whether the environment lets this kernel be tried.
fn is_admitted(kernel: &Kernel) -> bool {
    let amx = std::env::var_os(AMX_VARIABLE);
    let refused = kernel.state.is_some() && amx.as_ref().is_some_and(|v| v == "0");
    let asked = amx.is_some_and(|v| v == "1") || forced_names().any(|name| name == kernel.name);
    if kernel.opt_in { asked } else { !refused || asked }
}

/// Whether this CPU has the instructions and they give the right numbers on a small product.
fn works(kernel: &Kernel) -> bool {
    is_admitted(kernel) && (kernel.detect)() && passes_self_test(kernel)
}
