"""Coverage of the 95 % intervals of `decompose`, by simulation with known truth.

Features are drawn from a known distribution (the encoder is fixed), fresh in every replicate with the same class
counts, or with the same number of groups; the whole strict protocol runs on each draw, tuning and supervised twin
included. The truth of a risk is its expectation over such draws, from draws of its own: the probes of each are
judged on a large fresh sample (R_AS, R_CS, R_US), or on their own training rows, as their risk is defined (R_AF,
R_ΦF). Where rows come in groups, intervals that ignore the groups are counted beside. Rows of the table are
replaced by (world, probe, estimator, intervals); docs/coverage.md explains the columns.

    python bench/coverage_risks.py --replicates 300 --out bench/results/coverage.csv
    python bench/coverage_risks.py --worlds groups_40_pure --probes ridge --estimator reference
"""

import argparse
import csv
import importlib.metadata
import importlib.util
import os
import platform
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import numpy as np

Probe = Literal["ridge", "logistic"]

RISKS = ("risk_sup", "risk_af", "risk_as", "risk_cs", "risk_us")
#: signs of RISKS in each component; `approx` and `agg_risk` are other names of `risk_sup` and `risk_us`
COMPONENTS: dict[str, tuple[int, ...]] = {
    "usability": (-1, 1, 0, 0, 0),
    "probe_gen": (0, -1, 1, 0, 0),
    "enc_gen": (0, 0, -1, 0, 1),
    "enc_gen_equal_labels": (0, 0, -1, 1, 0),
    "label_count": (0, 0, 0, -1, 1),
}
QUANTITIES = (*RISKS, *COMPONENTS)
SIGNS: dict[str, tuple[int, ...]] = {
    **{risk: tuple(int(risk == other) for other in RISKS) for risk in RISKS},
    **COMPONENTS,
}
COLUMNS = (
    "world", "probe", "estimator", "intervals", "quantity", "replicates", "truth", "truth_se", "mean", "bias",
    "bias_se", "mean_se", "sd", "se_ratio", "coverage", "coverage_se", "below", "above", "median_width", "marked",
    "no_interval",
)  # fmt: skip
KEY = COLUMNS[:5]
#: rows of the fresh sample that the probes of a truth draw are judged on
FRESH_ROWS = 20_000
GROUP_ROWS = 20
#: number of the first test group
TEST_GROUPS = 1_000_000


# --- worlds ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rows:
    """Features (n, d), twin features (n, d'), classes (n,) and, in worlds of groups, the group of each row."""

    x: np.ndarray
    twin: np.ndarray
    y: np.ndarray
    groups: np.ndarray | None


