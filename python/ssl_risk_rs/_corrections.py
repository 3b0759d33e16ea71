"""What is known to be wrong in the authors' table of 169 encoders: one list for the catalogue, the table and the study.

corrections.tsv has the cells that are wrong, with what is right and why. Names are spelled as the authors' metadata
spell them; their table of results has them in lower case.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

__all__ = ["OTHER_CHECKPOINT", "RISK_AF", "Correction", "corrections", "corrections_text", "unclipped"]

#: encoders, in lower case, whose row is of another checkpoint than its name says, and which
OTHER_CHECKPOINT = {
    "deepcluster_rn50_bs512_ep200_mmselfsup": "the address that its authors published serves a SimCLR checkpoint "
    "(batch 4096, 200 epochs): the errors are SimCLR's, the design choices DeepCluster's",
}
#: R_AF in percent, by encoder in lower case, where two components were set to 0, so that the row alone does not tell
#: how much of each; from the authors' earlier table (commit 62e24d4 of their repository)
RISK_AF = {"dissl_resnet50_d4096_e100_m2": 0.49064643681049}
#: rounding of the sum of four float64 percentages
_SUMS = 1e-9


@dataclass(frozen=True, slots=True)
class Correction:
    """A cell of an encoder, as text: what the authors published, what is right, and why."""

    encoder: str
    column: str
    published: str
    corrected: str
    reason: str


def corrections_text() -> str:
    """The file."""
    return files(__package__).joinpath("corrections.tsv").read_text(encoding="utf-8")


@cache
def corrections() -> tuple[Correction, ...]:
    """The wrong cells, in the order of the file."""
    _, *lines = csv.reader(corrections_text().splitlines(), delimiter="\t")
    return tuple(Correction(*line) for line in lines)


def unclipped(encoder: str, parts: Mapping[str, float], total: float) -> dict[str, float] | None:
    """What the components were that the authors set to 0 because they were negative, in percent; none where all add up
    to the total, None where they do not and the table does not tell why.

    Parameters
    ----------
    parts : approx, usability, probe_gen, enc_gen of one encoder, in percent; an error such as approx is never negative
    """
    excess = sum(parts.values()) - total
    if abs(excess) <= _SUMS * max(1.0, total):
        return {}
    zero = [name for name in ("usability", "probe_gen", "enc_gen") if parts[name] == 0]
    if excess > 0 and len(zero) == 1:
        return {zero[0]: -excess}
    risk_af = RISK_AF.get(encoder.lower())
    if excess > 0 and zero == ["usability", "enc_gen"] and risk_af is not None:
        return {"usability": risk_af - parts["approx"], "enc_gen": total - parts["probe_gen"] - risk_af}
    return None
