//! One micro-kernel contract, and the safe way to call a kernel that fulfils it.
//!
//! Every product of a pass is a sum of outer products over a contraction index s,
//!
//! ```text
//! c[i, j] += Σ_s a[i, s] · b[s, j]        16 or 32 rows i, 16 or 32 columns j
//! ```
//!
//! over *words* of 32 bits: one float32 value, or two bfloat16 values or two whole numbers that are neighbours along s. The
//! addresses are the same for all, so one driver serves all kernels; only packing ([`super::panels`]) knows
//! what is in a word ([`super::layout`]). Which kernels this CPU can run, and which runs, is decided in
//! [`super::choice`].

use std::marker::PhantomData;
use std::time::{Duration, Instant};

use super::few;
use super::layout::{LANES, Layout, Left, Right};
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use super::prefetch::prefetch;

/// What the products of a kernel keep of their factors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// float32 factors, float32 sums.
    Exact,
    /// Factors rounded to bfloat16 (8 bits), float32 sums.
    Bf16,
    /// Factors rounded to whole numbers of 12 bits and a sign, larger ones cut off: for [`super::FixedScores`], which chooses
    /// their units. Sums of 128 products are exact, those of all float32.
    Fixed,
}

/// Addresses of one tile product; see the module's documentation.
pub(super) struct Tile {
    /// Word (i, s) is `a[i / 16 * a_block + i % 16 * a_row + s / 16 * a_group + s % 16 * a_step]`. Kernels of a
    /// layout that is not tiled may rely on `a_group = 16 * a_step` and on a 1 among `a_row` and `a_step`, those of a
    /// tiled one on `a_step = 1`.
    pub a: *const u32,
    pub a_row: usize,
    pub a_step: usize,
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // only AMX reads them
    pub a_group: usize,
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
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

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
impl Tile {
    /// Ask for the results of `rows` rows from `first` on and of `panels` panels, which lie in a far cache: they are there
    /// when the sums over all steps are added to them.
    #[inline(always)]
    pub fn prefetch(&self, first: usize, rows: usize, panels: usize) {
        for row in first..first + rows {
            for panel in 0..panels {
                prefetch(self.c.wrapping_add(row * self.c_row + panel * self.c_panel));
            }
        }
    }
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
    /// Products with few classes on rows as they lie, where they are faster.
    pub(super) few: Option<few::Micro>,
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
            assert!(
                a.group == LANES * a.step && (a.row == 1 || a.step == 1),
                "left operand in steps, its rows or its steps side by side"
            );
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
        // SAFETY: a `Kernel` is reached through `choice::usable` only, which has run `detect`, and this session has
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
    /// One that every CPU can run and none prefers, without more than it needs.
    pub(super) const fn plain(
        name: &'static str,
        precision: Precision,
        layout: Layout,
        one: Micro,
        two: Micro,
    ) -> Self {
        Self {
            name,
            precision,
            layout,
            one,
            two,
            four: None,
            few: None,
            state: None,
            registers: None,
            detect: || true,
            pays: || false,
            opt_in: false,
        }
    }

    /// Set up this thread for products.
    pub(super) fn session(&self) -> Session<'_> {
        if let Some(state) = &self.state {
            // SAFETY: a `Kernel` is reached through `choice::usable` only, which has run `detect`.
            #[allow(unsafe_code)]
            unsafe {
                (state.enter)();
            }
        }
        Session { kernel: self, here: PhantomData }
    }

    /// Values multiplied per second by this thread if none of them leaves the registers: the best of some bursts;
    /// `None` for kernels in plain Rust.
    pub fn register_peak(&self) -> Option<f64> {
        const ROUNDS: usize = 1 << 14;
        let registers = self.registers?;
        let _session = self.session();
        let burst = || {
            let began = Instant::now();
            // SAFETY: a `Kernel` is reached through `choice::usable` only, which has run `detect`, and the session has
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
