"""One method in a process of its own: reads a request, writes the answer. Started by process.py.

python bench/worker.py ADAPTER METHOD FOLDER       # FOLDER holds request.json
"""

import importlib
import sys
from pathlib import Path

import problems
from contract import Answer, Request


def main() -> None:
    """Run the method; an exception ends the process with its traceback on stderr."""
    adapter, method, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    work(adapter, method, Request.read(folder / "request.json")).write(folder)


def work(adapter: str, method: str, request: Request) -> Answer:
    """Run a method of an adapter."""
    loaded = problems.load(request.problem, request.bank)
    _warm(loaded)
    methods = importlib.import_module(adapter).JOBS[request.job]
    found = next(m for m in methods if m.name == method and m.goal in ("", request.goal))
    return found.run(loaded, request)


def _warm(loaded: problems.Loaded) -> None:
    """Bring the files into the page cache; their pages are then mapped by whoever touches them first."""
    for x in (loaded.x, loaded.x_test):
        path = getattr(x, "filename", None)
        if path is not None:
            with open(path, "rb", buffering=0) as file:
                buffer = bytearray(1 << 24)
                while file.readinto(buffer):
                    pass


if __name__ == "__main__":
    main()
