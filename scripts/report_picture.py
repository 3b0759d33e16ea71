"""Draw docs/report.svg, the picture of the bundled example in README.md and docs/report.md.

python scripts/report_picture.py            # runs the bundled example first
python scripts/report_picture.py RUN        # takes a run folder of it
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from ssl_risk_rs.report.build import build_page
from ssl_risk_rs.report.files import write_text
from ssl_risk_rs.report.svg import WIDE, svg
from ssl_risk_rs.results import Run
from ssl_risk_rs.workflow.reporting import material_of

TARGET = Path(__file__).parents[1] / "docs" / "report.svg"
#: bytes that a picture in a repository may have
MOST = 100_000


def draw(run: Run) -> str:
    """The first drawing of a report: the error and its parts."""
    text = svg(next(build_page(material_of(run)).figures()), WIDE, alone=True)
    assert len(text.encode()) < MOST
    return text


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "demo"
        if len(sys.argv) > 1:
            run = Path(sys.argv[1])
        else:
            command = "from ssl_risk_rs.cli import main; main()"
            subprocess.run([sys.executable, "-c", command, "demo", "--out", str(run)], check=True)
        write_text(draw(Run.load(run)), TARGET)
    print(TARGET)


if __name__ == "__main__":
    main()
