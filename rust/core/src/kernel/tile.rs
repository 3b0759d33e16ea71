//! One micro-kernel contract and the kernels that fulfil it: detection, self-test, choice.
//!
//! Every product of a pass is a sum of outer products over a contraction index s,
//!
//! ```text
//! c[i, j] += Σ_s a[i, s] · b[s, j]        16 or 32 rows i, 16 or 32 columns j
//! ```
//!
//! over *words* of 32 bits: one float32 value, or two bfloat16 values that are neighbours along s. The
//! addresses are the same for both, so one driver serves all kernels; only packing ([`super::panels`]) knows
//! what is in a word.

use std::marker::PhantomData;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::panels::{Layout, Left, Panels, Right, RowBuffer, Rows, row_stride};
use super::portable;
#[cfg(target_arch = "x86_64")]
use super::{amx, avx2, avx512};
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
    /// Word (i, s) is `a[i / 16 * a_block + i % 16 * a_row + s / 16 * a_group + s % 16 * a_step]`. Kernels of a
    /// layout that is not tiled may rely on `a_group = 16 * a_step`, those of a tiled one on `a_step = 1`.
    pub a: *const u32,
    pub a_row: usize,
    pub a_step: usize,
    pub a_group: usize,
    pub a_block: usize,
    /// Word (s, j) of panel p is `b[p * b_panel + s * 16 + j]`.
    pub b: *const u32,
    pub b_panel: usize,
    /// Entry (i, j) of panel p is `c[i * c_row + p * c_panel + j]`.
    pub c: *mut f32,
    pub c_row: usize,
    pub c_panel: usize,
    /// Positive; in a tiled layout whole groups ([`Layout::group`]).
    pub steps: usize,
}

/// A micro-kernel for a fixed number of rows and panels.
pub(super) type Micro = unsafe fn(&Tile);

/// What a thread must set up before its products, and give back after them; calls may nest.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // only AMX needs it
pub(super) struct State {
    pub enter: unsafe fn(),
    pub leave: unsafe fn(),
}

/// A family of tile products that this CPU may be able to run.
pub struct Kernel {
    /// As in `SSL_RISK_KERNEL`.
    pub name: &'static str,
    /// Of its factors.
    pub precision: Precision,
    pub(super) layout: Layout,
    /// 16 rows, one panel.
    pub(super) one: Micro,
    /// 16 rows, two panels.
    pub(super) two: Micro,
    /// 32 rows, two panels, where that is faster.
    pub(super) four: Option<Micro>,
    pub(super) state: Option<State>,
    /// Runs so many rounds of multiplications that touch no memory, and says how many values it multiplied: the
    /// most that a kernel of these instructions could reach.
    pub(super) registers: Option<unsafe fn(usize) -> usize>,
    pub(super) detect: fn() -> bool,
    /// Of a bfloat16 kernel that this CPU can run: whether it is faster than the exact one, by what the CPU says it is.
    pub(super) pays: fn() -> bool,
    /// Not tried, not even detected, unless the environment asks for it.
    pub(super) opt_in: bool,
}

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
    avx2::F32,
    portable::F32,
    portable::BF16,
];

/// Environment variable that names the kernel of every product, or one for each precision (`a,b`).
pub const FORCE_VARIABLE: &str = "SSL_RISK_KERNEL";

/// Environment variable whose value `0` refuses the AMX kernels and `1` admits both, also the one that is off by
/// default.
pub const AMX_VARIABLE: &str = "SSL_RISK_AMX";

/// A kernel ready for products on this thread, where it may have set up registers.
pub(super) struct Session<'a> {
    kernel: &'a Kernel,
    /// The registers are this thread's: neither `Send` nor `Sync`.
    here: PhantomData<*const ()>,
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if let Some(state) = &self.kernel.state {
            // SAFETY: [`Kernel::session`] entered on this thread, which this value cannot leave.
            #[allow(unsafe_code)]
            unsafe {
                (state.leave)();
            }
        }
    }
}

