"""Every number of docs/findings.md, from the tables in bench/zoo/results.

    python bench/zoo/findings.py                           # print the tables
    python bench/zoo/findings.py --write docs/findings.md  # put them between the page's markers

Differences of two encoders are paired by row (bench/zoo/pairs.py). Where a recipe has two seeds, they are given as
their mean, whose interval covers the draw of the images and that of the training: see `Contrast.mean`.
"""

import argparse
import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Literal

# the modules beside this file, also when a test loads it from elsewhere
sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import polars as pl
from recipes import recipes

RESULTS = Path(__file__).resolve().parent / "results"
Probe = Literal["logistic", "ridge"]
Row = dict[str, object]

NAMES = {
    "approx": "approximation",
    "usability": "usability",
    "probe_gen": "probe generalization",
    "enc_gen": "encoder generalization",
    "agg_risk": "aggregated risk",
}
#: of the normal distribution, two-sided 95 %
NORMAL = 1.959964
RESAMPLES = 10_000
#: approximation that a reader of the paper would call none; its largest supervised baseline is 1.7 %
NEAR_ZERO = 0.01
TWINS = {
    "convnet, 32": "supervised_d32_ep60_weak_s0",
    "convnet, 128": "supervised_ep60_weak_s0",
    "convnet, 512": "supervised_d512_ep60_weak_s0",
    "ResNet, 128": "supervised_resnet_ep60_weak_s0",
    "ViT, 128": "supervised_vit_ep60_weak_s0",
}
#: base and planted variant
PLANTED = [
    ("supervised_ep60_weak", "test_images"),
    ("simclr", "test_images"),
    ("supervised_ep60_weak", "tenth"),
    ("supervised_ep60_weak", "shuffled_labels"),
]
#: epochs of the checkpoints of a run
CHECKPOINTS = (1, 2, 3, 4, 6, 10, 15, 24, 38, 60)
OWN_TWINS = {re.sub(r"_s0$", f"_s{seed}", name) for name in TWINS.values() for seed in (0, 1)}
RUNS = {"SimCLR": "simclr_ep60_s0", "VICReg": "vicreg_ep60_s0", "supervised": "supervised_ep60_weak_s0"}


# --- what is read ---------------------------------------------------------------------------------------------


@cache
def table(name: str, probe: Probe) -> pl.DataFrame:
    """A table of bench/zoo/results: one line for each encoder."""
    path = RESULTS / f"{name}_{probe}.csv"
    if not path.is_file():
        raise SystemExit(f"{path} is missing; bench/zoo/{'seen' if name == 'seen' else 'run'}.py makes it")
    return pl.read_csv(path, infer_schema_length=None)


@cache
def line(name: str, encoder: str, probe: Probe = "logistic") -> Row:
    """The line of an encoder."""
    found = table(name, probe).filter(pl.col("encoder") == encoder)
    if len(found) != 1:
        raise SystemExit(f"{name}_{probe}.csv has {len(found)} lines of {encoder}, not one; bench/zoo/run.py makes it")
    return found.row(0, named=True)


def number(row: Row, column: str) -> float:
    return float(str(row[column]))


def points(row: Row, column: str) -> float:
    """A fraction as percent, or a difference of fractions as points."""
    return 100 * number(row, column)


# --- differences ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Difference:
    """Points by which a quantity differs, and half the width of its interval."""

    value: float
    half: float

    @property
    def sign(self) -> int:
        """-1 or 1 if the interval excludes zero, else 0."""
        return 0 if abs(self.value) <= self.half else int(math.copysign(1, self.value))

    def __str__(self) -> str:
        if not self.value and not self.half:
            return "0"
        text = f"{signed(self.value)} ± {self.half:.2f}"
        return f"**{text}**" if self.sign else text


@cache
def pairs(probe: Probe) -> dict[tuple[str, str, str], Row]:
    """The lines of the table of pairs, by encoder, base and quantity."""
    found = table("pairs", probe).iter_rows(named=True)
    return {(str(row["encoder"]), str(row["base"]), str(row["quantity"])): row for row in found}


