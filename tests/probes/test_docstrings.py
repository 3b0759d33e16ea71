"""The examples in docstrings run and print what they say."""

import doctest

import ssl_risk_rs.probes.estimators as estimators


def test_examples_of_the_estimators_run():
    found = doctest.testmod(estimators)
    assert found.failed == 0 and found.attempted >= 9
