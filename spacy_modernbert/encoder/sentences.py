"""How a checkpoint makes one vector of a text: from its [CLS], or the mean.

Two files can say so. sentence-transformers lists what its vectors are made by in
`modules.json`, and `1_Pooling/config.json` says how hidden states become one vector.
transformers has `classifier_pooling` in `config.json`, which its sequence classifier
uses. The first is about vectors and takes precedence. What it says is kept with the
config, as `sentence_pooling`, so that a saved pipeline knows it too.
"""

from pathlib import Path, PureWindowsPath
from typing import Any, Dict, List, Mapping

from ..errors import Errors
from .config import ModernBertConfig
from .json_files import read_json_file

POOLINGS = ("cls", "mean")

MODULES = "modules.json"
POOLING_CONFIG = "1_Pooling/config.json"  # where it always is; `MODULES` says so

_KEY = "sentence_pooling"

# sentence-transformers' names of poolings, by the older form of their config: one flag
# for each, of which that of the mean is on by default.
_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}

# Modules that change no direction of a vector.
_HARMLESS = ("Transformer", "Pooling", "Normalize", "Dropout")


def read_sentence_pooling(folder: Path) -> Dict[str, str]:
    """What sentence-transformers' files say of a checkpoint.

    folder (Path): The checkpoint.
    RETURNS (Dict[str, str]): What to add to its `config.json`: nothing if there are no
        such files; else the name of the pooling, or what makes it unusable. Whether
        it can be computed is checked only when a vector is asked for
        (`resolve_pooling`): a recognizer has no need of it.
    RAISES (ValueError): If a file is not JSON.
    """
    if not (folder / MODULES).is_file():
        return {}
    modules = read_json_file(folder / MODULES)
    if not isinstance(modules, list):
        modules = []
    if not all(isinstance(module, dict) for module in modules):
        return {_KEY: f"modules in {MODULES} that are not objects"}
    kinds = [_kind(module) for module in modules]
    others = [kind for kind in kinds if kind not in _HARMLESS]
    if others:
        return {_KEY: f"a module {others[0]}"}
    if "Pooling" not in kinds:
        return {}
    place = str(modules[kinds.index("Pooling")].get("path"))
    if PureWindowsPath(place).name != place or place in ("", ".."):
        return {_KEY: f"a pooling by {place!r}, not a folder of the checkpoint"}
    path = folder / place / "config.json"
    if not path.is_file():
        return {_KEY: f"a pooling by {place}/config.json, which is missing"}
    return {_KEY: _read_pooling(read_json_file(path))}


def resolve_pooling(pooling: str, config: ModernBertConfig) -> str:
    """The pooling that is meant.

    pooling (str): "auto", "cls" or "mean".
    config (ModernBertConfig): The config of the encoder. For "auto", its
        `sentence_pooling` counts first, then `classifier_pooling`, and then "cls",
        which is what transformers takes a config for that says nothing.
    RETURNS (str): "cls" or "mean".
    RAISES (ValueError): If there is no such pooling, or the checkpoint asks for one
        that is neither.
    """
    known = ("auto", *POOLINGS)
    if pooling not in known:
        raise ValueError(
            Errors.UNKNOWN_POOLING.format(value=pooling, known=", ".join(known))
        )
    if pooling != "auto":
        return pooling
    extras = config.extras
    found, message = extras.get(_KEY), Errors.UNSUPPORTED_POOLING
    if not found:
        found = extras.get("classifier_pooling") or "cls"
        message = Errors.UNSUPPORTED_CLASSIFIER_POOLING
    if found not in POOLINGS:
        raise ValueError(message.format(found=found))
    return str(found)


def _kind(module: Mapping[str, Any]) -> str:
    """The last part of "sentence_transformers.models.Pooling"."""
    return str(module.get("type")).rpartition(".")[2]


def _read_pooling(data: Any) -> str:
    if not isinstance(data, dict):
        return "a pooling that is not an object"
    if data.get("pooling_mode"):
        return str(data["pooling_mode"])
    flags: List[str] = [
        name for flag, name in _FLAGS.items() if data.get(flag, name == "mean")
    ]
    return "+".join(flags) or "no pooling at all"
