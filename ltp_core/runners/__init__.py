"""Runners with one answer: `masked` keeps the shape, `packed` and `native` remove tokens, `repadded` trains."""

from ltp_core.pruning.base import SoftMaskForm
from ltp_core.runners.base import Inputs, LayerRecord, Runner, RunOutput, make_inputs
from ltp_core.runners.masked import SoftOutput, run_masked, run_soft
from ltp_core.runners.native import NativeRunner, fastest_runner
from ltp_core.runners.packed import PackedRunner, run_packed
from ltp_core.runners.repadded import run_repadded

__all__ = [
    "Inputs",
    "LayerRecord",
    "NativeRunner",
    "PackedRunner",
    "RunOutput",
    "Runner",
    "SoftMaskForm",
    "SoftOutput",
    "fastest_runner",
    "make_inputs",
    "run_masked",
    "run_packed",
    "run_repadded",
    "run_soft",
]
