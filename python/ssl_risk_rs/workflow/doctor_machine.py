"""What a machine has: its CPU and kernels, memory, the store's disk, torch, extras and caches."""

import importlib.metadata
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from ssl_risk_rs import _core
from ssl_risk_rs._cpus import count_cpus
from ssl_risk_rs._extras import releases
from ssl_risk_rs._files import cache_folder
from ssl_risk_rs._memory import free_bytes, lines_of, total_bytes
from ssl_risk_rs.bank.store import FeatureStore
from ssl_risk_rs.errors import DeviceError, ParameterError
from ssl_risk_rs.extraction.devices import device_names
from ssl_risk_rs.extraction.forward import choose_device
from ssl_risk_rs.workflow.doctor import Finding

__all__ = ["examine_machine"]

#: bytes that are written to the store's disk and read again
DISK_BYTES = 64 << 20

#: gigabytes below which the memory, or the store's disk, is called small
SMALL_MEMORY, SMALL_DISK = 4.0, 10.0

#: variables that say how many threads libraries start
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")


def examine_machine(store: "str | Path | None" = None) -> Iterator[Finding]:
    """The machine, one finding after the other; the one about torch takes its import.

    Parameters
    ----------
    store : folder of the feature banks; None is the default store
    """
    yield _cpu()
    yield _threads()
    yield _memory()
    root = FeatureStore(store).root
    yield _disk(root)
    yield from _torch()
    yield _extras()
    yield _caches(root)


def _cpu() -> Finding:
    name = next(
        (line.partition(":")[2].strip() for line in lines_of("/proc/cpuinfo") if line.startswith("model name")), ""
    )
    name = name or platform.processor() or platform.machine()
    try:
        kernels = _core.kernels()
    except ParameterError as error:  # SSL_RISK_KERNEL names one that cannot run here
        return Finding("cpu", "fault", f"{name}: {error}", "unset SSL_RISK_KERNEL")
    chosen = ", ".join(f"{kernel.name} ({kernel.precision})" for kernel in kernels if kernel.chosen)
    off = [kernel.name for kernel in kernels if kernel.availability == "off"]
    found = f"{name}; kernels {chosen}" + (f"; off: {', '.join(off)}" if off else "")
    portable = all(kernel.name == "portable" for kernel in kernels if kernel.chosen)
    advice = "this CPU has no vector kernel here: fits take several times as long" if portable else ""
    return Finding("cpu", "note" if portable else "ok", found, advice, {"name": name, "kernels": chosen})


def _threads() -> Finding:
    cpus = count_cpus()
    quota = _quota()
    named = {name: os.environ[name] for name in _THREADS if name in os.environ}
    said = f"{cpus} CPUs may be used" + (f", of {os.cpu_count()}" if os.cpu_count() != cpus else "")
    said += "".join(f"; {name}={value}" for name, value in named.items())
    values: dict[str, int | float | str] = {"cpus": cpus, **named}
    if quota is not None and quota < cpus:
        values["quota"] = quota
        advice = f"start with  taskset -c 0-{max(int(quota), 1) - 1}  or give --threads {max(int(quota), 1)}"
        return Finding("threads", "note", f"{said}; the container has a quota of {quota:g} CPUs", advice, values)
    return Finding("threads", "ok", said, values=values)


def _quota() -> float | None:
    """CPUs' worth of time that a control group grants; None if it sets no limit."""
    parts = " ".join(lines_of("/sys/fs/cgroup/cpu.max")).split()
    if len(parts) != 2 or not parts[0].isdecimal() or not parts[1].isdecimal():
        return None
    return int(parts[0]) / int(parts[1])


def _memory() -> Finding:
    found_total, found_free = total_bytes(), free_bytes()
    if found_total is None or found_free is None:
        return Finding("memory", "ok", "its size is not known on this system")
    total, free = found_total / 1e9, found_free / 1e9
    small = free < SMALL_MEMORY
    advice = "close what uses it; a probe of d features and k classes needs about d (d + k) x 16 bytes" if small else ""
    found = f"{total:.1f} GB, of which {free:.1f} GB are free"
    return Finding("memory", "note" if small else "ok", found, advice, {"total_gb": total, "free_gb": free})


def _disk(root: Path) -> Finding:
    """Free space where the store is, and how fast a file there is written and read."""
    folder = root
    while not folder.is_dir():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1e9
    values: dict[str, int | float | str] = {"store": str(root), "free_gb": free}
    place = f"{root}: {free:,.0f} GB free"
    if free * 1e9 < 4 * DISK_BYTES:
        return Finding(
            "store", "fault", place, "free some, or name another folder with --store or SSL_RISK_STORE", values
        )
    try:
        write, read = _disk_rates(folder)
    except OSError as error:
        advice = "name a folder that you may write to with --store or SSL_RISK_STORE"
        return Finding("store", "fault", f"{root} cannot be written: {error.strerror}", advice, values)
    values |= {"write_mb_per_second": write, "read_mb_per_second": read or 0.0}
    reading = "reading could not be told from the cache" if read is None else f"read {read:,.0f} MB/s"
    found = f"{place}; {DISK_BYTES >> 20} MB written to the disk at {write:,.0f} MB/s, {reading}"
    small = free < SMALL_DISK
    return Finding(
        "store", "note" if small else "ok", found, "free some before a large extraction" if small else "", values
    )


