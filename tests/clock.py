"""A clock for trainings that nobody has to wait for."""

from collections.abc import Iterable, Iterator

from charlm.events import Event
from charlm.training.loop import Step


class Time:
    """Seconds that pass only as a test lets them pass; `look` of them with each look at the clock."""

    def __init__(self) -> None:
        self.seconds, self.look = 1000.0, 0.0

    def __call__(self) -> float:
        self.seconds += self.look
        return self.seconds

    def passing(self, events: Iterable[Event], step: float, otherwise: float = 0.0) -> Iterator[Event]:
        """The same events; each step of a training takes `step` seconds, whatever else happens `otherwise`."""
        for event in events:
            self.seconds += step if isinstance(event, Step) else otherwise
            yield event
