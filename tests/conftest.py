"""What every room's tests share: the package `reference` of slow definitions, importable by that name.

The folder is loaded by its path instead of putting `tests/` on sys.path, where rooms such as `datasets`
would stand as packages of that name.
"""

import importlib.util
import sys
from pathlib import Path

if "reference" not in sys.modules:
    folder = Path(__file__).parent / "reference"
    spec = importlib.util.spec_from_file_location(
        "reference", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder} is not a package")
    package = importlib.util.module_from_spec(spec)
    sys.modules["reference"] = package
    spec.loader.exec_module(package)
