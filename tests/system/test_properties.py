"""Properties that hold for any input: splits, names of encoders, labels, files of features."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ssl_risk_rs import load_features
from ssl_risk_rs._labels import encode_labels
from ssl_risk_rs._splits import stratified_cut, take_at_most
from ssl_risk_rs.encoders.names import parse_name
from ssl_risk_rs.errors import EncoderError, SslRiskError

LABELS = st.lists(st.integers(0, 4), min_size=2, max_size=80)


@given(LABELS, st.integers(0, 9), st.floats(0.05, 0.95), st.randoms())
@settings(deadline=None)
def test_a_cut_follows_ids_and_nothing_else(labels, seed, share, random):
    y, ids = np.array(labels), [f"image {i}" for i in range(len(labels))]
    mask = stratified_cut(y, ids, share=share, seed=seed)
    for c in np.unique(y):
        n = int((y == c).sum())
        expected = 0 if n == 1 else min(max(round(share * n), 1), n - 1)
        assert abs(int(mask[y == c].sum()) - expected) <= (1 if (share * n) % 1 == 0.5 else 0)
    order = list(range(len(y)))
    random.shuffle(order)
    again = stratified_cut(3 * (9 - y[order]), [ids[i] for i in order], share=share, seed=seed)
    assert again.tolist() == mask[order].tolist()


@given(LABELS, st.integers(1, 20), st.booleans())
@settings(deadline=None)
def test_a_smaller_limit_keeps_a_subset(labels, count, per_class):
    y, ids = np.array(labels), [str(i) for i in range(len(labels))]
    few = take_at_most(y, ids, count, per_class=per_class)
    more = take_at_most(y, ids, count + 3, per_class=per_class)
    assert (more | ~few).all()
    assert max(np.bincount(y[few])) <= count if per_class else few.sum() == min(count, len(y))


@given(st.lists(st.integers(0, 6), min_size=4, max_size=60), st.integers(1, 8))
@settings(deadline=None)
def test_groups_are_never_cut(labels, n_groups):
    y, ids = np.array(labels), [str(i) for i in range(len(labels))]
    groups = [f"g{i % n_groups}" for i in range(len(y))]
    if len(set(groups)) < 2:
        return
    mask = stratified_cut(y, ids, share=0.3, groups=groups)
    aside = {g for g, m in zip(groups, mask, strict=True) if m}
    assert aside and aside.isdisjoint(g for g, m in zip(groups, mask, strict=True) if not m)


@given(st.text(max_size=40))
def test_any_name_is_taken_apart_or_refused(text):
    try:
        name = parse_name(text)
    except EncoderError:
        return
    assert name.text == text and name.kind in ("registry", "timm", "random", "checkpoint", "code", "pixels")


@given(
    st.lists(st.one_of(st.integers(-5, 5), st.text("ab ", max_size=2), st.floats(width=32)), min_size=1, max_size=20)
)
@settings(deadline=None)
def test_any_labels_are_classes_or_refused(labels):
    try:
        found = encode_labels({"train": np.array(labels, dtype=object)}, where="y")
    except SslRiskError as error:
        assert "y" in str(error)
        return
    codes = found.codes["train"]
    names = found.class_names or [str(c) for c in range(int(codes.max()) + 1)]
    assert len(codes) == len(labels) and codes.min() >= 0 and codes.max() < len(names)
    again = encode_labels({"train": [names[c] for c in codes]}, where="y")
    assert np.array_equal(again.codes["train"], codes)  # names stand for themselves


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@given(st.data())
@settings(deadline=None, max_examples=25)
def test_features_come_back_from_a_file(tmp_path_factory, dtype, data):
    n, d = data.draw(st.integers(4, 30)), data.draw(st.integers(1, 5))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    x, y = rng.normal(size=(n, d)).astype(dtype), np.arange(n) % 2
    file = tmp_path_factory.mktemp("f") / "f.npz"
    buffer = io.BytesIO()
    np.savez(buffer, X_train=x, y_train=y, X_test=x[:2], y_test=y[:2])
    file.write_bytes(buffer.getvalue())
    loaded = load_features(file)
    assert loaded.X_train.dtype == dtype and np.array_equal(loaded.X_train, x) and np.array_equal(loaded.y_train, y)
    assert loaded.train_ids == [str(i) for i in range(n)]
