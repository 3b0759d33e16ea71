"""The content of a file → the tensors of one encoder, every one of them matched by name and shape.

Checkpoints wrap the encoder in dictionaries (`state_dict`, `model`, `teacher`, …), prefix its names (`module.`,
`backbone.`, …) and carry heads beside it. The encoder's own names tell where it lies: wherever the file has
`PREFIX + first name of the encoder`, PREFIX is tried. The prefix under which most tensors fit wins; among equals,
the network that the method's authors evaluate (teacher, target, query encoder), then the shortest, then the first by
name. Where no prefix is complete, the dialects of the catalogue are tried, and count only if they are.

Nothing is guessed beyond that. A missing or mis-shaped tensor is an error that names it. What is left over is judged
by its place: outside the encoder's prefix it is reported, under it it must be a known head.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ssl_risk_rs.encoders.catalogue.tables import NATIVE
from ssl_risk_rs.encoders.weights.archives import read_checkpoint
from ssl_risk_rs.encoders.weights.by_order import match_by_order
from ssl_risk_rs.encoders.weights.candidates import find_candidates, preference, where
from ssl_risk_rs.encoders.weights.left_over import ask, check_left_over, suspicions
from ssl_risk_rs.encoders.weights.match import COUNTER, SHOWN, Candidate, Choice, Match, MisshapedTensor, some
from ssl_risk_rs.encoders.weights.naming import Contents, contents_of
from ssl_risk_rs.encoders.weights.positions import Positions, positions_of, resample, size_hint
from ssl_risk_rs.errors import EncoderError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["find_encoder", "load_encoder"]

#: types of weights; anything else under a weight's name is a quantized code, which needs its scale
_WEIGHT_TYPES = ("float16", "bfloat16", "float32", "float64")


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
    if not any(not name.endswith(COUNTER) for name in wanted):
        raise EncoderError(f"{choice.architecture or type(module).__name__} has no tensors that {path} could fill")
    content = read_checkpoint(path)
    try:
        found = find_encoder(content, wanted, choice, positions=positions_of(module))
    except EncoderError as error:
        hint = size_hint(module, error) if isinstance(error, MisshapedTensor) else ""
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
        return match_by_order(held, wanted)
    required = [name for name in wanted if not name.endswith(COUNTER)]
    candidates = find_candidates(held, wanted, required, choice, positions)
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
    if choice.average is not None and preference(best.prefix, choice.average)[0]:
        kind = "an average over steps" if choice.average else "no average over steps"
        raise EncoderError(f"it has no copy of the encoder that is {kind}, only {where(held, best.prefix) or 'one'}")
    chosen = {name: best.tensors[name] for name in wanted if name in best.tensors}
    chosen, notes = resample(chosen, wanted, positions)
    complete = [c for c in candidates if c.complete(len(required)) and c is not best]
    left_over = [name for name in held.tensors if name not in best.sources]
    copies = [c.prefix for c in complete if c.prefix != best.prefix]
    check_left_over(best, left_over, copies, len(required), own=choice.own)
    asked = ask(held, choice)
    notes += asked + suspicions(best, left_over, copies, chosen, choice, held)
    others = tuple(dict.fromkeys(where(held, prefix) for prefix in copies))
    return Match(
        chosen,
        where(held, best.prefix),
        tuple(left_over),
        others,
        sum(name not in chosen for name in wanted),
        dialect=best.dialect.name if best.dialect else NATIVE,
        filled=best.filled,
        notes=tuple(notes),
    )


def _no_names(held: Contents, required: list[str]) -> str:
    names = list(held.tensors)
    return (
        f"none of its {len(names)} tensors has a name of the architecture, which wants {some(required, SHOWN)}; "
        f"it has {some(names, SHOWN)}. Is it another architecture? If only names differ, "
        "have tensors matched by their order: ckpt:FILE@ARCH?match=order"
    )


def _raise_incomplete(
    best: Candidate,
    held: Contents,
    wanted: "Mapping[str, Tensor]",
    required: list[str],
    candidates: list[Candidate],
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
        text = f"{len(missing)} of {len(required)} tensors are missing ({looked}): {some(missing, SHOWN)}"
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


def _keys_of(held: Contents) -> str:
    if isinstance(held.keys, tuple):
        return f"; its keys are {some(held.keys)}"
    return f"; it is a {held.keys}"
