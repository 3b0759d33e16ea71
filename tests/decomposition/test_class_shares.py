"""What notes say of class shares that differ between training and test rows."""

import numpy as np
from ssl_risk_rs import decompose


def of(keys, result):
    return {note.code: note for note in result.notes if note.code in keys}


KEYS = ("one_class_predicted", "other_class_shares")


def test_a_probe_that_predicts_one_class_and_what_class_shares_make_of_it_are_said():
    rng = np.random.default_rng(0)
    x, x_test = (rng.standard_normal((n, 8)).astype(np.float32) for n in (600, 400))
    y = np.repeat(["a", "b"], [420, 180])
    y_test = np.repeat(["a", "b"], [240, 160])
    result = decompose(x, y, x_test, y_test, probe="ridge", n_threads=1)
    notes = of(KEYS, result)
    assert "predicts class a for every test row" in notes["one_class_predicted"].sentence()
    # it errs by the share of b, which is 40 % of the test rows and 30 % of the others: no other difference
    assert abs(result.estimates["enc_gen"].estimate - 0.10) < 1e-9
    assert "+10.00 points of encoder generalization" in notes["other_class_shares"].sentence()


def test_like_shares_and_probes_that_tell_classes_apart_have_no_such_note():
    rng = np.random.default_rng(0)
    y, y_test = np.arange(600) % 3, np.arange(300) % 3
    centres = rng.standard_normal((3, 8))
    x, x_test = ((centres[v] + rng.standard_normal((len(v), 8))).astype(np.float32) for v in (y, y_test))
    assert not of(KEYS, decompose(x, y, x_test, y_test, probe="ridge", n_threads=1))


def test_test_rows_of_one_class_are_no_sign_that_features_tell_nothing():
    rng = np.random.default_rng(0)
    y, y_test = np.arange(200) % 2, np.zeros(80, int)
    x, x_test = ((4 * np.eye(4)[v] + rng.standard_normal((len(v), 4))).astype(np.float32) for v in (y, y_test))
    result = decompose(x, y, x_test, y_test, probe="ridge", n_threads=1)
    assert result.estimates["risk_us"].estimate < 0.05 and "one_class_predicted" not in of(KEYS, result)
