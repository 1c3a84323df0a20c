"""Working ahead of a consumer, in a thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any, TypeVar

T = TypeVar("T")
_END = object()


def ahead(items: Iterator[T], count: int) -> Iterator[T]:
    """The items, up to `count` of them taken before they are asked for; the first as soon as it is there.

    An exception of `items` is raised where it would have been. When the consumer goes away, so does
    the thread, after the item that it is at.
    """
    if count < 1:
        yield from items
        return
    ready: queue.Queue[Any] = queue.Queue()
    free = threading.Semaphore(count)
    left = threading.Event()

    def work() -> None:
        try:
            while True:
                free.acquire()
                if left.is_set():
                    return
                ready.put(next(items))
        except StopIteration:
            ready.put(_END)
        except BaseException as error:  # the consumer's to handle
            ready.put((_END, error))

    threading.Thread(target=work, daemon=True, name="ahead").start()
    try:
        while True:
            item = ready.get()
            free.release()
            if item is _END:
                return
            if isinstance(item, tuple) and len(item) == 2 and item[0] is _END:
                raise item[1]
            yield item
    finally:
        left.set()
        free.release()
