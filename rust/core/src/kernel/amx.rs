//! Tile products on AMX: bfloat16, one product, or three of high and low parts.
//!
//! Tiles       TMM0–3 = C (2 × 2 blocks of 16 × 16 float32), TMM4–5 = A, TMM6–7 = B; all 16 rows of 64 bytes
//! Layout      A 16 rows of 16 words; B 16 words along the contraction by 16 columns, that is
//!             `b[k / 2][j][k % 2] = B[k, j]`: [`Layout::Tiles`], [`Layout::SplitTiles`]
//! Rounding    a tile product sums 32 values in float32, to nearest even, before it touches C; denormals flushed;
//!             split factors keep 16 bits (2⁻¹⁸ relative), their low · low is left out (another 2⁻¹⁸)
//! Needs       cpuid amx-tile and amx-bf16, XCR0 bits 17 and 18, the kernel's permission ([`request_tiles`])
//! State       tiles are configured by the first session of a thread and released by its last ([`super::tile::State`])
//! Defined by  [`super::portable`] on the values that the layout keeps; tested in `kernel::tests`, where
//!             `model.rs` runs the very instructions below on any CPU
//! Measured    on an Intel Xeon with AMX; `amx_bf16` is on where it is detected, `amx_exact` is off by default, since
//!             it keeps 16 bits where float32 keeps 24: docs/decisions/0004-amx-off-by-default.md
#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::cell::Cell;

use super::layout::Layout;
use super::tile::{Kernel, Precision, State, Tile};

pub(super) const EXACT: Kernel = Kernel {
    name: "amx_exact",
    precision: Precision::Exact,
    layout: Layout::SplitTiles,
    one: exact_one,
    two: |t| {
        // SAFETY: passed on from the caller.
        unsafe { twice(exact_one, t) }
    },
    four: Some(exact_four),
    registers: Some(exact_registers),
    few: None,
    state: Some(State { enter: configure, leave: release }),
    detect,
    pays: || true,
    opt_in: true,
};

pub(super) const BF16: Kernel = Kernel {
    name: "amx_bf16",
    precision: Precision::Bf16,
    layout: Layout::Tiles,
    one: bf16_one,
    two: |t| {
        // SAFETY: passed on from the caller.
        unsafe { twice(bf16_one, t) }
    },
    four: Some(bf16_four),
    registers: Some(bf16_registers),
    few: None,
    state: Some(State { enter: configure, leave: release }),
    detect,
    pays: || true,
    opt_in: false,
};

/// Two panels one after the other: for the odd rows at a matrix's edge only.
///
/// # Safety
/// As `micro`, for two panels.
pub(super) unsafe fn twice(micro: unsafe fn(&Tile), t: &Tile) {
    // SAFETY: passed on from the caller; the second panel's addresses are the first's plus its strides.
    unsafe {
        micro(t);
        micro(&Tile { b: t.b.add(t.b_panel), c: t.c.add(t.c_panel), ..*t });
    }
}

/// What the registers of the micro-kernels hold at their start; strides in bytes.
pub(super) struct Registers {
    pub a: *const u32,
    /// 16 rows on.
    pub a_next: *const u32,
    pub a_row: usize,
    pub a_group: usize,
    pub b: *const u32,
    /// A panel on.
    pub b_next: *const u32,
    pub c: *mut f32,
    pub c_row: usize,
    pub c_panel: usize,
    /// 16 rows.
    pub c_block: usize,
    /// Groups of the layout.
    pub n: usize,
}

/// Bytes of a row of B.
pub(super) const LINE: usize = 64;

impl Registers {
    pub(super) fn new(t: &Tile, layout: Layout) -> Self {
        let bytes = |words: usize| words * size_of::<u32>();
        Self {
            a: t.a,
            a_next: t.a.wrapping_add(t.a_block),
            a_row: bytes(t.a_row),
            a_group: bytes(t.a_group),
            b: t.b,
            b_next: t.b.wrapping_add(t.b_panel),
            c: t.c,
            c_row: bytes(t.c_row),
            c_panel: bytes(t.c_panel),
            c_block: bytes(16 * t.c_row),
            n: t.steps / layout.group(),
        }
    }
}

