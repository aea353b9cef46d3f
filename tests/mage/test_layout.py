"""Layouts cost little: made once for a body, from shapes alone."""

from __future__ import annotations

import subprocess
import sys

from mage.models.families.registry import body_config, hub_layout
from tests.mage.test_families import config_of


def test_a_layout_is_made_once_for_a_body() -> None:
    config = config_of("llada2_moe")
    body = body_config(config)
    assert hub_layout(config, body) is hub_layout(dict(config), body_config(config))
    assert hub_layout(config | {"model_type": "llada2_moe_veomni"}, body) != hub_layout(config, body)


def test_shapes_are_told_without_the_compiler_of_torch() -> None:
    """Its import takes longer than all other checks of a checkpoint together."""
    code = (
        "import sys, torch; from mage.models.layout import body_shapes; from mage.models.config import *\n"
        "before = {'sympy', 'torch._dynamo'} & set(sys.modules)\n"
        "sizes = 64, 8, 8, 2, 2, 1, 4, 64, 1e-6, 1e4\n"
        "body_shapes(BodyConfig(*sizes, False, False, False, False, True, experts=Experts(4, 2, 8, bias=True)))\n"
        "assert {'sympy', 'torch._dynamo'} & set(sys.modules) == before\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
