"""What published encoders with one bottleneck differ in: associations that were put there, and none that were not."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr
from ssl_risk_rs.report.explanation import _published
from ssl_risk_rs.results.explain_published import published_traits
from ssl_risk_rs.results.published import Published


def published(n: int = 60, seed: int = 0) -> Published:
    """Probe generalization rises with the dimension and is least with "clip"; epochs have nothing to do with it. The
    last five encoders have usability as their largest part, one is of another checkpoint."""
    rng = np.random.default_rng(seed)
    z_dim = 2 ** rng.integers(8, 13, n)
    mode = np.array(["siamese", "clip", "generative"])[np.arange(n) % 3]
    probe_gen = 0.02 * np.log2(z_dim) - 0.05 * (mode == "clip") + 0.005 * rng.standard_normal(n)
    usability = np.where(np.arange(n) >= n - 5, 0.5, 0.04)
    frame = pl.DataFrame(
        {
            "encoder": [f"e{i}" for i in range(n)],
            "approx": [0.01] * n,
            "usability": usability,
            "approx_usability": usability + 0.01,
            "probe_gen": probe_gen,
            "enc_gen": [0.02] * n,
            "trusted": [i != 0 for i in range(n)],
            "z_dim": z_dim,
            "epochs": rng.integers(100, 1000, n),
            "ssl_mode": mode,
        }
    )
    return Published(frame, pl.DataFrame())


def test_what_was_put_there_is_found_and_nothing_else():
    found = published_traits(published(), "probe_gen")
    assert (found.n, found.n_all, found.n_choices) == (54, 59, 3)
    by = {trait.choice: trait for trait in found.traits}
    assert by.keys() == {"z_dim", "ssl_mode"}
    chosen = published().frame[1:55]
    assert by["z_dim"].correlation == pytest.approx(spearmanr(chosen["z_dim"], chosen["probe_gen"]).statistic)
    assert by["ssl_mode"].least[0] == "clip" and by["ssl_mode"].least[2] == 18
    text = "\n".join(_published(found))
    assert "54 have probe generalization as their largest part" in text and "not shown to be a cause" in text
    assert "larger dimension goes with more of it" in text


def test_too_few_encoders_give_nothing():
    assert published_traits(published(), "usability") is None
    assert published_traits(published(), "approx") is None


def test_chance_alone_is_rarely_shown():
    """Holm's correction over the choices: under no association, 5 % of the tables show one."""
    rng = np.random.default_rng(1)
    shown = 0
    for seed in range(40):
        table = published(seed=seed)
        shuffled = table.frame.with_columns(pl.Series("probe_gen", rng.permutation(table.frame["probe_gen"])))
        shown += bool(published_traits(Published(shuffled, table.faults), "probe_gen").traits)
    assert shown <= 6  # binomial(40, 0.05): 7 or more has probability 0.003


def test_associations_are_corrected_for_all_that_are_tested():
    found = published_traits(published(), "probe_gen")
    chosen = published().frame[1:55]
    plain = spearmanr(chosen["z_dim"], chosen["probe_gen"]).pvalue
    (trait,) = (t for t in found.traits if t.choice == "z_dim")
    assert trait.p_holm >= 2 * plain * (1 - 1e-9)  # of three choices it is the surest or the second


def test_encoders_without_a_twin_are_among_those_of_a_part_that_needs_none():
    table = published()
    frame = table.frame.with_columns(pl.lit(None, pl.Float64).alias(name) for name in ("approx", "usability"))
    found, whole = (published_traits(Published(f, table.faults), "probe_gen") for f in (frame, table.frame))
    assert (found.n, found.n_all) == (whole.n, whole.n_all) == (54, 59)