Features = Callable[[np.random.Generator, np.ndarray, np.ndarray | None, bool], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class World:
    """Class counts, or numbers of groups, and the distribution of features given classes and groups."""

    name: str
    features: Features
    train: tuple[int, ...]  # rows of each class; in worlds of groups, (number of groups,)
    test: tuple[int, ...]
    kind: Literal["rows", "pure", "mixed"] = "rows"
    n_group_classes: int = 4
    group_rows: int = GROUP_ROWS

    def draw(self, rng: np.random.Generator, test: bool, fresh: bool = False) -> Rows:
        """Training or test rows; `fresh`: about 20,000 rows of that distribution."""
        counts = np.array(self.test if test else self.train)
        groups = None
        if self.kind == "rows":
            if fresh:
                counts = np.full(len(counts), max(1, FRESH_ROWS // len(counts)))
            y = np.repeat(np.arange(len(counts)), counts)
        else:
            n_groups = FRESH_ROWS // self.group_rows if fresh else int(counts[0])
            groups = np.repeat(np.arange(n_groups), self.group_rows)
            if self.kind == "pure":
                y = groups % self.n_group_classes
            else:
                shares = rng.dirichlet(np.ones(self.n_group_classes), n_groups)
                y = np.concatenate([rng.choice(self.n_group_classes, self.group_rows, p=p) for p in shares])
        x, twin = self.features(rng, y, groups, test)
        if groups is not None and test:
            groups = groups + TEST_GROUPS  # no group is in both sets
        return Rows(x.astype(np.float32), twin.astype(np.float32), y, groups)

    def test_shares(self, fresh: np.ndarray) -> np.ndarray:
        """Class shares that R_US and R_CS weigh classes with: the fixed counts, or those of all groups."""
        if self.kind == "rows":
            return np.array(self.test) / sum(self.test)
        return np.bincount(fresh, minlength=self.n_group_classes) / len(fresh)


def _means(seed: int, *shape: int) -> np.ndarray:
    """Fixed centres: part of the distribution, never of a replicate."""
    return np.random.default_rng(seed).standard_normal(shape)


def gauss(rng: np.random.Generator, y: np.ndarray, groups: object, test: bool) -> tuple[np.ndarray, np.ndarray]:
    """Two overlapping unit Gaussians for each class, 12 features; no difference between train and test."""
    centre = 0.85 * _means(1, 4, 2, 12)[y, rng.integers(0, 2, len(y))]
    noise, own = rng.standard_normal((2, len(y), 12))
    # the twin sees the same row, farther from the other classes, through partly the same noise
    return centre + noise, 1.3 * centre + 0.7 * noise + 0.7 * own


def relu(rng: np.random.Generator, y: np.ndarray, groups: object, test: bool) -> tuple[np.ndarray, np.ndarray]:
    """16 ReLU features of classes with heavy tails (Student t, 3 degrees of freedom) in 6 dimensions."""
    latent = 1.5 * _means(2, 5, 6)[y]
    noise = rng.standard_t(3, (len(y), 6))
    weights, offset = _means(3, 6, 16), 0.5 * _means(4, 16)
    own = np.maximum(latent @ weights + noise @ weights + offset, 0)
    twin = np.maximum(1.25 * latent @ weights + noise @ weights + offset, 0)
    return own, twin


def shift(rng: np.random.Generator, y: np.ndarray, groups: object, test: bool) -> tuple[np.ndarray, np.ndarray]:
    """Unequal classes whose rows lie closer together in training than in the test set, 10 features."""
    centre = 0.55 * _means(5, 3, 10)[y]
    noise, own = rng.standard_normal((2, len(y), 10))
    scale = 1.0 if test else 0.8
    return centre + scale * noise, 1.2 * centre + scale * (0.8 * noise + 0.6 * own)


def moved(rng: np.random.Generator, y: np.ndarray, groups: object, test: bool) -> tuple[np.ndarray, np.ndarray]:
    """Correlated features that are all paler and lighter in the test set, as images of another camera are: how far a
    probe errs there depends on weights of directions in which training rows hardly vary, and so on the sample."""
    rows = (0.4 * _means(8, 5, 24)[y] + rng.standard_normal((len(y), 24))) * np.geomspace(2.0, 0.05, 24)
    mixed = rows @ _means(9, 24, 24)
    seen = 0.8 * mixed + 0.25 if test else mixed
    return seen, seen + rng.standard_normal((len(y), 24))


def wide(rng: np.random.Generator, y: np.ndarray, groups: object, test: bool) -> tuple[np.ndarray, np.ndarray]:
    """48 Laplace features, most of them noise: a probe that pays for its few labels."""
    centre = np.zeros((len(y), 48))
    centre[:, :12] = _means(6, 6, 12)[y]
    noise, own = rng.laplace(size=(2, len(y), 48))
    return centre + noise, 1.2 * centre + 0.7 * noise + 0.7 * own


def many(n_classes: int, n_features: int, spread: float, uneven: bool = False) -> Features:
    """Unit Gaussians around random centres; `uneven`: every second class lies twice as far out."""
    centres = spread * _means(7, n_classes, n_features)
    if uneven:
        centres[::2] *= 2

    def draw(rng: np.random.Generator, y: np.ndarray, groups: object, test: bool) -> tuple[np.ndarray, np.ndarray]:
        noise, own = rng.standard_normal((2, len(y), n_features))
        return centres[y] + noise, 1.2 * centres[y] + 0.7 * noise + 0.7 * own

    return draw


def grouped(n_features: int, spread: float) -> Features:
    """Four classes; all rows of a group are moved together, by 0.7 of the noise in each feature."""

    def draw(rng: np.random.Generator, y: np.ndarray, groups: object, test: bool) -> tuple[np.ndarray, np.ndarray]:
        number = np.asarray(groups)
        centre = spread * _means(8, 4, n_features)[y]
        moved = 0.7 * rng.standard_normal((number.max() + 1, n_features))[number]
        noise, own = rng.standard_normal((2, len(y), n_features))
        return centre + moved + noise, 1.2 * centre + moved + 0.7 * noise + 0.7 * own

    return draw


WORLDS = {
    w.name: w
    for w in (
        World("gauss", gauss, (375,) * 4, (100,) * 4),
        World("relu", relu, (320,) * 5, (90,) * 5),
        World("shift", shift, (600, 360, 240), (150, 90, 60)),
        World("moved", moved, (80,) * 5, (80,) * 5),
        World("wide", wide, (250,) * 6, (75,) * 6),
        World("fifty", many(50, 32, 0.55), (40,) * 50, (10,) * 50),
        World("scarce", many(10, 16, 0.55), (40,) * 10, (200,) * 10),
        World("one_row", many(60, 12, 1.0), (20,) * 60, (1,) * 60),
        World("one_row_uneven", many(60, 12, 0.8, uneven=True), (20,) * 60, (1,) * 60),
        World("one_row_wide", many(80, 24, 0.75), (20,) * 80, (1,) * 80),
        # sizes of a power law; the last classes have two training rows
        World(
            "long_tail",
            many(60, 16, 0.7),
            *(tuple(n * max(1, round(200 / c**1.3)) for c in range(1, 61)) for n in (2, 1)),
        ),
        # a logistic probe separates the training rows of every third sample: for logistic probes
        World("edge", many(10, 50, 0.33), (60,) * 10, (40,) * 10),
        *(
            World(f"groups_{n}_{kind}", grouped(8, 0.75), (n,), (n // 2,), kind)  # type: ignore[arg-type]
            for n in (150, 40, 20)
            for kind in ("pure", "mixed")
        ),
        # as many features as rows: probes next to interpolate at any weak penalty, and the best is a strong one
        World("interpolated", many(4, 384, 0.1), (100,) * 4, (100,) * 4),
        # folds have equal classes, and complements, which lack whole groups, have not
        World("groups_100_wide", grouped(60, 0.3), (100,), (50,), "pure", group_rows=10),
        # few rows for each feature, as many test as training rows; too small to be part of a run by default
        World("crowded", wide, (70,) * 6, (70,) * 6),
    )
}
DEFAULT_WORLDS = [
    name for name in WORLDS if name not in ("crowded", "edge", "moved", "interpolated", "groups_100_wide")
]


# --- estimators -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judged:
    """One decomposition: a row (estimate, se, low, high, marked) for each quantity, and what truth needs."""

    table: np.ndarray  # (quantities, 5), low and high nan where there is no interval
    alpha: float
    subsets: list[np.ndarray]  # training row numbers of each


Estimator = Callable[[Rows, Rows, Probe, int, bool], Judged]
Predict = Callable[[np.ndarray], np.ndarray]
Fitter = Callable[[np.ndarray, np.ndarray, Probe, float], Predict]


def by_package(train: Rows, test: Rows, probe: Probe, seed: int, use_groups: bool) -> Judged:
    """`ssl_risk_rs.decompose` at its default settings."""
    from ssl_risk_rs import decompose

    result = decompose(
        *(train.x, train.y, test.x, test.y),
        supervised=train.twin,
        supervised_test=test.twin,
        groups=(train.groups, test.groups) if use_groups else None,
        probe=probe,
        seed=seed,
        n_threads=1,
    )
    rows = []
    for quantity in QUANTITIES:
        e = result.estimates[quantity]
        rows.append((e.estimate, e.se, e.low, e.high, float(e.grade.value != "sound")))
    subset = result.judgements.subset
    held_out = [np.flatnonzero(subset == j) for j in range(result.judgements.n_subsets)]
    return Judged(np.array(rows), result.penalties["tuned"].value, held_out)


def fit_with_package(x: np.ndarray, y: np.ndarray, probe: Probe, alpha: float) -> Predict:
    """A standardizing probe of the package; returns its predictions."""
    from ssl_risk_rs import LogisticProbe, RidgeProbe

    fitted = (
        RidgeProbe(alpha, scaling="standardize", n_threads=1)
        if probe == "ridge"
        else LogisticProbe(alpha, scaling="standardize", tol=1e-5, n_threads=1)
    ).fit(x, y)
    return lambda new: np.asarray(fitted.predict(new))


def _reference() -> None:
    """Make tests/reference importable in a process that runs without pytest."""
    if hasattr(sys.modules.get("reference"), "__path__"):
        return
    folder = Path(__file__).resolve().parents[1] / "tests" / "reference"
    spec = importlib.util.spec_from_file_location(
        "reference", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder} is not a package")
    sys.modules["reference"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["reference"])


def by_reference(train: Rows, test: Rows, probe: Probe, seed: int, use_groups: bool) -> Judged:
    """The float64 definitions of tests/reference, with cells of their own."""
    _reference()
    from reference import draw, intervals, strict

    subset_rows = min(len(test.y), len(train.y) // 15)
    if use_groups and train.groups is not None:
        cells = draw.draw(train.groups, train.y, subset_rows, seed=seed).cells
    else:
        cells = stratified_cells(train.y, subset_rows, np.random.default_rng([seed, 99]))
    groups = (train.groups, test.groups) if use_groups and train.groups is not None else None
    result = strict.risks(
        *(train.x, train.y, test.x, test.y, cells),
        probe=probe,
        twin=train.twin,
        twin_test=test.twin,
        groups=None if groups is None else groups[0],
    )
    estimates = intervals.estimates(result, groups)  # type: ignore[arg-type]
    rows = []
    for quantity in QUANTITIES:
        e = estimates[quantity]
        rows.append((e.estimate, e.se, e.low, e.high, float(e.few_decide or e.mark != "")))
    return Judged(np.array(rows), result.alpha, [np.flatnonzero(cells == j) for j in range(5, cells.max() + 1)])


def fit_with_reference(x: np.ndarray, y: np.ndarray, probe: Probe, alpha: float) -> Predict:
    """A probe of tests/reference; returns its predictions."""
    _reference()
    from reference import probes

    fitted = probes.fit(x, y, int(y.max()) + 1, alpha, probe=probe)
    return lambda new: fitted.scores(new).argmax(1)


def stratified_cells(y: np.ndarray, subset_rows: int, rng: np.random.Generator) -> np.ndarray:
    """Three subsets and five folds of rows, each class shared out by largest remainders, ties at random."""
    cells = np.full(len(y), -1)
    counts = np.bincount(y)
    for j in range(3):
        exact = counts * subset_rows / len(y)
        take = np.floor(exact).astype(int)
        most = np.argsort(take - exact + 1e-9 * rng.random(len(counts)), kind="stable")
        take[most[: subset_rows - take.sum()]] += 1
        for c, n in enumerate(take):
            cells[rng.choice(np.flatnonzero((y == c) & (cells < 0)), n, replace=False)] = 5 + j
    alone = [c for c, n in enumerate(counts) if n > 1 and not (cells[y == c] >= 0).any()]
    for i, c in enumerate(alone):
        cells[rng.choice(np.flatnonzero(y == c))] = 5 + i % 3
    offset = 0
    for c in range(len(counts)):
        rows = rng.permutation(np.flatnonzero((y == c) & (cells < 0)))
        cells[rows] = (offset + np.arange(len(rows))) % 5
        offset += len(rows)
    return cells


ESTIMATORS: dict[str, tuple[Estimator, Fitter]] = {
    "package": (by_package, fit_with_package),
    "reference": (by_reference, fit_with_reference),
}


# --- replicates and truth -------------------------------------------------------------------------------------


def _generator(world: str, seed: int, stream: int, index: int) -> np.random.Generator:
    # by the world's name, not its place in the list: a new world changes no other's draws. Probes share draws.
    return np.random.default_rng([seed, zlib.crc32(world.encode()), stream, index])


def replicate(job: tuple[str, Probe, str, int, int]) -> np.ndarray:
    """One draw, judged: (1 or 2, quantities, 5); second, in worlds of groups, by rows that ignore the groups."""
    name, probe, estimator, seed, index = job
    world = WORLDS[name]
    rng = _generator(name, seed, 0, index)
    train, test = world.draw(rng, False), world.draw(rng, True)
    estimate, _ = ESTIMATORS[estimator]
    tables = [estimate(train, test, probe, index, world.kind != "rows").table]
    if world.kind != "rows":
        tables.append(estimate(train, test, probe, index, False).table)
    return np.stack(tables)


def true_risks(job: tuple[str, Probe, str, int, int]) -> np.ndarray:
    """The risks (5,) of the probes of one draw, apart from the replicates, each in the expectation over fresh rows.

    R_AF and R_ΦF are errors on the training rows themselves. R_AS weighs classes by their shares in S_tr, R_CS and
    R_US by those of the test distribution.
    """
    name, probe, estimator, seed, index = job
    world = WORLDS[name]
    rng = _generator(name, seed, 1, index)
    train, test = world.draw(rng, False), world.draw(rng, True)
    estimate, fit = ESTIMATORS[estimator]
    judged = estimate(train, test, probe, index, world.kind != "rows")
    seen, unseen = world.draw(rng, False, fresh=True), world.draw(rng, True, fresh=True)
    own = dict(zip(QUANTITIES, judged.table[:, 0], strict=True))
    expected = expected_risks(world, train, seen, unseen, judged, probe, fit)
    return np.array([own["risk_sup"], own["risk_af"], *expected])


def expected_risks(
    world: World, train: Rows, seen: Rows, unseen: Rows, judged: Judged, probe: Probe, fit: Fitter
) -> tuple[float, float, float]:
    """R_AS, R_CS and R_US of the probes of one draw on fresh rows like the training and like the test rows."""
    k = int(train.y.max()) + 1
    shares, test_shares = np.bincount(train.y) / len(train.y), world.test_shares(unseen.y)

    def by_class(predict: Predict, rows: Rows) -> np.ndarray:
        wrong = predict(rows.x) != rows.y
        return np.bincount(rows.y, wrong, minlength=k) / np.bincount(rows.y, minlength=k)

    full = fit(train.x, train.y, probe, judged.alpha)
    risk_as, risk_cs = [], []
    for subset in judged.subsets:
        rows = np.delete(np.arange(len(train.y)), subset)
        complement = fit(train.x[rows], train.y[rows], probe, judged.alpha)
        risk_as.append(shares @ by_class(complement, seen))
        risk_cs.append(test_shares @ by_class(complement, unseen))
    return float(np.mean(risk_as)), float(np.mean(risk_cs)), float(test_shares @ by_class(full, unseen))


def summarize(
    labels: dict[str, str], draws: np.ndarray, truths: np.ndarray, signs: Mapping[str, Sequence[float]] = SIGNS
) -> Iterator[dict[str, object]]:
    """Rows of the table from draws (replicates, quantities, 5) and true risks of other draws (draws, risks); `signs`:
    quantity → its coefficients on the risks."""
    n = len(draws)
    for i, quantity in enumerate(signs):
        of_draw = truths @ np.array(signs[quantity])
        truth, truth_se = float(of_draw.mean()), float(of_draw.std(ddof=1) / np.sqrt(len(of_draw)))
        estimate, se, low, high, marked = draws[:, i].T
        has = np.isfinite(low)
        below, above = (high[has] < truth), (low[has] > truth)
        coverage = float(1 - below.mean() - above.mean()) if has.any() else float("nan")
        sd = float(estimate.std(ddof=1))
        mean_se = float(np.sqrt((se[np.isfinite(se)] ** 2).mean()))
        yield labels | {
            "quantity": quantity,
            "replicates": n,
            "truth": truth,
            "truth_se": truth_se,
            "mean": float(estimate.mean()),
            "bias": float(estimate.mean() - truth),
            "bias_se": float(np.hypot(sd / np.sqrt(n), truth_se)),
            "mean_se": mean_se,
            "sd": sd,
            "se_ratio": mean_se / sd if sd > 0 else float("nan"),
            "coverage": coverage,
            "coverage_se": float(np.sqrt(coverage * (1 - coverage) / max(1, has.sum()))),
            "below": float(below.mean()) if has.any() else float("nan"),
            "above": float(above.mean()) if has.any() else float("nan"),
            "median_width": float(np.median((high - low)[has])) if has.any() else float("nan"),
            "marked": float(marked.mean()),
            "no_interval": float(1 - has.mean()),
        }


# --- running and writing --------------------------------------------------------------------------------------


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    found = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"], capture_output=True, text=True
    )
    return found.stdout.strip() or "unknown"


def write_table(
    path: Path, rows: list[dict[str, object]], *, columns: Sequence[str] = COLUMNS, key: Sequence[str] = KEY
) -> None:
    """Write rows, keeping those of the file that have another key."""
    text = [{k: f"{v:.6g}" if isinstance(v, float) else str(v) for k, v in row.items()} for row in rows]
    new = {tuple(row[k] for k in key) for row in text}
    kept: list[dict[str, str]] = []
    if path.exists():
        with path.open(newline="") as file:
            kept = [row for row in csv.DictReader(file) if tuple(row[k] for k in key) not in new]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept + text)


def _cell(row: dict[str, str]) -> str:
    value = 100 * float(row["coverage"])
    if np.isnan(value):
        return "–"
    text = f"{value:.1f}"
    if row["intervals"] == "ignoring groups" or 93 <= float(text) <= 98:
        return text
    intervals = int(row["replicates"]) * (1 - float(row["no_interval"]))
    return text + ("†" if abs(value - 95) > 200 * np.sqrt(0.95 * 0.05 / intervals) else "°")


def markdown(path: Path) -> str:
    """Coverage in percent, a row for each world, a column for each quantity.

    Outside 93 to 98 %: † beyond two binomial standard errors of 95 %, ° within them. – where no replicate has one.
    """
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    order = {name: i for i, name in enumerate(WORLDS)}
    lines = []
    for estimator in dict.fromkeys(r["estimator"] for r in rows):
        for probe in dict.fromkeys(r["probe"] for r in rows):
            chosen = [r for r in rows if r["estimator"] == estimator and r["probe"] == probe]
            if not chosen:
                continue
            chosen.sort(key=lambda r: order.get(r["world"], -1))
            lines += ["", f"### {probe}, intervals of the {estimator}", ""]
            lines.append("| world | draws | " + " | ".join(f"`{q}`" for q in QUANTITIES) + " |")
            lines.append("|---|--:|" + "--:|" * len(QUANTITIES))
            for world, kind in dict.fromkeys((r["world"], r["intervals"]) for r in chosen):
                found = {r["quantity"]: r for r in chosen if (r["world"], r["intervals"]) == (world, kind)}
                cells = [_cell(found[q]) for q in QUANTITIES]
                title = f"`{world}`{', groups ignored' * (kind == 'ignoring groups')}"
                lines.append(f"| {title} | {found['risk_us']['replicates']} | " + " | ".join(cells) + " |")
    return "\n".join(lines).strip() + "\n"


def main() -> None:
    """Run the simulation; the table is written anew after every world and probe."""
    parser = argparse.ArgumentParser(description="Coverage of the intervals of decompose, by simulation.")
    parser.add_argument("--replicates", type=int, default=300)
    parser.add_argument("--truth", type=int, help="draws for the truth; default: as many as replicates")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=DEFAULT_WORLDS)
    parser.add_argument("--probes", nargs="+", choices=("logistic", "ridge"), default=["ridge", "logistic"])
    parser.add_argument("--estimator", choices=ESTIMATORS, default="package")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("bench/results/coverage.csv"))
    parser.add_argument("--markdown", action="store_true", help="print the tables of --out and run nothing")
    options = parser.parse_args()
    if options.markdown:
        print(markdown(options.out), end="")
        return
    n_truth = options.replicates if options.truth is None else options.truth
    if options.replicates < 2 or n_truth < 2:
        parser.error("at least 2 replicates and 2 draws for the truth are needed for a standard deviation")
    # workers import numpy after this: one thread each
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    options.out.parent.mkdir(parents=True, exist_ok=True)
    commit, began = _commit(), time.perf_counter()
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        for world in options.worlds:
            for probe in options.probes:
                started = time.perf_counter()
                jobs = [
                    (world, probe, options.estimator, options.seed, i) for i in range(max(options.replicates, n_truth))
                ]
                draws = np.stack(list(pool.map(replicate, jobs[: options.replicates], chunksize=5)))
                truths = np.stack(list(pool.map(true_risks, jobs[:n_truth], chunksize=5)))
                labels = {"world": world, "probe": probe, "estimator": options.estimator}
                rows = []
                for kind, table in zip(("own", "ignoring groups"), draws.swapaxes(0, 1), strict=False):
                    rows += summarize(labels | {"intervals": kind}, table, truths)
                write_table(options.out, rows)
                print(f"{world} {probe} {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    versions = {name: importlib.metadata.version(name) for name in ("ssl-risk-rs", "numpy", "scikit-learn", "scipy")}
    record = {
        "command": " ".join(["python", *sys.argv]),
        "commit": commit,
        "cpu": _cpu(),
        "processes": options.processes,
        "python": platform.python_version(),
        **versions,
        "seconds": f"{time.perf_counter() - began:.0f}",
    }
    with options.out.with_suffix(".txt").open("a") as file:
        file.write("".join(f"{k}: {v}\n" for k, v in record.items()) + "\n")


if __name__ == "__main__":
    main()
