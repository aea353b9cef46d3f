"""`python -m runners.store`: what is there, whether it is whole, and why a cell is the cell it is. Without torch."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mage.errors import UserError
from runners.record import CellRecord
from runners.store.neighbours import Neighbour, neighbours
from runners.store.place import Place, places

WIDTH = 160  # columns of a table that goes to a file
NEAREST = 3  # neighbours that `why` tells of


def main(arguments: Sequence[str]) -> int:
    """Serve a command line. Returns 0, 1 where `check` finds damage, 2 where what is named does not exist."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.serve(options)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m runners.store", description="Look at what sweeps left behind.")
    commands = parser.add_subparsers(required=True, metavar="check|list|why")
    told = {"check": "validate every file and name each damaged one", "list": "a table of the cells"}
    for name, serve in (("check", _check), ("list", _list)):
        command = commands.add_parser(name, help=told[name])
        command.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="experiments, cells, or trees")
        command.set_defaults(serve=serve)
    command = commands.add_parser("why", help="which config fields tell a cell from its neighbours; its error")
    command.add_argument("cell", metavar="CELL", help="a folder, or a part of a cell's name that no other has")
    command.add_argument("--in", dest="tree", type=Path, default=Path("outputs"), help="where to look for a name")
    command.set_defaults(serve=_why)
    for command in commands.choices.values():
        command.add_argument("--json", action="store_true", help="print JSON instead")
    return parser


def _found(folders: Sequence[Path]) -> list[Place]:
    """Return the cells of the folders. Raises `UserError` where a folder does not exist or holds none."""
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder.")
        if not places([folder]):
            raise UserError(f"{folder} holds no cells.")
    return places(list(folders))


def _check(options: argparse.Namespace) -> int:
    found = _found(options.folders)
    damages = [line for place in found for line in place.damages()]
    notes = [line for place in found for line in place.notes()]
    notes += _blind(found)
    statuses = Counter(place.status for place in found)
    if options.json:
        print(json.dumps({"cells": len(found), "statuses": statuses, "damages": damages, "notes": notes}, indent=1))
        return int(bool(damages))
    for line in damages:
        print(f"damaged: {line}")
    for line in notes:
        print(f"note: {line}")
    counted = ", ".join(f"{count} {status}" for status, count in statuses.most_common())
    verdict = f"{len(damages)} damaged file{'s' * (len(damages) > 1)}" if damages else "nothing is damaged"
    print(f"{len(found)} cells ({counted}): {verdict}.")
    return int(bool(damages))


def _blind(found: Sequence[Place]) -> list[str]:
    """Return a note that names the cells without checksums; a folder that holds no others stands for its cells."""
    blind = [place for place in found if not place.has_checksums]
    names: list[str] = []
    for parent in dict.fromkeys(place.folder.parent for place in blind):
        cells = [place.folder for place in found if place.folder.parent == parent]
        mine = [place.folder for place in blind if place.folder.parent == parent]
        whole = len(mine) == len(cells) > 1
        names += [f"all {len(cells)} in {parent}"] if whole else map(str, mine)
    told = f"{len(blind)} of {len(found)} cells have no file checksums: nothing tells of a digit changed there"
    return [f"{told}: {', '.join(names)}"] if blind else []


def _list(options: argparse.Namespace) -> int:
    found = _found(options.folders)
    if options.json:
        print(json.dumps([_told(place) for place in found], indent=1))
        return 0
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    for parent in dict.fromkeys(place.folder.parent for place in found):
        table = Table(title=escape(str(parent)), title_justify="left", box=box.SIMPLE, pad_edge=False)
        table.add_column("cell", overflow="fold")
        for head in ("runner", "status", "examples", "when"):
            table.add_column(head, no_wrap=True, justify="right" if head == "examples" else "left")
        for place in found:
            if place.folder.parent == parent:
                runner = place.record.labels.runner if place.record else ""
                examples = f"{place.done}/{'?' if place.asked is None else place.asked}"
                table.add_row(*map(escape, (place.folder.name, runner, place.status, examples, place.when)))
        console.print(table)
    return 0


def _told(place: Place) -> dict[str, Any]:
    told = {"folder": str(place.folder), "status": place.status, "done": place.done, "asked": place.asked}
    return {**told, "when": place.when, "labels": place.record.labels.model_dump() if place.record else None}


def _why(options: argparse.Namespace) -> int:
    place = _named(options.cell, options.tree)
    record = place.record
    near = neighbours(record, places([place.folder.parent])) if record else []
    if options.json:
        error = record.error if record else None
        found = [{"name": one.name, "differences": [asdict(d) for d in one.differences]} for one in near[:NEAREST]]
        print(json.dumps({**_told(place), "error": error, "neighbours": found}, indent=1))
        return 0
    print(f"{place.folder}: {place.status}, {place.done} of {'?' if place.asked is None else place.asked} examples")
    if record is None:
        print("\n".join([*place.damages(), "It has no record yet: nothing tells its config."]))
        return 0
    if record.error:
        print(record.error.rstrip())
    commits = [*record.environment.earlier_commits, record.environment.git_commit or "unknown"]
    print(f"cell {record.identity}, computed by commit {', '.join(commit[:8] for commit in commits)}")
    for neighbour in near[:NEAREST]:
        print(_comparison(record, neighbour))
    if not near:
        print("No other cell of this experiment has a record.")
    elif len(near) > NEAREST:
        print(f"{len(near) - NEAREST} cells more of this experiment differ at least as much.")
    return 0


def _comparison(record: CellRecord, neighbour: Neighbour) -> str:
    lines = [f"unlike {neighbour.name}:"]
    for found in neighbour.differences:
        mark = "" if found.counts else " (no part of the identity)"
        lines.append(f"  {found.field}: {found.mine}, not {found.theirs}{mark}")
    if neighbour.hidden:
        lines.append("  what lies behind weights, tokenizer, adapter or data: its content differs")
    return "\n".join(lines)


def _named(name: str, tree: Path) -> Place:
    """Return the one cell that is meant. Raises `UserError` where there is none, or more than one."""
    if Path(name).is_dir():
        found = places([Path(name)])
        if len(found) > 1:
            raise UserError(f"{name} holds {len(found)} cells: name one of them.")
    else:
        if not tree.is_dir():
            raise UserError(f"{name} is not a folder, and neither is {tree}, where a cell of that name could be.")
        found = [place for place in places([tree]) if name in place.folder.name]
        if len(found) > 1:
            listed = "".join(f"\n  {place.folder}" for place in found[:10])
            raise UserError(f"{name} is a part of {len(found)} names below {tree}:{listed}")
    if not found:
        raise UserError(f"{name} is neither a cell's folder nor a part of a cell's name below {tree}.")
    return found[0]
