import importlib.metadata
import re
import shutil
import sys

import pytest
import spacy
import torch

from spacy_modernbert.encoder import availability
from spacy_modernbert.encoder.availability import BACKENDS, look_for
from spacy_modernbert.encoder.torch import flash, kernels

from ..commands import done, failed, invoke
from ..pipelines import change_settings, make_nlp, nlp_of, shared_config
from ..util import require


def run(*arguments):
    return invoke("info", *arguments)


def test_what_is_here_and_what_is_missing():
    words = done(run())
    for backend in BACKENDS[1:]:
        found = look_for(backend)
        device = found.device
        if backend not in ("cuda", "mps"):  # the processor is told elsewhere
            device = device.partition(", ")[0]
        wanted = f"{backend} {device} " if device else f"{backend}: {found.missing}"
        assert wanted in words
    assert "to predict: " in words and "to train: " in words
    assert re.search(r'with quantization = {"bits": 8}: (cpu|onnx|openvino|mlx)', words)


def test_the_command_that_installs_what_is_missing(only_torch_installed):
    words = done(run())
    for extra in ("mlx", "openvino", "onnx"):
        assert f'pip install "spacy-modernbert[{extra}]"' in words


@pytest.mark.parametrize("reason", ["", "triton is not installed"])
def test_what_runs_on_a_gpu(monkeypatch, reason):
    monkeypatch.setitem(availability._LOOK, "cuda", lambda: ("cuda:0, a card", ""))
    info = "spacy_modernbert.cli.info"  # which is a function there, too
    monkeypatch.setattr(sys.modules[info], "find_memory", lambda backend: "enough")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (8, 0))
    monkeypatch.setattr(kernels, "why_no_kernels", lambda: reason)
    monkeypatch.setattr(flash, "why_no_kernels", lambda: reason)
    # Not every release has it.
    of_torch = flash.FlashAttention("torch", attend=print)
    monkeypatch.setattr(flash, "_of_torch", lambda: of_torch)
    words = done(run())
    wanted = f"operations of torch, since {reason}" if reason else "kernels in Triton"
    assert f"cuda: between matrix products, {wanted}." in words
    assert "cuda: flash attention of torch in half precision." in words


def test_the_variable_is_shown(monkeypatch):
    monkeypatch.setenv("SPACY_MODERNBERT_BACKEND", "cpu")
    assert "SPACY_MODERNBERT_BACKEND is 'cpu'" in done(run())


def test_pipeline(trained, tmp_path):
    key = "components.modernbert_ner.model.tok2vec.precision"
    spacy.load(trained, config={key: "auto"}).to_disk(tmp_path / "nlp")
    words = done(run(tmp_path / "nlp"))
    assert "component modernbert_ner" in words
    assert (
        "3 layers, 32 wide, a vocabulary of 512 context up to 8,192 wordpieces" in words
    )
    assert "backend cpu precision auto, which is " in words
    assert "8192 wordpieces, 512 shared" in words
    assert "cls, for vectors of texts" in words
    assert "doc.vector not set" in words
    assert "overridden by components.modernbert_ner.model.tok2vec.*" in words
    weights = trained / "modernbert_ner" / "encoder" / "model.safetensors"
    assert f"{weights.stat().st_size / 1e6:,.1f} MB in float32" in words


def test_it_fits_a_terminal(trained):
    """All but the folder that the encoder came from, which a test has no say in."""
    result = run(trained)
    done(result)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", result.output).splitlines()
    assert len(lines) > 10
    for line in lines:
        assert len(line.rstrip()) <= 80 or line.startswith("started from"), line


def test_what_is_not_installed(monkeypatch):
    def version(library):
        raise importlib.metadata.PackageNotFoundError(library)

    monkeypatch.setattr(importlib.metadata, "version", version)
    words = done(run())
    for extra in ("fast", "parquet", "transformers"):
        assert f'pip install "spacy-modernbert[{extra}]"' in words


def test_before_initializing(checkpoint, tmp_path):
    make_nlp(checkpoint).to_disk(tmp_path / "nlp")
    assert "encoder none yet: " in done(run(tmp_path / "nlp"))


def test_no_encoder_at_all(tmp_path):
    spacy.blank("en").to_disk(tmp_path / "nlp")
    assert "None of its components" in done(run(tmp_path / "nlp"))


