"""What every test gets: an empty folder to work in, a home of its own, and a source tree that stays as it was.

Options
-------
--typecheck, --no-typecheck : whether array annotations of the package are checked at every call (default: they are)
"""

import argparse
import importlib.util
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "python" / "ssl_risk_rs"

#: folders of the source tree that tools fill
TOOLS = {"target", "dist", "__pycache__", "node_modules"}

#: variables that decide where the package reads and writes
PLACES = (
    "HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "SSL_RISK_STORE", "SSL_RISK_CACHE",
    "SSL_RISK_BENCH_DATA",
)  # fmt: skip
#: variables that change what the package does; a test that wants one sets it
SWITCHES = ("SSL_RISK_DATA",)

#: node ids, or beginnings of them, of tests that take more than a third of a second, all their cases together:
#: `make test-fast` leaves them out
SLOW = frozenset(
    (
        "tests/bank/test_bank.py::test_any_order_of_blocks_and_parts",
        "tests/bank/test_bank.py::test_no_committed_block_is_lost_to_kill_9",
        "tests/bank/test_embed.py::test_decompose_run_import_and_compare_take_it",
        "tests/bank/test_exchange.py::test_a_killed_import_goes_on",
        "tests/bank/test_formats_arrays.py::test_flipped_bits_end_in_a_sentence_or_in_numbers",
        "tests/bank/test_processes.py::test_a_file_that_is_cut_while_it_is_read_is_no_signal",
        "tests/bank/test_processes.py::test_a_fork_leaves_the_parents_part_alone",
        "tests/bank/test_processes.py::test_more_parts_than_open_files",
        "tests/bank/test_samples.py::test_no_flipped_bit_is_interpreted",
        "tests/bank/test_store.py::test_remember_from_several_processes",
        "tests/bench/test_bench.py",
        "tests/bench/test_coverage_risks.py::test_a_replicate_is_reproducible_and_its_components_sum_to_the_risk",
        "tests/bench/test_coverage_risks.py::test_worlds_of_groups",
        "tests/bench/test_coverage_paired.py",
        "tests/bench/test_fewshot_coverage.py::test_replicates_and_truth_make_a_table",
        "tests/bench/test_findings.py::test_a_page_differs_when_a_result_does",
        "tests/bench/test_findings.py::test_the_tables_of_the_page_are_those_of_the_results",
        "tests/bench/test_findings.py::test_writing_changes_nothing_of_a_page_that_is_up_to_date",
        "tests/bench/test_zoo.py",
        "tests/cli/test_cli.py::test_a_page_is_written_into_the_run_folder_where_it_is_asked_for",
        "tests/cli/test_cli.py::test_a_second_run_encodes_nothing_and_needs_no_torch",
        "tests/cli/test_cli.py::test_an_existing_run_is_kept_unless_forced",
        "tests/cli/test_cli.py::test_an_interrupted_run_names_the_line_that_goes_on",
        "tests/cli/test_cli.py::test_decompose_four_arrays_without_torch",
        "tests/cli/test_cli.py::test_demo_is_run_without_arguments",
        "tests/cli/test_cli.py::test_fits_without_a_certificate_fail_only_if_asked",
        "tests/cli/test_cli.py::test_formats_hold_the_same_numbers",
        "tests/cli/test_cli.py::test_models_are_listed_on_a_terminal_without_unicode",
        "tests/cli/test_cli.py::test_run_names_what_is_wrong_and_what_to_try",
        "tests/cli/test_cli.py::test_run_writes_what_it_prints",
        "tests/cli/test_cli.py::test_the_table_is_shown_on_a_terminal_without_unicode",
        "tests/cli/test_cli.py::test_without_a_stdout_the_record_is_there",
        "tests/cli/test_compare.py::test_encoders_of_unequal_dimension_are_compared_at_an_equal_one",
        "tests/cli/test_fewshot.py::test_fewshot_of_an_encoder",
        "tests/cli/test_fewshot.py::test_fewshot_prints_and_records_every_size",
        "tests/cli/test_paper.py::test_files_are_downloaded_once_and_checked",
        "tests/cli/test_paper.py::test_what_the_server_changed_is_refused_and_not_kept",
        "tests/cli/test_places.py::test_what_cannot_be_printed_is_one_line",
        "tests/datasets/test_check.py::test_check_and_show_take_a_split_file_and_import_no_torch",
        "tests/datasets/test_check.py::test_corrupt_images_are_a_fault",
        "tests/datasets/test_check.py::test_doctor_data_decodes_a_sample_and_tries_a_transform",
        "tests/datasets/test_check.py::test_doctor_data_names_inputs_of_different_sizes",
        "tests/datasets/test_check.py::test_doctor_machine_tells_what_is_there",
        "tests/datasets/test_check.py::test_groups_on_both_sides_are_a_fault",
        "tests/datasets/test_hf.py::test_a_test_split_without_labels_is_refused_with_those_that_have_them",
        "tests/datasets/test_hf.py::test_columns_and_splits_that_must_be_named",
        "tests/datasets/test_hf.py::test_the_fingerprint_is_that_of_the_data",
        "tests/datasets/test_identity.py::test_imagenet_is_known_by_its_thousand_class_folders",
        "tests/datasets/test_overlap.py::test_digits_have_no_test_image_in_train",
        "tests/datasets/test_schemes.py",
        "tests/datasets/test_split_file.py::test_extract_takes_a_split_file",
        "tests/decomposition/test_against_reference.py::test_groups",
        "tests/decomposition/test_against_reference.py::test_paper",
        "tests/decomposition/test_against_reference.py::test_strict",
        "tests/decomposition/test_class_shares.py::test_random_counts_cover_where_rows_are_drawn_at_random",
        "tests/decomposition/test_decomposition.py::test_a_representation_and_its_multiples_have_the_same_risks",
        "tests/decomposition/test_decomposition.py::test_components_sum_to_the_aggregated_risk",
        "tests/decomposition/test_decomposition.py::test_logistic_risks_are_those_of_scikit_learn",
        "tests/decomposition/test_fewshot.py::test_against_the_reference",
        "tests/decomposition/test_fewshot.py::test_intervals_by_group_against_the_reference",
        "tests/decomposition/test_matched.py::test_a_rotation_leaves_no_gap_at_any_dimension",
        "tests/decomposition/test_regression.py::test_the_unit_of_squared_losses_varies_with_the_training_rows",
        "tests/decomposition/test_paired.py::test_marks_follow_discordant_rows_and_training_errors",
        "tests/encoders/test_catalogue.py::test_the_architectures_have_the_widths_of_the_paper",
        "tests/encoders/test_doctor.py::test_a_planted_fault_is_found_and_no_other",
        "tests/encoders/test_doctor.py::test_a_published_encoder_is_held_against_the_catalogue",
        "tests/encoders/test_doctor.py::test_a_release_that_changed_since_is_named",
        "tests/encoders/test_doctor.py::test_drift_that_moves_risks_is_a_fault",
        "tests/encoders/test_doctor.py::test_half_precision_is_measured_in_points_of_risk",
        "tests/encoders/test_doctor.py::test_the_table_fits_80_columns_and_a_fault_ends_with_1",
        "tests/encoders/test_doctor.py::test_vectors_are_stored_once_and_compared_ever_after",
        "tests/encoders/test_download.py::test_a_dead_address_is_not_tried_and_its_file_loads_when_it_is_at_hand",
        "tests/encoders/test_encoders.py::test_a_changed_neighbour_is_seen_in_the_same_process",
        "tests/encoders/test_encoders.py::test_a_neighbour_of_another_folder_is_not_taken",
        "tests/encoders/test_encoders.py::test_bundled_encoders_are_what_their_readme_says",
        "tests/encoders/test_encoders.py::test_code",
        "tests/encoders/test_encoders.py::test_code_changes_change_the_hash",
        "tests/encoders/test_encoders.py::test_code_errors",
        "tests/encoders/test_encoders.py::test_default_feature_is_timms_own_pooling",
        "tests/encoders/test_encoders.py::test_packages_below_the_folder_count_and_libraries_do_not",
        "tests/encoders/test_encoders.py::test_random_weights_are_the_seeds",
        "tests/encoders/test_encoders.py::test_resnet101_has_timm_names_and_values",
        "tests/encoders/test_encoders.py::test_resnet_inner_stages",
        "tests/encoders/test_encoders.py::test_timm_preprocessing_is_timms",
        "tests/encoders/test_encoders.py::test_torch_that_is_not_installed_is_a_sentence",
        "tests/encoders/test_encoders.py::test_vit_features_against_timm",
        "tests/encoders/test_encoders.py::test_vit_with_registers_averages_patches_only",
        "tests/encoders/test_encoders.py::test_wide_resnets",
        "tests/encoders/test_families.py::test_a_clip_resnet_gives_the_features_of_an_independent_one",
        "tests/encoders/test_families.py::test_a_file_in_the_layout_of_its_authors",
        "tests/encoders/test_families.py::test_clip_resnets_have_a_place_for_every_tensor",
        "tests/encoders/test_layouts.py::test_dialects",
        "tests/encoders/test_layouts.py::test_resnet_layouts",
        "tests/encoders/test_layouts.py::test_vit_layouts",
        "tests/encoders/test_many.py::test_a_pattern_gives_a_run_each_and_a_failed_one_does_not_stop_the_others",
        "tests/encoders/test_many.py::test_another_question_is_not_answered_by_old_runs",
        "tests/encoders/test_many.py::test_code_with_several_features_says_which_it_takes",
        "tests/encoders/test_many.py::test_extracting_several_poolings_again_gives_all_of_them",
        "tests/encoders/test_many.py::test_layers_and_poolings_come_from_one_pass_and_one_is_marked",
        "tests/encoders/test_many.py::test_several_names_without_epochs_keep_their_order",
        "tests/encoders/test_many.py::test_steps_are_paired_and_corrected_together",
        "tests/encoders/test_many.py::test_the_same_line_makes_only_what_is_missing",
        "tests/encoders/test_matching.py::test_order_matching",
        "tests/encoders/test_models.py::test_run_and_extract_touch_no_network_offline",
        "tests/encoders/test_other_libraries.py::test_a_saved_model_of_transformers_gives_its_features_and_pixels",
        "tests/encoders/test_other_libraries.py::test_inner_blocks_poolings_and_registers_of_transformers",
        "tests/encoders/test_transformers.py::test_a_saved_model_gives_the_features_of_transformers",
        "tests/extraction/test_extraction.py::test_awkward_batches_give_the_same_bank",
        "tests/extraction/test_extraction.py::test_bank_by_name_has_the_encoders_features",
        "tests/extraction/test_extraction.py::test_features_agree_with_a_direct_forward_pass",
        "tests/extraction/test_extraction.py::test_interrupt_prints_the_line_that_resumes",
        "tests/extraction/test_extraction.py::test_kill_9_loses_no_committed_row_and_none_is_decoded_again",
        "tests/extraction/test_extraction.py::test_second_run_imports_neither_torch_nor_an_image_library",
        "tests/extraction/test_extraction.py::test_several_layers_from_one_pass",
        "tests/extraction/test_first_line.py::test_the_first_line_comes_before_what_takes_seconds_is_imported",
        "tests/extraction/test_forecast.py::test_the_commands_write_nothing",
        "tests/extraction/test_reuse.py::test_a_changed_encoder_chooses_its_dtype_anew",
        "tests/extraction/test_reuse.py::test_a_changed_neighbour_of_the_users_file_gives_another_bank",
        "tests/extraction/test_reuse.py::test_an_interrupted_bank_is_not_continued_with_other_features",
        "tests/extraction/test_reuse.py::test_options_of_an_architecture_are_told_apart",
        "tests/extraction/test_reuse.py::test_what_no_key_can_know_is_found_by_comparing_features",
        "tests/extraction/test_shard.py::test_the_command_says_what_is_filled_and_fills_it",
        "tests/extraction/test_shard.py::test_two_processes_at_once_one_killed_then_filled",
        "tests/probes/test_fused.py::test_the_kernels_give_what_torch_gives",
        "tests/probes/test_logistic.py::test_rounded_passes_do_not_stall",
        "tests/probes/test_moments.py::test_sizes_are_told_while_an_update_runs",
        "tests/probes/test_probes.py::test_an_interrupt_ends_a_fit_soon",
        "tests/probes/test_probes.py::test_logistic_predictions_and_probabilities_are_those_of_scikit_learn",
        "tests/probes/test_probes.py::test_scikit_learn_is_imported_only_with_the_probes",
        "tests/probes/test_probes.py::test_the_choice_of_a_penalty_is_that_of_scikit_learn_on_the_same_folds",
        "tests/probes/test_solvers.py::test_a_decomposition_is_the_same_on_a_device",
        "tests/probes/test_solvers.py::test_logistic_fits_are_those_of_the_kernels",
        "tests/reference/test_intervals.py::test_row_variance_is_that_of_the_bootstrap_with_n_minus_one_draws",
        "tests/reference/test_intervals.py::test_variance_of_one_class_groups_is_that_of_resampled_groups",
        "tests/reference/test_paper.py::test_every_study_and_risk_from_scikit_learn",
        "tests/reference/test_strict.py::test_every_risk_from_scikit_learns_classifiers",
        "tests/report/test_browser.py",
        "tests/report/test_command.py",
        "tests/report/test_html.py",
        "tests/results/test_published.py::test_numbers_of_the_paper_are_found_again",
        "tests/results/test_reading.py::test_exports_are_the_same_under_a_plain_c_locale",
        "tests/results/test_results.py::test_a_killed_process_leaves_no_folder_that_looks_finished",
        "tests/study/test_command.py::test_a_missing_package_names_the_extra",
        "tests/study/test_command.py::test_a_page_of_the_study_is_written_and_not_over_another",
        "tests/study/test_command.py::test_figures_are_written_and_equal_each_time",
        "tests/study/test_command.py::test_neither_the_import_nor_the_command_imports_torch",
        "tests/study/test_command.py::test_the_published_table_as_a_user_sees_it",
        "tests/study/test_edges_study.py::test_a_choice_that_is_correlated_with_another_does_not_take_its_effect",
        "tests/study/test_edges_study.py::test_an_effect_that_differs_between_clusters_is_no_sure_one",
        "tests/study/test_effects.py::test_holm_is_that_of_statsmodels",
        "tests/study/test_effects.py::test_intervals_cover_where_objectives_share_an_error",
        "tests/study/test_effects.py::test_the_effect_that_a_pseudo_inverse_prints_is_refused",
        "tests/study/test_law.py::test_a_measured_point_is_worth_more_than_components",
        "tests/study/test_law.py::test_intervals_cover_objectives_that_were_left_out",
        "tests/study/test_law.py::test_intervals_cover_published_objectives_that_were_left_out",
        "tests/study/test_law.py::test_the_default_law_is_better_on_what_it_has_not_seen",
        "tests/study/test_ols.py::test_coefficients_and_variances_are_those_of_statsmodels",
        "tests/study/test_tradeoffs.py::test_both_sources_in_one_study",
        "tests/study/test_trees.py::test_held_out_errors_are_near_the_authors",
        "tests/study/test_trees.py::test_held_out_errors_of_noise_are_not_below_those_of_the_mean",
        "tests/study/test_trees.py::test_planted_effects_are_found",
        "tests/study/test_trees.py::test_planted_effects_are_predicted",
        "tests/system/test_fork.py::test_fits_on_one_thread_start_no_others",
        "tests/system/test_same_splits.py::test_a_copy_of_the_folder",
        "tests/test_arrows.py::test_imports_follow_the_arrows",
        "tests/test_tutorial.py",
        "tests/workflow/test_packs.py",
        "tests/workflow/test_parts.py::test_a_decomposition_in_parts_is_that_of_one_process",
        "tests/workflow/test_ray.py",
        "tests/workflow/test_shards.py::test_shards_fill_a_bank_and_a_failed_one_is_named",
        "tests/workflow/test_slurm.py::test_a_status_is_handed_over_and_no_more_jobs_run_than_asked_for",
        "tests/workflow/test_slurm.py::test_pairs_run_as_jobs_and_one_that_fails_stops_no_other",
        "tests/workflow/test_sweep.py::test_a_failed_encoder_stops_no_other_and_its_line_tries_it_again",
        "tests/workflow/test_sweep.py::test_a_lock_of_a_process_that_died_is_taken_over_and_said",
        "tests/workflow/test_sweep.py::test_a_process_that_dies_is_named_with_its_log",
        "tests/workflow/test_sweep.py::test_a_run_for_each_pair_and_the_same_line_again_makes_none",
        "tests/workflow/test_sweep.py::test_an_interrupted_sweep_goes_on_with_the_same_line",
        "tests/workflow/test_sweep.py::test_each_gpu_has_a_process_of_its_own",
        "tests/workflow/test_sweep.py::test_layers_of_one_pass_are_runs_of_their_own",
        "tests/workflow/test_sweep.py::test_two_sweeps_on_one_folder_share_the_work",
    )
)

