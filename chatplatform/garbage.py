"""Python's garbage collector, told what a long-lived process is like.

Left as it is, it looks through all of Django again and again: a twelfth of a web process's time, and 80 ms at a time.
"""

from __future__ import annotations

import gc

NEW_OBJECTS = 10_000  # made since the last look, before it looks again; 700 is a few requests


def collect_less() -> None:
    """To be called once all is loaded: what there is now stays, and is not looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, 10, 10)
