"""The content of a file → the tensors of one encoder, every one of them matched by name and shape.

Checkpoints wrap the encoder in dictionaries (`state_dict`, `model`, `teacher`, …), prefix its names (`module.`,
`backbone.`, …) and carry heads beside it. The encoder's own names tell where it lies: wherever the file has
`PREFIX + first name of the encoder`, PREFIX is tried. The prefix under which most tensors fit wins; among equals,
the network that the method's authors evaluate (teacher, target, query encoder). Where no prefix is complete, the
dialects of the catalogue are tried, and count only if they are.

Nothing is guessed beyond that. A missing or mis-shaped tensor is an error that names it. What is left over is judged
by its place: outside the encoder's prefix it is reported, under it it must be a known head.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

from ssl_risk_rs.encoders.catalogue.tables import NATIVE, Dialect, catalogue
from ssl_risk_rs.encoders.weights.archives import read_checkpoint
from ssl_risk_rs.encoders.weights.dialects import Translation, is_dropped, translate
from ssl_risk_rs.encoders.weights.naming import Contents, contents_of
from ssl_risk_rs.errors import EncoderError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Choice", "Match", "Positions", "find_encoder", "load_encoder"]

#: First component of names that belong to heads, decoders and training state, never to an encoder.
_HEADS = re.compile(
    r"_?(fc|fc\d+|head|heads|head_\w+|heads_\w+|last_layer|linear|classif\w*|logits?|\w*projection_head\w*|"
    r"proj|proj_\w+|\w*projector\w*|projection\w*|\w*predict\w+|pred|prototypes?\d*|decoder\w*|decode_head|"
    r"mask_token\w*|masked_embed|queue\w*|centers?|(dino|ibot)_\w+|relation_blocks|neck|\w+_head|momentum_\w+|"
    r"\w*memory\w*|assignments?\w*|"
    r"pre_logits|loss\w*|criterion|temperature|logit_scale|ema|memory_bank|feature_bank|lm_head)(\..*)?"
)

#: Beside a trunk these may be a part of the encoder that its architecture does not have.
_DOUBTFUL = re.compile(r"(?:.*\.)?(neck|proj|ema|pool\w*|\w+_?pool|resizer|expand\w*|bottleneck)(\..*)?")

#: Copies of one encoder in a file, the one to evaluate first.
_PREFERENCE = (
    "teacher",
    "online",
    "target_encoder",
    "target",
    "encoder_q",
    "base_encoder",
    "encoder",
    "backbone",
    "student",
    "momentum",
    "encoder_k",
)

#: Copies that are averages over training steps.
_AVERAGES = ("teacher", "target", "target_encoder", "momentum", "encoder_k", "ema")

#: Counters of BatchNorm batches: unused in eval mode, and absent from old files.
_COUNTER = "num_batches_tracked"

#: names of tensors that a message shows, where many do not fit
SHOWN = 10

#: types of weights; anything else under a weight's name is a quantized code, which needs its scale
_WEIGHT_TYPES = ("float16", "bfloat16", "float32", "float64")

Order = Literal["name", "order"]


class MisshapedTensor(EncoderError):
    """A tensor of the file has another shape than the architecture's."""

    def __init__(self, name: str, got: tuple[int, ...], want: tuple[int, ...], others: list[str]) -> None:
        more = f"; {len(others)} more have other shapes: {_some(others, SHOWN - 1)}" if others else ""
        super().__init__(f"tensor {name} has shape {got}, the architecture needs {want}{more}")
        self.name, self.got, self.want = name, got, want