/// A micro-kernel from its instructions, which are kept as text for the model of the tests.
///
/// In Intel syntax the destination comes first: `tdpbf16ps C, A, B` adds A · B to C, and
/// `tileloadd T, [base + stride*1]` loads 16 rows of 64 bytes that start every `stride` bytes. `tileloaddt1` is
/// the same load for data that would push what is read again out of the first cache: A and C, while the panels
/// of B stay.
macro_rules! micro {
    ($name:ident, $text:ident, $layout:expr, four, $($line:literal)+) => {
        micro!($name, $text, $layout, r, [$($line)+], [
            a_next = inout(reg) r.a_next => _,
            b_next = inout(reg) r.b_next => _,
            c_panel = in(reg) r.c_panel,
            c_block = in(reg) r.c_block,
            out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm5") _, out("tmm7") _,
        ]);
    };
    ($name:ident, $text:ident, $layout:expr, one, $($line:literal)+) => {
        micro!($name, $text, $layout, r, [$($line)+], []);
    };
    ($name:ident, $text:ident, $layout:expr, $registers:ident, [$($line:literal)+], [$($more:tt)*]) => {
        #[cfg(test)]
        pub(super) const $text: &[&str] = &[$($line),+];

        /// # Safety
        /// The CPU has AMX, its tiles are configured on this thread; the addresses of `t` are valid as [`Tile`]
        /// says, in a tiled layout.
        unsafe fn $name(t: &Tile) {
            let $registers = Registers::new(t, $layout);
            // SAFETY: the caller vouches for the addresses; `n` is positive, as `steps` is; the code touches no
            // stack, and no tile lives across it.
            unsafe {
                asm!(
                    $($line),+,
                    a = inout(reg) $registers.a => _,
                    a_row = in(reg) $registers.a_row,
                    a_group = in(reg) $registers.a_group,
                    b = inout(reg) $registers.b => _,
                    line = in(reg) LINE,
                    c = inout(reg) $registers.c => _,
                    c_row = in(reg) $registers.c_row,
                    n = inout(reg) $registers.n => _,
                    out("tmm0") _, out("tmm4") _, out("tmm6") _,
                    $($more)*
                    options(nostack),
                );
            }
        }
    };
}

micro! { bf16_one, BF16_ONE, Layout::Tiles, one,
    "tileloaddt1 tmm0, [{c} + {c_row}*1]"
    "2:"
    "tileloaddt1 tmm4, [{a} + {a_row}*1]"
    "tileloadd tmm6, [{b} + {line}*1]"
    "tdpbf16ps tmm0, tmm4, tmm6"
    "add {a}, {a_group}"
    "add {b}, 1024"
    "dec {n}"
    "jnz 2b"
    "tilestored [{c} + {c_row}*1], tmm0"
}

// C is visited in the order 0, 1, 3, 2 and back, so that one register walks over it.
micro! { bf16_four, BF16_FOUR, Layout::Tiles, four,
    "tileloaddt1 tmm0, [{c} + {c_row}*1]"
    "add {c}, {c_panel}"
    "tileloaddt1 tmm1, [{c} + {c_row}*1]"
    "add {c}, {c_block}"
    "tileloaddt1 tmm3, [{c} + {c_row}*1]"
    "sub {c}, {c_panel}"
    "tileloaddt1 tmm2, [{c} + {c_row}*1]"
    "2:"
    "tileloaddt1 tmm4, [{a} + {a_row}*1]"
    "tileloadd tmm6, [{b} + {line}*1]"
    "tdpbf16ps tmm0, tmm4, tmm6"
    "tileloadd tmm7, [{b_next} + {line}*1]"
    "tdpbf16ps tmm1, tmm4, tmm7"
    "tileloaddt1 tmm5, [{a_next} + {a_row}*1]"
    "tdpbf16ps tmm2, tmm5, tmm6"
    "tdpbf16ps tmm3, tmm5, tmm7"
    "add {a}, {a_group}"
    "add {a_next}, {a_group}"
    "add {b}, 1024"
    "add {b_next}, 1024"
    "dec {n}"
    "jnz 2b"
    "tilestored [{c} + {c_row}*1], tmm2"
    "add {c}, {c_panel}"
    "tilestored [{c} + {c_row}*1], tmm3"
    "sub {c}, {c_block}"
    "tilestored [{c} + {c_row}*1], tmm1"
    "sub {c}, {c_panel}"
    "tilestored [{c} + {c_row}*1], tmm0"
}

