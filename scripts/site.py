"""Write the documentation as static pages that open without a server: docs/*.md, and the API from docstrings.

    python scripts/site.py            # into site/, which git ignores

Pages link to each other as the Markdown files do; what lies in the repository and in no page keeps its name.
"""

import argparse
import os
import re
import shutil
from functools import partial
from pathlib import Path

os.environ.setdefault("PDOC_DISPLAY_ENV_VARS", "0")  # defaults of arguments are not read from this machine

import jinja2
import pdoc
import pdoc.doc
import pdoc.render
import ssl_risk_rs
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]
#: modules of the API: what users import
MODULES = (
    "ssl_risk_rs", "ssl_risk_rs.errors", "ssl_risk_rs.results", "ssl_risk_rs.decomposition", "ssl_risk_rs.geometry",
    "ssl_risk_rs.study", "ssl_risk_rs.report", "ssl_risk_rs.datasets", "ssl_risk_rs.encoders", "ssl_risk_rs.extraction",
    "ssl_risk_rs.bank",
)  # fmt: skip
#: pages in the order of the menu: file without its ending → title
PAGES = {
    "README": "Start",
    "docs/tutorial": "Three walks",
    "docs/reading": "How to read the numbers",
    "docs/decomposition": "What is computed",
    "docs/coverage": "How well intervals cover",
    "docs/probes": "The probes by themselves",
    "docs/encoders": "Encoders",
    "docs/data": "Data",
    "docs/results": "Results as data",
    "docs/report": "Reports",
    "docs/explain": "Explanations",
    "docs/geometry": "Geometry",
    "docs/study": "The study",
    "docs/fashion-mnist": "On real images",
    "docs/findings": "Findings",
    "docs/zoo": "The zoo",
    "docs/scale": "Many encoders and machines",
    "docs/speed": "Speed",
    "docs/bank-format": "The bank on disk",
    "docs/cli-reference": "Commands",
    "CHANGELOG": "Changes",
}
TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }} · ssl-risk-rs</title><style>
:root { color-scheme: light dark } * { box-sizing: border-box }
body { margin: 0; font: 16px/1.55 system-ui, sans-serif; display: grid; grid-template-columns: 15rem minmax(0, 1fr) }
nav { padding: 1.5rem 1rem; font-size: .92rem; border-right: 1px solid #8884; min-height: 100vh }
nav a { display: block; padding: .12rem 0; text-decoration: none; color: inherit }
nav a[aria-current] { font-weight: 600 }
main { padding: 1.5rem 2rem 4rem; max-width: 62rem } h1 { font-size: 1.7rem } h2 { margin-top: 2.2rem }
pre { overflow-x: auto; padding: .8rem 1rem; background: #8881; border-radius: 4px; font-size: .85rem }
code { font-family: ui-monospace, monospace; font-size: .9em } pre code { font-size: 1em }
table { border-collapse: collapse; display: block; overflow-x: auto; font-size: .9rem }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #8884; text-align: left; vertical-align: top }
img { max-width: 100% } @media (max-width: 48rem) { body { display: block } nav { min-height: 0; border: 0 } }
</style></head><body><nav aria-label="Pages">{% for page in pages %}
<a href="{{ up }}{{ page.href }}"{% if page.current %} aria-current="page"{% endif %}>{{ page.title }}</a>{% endfor %}
<a href="{{ up }}api/ssl_risk_rs.html">Python API</a></nav><main>{{ body }}</main></body></html>
"""


def main(target: Path) -> None:
    """Write all pages."""
    shutil.rmtree(target, ignore_errors=True)
    decisions = {f"docs/decisions/{f.stem}": f"Decision {f.stem[:4]}" for f in ROOT.glob("docs/decisions/*.md")}
    pages = {**PAGES, **decisions}
    if missing := [name for name in pages if not (ROOT / f"{name}.md").exists()]:
        raise SystemExit(f"{missing[0]}.md is named in scripts/site.py and is not there")
    unlisted = {f"docs/{f.stem}" for f in ROOT.glob("docs/*.md")} - set(pages)
    if unlisted:
        raise SystemExit(f"{sorted(unlisted)[0]}.md is no page of the site: name it in scripts/site.py")
    template = jinja2.Environment(autoescape=False).from_string(TEMPLATE)  # the bodies are this repository's own pages
    markdown = MarkdownIt("commonmark").enable("table")
    for name, title in pages.items():
        file = target / _href(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        body = markdown.render((ROOT / f"{name}.md").read_text(encoding="utf-8"))
        body = re.sub(r'<a href="([^"#:]+)\.md(#[^"]*)?">', partial(_link, name, pages), body)
        body = re.sub(r"<h([2-4])>(.*?)</h\1>", lambda m: f'<h{m[1]} id="{_slug(m[2])}">{m[2]}</h{m[1]}>', body)
        menu = [{"href": _href(p), "title": PAGES[p], "current": p == name} for p in PAGES]
        up = "../" * name.count("/")
        file.write_text(template.render(title=title, pages=menu, up=up, body=body), encoding="utf-8")
    for picture in (f for ending in ("svg", "png") for f in ROOT.glob(f"docs/**/*.{ending}")):
        place = target / picture.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(picture, place)
    _api(target / "api")
    print(target / "index.html")


def _href(name: str) -> str:
    return "index.html" if name == "README" else f"{name}.html"


def _link(page: str, pages: dict[str, str], found: "re.Match[str]") -> str:
    """A link to a Markdown file of this repository: to its page, if it has one."""
    place = os.path.normpath(os.path.join(os.path.dirname(page), found[1]))
    if place not in pages:
        return found[0]
    here = os.path.dirname(_href(page)) or "."
    return f'<a href="{os.path.relpath(_href(place), here)}{found[2] or ""}">'


def _slug(heading: str) -> str:
    """As code hosts make them, so that links into a page hold."""
    text = re.sub(r"<[^>]+>", "", heading).lower()
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", text))


def _api(target: Path) -> None:
    for name in ssl_risk_rs.__all__:  # imported on first use: here all are
        setattr(ssl_risk_rs, name, getattr(ssl_risk_rs, name))
    pdoc.render.configure(docformat="numpy", footer_text="ssl-risk-rs")
    pdoc.pdoc(*MODULES, *(f"!{m}" for m in ("ssl_risk_rs.cli",)), output_directory=target)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the documentation as static pages.")
    parser.add_argument("target", nargs="?", type=Path, default=ROOT / "site")
    main(parser.parse_args().target)