@dataclass(frozen=True, slots=True)
class Positions:
    """The architecture's grid of position embeddings, to which a file's of another size are resampled.

    Attributes
    ----------
    n_prefix : tokens before the patches that have a position too
    grid : patches down and across
    patch : side of a patch, in pixels
    """

    n_prefix: int
    grid: tuple[int, int]
    patch: int


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
    known : the file is one of the catalogue, which knows its architecture and what it holds: nothing is asked
    """

    match: Order = "name"
    dialect: str = NATIVE
    average: bool | None = None
    architecture: str = ""
    options: tuple[str, ...] = ()
    known: bool = False


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
            text += f"; {len(self.filled)} that the file does not have were filled in: {_some(list(self.filled), 2)}"
        if self.left_over:
            groups = sorted({_group(name) for name in self.left_over})
            shown = ", ".join(groups[:8]) + (", …" if len(groups) > 8 else "")
            text += f"; left over {len(self.left_over)}: {shown}"
        else:
            text += "; none left over"
        text += f"; not used: another copy under {', '.join(self.others)}" if self.others else ""
        return text + "".join(f". {note}" for note in self.notes)


@dataclass(frozen=True, slots=True)
class _Candidate:
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


def load_encoder(module: "nn.Module", path: Path, choice: Choice | None = None) -> Match:
    """Fill `module` with the encoder found in the file.

    Raises
    ------
    EncoderError if a tensor of the module is missing or mis-shaped in the file, if one is not finite, or if the file
    has tensors under the encoder's prefix that are neither the module's nor a head's.
    """
    import torch

    choice = choice or Choice()
    wanted = module.state_dict()
    content = read_checkpoint(path)
    try:
        found = find_encoder(content, wanted, choice, positions=positions_of(module))
    except EncoderError as error:
        hint = _size_hint(module, error) if isinstance(error, MisshapedTensor) else ""
        named = choice.architecture or type(module).__name__
        raise EncoderError(f"{path} does not fit {named}: {error}{hint}") from None
    for name, tensor in found.tensors.items():
        _check_type(path, name, tensor, wanted[name])
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise EncoderError(f"{path}: tensor {name} holds NaN or infinity")
    module.load_state_dict(found.tensors, strict=False)  # strictness, but for the counters, is established above
    return found


def find_encoder(
    content: object,
    wanted: "Mapping[str, Tensor]",
    choice: Choice | None = None,
    *,
    positions: Positions | None = None,
) -> Match:
    """Find the tensors `wanted` (name → tensor of the right shape) in a file's content.

    With `match="order"`, names are ignored: the file's tensors, heads dropped, must have the shapes of the wanted
    ones, one by one. For files whose only difference is the naming; shapes cannot tell two equal layers apart, so
    check a known error rate afterwards.
    """
    choice = choice or Choice()
    held = contents_of(content)
    if not held.tensors:
        quantized = f"; {len(held.unreadable)} of its tensors are of kinds that are not read here"
        raise EncoderError(f"it holds no tensors{_keys_of(held)}{quantized if held.unreadable else ''}")
    if choice.match == "order":
        return _match_by_order(held, wanted)
    required = [name for name in wanted if not name.endswith(_COUNTER)]
    candidates = _candidates(held, wanted, required, choice, positions)
    if not candidates:
        raise EncoderError(_no_names(held, required))
    best = min(candidates, key=lambda candidate: candidate.rank)
    if not best.complete(len(required)):
        nearest = max(candidates, key=lambda c: (sum(name in c.tensors for name in required), c.n_fit))
        _raise_incomplete(nearest, held, wanted, required, candidates)
    for target, names in best.clashes.items():
        raise EncoderError(
            f"{names[0]} and {names[1]} both stand for {target} of the architecture: one of them belongs to a head; "
            "save the encoder's tensors apart"
        )
    if choice.average is not None and _preference(best.prefix, choice.average)[0]:
        kind = "an average over steps" if choice.average else "no average over steps"
        raise EncoderError(f"it has no copy of the encoder that is {kind}, only {_where(held, best.prefix) or 'one'}")
    chosen = {name: best.tensors[name] for name in wanted if name in best.tensors}
    chosen, notes = _resample(chosen, wanted, positions)
    complete = [c for c in candidates if c.complete(len(required)) and c is not best]
    left_over = [name for name in held.tensors if name not in best.sources]
    copies = [c.prefix for c in complete if c.prefix != best.prefix]
    _check_left_over(best, left_over, copies, len(required))
    asked = _ask(held, choice)
    notes += asked + _suspicions(best, left_over, copies, chosen, choice, held)
    others = tuple(dict.fromkeys(_where(held, prefix) for prefix in copies))
    return Match(
        chosen,
        _where(held, best.prefix),
        tuple(left_over),
        others,
        sum(name not in chosen for name in wanted),
        dialect=best.dialect.name if best.dialect else NATIVE,
        filled=best.filled,
        notes=tuple(notes),
    )


# --- where the encoder lies -------------------------------------------------------------------------


def _candidates(
    held: Contents, wanted: "Mapping[str, Tensor]", required: list[str], choice: Choice, positions: Positions | None
) -> list[_Candidate]:
    """Places under the architecture's own names; those of dialects where none of them is complete."""
    found: list[_Candidate] = []
    rank: tuple[int, ...]
    for prefix in _prefixes(held.tensors, required):
        tensors = {name: held.tensors[prefix + name] for name in wanted if prefix + name in held.tensors}
        n_fit = _count_fitting(tensors, wanted, required, positions)
        rank = (-n_fit, *_preference(prefix, choice.average), len(prefix))
        sources = frozenset(prefix + name for name in tensors)
        dialect = catalogue().dialects.get(choice.dialect)  # its rules about what to drop hold for native names too
        drops = None if dialect is None else _only_drops(dialect)
        found.append(
            _Candidate(prefix, tensors, sources, frozenset(), frozenset(), {}, (prefix,), drops, (), n_fit, rank)
        )
    if any(candidate.complete(len(required)) for candidate in found):
        return found
    named = [d for d in catalogue().dialects.values() if d.name == choice.dialect]
    for order, dialect in enumerate([*named, *(d for d in catalogue().dialects.values() if d.name != choice.dialect)]):
        for made in translate(dialect, held.tensors, wanted):
            n_fit = _count_fitting(made.tensors, wanted, required, positions)
            if n_fit > len(made.filled):
                rank = (-n_fit, *_preference(made.prefix, choice.average), len(made.prefix), order)
                found.append(_translated(made, dialect, wanted, n_fit, rank))
    return found


