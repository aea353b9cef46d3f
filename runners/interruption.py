"""What a person reads who ends a run early. Imports nothing heavy: it may be while all else is imported."""

from __future__ import annotations

import sys
from contextlib import suppress


def say_how_to_go_on(what: str) -> None:
    """Print that a run was interrupted, or whatever `what` it was, and how it goes on."""
    with suppress(OSError):  # the terminal may be gone
        print(f"{what}. The same command continues where this run ended.", file=sys.stderr)
