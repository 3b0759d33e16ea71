"""What a machine and a container say of their memory, read from files in their form."""

from pathlib import Path

import pytest
from ssl_risk_rs import _memory

GB = 10**9


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(_memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(_memory, "_CGROUP", tmp_path)
    (tmp_path / "meminfo").write_text("MemTotal:       16000000 kB\nMemFree: 1 kB\nMemAvailable:    8000000 kB\n")
    return tmp_path


def test_of_a_machine_what_is_available_is_free(files):
    assert (_memory.total_bytes(), _memory.free_bytes()) == (16_000_000 * 1024, 8_000_000 * 1024)
    (files / "memory.max").write_text("max\n")
    assert _memory.free_bytes() == 8_000_000 * 1024


def test_of_a_container_its_limit_less_what_it_uses(files):
    (files / "memory.max").write_text(f"{4 * GB}\n")
    assert _memory.total_bytes() == _memory.free_bytes() == 4 * GB  # an older kernel tells no use
    (files / "memory.current").write_text(f"{3 * GB}\n")
    assert _memory.free_bytes() == GB
    (files / "memory.stat").write_text(f"anon 5\ninactive_file {2 * GB}\n")  # files that it has read
    assert _memory.free_bytes() == 3 * GB
    (files / "memory.current").write_text(f"{9 * GB}\n")
    assert _memory.free_bytes() == 0


def test_other_systems_do_not_say(files):
    (files / "meminfo").unlink()
    assert _memory.total_bytes() is None and _memory.free_bytes() is None
