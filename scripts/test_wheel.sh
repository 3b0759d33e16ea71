#!/usr/bin/env bash
# Install a wheel into an empty environment and use it from a folder that is not the source tree.
#
#     PYTHON_OF=python3 UV=.venv/bin/uv scripts/test_wheel.sh dist/*.whl
set -euo pipefail
wheel=$(realpath "$1")
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
unset PYTHONPATH

"$UV" venv --quiet --python "$PYTHON_OF" venv
"$UV" pip install --quiet --python venv/bin/python "$wheel"
# from here on nothing of the user's is read or written
export HOME=$place/home XDG_CACHE_HOME=$place/home/cache
unset SSL_RISK_STORE SSL_RISK_CACHE SSL_RISK_DATA
mkdir "$HOME"

venv/bin/python - <<'PYTHON'
from importlib.metadata import files
from importlib.resources import files as resources
from pathlib import Path

import numpy as np

package = resources("ssl_risk_rs")
assert "venv" in Path(str(package)).parts, f"{package} is not the wheel's"
for name in ("py.typed", "encoders/catalogue/encoders.tsv", "encoders/weights/demo_ssl.safetensors", "corrections.tsv",
             "report/templates/page.html", "study/law_imagenet.json"):
    assert package.joinpath(name).is_file(), f"the wheel has no {name}"
assert any("licenses" in str(file) and file.name == "LICENSE" for file in files("ssl-risk-rs") or ()), "no licence"

rng = np.random.default_rng(0)
centres = rng.standard_normal((4, 6))


def rows(n):
    labels = np.arange(n) % 4
    return (centres[labels] + rng.standard_normal((n, 6))).astype(np.float32), labels


(x, y), (x_test, y_test) = rows(400), rows(100)
np.savez("feats.npz", X_train=x, y_train=y, X_test=x_test, y_test=y_test)
PYTHON
venv/bin/ssl-risk-rs decompose --features feats.npz --format csv
venv/bin/ssl-risk-rs demo
echo "$(basename "$wheel"): the demo and a decomposition run on $(venv/bin/python --version)"
