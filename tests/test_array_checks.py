"""The checks of array annotations: what they refuse, what they leave alone, and which modules they reach."""

import importlib
import sys

import jaxtyping
import numpy as np
import pytest

array_checks = pytest.importorskip("array_checks", reason="the checks are off: --no-typecheck")

MODULE = """
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int


@dataclass(frozen=True)
class Rows:
    x: Float32[np.ndarray, "n d"]
    y: Int[np.ndarray, " n"]
    alpha: float = 1.0


def scores(x: Float32[np.ndarray, "n d"], w: Float32[np.ndarray, "d k"], scale: float = 1.0):
    return scale * (x @ w)


def transposed(x: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "d n"]:
    return x


def optional(x: Float32[np.ndarray, "n d"] | None = None):
    return x
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A package of one annotated module and one without annotations, imported under the checks."""
    package = tmp_path / "annotated_package"
    package.mkdir()
    (package / "__init__.py").write_text("'''jaxtyping is only mentioned here'''\n")
    (package / "rows.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    before = list(sys.meta_path)
    assert array_checks.install(package) == ["annotated_package.rows"]
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield importlib.import_module("annotated_package.rows")
    sys.meta_path[:] = before
    for name in ("annotated_package", "annotated_package.rows"):
        sys.modules.pop(name, None)


def test_shapes_that_disagree_are_refused(module):
    x, w = np.ones((4, 3), np.float32), np.ones((3, 2), np.float32)
    assert module.scores(x, w).shape == (4, 2)
    with pytest.raises(jaxtyping.TypeCheckError, match="scores"):
        module.scores(x, w.T)
    with pytest.raises(jaxtyping.TypeCheckError, match="transposed"):
        module.transposed(x)
    with pytest.raises(jaxtyping.TypeCheckError, match="Rows"):
        module.Rows(x, np.zeros(5, np.int64))


def test_another_dtype_is_refused(module):
    with pytest.raises(jaxtyping.TypeCheckError, match="scores"):
        module.scores(np.ones((4, 3)), np.ones((3, 2), np.float32))
    with pytest.raises(jaxtyping.TypeCheckError, match="optional"):
        module.optional(np.ones((4, 3)))
    assert module.optional() is None


def test_other_annotations_are_left_to_the_package(module):
    x = np.ones((4, 3), np.float32)
    assert module.Rows(x, np.zeros(4, np.int64), alpha="high").alpha == "high"
    assert module.scores(x, np.ones((3, 2), np.float32), scale=2)[0, 0] == 6
