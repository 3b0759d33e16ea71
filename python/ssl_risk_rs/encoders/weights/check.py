"""Whether the addresses of the catalogue's files answer, asked without downloading anything."""

import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum

from ssl_risk_rs.encoders.catalogue.tables import Address
from ssl_risk_rs.encoders.weights.download import url_of

__all__ = ["Answer", "Checked", "check_addresses", "files_without_address"]

#: addresses asked at a time: enough to hide slow hosts, few enough to be no burden
WORKERS = 4
TIMEOUT = 15.0
#: answers of hosts that do not take HEAD requests
_NO_HEAD = (403, 405, 501)


class Answer(Enum):
    """What an address said."""

    ALIVE = "alive"
    OTHER_SIZE = "other size"
    DEAD = "dead"
    NO_ANSWER = "no answer"


@dataclass(frozen=True, slots=True)
class Checked:
    """One address.

    place : in the catalogue; mirror : not the original; answer; detail : status, reason, or both sizes
    """

    place: Address
    mirror: bool
    answer: Answer
    detail: str = ""

    @property
    def url(self) -> str:
        """The address as a browser takes it."""
        return url_of(self.place.address)


def check_addresses(
    files: "Iterable[tuple[Address, ...]]",
    *,
    timeout: float = TIMEOUT,
    workers: int = WORKERS,
    progress: Callable[[Checked], None] = lambda _: None,
) -> list[Checked]:
    """Ask every address of some files, originals first, a few at a time; in the order of the files.

    A HEAD request is sent; where the host does not take it, a GET whose body is not read.
    """
    asked = [(place, mirror > 0) for places in files for mirror, place in enumerate(places)]

    def ask(one: tuple[Address, bool]) -> Checked:
        found = Checked(*one, *_ask(url_of(one[0].address), one[0].n_bytes, timeout))
        progress(found)
        return found

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(ask, asked))


def files_without_address(checked: Iterable[Checked]) -> list[str]:
    """Files of which no address gives the catalogue's file."""
    alive: dict[str, bool] = {}
    for one in checked:
        alive[one.place.file] = alive.get(one.place.file, False) or one.answer is Answer.ALIVE
    return [file for file, is_alive in alive.items() if not is_alive]


def _ask(url: str, n_bytes: int | None, timeout: float) -> tuple[Answer, str]:
    try:
        size = _size(url, "HEAD", timeout)
    except urllib.error.HTTPError as error:
        if error.code not in _NO_HEAD:
            return _of_status(error)
        try:
            size = _size(url, "GET", timeout)
        except urllib.error.HTTPError as second:
            return _of_status(second)
        except (OSError, ValueError) as second:
            return Answer.NO_ANSWER, _reason(second)
    except (OSError, ValueError) as error:  # no host, no route, a timeout, an address that is none
        return Answer.NO_ANSWER, _reason(error)
    if n_bytes is not None and size is not None and size != n_bytes:
        return Answer.OTHER_SIZE, f"{size:,} bytes, published are {n_bytes:,}"
    return Answer.ALIVE, "" if size is None else f"{size / 1e6:,.0f} MB"


def _size(url: str, method: str, timeout: float) -> int | None:
    """What an address says of its size, None where it does not; a body is not read."""
    # as it lies there: a compressed answer has another length
    headers = {"User-Agent": "ssl-risk-rs", "Accept-Encoding": "identity"}
    request = urllib.request.Request(url, method=method, headers=headers)
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        length = answer.headers.get("Content-Length")
        return int(length) if length and length.isdigit() else None


def _of_status(error: urllib.error.HTTPError) -> tuple[Answer, str]:
    """Gone is dead; a host that is busy or asks for a login may still have the file."""
    kind = Answer.DEAD if error.code in (404, 410) else Answer.NO_ANSWER
    return kind, f"{error.code} {error.reason}"


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error or type(error).__name__)
