import shutil
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from spacy_modernbert.encoder import availability
from spacy_modernbert.encoder.backend import resolve_backend
from spacy_modernbert.encoder.checkpoint import (
    load_config,
    open_tensors,
    save_checkpoint,
)
from spacy_modernbert.encoder.config import ModernBertConfig
from spacy_modernbert.encoder.torch import checkpointing
from spacy_modernbert.encoder.weights import init_tensors
from spacy_modernbert.pretraining.masked_lm import MaskedLM
from spacy_modernbert.pretraining.masking import MaskedBatch
from spacy_modernbert.pretraining.probe import shorten_context
from spacy_modernbert.pretraining.run import Pretraining
from spacy_modernbert.pretraining.settings import Phase
from spacy_modernbert.types import PackedBatch

from ..encoder.util import SMALL, make_byte_tokenizer
from .util import make_settings


def weights(run):
    return {name: each.detach().clone() for name, each in run.model.named_parameters()}


def test_backends_that_do_not_pretrain(paths, tmp_path, monkeypatch):
    """On a Mac, where pipelines train with MLX."""
    monkeypatch.setattr(availability, "_is_apple_silicon", lambda: True)
    monkeypatch.setitem(availability._LOOK, "mlx", lambda: ("mlx:gpu", ""))
    assert resolve_backend("auto", to_train=True) == "mlx"
    run = Pretraining(make_settings(paths, backend="auto"), tmp_path)
    assert next(run.model.parameters()).device.type in ("cuda", "mps", "cpu")
    with pytest.raises(ValueError, match="Pretraining runs on cuda, mps or cpu"):
        Pretraining(make_settings(paths, backend="mlx"), tmp_path)


def test_the_variable_is_named_where_its_backend_does_not_pretrain(
    paths, tmp_path, monkeypatch
):
    monkeypatch.setitem(availability._LOOK, "mlx", lambda: ("mlx:gpu", ""))
    monkeypatch.setenv("SPACY_MODERNBERT_BACKEND", "mlx")
    with pytest.raises(ValueError, match=r"cuda, mps or cpu.*BACKEND is 'mlx'"):
        Pretraining(make_settings(paths), tmp_path)


def test_a_run_does_not_write_over_what_it_starts_from(paths, tmp_path):
    """Once it has, it cannot go on: the weights that it began with are gone."""
    shutil.copytree(paths / "encoder", tmp_path / "encoder")
    told = make_settings(paths, encoder=str(tmp_path / "encoder"))
    with pytest.raises(ValueError, match=r"over .*encoder, which it starts from"):
        Pretraining(told, tmp_path)
    assert Pretraining(told, tmp_path / "out").step == 0


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_it_learns(paths, tmp_path, optimizer):
    # One letter in three can be guessed from its neighbours, once they are looked at.
    phases = (Phase(64, 512, 80),)
    run = Pretraining(
        make_settings(paths, phases=phases, optimizer=optimizer), tmp_path
    )
    before = run.evaluate()
    reports = list(run.steps())
    after = run.evaluate()
    assert run.is_done and len(reports) == 80
    assert after.loss < before.loss - 1.5
    assert after.accuracy > before.accuracy + 0.2


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_goes_on_as_if_it_had_not_been_stopped(paths, tmp_path, optimizer):
    told = make_settings(paths, optimizer=optimizer)
    whole = Pretraining(told, tmp_path / "whole")
    losses = [report.loss for report in whole.steps()]
    stopped = Pretraining(told, tmp_path / "stopped")
    first = [report.loss for report in islice(stopped.steps(), 7)]
    stopped.save()
    resumed = Pretraining(told, tmp_path / "stopped")
    assert resumed.step == stopped.step
    rest = [report.loss for report in resumed.steps()]
    assert first + rest == pytest.approx(losses, rel=1e-5)
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(weights(resumed)[name], tensor, msg=name)


