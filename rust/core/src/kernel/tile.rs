//! One micro-kernel contract and the kernels that fulfil it: detection, self-test, choice.
//!
//! Every product of a pass is a sum of outer products over a contraction index s,
//!
//! ```text
//! c[i, j] += Σ_s a[i, s] · b[s, j]        16 rows i, 16 or 32 columns j
//! ```
//!
//! over *words* of 32 bits: one float32 value, or two bfloat16 values that are neighbours along s. The
//! addresses are the same for both, so one driver serves all kernels; only packing ([`super::panels`]) knows
//! what is in a word.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::portable;
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};
use crate::error::{Error, Result};

/// Rows of a tile, and columns of a panel.
pub const LANES: usize = 16;

/// What the products of a kernel keep of their factors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// float32 factors, float32 sums.
    Exact,
    /// Factors rounded to bfloat16 (8 bits), float32 sums.
    Bf16,
}

/// Addresses of one tile product; see the module's documentation.
pub(super) struct Tile {
    /// Word (i, s) is `a[i * a_row + s * a_step]`.
    pub a: *const u32,
    pub a_row: usize,
    pub a_step: usize,
    /// Word (s, j) of panel p is `b[p * b_panel + s * 16 + j]`.
    pub b: *const u32,
    pub b_panel: usize,
    /// Entry (i, j) of panel p is `c[i * c_row + p * c_panel + j]`.
    pub c: *mut f32,
    pub c_row: usize,
    pub c_panel: usize,
    pub steps: usize,
}

/// A micro-kernel for one panel of columns and one for two.
pub(super) type Micro = unsafe fn(&Tile);

/// A family of tile products that this CPU may be able to run.
pub struct Kernel {
    /// As in `SSL_RISK_KERNEL`.
    pub name: &'static str,
    /// Of its factors.
    pub precision: Precision,
    pub(super) one: Micro,
    pub(super) two: Micro,
    pub(super) detect: fn() -> bool,
}

/// Fastest first within a precision, as far as instruction sets tell.
pub(super) static KERNELS: &[Kernel] = &[
    #[cfg(target_arch = "x86_64")]
    avx512::F32,
    #[cfg(target_arch = "x86_64")]
    avx512::BF16,
    #[cfg(target_arch = "x86_64")]
    avx2::F32,
    portable::F32,
    portable::BF16,
];

/// Environment variable that names the kernel of every product, or one for each precision (`a,b`).
pub const FORCE_VARIABLE: &str = "SSL_RISK_KERNEL";

impl Kernel {
    /// Values along the contraction in one word.
    pub(super) fn values_per_word(&self) -> usize {
        match self.precision {
            Precision::Exact => 1,
            Precision::Bf16 => 2,
        }
    }

    /// One tile product, bounds checked.
    ///
    /// `a`, `b`, `c` start at the tile; `n_panels` is 1 or 2.
    #[allow(clippy::too_many_arguments)] // three operands with their strides
    pub(super) fn product(
        &self,
        a: &[u32],
        (a_row, a_step): (usize, usize),
        b: &[u32],
        b_panel: usize,
        n_panels: usize,
        c: &mut [f32],
        (c_row, c_panel): (usize, usize),
        steps: usize,
    ) {
        if steps == 0 {
            return;
        }
        let last = LANES - 1;
        assert!(a.len() > last * a_row + (steps - 1) * a_step, "left operand");
        assert!(b.len() >= (n_panels - 1) * b_panel + steps * LANES, "right operand");
        assert!(c.len() >= last * c_row + (n_panels - 1) * c_panel + LANES, "result");
        let tile = Tile {
            a: a.as_ptr(),
            a_row,
            a_step,
            b: b.as_ptr(),
            b_panel,
            c: c.as_mut_ptr(),
            c_row,
            c_panel,
            steps,
        };
        let micro = if n_panels == 1 { self.one } else { self.two };
        // SAFETY: a `Kernel` is reached through `usable` only, which has run `detect`; the asserts cover the
        // largest index of each operand, and `c` is borrowed exclusively.
        #[allow(unsafe_code)]
        unsafe {
            micro(&tile);
        }
    }

    /// Whether this CPU has the instructions and they give the right numbers on a small product.
    fn works(&self) -> bool {
        (self.detect)() && self.passes_self_test()
    }