// A group of B is 1024 bytes of high parts, then 1024 of low parts; of A, `a_group` apart.
micro! { exact_one, EXACT_ONE, Layout::SplitTiles, one,
    "tileloaddt1 tmm0, [{c} + {c_row}*1]"
    "2:"
    "tileloaddt1 tmm4, [{a} + {a_row}*1]"
    "tileloadd tmm6, [{b} + {line}*1 + 1024]"
    "tdpbf16ps tmm0, tmm4, tmm6" // high · low
    "tileloadd tmm6, [{b} + {line}*1]"
    "add {a}, {a_group}"
    "tdpbf16ps tmm0, tmm4, tmm6" // high · high
    "tileloaddt1 tmm4, [{a} + {a_row}*1]"
    "tdpbf16ps tmm0, tmm4, tmm6" // low · high
    "add {a}, {a_group}"
    "add {b}, 2048"
    "dec {n}"
    "jnz 2b"
    "tilestored [{c} + {c_row}*1], tmm0"
}

// Each tile is loaded as soon as the last product that reads its register has been issued: twelve products for
// eight loads.
micro! { exact_four, EXACT_FOUR, Layout::SplitTiles, four,
    "tileloaddt1 tmm0, [{c} + {c_row}*1]"
    "add {c}, {c_panel}"
    "tileloaddt1 tmm1, [{c} + {c_row}*1]"
    "add {c}, {c_block}"
    "tileloaddt1 tmm3, [{c} + {c_row}*1]"
    "sub {c}, {c_panel}"
    "tileloaddt1 tmm2, [{c} + {c_row}*1]"
    "2:"
    "tileloaddt1 tmm4, [{a} + {a_row}*1]" // A high
    "tileloadd tmm6, [{b} + {line}*1 + 1024]" // B low
    "tdpbf16ps tmm0, tmm4, tmm6"
    "tileloadd tmm7, [{b_next} + {line}*1 + 1024]"
    "tdpbf16ps tmm1, tmm4, tmm7"
    "tileloaddt1 tmm5, [{a_next} + {a_row}*1]"
    "add {a}, {a_group}"
    "add {a_next}, {a_group}"
    "tdpbf16ps tmm2, tmm5, tmm6"
    "tileloadd tmm6, [{b} + {line}*1]" // B high
    "tdpbf16ps tmm3, tmm5, tmm7"
    "tileloadd tmm7, [{b_next} + {line}*1]"
    "tdpbf16ps tmm0, tmm4, tmm6"
    "tdpbf16ps tmm1, tmm4, tmm7"
    "tileloaddt1 tmm4, [{a} + {a_row}*1]" // A low
    "tdpbf16ps tmm2, tmm5, tmm6"
    "tdpbf16ps tmm3, tmm5, tmm7"
    "tileloaddt1 tmm5, [{a_next} + {a_row}*1]"
    "add {a}, {a_group}"
    "add {a_next}, {a_group}"
    "add {b}, 2048"
    "add {b_next}, 2048"
    "tdpbf16ps tmm0, tmm4, tmm6"
    "tdpbf16ps tmm1, tmm4, tmm7"
    "tdpbf16ps tmm2, tmm5, tmm6"
    "tdpbf16ps tmm3, tmm5, tmm7"
    "dec {n}"
    "jnz 2b"
    "tilestored [{c} + {c_row}*1], tmm2"
    "add {c}, {c_panel}"
    "tilestored [{c} + {c_row}*1], tmm3"
    "sub {c}, {c_block}"
    "tilestored [{c} + {c_row}*1], tmm1"
    "sub {c}, {c_panel}"
    "tilestored [{c} + {c_row}*1], tmm0"
}