def test_evaluations_in_bfloat16_go_by_the_weights_of_now(paths, tmp_path):
    """Not by copies in bfloat16 that were made for the evaluation before."""
    told = make_settings(paths, precision="bfloat16")
    run = Pretraining(told, tmp_path)
    before = run.evaluate().loss
    for _ in islice(run.steps(), 5):
        pass
    after = run.evaluate().loss
    run.save()
    assert abs(after - before) > 0.01
    assert Pretraining(told, tmp_path).evaluate().loss == pytest.approx(after, rel=1e-3)


def test_small_passes_make_the_same_steps(paths, tmp_path):
    runs = [
        Pretraining(make_settings(paths, max_batch_wordpieces=n), tmp_path)
        for n in (16384, 70)
    ]
    losses = [[report.loss for report in run.steps()] for run in runs]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_what_is_saved_is_a_checkpoint(paths, tmp_path):
    run = Pretraining(make_settings(paths), tmp_path)
    next(run.steps())
    run.save()
    config = load_config(tmp_path / "encoder")
    tensors = open_tensors(tmp_path / "encoder", config)
    for name, tensor in run.model.tensors().items():
        np.testing.assert_array_equal(tensors[name], tensor)
    # And what is there is pretrained further, head and all.
    further = make_settings(paths, encoder=str(tmp_path / "encoder"))
    again = Pretraining(further, tmp_path / "again")
    for name, tensor in weights(run).items():
        torch.testing.assert_close(weights(again)[name], tensor)


def test_probe(paths, tmp_path, monkeypatch):
    run = Pretraining(make_settings(paths), tmp_path)
    with monkeypatch.context() as patch:
        name = "spacy_modernbert.pretraining.run.shorten_context"
        patch.setattr(name, pytest.fail)
        assert set(run.probe()) == {"unigram", "128"}
    # Where sequences are longer than the short context.
    monkeypatch.setattr("spacy_modernbert.pretraining.run._SHORT_CONTEXT", 16)
    probe = run.probe()
    assert set(probe) == {"unigram", "128", "16"}
    n_masked = [each["n_masked"] for each in probe.values()]
    assert n_masked == 3 * [n_masked[0]] and n_masked[0] > 0
    losses = [each["loss"] for each in probe.values()]
    assert np.isfinite(losses).all() and len(set(losses)) == 3


@pytest.mark.parametrize("length", [4, 5, 12, 100])
def test_a_shorter_context_has_the_same_wordpieces(length):
    ids = np.array([1, *range(10, 40), 2])
    positions = np.array([1, 7, 15, 30])
    batch = PackedBatch(ids, np.array([0, 32], np.int32))
    whole = MaskedBatch(batch, positions, ids[positions])
    short = shorten_context(whole, length, np.array([1]), np.array([2]))
    assert max(short.batch.lengths) <= length
    np.testing.assert_array_equal(short.batch.ids[short.positions], whole.targets)
    inner = short.batch.ids[short.batch.ids >= 10]
    np.testing.assert_array_equal(inner, np.arange(10, 40))


def test_the_state_of_another_optimizer(paths, tmp_path):
    run = Pretraining(make_settings(paths, optimizer="adamw"), tmp_path)
    next(run.steps())
    run.save()
    with pytest.raises(ValueError, match=r"state\.safetensors.*has no momentum_buffer"):
        Pretraining(make_settings(paths, optimizer="muon"), tmp_path)


def test_a_state_of_before_the_first_step(paths, tmp_path):
    told = make_settings(paths, optimizer="muon")
    Pretraining(told, tmp_path).save()
    assert len(list(Pretraining(told, tmp_path).steps())) == 10