    /// Small integers have exact products in every precision: the answer must be bit-exact.
    fn passes_self_test(&self) -> bool {
        const STEPS: usize = 5;
        let value = |i: usize| ((i * 7 + 3) % 17) as f32 - 8.0;
        let per_word = self.values_per_word();
        let word = |at: usize| match self.precision {
            Precision::Exact => value(at).to_bits(),
            Precision::Bf16 => super::panels::bf16_pair(value(2 * at), value(2 * at + 1)),
        };
        let a: Vec<u32> = (0..LANES * STEPS).map(word).collect();
        let b: Vec<u32> = (0..2 * LANES * STEPS).map(|i| word(i + 1000)).collect();
        for n_panels in [1, 2] {
            let ldc = LANES * n_panels;
            let mut c = vec![1.0; LANES * ldc];
            self.product(&a, (1, LANES), &b, LANES * STEPS, n_panels, &mut c, (ldc, LANES), STEPS);
            for i in 0..LANES {
                for j in 0..ldc {
                    let mut want = 1.0;
                    for s in 0..STEPS {
                        for h in 0..per_word {
                            let at = (s * LANES + i) * per_word + h;
                            let bt = ((j / LANES * STEPS + s) * LANES + j % LANES + 1000) * per_word + h;
                            want += value(at) * value(bt);
                        }
                    }
                    if c[i * ldc + j] != want {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// Values multiplied per second, from about a millisecond of products that stay in the first cache.
    fn rate(&self) -> f64 {
        const STEPS: usize = 128;
        let (a, b) = (vec![0_u32; LANES * STEPS], vec![0_u32; 2 * LANES * STEPS]);
        let mut c = vec![0.0; 2 * LANES * LANES];
        let mut run =
            || self.product(&a, (1, LANES), &b, LANES * STEPS, 2, &mut c, (2 * LANES, LANES), STEPS);
        run();
        let (began, mut runs) = (Instant::now(), 0);
        while began.elapsed() < Duration::from_millis(1) {
            (0..16).for_each(|_| run());
            runs += 16;
        }
        (runs * 2 * LANES * LANES * STEPS * self.values_per_word()) as f64 / began.elapsed().as_secs_f64()
    }
}

/// The kernels this CPU can run, in the order of preference.
pub fn usable() -> &'static [&'static Kernel] {
    static USABLE: OnceLock<Vec<&'static Kernel>> = OnceLock::new();
    USABLE.get_or_init(|| KERNELS.iter().filter(|kernel| kernel.works()).collect())
}

/// Names of all kernels, each with whether this CPU can run it.
pub fn list() -> Vec<(&'static str, Precision, bool)> {
    KERNELS.iter().map(|k| (k.name, k.precision, usable().iter().any(|u| u.name == k.name))).collect()
}

/// The kernel for products that may lose what `precision` says: of those that `SSL_RISK_KERNEL` names the first
/// of this precision (the first at all if there is none), else the fastest. A bfloat16 kernel is chosen only
/// where it beats the exact one, by timing both once.
///
/// # Errors
/// [`Error::Parameter`] if the variable names a kernel that does not exist or that this CPU cannot run.
pub fn choose(precision: Precision) -> Result<&'static Kernel> {
    let forced = forced()?;
    if let Some(&first) = forced.first() {
        return Ok(forced.into_iter().find(|k| k.precision == precision).unwrap_or(first));
    }
    let exact =
        *usable().iter().find(|k| k.precision == Precision::Exact).expect("portable is always usable");
    if precision == Precision::Exact {
        return Ok(exact);
    }
    static FASTER: OnceLock<Option<&'static Kernel>> = OnceLock::new();
    let faster = FASTER.get_or_init(|| {
        let rounded =
            usable().iter().copied().filter(|k| k.precision == Precision::Bf16 && k.name != "portable_bf16");
        let best = rounded.map(|k| (k, k.rate())).max_by(|a, b| a.1.total_cmp(&b.1))?;
        (best.1 > 1.2 * exact.rate()).then_some(best.0)
    });
    Ok(faster.unwrap_or(exact))
}

/// The kernels that the environment names, separated by commas; empty if it names none.
fn forced() -> Result<Vec<&'static Kernel>> {
    static FORCED: OnceLock<String> = OnceLock::new();
    let names = FORCED.get_or_init(|| std::env::var(FORCE_VARIABLE).unwrap_or_default());
    let kernel = |name: &str| {
        usable().iter().copied().find(|k| k.name == name).ok_or_else(|| {
            Error::Parameter(format!(
                "{FORCE_VARIABLE}={name} names no kernel that this CPU can run; it can run {}",
                usable().iter().map(|k| k.name).collect::<Vec<_>>().join(", ")
            ))
        })
    };
    names.split(',').map(str::trim).filter(|name| !name.is_empty()).map(kernel).collect()
}
