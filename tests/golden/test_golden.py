"""Golden numbers: records of value, tolerance and source, held against what the package gives today.

`pytest tests/golden --overwrite` writes the file anew from tests/reference. When a value moves, look first at which
of the two solutions has the lower objective.
"""

import json
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from reference import strict
from sklearn import __version__ as sklearn_version
from sklearn.datasets import load_digits
from ssl_risk_rs import decompose

FILE = Path(__file__).with_name("digits.json")
RISKS = ("risk_sup", "risk_af", "risk_as", "risk_cs", "risk_us", "risk_af_midpoint")


def digits():
    """600 + 300 of scikit-learn's digits, every third feature; the twin has every second one."""
    x, y = load_digits(return_X_y=True)
    test = np.arange(len(x)) % 3 == 2
    train, held = np.flatnonzero(~test)[:600], np.flatnonzero(test)[:300]
    x = x.astype(np.float32)
    return x[train, ::3], y[train], x[held, ::3], y[held], x[train, ::2], x[held, ::2]


def ours(probe):
    x, y, xt, yt, twin, twin_test = (np.ascontiguousarray(a) for a in digits())
    return decompose(x, y, xt, yt, supervised=twin, supervised_test=twin_test, probe=probe, n_threads=1)


def records():
    """What tests/reference gives on the cells that the package draws (which are golden too)."""
    found = []
    x, y, xt, yt, twin, twin_test = digits()
    source = f"tests/reference, float64, scikit-learn {sklearn_version}"
    made = {"made_by": "pytest tests/golden --overwrite", "date": date.today().isoformat()}
    for probe in ("ridge", "logistic"):
        judged = ours(probe).judgements
        cells = np.where(judged.subset >= 0, judged.subset.astype(int) + 5, judged.fold)
        reference = strict.risks(x, y, xt, yt, cells, probe=probe, twin=twin, twin_test=twin_test)
        for risk in RISKS:
            # ridge: no row lies on a boundary; logistic: two rows of the 300
            tolerance = 1e-6 if probe == "ridge" else 2 / 300
            found.append({"probe": probe, "quantity": risk, "value": reference.risks[risk], "tolerance": tolerance,
                          "source": source, **made})  # fmt: skip
        cut = {
            "probe": probe,
            "quantity": "first held-out rows",
            "tolerance": 0,
            "source": "docs/decomposition.md, splits",
        }
        found.append({**cut, "value": np.flatnonzero(judged.subset == 0)[:8].tolist(), **made})
    return found


@pytest.mark.parametrize("probe", ["ridge", "logistic"])
def test_digits(probe, request):
    if request.config.getoption("--overwrite"):
        FILE.write_text(json.dumps(records(), indent=1) + "\n", encoding="utf-8")
    result = ours(probe)
    golden = [r for r in json.loads(FILE.read_text(encoding="utf-8")) if r["probe"] == probe]
    assert {r["quantity"] for r in golden} == {*RISKS, "first held-out rows"}
    for record in golden:
        if record["quantity"] == "first held-out rows":
            assert np.flatnonzero(result.judgements.subset == 0)[:8].tolist() == record["value"]
        else:
            value = result.estimate(record["quantity"])
            assert value == pytest.approx(record["value"], abs=record["tolerance"]), record
