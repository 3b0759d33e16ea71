"""Tensors matched by their order alone, for files that differ from the architecture in names only."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ssl_risk_rs.encoders.weights.match import COUNTER, HEADS, Match
from ssl_risk_rs.encoders.weights.naming import Contents
from ssl_risk_rs.errors import EncoderError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["match_by_order"]


def match_by_order(held: Contents, wanted: "Mapping[str, Tensor]") -> Match:
    """Tensors in the file's order: without all that is named like a head, else without what lies behind the encoder,
    else all.

    The second way serves encoders that have such a name inside, as the last convolution of an EfficientNet
    (`conv_head`) has, the third those that end in one.
    """
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in held.tensors.items():
        place, rest = held.place_of(name)
        groups.setdefault(place, {})[rest] = tensor
    reasons: list[_OrderClash] = []
    for place, tensors in groups.items():
        prefix = _common_prefix(list(tensors))
        has_counters = any(name.endswith(COUNTER) for name in tensors)
        needed = [name for name in wanted if has_counters or not name.endswith(COUNTER)]
        heads = [name for name in tensors if _is_head(name, prefix)]
        without = [n for n in tensors if n not in set(heads)]
        for given in (without, _without_heads_behind(list(tensors), heads), list(tensors)):
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
    if name.startswith(prefix) and HEADS.fullmatch(name[len(prefix) :]):
        return True
    outer = prefix  # module.backbone. → module. → nothing
    while outer:
        outer = outer[: outer[:-1].rfind(".") + 1]
        if name.startswith(outer) and HEADS.fullmatch(name[len(outer) :]):
            return True
    return False


def _common_prefix(names: list[str]) -> str:
    first, last = min(names), max(names)
    n = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[: first[:n].rfind(".") + 1]
