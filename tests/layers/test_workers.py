import os

import pytest

from ..scripts import FORKS, needs_forks, run_script
from ..util import make_tokenizer

pytestmark = needs_forks

SCRIPT = """
import threading
import spacy_modernbert.layers.workers as workers
import torch

torch.set_num_threads(2)
workers.run_single_threaded_if_worker()
assert torch.get_num_threads() == 2
before = os.environ.get("TOKENIZERS_PARALLELISM")

def work():
    assert torch.get_num_threads() == 2
    # Another thread may come first, as where a web server has several.
    other = threading.Thread(target=workers.run_single_threaded_if_worker)
    other.start()
    other.join()
    workers.run_single_threaded_if_worker()
    assert torch.get_num_threads() == 1
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"
    # What somebody sets from then on counts.
    torch.set_num_threads(2)
    workers.run_single_threaded_if_worker()
    assert torch.get_num_threads() == 2

assert fork(work) == 0
assert os.environ.get("TOKENIZERS_PARALLELISM") == before
workers.run_single_threaded_if_worker()
assert torch.get_num_threads() == 2
"""


# The pool that tokenizes batches is in use before the fork, and dead in it.
TOKENIZE = """
import tempfile
import spacy_modernbert.layers.workers
from spacy_modernbert.documents.wordpieces import WordpieceTokenizer

tokenizer = WordpieceTokenizer.from_json(sys.stdin.read())
wanted = [pieces.ids.tolist() for pieces in tokenizer(["one two three"] * 8)]

def tokenize():
    found = [pieces.ids.tolist() for pieces in tokenizer(["one two three"] * 8)]
    assert found == wanted

said, stderr = tempfile.TemporaryFile(), os.dup(2)
os.dup2(said.fileno(), 2)
status = fork(tokenize)
os.dup2(stderr, 2)
said.seek(0)
assert status == 0 and said.read() == b""
"""


def environment(parallelism):
    env = {k: v for k, v in os.environ.items() if k != "TOKENIZERS_PARALLELISM"}
    if parallelism is not None:
        env["TOKENIZERS_PARALLELISM"] = parallelism
    return {**env, "RAYON_NUM_THREADS": "2"}


@pytest.mark.parametrize("parallelism", [None, "true"])
def test_a_fork_has_one_thread(parallelism):
    run_script(FORKS + SCRIPT, env=environment(parallelism))


@pytest.mark.parametrize("parallelism", [None, "true"])
def test_a_fork_tokenizes(parallelism):
    """And says nothing; also where somebody asked for threads, as the warning of
    Hugging Face's library advises.
    """
    text = make_tokenizer().to_str()
    run_script(FORKS + TOKENIZE, stdin=text, env=environment(parallelism))
