"""How events are shown where stderr is no terminal."""

from typing import get_args

from ssl_risk_rs.cli import _progress
from ssl_risk_rs.events import Event, Stage


def test_a_line_says_stage_counts_rate_and_time_left(monkeypatch, capsys):
    monkeypatch.setattr(_progress, "LINE_EVERY", -1.0)
    with _progress.EventDisplay() as show:
        show(Event("encode", 1200, 5000, rate=300.0, seconds_left=12.6, bottleneck="decode"))
        show(Event("fit", 7, detail="logistic, complement 2"))
        show(Event("fit", 7, detail="full, α = 1e-05", step=5, steps=6))
    assert capsys.readouterr().err.splitlines() == [
        "encoding: 1,200 of 5,000 images, 300 images/s, waiting for: decode, 0:13 left",
        "fitting (logistic, complement 2): 7 passes",
        "step 5 of 6: fitting (full, α = 1e-05): 7 passes",
    ]


def test_lines_come_now_and_then_and_every_stage_has_words(monkeypatch, capsys):
    with _progress.EventDisplay() as show:
        show(Event("scan", 1, 2))
    assert capsys.readouterr().err == ""  # within LINE_EVERY seconds of the start
    assert set(_progress._STAGES) == set(get_args(Stage))
