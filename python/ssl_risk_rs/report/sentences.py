"""What belongs to the numbers of a decomposition: checks, and sentences that a first reader understands."""

import math
import os
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from ssl_risk_rs._notes import Note, Values, each_once
from ssl_risk_rs.report.numbers import hundred
from ssl_risk_rs.results.compare import RANK_DIGITS
from ssl_risk_rs.results.estimate import Grade
from ssl_risk_rs.results.provenance import BankFacts, Provenance
from ssl_risk_rs.results.quantities import QUANTITIES
from ssl_risk_rs.results.record import FitRecord
from ssl_risk_rs.results.run import Decomposition, Run

__all__ = [
    "DIGITS_STAND_IN", "MARKS", "Check", "checks", "classes_that_make", "decomposed_again", "features_of",
    "harder_training", "legend", "mark", "notes", "place", "same_rows", "short", "stand_in", "targets",
]  # fmt: skip

#: mark behind an interval → what it says
MARKS: dict[Grade, tuple[str, str]] = {
    Grade.FEW_ROWS: ("*", "fewer than 10 rows decide this number, so its interval is rough"),
    Grade.FEW_GROUPS: ("†", "this number rests on fewer than 20 groups in a set of rows"),
    Grade.INDICATIVE: (
        "‡",
        "this interval is indicative only (few groups or degrees of freedom, a very optimistic training error, or "
        "classes without held-out rows)",
    ),
    Grade.NONE: ("–", "there are too few groups for an interval"),
}


def mark(grade: Grade) -> str:
    """The sign beside an interval; nothing for a sound one."""
    return MARKS[grade][0] if grade in MARKS else ""


def harder_training(result: Decomposition, shown: Callable[[float], str]) -> list[str]:
    """What encoder generalization says that is surely negative without the labels set aside; nothing where it is not.
    `shown` writes the number."""
    at_equal = result.estimates.get("enc_gen_equal_labels", result.estimates["enc_gen"])
    if not at_equal.high < 0:
        return []
    return [
        f"Training rows are harder than test rows (encoder generalization {shown(at_equal.estimate)} at equal label "
        "count): wrong labels among the training rows would look like this. They count as usability, and no "
        "representation lowers that share."
    ]


def legend(grades: Iterable[Grade]) -> list[str]:
    """Lines below a table, of the marks in it."""
    used = set(grades)
    return [f"  {sign}     {text}" for grade, (sign, text) in MARKS.items() if grade in used]


#: targets that are no classes, by metric: one, several
_TARGETS = {"r2": ("number to predict", "numbers to predict"), "auroc": ("label", "labels")}


@dataclass(frozen=True, slots=True)
class Check:
    """Something that was checked, and can fail."""

    passed: bool
    text: str


#: options in a checkpoint's name that say how its images are prepared; the record has them
_PREPARED = ("mean=", "std=", "resize=", "interpolation=")


def short(name: str) -> str:
    """An encoder's name without the folders of its checkpoint and how its images are prepared, or without those of the
    file whose function makes it.

    >>> short("ckpt:/runs/a/ep3.pth@resnet18?mean=half&std=half&ema=true")
    'ckpt:ep3.pth@resnet18?ema=true'
    >>> short("ckpt:runs/ep3.pth@code/own.py:net")
    'ckpt:ep3.pth@own.py:net'
    """
    scheme, _, rest = name.partition(":")
    if scheme == "ckpt":
        where, question, query = rest.rpartition("?") if "?" in rest.rpartition("@")[2] else (rest, "", "")
        kept = "&".join(option for option in query.split("&") if not option.startswith(_PREPARED))
        path, at, architecture = where.rpartition("@") if "@" in where else (where, "", "")
        return f"ckpt:{path.rpartition('/')[2]}{at}{short(architecture)}{question if kept else ''}{kept}"
    file, _, function = name.rpartition(":")
    return f"{file.rpartition('/')[2]}:{function}" if file.endswith(".py") else name


#: what is said on stderr, and below a table's heading
DIGITS_STAND_IN = "No data were named, so these are the bundled digits. For ImageNet add  -d imagenet:/path/to/imagenet"


