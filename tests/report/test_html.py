"""The page as HTML and SVG: what a browser, a printer and a screen reader are given. Needs the extra `report`."""

import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from ssl_risk_rs import ParameterError, _extras
from ssl_risk_rs.report import svg as drawing
from ssl_risk_rs.report.html import render_page, tied
from ssl_risk_rs.report.svg import NARROW, WIDE

from .conftest import AWKWARD

for package in ("altair", "vl_convert", "jinja2"):
    pytest.importorskip(package, reason="the extra `report` is not installed")

SVG = "{http://www.w3.org/2000/svg}"
GENERIC = {"sans-serif", "system-ui", "monospace", "ui-monospace"}


class Elements(HTMLParser):
    """Every start tag with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture
def html(pages):
    return [text for _, text in pages]


@pytest.fixture
def one(pages):
    return pages[0][0]


def drawings(html: str) -> dict[str, set[str]]:
    """Texts of every drawing in a page, by figure and width."""
    found = {}
    for match in re.finditer(r"<svg.*?</svg>", html, re.DOTALL):
        root = ElementTree.fromstring(match[0].replace("&nbsp;", " "))
        name = (root.get("aria-labelledby") or "").partition("-title")[0]
        found[name] = {"".join(e.itertext()) for e in root.iter("text")}
    return found


def test_every_label_is_text_in_the_drawings(pages):
    seen = 0
    for page, html in pages:
        found = drawings(html)
        for figure in page.figures():
            assert figure.labels
            for width in (WIDE, NARROW):
                texts = found[f"{figure.key}-{width}"]
                missing = {label for label in figure.labels if not any(label in text for text in texts)}
                if width == NARROW:  # names of rows may be cut there, never left out
                    missing = {m for m in missing if not any(t.endswith("…") and m.startswith(t[:-1]) for t in texts)}
                assert not missing, (figure.key, width, texts)
                seen += 1
    assert seen > 30


def test_drawings_have_title_description_and_generic_fonts(one):
    figure = next(one.figures())
    root = ElementTree.fromstring(drawing.svg(figure, WIDE, alone=True))
    assert [child.tag for child in root[:2]] == [f"{SVG}title", f"{SVG}desc"]
    assert root[0].text == figure.title and root[1].text == figure.text
    assert root.get("role") == "img" and root.get("aria-labelledby") == f"{root[0].get('id')} {root[1].get('id')}"
    for element in root.iter():
        assert element.get("font-family", "sans-serif") == "sans-serif"
    assert drawing.png(figure, 300).startswith(b"\x89PNG")


def test_the_page_asks_for_nothing_and_runs_nothing(html):
    for text in html:
        elements = Elements(text)
        assert not elements.of("script") and not elements.of("link") and not elements.of("iframe")
        for _, attributes in elements.found:
            assert not {name for name in attributes if name.startswith("on") or name in ("src", "srcset")}
            assert (attributes.get("href") or "#").startswith("#")
        assert "url(" not in re.sub(r"url\(#", "", text) and "@import" not in text
        assert not re.search(r"https?://", text)
        policy = [m["content"] for m in elements.of("meta") if m.get("http-equiv") == "Content-Security-Policy"]
        assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]
        assert len(text.encode()) < 2_000_000


def test_the_page_is_read_by_a_screen_reader(html):
    for text in html:
        elements = Elements(text)
        assert elements.of("html") == [{"lang": "en"}]
        assert len(elements.of("main")) == len(elements.of("h1")) == len(elements.of("nav")) == 1
        for head in elements.of("th"):
            assert head.get("scope") in ("col", "row")
        assert len(elements.of("caption")) == len(elements.of("table"))
        for picture in elements.of("svg"):
            assert picture["role"] == "img" and len((picture["aria-labelledby"] or "").split()) == 2
        ids = [a["id"] for _, a in elements.found if "id" in a]
        assert len(ids) == len(set(ids))
        for _, attributes in elements.found:
            for name in ("aria-labelledby", "href"):
                for target in (attributes.get(name) or "").removeprefix("#").split():
                    assert target in ids


def test_names_are_shown_as_they_are(html):
    assert AWKWARD not in html[0] and "a&lt;b&gt;&amp;c_d|e" in html[0]


def test_fonts_of_the_page_are_generic_families_only(html):
    for declared in re.findall(r"font(?:-family)?\s*:\s*([^;{}]+)", html[0]):
        for family in declared.split(" ", 1)[-1].split(",") if "/" in declared else declared.split(","):
            assert family.strip().split()[-1] in GENERIC


def test_a_light_part_lies_beside_a_darker_one():
    from ssl_risk_rs.report.charts import COLOURS

    for order in (("approx", "usability", "probe_gen", "enc_gen"), ("test", "train", "probe", "floor")):
        grey = []
        for name in order:
            red, green, blue = (int(COLOURS[name][i : i + 2], 16) for i in (1, 3, 5))
            grey.append(0.299 * red + 0.587 * green + 0.114 * blue)
        # 30 of 255: told apart side by side on a laser print
        assert all(light - dark > 30 for light, dark in pairwise(grey)), grey


def test_numbers_and_units_stay_together():
    assert (
        tied("a fall of -3.5 [-4.0, 2] to 5 % at 1e-05") == "a fall of −3.5 [−4.0, 2] to 5\N{NO-BREAK SPACE}% at 1e-05"
    )
    assert tied("2026-11-26 and --shots 5") == "2026-11-26 and --shots 5"


def test_without_the_extra_the_line_that_installs_it_is_named(one, monkeypatch):
    def absent(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(_extras, "import_module", absent)
    with pytest.raises(
        ParameterError, match=re.escape("jinja2, which is not installed:  python -m pip install 'ssl-risk-rs[report]'")
    ):
        render_page(one)


def test_the_picture_of_the_documentation_is_a_drawing_of_these_parts():
    file = Path(__file__).parents[2] / "docs" / "report.svg"
    root = ElementTree.fromstring(file.read_text(encoding="utf-8"))
    texts = {"".join(e.itertext()) for e in root.iter(f"{SVG}text")}
    assert {"aggregated risk", "approximation", "usability", "probe gen.", "encoder gen."} <= texts
    assert file.stat().st_size < 100_000 and root[0].tag == f"{SVG}title"


def test_negative_parts_of_stacked_areas_lie_below_the_line():
    from ssl_risk_rs.report import charts

    bars = [
        charts.Bar("a", (("approx_usability", 0.1), ("probe_gen", 0.2), ("enc_gen", -0.05)), 0.25, 0.2, 0.3),
        charts.Bar("b", (("approx_usability", 0.1), ("probe_gen", 0.1), ("enc_gen", 0.05)), 0.25, 0.2, 0.3),
    ]
    spec = charts.area(bars, 700).to_dict()
    data = next(layer["data"]["values"] for layer in spec["layer"] if "part" in layer["data"]["values"][0])
    ends = {(row["at"], row["part"], row["side"]): (round(row["a"], 9), round(row["b"], 9)) for row in data}
    names = [charts.part_label(p) for p, _ in bars[0].parts]
    assert [ends[0, name, "above"] for name in names] == [(0, 10), (10, 30), (30, 30)]
    assert [ends[1, name, "above"] for name in names] == [(0, 10), (10, 20), (20, 25)]
    assert (ends[0, names[2], "below"], ends[1, names[2], "below"]) == ((-5, 0), (0, 0)) and len(ends) == 8
