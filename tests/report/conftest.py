"""Runs that a report is made of, small and decomposed once."""

from dataclasses import replace

import numpy as np
import pytest
from ssl_risk_rs.decomposition import decompose
from ssl_risk_rs.decomposition.paired import compare
from ssl_risk_rs.report.build import Material, build_page
from ssl_risk_rs.report.geometry import Statistic
from ssl_risk_rs.report.html import render_page
from ssl_risk_rs.report.page import Page
from ssl_risk_rs.report.several import names
from ssl_risk_rs.results import Provenance, Run
from ssl_risk_rs.results.provenance import BankFacts
from ssl_risk_rs.workflow.reporting import material_of

#: a name that HTML, Markdown and LaTeX would each misread
AWKWARD = "a<b>&c_d|e"


def rows(n: int, seed: int, width: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Three classes that overlap, in `width` of six features."""
    y = np.arange(n) % 3
    centres = np.random.default_rng(9).standard_normal((3, 6))
    x = 1.2 * centres[y] + np.random.default_rng(seed).standard_normal((n, 6))
    return np.ascontiguousarray(x[:, :width], dtype=np.float32), y


def make(name: str, width: int = 6, *, layer: str | None = None, data: str = "drawn", **options) -> Run:
    (x, y), (x_test, y_test) = rows(360, 0, width), rows(150, 1, width)
    classes = np.array(["cat", AWKWARD, "dog"])
    result = decompose(x, classes[y], x_test, classes[y_test], name=name, **{"probe": "ridge", **options})
    banks = {} if layer is None else {"encoder": BankFacts(path=f"banks/{layer}", encoder=name, feature=layer)}
    run = Run.of(result, provenance=Provenance(encoder=name, data=data, command=f"ssl-risk-rs decompose {name}.npz",
                                               banks=banks))  # fmt: skip
    return replace(run, arguments=())


@pytest.fixture(scope="session")
def rich() -> Run:
    """A run with everything that one run can hold: a twin, a control, few-shot sizes, groups, both probes."""
    (x, y), (x_test, y_test) = rows(360, 0), rows(150, 1)
    twin, twin_test = 3 * x, 3 * x_test
    noise = np.random.default_rng(3)
    control = noise.standard_normal((360, 4)).astype(np.float32), noise.standard_normal((150, 4)).astype(np.float32)
    groups = np.arange(360) // 9, 1000 + np.arange(150) // 5
    found = [
        decompose(x, y, x_test, y_test, supervised=twin, supervised_test=twin_test, control=control, groups=groups,
                  name=AWKWARD, probe=probe, shots="12,30", draws=4)
        for probe in ("logistic", "ridge")
    ]  # fmt: skip
    return Run.of(*found, provenance=Provenance(encoder=AWKWARD, data="drawn", supervised="twin", control="noise",
                                                group="patient"))  # fmt: skip


def material(*runs: Run, **more: object) -> Material:
    """What a report of these runs is made of, without what is beside them."""
    return replace(material_of(*runs), **more)


@pytest.fixture(scope="session")
def three() -> tuple[Run, ...]:
    """Three encoders on the same rows, two of them layers of one."""
    return make("wide", layer="block4"), make("narrow", 3), make("wide", 5, layer="block3")


@pytest.fixture(scope="session")
def pages(rich, three) -> list[tuple[Page, str]]:
    """A page of one run and a page of three, with their HTML: drawn once, since each drawing takes a while."""
    spectrum = (*(Statistic(f"eigenvalue_{i}", 1 / i, 360) for i in range(1, 7)), Statistic("rank", 4.0, 360))
    one = build_page(material(rich, statistics={0: spectrum}), made_by="ssl-risk-rs report a b")
    several = build_page(material(*three, comparisons=(compare(three, names=names(three)),)))
    return [(page, render_page(page)) for page in (one, several)]