@dataclass(frozen=True, slots=True)
class Contrast:
    """Two encoders that differ in one choice; `name` is the CSV's."""

    choice: str
    change: str
    of: str
    encoder: str
    base: str
    name: str = "zoo"

    def seed(self, number: int) -> "Contrast":
        """The same of another seed."""
        encoder, base = (re.sub(r"_s\d+$", f"_s{number}", name) for name in (self.encoder, self.base))
        return replace(self, encoder=encoder, base=base)

    def difference(self, component: str, probe: Probe = "logistic") -> Difference:
        """Encoder minus base on the same images: points, and half of an interval that covers the draw of the images."""
        row = self._row(component, probe)
        if self.is_zero(component) or not (number(row, "difference") or number(row, "se")):  # no row differs
            return Difference(0.0, 0.0)
        return Difference(points(row, "difference"), (points(row, "high") - points(row, "low")) / 2)

    def mean(self, component: str, probe: Probe = "logistic") -> Difference:
        """Mean of both seeds, and half of an interval that covers the draw of the images and that of the training.

        Its variance is the mean of the two pairs' own (the images are the same, so that it does not fall with the
        number of seeds) and half of what either training's draw gives one encoder. It is 0 ± 0 where no row differs.
        """
        if self.name == "seen":
            return self._mean_of_seen(component, probe)
        both = [self.seed(number)._row(component, probe) for number in (0, 1)]
        value = sum(points(row, "difference") for row in both) / 2
        variance = sum(points(row, "se") ** 2 for row in both) / 2
        if self.is_zero(component) or not (variance or value):
            return Difference(0.0, 0.0)
        training = sum(training_spread(component, probe, is_random(n)) ** 2 for n in (self.encoder, self.base)) / 2
        return Difference(value, NORMAL * math.sqrt(variance + training))

    def _mean_of_seen(self, component: str, probe: Probe) -> Difference:
        """Of encoders that are decomposed on the few rows that one of them saw: by their own errors, unpaired, and for
        the draw of the images alone; how far trainings spread there is not known."""
        one, other = (both_seeds(name, component, probe, source="seen") for name in (self.encoder, self.base))
        return Difference(one.value - other.value, math.hypot(one.half, other.half))

    def is_zero(self, component: str) -> bool:
        """Whether a component is 0 by definition: the usability of an encoder that is its own twin."""
        return component == "usability" and all(name in OWN_TWINS for name in (self.encoder, self.base))

    def _row(self, component: str, probe: Probe) -> Row:
        try:
            return pairs(probe)[self.encoder, self.base, component]
        except KeyError:
            raise SystemExit(
                f"pairs_{probe}.csv lacks {self.encoder} against {self.base}; bench/zoo/pairs.py makes it"
            ) from None


def is_random(encoder: str) -> bool:
    """Whether its weights are random: two draws of them differ by more than two trainings."""
    return encoder.startswith("random")


def seed_pairs(component: str, random: bool) -> list[Contrast]:
    """The pairs of seeds that show how far a component varies between trainings.

    Approximation is the twin's own; the usability of twins is 0 by definition.
    """
    if component == "approx":
        return [pair for pair in SEED_PAIRS if pair.base in TWINS.values()]
    return [p for p in SEED_PAIRS if is_random(p.encoder) == random and not p.is_zero(component)]


@cache
def training_spread(component: str, probe: Probe, random: bool) -> float:
    """Standard deviation of a component, in points, among encoders of one recipe that differ in the seed alone.

    From the differences of all pairs of seeds: half of what their squares exceed the variance that the draw of the
    images gives them.
    """
    rows = [pair._row(component, probe) for pair in seed_pairs(component, random)]
    excess = [points(row, "difference") ** 2 - points(row, "se") ** 2 for row in rows]
    return math.sqrt(max(0.0, sum(excess) / len(excess)) / 2)


@dataclass(frozen=True, slots=True)
class Mean:
    """A quantity of both seeds of a recipe: points, and half of an interval for the draw of images and training."""

    value: float
    half: float

    def __str__(self) -> str:
        return f"{plain(self.value)} ± {self.half:.2f}"


def both_seeds(name: str, component: str, probe: Probe = "logistic", source: str = "zoo") -> Mean:
    """Mean of a component over both seeds of the recipe whose first encoder is called `name`; in the table `seen` the
    interval covers the draw of the images alone."""
    rows = [line(source, re.sub(r"_s\d+$", f"_s{number}", name), probe) for number in (0, 1)]
    variance = sum(points(row, f"{component}_se") ** 2 for row in rows) / 2
    if source == "zoo" and (name not in OWN_TWINS or component != "usability"):  # which is 0 by definition
        variance += training_spread(component, probe, is_random(name)) ** 2 / 2
    return Mean(sum(points(row, component) for row in rows) / 2, NORMAL * math.sqrt(variance))


def _contrasts() -> list[Contrast]:
    found: list[Contrast] = []
    for objective in ("SimCLR", "VICReg"):
        o = objective.lower()
        for choice, change, variant in (
            ("dimension", "32 for 128", "d32"),
            ("dimension", "512 for 128", "d512"),
            ("projection head", "none for MLP", "identity"),
            ("projection head", "linear for MLP", "linear"),
            ("epochs", "5 for 20", "ep5"),
            ("epochs", "60 for 20", "ep60"),
            ("augmentations", "weak for strong", "weak"),
            ("architecture", "ResNet for convnet", "resnet"),
            ("architecture", "ViT for convnet", "vit"),
            ("share of the images", "10 % for 100 %", "share10"),
        ):
            found.append(Contrast(choice, change, objective, f"{o}_{variant}_s0", f"{o}_s0"))
    for dimension in (32, 512):
        for of, name in (("random weights", "random{}_s0"), ("supervised twin", "supervised{}_ep60_weak_s0")):
            encoder = name.format(f"_d{dimension}")
            found.append(Contrast("dimension", f"{dimension} for 128", of, encoder, name.format("")))
    for kind, variant in (
        ("convnet, 32", "_d32"),
        ("convnet, 128", ""),
        ("convnet, 512", "_d512"),
        ("ResNet, 128", "_resnet"),
        ("ViT, 128", "_vit"),
    ):
        found.append(Contrast("weights", "random for SimCLR's", kind, f"random{variant}_s0", f"simclr{variant}_s0"))
    order = list(dict.fromkeys(contrast.choice for contrast in found))
    return sorted(found, key=lambda c: (order.index(c.choice), [d.change for d in found].index(c.change)))


