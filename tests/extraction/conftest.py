"""Fixtures of the extraction's tests."""

import sys
from pathlib import Path

if (folder := str(Path(__file__).parent)) not in sys.path:
    sys.path.insert(0, folder)  # tests are imported by file: what several of them share is not found otherwise
