"""What a file has beside the encoder: heads and copies may lie there, parts of a larger architecture may not."""

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from ssl_risk_rs.encoders.catalogue.tables import catalogue
from ssl_risk_rs.encoders.weights.dialects import is_dropped
from ssl_risk_rs.encoders.weights.match import COUNTER, HEADS, SHOWN, Candidate, Choice, first_part, some
from ssl_risk_rs.encoders.weights.naming import Contents
from ssl_risk_rs.errors import EncoderError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ask", "check_left_over", "suspicions"]

#: Beside a trunk these may be a part of the encoder that its architecture does not have.
_DOUBTFUL = re.compile(r"(?:.*\.)?(neck|proj|ema|pool\w*|\w+_?pool|resizer|expand\w*|bottleneck)(\..*)?")


def check_left_over(
    best: Candidate, left_over: list[str], copies: list[str], n_required: int, *, own: bool = False
) -> None:
    """Outside the encoder's prefix anything may lie; under it, only heads and copies, and beside the parts of a network
    of the user's `own` whatever was trained with it."""
    strange = [
        name
        for name in left_over
        if name.startswith(best.places)
        and name not in best.heads
        and not name.endswith(COUNTER)
        and not HEADS.fullmatch(name[len(best.prefix) :])
        and not any(copy.startswith(best.prefix) and name.startswith(copy) for copy in copies)
        and not _is_wrapper_of(name, best.prefix, copies)
        and not (best.dialect is not None and is_dropped(best.dialect, name))
    ]
    strange += [name for name in left_over if name in best.beyond and name not in strange]
    if own:
        parts = {first_part(name) for name in best.tensors}
        strange = [name for name in strange if first_part(name[len(best.prefix) :]) in parts]
    if not strange:
        return
    text = (
        f"all {n_required} tensors of the architecture are there, but so are {len(strange)} more "
        f"that are no head: {some(strange, SHOWN)}. "
    )
    if all(name[len(best.prefix) :].startswith("resizer.") for name in strange):
        raise EncoderError(
            text + "They are a block that widens the representation before the pool: write ckpt:FILE@resnet50?"
            "expand=8192 (the width of resizer.bn3)"
        )
    raise EncoderError(text + "Is it a larger architecture?")


def _is_wrapper_of(name: str, prefix: str, copies: list[str]) -> bool:
    """Whether a name lies beside a copy of the encoder: `student.head.…` beside `student.backbone.…`."""
    for copy in copies:
        beside = copy
        while beside:
            beside = beside[: beside[:-1].rfind(".") + 1]
            if len(beside) > len(prefix) and beside.startswith(prefix) and name.startswith(beside):
                return True
    return False


def suspicions(
    best: Candidate,
    left_over: list[str],
    copies: list[str],
    chosen: "Mapping[str, Tensor]",
    choice: Choice,
    held: Contents,
) -> list[str]:
    """What shapes cannot show and the file gives signs of."""
    notes = []
    apart = [n for n in left_over if not any(n.startswith(copy) for copy in copies if len(copy) > len(best.prefix))]
    place, rest = held.place_of(best.prefix)
    near = best.prefix[: best.prefix[:-1].rfind(".") + 1] if rest else (f"{place}." if place else "")
    doubtful = sorted({first_part(n[len(near) :]) for n in apart if n.startswith(near) and _is_doubtful(n, near)})
    if doubtful and not choice.known:
        notes.append(
            f"The file has {', '.join(doubtful)} beside the trunk, which were not used: they may be a part of the "
            "encoder"
        )
    for word, value in () if choice.known else dict(held.noted).items():
        if _is_another(value, choice.architecture):
            notes.append(f"The file notes {word} = {value}, and is read as {choice.architecture}")
    if held.n_unwrapped:
        notes.append(f"Words of training wrappers were taken out of {held.n_unwrapped} names")
    asks_padding = (
        not choice.known
        and "padding" not in choice.options
        and re.fullmatch(r"resnet(50|101)(w\d)?", choice.architecture)
    )
    if asks_padding and any(_is_stored_as_hwio(tensor) for tensor in chosen.values()):
        raise EncoderError(
            "its convolutions are stored as TensorFlow and JAX store them (height, width, in, out), so the network "
            "was probably converted from there and pads at the end, which shapes cannot show: write "
            "ckpt:FILE@ARCH?padding=same, or ?padding=both if the converted network pads both sides"
        )
    if asks_padding and best.dialect is None and not any(name.endswith(COUNTER) for name in best.sources):
        notes.append(
            "A file without batch counters may have been converted from TensorFlow or JAX, where convolutions pad at "
            "the end: if so, write ckpt:FILE@ARCH?padding=same"
        )
    return notes


def _is_another(noted: str, architecture: str) -> bool:
    """Whether a file notes an architecture, and not this one: a variant of it, or another that timm has.

    Names of methods, paths, and the beginning of the architecture's name are none; nor is a tag behind a dot.
    """
    import timm

    def plain(name: str) -> str:  # without what is written in several ways
        return re.sub(r"[^a-z0-9]", "", name.lower())

    if "/" in noted:
        return False
    said, ours = plain(noted.partition(".")[0]), plain(architecture)
    if not said or ours.startswith(said):
        return False
    return said.startswith(ours) or said in {plain(name) for name in timm.list_models()}


def _is_doubtful(name: str, near: str) -> bool:
    return bool(_DOUBTFUL.fullmatch(first_part(name[len(near) :])))


def _is_stored_as_hwio(tensor: "Tensor") -> bool:
    """A convolution whose axes were permuted from (h, w, in, out) and not copied since."""
    if tensor.ndim != 4 or tensor.shape[2] * tensor.shape[3] == 1 or min(tensor.shape[:2]) < 2:
        return False
    out, inner, height, width = tensor.stride()
    return out == 1 and inner == tensor.shape[0] and height > width > inner


def ask(held: Contents, choice: Choice) -> list[str]:
    """Rules of dialects about files that an architecture fits by shape but not by meaning: by the name of a tensor, or
    by what the outermost dictionary notes, as "arch=vit_small".

    Raises
    ------
    EncoderError where the file shows that an option is needed which was not named.
    """
    notes: list[str] = []
    names = [*held.tensors, *(f"{word}={value}" for word, value in held.noted if "." not in word)]
    for dialect in () if choice.known else catalogue().dialects.values():
        for rule in dialect.rules:
            if rule.operations[0] not in ("ask", "note") or rule.pattern is None:
                continue
            matched = {name for name in names if rule.pattern.fullmatch(name)}
            if not matched:
                continue
            if rule.operations[0] == "note":
                architectures, _, sentence = rule.becomes.partition(": ")
                if fnmatchcase(choice.architecture, architectures):
                    notes.append(sentence[0].upper() + sentence[1:])
                continue
            architectures, _, option = rule.becomes.partition("?")
            if fnmatchcase(choice.architecture, architectures) and option.partition("=")[0] not in choice.options:
                quoted = [note for note in held.noted if f"{note[0]}={note[1]}" in matched] or held.noted
                noted = "".join(f" (it notes {word} = {value})" for word, value in quoted[:1])
                raise EncoderError(
                    f"it is of {dialect.name}{noted}, which needs {option}, and shapes do not show it: write "
                    f"ckpt:FILE@{choice.architecture}?{option}, or name another value of {option.partition('=')[0]}"
                )
    return notes