CONTRASTS = _contrasts()
#: the yardstick: the same recipe twice
SEED_PAIRS = [
    Contrast("seed", "1 for 0", recipe.name.removesuffix("_s0"), recipe.name.replace("_s0", "_s1"), recipe.name)
    for recipe in recipes((0,))
    if not recipe.planted
]


@dataclass(frozen=True, slots=True)
class Reading:
    """What the paper says of published encoders, and the differences here that would show it."""

    text: str
    component: str
    sign: int
    contrasts: tuple[Contrast, ...]


def _pick(change: str, *of: str) -> tuple[Contrast, ...]:
    return tuple(c for c in CONTRASTS if c.change == change and (not of or c.of in of))


def _against(encoders: Sequence[str], bases: Sequence[str]) -> tuple[Contrast, ...]:
    return tuple(Contrast("objective", "", "", f"{e}_s0", f"{b}_s0") for e in encoders for b in bases)


READINGS = [
    Reading(
        "A higher dimension lowers the usability error (512 against 128)",
        "usability",
        -1,
        _pick("512 for 128", "SimCLR", "VICReg", "random weights"),
    ),
    Reading("It raises the probe generalization error (512 against 128)", "probe_gen", 1, _pick("512 for 128")),
    Reading("Random weights cost usability", "usability", 1, _pick("random for SimCLR's")),
    Reading("MLP heads help usability (none against MLP)", "usability", 1, _pick("none for MLP")),
    Reading("MLP heads help usability (linear against MLP)", "usability", 1, _pick("linear for MLP")),
    Reading("More epochs help usability (60 against 20)", "usability", -1, _pick("60 for 20")),
    Reading("Fewer epochs cost usability (5 against 20)", "usability", 1, _pick("5 for 20")),
    Reading("Weak augmentations cost usability", "usability", 1, _pick("weak for strong")),
    Reading(
        "A tenth of the images raises the encoder generalization error", "enc_gen", 1, _pick("10 % for 100 %")
    ),
    Reading("A ViT lowers the probe generalization error", "probe_gen", -1, _pick("ViT for convnet")),
    Reading(
        "Generative and transform-prediction objectives cost usability",
        "usability",
        1,
        _against(("mae", "rotation"), ("simclr", "vicreg")),
    ),
    Reading(
        "Pretraining raises encoder generalization above that of random weights",
        "enc_gen",
        1,
        _against(("simclr", "vicreg", "barlow", "simsiam", "byol", "dino", "rotation", "mae"), ("random",)),
    ),
]  # fmt: skip


def every_contrast() -> list[Contrast]:
    """All pairs of encoders that the page compares on the same rows."""
    found = list(SEED_PAIRS)
    chosen = [*CONTRASTS, *(c for reading in READINGS for c in reading.contrasts)]
    chosen += [_planted(base, variant) for base, variant in PLANTED]
    found += [c.seed(number) for c in chosen for number in (0, 1)]
    for run in RUNS.values():
        names = [f"{run}_e{epoch}" for epoch in CHECKPOINTS[:-1]] + [run]
        steps = [*pairwise(names), (names[0], names[4]), (names[4], names[-1])]
        found += [Contrast("epoch", "", run, later, earlier, "training") for earlier, later in steps]
    return found


def verdict(reading: Reading, probe: Probe = "logistic") -> tuple[int, int, int]:
    """How many intervals lie on the reading's side of zero, on the other side, and across it."""
    signs = [c.mean(reading.component, probe).sign * reading.sign for c in reading.contrasts]
    return signs.count(1), signs.count(-1), signs.count(0)


