"""Edges of rules: cuts, and what a look at the data finds."""

import numpy as np
import pytest
from ssl_risk_rs._splits import encode_groups, stratified_cut
from ssl_risk_rs.datasets import create_dataset
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.workflow.doctor_data import check_data, examine_data


def images(path, y, y_test, x=None):
    """An npz file of small images, no two alike unless given."""
    n = len(y) + len(y_test)
    x = np.random.default_rng(0).integers(0, 256, (n, 4, 4), dtype=np.uint8) if x is None else x
    np.savez(path, x_train=x[: len(y)], y_train=y, x_test=x[len(y) :], y_test=y_test)
    return f"npz:{path}"


def found(uri, **options):
    return {finding.check: finding for finding in check_data(create_dataset(uri, **options))}


def test_every_class_of_two_rows_keeps_one_however_large_the_share():
    labels = np.array([0, 0, 1, 1, 1, 2])
    aside = stratified_cut(labels, [str(i) for i in range(6)], share=0.95)
    assert np.bincount(labels[~aside], minlength=3).tolist() == [1, 1, 1]


def test_an_empty_text_names_no_group():
    with pytest.raises(ParameterError, match="1 of 2 rows have no group"):
        encode_groups(["a", ""])


@pytest.mark.parametrize(("largest", "status"), [(50, "note"), (49, "ok")])
def test_classes_are_uneven_from_ten_times_on(tmp_path, largest, status):
    y = np.repeat([0, 1], [largest, 5])
    finding = found(images(tmp_path / "a.npz", y, np.array([0, 1])))["class sizes"]
    assert (finding.status, "--limit" in finding.do) == (status, status == "note")


def test_of_many_equal_images_the_first_five_are_named_and_the_others_counted(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (20, 4, 4), dtype=np.uint8)
    x[1:7] = x[0]
    y = np.arange(10) % 2
    finding = found(images(tmp_path / "a.npz", y, y, x))["duplicates"]
    (line,) = finding.examples
    assert line.count(" = ") == 5 and line.endswith(" = 2 more")


def test_images_none_of_which_can_be_decoded_have_no_speed_and_no_inputs(tmp_path):
    """ "0 images/s" and "inputs of , 0.0 ms each" were findings without a fault."""
    for part in ("train", "test"):
        for name in "ab":
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(4):
                (tmp_path / part / name / f"{i}.png").write_bytes(b"no image")
    found = {f.check: f for f in examine_data(create_dataset(f"folder:{tmp_path}"), model="pixels:4")}
    assert any(f.status == "fault" for f in found.values()) and not {"decoding", "transform"} & found.keys()


def test_of_a_sample_it_is_said_whether_a_run_of_all_rows_takes_them(tmp_path):
    y = np.arange(40) % 2
    uri = images(tmp_path / "a.npz", y, y[:20])
    assert found(uri)["run"] == found(uri, limit=4)["run"]