impl Session<'_> {
    /// One product, bounds checked: rows of `a`, panels of `b` and `c` start at the tile.
    ///
    /// There are `blocks` × 16 rows and `panels` × 16 columns, 1 or 2 each; entry (i, j) of panel p is
    /// `c[i * c_row + p * c_panel + j]`.
    pub fn product(
        &self,
        a: Left<'_>,
        b: Right<'_>,
        c: &mut [f32],
        (c_row, c_panel): (usize, usize),
        (blocks, panels): (usize, usize),
    ) {
        let (kernel, steps) = (self.kernel, b.steps);
        if steps == 0 {
            return;
        }
        let last = LANES - 1;
        assert!(matches!((blocks, panels), (1 | 2, 1 | 2)));
        if kernel.layout.tiled() {
            assert!(
                a.step == 1 && steps.is_multiple_of(kernel.layout.group()),
                "whole tiles of the left operand"
            );
        } else {
            assert!(a.group == LANES * a.step, "left operand in steps");
        }
        let end = (steps - 1) / LANES * a.group + (steps - 1) % LANES * a.step;
        assert!(a.words.len() > (blocks - 1) * a.block + last * a.row + end, "left operand");
        assert!(b.words.len() >= (panels - 1) * b.panel + steps * LANES, "right operand");
        assert!(c.len() >= (blocks * LANES - 1) * c_row + (panels - 1) * c_panel + LANES, "result");
        let mut tile = |block: usize| Tile {
            a: a.words[block * a.block..].as_ptr(),
            a_row: a.row,
            a_step: a.step,
            a_group: a.group,
            a_block: a.block,
            b: b.words.as_ptr(),
            b_panel: b.panel,
            c: c[block * LANES * c_row..].as_mut_ptr(),
            c_row,
            c_panel,
            steps,
        };
        // SAFETY: a `Kernel` is reached through `usable` only, which has run `detect`, and this session has
        // entered its state; the asserts cover the largest index of each operand and what `Tile` says of the
        // layout, and `c` is borrowed exclusively.
        #[allow(unsafe_code)]
        unsafe {
            match kernel.four {
                Some(four) if (blocks, panels) == (2, 2) => four(&tile(0)),
                _ => {
                    let micro = if panels == 1 { kernel.one } else { kernel.two };
                    (0..blocks).for_each(|block| micro(&tile(block)));
                }
            }
        }
    }

    /// Blocks of 16 rows that are best multiplied at a time.
    pub fn blocks(&self) -> usize {
        if self.kernel.four.is_some() { 2 } else { 1 }
    }
}