@pytest.fixture(scope="module")
def shared(checkpoint, tmp_path_factory):
    """A pipeline with a shared encoder, whose weights are in the model's bytes."""
    require("spacy_transformers")
    model = shared_config(checkpoint)
    nlp = nlp_of(transformer={"factory": "transformer", "model": model})
    nlp.initialize()
    folder = tmp_path_factory.mktemp("pipelines") / "shared"
    nlp.to_disk(folder)
    return folder


def test_windows_that_are_counted_in_tokens(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "nlp")
    strided = {"@span_getters": "spacy-transformers.strided_spans.v1"}
    strided |= {"window": 128, "stride": 96}
    change_settings(tmp_path / "nlp", get_spans=strided)
    words = done(run(tmp_path / "nlp"))
    assert "window as another span getter cuts documents" in words
    assert "128 wordpieces" not in words


def test_shared_encoder(shared):
    words = done(run(shared))
    assert "component transformer" in words
    assert (
        "3 layers, 32 wide, a vocabulary of 512 context up to 8,192 wordpieces" in words
    )


def test_damaged(trained, shared, tmp_path):
    for source, path, message in [
        (trained, "config.cfg", "config of the pipeline"),
        (trained, "modernbert_ner/encoder/config.json", "config.json"),
        (shared, "transformer/model", "model of the component"),
    ]:
        folder = tmp_path / path.replace("/", "-")
        shutil.copytree(source, folder)
        for harm in (b"[[[", b"\xff\x00", b"[components.x]\nfactory = {"):
            (folder / path).write_bytes(harm)
            assert message in failed(run(folder)), (path, harm)


def test_checkpoint(checkpoint):
    words = " ".join(done(run(checkpoint)).split())
    assert "3 layers, 32 wide, a vocabulary of 512" in words
    assert "pooling" in words and "started from" not in words


@pytest.mark.parametrize(
    ("installed", "told"),
    [
        (True, "spaCy's own, many times slower than the compiled one."),
        (
            False,
            "than the compiled one. Numba is not installed. Install it: pip install",
        ),
    ],
)
def test_no_compiled_decoder(monkeypatch, installed, told):
    # The function is called like the module.
    info = sys.modules["spacy_modernbert.cli.info"]
    monkeypatch.setattr(info, "import_compiled", lambda name: None)
    version = info.get_package_version
    monkeypatch.setattr(
        info,
        "get_package_version",
        lambda name: version(name) if name != "numba" else "1" if installed else None,
    )
    found = done(run())
    assert told in found
    assert ("Install it: pip install" in found.split("slower than")[1]) != installed


def test_the_compiled_decoder():
    require("numba")
    assert "compiled with Numba." in done(run())


def test_no_pipeline(tmp_path):
    found = failed(run(tmp_path / "nowhere"))
    assert "There is no pipeline and no checkpoint" in found
    assert "Decoder" not in found


def test_a_backend_of_the_pipeline_that_is_missing(trained, monkeypatch):
    monkeypatch.setenv("SPACY_MODERNBERT_BACKEND", "tpu")
    words = done(run(trained))
    assert "There is no backend 'tpu'" in words
    assert "SPACY_MODERNBERT_BACKEND is 'tpu', and wins" in words
    # The rest is told nevertheless.
    assert "a pass holds" in words


@pytest.mark.parametrize(
    "quantization, message",
    [
        ({"bits": 8}, ""),
        ({"bits": 4}, "The backend 'cpu' has no quantization {\"bits\": 4} here"),
        ({"bits": 3}, "quantization is {'bits': 3}, but it must be"),
    ],
)
def test_a_quantization_that_the_backend_has_not(
    checkpoint, tmp_path, quantization, message
):
    make_nlp(checkpoint).to_disk(tmp_path / "nlp")
    change_settings(tmp_path / "nlp", quantization=quantization)
    words = done(run(tmp_path / "nlp"))
    assert f"quantization {quantization}" in words
    assert ("cannot run" in words) == bool(message)
    assert message in words
    # The rest is told nevertheless.
    assert "a pass holds" in words


def test_quantized_pipeline(trained, tmp_path):
    folder = tmp_path / "nlp"
    shutil.copytree(trained, folder)
    encoder = folder / "modernbert_ner" / "encoder"
    output = tmp_path / "quantized"
    done(invoke("convert", encoder, output, "--group-size", 32))
    shutil.rmtree(encoder)
    output.rename(encoder)
    assert "quantized to 8 bits" in done(run(folder))
