"""Saved pipelines: where they are, and which of their blocks has an encoder."""

import os
from configparser import Error as ParserError
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

from spacy.util import is_package, load_config
from thinc.api import Config

from .errors import Errors
from .span_getters import LONG_CONTEXT_SPANS

PIPELINE_CONFIG = "config.cfg"

# Where a component keeps its encoder, beside its own files.
ENCODER_FOLDER = "encoder"

# Those with an encoder, in any version.
_ARCHITECTURES = (
    "spacy-modernbert.Tok2VecModernBert.",
    "spacy-modernbert.ModernBertModel.",
)


@dataclass(frozen=True)
class EncoderBlock:
    """The block of a pipeline's config that says what an encoder is to be.

    component (str): The name of the component that it belongs to.
    path (str): The block, such as "components.modernbert_ner.model.tok2vec": what an
        override of `spacy.load` begins with.
    settings (Mapping[str, Any]): What is in the block.
    """

    component: str
    path: str
    settings: Mapping[str, Any]

    @property
    def spans(self) -> Mapping[str, Any]:
        """RETURNS (Mapping[str, Any]): `window` and `overlap`, in wordpieces. Empty if
        the span getter is another one, which may count in tokens, or is none.
        """
        spans = self.settings.get("get_spans")
        if isinstance(spans, dict) and spans.get("@span_getters") == LONG_CONTEXT_SPANS:
            return spans
        return {}


def find_pipeline(name: str) -> Optional[Path]:
    """Find a saved pipeline.

    name (str): Its folder, or the name of the package that it is installed as. Such a
        package is imported, and no other.
    RETURNS (Optional[Path]): The folder with its `config.cfg`; None if there is none.
    RAISES (ValueError): If the package cannot be imported.
    """
    folder = Path(os.path.expanduser(name))
    if (folder / PIPELINE_CONFIG).is_file():
        return folder
    return _find_in_package(name) if is_package(name) else None


def _find_in_package(name: str) -> Optional[Path]:
    # Such as "en-letters", which pip calls what is imported as "en_letters".
    module = name.replace("-", "_")
    # Of a module in a package, the package would be imported to look for it.
    if not module.isidentifier():
        return None
    spec = None
    with suppress(ImportError, ValueError):  # as of what has no loader
        spec = find_spec(module)
    places = (spec and spec.submodule_search_locations) or ()
    # A package keeps its data in a folder that is named by its version.
    pattern = f"*/{PIPELINE_CONFIG}"
    found = sorted(each for place in places for each in Path(place).glob(pattern))
    if not found:
        return None
    # As `spacy.load` does: it registers what the config names, if that is its own.
    try:
        import_module(module)
    except Exception as error:
        raise ValueError(
            Errors.PIPELINE_NOT_IMPORTED.format(name=name, error=error)
        ) from error
    return found[0].parent


def read_config(
    path: Path,
    overrides: Optional[Dict[str, Any]] = None,
    message: str = Errors.BAD_CONFIG,
) -> Config:
    """Read a config file.

    path (Path): The file.
    overrides (Optional[Dict[str, Any]]): Values to take in the place of its own.
    message (str): What is said where it cannot be read, of its path and the error.
    RETURNS (Config): The config, interpolated.
    RAISES (ValueError): If it is not sound.
    """
    try:
        return load_config(path, overrides=overrides or {}, interpolate=True)
    # Of a block or a setting that is there twice, confection makes no error of its own.
    except (ParserError, ValueError) as error:
        raise ValueError(message.format(path=path, error=error)) from error


def read_pipeline_config(folder: Path) -> Config:
    """Read the config of a saved pipeline.

    folder (Path): Its folder.
    RETURNS (Config): The config, interpolated.
    RAISES (ValueError): If it is not sound.
    """
    return read_config(folder / PIPELINE_CONFIG, message=Errors.BAD_PIPELINE_CONFIG)


def check_revision(source: str, revision: Optional[str]) -> None:
    """Check that no revision is asked of what has none.

    source (str): A folder, the package of a pipeline, or a hub id.
    revision (Optional[str]): Commit, tag or branch on the hub.
    RAISES (ValueError): If there is a revision, and the source is on this machine.
    """
    if revision is None:
        return
    if Path(os.path.expanduser(source)).exists() or find_pipeline(source):
        raise ValueError(Errors.NO_REVISIONS.format(revision=revision, source=source))


def find_encoder_blocks(config: Mapping[str, Any]) -> List[EncoderBlock]:
    """The encoders of this package that a pipeline has.

    config (Mapping[str, Any]): The config of the pipeline.
    RETURNS (List[EncoderBlock]): Their blocks, in the order of the components.
    """
    return [
        EncoderBlock(component, path, block)
        for component, settings in config.get("components", {}).items()
        if isinstance(settings, dict)  # which a damaged config may not have
        for path, block in _walk(f"components.{component}", settings)
        if str(block.get("@architectures", "")).startswith(_ARCHITECTURES)
    ]


def _walk(path: str, block: Dict[str, Any]) -> Iterator[Tuple[str, Dict[str, Any]]]:
    yield path, block
    for key, value in block.items():
        if isinstance(value, dict):
            yield from _walk(f"{path}.{key}", value)