def test_a_state_of_before_anything_was_learned(paths, tmp_path, monkeypatch):
    """In a small batch, it may be that no wordpiece is masked: then there is no
    gradient, and optimizers keep nothing.
    """
    told = make_settings(paths, optimizer="muon")
    run = Pretraining(told, tmp_path)
    with monkeypatch.context() as patch:
        nothing = replace(run._masking, special_ids=np.arange(run._config.vocab_size))
        patch.setattr(run, "_masking", nothing)
        next(run.steps())
    run.save()
    resumed = Pretraining(told, tmp_path)
    assert resumed.step == 1
    assert len(list(resumed.steps())) == 9


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_steps_without_a_gradient_do_not_count_for_adamw(
    paths, tmp_path, monkeypatch, optimizer
):
    """By its own count, it corrects its moments for having begun at 0."""
    told = make_settings(paths, optimizer=optimizer)
    run = Pretraining(told, tmp_path)
    with monkeypatch.context() as patch:
        nothing = replace(run._masking, special_ids=np.arange(run._config.vocab_size))
        patch.setattr(run, "_masking", nothing)
        next(run.steps())
    for _ in islice(run.steps(), 2):
        pass
    run.save()
    resumed = Pretraining(told, tmp_path)
    rest = [report.loss for report in run.steps()]
    assert [report.loss for report in resumed.steps()] == pytest.approx(rest, rel=1e-5)


def test_the_state_of_another_tokenizer(paths, tmp_path):
    """Of which the shapes say nothing."""
    folder = tmp_path / "start"
    shutil.copytree(paths / "encoder", folder)
    told = make_settings(paths, encoder=str(folder))
    Pretraining(told, tmp_path).save()
    text = (folder / "tokenizer.json").read_text(encoding="utf8")
    # Two wordpieces have each other's ids.
    one, two = text.index('"a":'), text.index('"b":')
    swapped = text[:one] + '"b":' + text[one + 4 : two] + '"a":' + text[two + 4 :]
    (folder / "tokenizer.json").write_text(swapped, encoding="utf8")
    with pytest.raises(ValueError, match=r"state\.safetensors.*tokenizer.*differ"):
        Pretraining(told, tmp_path)


def test_the_state_of_other_weights(paths, tmp_path):
    """Of the same shape: those that the settings name would be of no account."""
    Pretraining(make_settings(paths), tmp_path).save()
    config = load_config(paths / "encoder")
    text = make_byte_tokenizer().to_str()
    save_checkpoint(tmp_path / "other", config, init_tensors(config, 1), text)
    other = make_settings(paths, encoder=str(tmp_path / "other"))
    with pytest.raises(ValueError, match=r"state\.safetensors.*weights.*differ"):
        Pretraining(other, tmp_path)


@pytest.mark.parametrize("key", ["step", "encoder", "train", "dev"])
def test_a_file_that_is_no_state(paths, tmp_path, key):
    told = make_settings(paths)
    Pretraining(told, tmp_path).save()
    path = tmp_path / "state.safetensors"
    save_file({k: v for k, v in load_file(path).items() if k != key}, path)
    with pytest.raises(
        ValueError, match=rf"state\.safetensors is not the state .* no {key}\."
    ):
        Pretraining(told, tmp_path)


@pytest.mark.parametrize("step", [1.0, [np.inf], [1.0, 2.0]])
def test_a_state_of_no_step(paths, tmp_path, step):
    told = make_settings(paths)
    Pretraining(told, tmp_path).save()
    path = tmp_path / "state.safetensors"
    save_file({**load_file(path), "step": np.array(step, np.float32)}, path)
    with pytest.raises(ValueError, match=r"is not the state .* no step that is a num"):
        Pretraining(told, tmp_path)


def test_what_is_not_finite_before_anything_is_saved(paths, tmp_path):
    run = Pretraining(make_settings(paths), tmp_path)
    with torch.no_grad():
        run.model.table.fill_(torch.nan)
    with pytest.raises(
        ValueError, match=r"at step 1 .*No step has been saved yet\. Set"
    ):
        next(run.steps())


def test_nothing_is_saved_of_what_is_not_finite(paths, tmp_path):
    run = Pretraining(make_settings(paths), tmp_path)
    steps = run.steps()
    next(steps)
    run.save()
    with torch.no_grad():
        run.model.table.fill_(torch.nan)
    with pytest.raises(
        ValueError, match=r"at step 2 .*loss nan.*after step 1 is untou"
    ):
        next(steps)
    assert Pretraining(make_settings(paths), tmp_path).step == 1