def _translated(
    made: Translation, dialect: Dialect, wanted: "Mapping[str, Tensor]", n_fit: int, rank: tuple[int, ...]
) -> _Candidate:
    """A translation as a candidate; without a prefix, the encoder lies where the names that were translated begin."""
    used = frozenset(name for name, targets in made.sources.items() if any(target in wanted for target in targets))
    unused = {name: targets for name, targets in made.sources.items() if name not in used}
    heads = frozenset(name for name, targets in unused.items() if all(_HEADS.fullmatch(t) for t in targets))
    beyond = frozenset(unused) - heads
    clashes = {target: names for target, names in made.clashes.items() if target in wanted}
    places = (made.prefix,) if made.prefix else tuple(sorted({f"{_first_part(name)}." for name in used}))
    return _Candidate(
        made.prefix, made.tensors, used, beyond, heads, clashes, places, dialect, tuple(made.filled), n_fit, rank
    )


def _only_drops(dialect: Dialect) -> Dialect:
    return Dialect(NATIVE, tuple(rule for rule in dialect.rules if "drop" in rule.operations))


def _count_fitting(
    tensors: "Mapping[str, Tensor]",
    wanted: "Mapping[str, Tensor]",
    required: list[str],
    positions: Positions | None,
) -> int:
    return sum(name in tensors and _fits(name, tensors[name], wanted[name], positions) for name in required)


def _fits(name: str, tensor: "Tensor", wanted: "Tensor", positions: Positions | None) -> bool:
    return tensor.shape == wanted.shape or _resampled_from(name, tensor, wanted, positions) is not None


