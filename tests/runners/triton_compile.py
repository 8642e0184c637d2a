"""Compiles the kernels of `triton_attention` for a GPU that need not be there, and says what they take.

A process of its own, since a process that interprets kernels does not compile them: prints a JSON list with
`kernel`, `dtype`, `head_size` and `stack`, the bytes a thread keeps in memory since registers were too few.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from ltp_core.runners import triton_attention

AMPERE = GPUTarget("cuda", 80, 32)
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
POINTERS = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16"}


def signature(kernel: Any, states: str, constants: dict[str, Any]) -> dict[str, str]:
    """Type of each argument, as it is called with a bias."""
    kinds = dict.fromkeys(("query", "key", "value", "context"), states)
    kinds |= dict.fromkeys(("log_sum", "received", "bias"), "*fp32")
    names = ("query_starts", "query_lengths", "key_starts", "key_lengths", "starts", "lengths")
    kinds |= dict.fromkeys((*names, "query_position", "key_position"), "*i64")
    kinds |= dict.fromkeys(constants, "constexpr")
    return {name: kinds.get(name, "i32") for name in kernel.arg_names}


def stack_bytes(kernel: Any, dtype: torch.dtype, constants: dict[str, Any]) -> int:
    """Bytes of stack of the compiled kernel."""
    places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    source = ASTSource(kernel, signature(kernel, POINTERS[dtype], constants), places)
    compiled = triton.compile(source, target=AMPERE)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        command = [TOOLS / "cuobjdump", "--dump-resource-usage", file.name]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"STACK:(\d+)", said)
    assert found, said
    return int(found[1])


def main() -> None:
    """Both kernels, in types and head sizes that encoders have."""
    found = []
    for dtype in POINTERS:
        for head_size in (32, 64):
            rows = triton_attention.tile_rows(512, torch.empty(1, 1, head_size, dtype=dtype))
            shared = {"HAS_BIAS": True, "SIZE": head_size}
            for kernel, tiles in (
                (triton_attention._attend, {"QUERIES": rows, "KEYS": rows}),
                (triton_attention._receive, {"TILE": rows}),
            ):
                stack = stack_bytes(kernel, dtype, {**shared, **tiles})
                line = {"kernel": kernel.__name__, "dtype": str(dtype), "head_size": head_size}
                found.append({**line, "stack": stack})
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