def stand_in(provenance: Provenance) -> Iterator[str]:
    """The line below a heading where the bundled digits stood in for data that were not named."""
    if not provenance.data_named:
        yield f"  {DIGITS_STAND_IN}"


def targets(result: Decomposition) -> str:
    """What is predicted, counted: "10 classes", "1 number to predict", "5 labels"."""
    one, many = _TARGETS.get(result.method.metric, ("class", "classes"))
    n = result.sizes.classes
    return f"{n:,} {one if n == 1 else many}"


_NO_OVERLAP = {
    "images": "no test image has the bytes of a training image",
    "features": "no test row equals a training row in every feature",
}


def checks(result: Decomposition) -> list[Check]:
    """Checks of the fits, of the penalties, and of the rows."""
    found = [_fits(result), *_few_shot_fits(result), *_few_shot_penalties(result)]
    tuned = [p for p in result.penalties.values() if p.inside is not None]
    inside = sum(bool(p.inside) for p in tuned)
    if len(tuned) == 1:
        of = " of all rows" if result.shots else ""
        found.append(Check(inside == 1, f"the tuned penalty{of} is {'inside' if inside else 'at the end of'} its grid"))
    elif tuned:
        found.append(Check(inside == len(tuned), f"{inside} of {len(tuned)} tuned penalties are inside their grid"))
    if (overlap := result.sizes.overlap) is not None and not overlap.rows:  # of others a note tells
        found.append(Check(True, _NO_OVERLAP[overlap.by]))
    return found


def _fits(result: Decomposition) -> Check:
    if result.method.probe == "ridge":
        return Check(
            all(fit.converged for fit in result.fits),
            f"{len(result.fits)} {'fit is' if len(result.fits) == 1 else 'fits are'} solved in closed form",
        )
    by_stop: dict[str, list[FitRecord]] = {}
    for fit in result.fits:
        by_stop.setdefault("missed" if fit.missed else fit.stop, []).append(fit)
    parts = []
    if proven := by_stop.pop("certified", []):
        worst = max(fit.gap or 0.0 for fit in proven)
        are, their = ("fit is", "its") if len(proven) == 1 else ("fits are", "their")
        parts.append(f"{len(proven)} {are} proven to be within {worst:.0e} of {their} optimum")
    if missed := by_stop.pop("missed", []):
        parts.append(f"{len(missed)} missed their tolerance")
    by_error = len(by_stop.pop("error_estimated", []))
    left = len(by_stop.pop("left", []))
    rest = sum(map(len, by_stop.values()))
    for count, where in ((by_error, "the training error stands still"), (rest, "little seems left to gain")):
        if count:
            parts.append(f"{count} {'fits ' if not parts else ''}stopped where {where} (an estimate, no proof)")
    if left:
        parts.append(f"{left} that tuned {'was' if left == 1 else 'were'} left as clearly worse")
    return Check(not missed, ", ".join(parts))


def _few_shot_fits(result: Decomposition) -> list[Check]:
    if not result.shots:
        return []
    count = sum(shot.tuning_fits + len(shot.fits) for shot in result.shots)
    missed = sum(shot.tuning_missed + sum(fit.missed for fit in shot.fits) for shot in result.shots)
    if missed:
        return [Check(False, f"{missed} of {count:,} few-shot fits missed their tolerance")]
    return [Check(True, f"{count:,} few-shot fits reached their tolerance")]


def _few_shot_penalties(result: Decomposition) -> list[Check]:
    """Where the draws' penalties lie; the strong end of the grid is no fault, since stronger ones predict the same."""
    tuned = [p for shot in result.shots for p in shot.penalties if p.inside is not None]
    if not tuned:
        return []
    weak = sum(p.value == min(p.grid) for p in tuned)
    strong = sum(p.value == max(p.grid) for p in tuned)
    parts = [f"the tuned penalties of {len(tuned) - weak - strong} of {len(tuned)} draws are inside their grids"]
    if strong:
        parts.append(f"{strong} at the strong end, beyond which predictions stay the same")
    if weak:
        parts.append(f"{weak} at the weak end")
    return [Check(2 * weak <= len(tuned), ", ".join(parts))]


