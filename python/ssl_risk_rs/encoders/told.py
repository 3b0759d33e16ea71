"""What is told of an encoder while it is built."""

from collections.abc import Callable

__all__ = ["Told"]


class Told:
    """Hands sentences on as they are said, and keeps those that say what the encoder is."""

    def __init__(self, say: Callable[[str], None]) -> None:
        #: hands a sentence on that says how far the job is (a download), and keeps nothing
        self.say = say
        self._kept: list[str] = []

    def __call__(self, sentence: str) -> None:
        self._kept.append(sentence)
        self.say(sentence)

    @property
    def sentences(self) -> tuple[str, ...]:
        """What was kept, each sentence once."""
        return tuple(dict.fromkeys(self._kept))