def test_a_step_that_failed_leaves_no_gradient(paths, tmp_path, monkeypatch):
    whole = [r.loss for r in Pretraining(make_settings(paths), tmp_path / "a").steps()]
    run = Pretraining(make_settings(paths), tmp_path / "b")
    with monkeypatch.context() as patched:
        patched.setattr(torch.nn.utils, "clip_grad_norm_", interrupt)
        with pytest.raises(KeyboardInterrupt):
            next(run.steps())
    assert [r.loss for r in run.steps()] == pytest.approx(whole, rel=1e-5)


def test_what_is_recomputed_is_the_same(paths, tmp_path):
    losses = [
        [report.loss for report in islice(Pretraining(told, tmp_path).steps(), 4)]
        for told in (
            make_settings(paths, gradient_checkpointing=False),
            make_settings(paths, gradient_checkpointing=True),
        )
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_auto_keeps_little_of_a_large_pass(paths, tmp_path, monkeypatch):
    run = Pretraining(make_settings(paths), tmp_path)
    score, told = run.model.score, []
    monkeypatch.setattr(
        run.model,
        "score",
        lambda part, recompute: (told.append(recompute), score(part))[1],
    )
    next(run.steps())
    monkeypatch.setattr(checkpointing, "_AUTO_BYTES", 1000)
    next(run.steps())
    assert told == [False, True]


def refuse_memory(*args, **kwargs):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


@pytest.mark.parametrize(
    ("recomputes", "advice"),
    [
        (False, "only one, set gradient_checkpointing = true, or make sequences"),
        (True, "only one, make sequences"),
    ],
)
def test_too_little_memory(paths, tmp_path, monkeypatch, recomputes, advice):
    settings = make_settings(paths, gradient_checkpointing=recomputes)
    run = Pretraining(settings, tmp_path)
    next(run.steps())
    run.save()
    monkeypatch.setattr(run.model, "score", refuse_memory)
    message = rf"(?s)max_batch_wordpieces lower.*{advice} shorter.*step 1 is"
    with pytest.raises(MemoryError, match=message):
        next(run.steps())


def test_too_little_memory_for_the_weights(paths, tmp_path, monkeypatch):
    monkeypatch.setattr(MaskedLM, "from_tensors", refuse_memory)
    with pytest.raises(
        MemoryError, match=r"weights of the encoder.*No step has been saved"
    ):
        Pretraining(make_settings(paths), tmp_path)


def test_too_little_memory_for_the_optimizer(paths, tmp_path, monkeypatch):
    """Whose moments are made with the first step, and read where a run goes on."""
    with monkeypatch.context() as patched:
        patched.setattr(torch.optim.AdamW, "step", refuse_memory)
        with pytest.raises(MemoryError, match="the state of the optimizer"):
            next(Pretraining(make_settings(paths), tmp_path).steps())
    run = Pretraining(make_settings(paths), tmp_path)
    next(run.steps())
    run.save()
    monkeypatch.setattr(torch, "zeros_like", refuse_memory)
    with pytest.raises(MemoryError, match="the state of the optimizer"):
        Pretraining(make_settings(paths), tmp_path)


@pytest.mark.parametrize("name", ["evaluate", "probe"])
def test_too_little_memory_to_ask(paths, tmp_path, monkeypatch, name):
    run = Pretraining(make_settings(paths), tmp_path)
    monkeypatch.setattr(run.model, "score", refuse_memory)
    with pytest.raises(MemoryError, match="make sequences shorter"):
        getattr(run, name)()


def interrupt(*args):
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["train", "dev"])
def test_files_without_texts(paths, tmp_path, name):
    path = tmp_path / "blank.jsonl"
    path.write_text('{"text": " "}\n\n')
    with pytest.raises(ValueError, match=r"no text in .*blank\.jsonl"):
        Pretraining(make_settings(paths, **{name: str(path)}), tmp_path)


