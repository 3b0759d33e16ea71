"""A checkpoint file → the tensors of one encoder, every one of them matched by name and shape.

Checkpoints wrap the encoder in dictionaries (`state_dict`, `model`, `teacher`, …), prefix its names
(`module.`, `backbone.`, …) and carry heads beside it. The encoder's own names tell where it lies: wherever
the file has `PREFIX + first name of the encoder`, PREFIX is tried. The prefix under which most tensors
fit wins; among equals, the network that the method's authors evaluate (teacher, target, query encoder).
Nothing is guessed beyond that: a missing or mis-shaped tensor, or a tensor left over that is no head,
is an error that names it.
"""

import contextlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ssl_risk_rs.errors import EncoderError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Match", "find_encoder", "load_encoder", "read_checkpoint"]

#: First component of names that belong to heads, decoders and training state, never to an encoder.
_HEADS = re.compile(
    r"_?(fc|fc\d+|head|heads|head_\w+|heads_\w+|last_layer|linear|classif\w*|logits?|\w*projection_head\w*|"
    r"proj|proj_\w+|projector\w*|projection\w*|\w*predict\w+|pred|prototypes?\d*|decoder\w*|decode_head|"
    r"mask_token\w*|masked_embed|queue\w*|centers?|(dino|ibot)_\w+|relation_blocks|neck|resizer|"
    r"pre_logits|loss\w*|criterion|temperature|logit_scale|ema|memory_bank|feature_bank)(\..*)?"
)

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

#: Counters of BatchNorm batches: unused in eval mode, and absent from old files.
_COUNTER = "num_batches_tracked"


#: types of weights; anything else under a weight's name is a quantized code, which needs its scale
_WEIGHT_TYPES = ("float16", "bfloat16", "float32", "float64")


class MisshapedTensor(EncoderError):
    """A tensor of the file has another shape than the architecture's."""

    def __init__(self, name: str, got: tuple[int, ...], want: tuple[int, ...]) -> None:
        super().__init__(f"tensor {name} has shape {got}, the architecture needs {want}")
        self.name, self.got, self.want = name, got, want


@dataclass(frozen=True, slots=True)
class Match:
    """How a file's tensors were assigned to the encoder's.

    Attributes
    ----------
    tensors : the encoder's state dict
    where : wrapper and prefix in the file, such as "state_dict → module.encoder_q."
    left_over : names in the file that were not used: heads and other copies of the encoder
    others : where the file holds further complete copies of the encoder
    n_counters_missing : batch counters that the file does not have (they matter in training only)
    by_order : names were ignored
    """

    tensors: "dict[str, Tensor]"
    where: str
    left_over: tuple[str, ...]
    others: tuple[str, ...] = ()
    n_counters_missing: int = 0
    by_order: bool = False

    def summary(self) -> str:
        """One line for people: what was matched, what was left over."""
        text = f"matched {len(self.tensors)} tensors of the encoder"
        text += f" under {self.where}" if self.where else ""
        text += " by order" if self.by_order else ""
        if self.n_counters_missing:
            text += f" (the file has no batch counters: {self.n_counters_missing}, not used in eval mode)"
        if self.left_over:
            groups = sorted({_group(name) for name in self.left_over})
            shown = ", ".join(groups[:8]) + (", …" if len(groups) > 8 else "")
            text += f"; left over {len(self.left_over)}: {shown}"
        else:
            text += "; none left over"
        return text + (f"; not used: another copy under {', '.join(self.others)}" if self.others else "")


def read_checkpoint(path: Path) -> Any:
    """Read a `.safetensors` file or a torch checkpoint without running code from it.

    Raises
    ------
    EncoderError if the file is missing, is neither format, or holds objects that would have to run code.
    """
    if not path.is_file():
        raise EncoderError(f"no checkpoint at {path}")
    with path.open("rb") as file:
        head = file.read(16)
    if path.suffix == ".safetensors" or head[8:9] == b"{":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise EncoderError(f"{path} is no intact safetensors file ({error}); copy or download it again") from error
    if not (head.startswith(b"PK") or head.startswith(b"\x80")):
        hint = "; it is a web page, not a checkpoint" if head.lstrip()[:1] == b"<" else ""
        raise EncoderError(f"{path} is neither a torch checkpoint nor a safetensors file{hint}")
    return _read_torch(path)