#: what a minimal environment may lack (`make test-oldest`); tests that need it are skipped there
OPTIONAL = tuple(name for name in ("torch", "torchvision", "timm") if importlib.util.find_spec(name) is None)
if OPTIONAL:
    collect_ignore = ["encoders", "extraction", "bench"]  # import them while they are collected


# --- the slow definitions of tests/reference, importable as `reference`


def _make_reference_known() -> None:
    """Load the package by its path: with `tests/` on sys.path rooms such as `datasets` would be packages there."""
    folder = Path(__file__).parent / "reference"
    spec = importlib.util.spec_from_file_location(
        "reference", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder} is not a package")
    package = importlib.util.module_from_spec(spec)
    sys.modules["reference"] = package
    spec.loader.exec_module(package)


if "reference" not in sys.modules:
    _make_reference_known()


# --- array annotations are checks


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --typecheck, --no-typecheck."""
    parser.addoption(
        "--typecheck",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="check the array annotations of the package at every call",
    )
    parser.addoption("--overwrite", action="store_true", help="write golden files anew from tests/reference")


def pytest_configure(config: pytest.Config) -> None:
    """Install the checks before a test imports the package."""
    if not config.getoption("--typecheck"):
        return
    spec = importlib.util.spec_from_file_location("array_checks", Path(__file__).with_name("array_checks.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["array_checks"] = module  # jaxtyping's hook imports the checker by its name
    spec.loader.exec_module(module)
    module.install(PACKAGE)


# --- the source tree stays as it was


def snapshot(root: Path) -> dict[str, tuple[int, int]]:
    """Size and modification time of every file below `root` that is not a tool's own."""
    found = {}
    for folder, below, names in os.walk(root):
        below[:] = [name for name in below if name not in TOOLS and not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and not name.endswith((".so", ".pyc")):
                path = Path(folder, name)
                facts = path.lstat()
                found[str(path.relative_to(root))] = (facts.st_size, facts.st_mtime_ns)
    return found


def written(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> list[str]:
    """Files that are new, changed or gone, each with the word that says which."""
    new = [f"new: {path}" for path in after.keys() - before.keys()]
    gone = [f"gone: {path}" for path in before.keys() - after.keys()]
    changed = [f"changed: {path}" for path in before.keys() & after.keys() if before[path] != after[path]]
    return sorted(new + gone + changed)


@pytest.fixture(scope="session", autouse=True)
def no_source_writes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the run if a file of the checkout is new, changed or gone at its end, unless golden files are to be made."""
    if (
        request.config.getoption("--overwrite") or not (ROOT / ".git").exists()
    ):  # an unpacked archive: there nobody has to tell files apart
        yield
        return
    before = snapshot(ROOT)
    yield
    if found := written(before, snapshot(ROOT)):
        listing = "\n  ".join(found[:20])
        pytest.fail(
            "the source tree changed while the tests ran (a file saved in an editor meanwhile counts too; "
            f"run again then):\n  {listing}",
            pytrace=False,
        )


# --- a place of its own


def _isolate(patch: pytest.MonkeyPatch, home: Path) -> None:
    """Point everything that is written by default below `home`."""
    home.mkdir(exist_ok=True)
    for name in PLACES:
        folder = {"HOME": "", "XDG_CACHE_HOME": ".cache", "XDG_CONFIG_HOME": ".config", "XDG_DATA_HOME": ".data"}
        patch.setenv(name, str(home / folder.get(name, name.lower().removeprefix("ssl_risk_"))))
    for name in SWITCHES:
        patch.delenv(name, raising=False)


@pytest.fixture(scope="session", autouse=True)
def _session_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The place of fixtures that are made once a module or session."""
    with pytest.MonkeyPatch.context() as patch:
        real = Path.home()
        for name, folder in (("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")):  # cargo still finds its tools
            if name not in os.environ and (real / folder).is_dir():
                patch.setenv(name, str(real / folder))
        _isolate(patch, tmp_path_factory.mktemp("home"))
        patch.chdir(tmp_path_factory.mktemp("work"))
        yield


@pytest.fixture(autouse=True)
def _place(_session_place: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder, `tmp_path`, and a home beside it, for every test."""
    _isolate(monkeypatch, tmp_path.with_name(f"{tmp_path.name}-home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def paper_data() -> Path:
    """Folder with the published table, which is not part of the project: $SSL_RISK_PAPER_DATA, or ../shared/paper."""
    folder = Path(os.environ.get("SSL_RISK_PAPER_DATA") or ROOT.parent / "shared" / "paper")
    if not (folder / "all_results.csv").is_file():
        pytest.skip(f"needs the published table: there is no all_results.csv in {folder} (SSL_RISK_PAPER_DATA)")
    return folder


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with the same seed in every test."""
    return np.random.default_rng(0)


# --- slow tests

STALE = pytest.StashKey[list[str]]()


@pytest.hookimpl(tryfirst=True)  # before -m selects by the marker
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests of `SLOW`; entries whose file is there but not their test are kept for a test to report."""
    unused = set(SLOW)
    for item in items:
        for prefix in SLOW:
            if _has_prefix(item.nodeid, prefix):
                item.add_marker(pytest.mark.slow)
                unused.discard(prefix)
    files = {item.nodeid.partition("::")[0] for item in items}
    partial = any("::" in argument for argument in config.args)  # a part of a file was asked for
    config.stash[STALE] = [] if partial else sorted(p for p in unused if p.partition("::")[0] in files)


def _has_prefix(nodeid: str, prefix: str) -> bool:
    """Whether `prefix` is the node id, or ends where a class or a parameter begins."""
    return nodeid == prefix or nodeid.startswith((f"{prefix}[", f"{prefix}::"))


@pytest.fixture
def stale_slow_entries(pytestconfig: pytest.Config) -> list[str]:
    """Entries of `SLOW` that name no test any more."""
    return pytestconfig.stash[STALE]


# --- without torch


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Skip a test that ends because a package of `OPTIONAL` is not installed."""
    try:
        return (yield)
    except BaseException as error:
        cause: BaseException | None = error
        while OPTIONAL and cause is not None:
            if isinstance(cause, ModuleNotFoundError) and (cause.name or "").partition(".")[0] in OPTIONAL:
                pytest.skip(f"needs {cause.name}")
            cause = cause.__cause__ or cause.__context__
        raise