def test_the_head_of_another_shape(paths, tmp_path):
    run = Pretraining(make_settings(paths), tmp_path)
    config = load_config(paths / "encoder")
    head = dict(run.model.head_tensors())
    head["head.dense.weight"] = head["head.dense.weight"][:-1]
    tensors = open_tensors(paths / "encoder", config)
    save_checkpoint(
        tmp_path / "cut", config, tensors, make_byte_tokenizer().to_str(), head=head
    )
    with pytest.raises(ValueError, match=r"cut.*head\.dense\.weight"):
        Pretraining(make_settings(paths, encoder=str(tmp_path / "cut")), tmp_path)


def test_the_state_of_another_encoder(paths, tmp_path):
    Pretraining(make_settings(paths), tmp_path).save()
    other = ModernBertConfig.from_dict(
        {"model_type": "modernbert", **SMALL, "hidden_size": 16}
    )
    save_checkpoint(
        tmp_path / "other",
        other,
        init_tensors(other, 0),
        make_byte_tokenizer().to_str(),
    )
    with pytest.raises(ValueError, match=r"state\.safetensors.*another encoder"):
        Pretraining(make_settings(paths, encoder=str(tmp_path / "other")), tmp_path)


def test_a_tokenizer_of_another_encoder(paths, tmp_path):
    """With more wordpieces than the encoder has vectors."""
    small = replace(load_config(paths / "encoder"), vocab_size=200)
    text = make_byte_tokenizer().to_str()
    save_checkpoint(tmp_path / "start", small, init_tensors(small, 0), text)
    with pytest.raises(ValueError, match="vectors for 200 wordpieces only"):
        Pretraining(make_settings(paths, encoder=str(tmp_path / "start")), tmp_path)


def test_too_long_for_the_encoder(paths, tmp_path):
    with pytest.raises(ValueError, match="9000"):
        Pretraining(make_settings(paths, phases=(Phase(9000, 9000, 20),)), tmp_path)


def dropping(paths, folder):
    """RETURNS (str): The encoder, with dropout."""
    config = replace(load_config(paths / "encoder"), mlp_dropout=0.5)
    tensors = open_tensors(paths / "encoder", config)
    save_checkpoint(folder, config, tensors, make_byte_tokenizer().to_str())
    return str(folder)


def test_with_dropout(paths, tmp_path):
    """It is the same in a run that is resumed, and off where the model is evaluated."""
    told = make_settings(paths, encoder=dropping(paths, tmp_path / "encoder"))
    whole = Pretraining(told, tmp_path / "whole")
    losses = [report.loss for report in whole.steps()]
    scores = [whole.evaluate() for _ in range(2)]
    assert scores[0] == scores[1] and whole.model.training
    stopped = Pretraining(told, tmp_path / "stopped")
    first = [report.loss for report in islice(stopped.steps(), 7)]
    stopped.save()
    torch.manual_seed(123)
    rest = [report.loss for report in Pretraining(told, tmp_path / "stopped").steps()]
    assert first + rest == pytest.approx(losses, rel=1e-5)


def test_too_short_to_mask_anything(paths, tmp_path):
    (tmp_path / "dev.jsonl").write_text('{"text": "a"}')
    with pytest.raises(ValueError, match=r"dev\.jsonl \(1 in all\) are so short"):
        Pretraining(
            make_settings(paths, dev=str(tmp_path / "dev.jsonl"), mask_rate=0.01),
            tmp_path,
        )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_it_goes_on_on_a_gpu(paths, tmp_path, optimizer, precision):
    told = make_settings(
        paths, optimizer=optimizer, backend="cuda", precision=precision
    )
    stopped = Pretraining(told, tmp_path)
    list(islice(stopped.steps(), 7))
    stopped.save()
    resumed = Pretraining(told, tmp_path)
    assert [report.step for report in resumed.steps()] == [8, 9, 10]
