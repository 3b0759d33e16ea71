"""Where in a file an encoder may lie: under its own names, else under those of a dialect."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ssl_risk_rs.encoders.catalogue.tables import NATIVE, Dialect, catalogue
from ssl_risk_rs.encoders.weights.dialects import Translation, translate
from ssl_risk_rs.encoders.weights.match import HEADS, Candidate, Choice, first_part
from ssl_risk_rs.encoders.weights.naming import Contents
from ssl_risk_rs.encoders.weights.positions import Positions, resampled_from

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["find_candidates", "preference", "where"]

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


def find_candidates(
    held: Contents, wanted: "Mapping[str, Tensor]", required: list[str], choice: Choice, positions: Positions | None
) -> list[Candidate]:
    """Places under the architecture's own names; those of dialects where none of them is complete."""
    found: list[Candidate] = []
    rank: tuple[int, ...]
    for prefix in _prefixes(held.tensors, required):
        tensors = {name: held.tensors[prefix + name] for name in wanted if prefix + name in held.tensors}
        n_fit = _count_fitting(tensors, wanted, required, positions)
        rank = (-n_fit, *preference(prefix, choice.average), len(prefix))
        sources = frozenset(prefix + name for name in tensors)
        dialect = catalogue().dialects.get(choice.dialect)  # its rules about what to drop hold for native names too
        drops = None if dialect is None else _only_drops(dialect)
        found.append(
            Candidate(prefix, tensors, sources, frozenset(), frozenset(), {}, (prefix,), drops, (), n_fit, rank)
        )
    if any(candidate.complete(len(required)) for candidate in found):
        return found
    named = [d for d in catalogue().dialects.values() if d.name == choice.dialect]
    for order, dialect in enumerate([*named, *(d for d in catalogue().dialects.values() if d.name != choice.dialect)]):
        for made in translate(dialect, held.tensors, wanted):
            n_fit = _count_fitting(made.tensors, wanted, required, positions)
            if n_fit > len(made.filled):
                rank = (-n_fit, *preference(made.prefix, choice.average), len(made.prefix), order)
                found.append(_translated(made, dialect, wanted, n_fit, rank))
    return found


def _translated(
    made: Translation, dialect: Dialect, wanted: "Mapping[str, Tensor]", n_fit: int, rank: tuple[int, ...]
) -> Candidate:
    """A translation as a candidate; without a prefix, the encoder lies where the names that were translated begin."""
    used = frozenset(name for name, targets in made.sources.items() if any(target in wanted for target in targets))
    unused = {name: targets for name, targets in made.sources.items() if name not in used}
    heads = frozenset(name for name, targets in unused.items() if all(HEADS.fullmatch(t) for t in targets))
    beyond = frozenset(unused) - heads
    clashes = {target: names for target, names in made.clashes.items() if target in wanted}
    places = (made.prefix,) if made.prefix else tuple(sorted({f"{first_part(name)}." for name in used}))
    return Candidate(
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
    return tensor.shape == wanted.shape or resampled_from(name, tensor, wanted, positions) is not None


def _prefixes(tensors: "Mapping[str, Tensor]", required: list[str]) -> list[str]:
    """Prefixes under which the file may hold the encoder, found through a few of the encoder's names."""
    anchors = dict.fromkeys([*required[:3], required[len(required) // 2], required[-1]])  # survive one missing tensor
    return sorted({name[: -len(a)] for a in anchors for name in tensors if name == a or name.endswith("." + a)})


def preference(path: str, average: bool | None) -> tuple[int, int]:
    """Rank of a prefix among copies of the encoder; unknown names rank after `backbone`."""
    parts = [part for part in path.split(".") if part]

    def is_word(part: str, word: str) -> bool:
        return part == word or part.startswith(word + "_") or part.endswith("_" + word)

    ranks = [i for i, word in enumerate(_PREFERENCE) if any(p == word or p.startswith(word + "_") for p in parts)]
    is_average = any(is_word(part, word) for part in parts for word in _AVERAGES)
    # an average whose name no method is known by comes after what was trained
    usual = min(ranks, default=len(_PREFERENCE) if is_average else _PREFERENCE.index("student"))
    if average is None:
        return 0, usual
    return int(is_average != average), usual


def where(held: Contents, prefix: str) -> str:
    return " → ".join(part for part in held.place_of(prefix) if part)