impl Kernel {
    /// Set up this thread for products.
    pub(super) fn session(&self) -> Session<'_> {
        if let Some(state) = &self.state {
            // SAFETY: a `Kernel` is reached through `usable` only, which has run `detect`.
            #[allow(unsafe_code)]
            unsafe {
                (state.enter)();
            }
        }
        Session { kernel: self, here: PhantomData }
    }

    /// Whether the environment lets this kernel be tried.
    fn admitted(&self) -> bool {
        let amx = std::env::var_os(AMX_VARIABLE);
        let refused = self.state.is_some() && amx.as_ref().is_some_and(|v| v == "0");
        let asked = amx.is_some_and(|v| v == "1") || forced_names().any(|name| name == self.name);
        if self.opt_in { asked } else { !refused || asked }
    }

    /// Whether this CPU has the instructions and they give the right numbers on a small product.
    fn works(&self) -> bool {
        self.admitted() && (self.detect)() && self.passes_self_test()
    }

    /// Integers with few bits have exact products and sums: the answer must be bit-exact, both from rows as they
    /// lie and from panels, for every shape of tile.
    ///
    /// Exact kernels get factors of more bits than bfloat16 has, on one side at a time: the product of two low
    /// parts, which [`Layout::SplitTiles`] leaves out, is zero.
    pub(super) fn passes_self_test(&self) -> bool {
        const N: usize = 37; // values along the contraction: neither whole words nor whole groups
        const M: usize = 2 * LANES;
        let value = |at: usize, scale: f32| scale * (((at * 7 + 3) % 17) as f32 - 8.0);
        let scales: &[(f32, f32)] = match self.precision {
            Precision::Exact => &[(257.0, 1.0), (1.0, 257.0)],
            Precision::Bf16 => &[(1.0, 1.0)],
        };
        scales.iter().all(|&(left, right)| {
            let x: Vec<f32> = (0..N * M).map(|i| value(i, left)).collect();
            let w: Vec<f32> = (0..N * M).map(|i| value(i + 1000, right)).collect();
            let (mut columns, mut panels) = (Panels::default(), Panels::default());
            columns.pack(self, &x, N, M, M);
            panels.pack(self, &w, N, M, M);
            let stride = row_stride(N);
            let mut transposed = vec![0.0; M * stride];
            for (at, &v) in x.iter().enumerate() {
                transposed[at % M * stride + at / M] = v;
            }
            let mut buffer = RowBuffer::default();
            let rows = Rows::new(self, &transposed, M, N, stride, &mut buffer);
            let want = |i: usize, j: usize| 1.0 + (0..N).map(|s| x[s * M + i] * w[s * M + j]).sum::<f32>();
            let session = self.session();
            [columns.left(0), rows.left(0)].into_iter().all(|a| {
                [(1, 1), (1, 2), (2, 1), (2, 2)].into_iter().all(|(blocks, n)| {
                    let mut c = vec![1.0; M * M];
                    session.product(a, panels.right(0), &mut c, (M, LANES), (blocks, n));
                    (0..M * M).all(|at| {
                        let (i, j) = (at / M, at % M);
                        c[at] == if i < blocks * LANES && j < n * LANES { want(i, j) } else { 1.0 }
                    })
                })
            })
        })
    }

    /// Values multiplied per second by this thread if none of them leaves the registers: the best of some bursts;
    /// `None` for kernels in plain Rust.
    pub fn register_peak(&self) -> Option<f64> {
        const ROUNDS: usize = 1 << 14;
        let registers = self.registers?;
        let _session = self.session();
        let burst = || {
            let began = Instant::now();
            // SAFETY: a `Kernel` is reached through `usable` only, which has run `detect`, and the session has
            // entered its state.
            #[allow(unsafe_code)]
            let values = unsafe { registers(ROUNDS) };
            values as f64 / began.elapsed().as_secs_f64()
        };
        let began = Instant::now();
        let bursts =
            std::iter::repeat_with(burst).take_while(|_| began.elapsed() < Duration::from_millis(100));
        bursts.reduce(f64::max)
    }
}

/// The kernels this CPU can run, in the order of preference.
pub fn usable() -> &'static [&'static Kernel] {
    static USABLE: OnceLock<Vec<&'static Kernel>> = OnceLock::new();
    USABLE.get_or_init(|| KERNELS.iter().filter(|kernel| kernel.works()).collect())
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
        } else if kernel.admitted() {
            Availability::Missing
        } else {
            Availability::OffByDefault
        }
    };
    KERNELS.iter().map(|k| (k.name, k.precision, availability(k))).collect()
}

/// The kernel for products that may lose what `precision` says: of those that `SSL_RISK_KERNEL` names the first
/// of this precision (the first at all if there is none), else the first that this CPU can run. A bfloat16 kernel is
/// chosen only on CPUs known to be faster with it, else the exact one. Nothing is timed: equal processes choose
/// equally.
///
/// # Errors
/// [`Error::Parameter`] if the variable names a kernel that does not exist or that this CPU cannot run.
pub fn choose(precision: Precision) -> Result<&'static Kernel> {
    let forced = forced()?;
    if let Some(&first) = forced.first() {
        return Ok(forced.into_iter().find(|k| k.precision == precision).unwrap_or(first));
    }
    Ok(choose_among(usable(), precision))
}

pub(super) fn choose_among(usable: &[&'static Kernel], precision: Precision) -> &'static Kernel {
    let first = |wanted: Precision| usable.iter().copied().filter(move |k| k.precision == wanted);
    let exact = first(Precision::Exact).next().expect("portable is always usable");
    match precision {
        Precision::Exact => exact,
        Precision::Bf16 => first(Precision::Bf16).find(|k| (k.pays)()).unwrap_or(exact),
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
