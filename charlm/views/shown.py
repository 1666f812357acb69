"""What a look into a run gives in Python: a picture in a notebook, text elsewhere, a dict, a table for pandas."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar, cast

from rich.console import RenderableType

from charlm.views.pictures import WIDTH, as_fragment, as_text

T = TypeVar("T")
Records = list[dict[str, Any]]


class Shown(ABC):
    """Base of all results. Subclasses say how they are drawn, and what their numbers are."""

    width = WIDTH  # columns in which it is drawn

    @abstractmethod
    def view(self) -> RenderableType:
        """The result as people see it."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """The numbers that the command gives with `--json`, as values that JSON has."""

    @abstractmethod
    def records(self) -> Records:
        """The same as a table, a dict per row."""

    def to_pandas(self) -> Any:
        """`records` as a `pandas.DataFrame`. Raises `ImportError` where pandas is not installed."""
        try:
            import pandas
        except ImportError:
            raise ImportError("to_pandas needs pandas: pip install pandas; to_dict does not") from None
        return pandas.DataFrame(self.records())

    def _repr_html_(self) -> str:
        return as_fragment(self.view(), self.width)

    def __str__(self) -> str:
        return as_text(self.view(), self.width)

    __repr__ = __str__


class Result(Shown, Generic[T]):
    """A `value` with its view. What the value has, the result has too: `run.attend(…).weights`, `run.curves()[0]`."""

    def __init__(
        self,
        value: T,
        view: Callable[[], RenderableType],
        said: Callable[[], dict[str, Any]],
        records: Callable[[], Records],
        html: Callable[[], str] | None = None,
        width: int = WIDTH,
    ) -> None:
        """All but value and width are called when they are wanted. `html` is for notebooks, by default the view."""
        self.value, self._view, self._said, self._records, self._html = value, view, said, records, html
        self.width = width

    def view(self) -> RenderableType:
        return self._view()

    def to_dict(self) -> dict[str, Any]:
        return self._said()

    def records(self) -> Records:
        return self._records()

    def _repr_html_(self) -> str:
        return self._html() if self._html else super()._repr_html_()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "value":  # while it is copied it has none yet
            raise AttributeError(name)
        return getattr(self.value, name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *(name for name in dir(self.value) if not name.startswith("_"))})

    def __iter__(self) -> Iterator[Any]:
        return iter(cast("Any", self.value))

    def __len__(self) -> int:
        return len(cast("Any", self.value))

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, index: Any) -> Any:
        return cast("Any", self.value)[index]
