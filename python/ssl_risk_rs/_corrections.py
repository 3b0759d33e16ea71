"""What is known to be wrong in the authors' table of 169 encoders: one list for the catalogue, the table and the study.

corrections.tsv has the cells that are wrong, with what is right and why. Names are spelled as the authors' metadata
spell them; their table of results has them in lower case.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

__all__ = ["OTHER_CHECKPOINT", "RISK_AF", "Correction", "corrections", "corrections_text"]

#: encoders, in lower case, whose row is of another checkpoint than its name says, and which
OTHER_CHECKPOINT = {
    "deepcluster_rn50_bs512_ep200_mmselfsup": "the address that its authors published serves a SimCLR checkpoint "
    "(batch 4096, 200 epochs): the errors are SimCLR's, the design choices DeepCluster's",
}
#: R_AF in percent, by encoder in lower case, where two components were set to 0, so that the row alone does not tell
#: how much of each; from the authors' earlier table (commit 62e24d4 of their repository)
RISK_AF = {"dissl_resnet50_d4096_e100_m2": 0.49064643681049}


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
