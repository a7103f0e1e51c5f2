"""What a `with` statement closes at its end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import TypeVar

T = TypeVar("T", bound="Closeable")


class Closeable(ABC):
    """Something that is closed after use."""

    @abstractmethod
    def close(self) -> None:
        """Free everything; calling it twice is harmless."""

    def __enter__(self: T) -> T:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
