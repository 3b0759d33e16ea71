"""What is shipped and what ships it: files of the package, versions that must agree, workflow files.

`make wheel-test` builds the wheel and uses it in an empty environment; nothing is built here.
"""

import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
CARGO = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


# --- the package


@pytest.mark.parametrize(
    "name",
    [
        "py.typed",
        "_core.pyi",
        "encoders/catalogue/encoders.tsv",
        "encoders/catalogue/files.tsv",
        "encoders/catalogue/dialects.tsv",
        "encoders/catalogue/published.tsv",
        "corrections.tsv",
        "report/templates/page.html",
        "study/law_imagenet.json",
        "encoders/weights/demo_ssl.safetensors",
        "encoders/weights/demo_supervised.safetensors",
        "encoders/weights/demo_random.safetensors",
    ],
)
def test_a_file_that_is_not_python_is_in_the_package(name):
    assert files("ssl_risk_rs").joinpath(name).is_file()


def test_maturin_packs_the_python_folder_whole():
    tool = PYPROJECT["tool"]["maturin"]
    assert tool["python-source"] == "python" and "exclude" not in tool
    assert PYPROJECT["project"]["license-files"] == ["LICENSE"] and (ROOT / "LICENSE").is_file()
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()  # maturin leaves out what git ignores
    shipped = (p.suffix for p in (ROOT / "python").rglob("*") if p.is_file() and p.suffix not in (".so", ".pyc"))
    assert not {f"*{suffix}" for suffix in shipped} & set(ignored)


def test_the_installed_package_has_the_version_of_the_sources():
    try:
        installed = version("ssl-risk-rs")
    except PackageNotFoundError:
        pytest.skip("the package is on the path, not installed")
    assert installed == CARGO["workspace"]["package"]["version"]


def test_the_crates_have_the_version_of_the_workspace():
    assert CARGO["workspace"]["dependencies"]["ssl-risk-core"]["version"] == CARGO["workspace"]["package"]["version"]


def test_the_oldest_versions_agree():
    rust = CARGO["workspace"]["package"]["rust-version"]
    assert tomllib.loads((ROOT / "clippy.toml").read_text())["msrv"] == rust
    assert f"toolchain install {rust} " in (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    python = PYPROJECT["project"]["requires-python"].removeprefix(">=")
    assert PYPROJECT["tool"]["mypy"]["python_version"] == python
    assert PYPROJECT["tool"]["ruff"]["target-version"] == "py" + python.replace(".", "")
    assert f"abi3-py{python.replace('.', '')}" in CARGO["workspace"]["dependencies"]["pyo3"]["features"]
    assert f"versions/{python}." in MAKEFILE


# --- the workflow files


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.stem)
def workflow(request) -> dict:
    return yaml.safe_load(request.param.read_text(encoding="utf-8"))


def test_there_are_workflows():
    assert {"ci", "release"} <= {path.stem for path in WORKFLOWS}


def test_a_workflow_is_well_formed(workflow):
    assert workflow.keys() >= {"name", "jobs", "permissions"}
    assert True in workflow  # YAML 1.1 reads the key `on` so
    for name, job in workflow["jobs"].items():
        assert job.keys() >= {"runs-on", "steps", "timeout-minutes"}, name
        needed = job.get("needs", [])
        assert set([needed] if isinstance(needed, str) else needed) <= workflow["jobs"].keys(), name
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step), f"{name}: a step either uses an action or runs commands"


def test_actions_are_pinned_by_major_version(workflow):
    used = [step["uses"] for job in workflow["jobs"].values() for step in job["steps"] if "uses" in step]
    assert used
    for action in used:
        assert re.fullmatch(r"[\w.-]+/[\w./-]+@(release/)?v\d+", action), action


def test_a_workflow_runs_targets_and_scripts_that_there_are(workflow):
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    commands = "\n".join(step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step)
    assert set(re.findall(r"\bmake ([a-z-]+)", commands)) <= targets
    for script in re.findall(r"(?:scripts|\.ci)/[\w.]+", commands):
        assert (ROOT / script).is_file(), script


def test_only_a_tag_publishes():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8"))["jobs"]
    publishing = {name for name, job in jobs.items() if any("publish" in step.get("uses", "") for step in job["steps"])}
    assert publishing == {"publish"}
    assert jobs["publish"]["if"] == "startsWith(github.ref, 'refs/tags/v')"
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert [name for name, job in jobs.items() if "id-token" in job.get("permissions", {})] == ["publish"]


# --- hooks


def test_hooks_run_tools_of_the_checkout_only():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repository["repo"] for repository in config["repos"]] == ["local"]
    assert all(hook["language"] == "system" for hook in config["repos"][0]["hooks"])


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        ("kernel: AMX bf16 Gram matrix\n\nWhy.\n", None),
        ("Merge branch 'x' of a long name that nobody chose and that is longer than 72 characters\n", None),
        ("# a comment\nkernel: what changes\n", None),
        ("", "the first line is empty"),
        ("What changes\n", "not of the form"),
        (f"kernel: {'x' * 65}\n", "73 characters"),
        ("kernel: what changes.\n", "full stop"),
        ("kernel: what changes\nWhy.\n", "second line"),
    ],
)
def test_commit_messages(tmp_path, message, complaint):
    (tmp_path / "message").write_text(message)
    command = [ROOT / "scripts" / "commit_message.sh", tmp_path / "message"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if complaint is None:
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode == 1 and complaint in done.stderr
