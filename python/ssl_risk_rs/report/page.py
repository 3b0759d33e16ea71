"""What a report consists of, whatever it is written as: chapters of sections of sentences, tables, figures and code."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    import altair as alt

__all__ = [
    "Block", "Chapter", "Code", "Column", "Definitions", "Figure", "Missing", "Page", "Section", "Sentences", "Table",
]  # fmt: skip

#: how a paragraph or list is set: the verdict, plain text, notes, checks that passed and that failed
Tone = Literal["verdict", "plain", "note", "passed", "failed"]


@dataclass(frozen=True, slots=True)
class Sentences:
    """A paragraph, or a list where `listed`."""

    texts: tuple[str, ...]
    tone: Tone = "plain"
    listed: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """Head of a column; `number`: its cells are set flush right."""

    head: str
    number: bool = True


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under heads; the first cell of a row names it.

    `caption` states what and how many rows the numbers rest on; `total`, `minor`: positions of rows that are a sum, or
    parts of the row above; `notes`: below it
    """

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    total: frozenset[int] = frozenset()
    minor: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing.

    Attributes
    ----------
    key : name of its file; title : what it shows; text : the same in words, for those who cannot see it
    draw : width in pixels → chart
    labels : text that must be found in it
    """

    key: str
    title: str
    text: str
    draw: Callable[[int], "alt.TopLevelMixin"]
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Code:
    """Text to copy; `name` says what it is."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Definitions:
    """Names and what they stand for."""

    items: tuple[tuple[str, str], ...]


Block: TypeAlias = Sentences | Table | Figure | Code | Definitions


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands under it; `key` is unique on the page."""

    key: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Missing:
    """A section that is not there: why, as a sentence, and the command that adds it, where one does."""

    key: str
    title: str
    why: str
    command: str | None


@dataclass(frozen=True, slots=True)
class Chapter:
    """Sections that belong together."""

    key: str
    title: str
    sections: tuple[Section, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """A report.

    `facts` : a few words each, under the title; `missing` : sections that are not there
    """

    title: str
    facts: tuple[str, ...]
    chapters: tuple[Chapter, ...]
    missing: tuple[Missing, ...] = field(default=())
    made_by: str = ""

    def figures(self) -> Iterator[Figure]:
        """All drawings, in the order of the page."""
        for chapter in self.chapters:
            for section in chapter.sections:
                yield from (block for block in section.blocks if isinstance(block, Figure))