# --- ranks ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tau:
    """Kendall's τ_b with a percentile interval by bootstrap over encoders."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{signed(self.value)} [{signed(self.low)}, {signed(self.high)}]"


def kendall(x: Sequence[float], y: Sequence[float], clusters: Sequence[str] | None = None) -> Tau:
    """Rank agreement; pairs of an encoder with itself in a resample count neither for nor against.

    With `clusters`, one for each encoder, whole clusters are drawn. Resamples come from the raw stream of PCG64, which
    NumPy keeps from version to version.
    """
    a, b = (np.sign(np.subtract.outer(v, v)) for v in (np.asarray(x, float), np.asarray(y, float)))
    n = len(a)
    _, of = np.unique(np.arange(n) if clusters is None else list(clusters), return_inverse=True)
    m = int(of.max()) + 1
    draws = (np.random.PCG64(0).random_raw(RESAMPLES * m) % m).reshape(RESAMPLES, m).astype(np.int64)
    weights = np.stack([np.bincount(draw, minlength=m) for draw in [np.arange(m), *draws]])[:, of].astype(float)
    agree, of_a, of_b = (((weights @ matrix) * weights).sum(1) for matrix in (a * b, a * a, b * b))
    with np.errstate(invalid="ignore"):
        taus = agree / np.sqrt(of_a * of_b)
    low, high = np.nanpercentile(taus[1:], [2.5, 97.5])
    return Tau(float(taus[0]), float(low), float(high), n)


def paired(frame: pl.DataFrame, other: pl.DataFrame, x: str, y: str) -> Tau:
    """τ of a column with another table's column over the encoders that have both; whole recipes are resampled, so that
    two seeds of one count once; checkpoints of a run count each for itself."""
    joined = frame.select("encoder", "recipe", pl.col(x).alias("x")).join(
        other.select("encoder", pl.col(y).alias("y")), "encoder"
    )
    joined = joined.drop_nulls()
    recipe = pl.col("recipe").str.replace(r"_s\d+$", "")
    along = joined["recipe"].n_unique() == 1
    clusters = joined["encoder"] if along else joined.select(recipe).to_series()
    return kendall(joined["x"].to_list(), joined["y"].to_list(), clusters.to_list())


# --- tables ---------------------------------------------------------------------------------------------------


def signed(value: float) -> str:
    """Two digits and a sign; a typographic minus, none for zero."""
    text = f"{value:+.2f}"
    return "0.00" if float(text) == 0 else text.replace("-", "−")


def plain(value: float) -> str:
    """Two digits, a minus where it is negative."""
    return signed(value).removeprefix("+")


def within(row: Row, column: str) -> str:
    """A value with half the width of its interval, in points."""
    half = (points(row, f"{column}_high") - points(row, f"{column}_low")) / 2
    return f"{plain(points(row, column))} ± {half:.2f}"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> str:
    """A table whose first `words` columns are text and whose others are numbers."""
    rule = ["---" if i < words else "--:" for i in range(len(header))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, rule, *rows])


def readings() -> str:
    rows = []
    for reading in READINGS:
        yes, no, open_ = verdict(reading)
        n = yes + no + open_
        differences = [c.mean(reading.component) for c in reading.contrasts]
        values = [signed(d.value) for d in differences]
        shown = ", ".join(values) if n <= 5 else f"{min(values, key=_value)} to {max(values, key=_value)}"
        answer = "yes" if yes == n else "the opposite" if no == n else "not shown" if yes == 0 else "in part"
        counts = f"{yes} of {n}" + (f", {no} the other way" if no else "")
        rows.append([reading.text, f"**{answer}**", counts, f"{NAMES[reading.component]} {shown}"])
    found = [both_seeds(name, "approx") for name in TWINS.values()]
    small = sum(mean.value + mean.half < 100 * NEAR_ZERO for mean in found)
    approximations = ", ".join(plain(mean.value) for mean in found)
    rows.append(["The rank with few labels follows probe generalization", *few_labels_verdict()])
    text = f"A supervised twin has near-zero approximation (below {100 * NEAR_ZERO:.0f} point)"
    answer = "no" if small == 0 else "yes" if small == len(found) else "in part"
    rows.append([text, f"**{answer}**", f"{small} of {len(found)}", f"approximation {approximations}"])
    return markdown(["reading", "here", "intervals that show it", "differences, points"], rows, 4)


def _value(text: str) -> float:
    return float(text.replace("−", "-"))


def choices() -> str:
    rows = [[c.choice, c.change, c.of, *(str(c.mean(component)) for component in NAMES)] for c in CONTRASTS]
    return markdown(["choice", "change", "of", *NAMES.values()], rows, 3)


def seeds() -> str:
    """The yardstick: how far encoders of one recipe lie apart."""
    rows = []
    for label, random in (("trained", False), ("random weights", True)):
        for component, name in NAMES.items():
            if random and component == "approx":  # that of the twins, which are trained
                continue
            found = seed_pairs(component, random)
            lines = [pair._row(component, "logistic") for pair in found]
            differences = [points(row, "difference") for row in lines]
            errors = [points(row, "se") for row in lines]
            outside = sum(pair.difference(component).sign != 0 for pair in found)
            mean = signed(sum(differences) / len(differences))
            numbers = [_root_mean_square(differences), max(map(abs, differences)), _root_mean_square(errors)]
            spread = training_spread(component, "logistic", random)
            rows.append([label, name, str(len(found)), mean, *(plain(v) for v in (*numbers, spread)), str(outside)])
    header = ["recipes", "component", "pairs", "mean, second − first", "root mean square", "largest", "by the images"]
    return markdown([*header, "spread of a training (sd)", "intervals without zero"], rows, 2)


def _root_mean_square(values: Sequence[float]) -> float:
    return math.sqrt(sum(v * v for v in values) / len(values))


def dimensions() -> str:
    rows = []
    for of, name in (("SimCLR", "simclr{}_s0"), ("VICReg", "vicreg{}_s0"), ("random weights", "random{}_s0")):
        for dimension, part in ((32, "_d32"), (128, ""), (512, "_d512")):
            middles = []
            for seed in (0, 1):
                row = line("zoo", name.format(part).replace("_s0", f"_s{seed}"))
                middle, twin = points(row, "risk_af_midpoint"), line("zoo", str(row["supervised_twin"]))
                middles.append((middle - points(twin, "risk_af_midpoint"), points(row, "risk_as") - middle))
            numbers = [
                *(str(both_seeds(name.format(part), c)) for c in ("usability", "probe_gen", "agg_risk")),
                *(plain(sum(values) / 2) for values in zip(*middles, strict=True)),
            ]
            rows.append([of, str(dimension), *numbers])
    header = ["encoder", "dimension", "usability", "probe generalization", "aggregated risk"]
    return markdown([*header, "usability by midpoints", "probe generalization by midpoint"], rows)


OBJECTIVES = {
    "simclr": "SimCLR", "vicreg": "VICReg", "barlow": "Barlow Twins", "simsiam": "SimSiam", "byol": "BYOL",
    "dino": "DINO", "rotation": "rotation", "mae": "masked autoencoder", "supervised": "supervised",
    "random": "random weights",
}  # fmt: skip


def objectives() -> str:
    means = {name: [both_seeds(f"{name}_s0", c) for c in list(NAMES)[1:]] for name in OBJECTIVES}
    ordered = sorted(means, key=lambda name: means[name][-1].value)
    rows = [[OBJECTIVES[name], *map(str, means[name])] for name in ordered]
    return markdown(["objective", *list(NAMES.values())[1:]], rows)


def twins() -> str:
    rows = []
    for label, name in TWINS.items():
        ours = name.replace("supervised", "simclr").replace("_ep60_weak", "")
        share = f"{100 * both_seeds(name, 'approx').value / both_seeds(ours, 'agg_risk').value:.0f} %"
        numbers = [str(both_seeds(name, c)) for c in ("approx", "probe_gen", "enc_gen", "agg_risk")]
        rows.append([label, f"{int(number(line('zoo', name), 'n_parameters')):,}", *numbers, share])
    header = ["supervised twin", "parameters", *(NAMES[c] for c in ("approx", "probe_gen", "enc_gen", "agg_risk"))]
    return markdown([*header, "approximation in SimCLR's risk"], rows)


def planted() -> str:
    """What was planted, what must be seen, what was seen, by probe."""
    supervised, simclr, vicreg = "supervised_ep60_weak", "simclr", "vicreg"
    rows: list[list[str]] = []
    for text, component, sign, contrast in (
        ("supervised, test images too", "enc_gen", -1, _planted(supervised, "test_images")),
        ("SimCLR, test images too", "enc_gen", -1, _planted(simclr, "test_images")),
        ("supervised, a tenth of the images, probe on all rows", "enc_gen", 1, _planted(supervised, "tenth")),
        ("the same", "usability", 1, _planted(supervised, "tenth")),
        ("supervised, a tenth, probe on the rows it saw", "enc_gen", 1, _seen(supervised, "tenth")),
        ("SimCLR, a tenth, probe on the rows it saw", "enc_gen", 1, _seen(simclr, "share10")),
        ("VICReg, a tenth, probe on the rows it saw", "enc_gen", 1, _seen(vicreg, "share10")),
        ("supervised by shuffled labels", "usability", 1, _planted(supervised, "shuffled_labels")),
    ):
        both: list[Difference] = [contrast.mean(component, p) for p in ("logistic", "ridge")]
        wanted = f"{NAMES[component]} {'rises' if sign > 0 else 'falls'}"
        rows.append([text, wanted, *(str(d) for d in both), _found(both[0].sign * sign)])
    row = {p: line("planted", "simclr_s0-shuffled_twin", p) for p in ("logistic", "ridge")}
    below = number(row["logistic"], "usability_high") < 0
    values = [within(row[p], "usability") for p in ("logistic", "ridge")]
    rows.append(["a twin of shuffled labels", "usability is negative", *values, "**found**" if below else "not found"])
    row = {p: line("planted", "simsiam_collapsed_s0", p) for p in ("logistic", "ridge")}
    # the mean of ten classes' errors is 0.9 but for the rounding of doubles
    chance = all(abs(number(r, "agg_risk") - 0.9) < 1e-9 and r["constant_features"] == r["z_dim"] for r in row.values())
    values = [f"{points(row[p], 'agg_risk'):.2f}" for p in ("logistic", "ridge")]
    rows.append(
        [
            "a collapsed encoder",
            "risk is 90, all features are constant",
            *values,
            "**found**" if chance else "not found",
        ]
    )
    return markdown(["planted", "must be seen", "logistic", "ridge", "by the logistic probe"], rows, 2)


def _found(side: int) -> str:
    return {1: "**found**", 0: "not found", -1: "the opposite"}[side]


def _planted(base: str, variant: str) -> Contrast:
    return Contrast("planted", variant, base, f"{base}_{variant}_s0", f"{base}_s0", "planted")


def _seen(base: str, variant: str) -> Contrast:
    return Contrast("seen", variant, base, f"{base}_{variant}_s0", f"{base}_s0", "seen")


def seen() -> str:
    labels = {
        "supervised_ep60_weak_tenth_s0": "supervised, saw these rows only",
        "supervised_ep60_weak_s0": "supervised, saw all",
        "simclr_share10_s0": "SimCLR, saw these rows only",
        "simclr_s0": "SimCLR, saw all",
        "vicreg_share10_s0": "VICReg, saw these rows only",
        "vicreg_s0": "VICReg, saw all",
        "random_s0": "random weights",
    }
    rows = []
    for name, label in labels.items():
        rows.append([label, *(str(both_seeds(name, c, source="seen")) for c in NAMES)])
    return markdown([f"{int(number(line('seen', 'simclr_s0'), 'n_train')):,} rows", *NAMES.values()], rows)


def generalization() -> str:
    """Encoder generalization by kind of encoder: mean and range."""
    rows = []
    frame = table("zoo", "logistic")
    kinds: list[tuple[str, pl.Expr]] = [
        ("random weights", pl.col("objective") == "random"),
        ("self-supervised", ~pl.col("objective").is_in(["random", "supervised"])),
        ("supervised, 20 epochs", pl.col("recipe").str.replace(r"_s\d$", "") == "supervised"),
        ("supervised twins, 60 epochs", (pl.col("objective") == "supervised") & (pl.col("epochs") == 60)),
    ]
    for label, which in kinds:
        values = frame.filter(which)
        found = (100 * values["enc_gen"]).to_list()
        cells = [len(found), plain(sum(found) / len(found)), plain(min(found)), plain(max(found))]
        error = f"{float(np.median(100 * values['enc_gen_se'].to_numpy())):.2f}"
        rows.append([label, *(str(cell) for cell in cells), error])
    return markdown(["encoders", "n", "mean", "least", "greatest", "median standard error"], rows)


def pairing() -> str:
    """Standard errors of paired differences, in units of those of encoders that are judged on different rows."""
    rows = []
    alike = [c for c in CONTRASTS if c.choice not in ("weights", "architecture")]
    groups: list[tuple[str, list[Contrast]]] = [
        ("two seeds of a recipe", [p for p in SEED_PAIRS if not is_random(p.encoder)]),
        ("one choice differs", [c.seed(number) for c in alike for number in (0, 1)]),
        ("another architecture", [c.seed(n) for c in CONTRASTS if c.choice == "architecture" for n in (0, 1)]),
        ("random weights against trained", [c.seed(n) for c in CONTRASTS if c.choice == "weights" for n in (0, 1)]),
    ]
    components = list(NAMES)[1:]
    for label, found in groups:
        cells = []
        for component in components:
            ratios = []
            for c in found:
                own = [points(line("zoo", name), f"{component}_se") for name in (c.encoder, c.base)]
                if (together := math.hypot(*own)) > 0:
                    ratios.append(points(c._row(component, "logistic"), "se") / together)
            cells.append(f"{float(np.median(ratios)):.2f}")
        rows.append([label, str(len(found)), *cells])
    return markdown(["pairs", "n", *(NAMES[c] for c in components)], rows)


SHOTS = {"3": "3 labels of each class", "5": "5", "30": "30", "1%": "60 (1 %)"}


def few_labels() -> str:
    """How the rank by risk at few labels goes with components at all labels."""
    frame = clustered(table("zoo", "logistic"))
    rows = []
    for size, label in SHOTS.items():
        risk = frame[f"agg_risk@{size}"]
        cells = [str(few_tau(f"agg_risk@{size}", c)) for c in ("agg_risk", "usability", "probe_gen", DIMENSION)]
        rows.append([label, f"{100 * float(np.median(risk)):.1f}", *cells])
    header = ["labels", "median risk, %", "aggregated risk at all labels", "usability", "probe generalization"]
    return markdown([*header, "dimension"], rows)


def few_moves() -> str:
    """How the rank changes from all labels to few, and what goes with the change."""
    rows = []
    for size, label in SHOTS.items():
        cells = [str(few_tau(f"change@{size}", c)) for c in ("usability", "probe_gen", DIMENSION, f"probe_gen@{size}")]
        rows.append([label, *cells])
    header = ["labels", "usability", "probe generalization", "dimension", "probe generalization at these labels"]
    return markdown(header, rows)


def clustered(frame: pl.DataFrame) -> pl.DataFrame:
    """With the recipe without its seed as `cluster`, and what each risk at few labels exceeds that at all."""
    frame = frame.with_columns(pl.col("recipe").str.replace(r"_s\d+$", "").alias("cluster"))
    sizes = [size for size in SHOTS if f"agg_risk@{size}" in frame.columns]
    return frame.with_columns((pl.col(f"agg_risk@{s}") - pl.col("agg_risk")).alias(f"change@{s}") for s in sizes)


@cache
def few_tau(x: str, y: str) -> Tau:
    """τ over all encoders, whole recipes resampled."""
    frame = clustered(table("zoo", "logistic")).select("cluster", pl.col(x).alias("x"), pl.col(y).alias("y"))
    frame = frame.drop_nulls()
    return kendall(frame["x"].to_list(), frame["y"].to_list(), frame["cluster"].to_list())


def few_labels_verdict() -> list[str]:
    """Cells of the table of readings."""
    taus = [few_tau(f"agg_risk@{size}", "probe_gen") for size in SHOTS]
    yes, no = sum(tau.low > 0 for tau in taus), sum(tau.high < 0 for tau in taus)
    n = len(taus)
    answer = "yes" if yes == n else "the opposite" if no == n else "not shown" if yes == 0 else "in part"
    counts = f"{yes} of {n}" + (f", {no} the other way" if no else "")
    return [f"**{answer}**", counts, "τ " + ", ".join(signed(tau.value) for tau in taus)]


def checkpoints(run: str, probe: Probe = "logistic") -> list[Row]:
    """The ten checkpoints of a run, by epoch."""
    frame = table("training", probe).filter(pl.col("recipe") == RUNS[run]).sort("checkpoint_epoch")
    return list(frame.iter_rows(named=True))


def training() -> str:
    shown = {"usability": "usability", "probe_gen": "probe", "enc_gen": "encoder", "agg_risk": "risk"}
    runs = {name: checkpoints(name) for name in RUNS}
    rows = []
    for at in zip(*runs.values(), strict=True):
        epochs = {str(row["checkpoint_epoch"]) for row in at}
        assert len(epochs) == 1, "the runs keep the same epochs"
        rows.append([epochs.pop(), *(plain(points(row, c)) for row in at for c in shown)])
    widest = [f"{max(_half(row, c) for row in found):.2f}" for found in runs.values() for c in shown]
    rows.append(["widest ±", *widest])
    header = [
        "epoch",
        *(f"{name}: {label}" if label == "usability" else label for name in runs for label in shown.values()),
    ]
    return markdown(header, rows)


def _half(row: Row, column: str) -> float:
    return (points(row, f"{column}_high") - points(row, f"{column}_low")) / 2


def moves() -> str:
    rows = []
    for name, run in RUNS.items():
        found = checkpoints(name)
        last = [str(row["encoder"]) for row in (found[0], found[4], found[-1])]
        for label, one, other in (("epoch 1 to 6", last[1], last[0]), ("epoch 6 to 60", last[2], last[1])):
            change = Contrast("epoch", label, run, one, other, "training")
            rows.append([name, label, *(str(change.difference(c)) for c in list(NAMES)[1:])])
    return markdown(["run", "from, to", *list(NAMES.values())[1:]], rows, 2)


def ranks() -> str:
    """Agreement of the probes, beside what there is to rank: the spread of values and their standard error."""
    logistic, ridge = table("zoo", "logistic"), table("zoo", "ridge")
    own = pl.col("encoder") == pl.col("supervised_twin")
    supervised = pl.col("objective") == "supervised"
    rows = []
    for label, component, kept in (
        ("approximation (the twins)", "approx", own),
        ("usability (without the twins)", "usability", ~own),
        ("probe generalization", "probe_gen", pl.lit(True)),
        ("encoder generalization", "enc_gen", pl.lit(True)),
        ("encoder generalization, no supervised encoders", "enc_gen", ~supervised),
        ("aggregated risk", "agg_risk", pl.lit(True)),
    ):
        a, b = logistic.filter(kept), ridge.filter(kept)
        tau = paired(a, b, component, component)
        by_encoder = b.select("encoder", pl.col(component).alias("ridge"))
        gap = float(a.join(by_encoder, "encoder").select((pl.col("ridge") - pl.col(component)).median()).item())
        spread, error = (float(np.asarray(v)) for v in (a[component].std(), a[f"{component}_se"].median()))
        rows.append([label, str(tau.n), str(tau), *(f"{100 * v:.2f}" for v in (spread, error)), signed(100 * gap)])
    header = ["quantity", "n", "Kendall τ [95 %]", "spread (sd)", "median standard error", "ridge − logistic, median"]
    return markdown(header, rows)


def label_free() -> str:
    frame, along = table("zoo", "logistic"), table("training", "logistic")
    groups: list[tuple[str, str, pl.DataFrame]] = []
    for objective in ("simclr", "vicreg"):
        label = {"simclr": "SimCLR", "vicreg": "VICReg"}[objective]
        own = frame.filter(pl.col("objective") == objective)
        groups.append((f"last loss, {label} recipes", "final_loss", own))
        same = own.filter(pl.col("augmentation_strength") == "strong")
        groups.append((f"last loss, {label} recipes with strong augmentations", "final_loss", same))
        groups.append((f"last loss, along {label}'s run", "final_loss", along.filter(pl.col("recipe") == RUNS[label])))
    groups.append(("test error of the quick ridge probe (with labels)", "check_error", frame))
    rows = []
    for label, column, of in groups:
        taus = [paired(of, of, column, c) for c in ("agg_risk", "usability")]
        rows.append([label, str(taus[0].n), *(str(tau) for tau in taus)])
    return markdown(["ranked by", "n", "τ with aggregated risk", "τ with usability"], rows)


# --- statistics of the representations


@cache
def measured() -> pl.DataFrame:
    """The zoo's table with statistics, for the encoders that have them, and the recipe without the seed."""
    path = RESULTS / "zoo_statistics.csv"
    if not path.is_file():
        raise SystemExit(f"{path} is missing; bench/zoo/geometry.py makes it")
    joined = table("zoo", "logistic").join(pl.read_csv(path, infer_schema_length=None), "encoder")
    return joined.with_columns(pl.col("recipe").str.replace(r"_s\d+$", "").alias("cluster"))


