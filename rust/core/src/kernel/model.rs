//! AMX kernels on any CPU, for tests: the instruction text of [`super::amx`], interpreted.
//!
//! Packing, strides, the order of operands and the loops are those of the kernels; what stays untested without the
//! hardware is the encoding of the instructions and the CPU itself.
#![allow(unsafe_code)]

use std::collections::HashMap;

use super::amx::{BF16_FOUR, BF16_ONE, EXACT_FOUR, EXACT_ONE, LINE, Registers, twice};
use super::layout::{LANES, Layout};
use super::tile::{Kernel, Precision, Tile};

pub(super) static EXACT: Kernel = Kernel {
    four: Some(|t| {
        // SAFETY: passed on from the caller.
        unsafe { run(EXACT_FOUR, Layout::SplitTiles, t) }
    }),
    ..Kernel::plain("model_amx_exact", Precision::Exact, Layout::SplitTiles, exact_one, |t| {
        // SAFETY: passed on from the caller.
        unsafe { twice(exact_one, t) }
    })
};

pub(super) static BF16: Kernel = Kernel {
    four: Some(|t| {
        // SAFETY: passed on from the caller.
        unsafe { run(BF16_FOUR, Layout::Tiles, t) }
    }),
    ..Kernel::plain("model_amx_bf16", Precision::Bf16, Layout::Tiles, bf16_one, |t| {
        // SAFETY: passed on from the caller.
        unsafe { twice(bf16_one, t) }
    })
};

/// # Safety
/// The addresses of `t` are valid as [`Tile`] says.
unsafe fn exact_one(t: &Tile) {
    // SAFETY: passed on from the caller.
    unsafe { run(EXACT_ONE, Layout::SplitTiles, t) }
}

/// # Safety
/// The addresses of `t` are valid as [`Tile`] says.
unsafe fn bf16_one(t: &Tile) {
    // SAFETY: passed on from the caller.
    unsafe { run(BF16_ONE, Layout::Tiles, t) }
}

/// A tile register: 16 rows of 16 words.
type Register = [[u32; LANES]; LANES];

/// # Safety
/// The addresses of `t` are valid as [`Tile`] says, for the blocks and panels that `text` reads.
unsafe fn run(text: &[&str], layout: Layout, t: &Tile) {
    let r = Registers::new(t, layout);
    let mut registers: HashMap<&str, usize> = HashMap::from([
        ("{a}", r.a.expose_provenance()),
        ("{a_next}", r.a_next.expose_provenance()),
        ("{a_row}", r.a_row),
        ("{a_group}", r.a_group),
        ("{b}", r.b.expose_provenance()),
        ("{b_next}", r.b_next.expose_provenance()),
        ("{line}", LINE),
        ("{c}", r.c.expose_provenance()),
        ("{c_row}", r.c_row),
        ("{c_panel}", r.c_panel),
        ("{c_block}", r.c_block),
        ("{n}", r.n),
    ]);
    let mut tiles: [Option<Register>; 8] = [None; 8]; // reading one that was never loaded is a mistake
    let mut at = 0;
    while at < text.len() {
        let (operation, operands) = text[at].split_once(' ').unwrap_or((text[at], ""));
        let operands: Vec<&str> = operands.split(", ").collect();
        let tile = |name: &str| name.strip_prefix("tmm").unwrap().parse::<usize>().unwrap();
        let value = |name: &str| name.parse().unwrap_or_else(|_| registers[name]);
        // address of each row of `[base + stride*1 + displacement]`
        let rows = |operand: &str| -> [usize; LANES] {
            let parts: Vec<&str> = operand[1..operand.len() - 1].split(" + ").collect();
            let stride = value(parts[1].strip_suffix("*1").unwrap());
            let base = value(parts[0]) + parts.get(2).map_or(0, |displacement| value(displacement));
            std::array::from_fn(|row| base + row * stride)
        };
        at += 1;
        match (operation, &operands[..]) {
            ("2:", _) => {}
            ("tileloadd" | "tileloaddt1", &[to, from]) => {
                let load = |address| {
                    // SAFETY: the caller vouches for the addresses of whole tiles.
                    unsafe { std::ptr::with_exposed_provenance::<[u32; LANES]>(address).read_unaligned() }
                };
                tiles[tile(to)] = Some(rows(from).map(load));
            }
            ("tilestored", &[to, from]) => {
                for (address, row) in rows(to).into_iter().zip(tiles[tile(from)].unwrap()) {
                    // SAFETY: as above; only C, which is exclusive, is stored to.
                    unsafe {
                        std::ptr::with_exposed_provenance_mut::<[u32; LANES]>(address).write_unaligned(row)
                    };
                }
            }
            ("tdpbf16ps", &[c, a, b]) => {
                let (a, b) = (tiles[tile(a)].unwrap(), tiles[tile(b)].unwrap());
                multiply(tiles[tile(c)].as_mut().unwrap(), &a, &b);
            }
            ("add", &[to, by]) => {
                let by: usize = value(by);
                *registers.get_mut(to).unwrap() += by;
            }
            ("sub", &[to, by]) => {
                let by: usize = value(by);
                *registers.get_mut(to).unwrap() -= by;
            }
            ("dec", &[counter]) => *registers.get_mut(counter).unwrap() -= 1,
            ("jnz", &["2b"]) => {
                assert_eq!(text[at - 2], "dec {n}", "the flags of the counter");
                if registers["{n}"] > 0 {
                    at = text.iter().position(|&line| line == "2:").unwrap() + 1;
                }
            }
            _ => panic!("{}", text[at - 1]),
        }
    }
}

/// `tdpbf16ps`, as Intel's manual writes it: sums over the first and over the second values of the pairs, then both
/// to the accumulator; denormals are zero, going in and coming out.
fn multiply(c: &mut Register, a: &Register, b: &Register) {
    let flush = |v: f32| if v.is_subnormal() { 0.0_f32.copysign(v) } else { v };
    let pair = |word: u32| [word << 16, word & 0xffff_0000].map(|bits| flush(f32::from_bits(bits)));
    for (c, a) in c.iter_mut().zip(a) {
        let mut sums = [[0.0_f32; 2]; LANES];
        for (&a, b) in a.iter().zip(b) {
            let a = pair(a);
            for (sums, &b) in sums.iter_mut().zip(b) {
                let b = pair(b);
                for half in 0..2 {
                    sums[half] = flush(a[half].mul_add(b[half], sums[half]));
                }
            }
        }
        for (c, [first, second]) in c.iter_mut().zip(sums) {
            *c = flush(flush(f32::from_bits(*c)) + flush(first + second)).to_bits();
        }
    }
}
