"""Opening a run of Weights & Biases without a prompt, and without waiting longer than was said."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Mode = Literal["offline", "online"]

# Exit codes as W&B shows them: finished, failed, killed.
EXIT_CODES = {"done": 0, "unfinished": 130}

# What a run that is opened and closed at once has no use for; listing the installed packages alone takes 60 ms.
BRIEF = {
    "x_disable_stats": True,
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
    "disable_git": True,
    "save_code": False,
}


@dataclass(frozen=True)
class WandbRuns:
    """Where runs go. `timeout_s`: for a server to answer when a run begins, and to take what is left when it ends."""

    mode: Mode
    project: str
    entity: str | None
    dir: str
    timeout_s: float

    def open(self, settings: Mapping[str, Any] | None = None, **described: Any) -> Any:
        """Begin a run. `described`: what `wandb.init` takes; `settings`: of `wandb.Settings`.

        Raises, in mode `online`, when there are no credentials, when the server does not answer, and whatever else W&B
        raises. The end of a run, `run.finish`, raises `TimeoutError` where it could not be uploaded.
        """
        import wandb

        if self.mode == "online":
            log_in(self.timeout_s)
        os.makedirs(self.dir, exist_ok=True)  # or W&B writes somewhere else
        known = wandb.Settings.model_fields  # those that begin with x_ come and go
        return wandb.init(
            **described,
            project=self.project,
            entity=self.entity,
            dir=self.dir,
            mode=self.mode,
            reinit="create_new",
            settings=wandb.Settings(
                silent=True,
                console="off",
                init_timeout=self.timeout_s,
                finish_timeout=self.timeout_s,
                finish_timeout_raises=True,
                **{name: value for name, value in (settings or {}).items() if name in known},
            ),
        )


def knock(address: str, timeout_s: float) -> None:
    """Raise `ConnectionError` when no server answers: W&B itself tries again and again, for longer than it was told."""
    try:
        urllib.request.urlopen(f"{address}/graphql", timeout=timeout_s).close()
    except urllib.error.HTTPError as answer:  # a refusal is an answer
        answer.close()
    except urllib.error.URLError as error:
        raise ConnectionError(f"{address} does not answer: {error.reason}") from error
    except OSError as error:
        raise ConnectionError(f"{address} does not answer: {error}") from error


def log_in(timeout_s: float) -> None:
    """Make sure of credentials and of a server, without a prompt. Raises `UsageError` of W&B, `ConnectionError`."""
    import wandb

    session = wandb.setup(wandb.Settings(silent=True))
    if not wandb.login(prompt=False, verify=False):
        raise wandb.errors.UsageError("no credentials; `wandb login` stores them")
    knock(session.settings.base_url, timeout_s)
