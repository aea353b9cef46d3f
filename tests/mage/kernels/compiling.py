"""Compiles Triton kernels for GPUs that are not here, and tells what they take of one.

The convention: without a GPU this process interprets kernels (`tests/conftest.py` sets TRITON_INTERPRET before anything
imports Triton), and an interpreted kernel cannot be compiled. So `compiled` hands each kernel by its name to a second
process, started once a session, which does not interpret. A kernel must be an attribute of its module.

    from tests.mage.kernels.compiling import CAPABILITIES, SHARED_LIMIT, compiled

    @pytest.mark.parametrize("capability", CAPABILITIES)
    def test_compiles(capability):
        done = compiled(
            kernel,
            {"q": "*bf16", "lengths": "*i32", "scale": "fp32", "stride_batch": "i32", "out": "*fp32"},
            {"BLOCK": 64, "PRECISION": "ieee"},  # JSON values only
            capability,
            num_warps=4,
            num_stages=3,
        )
        assert done.shared <= SHARED_LIMIT[capability]
        assert done.stack == 0  # no register was spilled

The signature names every argument that is no constexpr, in the order of the kernel. As in a launch from aligned
tensors, pointers and every argument called `stride...` count as multiples of 16; `aligned` names others that are.
The second process may also be given jobs by hand: one line of JSON in, one out.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CAPABILITIES = (80, 90, 100)
# Bytes of shared memory that one thread block may take: CUDA programming guide, table of compute capabilities.
SHARED_LIMIT = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}


@dataclass(frozen=True)
class Compiled:
    """What a compiled kernel takes: bytes of `shared` memory a block, `registers` a thread, bytes of `stack` a thread
    (registers that were spilled)."""

    shared: int
    registers: int
    stack: int


def compiled(
    kernel: Any,
    signature: dict[str, str],
    constexprs: dict[str, Any],
    capability: int,
    *,
    num_warps: int = 4,
    num_stages: int = 2,
    aligned: Iterable[str] = (),
) -> Compiled:
    """Compile `kernel` for a compute `capability` such as 90. Raises AssertionError with the compiler's message."""
    job = {
        "module": kernel.fn.__module__,
        "name": kernel.fn.__name__,
        "signature": signature,
        "constexprs": constexprs,
        "capability": capability,
        "options": {"num_warps": num_warps, "num_stages": num_stages},
        "aligned": sorted(aligned),
    }
    worker = _worker()
    assert worker.stdin is not None and worker.stdout is not None
    worker.stdin.write(json.dumps(job) + "\n")
    worker.stdin.flush()
    line = worker.stdout.readline()
    assert line, f"the compiling process ended on {job['name']}"
    answer = json.loads(line)
    assert "error" not in answer, answer["error"]
    return Compiled(**answer)


@functools.cache
def _worker() -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "tests.mage.kernels.compiling"]
    root = Path(__file__).resolve().parents[3]
    return subprocess.Popen(
        command, cwd=root, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _compile(job: dict[str, Any]) -> dict[str, int]:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = getattr(importlib.import_module(job["module"]), job["name"])
    names, given, constexprs = kernel.arg_names, job["signature"], job["constexprs"]
    if missing := [name for name in names if name not in given and name not in constexprs]:
        raise ValueError(f"{job['name']} also takes {missing}")
    aligned = {
        (index,): [["tt.divisibility", 16]]
        for index, name in enumerate(names)
        if given.get(name, "").startswith("*")
        or (name in given and name.startswith("stride"))
        or name in job["aligned"]
    }
    signature = {name: given.get(name, "constexpr") for name in names}
    source = ASTSource(kernel, signature, constexprs, aligned)
    result = triton.compile(source, target=GPUTarget("cuda", job["capability"], 32), options=job["options"])
    return {"shared": result.metadata.shared, **_resources(result.asm["cubin"])}


def _resources(cubin: bytes) -> dict[str, int]:
    """Read registers and stack of the one kernel in a compiled file."""
    from triton import knobs

    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    fields = dict(field.rsplit(":", 1) for field in told.split("Function")[-1].split() if ":" in field)
    return {"registers": int(fields["REG"]), "stack": int(fields["STACK"])}


def _serve() -> None:
    out, sys.stdout = sys.stdout, sys.stderr  # whatever Triton prints must not stand between the answers
    for line in sys.stdin:
        try:
            answer: dict[str, Any] = _compile(json.loads(line))
        except Exception as error:  # the compiler raises what it likes; the test shall fail with it
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    _serve()
