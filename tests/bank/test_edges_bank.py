"""Edges of rules: labels."""

import numpy as np
import pytest
from ssl_risk_rs._labels import encode_labels
from ssl_risk_rs.errors import DataError


@pytest.mark.parametrize(("kind", "limit"), [(np.float16, 2**11), (np.float32, 2**24), (np.float64, 2**53)])
def test_whole_numbers_are_classes_up_to_the_last_that_a_float_tells_apart(kind, limit):
    assert encode_labels({"a": np.array([0, limit], kind)}).class_names == ["0", str(limit)]
    with pytest.raises(DataError, match="cannot be told apart"):
        encode_labels({"a": np.array([0, 2 * limit], kind)})
