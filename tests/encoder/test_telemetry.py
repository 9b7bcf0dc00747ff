"""Libraries that would go to the network."""

import os

import pytest

from ..scripts import run_script
from ..util import require

PREDICT = """
import sys
from pathlib import Path

from spacy_modernbert.encoder.backend import make_encoder
from spacy_modernbert.encoder.checkpoint import load_config, open_tensors

folder = Path(sys.argv[1])
config = load_config(folder)
make_encoder(
    config, open_tensors(folder, config), backend=sys.argv[2], precision="float32"
)
# Which would tell, as long as it is imported with the rest.
assert sys.argv[2] != "openvino" or "openvino.tools.ovc.telemetry_utils" in sys.modules
print("openvino_telemetry" in sys.modules)
"""


@pytest.mark.parametrize("backend", ["openvino", "onnx"])
def test_nobody_is_told(checkpoint, tmp_path, backend):
    """Both keep a file by which they know the user again, before they tell anybody."""
    require("onnxruntime" if backend == "onnx" else backend)
    env = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    env.pop("ORT_DISABLE_TELEMETRY", None)
    # Where it is set, OpenVINO tells nobody anyhow.
    for name in ("CI", "TF_BUILD", "JENKINS_URL"):
        env.pop(name, None)
    assert run_script(PREDICT, checkpoint, backend, env=env).strip() == "False"
    assert list(tmp_path.iterdir()) == []
