"""Whether a part of a bank has a writer at work."""

from pathlib import Path

__all__ = ["has_writer"]


def has_writer(journal: Path) -> bool | None:
    """Whether a writer holds the lock of the part with this journal; None where nobody can tell.

    Looking takes the lock for a moment, and a writer that opens the part in this moment is refused: ask only about
    parts that ought to have none.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        with journal.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return None
    return False
