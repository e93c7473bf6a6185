"""How many examples a property is tried with: few enough for every change, KITI_EXAMPLES times as many in the night."""

import os

TIMES = int(os.environ.get("KITI_EXAMPLES", "1"))


def examples(number: int) -> int:
    """So many, or a multiple of it."""
    return number * TIMES
