"""What the docs show runs: examples in docstrings, README's Python and its command lines."""

import ast
import doctest
import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import ssl_risk_rs
from click.testing import CliRunner
from ssl_risk_rs.cli import main

ROOT = Path(__file__).parents[1]
PACKAGE = Path(ssl_risk_rs.__file__).parent
README = (ROOT / "README.md").read_text(encoding="utf-8")

N, D, K = 400, 16, 10


def rows_of(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """n points around ten centres that overlap."""
    y = np.arange(n) % K
    centres = np.random.default_rng(0).standard_normal((K, D))
    return (centres[y] + np.random.default_rng(seed).standard_normal((n, D))).astype(np.float32), y


def names(folder: Path, module: str = "") -> dict[str, Any]:
    """What an example may take for given; files go to `folder`. Rows of arrays are uint32, those of a bank uint64."""
    (x, y), (x_test, y_test) = rows_of(N, 1), rows_of(100, 2)
    samples = {
        "row": range(N),
        "split": ["test" if i % 4 == 3 else "train" for i in range(N)],
        "sample_id": [f"s{i}" for i in range(N)],
        "label": y.tolist(),
    }
    return {
        "np": np,
        "pl": pl,
        "sr": ssl_risk_rs,
        **{"X": x, "y": y, "X_test": x_test, "y_test": y_test},
        **{
            "x": x,
            "labels": y.astype(np.uint32),
            "rows": np.arange(N, dtype=np.uint32 if module.endswith("_core") else np.uint64),
        },
        "folds": (np.arange(N) // K % 5).astype(np.uint8),
        "features": np.tile(x, (1, 768 // D)),
        "path": folder / "bank",
        "header": {"encoder": "tiny", "data": "toy", "class_names": [str(c) for c in range(K)], "img_size": 32},
        "samples": pl.DataFrame(samples),
    }


# --- docstrings


def examples() -> dict[str, tuple[str, str]]:
    """Every docstring of the package that has an example: the name of its object, the module and the text."""
    found = {}
    for path in sorted((*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.pyi"))):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        nodes: list[tuple[str, ast.AST]] = [(module, ast.parse(path.read_text(encoding="utf-8")))]
        while nodes:
            name, node = nodes.pop()
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node) or ""
                if ">>>" in text:
                    found[name] = (module, text)
                nodes += [(f"{name}.{child.name}", child) for child in node.body if hasattr(child, "name")]
    return found


EXAMPLES = examples()


class Printed(doctest.OutputChecker):
    """An example that shows no result may print one: only results that are shown are compared."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return not want or super().check_output(want, got, optionflags)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_of_a_docstring_runs(name, tmp_path, capsys):
    module, text = EXAMPLES[name]
    public = {each: getattr(ssl_risk_rs, each) for each in ssl_risk_rs.__all__}
    own = {each: value for each, value in vars(importlib.import_module(module)).items() if not each.startswith("__")}
    found = doctest.DocTestParser().get_doctest(text, {**public, **own, **names(tmp_path, module)}, name, None, 0)
    reports: list[str] = []
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.FAIL_FAST
    doctest.DocTestRunner(Printed(), verbose=False, optionflags=flags).run(found, out=reports.append)
    assert not reports, f"the example of {name}:\n" + "\n".join(reports)


def test_examples_are_found():
    assert len(EXAMPLES) >= 5, sorted(EXAMPLES)


def test_the_examples_of_the_page_on_probes_run():
    text = (ROOT / "docs" / "probes.md").read_text(encoding="utf-8")
    found = doctest.DocTestParser().get_doctest("".join(blocks("python", text)), {}, "docs/probes.md", None, 0)
    assert len(found.examples) >= 10
    reports: list[str] = []
    doctest.DocTestRunner(verbose=False, optionflags=doctest.FAIL_FAST).run(found, out=reports.append)
    assert not reports, "\n".join(reports)


# --- README


def blocks(language: str, text: str = README) -> list[str]:
    """Code blocks of a language, README's or those of another page."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def command_lines() -> list[str]:
    """README's shell commands, without comments; a line that ends in a backslash goes on."""
    text = "\n".join(blocks("sh")).replace("\\\n", " ")
    return [line.strip() for line in (re.sub(r"(^|\s)#.*", "", raw) for raw in text.splitlines()) if line.strip()]


OURS = [line.removeprefix("ssl-risk-rs ") for line in command_lines() if line.startswith("ssl-risk-rs ")]
#: those that need neither a data set nor the network
RUN = [line for line in OURS if re.match(r"demo\b", line) or re.match(r"decompose .*\S+\.npz", line)]


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_the_python_of_the_readme_runs(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (x, y), (x_test, y_test) = rows_of(N, 1), rows_of(100, 2)
    np.savez("feats.npz", X_train=x, y_train=y, X_test=x_test, y_test=y_test,
             patient_train=np.arange(N) // 4, patient_test=N + np.arange(100) // 4)  # fmt: skip
    exec(compile(blocks("python")[number], f"README.md, Python block {number + 1}", "exec"), names(tmp_path))


def test_the_readme_names_targets_that_there_are():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = [line.split()[1] for line in command_lines() if line.startswith("make ")]
    assert named and set(named) <= targets


@pytest.mark.parametrize("line", OURS)
def test_a_command_line_of_the_readme_has_options_that_there_are(line):
    import click

    command: click.Command = main
    context, words = click.Context(main, info_name="ssl-risk-rs", **main.context_settings), shlex.split(line)
    while isinstance(command, click.Group):
        word = words.pop(0)
        found = command.get_command(context, word)
        assert found is not None, f"there is no command {word}"
        command, context = found, click.Context(found, parent=context, info_name=word)
    command.make_parser(context).parse_args(words)  # raises at an option that is not there


@pytest.mark.slow
@pytest.mark.parametrize("line", RUN)
def test_a_command_line_of_the_readme_runs(line):
    (x, y), (x_test, y_test) = rows_of(N, 1), rows_of(100, 2)
    for file in re.findall(r"\S+\.npz", line):
        np.savez(file, X_train=x, y_train=y, X_test=x_test, y_test=y_test)
    result = CliRunner().invoke(main, shlex.split(line))
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    assert "aggregated risk" in result.stdout


def test_the_readme_has_command_lines_that_run():
    assert any(line.startswith("decompose") for line in RUN)
