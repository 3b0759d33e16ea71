"""Sweeps and decompositions on a real Ray cluster of three nodes on this machine, one of which is killed."""

import json
import re
import threading
import time

import numpy as np
import pytest
from click.testing import CliRunner
from ssl_risk_rs import decompose
from ssl_risk_rs.bank import FeatureBank
from ssl_risk_rs.cli import main
from ssl_risk_rs.errors import DataError
from sweep_helpers import SMALL, records, seen, slow, sweep, wait_for

ray = pytest.importorskip("ray", reason="needs Ray:  python -m pip install 'ssl-risk-rs[ray]'")
pytest.importorskip("torch")
from ray.cluster_utils import Cluster  # noqa: E402
from ssl_risk_rs.workflow.engines.ray import connected  # noqa: E402
from ssl_risk_rs.workflow.engines.ray_parts import RayHolders  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own

STORE = 80 * 1024 * 1024  # bytes of shared memory of a node; the least that Ray takes is 75 MiB


@pytest.fixture
def cluster(three_nodes):
    """The cluster, whole again after a test that killed a node."""
    three_nodes.wait_for_nodes()
    return three_nodes


@pytest.fixture(scope="module")
def three_nodes():
    """Three nodes with one CPU each; the first, which the driver joins, stays."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_DEDUP_LOGS", "0")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        made = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 1, "object_store_memory": STORE, "include_dashboard": False},
        )
        for _ in range(2):
            made.add_node(num_cpus=1, object_store_memory=STORE)
        made.wait_for_nodes()
        yield made
        ray.shutdown()
        made.shutdown()


def kill_one(cluster: Cluster) -> None:
    """Kill a node without a word, then put an empty one in its place."""
    cluster.remove_node(sorted(cluster.worker_nodes, key=id)[0], allow_graceful=False)
    cluster.add_node(num_cpus=1, object_store_memory=STORE, wait=False)


def test_a_sweep_survives_a_node_and_gives_what_one_machine_gives(cluster, tmp_path):
    names = [slow(tmp_path, f"e{i}", 0.05, step=i + 1) for i in range(3)]
    words = ["-m", ",".join(names), *SMALL, "--batch-size", "4", "--format", "json"]
    out = tmp_path / "out"

    def kill() -> None:
        wait_for(lambda: all(seen(tmp_path, f"e{i}") > 100 for i in range(3)))
        kill_one(cluster)

    killer = threading.Thread(target=kill)
    killer.start()
    result = CliRunner().invoke(
        main, ["sweep", *words, "--out", str(out), "--engine", "ray", "--engine-option", f"address={cluster.address}"]
    )
    killer.join()
    assert result.exit_code == 0, result.stderr
    assert "was lost; it is started again elsewhere" in result.stderr
    rows = json.loads(result.stdout)
    assert [row["state"] for row in rows] == ["done"] * 3
    encoded = {name: record["encoded"] for name, record in records(out).items()}
    n = records(out)[names[0]]["images"]
    assert sum(count < n for count in encoded.values()) <= 1, encoded  # what the lost node had committed was kept
    # the banks are complete; one machine gives the same from them
    alone = json.loads(sweep(*words, "--out", str(tmp_path / "alone")).stdout)
    for one, other in zip(rows, alone, strict=True):
        for name in ("approx_usability", "probe_gen", "enc_gen", "agg_risk", "low", "high"):
            assert one[name] == pytest.approx(other[name], abs=1e-6), name


@pytest.fixture(scope="module")
def bank(tmp_path_factory) -> FeatureBank:
    """3,000 rows of 40 features in 8 classes that overlap."""
    import polars as pl

    rng = np.random.default_rng(0)
    n, d, k = 3000, 40, 8
    y = rng.integers(0, k, n)
    x = (0.5 * rng.normal(size=(k, d))[y] + rng.normal(size=(n, d)) + 2).astype(np.float16)
    samples = pl.DataFrame(
        {
            "row": np.arange(n, dtype=np.uint64),
            "split": ["train"] * 2400 + ["test"] * 600,
            "sample_id": [f"s{i}" for i in range(n)],
            "label": y,
        }
    )
    made = FeatureBank.create(
        tmp_path_factory.mktemp("bank") / "b", {"class_names": [str(c) for c in range(k)]}, samples,
        n_features=d, dtype="float16",
    )  # fmt: skip
    with made.writer() as writer:
        writer.append(np.arange(n, dtype=np.uint64), x)
    return FeatureBank.open(made.path)


@pytest.mark.parametrize("probe", ["ridge", "logistic"])
def test_parts_on_nodes_give_what_one_machine_gives_though_a_node_dies(cluster, bank, tmp_path, probe):
    whole = decompose(bank, probe=probe, device="cpu", n_threads=1)

    def kill() -> None:
        time.sleep(1.0)
        kill_one(cluster)

    killer = threading.Thread(target=kill)
    if probe == "logistic":  # some hundred passes, seconds
        killer.start()
    result = CliRunner().invoke(
        main,
        ["decompose", str(bank.path), "--probe", probe, "--engine", "ray", "--parts", "3", "--threads", "1",
         "--engine-option", f"address={cluster.address}", "--format", "json", "--out", str(tmp_path / "run")],
    )  # fmt: skip
    if probe == "logistic":
        killer.join()
    assert result.exit_code == 0, result.stderr
    rows = {row["quantity"]: row for row in json.loads(result.stdout)}
    # float32 passes of the two ways differ in the last bits: a row on the edge may fall on either side
    within = 1e-6 if probe == "ridge" else 1.5 / 600
    for name, estimate in whole.estimates.items():
        assert rows[name]["estimate"] == pytest.approx(estimate.estimate, abs=within), name


def test_a_bank_that_nodes_do_not_see_is_named(cluster, tmp_path):
    with connected(cluster.address):
        holders = RayHolders(str(tmp_path / "nowhere"), [(0, 5)])
        with pytest.raises(DataError, match="a disk that all nodes see"):
            holders.submit(0, "read", np.arange(2, dtype=np.uint32)).result()


def test_a_dry_run_asks_the_cluster(cluster, tmp_path):
    result = CliRunner().invoke(
        main,
        ["sweep", "-m", "demo_ssl", *SMALL, "--dry-run", "--engine", "ray",
         "--engine-option", f"address={cluster.address}"],
    )  # fmt: skip
    assert result.exit_code == 0
    assert re.search(r"[1-3] process(es)? at a time with 1 CPU each on the Ray cluster", result.stderr)


def test_a_cluster_that_is_not_there_is_named():
    result = CliRunner().invoke(
        main, ["sweep", "-m", "demo_ssl", "-d", "digits", "--engine", "ray", "--engine-option", "address=127.0.0.1:1"]
    )
    assert result.exit_code == 1 and "there is no Ray cluster at 127.0.0.1:1" in result.stderr
