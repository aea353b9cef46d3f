"""The Hydra entry: compose a config, or a sweep of them, and hand it to its runner."""

from __future__ import annotations

import sys

try:  # a person may not wait for the imports
    from pathlib import Path

    import hydra
    from omegaconf import DictConfig

    from runners.command import command_line, run_configs
    from runners.composition import resolve

    CONF = Path(__file__).resolve().parent / "conf"

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
    def main(config: DictConfig) -> None:
        """Run one config, after Hydra's own flags."""
        if status := run_configs([resolve(config)]):
            raise SystemExit(status)

    if __name__ == "__main__":
        sys.exit(command_line(sys.argv[1:], CONF, main))
except KeyboardInterrupt:
    from runners.interruption import say_how_to_go_on

    say_how_to_go_on("Interrupted")
    sys.exit(130)
