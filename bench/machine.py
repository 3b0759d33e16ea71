"""The machine, versions and command that belong to a table of measurements."""

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

#: instruction sets that decide which kernels run; model names are generic on virtual machines
ISA_FLAGS = (
    "avx2",
    "f16c",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "bf16",
)
#: power and clocks of a GPU, by nvidia-smi's names
GPU_STATE = ("name", "driver_version", "pstate", "clocks.sm", "clocks.max.sm", "power.draw", "power.limit")
#: variables that take instructions away, ours and other libraries'
LIMITS = ("SSL_RISK_KERNEL", "SSL_RISK_AMX", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")
HERE = Path(__file__).parent


def isa() -> list[str]:
    """Those of `ISA_FLAGS` that the CPU has."""
    cpu = _cpu()
    flags = cpu.get("flags", cpu.get("Features", "")).split()
    return [flag for flag in ISA_FLAGS if flag in flags]


def describe(packages: Iterable[str]) -> str:
    """Lines `name: value`; packages that are not installed are listed as such."""
    cpu = _cpu()
    facts = {
        "command": " ".join(["python", *sys.argv]),
        "cpu": cpu.get("model name", platform.processor() or platform.machine()),
        "cpu_family_model_stepping": "/".join(cpu.get(k, "?") for k in ("cpu family", "model", "stepping")),
        "isa": " ".join(isa()),
        "cores": str(len(os.sched_getaffinity(0))),
        "clock_at_the_end": _clock(cpu),
        "memory_gb": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1e9:.1f}",
        "load_average_at_the_end": " ".join(f"{v:.2f}" for v in os.getloadavg()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "rustc": _output("rustc", "--version"),
        "commit": _output("git", "rev-parse", "HEAD")
        + (", with changes" if _output("git", "status", "--short") else ""),
    }
    gpus = _output("nvidia-smi", f"--query-gpu={','.join(GPU_STATE)}", "--format=csv,noheader")
    if gpus != "unknown":
        facts |= {
            f"gpu_{i}_at_the_end": f"{state} ({', '.join(GPU_STATE)})" for i, state in enumerate(gpus.splitlines())
        }
    facts |= {name: os.environ[name] for name in LIMITS if name in os.environ}
    facts |= {name: version(name) for name in packages}
    return "".join(f"{name}: {value}\n" for name, value in facts.items())


def version(package: str) -> str:
    """Installed version of a package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def available_bytes() -> float:
    """Memory that can be had without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable"):
            return 1024.0 * int(line.split()[1])
    return float("inf")


def _cpu() -> dict[str, str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except FileNotFoundError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _clock(cpu: dict[str, str]) -> str:
    """Frequency now, and who sets it; virtual machines seldom know."""
    try:
        governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").read_text().strip()
    except OSError:
        governor = "governor unknown"
    return f"{cpu.get('cpu MHz', '?')} MHz, {governor}"


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
