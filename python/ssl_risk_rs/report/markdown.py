"""A report as Markdown: the same sentences and tables; drawings as files beside it, where they are written."""

from collections.abc import Iterator, Mapping

from ssl_risk_rs.report.page import Block, Code, Definitions, Figure, Page, Section, Sentences, Table

__all__ = ["render_markdown"]

_BULLET = {"passed": "✓ ", "failed": "✗ "}


def render_markdown(page: Page, figures: Mapping[str, str] | None = None) -> str:
    """The page as Markdown.

    Parameters
    ----------
    figures : key of a figure → path of its file as seen from the Markdown file; figures that are not in it are told
        in words
    """
    lines = [f"# {_plain(page.title)}", "", _plain(" · ".join(page.facts)), ""]
    for chapter in page.chapters:
        lines += [f"## {_plain(chapter.title)}", ""]
        for section in chapter.sections:
            lines += _section(section, figures or {})
    if page.missing:
        lines += ["## Not in this report", ""]
        for m in page.missing:
            command = "" if m.command is None else f" `{m.command}`"
            lines += [f"- **{_plain(m.title)}**: {_plain(m.why)}{command}"]
        lines.append("")
    if page.made_by:
        lines.append(f"Written by `{page.made_by}`.")
    return "\n".join(lines).rstrip() + "\n"


def _section(section: Section, figures: Mapping[str, str]) -> Iterator[str]:
    yield f"### {_plain(section.title)}"
    yield ""
    for block in section.blocks:
        yield from _block(block, figures)
        yield ""


def _block(block: Block, figures: Mapping[str, str]) -> Iterator[str]:
    if isinstance(block, Sentences):
        bullet = "- " + _BULLET.get(block.tone, "") if block.listed else ""
        texts = [_plain(text) for text in block.texts]
        if block.listed:
            yield from (f"{bullet}{text}" for text in texts)
        else:
            text = " ".join(texts)
            yield f"**{text}**" if block.tone == "verdict" else text
    elif isinstance(block, Figure):
        if block.key in figures:
            yield f"![{_plain(block.title)}]({figures[block.key]})"
            yield ""
        yield f"*{_plain(block.title)}.* {_plain(block.text)}"
    elif isinstance(block, Table):
        yield from _table(block)
    elif isinstance(block, Code):
        yield f"{_plain(block.name)}:"
        yield ""
        fence = "````" if "```" in block.text else "```"
        yield from (fence, block.text.rstrip("\n"), fence)
    elif isinstance(block, Definitions):
        yield from (f"- {_plain(name)}: {_plain(text)}" for name, text in block.items)


def _table(table: Table) -> Iterator[str]:
    yield f"{_plain(table.caption)}:"
    yield ""
    yield "| " + " | ".join(_plain(column.head) for column in table.columns) + " |"
    yield "|" + "|".join("--:" if column.number else "---" for column in table.columns) + "|"
    for i, row in enumerate(table.rows):
        cells = [_plain(cell) for cell in row]
        if i in table.total:
            cells = [f"**{cell}**" if cell else "" for cell in cells]
        yield "| " + " | ".join(cells) + " |"
    if table.notes:
        yield ""
        yield " ".join(_plain(note) for note in table.notes)


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    for character in "\\`*_[]<>|":
        text = text.replace(character, f"\\{character}")
    return text.replace("\n", " ")