#: what encoders are ranked by beside the statistics: how many features they have
DIMENSION = "z_dim"
_PARTS = ("approx", "usability", "probe_gen", "enc_gen")
_OWN_TWIN = pl.col("encoder") == pl.col("supervised_twin")
_SELF_SUPERVISED = ~pl.col("objective").is_in(["random", "supervised"])
_ONE_SHAPE = _SELF_SUPERVISED & (pl.col("architecture") == "convnet") & (pl.col("z_dim") == 128)


def statistic_tau(statistic: str, component: str, kept: pl.Expr | None = None) -> Tau:
    """τ of a statistic with a component over encoders; whole recipes are resampled."""
    frame = measured() if kept is None else measured().filter(kept)
    frame = frame.select("cluster", pl.col(statistic).alias("x"), pl.col(component).alias("y")).drop_nulls()
    return kendall(frame["x"].to_list(), frame["y"].to_list(), frame["cluster"].to_list())


def ranked() -> dict[str, tuple[str, int]]:
    """What encoders are ranked by: its label, and the sign of τ with an error that its authors expect, 0 for none."""
    from ssl_risk_rs.geometry import STATISTICS, Direction

    signs = {Direction.LARGER: -1, Direction.SMALLER: 1, Direction.NEITHER: 0}
    found = {name: (s.label, signs[s.better]) for name, s in STATISTICS.items()}
    return {DIMENSION: ("dimension", 0), **found}


