"""What the torch encoder asks of a device, Apple's GPUs have: checked without one.

torch carries the table in which each of its operations says for which devices there is
code (`native_functions.yaml`, packaged with torchgen).
"""

import re
from pathlib import Path
from typing import Dict, Set

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from spacy_modernbert.encoder.backend import make_encoder
from spacy_modernbert.encoder.config import ModernBertConfig
from spacy_modernbert.encoder.steps import StepSettings, StepState
from spacy_modernbert.encoder.weights import init_tensors

from ..util import SMALL, draw_batch

torchgen = pytest.importorskip("torchgen", reason="comes with torch, but not with all")
TABLE = Path(torchgen.__file__).parent / "packaged/ATen/native/native_functions.yaml"
needs_table = pytest.mark.skipif(
    not TABLE.is_file(), reason="this torch has no table of operations"
)

# What `scaled_dot_product_attention` is on a processor. On MPS it is
# `_scaled_dot_product_attention_math_for_mps`, or made of other operations.
OF_THE_PROCESSOR = "_for_cpu"


class Recorder(TorchDispatchMode):
    """Keeps the names of operations, and the dtypes of what they give."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Set[str] = set()
        self.dtypes: Set[torch.dtype] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if func.namespace == "aten":
            self.names.add(str(func).removeprefix("aten.").removesuffix(".default"))
        for tensor in found if isinstance(found, (tuple, list)) else [found]:
            if isinstance(tensor, torch.Tensor):
                self.dtypes.add(tensor.dtype)
        return found


def read_table() -> Dict[str, str]:
    """RETURNS (Dict[str, str]): What the table says of each operation."""
    entries = TABLE.read_text(encoding="utf8").split("\n- func: ")[1:]
    return {entry[: entry.index("(")]: entry for entry in entries}


def runs_on_mps(name: str, table: Dict[str, str]) -> bool:
    delegate = re.search(r"structured_delegate: (\S+)", table[name])
    entry = table[delegate[1]] if delegate else table[name]
    dispatch = re.search(r"\n  dispatch:\n((?:    .*\n?)+)", entry)
    # Without one, an operation is made of others.
    keys = dispatch[1] if dispatch else "Composite"
    return re.search(r"\bMPS\b|Composite", keys) is not None


@needs_table
@pytest.mark.parametrize("rectified", [False, True])
def test_all_operations_are_there(rectified):
    config = ModernBertConfig.from_dict(
        {"model_type": "modernbert", **SMALL, "attention_dropout": 0.1}
    )
    encoder = make_encoder(config, init_tensors(config, 0), backend="cpu")
    batch = draw_batch([1, 65, 300])
    settings = StepSettings(
        0.1, b1=0.9, b2=0.999, L2=0.1, grad_clip=1.0, rectified=rectified
    )
    with Recorder() as recorder:
        encoder.encode(batch)
        hidden, backprop = encoder.encode_train(batch)
        backprop(np.ones_like(hidden))
        encoder.step(settings, StepState({}, {}, {}, {}))
    assert torch.float64 not in recorder.dtypes  # MPS has none
    names = {name for name in recorder.names if OF_THE_PROCESSOR not in name}
    assert {"unfold", "unfold_backward", "gelu"} <= names
    table = read_table()
    assert [name for name in sorted(names) if not runs_on_mps(name, table)] == []


@needs_table
def test_the_table_can_say_no():
    """Some operations have no code for MPS."""
    table = read_table()
    assert not runs_on_mps("geqrf", table)
    assert runs_on_mps("unfold_backward", table)
