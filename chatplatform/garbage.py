"""Python's garbage collector, told what a long-lived process is like.

Left as it is, it looks through all of Django again and again, for 80 ms at a time.
"""

from __future__ import annotations

import gc

NEW_OBJECTS = 5_000  # Python's own default is 700


def collect_less() -> None:
    """To be called once all is loaded: what there is now stays, and is not looked at again.

    New objects are looked at a little less often than Python would: most are gone by then anyway. Not much less, for a
    few of them may hold each other and a long text.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS)
