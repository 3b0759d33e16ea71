"""The authors' table, where it is; and tables with planted effects."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

#: folder of all_results.csv, metadata.yaml and raw_risks.csv, which the project does not contain
PAPER = Path(os.environ.get("SSL_RISK_PAPER_DATA") or Path(__file__).parents[3] / "shared" / "paper")


@pytest.fixture(scope="session")
def paper() -> Path:
    """The folder of the authors' data."""
    if not (PAPER / "all_results.csv").is_file():
        pytest.skip(f"the authors' table is not in {PAPER}; set SSL_RISK_PAPER_DATA to the folder that has it")
    return PAPER


@pytest.fixture(scope="session")
def published(paper):
    """The table as a study reads it, corrected."""
    from ssl_risk_rs.study import read_table, study_table

    frame, found = read_table([paper / "all_results.csv"])
    return study_table(frame, found=found)


@pytest.fixture(scope="session")
def as_published(paper):
    """The table without corrections."""
    from ssl_risk_rs.study import read_table, study_table

    return study_table(read_table([paper / "all_results.csv"], as_published=True)[0])


@pytest.fixture
def planted() -> pl.DataFrame:
    """96 encoders of 12 objectives: 3 points of usability less and 4 of probe generalization more for each × e in
    dimension, 2 points of usability less with an MLP head, nothing from the optimizer; objectives add 1 point of
    standard deviation, each encoder 0.3."""
    rng = np.random.default_rng(1)
    objective = np.repeat([f"o{i}" for i in range(12)], 8)
    shift = np.repeat(rng.normal(0, 0.01, 12), 8)
    z_dim = rng.choice([256, 512, 1024, 2048], 96)
    head = rng.choice(["identity", "mlp"], 96)
    usability = 0.3 - 0.03 * np.log(z_dim) - 0.02 * (head == "mlp") + shift + rng.normal(0, 0.003, 96)
    probe_gen = 0.04 * np.log(z_dim) - 0.1 + rng.normal(0, 0.003, 96)
    return pl.DataFrame(
        {
            "encoder": [f"e{i}" for i in range(96)],
            "objective": objective,
            "z_dim": z_dim,
            "projection2_arch": head,
            "epochs": rng.choice([100, 200, 400], 96),
            "optimizer": rng.choice(["sgd", "lars"], 96),
            "approx": 0.01,
            "usability": usability,
            "probe_gen": probe_gen,
            "enc_gen": 0.03,
            "agg_risk": 0.04 + usability + probe_gen,
        }
    )


def one(effects, **wanted):
    """The only effect with these fields."""
    found = [e for e in effects if all(getattr(e, name) == value for name, value in wanted.items())]
    assert len(found) == 1, (wanted, len(found))
    return found[0]


@pytest.fixture(scope="session")
def pick():
    """`one`, for tests."""
    return one