def _prefixes(tensors: "Mapping[str, Tensor]", required: list[str]) -> list[str]:
    """Prefixes under which the file may hold the encoder, found through a few of the encoder's names."""
    anchors = dict.fromkeys([*required[:3], required[len(required) // 2], required[-1]])  # survive one missing tensor
    return sorted({name[: -len(a)] for a in anchors for name in tensors if name == a or name.endswith("." + a)})


def _preference(path: str, average: bool | None) -> tuple[int, int]:
    """Rank of a prefix among copies of the encoder; unknown names rank after `backbone`."""
    parts = [part for part in path.split(".") if part]

    def is_word(part: str, word: str) -> bool:
        return part == word or part.startswith(word + "_") or part.endswith("_" + word)

    ranks = [i for i, word in enumerate(_PREFERENCE) if any(p == word or p.startswith(word + "_") for p in parts)]
    usual = min(ranks, default=_PREFERENCE.index("student"))
    if average is None:
        return 0, usual
    is_average = any(is_word(part, word) for part in parts for word in _AVERAGES)
    return int(is_average != average), usual


def _where(held: Contents, prefix: str) -> str:
    return " → ".join(part for part in held.place_of(prefix) if part)


# --- what is missing --------------------------------------------------------------------------------


def _no_names(held: Contents, required: list[str]) -> str:
    names = list(held.tensors)
    return (
        f"none of its {len(names)} tensors has a name of the architecture, which wants {_some(required, SHOWN)}; "
        f"it has {_some(names, SHOWN)}. Is it another architecture? If only names differ, "
        "have tensors matched by their order: ckpt:FILE@ARCH?match=order"
    )


def _raise_incomplete(
    best: _Candidate,
    held: Contents,
    wanted: "Mapping[str, Tensor]",
    required: list[str],
    candidates: list[_Candidate],
) -> NoReturn:
    """Say which tensors are missing or mis-shaped at the place where most are."""
    native = [c for c in candidates if c.dialect is None or c.dialect.name == NATIVE]
    if best.n_fit * 4 < len(required) and not native:
        raise EncoderError(_no_names(held, required))
    missing = [name for name in required if name not in best.tensors]
    if missing:
        looked = f"looked under {best.prefix or 'no prefix'!r}"
        if best.dialect is not None and best.dialect.name != NATIVE:
            looked += f", by the names of {best.dialect.name}"
        quantized = [name for name in missing if best.prefix + name in held.unreadable]
        text = f"{len(missing)} of {len(required)} tensors are missing ({looked}): {_some(missing, SHOWN)}"
        if quantized:
            kind = held.unreadable[best.prefix + quantized[0]]
            text += f"; the file has {quantized[0]} as a {kind}, which means nothing as plain numbers: dequantize it"
        if set(missing) <= {"norm.weight", "norm.bias"} and f"{best.prefix}fc_norm.weight" in held.tensors:
            text += "; it has fc_norm instead, as networks that average patches: write ckpt:FILE@ARCH?global_pool=avg"
        raise EncoderError(text)
    wrong = [name for name in required if best.tensors[name].shape != wanted[name].shape]
    # position embeddings of another size are resampled: they are to blame only if nothing else is
    first, *others = sorted(wrong, key=lambda name: name.endswith("pos_embed"))
    got, want = tuple(best.tensors[first].shape), tuple(wanted[first].shape)
    raise MisshapedTensor(best.prefix + first, got, want, [best.prefix + name for name in others])


def _check_type(path: Path, name: str, tensor: "Tensor", wanted: "Tensor") -> None:
    """A weight must be a plain floating-point tensor: an int8 code under its name would load as its value."""
    kind = str(tensor.dtype).removeprefix("torch.")
    if wanted.is_floating_point() and (kind not in _WEIGHT_TYPES or tensor.is_quantized):
        raise EncoderError(
            f"{path}: tensor {name} is {kind}, where the architecture has {str(wanted.dtype).removeprefix('torch.')}: "
            "quantized weights are codes that mean nothing without their scales. Take the file that was not quantized, "
            "or dequantize it with the library that wrote it and save float16 or float32 tensors"
        )


# --- what is left over ------------------------------------------------------------------------------


def _check_left_over(best: _Candidate, left_over: list[str], copies: list[str], n_required: int) -> None:
    """Outside the encoder's prefix anything may lie; under it, only heads and copies."""
    strange = [
        name
        for name in left_over
        if name.startswith(best.places)
        and name not in best.heads
        and not name.endswith(_COUNTER)
        and not _HEADS.fullmatch(name[len(best.prefix) :])
        and not any(copy.startswith(best.prefix) and name.startswith(copy) for copy in copies)
        and not _is_wrapper_of(name, best.prefix, copies)
        and not (best.dialect is not None and is_dropped(best.dialect, name))
    ]
    strange += [name for name in left_over if name in best.beyond and name not in strange]
    if not strange:
        return
    text = (
        f"all {n_required} tensors of the architecture are there, but so are {len(strange)} more "
        f"that are no head: {_some(strange, SHOWN)}. "
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


def _suspicions(
    best: _Candidate,
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
    doubtful = sorted({_first_part(n[len(near) :]) for n in apart if n.startswith(near) and _is_doubtful(n, near)})
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
    if asks_padding and best.dialect is None and not any(name.endswith(_COUNTER) for name in best.sources):
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
    return bool(_DOUBTFUL.fullmatch(_first_part(name[len(near) :])))


def _first_part(name: str) -> str:
    return name.partition(".")[0]


def _is_stored_as_hwio(tensor: "Tensor") -> bool:
    """A convolution whose axes were permuted from (h, w, in, out) and not copied since."""
    if tensor.ndim != 4 or tensor.shape[2] * tensor.shape[3] == 1 or min(tensor.shape[:2]) < 2:
        return False
    out, inner, height, width = tensor.stride()
    return out == 1 and inner == tensor.shape[0] and height > width > inner


def _ask(held: Contents, choice: Choice) -> list[str]:
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


# --- position embeddings of another size ------------------------------------------------------------


def positions_of(module: "nn.Module") -> Positions | None:
    """The grid of a ViT's absolute position embeddings; None where it has none."""
    embed = getattr(module, "patch_embed", None)
    grid, patch = getattr(embed, "grid_size", None), getattr(embed, "patch_size", None)
    table = getattr(module, "pos_embed", None)
    if not (isinstance(grid, tuple) and isinstance(patch, tuple)) or getattr(table, "ndim", 0) != 3:
        return None
    shape: tuple[int, ...] = tuple(getattr(table, "shape", ()))
    return Positions(shape[1] - grid[0] * grid[1], (int(grid[0]), int(grid[1])), int(patch[0]))


def _resampled_from(name: str, tensor: "Tensor", wanted: "Tensor", positions: Positions | None) -> int | None:
    """Side of the square grid that position embeddings of a file are for, if they only differ in that."""
    if positions is None or name != "pos_embed" or tensor.ndim != 3 or tensor.shape[2] != wanted.shape[2]:
        return None
    side = math.isqrt(max(tensor.shape[1] - positions.n_prefix, 0))
    return side if side and side * side == tensor.shape[1] - positions.n_prefix else None


def _resample(
    chosen: "dict[str, Tensor]", wanted: "Mapping[str, Tensor]", positions: Positions | None
) -> "tuple[dict[str, Tensor], list[str]]":
    """Position embeddings at the architecture's grid, bicubic, and the sentence that says so."""
    notes = []
    for name, tensor in chosen.items():
        side = _resampled_from(name, tensor, wanted[name], positions)
        if tensor.shape == wanted[name].shape or side is None or positions is None:
            continue
        from timm.layers.pos_embed import resample_abs_pos_embed

        rows, columns = positions.grid
        changed = resample_abs_pos_embed(
            tensor.float(), [rows, columns], old_size=[side, side], num_prefix_tokens=positions.n_prefix
        )
        chosen = chosen | {name: changed}
        notes.append(
            f"Position embeddings for images of {side * positions.patch} pixels were resampled from {side}×{side} to "
            f"{rows}×{columns} (bicubic); for the file's own size write "
            f"ckpt:FILE@ARCH?img_size={side * positions.patch}"
        )
    return chosen, notes


def _size_hint(module: "nn.Module", error: MisshapedTensor) -> str:
    """The side of the images that a file's position embeddings are for, where that is what does not fit."""
    patch = getattr(getattr(module, "patch_embed", None), "patch_size", None)
    side = patch[0] if isinstance(patch, tuple) else patch
    if not error.name.endswith("pos_embed") or len(error.got) != 3 or not isinstance(side, int):
        return ""
    for n_prefix in dict.fromkeys((int(getattr(module, "num_prefix_tokens", 1)), 1, 0)):
        grid = math.isqrt(max(error.got[1] - n_prefix, 0))
        if grid and grid * grid == error.got[1] - n_prefix:
            size = grid * side
            return f". The file is for images of {size} pixels: write ckpt:FILE@ARCH?img_size={size}"
    return ""


# --- by order ---------------------------------------------------------------------------------------


def _match_by_order(held: Contents, wanted: "Mapping[str, Tensor]") -> Match:
    """Tensors in the file's order: without all that is named like a head, else without what lies behind the encoder.

    The second way serves encoders that have such a name inside, as the last convolution of an EfficientNet
    (`conv_head`) has.
    """
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in held.tensors.items():
        place, rest = held.place_of(name)
        groups.setdefault(place, {})[rest] = tensor
    reasons: list[_OrderClash] = []
    for place, tensors in groups.items():
        prefix = _common_prefix(list(tensors))
        has_counters = any(name.endswith(_COUNTER) for name in tensors)
        needed = [name for name in wanted if has_counters or not name.endswith(_COUNTER)]
        heads = [name for name in tensors if _is_head(name, prefix)]
        for given in ([n for n in tensors if n not in set(heads)], _without_heads_behind(list(tensors), heads)):
            clash = _first_clash(given, needed, tensors, wanted)
            if clash is None:
                chosen = {n: tensors[g] for g, n in zip(given, needed, strict=True)}
                left_over = tuple(name for name in tensors if name not in set(given))
                found = Match(chosen, place, left_over, (), len(wanted) - len(chosen), True)
                return replace(found, notes=(f"The first pairs are {_pairs(given, needed)}",))
            reasons.append(clash)
    raise EncoderError(f"matching by order fails: {max(reasons, key=lambda clash: clash.n_fit).text}")


@dataclass(frozen=True, slots=True)
class _OrderClash:
    """How many tensors fit in order, and what does not."""

    n_fit: int
    text: str


def _without_heads_behind(names: list[str], heads: list[str]) -> list[str]:
    """The names up to the last that is no head's."""
    end = next((i + 1 for i in range(len(names) - 1, -1, -1) if names[i] not in set(heads)), 0)
    return names[:end]


def _first_clash(
    given: list[str], needed: list[str], tensors: "Mapping[str, Tensor]", wanted: "Mapping[str, Tensor]"
) -> _OrderClash | None:
    for i, (g, n) in enumerate(zip(given, needed, strict=False)):
        if tensors[g].shape != wanted[n].shape:
            text = f"tensor {i + 1} in order is {g} {tuple(tensors[g].shape)}, the architecture has {n} "
            return _OrderClash(i, f"{text}{tuple(wanted[n].shape)} there")
    if len(given) != len(needed):
        n_fit = min(len(given), len(needed))
        return _OrderClash(n_fit, f"it has {len(given)} tensors besides heads, the architecture has {len(needed)}")
    return None


def _pairs(given: list[str], needed: list[str]) -> str:
    return ", ".join(f"{g} → {n}" for g, n in zip(given[:3], needed[:3], strict=True))


def _is_head(name: str, prefix: str) -> bool:
    """Whether a name is a head's, by its first component beside or under a prefix."""
    if name.startswith(prefix) and _HEADS.fullmatch(name[len(prefix) :]):
        return True
    outer = prefix  # module.backbone. → module. → nothing
    while outer:
        outer = outer[: outer[:-1].rfind(".") + 1]
        if name.startswith(outer) and _HEADS.fullmatch(name[len(outer) :]):
            return True
    return False


def _common_prefix(names: list[str]) -> str:
    first, last = min(names), max(names)
    n = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[: first[:n].rfind(".") + 1]


def _group(name: str) -> str:
    parts = [part for part in name.split(".") if part not in ("module", "model", "backbone", "state_dict")]
    return f"{parts[0]}.*" if len(parts) > 1 else (parts[0] if parts else name)


def _some(names: Iterable[str], n: int = 4) -> str:
    shown = list(names)
    return ", ".join(shown[:n]) + (f", … ({len(shown)} in all)" if len(shown) > n else "")


def _keys_of(held: Contents) -> str:
    if isinstance(held.keys, tuple):
        return f"; its keys are {_some(held.keys)}"
    return f"; it is a {held.keys}"