def statistic_ranks() -> str:
    """τ of every statistic with the aggregated risk and each component."""
    rows = []
    for name, (label, expected) in ranked().items():
        taus = [statistic_tau(name, c, ~_OWN_TWIN if c == "usability" else None) for c in ("agg_risk", *_PARTS)]
        rows.append([label, {-1: "−", 1: "+", 0: ""}[expected], *(_marked(tau) for tau in taus)])
    whole, without = measured().height, measured().filter(~_OWN_TWIN).height
    header = [f"{NAMES[c]}, n = {without if c == 'usability' else whole}" for c in ("agg_risk", *_PARTS)]
    return markdown(["statistic", "expected", *header], rows, 2)


def statistic_subsets() -> str:
    """τ of every statistic with the aggregated risk among ever more alike encoders."""
    rows = []
    subsets = {
        "all": None,
        "self-supervised": _SELF_SUPERVISED,
        "self-supervised convnets of 128 dimensions": _ONE_SHAPE,
    }
    for name, (label, expected) in ranked().items():
        if name == DIMENSION:  # constant in the last of them
            continue
        taus = [statistic_tau(name, "agg_risk", kept) for kept in subsets.values()]
        rows.append([label, *(_marked(tau) for tau in taus), _held(taus, expected)])
    counts = [(measured() if kept is None else measured().filter(kept)).height for kept in subsets.values()]
    header = [f"{name}, n = {n}" for name, n in zip(subsets, counts, strict=True)]
    return markdown(["statistic", *header, "as its authors expect"], rows, 1)


