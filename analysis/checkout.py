"""Whether records were made by the code that lies here."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

from runners.record import Environment

ROOT = Path(__file__).resolve().parents[1]


def current_commit() -> str | None:
    """The commit that is checked out here. None outside of a git repository."""
    try:
        command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def staleness(environments: Iterable[Environment], commit: str | None) -> str | None:
    """One line when records were made at another commit than `commit` or with changes that are in none, else None."""
    made = list(environments)
    if commit is None:
        return None
    commits = {told for e in made for told in (e.git_commit, *e.earlier_commits)} - {commit}
    others = sorted({told[:12] if told else "an unknown commit" for told in commits})
    found = [f"made at {', '.join(others)}, here is {commit[:12]}"] if others else []
    changed = sum(bool(e.git_dirty) for e in made)
    found += [f"made with uncommitted changes ({changed} of {len(made)} cells)"] if changed else []
    return f"results were {' and '.join(found)}" if found else None