/// Products of tiles that stay in registers, four at a time, which hide their latency.
///
/// # Safety
/// The CPU has AMX, its tiles are configured on this thread.
unsafe fn bf16_registers(rounds: usize) -> usize {
    // SAFETY: the code touches tiles only, and no tile lives across it; at zero rounds it does one.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "tilezero tmm4",
            "tilezero tmm5",
            "tilezero tmm6",
            "tilezero tmm7",
            "2:",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "dec {n}",
            "jnz 2b",
            n = inout(reg) rounds.max(1) => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nomem, nostack),
        );
    }
    rounds.max(1) * 4 * 16 * 16 * 32
}

/// Three products for one.
///
/// # Safety
/// As [`bf16_registers`].
unsafe fn exact_registers(rounds: usize) -> usize {
    // SAFETY: passed on from the caller.
    unsafe { bf16_registers(rounds) / 3 }
}

/// The operand of `ldtilecfg`.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Palette 1 has eight tiles; all are used whole.
static WHOLE_TILES: Configuration = Configuration {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

thread_local! {
    /// Sessions open on this thread.
    static SESSIONS: Cell<usize> = const { Cell::new(0) };
}

/// # Safety
/// [`detect`] has returned true.
unsafe fn configure() {
    if SESSIONS.replace(SESSIONS.get() + 1) == 0 {
        // SAFETY: the CPU has tiles and the system lets this process use them; the operand is 64 valid bytes.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const WHOLE_TILES, options(nostack, readonly, preserves_flags));
        }
    }
}

/// # Safety
/// [`detect`] has returned true.
unsafe fn release() {
    if SESSIONS.replace(SESSIONS.get() - 1) == 1 {
        // SAFETY: the CPU has tiles.
        unsafe {
            asm!("tilerelease", options(nomem, nostack, preserves_flags));
        }
    }
}

/// Whether the CPU has the instructions, the system saves the registers, and this process may use them.
fn detect() -> bool {
    const AMX_BF16: u32 = 1 << 22;
    const AMX_TILE: u32 = 1 << 24;
    #[allow(unused_unsafe)] // Rust 1.89, which we support, calls it unsafe; later ones do not
    let features = || {
        // SAFETY: called below only where AVX-512 has been found, hence on a CPU with this leaf.
        unsafe { __cpuid_count(7, 0).edx }
    };
    is_x86_feature_detected!("avx512f")
        && features() & (AMX_BF16 | AMX_TILE) == AMX_BF16 | AMX_TILE
        && system_saves_tiles()
        && request_tiles()
}

/// Whether the system has enabled the state of the tiles; the CPU has XGETBV, the system has enabled it (OSXSAVE):
/// else AVX-512 would not have been detected.
fn system_saves_tiles() -> bool {
    const TILE_CONFIGURATION: u32 = 1 << 17;
    const TILE_DATA: u32 = 1 << 18;
    let enabled: u32;
    // SAFETY: see above; the instruction reads XCR0, which `ecx` = 0 names, into edx and eax.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") enabled, out("edx") _, options(nomem, nostack, preserves_flags));
    }
    enabled & (TILE_CONFIGURATION | TILE_DATA) == TILE_CONFIGURATION | TILE_DATA
}

/// Ask Linux for the tiles' state, for all threads of this process: without it the first use is a fatal signal.
/// It refuses where an alternate signal stack is too small for that state.
#[cfg(target_os = "linux")]
fn request_tiles() -> bool {
    const ARCH_PRCTL: usize = 158;
    const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
    const XFEATURE_XTILEDATA: usize = 18;
    let result: usize;
    // SAFETY: a system call of two numbers that reads and writes no memory of ours; it clobbers rcx and r11.
    unsafe {
        asm!(
            "syscall",
            inout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result == 0
}

/// No other system is known to need no permission.
#[cfg(not(target_os = "linux"))]
fn request_tiles() -> bool {
    false
}
