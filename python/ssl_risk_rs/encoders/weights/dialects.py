"""Other libraries' names of tensors → the architecture's, by the rules of the catalogue's table `dialects`.

A rule's pattern matches a name behind any prefix; the tensors under one prefix make one translation. A name is
translated by the first rule that matches it. Nothing is decided here: a translation counts only if it is complete.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from ssl_risk_rs.encoders.catalogue.tables import Dialect, Rule

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Translation", "is_dropped", "translate"]

_GROUP = re.compile(r"\{(\d+)(?:([+-])(\d+))?\}")


@dataclass(slots=True)
class Translation:
    """What a file holds under one prefix, in the architecture's names.

    Attributes
    ----------
    prefix : of the names in the file
    tensors : by the architecture's names
    sources : names in the file they were made of, with the names they became
    filled : names that the file does not have and that were filled in
    clashes : names that two tensors of the file became, with both
    """

    prefix: str
    tensors: "dict[str, Tensor]" = field(default_factory=dict)
    sources: dict[str, tuple[str, ...]] = field(default_factory=dict)
    filled: list[str] = field(default_factory=list)
    clashes: dict[str, tuple[str, str]] = field(default_factory=dict)


def translate(dialect: Dialect, tensors: "Mapping[str, Tensor]", wanted: "Mapping[str, Tensor]") -> list[Translation]:
    """Every translation of the file's names by a dialect, one for each prefix."""
    found: dict[str, Translation] = {}
    parts: dict[tuple[str, str], dict[int, Tensor]] = {}  # of tensors that are joined
    folds: list[tuple[str, str]] = []
    for name, tensor in tensors.items():
        hit = _first_rule(dialect, name)
        if hit is None:
            continue
        rule, match = hit
        prefix = match["prefix"]
        made = found.setdefault(prefix, Translation(prefix))
        targets = [_fill_in(rule.becomes, match)]
        if "copy" in rule.operations:
            targets = [target for target in wanted if fnmatchcase(target, targets[0])]
        for target in targets:
            value: Tensor | None = tensor
            for operation in rule.operations:
                if operation.startswith("join:"):
                    parts.setdefault((prefix, target), {})[int(operation[5:])] = value if value is not None else tensor
                    value = None
                elif value is not None:
                    value = _change(operation, value, wanted.get(target))
            if value is not None and target in made.tensors:
                before = next(source for source, targets in made.sources.items() if target in targets)
                made.clashes[target] = (before, name)
            elif value is not None:
                made.tensors[target] = value
            if "fold" in rule.operations:
                folds.append((prefix, target))
        made.sources[name] = tuple(targets)
    _join(found, parts)
    for prefix, target in folds:
        _fold(found[prefix].tensors, target, wanted.get(target))
    for rule in dialect.rules:
        if rule.pattern is None:
            for made in found.values():
                _fill(made, rule, wanted)
    return list(found.values())


def is_dropped(dialect: Dialect, name: str) -> bool:
    """Whether the dialect knows a name in the file as no part of the encoder."""
    return any(
        "drop" in rule.operations and rule.pattern is not None and rule.pattern.fullmatch(name)
        for rule in dialect.rules
    )


def _first_rule(dialect: Dialect, name: str) -> tuple[Rule, re.Match[str]] | None:
    for rule in dialect.rules:
        if rule.pattern is None or rule.operations[0] in ("drop", "ask", "note"):
            continue
        if match := rule.pattern.fullmatch(name):
            return rule, match
    return None


def _fill_in(text: str, match: re.Match[str]) -> str:
    """`layer{1+1}` with the match's groups; the prefix is the first group of every pattern."""

    def value(hole: re.Match[str]) -> str:
        group = match.group(int(hole[1]) + 1)
        if not hole[2]:
            return str(group)
        return str(int(group) + (int(hole[3]) if hole[2] == "+" else -int(hole[3])))

    return _GROUP.sub(value, text)


def _change(operation: str, tensor: "Tensor", wanted: "Tensor | None") -> "Tensor":
    """One operation; a tensor of too few axes is left to the check of shapes."""
    if operation == "hwio" and tensor.ndim == 4:  # (h, w, in, out) → (out, in, h, w)
        return tensor.permute(3, 2, 0, 1)
    if operation == "squeeze":
        return tensor.squeeze()
    if operation == "flatten":
        return tensor.reshape(-1)
    if operation == "flatten_out" and tensor.ndim >= 2:  # (in, heads, width) → (heads · width, in)
        return tensor.flatten(1).t()
    if operation == "flatten_in" and tensor.ndim >= 2:  # (heads, width, out) → (out, heads · width)
        return tensor.flatten(0, -2).t()
    if operation == "transpose" and tensor.ndim == 2:
        return tensor.t()
    if operation == "lead" and wanted is not None:  # axes of size 1 in front
        return tensor.reshape((1,) * (wanted.ndim - tensor.ndim) + tuple(tensor.shape))
    return tensor


def _join(found: dict[str, Translation], parts: "dict[tuple[str, str], dict[int, Tensor]]") -> None:
    """Queries, keys and values one below another; incomplete ones stay missing."""
    import torch

    for (prefix, target), pieces in parts.items():
        if sorted(pieces) == list(range(3)) and len({piece.shape[1:] for piece in pieces.values()}) == 1:
            found[prefix].tensors[target] = torch.cat([pieces[i] for i in range(3)])


def _fold(tensors: "dict[str, Tensor]", target: str, wanted: "Tensor | None") -> None:
    """The class token's position embedding joins the class token, where the architecture has positions of patches only.

    Shapes: positions (1, 1 + n, d), class token (1, 1, d).
    """
    positions, token = tensors.get(target), tensors.get("cls_token")
    if positions is None or token is None or wanted is None or positions.ndim != 3 or wanted.ndim != 3:
        return
    if _is_square(positions.shape[1] - 1) and _is_square(wanted.shape[1]):
        tensors["cls_token"] = token + positions[:, :1].to(token.dtype)
        tensors[target] = positions[:, 1:]


def _is_square(count: int) -> bool:
    return count > 0 and round(count**0.5) ** 2 == count


def _fill(made: Translation, rule: Rule, wanted: "Mapping[str, Tensor]") -> None:
    import torch

    value = float(rule.operations[0][5:])
    for name, tensor in wanted.items():
        if name not in made.tensors and fnmatchcase(name, rule.becomes):
            made.tensors[name] = torch.full(tuple(tensor.shape), value)
            made.filled.append(name)
