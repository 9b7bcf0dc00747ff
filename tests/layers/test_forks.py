import os

import pytest

from ..scripts import run_script

if not hasattr(os, "fork"):
    pytest.skip("there are no forks here", allow_module_level=True)

SCRIPT = """
import os, sys
import spacy_modernbert.layers.forks as forks
import torch

torch.set_num_threads(2)
forks.run_single_threaded_if_forked()
assert torch.get_num_threads() == 2
before = os.environ.get("TOKENIZERS_PARALLELISM")
child = os.fork()
if child == 0:
    same = torch.get_num_threads() == 2
    forks.run_single_threaded_if_forked()
    parallel = os.environ["TOKENIZERS_PARALLELISM"]
    good = same and torch.get_num_threads() == 1 and parallel == sys.argv[1]
    os._exit(0 if good else 1)
assert os.waitpid(child, 0)[1] == 0
assert os.environ.get("TOKENIZERS_PARALLELISM") == before
forks.run_single_threaded_if_forked()
assert torch.get_num_threads() == 2
"""


@pytest.mark.parametrize("set_before, in_child", [(None, "false"), ("true", "false")])
def test_a_fork_has_one_thread(set_before, in_child):
    env = {k: v for k, v in os.environ.items() if k != "TOKENIZERS_PARALLELISM"}
    if set_before is not None:
        env["TOKENIZERS_PARALLELISM"] = set_before
    run_script(SCRIPT, in_child, env=env)
