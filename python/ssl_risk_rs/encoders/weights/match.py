"""What is said about a file of weights, what came of it, and the words that tell an encoder's tensors from others."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ssl_risk_rs.encoders.catalogue.tables import NATIVE, Dialect
from ssl_risk_rs.errors import EncoderError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "COUNTER", "HEADS", "SHOWN", "Candidate", "Choice", "Match", "MisshapedTensor", "first_part", "group_of", "some",
]  # fmt: skip

#: First component of names that belong to heads, decoders and training state, never to an encoder.
HEADS = re.compile(
    r"_?(fc|fc\d+|head|heads|head_\w+|heads_\w+|last_layer|linear|classif\w*|logits?|\w*projection_head\w*|"
    r"proj|proj_\w+|\w*projector\w*|projection\w*|\w*predict\w+|pred|prototypes?\d*|decoder\w*|decode_head|"
    r"mask_token\w*|masked_embed|queue\w*|centers?|(dino|ibot)_\w+|relation_blocks|neck|\w+_head|momentum_\w+|"
    r"\w*memory\w*|assignments?\w*|"
    r"pre_logits|loss\w*|criterion|temperature|logit_scale|ema|memory_bank|feature_bank|lm_head)(\..*)?"
)

#: Counters of BatchNorm batches: unused in eval mode, and absent from old files.
COUNTER = "num_batches_tracked"

#: names of tensors that a message shows, where many do not fit
SHOWN = 10

Order = Literal["name", "order"]


class MisshapedTensor(EncoderError):
    """A tensor of the file has another shape than the architecture's."""

    def __init__(self, name: str, got: tuple[int, ...], want: tuple[int, ...], others: list[str]) -> None:
        more = f"; {len(others)} more have other shapes: {some(others, SHOWN - 1)}" if others else ""
        super().__init__(f"tensor {name} has shape {got}, the architecture needs {want}{more}")
        self.name, self.got, self.want = name, got, want


@dataclass(frozen=True, slots=True)
class Choice:
    """What a user or the catalogue says about a file.

    Attributes
    ----------
    match : "order" assigns tensors by position where only names differ
    dialect : names in the file, as the catalogue says; tried before the others
    average : which of several copies: True an average over steps, False none, None the one authors evaluate
    architecture : as in the name, for messages and for rules about architectures
    options : the architecture's options that were named
    known : who named the architecture knows what the file holds (the catalogue, and users of code of their own):
        nothing is asked
    own : the architecture is the user's own code, which may leave out parts of what was trained under any name
    """

    match: Order = "name"
    dialect: str = NATIVE
    average: bool | None = None
    architecture: str = ""
    options: tuple[str, ...] = ()
    known: bool = False
    own: bool = False


@dataclass(frozen=True, slots=True)
class Match:
    """How a file's tensors were assigned to the encoder's.

    Attributes
    ----------
    tensors : the encoder's state dict
    where : wrapper and prefix in the file, such as "state_dict → module.encoder_q."
    left_over : names in the file that were not used: heads, other parts, and other copies of the encoder
    others : where the file holds further complete copies of the encoder
    n_counters_missing : batch counters that the file does not have (they matter in training only)
    by_order : names were ignored
    dialect : names of the file, "native" for the architecture's own
    filled : tensors that the file does not have, and which the dialect says how to fill
    notes : sentences that the user should read
    """

    tensors: "dict[str, Tensor]"
    where: str
    left_over: tuple[str, ...]
    others: tuple[str, ...] = ()
    n_counters_missing: int = 0
    by_order: bool = False
    dialect: str = NATIVE
    filled: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """One line for people: what was matched, what was left over."""
        text = f"matched {len(self.tensors)} tensors of the encoder"
        text += f" under {self.where}" if self.where else ""
        text += " by order" if self.by_order else ""
        text += f" (names of {self.dialect})" if self.dialect != NATIVE else ""
        if self.n_counters_missing:
            text += f" (the file has no batch counters: {self.n_counters_missing}, not used in eval mode)"
        if self.filled:
            text += f"; {len(self.filled)} that the file does not have were filled in: {some(list(self.filled), 2)}"
        if self.left_over:
            groups = sorted({group_of(name) for name in self.left_over})
            shown = ", ".join(groups[:8]) + (", …" if len(groups) > 8 else "")
            text += f"; left over {len(self.left_over)}: {shown}"
        else:
            text += "; none left over"
        text += f"; not used: another copy under {', '.join(self.others)}" if self.others else ""
        return text + "".join(f". {note}" for note in self.notes)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A place in the file where the encoder may lie, and how much of it is there."""

    prefix: str
    tensors: "Mapping[str, Tensor]"  # by the architecture's names
    sources: frozenset[str]  # names in the file that became tensors of the architecture
    beyond: frozenset[str]  # names in the file that became others, of a larger architecture
    heads: frozenset[str]  # names in the file that became heads, which the architecture was built without
    clashes: "Mapping[str, tuple[str, str]]"  # names that two tensors of the file became
    places: tuple[str, ...]  # beginnings of names that belong to the encoder
    dialect: Dialect | None
    filled: tuple[str, ...]
    n_fit: int
    rank: tuple[int, ...]

    def complete(self, n_required: int) -> bool:
        return self.n_fit == n_required


def group_of(name: str) -> str:
    parts = [part for part in name.split(".") if part not in ("module", "model", "backbone", "state_dict")]
    return f"{parts[0]}.*" if len(parts) > 1 else (parts[0] if parts else name)


def some(names: Iterable[str], n: int = 4) -> str:
    shown = list(names)
    return ", ".join(shown[:n]) + (f", … ({len(shown)} in all)" if len(shown) > n else "")


def first_part(name: str) -> str:
    return name.partition(".")[0]
