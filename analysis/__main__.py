"""`python -m analysis RESULTS`: tables, figures and a report from the records of experiments."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from analysis.frame import load
from analysis.kernel_frame import failing, kernel_points
from analysis.measure import Measure
from analysis.report import write_report
from analysis.wandb_group import PREFIX, fetch
from mage.errors import UserError

REPORT_ONLY = ("cells", "samples", "failures")
"""Tables that are too wide for a terminal."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, or 2 when the results cannot be read or the report cannot be written."""
    parser = argparse.ArgumentParser(prog="python -m analysis", description=__doc__)
    parser.add_argument("results", nargs="+", help="outputs/<experiment> or wandb:entity/project/group, one or more")
    parser.add_argument("--out", type=Path, help="where to write; default: analysis/ in the first folder of results")
    parser.add_argument(
        "--score", choices=get_args(Measure), help="what accuracy is; default: what each task is judged by"
    )
    options = parser.parse_args(arguments)
    try:
        folders = [fetch(place) if place.startswith(PREFIX) else Path(place) for place in options.results]
        folder: Path = options.out or folders[0] / "analysis"
        names = ", ".join(path.resolve().name for path in folders)
        results = load(folders, kernels=True)
        timed = set(results.cells.runner) <= {"latency"}
        title = f"{'Speed' if timed else 'Accuracy'} under a KV budget: {names}"
        sections = write_report(results, title, options.score, folder)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for note in results.notes:
        print(f"note: {note}", file=sys.stderr)
    for section in sections:
        for table in section.tables:
            if not section.details and table.name not in REPORT_ONLY:
                print(f"{table.caption}\n\n{table.markdown()}\n")
                if table.note:
                    print(f"{table.note}\n")
    failed = int((results.cells.status != "done").sum())
    counts = {"cells": len(results.cells), "failed": failed, "unfinished": len(results.unfinished)}
    counts |= {"kernel_records": len(results.kernels)}
    counts |= {"wrong_kernels": len(failing(kernel_points(results.kernels)))}
    print(json.dumps({"report": str(folder / "report.html"), **counts}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
