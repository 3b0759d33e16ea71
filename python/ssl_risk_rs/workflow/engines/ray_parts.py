"""A bank's rows held by actors of a Ray cluster.

An actor maps its range of the bank, which has to lie on a disk that all nodes see. When its node dies, Ray starts it on
another one and asks again: it needs nothing of what it was asked before.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ssl_risk_rs.errors import DataError, ParameterError, SslRiskError
from ssl_risk_rs.probes.held_rows import Holder
from ssl_risk_rs.probes.holders import Reply, spans_of
from ssl_risk_rs.probes.parts import PartedFeatures
from ssl_risk_rs.workflow.engines.engine import ATTEMPTS
from ssl_risk_rs.workflow.engines.ray import connected, imported

if TYPE_CHECKING:
    from ssl_risk_rs.bank import FeatureBank

__all__ = ["RayHolders", "spread_bank", "spread_on_ray"]

#: seconds that an actor may be away, until Ray has seen that its node died and has started it on another
PATIENCE = 300.0
#: seconds between two calls meanwhile
AGAIN = 0.5


class RayHolders:
    """See `Holders`; this process has to be connected to the cluster (`engines.ray.connected`)."""

    def __init__(self, path: str, spans: Sequence[tuple[int, int]], *, n_threads: int | None = None) -> None:
        ray = imported()
        self.spans = tuple(spans)
        make = ray.remote(_BankHolder).options(
            max_restarts=ATTEMPTS, max_task_retries=ATTEMPTS, scheduling_strategy="SPREAD"
        )
        self.actors = [make.remote(path, span, n_threads) for span in self.spans]

    def submit(self, index: int, method: str, *arguments: Any) -> Reply:
        """See `Holders`."""
        call = getattr(self.actors[index], method)
        return _RayReply(lambda: call.remote(*arguments), self.spans[index])

    def keep(self, value: Any) -> Any:
        """See `Holders`."""
        return imported().put(value)

    def close(self) -> None:
        """Let the actors go."""
        for actor in self.actors:
            imported().kill(actor)


class _BankHolder(Holder):
    """A holder that opens its bank where it is."""

    def __init__(self, path: str, span: tuple[int, int], n_threads: int | None) -> None:
        held = Holder.of_bank(path, span, n_threads)
        super().__init__(held.features, span, offset=span[0], n_threads=n_threads)


class _RayReply:
    """See `Reply`; a call is repeated while its actor is between two nodes: it changes nothing where it runs."""

    def __init__(self, call: Callable[[], Any], span: tuple[int, int]) -> None:
        self.call = call
        self.span = span
        self.reference = call()

    def result(self) -> Any:
        """See `Reply`.

        Raises
        ------
        DataError if the actor cannot be, because its bank is not seen there or its nodes died too often.
        """
        ray = imported()
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return ray.get(self.reference)
            except ray.exceptions.RayTaskError as error:
                cause = getattr(error, "cause", None)
                if isinstance(cause, (SslRiskError, OSError)):
                    raise cause from error
                raise
            except ray.exceptions.ActorUnavailableError as error:
                if time.monotonic() > end:
                    raise self._lost(error) from error
                time.sleep(AGAIN)
                self.reference = self.call()
            except ray.exceptions.RayActorError as error:
                raise self._lost(error) from error

    def _lost(self, error: Exception) -> DataError:
        begin, end = self.span
        return DataError(
            f"the rows {begin:,} to {end:,} have no process on the cluster that holds them (their bank has to lie on a "
            f"disk that all nodes see): {str(error).strip().splitlines()[-1]}"
        )


@contextlib.contextmanager
def spread_on_ray(
    options: Mapping[str, str], *, parts: int | None, n_threads: int | None
) -> "Iterator[Callable[[FeatureBank], PartedFeatures]]":
    """What gives the rows of a bank to `parts` actors, which go at the end; None for one on each CPU slot.

    Raises
    ------
    ParameterError for an option that is not `address`, or a cluster that is not there.
    """
    for name in options:
        if name != "address":
            raise ParameterError(f"parts on Ray have no option {name!r}; they have address")
    made: list[RayHolders] = []

    def spread(bank: "FeatureBank") -> PartedFeatures:
        count = parts or max(1, min(int(imported().cluster_resources().get("CPU", 1)), bank.n_rows))
        features = spread_bank(bank, count, n_threads=n_threads)
        if isinstance(features.holders, RayHolders):
            made.append(features.holders)
        return features

    with connected(options.get("address")):
        try:
            yield spread
        finally:
            for holders in made:
                holders.close()


def spread_bank(bank: "FeatureBank", parts: int, *, n_threads: int | None = None) -> PartedFeatures:
    """Give the rows of a bank to `parts` actors."""
    holders = RayHolders(str(bank.path.absolute()), spans_of(bank.n_rows, parts), n_threads=n_threads)
    return PartedFeatures.of(holders, bank.n_features, bank.dtype)
