"""Edges of rules: what a sweep keeps and tells before it runs, the other encoders of a run."""

import json
from pathlib import Path

import pytest
from ssl_risk_rs.extraction.settings import Encoding
from ssl_risk_rs.workflow import sweep_plan
from ssl_risk_rs.workflow.others import CHEAP_IMAGES, PIXELS, choose_others
from ssl_risk_rs.workflow.question import Question
from ssl_risk_rs.workflow.sweep_plan import Job, Pair, SweepSettings, expand_models, preview
from ssl_risk_rs.workflow.sweep_records import Record, State, SweepFolder, _with_run


def job(encoder="demo_ssl"):
    return Job(encoder, "digits", "digits", 100, (Pair(encoder, "digits", None, "i", None, None),))


def test_a_pair_whose_run_is_there_has_no_error_any_more():
    failed = Record("i", "e", "d", None, State.FAILED, key="k", error_type="DataError", error="no", retry="again")
    done = _with_run(failed, {"k": Path("runs/e_d")})
    assert (done.state, done.run) == (State.DONE, "e_d")
    assert (done.error_type, done.error, done.retry) == (None, None, None)


def test_an_encoder_that_is_named_is_not_left_out_with_the_dead_ones_of_a_pattern():
    _, _, every = expand_models(["demo_ssl,beit*"])
    names, _, dead = expand_models([every[0], "demo_ssl,beit*"])
    assert every[0] in names and every[0] not in dead


def test_the_rate_of_a_preview_is_the_latest():
    records = [
        Record(str(i), "demo_ssl", "digits", None, State.DONE, images_per_second=rate)
        for i, rate in enumerate((100.0, None, 50.0))
    ]
    found = preview(job(), SweepSettings(), records, job().pairs)
    assert found.rate == 50.0 and found.minutes == pytest.approx(100 / 50 / 60)


def test_nothing_is_downloaded_for_pairs_that_are_finished(monkeypatch):
    monkeypatch.setattr(sweep_plan, "_weights", lambda encoder: ("to download", 10**9))
    assert preview(job(), SweepSettings(), [], job().pairs).download == 10**9
    assert preview(job(), SweepSettings(), [], ()).download is None


def others(spec, **options):
    given = {"data_id": "a", "n_images": 100, "say": lambda _: None}
    return choose_others(spec, "folder:/a", Question(), **{**given, **options})


@pytest.mark.parametrize(("n_images", "control"), [(CHEAP_IMAGES, PIXELS), (CHEAP_IMAGES + 1, None)])
def test_a_control_is_encoded_unasked_up_to_a_number_of_images(n_images, control):
    found = others({}, n_images=n_images)
    assert found.control == control and (found.no_control is None) == (control is not None)


@pytest.mark.parametrize(("source", "control"), [("bundled", "demo_random"), ("timm", PIXELS)])
def test_a_random_twin_is_the_control_of_a_bundled_encoder_alone(source, control):
    assert others({"source": source, "random_twin": "demo_random"}).control == control


@pytest.mark.parametrize("data_id", [None, "other"])
def test_a_twin_is_taken_only_where_the_labels_are_known_to_be_its_own(data_id):
    spec = {"supervised_twin": "demo_supervised", "twin_labels_id": "digits"}
    assert others(spec, data_id="digits").twin == "demo_supervised"
    assert others(spec, data_id=data_id).twin is None


def test_a_pair_whose_run_was_removed_waits_again():
    done = Record("i", "e", "d", None, State.DONE, key="k", run="e_d")
    assert (_with_run(done, {}).state, _with_run(done, {}).run) == (State.WAITING, None)


def test_a_failure_is_kept_beside_what_is_tried_after_it(tmp_path):
    folder = SweepFolder(tmp_path)
    folder.write(Record("i", "e", "d", None, State.FAILED, error="no"))
    folder.write(Record("i", "e", "d", None, State.RUNNING))
    assert folder.read("i").state is State.RUNNING and folder.failure("i").error == "no"


def test_the_size_of_pooled_features_is_not_told_from_the_catalogue(monkeypatch):
    monkeypatch.setattr(sweep_plan, "_dimension", lambda encoder: 2048)
    pooled = SweepSettings(Question(encoding=Encoding(pool="max")))
    sizes = [preview(job(), asked, [], job().pairs).gigabytes for asked in (SweepSettings(), pooled)]
    assert sizes == [100 * 2048 * 2 / 1e9, None]


def test_a_run_folder_on_its_way_is_no_finished_one(tmp_path):
    """A sweep that was killed while it wrote one began the pair anew, and found it done and unreadable."""
    for name in ("pixels", ".pixels.4176-246c2749.tmp", ".pixels.4176-246c2749.removed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps({"request": name.strip(".")[:6] + name[-4:]}))
    assert SweepFolder(tmp_path).finished() == {"pixelsxels": tmp_path / "pixels"}