def place(run: Run, below: str = "") -> str:
    """A run's folder, or a file in it, as a shell takes it; RUN where there is none."""
    return f"RUN/{below}".rstrip("/") if run.path is None else shlex.quote(str(run.path / below))


def features_of(run: Run) -> str:
    """The bank of a run's encoder, as a shell takes it; FEATURES where it is not known, or is no longer there."""
    return _bank_of(run, "encoder", "FEATURES")


def _bank_of(run: Run, role: str, otherwise: str) -> str:
    bank = run.provenance.banks.get(role)
    return shlex.quote(bank.path) if bank is not None and is_there(bank) else otherwise


def is_there(bank: BankFacts) -> bool:
    """Whether the folder of a bank is on this machine, as far as may be seen."""
    return os.path.exists(bank.path)


def same_rows(run: Run) -> str:
    """The features of a run and of its twin, and how their rows were taken, as a command takes them."""
    banks, provenance = run.provenance.banks, run.provenance
    words = [features_of(run)]
    if "encoder" in banks and "supervised" in banks:
        words.append(f"--supervised-features {_bank_of(run, 'supervised', 'TWIN')}")
    if "encoder" not in banks and run.left_rows_out:
        words.append("--drop-unlabelled")
    for option, value in (("--group", provenance.group), ("--target", provenance.target)):
        if value is not None:
            words.append(f"{option} {shlex.quote(value)}")
    return " ".join(words)


def decomposed_again(run: Run) -> str:
    """The line that decomposes the same rows, to which options are added."""
    return f"ssl-risk-rs decompose {same_rows(run)}"


def classes_that_make(result: Decomposition) -> str:
    """What of the classes makes some of encoder generalization, as notes on it say."""
    shares = "the class shares of the test rows"
    if "uncovered_on_test" not in result.of_classes:
        return shares
    return "classes without held-out rows" + (f", and {shares}," if len(result.of_classes) > 1 else "")


def notes(result: Decomposition, provenance: Provenance) -> list[Note]:
    """Everything a reader should know, each once."""
    said = [*provenance.notes, *result.notes, *(note for found in result.metrics for note in found.notes)]
    of_classes = sum(result.of_classes.values())
    for name in result.estimates:
        e, quantity = result.estimates[name], QUANTITIES[name]
        if quantity.below_zero and round(e.estimate, RANK_DIGITS) < 0:
            weight = "its interval holds 0" if e.high >= 0 else "more than chance explains"
            if e.high < 0 and e.grade is Grade.INDICATIVE:
                weight = "its interval is indicative only"
            if e.high < 0 <= e.high - of_classes and name == "enc_gen":
                weight = f"no more than {classes_that_make(result)} may explain"
            if math.isnan(e.high):
                weight = "it has no interval"
            values: Values = {"label": quantity.label, "weight": weight, "meaning": quantity.below_zero}
            said.append(Note("negative", values))
    if not result.supervised:
        said.append(Note("no_twin"))
    if provenance.saw_training_images is False:
        said.append(Note("not_pretrained_here", {"pretraining": provenance.pretraining_data or "other data"}))
    if result.control is None and provenance.no_control:
        said.append(Note("no_control", {"reason": provenance.no_control}))
    above = result.floor.risk_above
    moved = math.isfinite(above) and f"{hundred(result.estimate('risk_af')):.2f}" != f"{hundred(above):.2f}"
    if "floor" in result.penalties and not result.floor.separable and moved:
        values = {
            "at_floor": 100 * result.estimate("risk_af"),
            "above": 100 * above,
            "floor": result.penalties["floor"].value,
        }
        said.append(Note("floor_sensitivity", values))
    if "risk_af_midpoint" in result.estimates:
        said.append(Note("midpoint", {"midpoint": 100 * result.estimate("risk_af_midpoint")}))
    return each_once(said)
