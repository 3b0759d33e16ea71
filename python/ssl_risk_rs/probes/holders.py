"""Who holds the rows of a data set, as the process that fits probes asks them."""

import itertools
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

from ssl_risk_rs.errors import ParameterError

__all__ = ["Holders", "Reply", "Span", "ask", "spans_of"]

#: first row, and the one after the last
Span: TypeAlias = tuple[int, int]


class Reply(Protocol):
    """What a holder will answer."""

    def result(self) -> Any:
        """The answer, when it is there; raises what the holder raised."""


class Holders(Protocol):
    """Holders of all rows, wherever they are; `spans` follow each other from row 0 on."""

    spans: tuple[Span, ...]

    def submit(self, index: int, method: str, *arguments: Any) -> Reply:
        """Call a method of a holder; holders work at the same time."""

    def keep(self, value: Any) -> Any:
        """What stands for a value in arguments, so that it travels once however often it is an argument."""


def ask(holders: Holders, method: str, each: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Call a method of every holder with arguments of its own; the answers in the order of spans."""
    replies = [holders.submit(i, method, *arguments) for i, arguments in enumerate(each)]
    return [reply.result() for reply in replies]


def spans_of(n_rows: int, count: int) -> tuple[Span, ...]:
    """`count` ranges of nearly equal length, as those of `--shard`.

    Raises
    ------
    ParameterError if there are none, or more than rows.
    """
    if not 1 <= count <= n_rows:
        raise ParameterError(f"{n_rows:,} rows can be held in 1 to {n_rows:,} parts, not {count}")
    edges = [i * n_rows // count for i in range(count + 1)]
    return tuple(itertools.pairwise(edges))
