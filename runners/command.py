"""The command line: Hydra's grammar, composed in this process, so that a sweep is known whole before it starts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mage.errors import UserError
from runners.building import build, build_task, target_class
from runners.composition import compose_sweep
from runners.interruption import say_how_to_go_on
from runners.launchers.launcher import Launcher
from runners.refusal import refuse_repeats
from runners.runner import CellRunner
from runners.settings import LOCAL, check_location, read_settings
from runners.sweeping.limits import Terminated
from runners.tracking.tracker import Tracker

MULTIRUN = ("-m", "--multirun")


def command_line(arguments: Sequence[str], folder: Path, hydra_main: Callable[[], None]) -> int:
    """Serve a command line with the configs in `folder`; return the exit status: 0, 1 (a cell failed) or 2 (refused).

    Hydra's own flags (--help, --cfg job, ...) are left to `hydra_main`. Otherwise all configs of a sweep are composed
    and run here together.
    """
    overrides = [argument for argument in arguments if argument not in MULTIRUN]
    flags = any(override.startswith("-") for override in overrides)
    try:
        refuse_repeats(overrides)
        configs = [] if flags else compose_sweep(overrides, folder, multirun=len(overrides) < len(arguments))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    if not flags:
        return run_configs(configs)
    if (config := _config_name(arguments)) not in (None, "config"):
        told = f"--config-name={config}: there is one config. Allowed: config, with +experiment=name for a recipe."
        print(told, file=sys.stderr)
        return 2
    hydra_main()
    return 0


def _config_name(arguments: Sequence[str]) -> str | None:
    """Return the config that Hydra's own flag names, if it does."""
    for flag, following in zip(arguments, (*arguments[1:], "")):
        name, given, value = flag.partition("=")
        if name in ("--config-name", "-cn"):
            return value if given else following
    return None


def run_configs(configs: Sequence[Mapping[str, Any]]) -> int:
    """Hand resolved configs to their runner and return the exit status. What costs no import is validated first."""
    try:
        runners = [_check_lightly(config) for config in configs]
        if not all(isinstance(runner, CellRunner) for runner in runners):
            return max(int(runner.run(config)) for runner, config in zip(runners, configs))
        from runners.sweeping.sweep import run_sweep

        return run_sweep(configs)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        say_how_to_go_on("Interrupted")
        return 130
    except Terminated:
        say_how_to_go_on("Terminated")
        return 143


def _check_lightly(config: Mapping[str, Any]) -> Any:
    """Return the runner of a config after all checks that need neither torch nor a model. Raises `UserError`."""
    settings, _ = read_settings(config)
    kind = target_class("runner", settings.runner)
    if not (issubclass(kind, CellRunner) or hasattr(kind, "run")):
        raise UserError(f"runner._target_={settings.runner['_target_']}: not a runner.")
    runner = build("runner", settings.runner)
    build("tracker", settings.tracker, Tracker)
    if isinstance(runner, CellRunner):
        check_location(settings)
        if "task" not in runner.unused:
            build_task(settings)
        build("launcher", settings.launcher, Launcher)
    elif settings.plan or settings.launcher["_target_"] != LOCAL["_target_"]:
        field = "plan=true" if settings.plan else f"launcher={settings.launcher.get('name')}"
        raise UserError(
            f"{field}: runner={settings.runner.get('name')} has no cells. Allowed: plan=false, launcher=local."
        )
    return runner
