"""Who is measured: our encoder in every way that it can be run, and its peers."""

import sys
from dataclasses import replace
from fnmatch import fnmatch
from typing import Iterator, List, Sequence

from spacy_modernbert.encoder.availability import (
    BACKENDS,
    PREDICTING,
    choose,
    look_for,
    multiplies_bfloat16,
    multiplies_int8,
)
from spacy_modernbert.encoder.backend import resolve_precision

from .points import OURS, Peer

# Padded wordpieces that a batch of the padding peers holds at most.
_FITS = {"cpu": 16384, "cuda": 131072}


def reference(device: str) -> Peer:
    """RETURNS (Peer): Whose vectors are right."""
    return Peer("transformers float32", "transformers", device)


def list_encoders(device: str, longest: int, n_documents: int) -> List[Peer]:
    """Every way to run the encoder that there is on a device.

    device (str): "cpu", "cuda" or "mps".
    longest (int): The longest document that is going to be encoded.
    n_documents (int): How many documents there are.
    RETURNS (List[Peer]): The peers, ours first.
    """
    size = min(n_documents, max(1, _FITS.get(device, 16384) // longest))
    # A power of two, as users write it.
    size = 1 << (size.bit_length() - 1)
    return [*list_ours(device), *_list_transformers(device, size), *_exports(device)]


def list_ours(device: str) -> List[Peer]:
    """RETURNS (List[Peer]): Our encoder on every backend of a device, in every
    precision and quantization.
    """
    found = []
    for backend in BACKENDS:
        if _device_of(backend) == device:
            full, half = (
                Peer(f"ours {backend} {precision}", OURS, backend, precision)
                for precision in ("float32", "bfloat16")
            )
            found += [full, half, in_8_bits(full)]
    return found


def list_ours_as_chosen(device: str, *, to_train: bool = False) -> List[Peer]:
    """RETURNS (List[Peer]): Our encoder on every backend of a device, each in the
    precision that it takes by itself. The first is what "auto" takes of them.
    """
    backends = [
        backend
        for backend in BACKENDS
        if _device_of(backend) == device and not (to_train and backend in PREDICTING)
    ]
    chosen = choose(to_train=to_train, among=backends).backend
    backends.sort(key=lambda backend: (backend != chosen, backend != "cpu"))
    precisions = {name: _precision_of(name) for name in backends}
    return [
        Peer(f"ours {backend} {precision}", OURS, backend, precision)
        for backend, precision in precisions.items()
    ]


def in_8_bits(peer: Peer) -> Peer:
    """RETURNS (Peer): Ours, with weights of 8 bits."""
    return replace(
        peer,
        name=f"ours {peer.device} int8",
        precision="int8",
        options={"quantization": {"bits": 8}},
    )


def _precision_of(backend: str) -> str:
    # One that cannot run here has a line that says why, whatever it would compute in.
    missing = look_for(backend).missing
    return "float32" if missing else resolve_precision("auto", backend)


def list_stock_pipelines(device: str) -> List[Peer]:
    """RETURNS (List[Peer]): spacy-transformers with transformers' model: whole
    documents, which is the reference, and its own default.
    """
    names = {"whole": "whole documents", "strided": "windows of 128"}
    peers = [
        Peer(
            f"spacy-transformers float32, {name}",
            "spacy-transformers",
            device,
            options={"spans": spans},
        )
        for spans, name in names.items()
    ]
    if device == "cuda":
        peers += [
            replace(
                peer,
                name=peer.name.replace("float32", "float16"),
                precision="float16",
            )
            for peer in peers
        ]
    return peers


def as_fake(peer: Peer) -> Peer:
    """RETURNS (Peer): The same with an encoder that takes no time."""
    name = f"{peer.name.split(' ')[0]}, instant encoder"
    return replace(peer, name=name, options={**peer.options, "fake": True})


def why_not_timed(peer: Peer, shape: str) -> str:
    """RETURNS (str): Why the speed of a peer means nothing on this machine; empty if it
    means something. What cannot be run at all says so itself.
    """
    on_cpu = peer.device in ("cpu", "openvino", "onnx")
    if on_cpu and peer.precision == "bfloat16" and not multiplies_bfloat16():
        return "not measurable here: the processor has no native bfloat16"
    is_slow_mlx = peer.device == "mlx" and look_for("mlx").device == "mlx:cpu"
    if is_slow_mlx and shape not in ("mini", "micro", "tiny"):
        return "not measurable here: MLX multiplies by a reference BLAS without a GPU"
    return ""


def select(peers: Sequence[Peer], patterns: Sequence[str]) -> List[Peer]:
    """RETURNS (List[Peer]): Those whose name matches one of the patterns; all if there
    are none.
    """
    if not patterns:
        return list(peers)
    return [
        peer
        for peer in peers
        if any(fnmatch(peer.name, f"*{pattern}*") for pattern in patterns)
    ]


def list_limits(peers: Sequence[Peer], device: str) -> List[Peer]:
    """RETURNS (List[Peer]): The matrix products to compare peers with: one for each
    precision that occurs and that the device multiplies natively.
    """
    native = {
        "float32": True,
        "bfloat16": device == "cuda" or multiplies_bfloat16(),
        "int8": device == "cuda" or multiplies_int8(),
    }
    occurring = dict.fromkeys(peer.precision for peer in peers)
    return [
        Peer(f"matrix products {precision}", "torch", device, precision)
        for precision in occurring
        if native[precision]
    ]


def _device_of(backend: str) -> str:
    """Where a backend is compared: each on the hardware that it takes here."""
    if backend in ("auto", "cuda", "mps"):
        return "" if backend == "auto" else backend
    found = look_for(backend).device
    if found.startswith("onnx:CUDA"):
        return "cuda"
    if found == "mlx:gpu":
        return "mps" if sys.platform == "darwin" else "cuda"
    return "cpu"


def _list_transformers(device: str, batch_size: int) -> Iterator[Peer]:
    batch = {"batch_size": batch_size}
    for precision in ("float32", "bfloat16"):
        name = f"transformers {precision}"
        yield Peer(name, "transformers", device, precision)
        if batch_size > 1:
            name = f"{name}, padded by {batch_size}"
            yield Peer(name, "transformers", device, precision, batch)
    if device == "cuda":
        name = "transformers bfloat16, flash attention"
        flash = {**batch, "attention": "flash_attention_2"}
        yield Peer(name, "transformers", device, "bfloat16", flash)
        name = "packed-encoders bfloat16"
        yield Peer(name, "packed-encoders", device, "bfloat16", batch)


def _exports(device: str) -> Iterator[Peer]:
    """transformers' model, exported. One document at a time: nothing is padded."""
    if device != "cpu":
        return
    for precision in ("float32", "bfloat16"):
        yield Peer(
            f"OpenVINO export {precision}",
            "openvino export",
            precision=precision,
        )
    for precision in ("float32", "int8"):
        yield Peer(
            f"ONNX Runtime export {precision}",
            "onnxruntime export",
            precision=precision,
        )
