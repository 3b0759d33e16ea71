"""The page in a real browser without a screen: what it holds, what it says on its console, what it asks for, how wide
it is. Skipped where no chromium-headless-shell is installed."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

for package in ("altair", "vl_convert", "jinja2"):
    pytest.importorskip(package, reason="the extra `report` is not installed")

BROWSER = shutil.which("chromium-headless-shell")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="chromium-headless-shell is not installed (apt-get install it)")
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')


def visit(file: Path, width: int) -> tuple[str, list[str], set[str]]:
    """The page after it was laid out: its elements as text, lines of its console, addresses it asked for."""
    log = file.with_suffix(".net.json")
    done = subprocess.run(
        [str(BROWSER), "--no-sandbox", "--disable-gpu", f"--user-data-dir={file.parent / 'profile'}",
         f"--log-net-log={log}", "--enable-logging=stderr", f"--window-size={width},900", "--dump-dom",
         file.as_uri()],
        capture_output=True, text=True, timeout=120, encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    asked = {
        event["params"]["url"] for event in json.loads(log.read_text())["events"] if "url" in event.get("params", {})
    }
    return done.stdout, console, {url for url in asked if not url.startswith(("file:", "data:", "about:"))}


def measured(html: str, file: Path, width: int) -> tuple[int, int, list[str]]:
    """Width of the window, of the page, and elements that stick out, from a copy with a script that measures."""
    script = """<script>addEventListener("load", () => {
      const root = document.documentElement, out = [];
      for (const e of document.querySelectorAll("main *, header *, nav *")) {
        if (e.closest(".table, pre, .hidden, svg")) continue;
        const box = e.getBoundingClientRect();
        if (box.width && (box.right > innerWidth + 1 || box.left < -1)) out.push(e.tagName + "." + e.className);
      }
      root.dataset.measured = JSON.stringify([innerWidth, root.scrollWidth, out]);
    })</script>"""
    file.write_text(POLICY.sub("", html).replace("</body>", f"{script}</body>"), encoding="utf-8")
    dom, _, _ = visit(file, width)
    found = re.search(r'data-measured="([^"]*)"', dom)
    assert found
    inner, scrolled, out = json.loads(found[1].replace("&quot;", '"'))
    return inner, scrolled, out


def test_the_browser_shows_every_section_and_asks_for_nothing(pages, tmp_path):
    for i, (page, html) in enumerate(pages):
        file = tmp_path / f"page{i}.html"
        file.write_text(html, encoding="utf-8")
        dom, console, asked = visit(file, 1400)
        assert not console and not asked
        for chapter in page.chapters:
            for section in chapter.sections:
                assert f'<section id="{section.key}"' in dom
                assert f'id="{section.key}-title"' in dom
        for missing in page.missing:
            assert f'<dt id="{missing.key}"' in dom
        assert dom.count("<svg") == 2 * len(list(page.figures()))


def test_what_the_browser_is_asked_would_show_a_fault(tmp_path):
    file = tmp_path / "bad.html"
    file.write_text('<!DOCTYPE html><img src="http://127.0.0.1:9/x.png"><script>console.error("boom")</script>')
    _, console, asked = visit(file, 400)
    assert "boom" in console[0] and asked == {"http://127.0.0.1:9/x.png"}
    inner, scrolled, out = measured('<body><main><p style="width:900px">x</p></main></body>', file, 400)
    assert inner == 400 and scrolled >= 900 and out == ["P."]


@pytest.mark.parametrize("width", [400, 1400])
def test_nothing_sticks_out_of_the_window(pages, tmp_path, width):
    for i, (_, html) in enumerate(pages):
        inner, scrolled, out = measured(html, tmp_path / f"page{i}.html", width)
        assert inner == width and scrolled <= inner and not out


def test_a_drawing_is_shown_once_at_each_width(pages, tmp_path):
    """Of the two sizes of a drawing one is hidden, from screen readers as well."""
    script = """<script>addEventListener("load", () => {
      const shown = [...document.querySelectorAll("figure svg")].filter(e => e.getBoundingClientRect().width > 0);
      document.documentElement.dataset.shown = shown.length + "/" + document.querySelectorAll("figure").length;
    })</script>"""
    file = tmp_path / "page.html"
    file.write_text(POLICY.sub("", pages[0][1]).replace("</body>", f"{script}</body>"), encoding="utf-8")
    for width in (400, 1400):
        dom, _, _ = visit(file, width)
        shown, figures = re.search(r'data-shown="(\d+)/(\d+)"', dom).groups()
        assert shown == figures != "0"