def _marked(tau: Tau) -> str:
    return f"**{tau}**" if tau.low > 0 or tau.high < 0 else str(tau)


def _held(taus: Sequence[Tau], expected: int) -> str:
    """Whether the intervals lie on the expected side of zero."""
    if not expected:
        return "no expectation"
    sides = [1 if tau.low > 0 else -1 if tau.high < 0 else 0 for tau in taus]
    right, wrong = (sum(side == sign for side in sides) for sign in (expected, -expected))
    if right and wrong:
        return "both ways"
    if right:
        return f"in {right} of {len(sides)}"
    return f"the opposite in {wrong}" if wrong else "not shown"


BLOCKS: dict[str, Callable[[], str]] = {
    "readings": readings,
    "dimensions": dimensions,
    "twins": twins,
    "seeds": seeds,
    "few_labels": few_labels,
    "few_moves": few_moves,
    "choices": choices,
    "objectives": objectives,
    "planted": planted,
    "seen": seen,
    "generalization": generalization,
    "training": training,
    "moves": moves,
    "label_free": label_free,
    "statistic_ranks": statistic_ranks,
    "statistic_subsets": statistic_subsets,
    "ranks": ranks,
    "pairing": pairing,
}


# --- the page -------------------------------------------------------------------------------------------------

MARKED = re.compile(r"<!-- begin (\w+) -->\n.*?<!-- end \1 -->", re.DOTALL)


def filled(page: str) -> str:
    """The page with every marked block computed anew.

    Raises
    ------
    SystemExit if a block has no table here, or a table no block.
    """
    names = [match.group(1) for match in MARKED.finditer(page)]
    if sorted(names) != sorted(BLOCKS):
        wrong = sorted(set(names) ^ set(BLOCKS)) or sorted(name for name in names if names.count(name) > 1)
        raise SystemExit(f"the page's marked blocks and the tables differ: {', '.join(wrong)}")

    def block(match: re.Match[str]) -> str:
        name = match.group(1)
        return f"<!-- begin {name} -->\n{BLOCKS[name]()}\n<!-- end {name} -->"

    return MARKED.sub(block, page)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, metavar="PAGE", help="replace the marked blocks of this page")
    options = parser.parse_args(arguments)
    if options.write is None:
        for name, make in BLOCKS.items():
            print(f"## {name}\n\n{make()}\n")
        return 0
    options.write.write_text(filled(options.write.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