def _disk_rates(folder: Path) -> tuple[float, float | None]:
    """MB/s of a file that is written through to the disk, and of reading it when the cache has let go of it."""
    block = secrets.token_bytes(1 << 20)  # a file system may compress zeros
    path = folder / f".doctor-{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        with path.open("xb", buffering=0) as file:
            clock = time.perf_counter()
            for _ in range(DISK_BYTES >> 20):
                file.write(block)
            os.fsync(file.fileno())
            write = DISK_BYTES / 1e6 / (time.perf_counter() - clock)
        if not hasattr(os, "posix_fadvise"):
            return write, None
        with path.open("rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            clock = time.perf_counter()
            while file.read(1 << 20):
                pass
            return write, DISK_BYTES / 1e6 / (time.perf_counter() - clock)
    finally:
        path.unlink(missing_ok=True)


def _torch() -> Iterator[Finding]:
    install = "python -m pip install torch torchvision timm"
    versions = {name: _version(name) for name in ("torch", "torchvision", "timm")}
    missing = [name for name, version in versions.items() if version is None]
    said = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    if missing:
        yield Finding("torch", "fault", f"{', '.join(missing)} not installed{f'; {said}' if said else ''}", install)
        return
    clock = time.perf_counter()
    try:
        device = choose_device("auto")
    except (ImportError, OSError, DeviceError) as error:  # a library it needs is absent or of another release
        yield Finding("torch", "fault", f"{said}; it cannot be imported: {error}", install)
        return
    seconds = time.perf_counter() - clock
    values: dict[str, int | float | str] = {name: version for name, version in versions.items() if version}
    yield Finding("torch", "ok", f"{said}; imported in {seconds:.0f} s", values=values | {"import_seconds": seconds})
    yield _devices(device.type)


def _devices(chosen: str) -> Finding:
    names = device_names()
    if names:
        return Finding("devices", "ok", f"{'; '.join(names)}; --device auto is {chosen}", values={"gpus": len(names)})
    nvidia = Path("/proc/driver/nvidia/version").exists()
    advice = (
        "torch was built without CUDA, or for another driver: install the build that fits  nvidia-smi" if nvidia else ""
    )
    return Finding(
        "devices", "fault" if nvidia else "ok", "no GPU that torch sees; encoders run on the CPU", advice, {"gpus": 0}
    )


def _extras() -> Finding:
    """Which optional packages are installed."""
    try:
        required = importlib.metadata.requires("ssl-risk-rs") or []
    except importlib.metadata.PackageNotFoundError:
        return Finding("extras", "ok", "not known: the package runs from a source tree that is not installed")
    extras: dict[str, list[str]] = {}
    for line in required:
        if match := re.match(r"([A-Za-z0-9._-]+).*extra\s*==\s*[\"']([\w-]+)", line):
            extras.setdefault(match[2], []).append(match[1])
    missing = {extra: [name for name in names if _version(name) is None] for extra, names in extras.items()}
    said = ", ".join(
        f"{extra} {'yes' if not names else 'lacks ' + ' '.join(names)}" for extra, names in missing.items()
    )
    lacking = [extra for extra, names in missing.items() if names]
    advice = f"where you need them: python -m pip install 'ssl-risk-rs[{','.join(lacking)}]'" if lacking else ""
    return Finding("extras", "ok", said or "none", advice, {extra: int(not names) for extra, names in missing.items()})


def _caches(root: Path) -> Finding:
    home = Path.home()
    folders = {
        "feature banks": root,
        "weights and indexes": cache_folder(),
        "torch hub": Path(os.environ.get("TORCH_HOME") or home / ".cache" / "torch"),
        "Hugging Face": Path(os.environ.get("HF_HOME") or home / ".cache" / "huggingface"),
    }
    sizes = {name: _size(folder, root) for name, folder in folders.items()}
    said = ", ".join(f"{name} {size / 1e9:.2f} GB" for name, size in sizes.items())
    places = [f"{name}: {folder}" for name, folder in folders.items()]
    return Finding("caches", "ok", said, values={name: size / 1e9 for name, size in sizes.items()}, examples=places)


def _size(folder: Path, store: Path) -> int:
    """Bytes of all files below a folder; those of a store inside another folder count for the store."""
    total = 0
    for here, below, names in os.walk(folder):
        if folder != store:
            below[:] = [name for name in below if Path(here, name) != store]
        for name in names:
            try:
                total += os.lstat(os.path.join(here, name)).st_size
            except OSError:  # removed meanwhile
                continue
    return total


def _version(package: str) -> str | None:
    return releases([package]).get(package)