def _read_torch(path: Path) -> Any:
    import argparse
    import pickle

    import torch

    # Options of a training script, stored beside the weights: plain attributes, no code.
    harmless = getattr(torch.serialization, "safe_globals", lambda _: contextlib.nullcontext())
    try:
        with harmless([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"(?:Unsupported global: GLOBAL|Unsupported class) ([\w.]+)", str(error))
        what = f"objects that need code to load ({found.group(1)})" if found else "more than tensors and plain values"
        raise EncoderError(
            f"{path} holds {what}; it was not opened, since that can run anything. If you trust its source, "
            'convert it once, in an environment you can lose: python -c "import torch; '
            f"c = torch.load({path.name!r}, map_location='cpu', weights_only=False); "
            "torch.save(c['state_dict'], 'weights.pth')\" (or whichever entry holds the tensors), "
            "then load weights.pth"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EncoderError(f"{path} is damaged or cut short ({reason}); copy or download it again") from error


def load_encoder(
    module: "nn.Module", path: Path, *, match: Literal["name", "order"] = "name", architecture: str = ""
) -> Match:
    """Fill `module` with the encoder found in the file.

    Raises
    ------
    EncoderError if a tensor of the module is missing or mis-shaped in the file, if one is not finite, or
    if the file has tensors that are neither the module's nor a head's.
    """
    import torch

    wanted = module.state_dict()
    content = read_checkpoint(path)
    try:
        found = find_encoder(content, wanted, match=match)
    except EncoderError as error:
        hint = _size_hint(module, error) if isinstance(error, MisshapedTensor) else ""
        raise EncoderError(f"{path} does not fit {architecture or type(module).__name__}: {error}{hint}") from None
    for name, tensor in found.tensors.items():
        _check_type(path, name, tensor, wanted[name])
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise EncoderError(f"{path}: tensor {name} holds NaN or infinity")
    module.load_state_dict(found.tensors, strict=False)  # strictness, but for the counters, is established above
    return found


def _check_type(path: Path, name: str, tensor: "Tensor", wanted: "Tensor") -> None:
    """A weight must be a plain floating-point tensor: an int8 code under its name would load as its value."""
    kind = str(tensor.dtype).removeprefix("torch.")
    if wanted.is_floating_point() and (kind not in _WEIGHT_TYPES or tensor.is_quantized):
        raise EncoderError(
            f"{path}: tensor {name} is {kind}, where the architecture has {str(wanted.dtype).removeprefix('torch.')}: "
            "quantized weights are codes that mean nothing without their scales. Take the file that was not quantized, "
            "or dequantize it with the library that wrote it and save float16 or float32 tensors"
        )


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


def find_encoder(content: Any, wanted: "Mapping[str, Tensor]", *, match: Literal["name", "order"] = "name") -> Match:
    """Find the tensors `wanted` (name → tensor of the right shape) in a checkpoint's content.

    With `match="order"`, names are ignored: the file's tensors, heads dropped, must have the shapes of
    the wanted ones, one by one. For files whose only difference is the naming; shapes cannot tell two
    equal layers apart, so check a known error rate afterwards.
    """
    dicts = dict(_state_dicts(content))
    if not dicts:
        raise EncoderError(f"it holds no tensors{_keys_of(content)}")
    if match == "order":
        return _match_by_order(dicts, wanted)
    required = [name for name in wanted if not name.endswith(_COUNTER)]
    candidates = []
    for order, (wrapper, tensors) in enumerate(dicts.items()):
        for prefix in _prefixes(tensors, required):
            n_fit = sum(
                prefix + name in tensors and tensors[prefix + name].shape == wanted[name].shape for name in required
            )
            rank = (-n_fit, _preference(f"{wrapper}.{prefix}"), order, len(prefix))
            candidates.append((rank, wrapper, prefix))
    if not candidates:
        names = [name for tensors in dicts.values() for name in tensors]
        raise EncoderError(
            f"none of its {len(names)} tensors has a name of the architecture (such as {required[0]}); "
            f"it has {_some(names)}. Is it another architecture? If only names differ, "
            "have tensors matched by their order: ckpt:FILE@ARCH?match=order"
        )
    rank, wrapper, prefix = min(candidates)
    tensors = dicts[wrapper]
    _check_complete(tensors, prefix, wanted, required)
    chosen = {name: tensors[prefix + name] for name in wanted if prefix + name in tensors}
    used = {prefix + name for name in chosen}
    left_over = [name for name in tensors if name not in used]
    complete = [(w, p) for r, w, p in candidates if r[0] == rank[0] and (w, p) != (wrapper, prefix)]
    copies = [p for w, p in complete if w == wrapper]
    strange = [
        name
        for name in left_over
        if not name.endswith(_COUNTER)
        and not _is_head(name, prefix)
        and not any(name.startswith(p) or _is_head(name, p) for p in copies)
    ]
    if strange:
        raise EncoderError(
            f"all {len(required)} tensors of the architecture are there, but so are {len(strange)} more "
            f"that are no head: {_some(strange)}. Is it a larger architecture?"
        )
    others = tuple(_where(*place) for place in complete)
    return Match(chosen, _where(wrapper, prefix), tuple(left_over), others, len(wanted) - len(chosen))


def _where(wrapper: str, prefix: str) -> str:
    return " → ".join(part for part in (wrapper, prefix) if part)


def _check_complete(
    tensors: "Mapping[str, Tensor]", prefix: str, wanted: "Mapping[str, Tensor]", required: list[str]
) -> None:
    missing = [name for name in required if prefix + name not in tensors]
    if missing:
        raise EncoderError(
            f"{len(missing)} of {len(required)} tensors are missing "
            f"(looked under {prefix or 'no prefix'!r}): {_some(missing)}"
        )
    for name in required:
        got, want = tuple(tensors[prefix + name].shape), tuple(wanted[name].shape)
        if got != want:
            raise MisshapedTensor(prefix + name, got, want)


def _match_by_order(dicts: "dict[str, dict[str, Tensor]]", wanted: "Mapping[str, Tensor]") -> Match:
    reasons = []
    for wrapper, tensors in dicts.items():
        prefix = _common_prefix(list(tensors))
        has_counters = any(name.endswith(_COUNTER) for name in tensors)
        needed = [name for name in wanted if has_counters or not name.endswith(_COUNTER)]
        given = [name for name in tensors if not _is_head(name, prefix)]
        left_over = tuple(name for name in tensors if _is_head(name, prefix))
        clash = next(
            (i for i, (g, n) in enumerate(zip(given, needed, strict=False)) if tensors[g].shape != wanted[n].shape),
            None,
        )
        if clash is not None:
            g, n = given[clash], needed[clash]
            reasons.append(
                f"tensor {clash + 1} in order is {g} {tuple(tensors[g].shape)}, the architecture has {n} "
                f"{tuple(wanted[n].shape)} there"
            )
        elif len(given) != len(needed):
            reasons.append(f"it has {len(given)} tensors besides heads, the architecture has {len(needed)}")
        else:
            chosen = {n: tensors[g] for g, n in zip(given, needed, strict=True)}
            return Match(chosen, wrapper, left_over, (), len(wanted) - len(chosen), True)
    raise EncoderError(f"matching by order fails: {reasons[0]}")


def _state_dicts(content: Any, path: str = "", depth: int = 6) -> "list[tuple[str, dict[str, Tensor]]]":
    """All dictionaries in `content` that hold tensors, with the path of keys that leads to each.

    Nested dictionaries of tensors (a trunk and its heads) are found one by one.
    """
    import torch

    if not isinstance(content, Mapping) or depth == 0:
        return []
    here = {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}
    found = [(path, here)] if here else []
    for key, value in content.items():
        if isinstance(value, Mapping) and str(key) not in ("optimizer", "optimizers", "optimizer_states"):
            found += _state_dicts(value, f"{path}.{key}" if path else str(key), depth - 1)
    return found


def _prefixes(tensors: "Mapping[str, Tensor]", required: list[str]) -> list[str]:
    """Prefixes under which the file may hold the encoder, found through a few of the encoder's names."""
    anchors = dict.fromkeys([*required[:3], required[len(required) // 2], required[-1]])  # survive one missing tensor
    return sorted({name[: -len(a)] for a in anchors for name in tensors if name == a or name.endswith("." + a)})


def _preference(path: str) -> int:
    """Rank of a wrapper and prefix among copies of the encoder; unknown names rank after `backbone`."""
    parts = re.split(r"[.→ ]+", path)
    ranks = [i for i, word in enumerate(_PREFERENCE) if any(p == word or p.startswith(word + "_") for p in parts)]
    return min(ranks, default=_PREFERENCE.index("student"))


def _is_head(name: str, prefix: str) -> bool:
    """Whether a left-over name is a head's, by its first component beside or under the encoder's prefix."""
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
    parts = [part for part in name.split(".") if part not in ("module", "model", "backbone")]
    return f"{parts[0]}.*" if len(parts) > 1 else parts[0]


def _some(names: list[str], n: int = 4) -> str:
    return ", ".join(names[:n]) + (f", … ({len(names)} in all)" if len(names) > n else "")


def _keys_of(content: Any) -> str:
    if isinstance(content, Mapping):
        return f"; its keys are {_some([str(key) for key in content])}"
    return f"; it is a {type(content).__name__}"
