"""What `docs/api.md` says of names, types and defaults is what the code says, and it
leaves nothing out.
"""

import ast
import inspect
import json
import re
from configparser import ConfigParser
from dataclasses import MISSING, fields
from pathlib import Path
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Tuple,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import pytest
import typer
from spacy.language import Language
from spacy.pipeline._parser_internals.transition_system import TransitionSystem
from spacy.tokens import Doc, Span
from spacy.util import registry
from thinc.api import Model
from thinc.types import Floats2d, Ragged

import spacy_modernbert
from spacy_modernbert.batchers import WordpieceBatcher
from spacy_modernbert.cli import app
from spacy_modernbert.components import (
    DEFAULT_CONFIG,
    ModernBertNER,
    make_modernbert_ner,
)
from spacy_modernbert.documents.wordpieces import WordpieceTokenizer
from spacy_modernbert.embeddings import Embedded, Embedder, load_embedder
from spacy_modernbert.encoder.protocol import Encoder
from spacy_modernbert.evaluation.scorer import score_long_ner
from spacy_modernbert.layers.doc_vectors import use_doc_vector
from spacy_modernbert.pretraining.settings import Phase, PretrainingSettings
from spacy_modernbert.span_getters import LongContextSpans
from spacy_modernbert.types import Floats

from .util import ROOT

PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf8")
PACKAGE = Path(spacy_modernbert.__file__).parent
# What types are written with on the page.
TYPES = {
    each.__name__: each
    for each in (
        *(Doc, Span, Language, Model, TransitionSystem, Path),
        *(Encoder, Embedder, Embedded, ModernBertNER, Phase),
        *(LongContextSpans, WordpieceBatcher, WordpieceTokenizer),
    )
}
TYPES |= {
    "Any": Any,
    "Callable": Callable,
    "Dict": Dict,
    "Floats": Floats,
    "Floats2d": Floats2d,
    "Iterable": Iterable,
    "List": List,
    "Mapping": Mapping,
    "Optional": Optional,
    "Ragged": Ragged,
    "Tuple": Tuple,
    "Union": Union,
}
REQUIRED = object()


class Argument(NamedTuple):
    """What a page or the code says of an argument."""

    type: Any
    default: Optional[str] = None


def sections() -> Dict[str, str]:
    """RETURNS (Dict[str, str]): The parts of the page by their headings."""
    parts = re.split(r"^##+ (.+)\n", PAGE, flags=re.M)[1:]
    found = dict(zip(parts[::2], parts[1::2], strict=True))
    assert len(found) == len(parts) // 2
    return found


def rows(section: str, head: str) -> List[List[str]]:
    """RETURNS (List[List[str]]): The cells of the only table of a section whose first
    row is such.
    """
    pattern = rf"^\| {re.escape(head)} \|\n\| ---.*\n((?:\|.*\n)+)"
    (table,) = re.findall(pattern, sections()[section], re.M)
    return [line.strip("| ").split(" | ") for line in table.splitlines()]


def told(section: str) -> Dict[str, Tuple[str, str]]:
    """RETURNS (Dict[str, Tuple[str, str]]): The type and the default of each name, as
    they are written; "" without a default.
    """
    found = {}
    for names, kind, description in rows(section, "Name | Type | Description"):
        default = re.search(r" Default: `(.+?)`\.$", description)
        # Nowhere else, where it would be taken for prose.
        assert description.count("Default:") == bool(default), description
        found[names] = (kind.strip("`"), default[1] if default else "")
    return found


def read_type(text: str) -> Any:
    return eval(text, dict(TYPES))


def check_arguments(
    section: str, wanted: Mapping[str, Any], types: Mapping[str, Any], write: Callable
) -> None:
    """Compare a table with the defaults of some arguments, and with their types.

    wanted (Mapping[str, Any]): The defaults, or REQUIRED.
    types (Mapping[str, Any]): The types, and that of what is made ("return").
    write (Callable): How a default is written.
    """
    found = told(section)
    for result in ("**CREATES**", "**RETURNS**", "**YIELDS**"):
        if result in found:
            kind = read_type(found.pop(result)[0])
            made = types["return"]
            if result == "**YIELDS**":
                assert get_origin(made).__name__ == "Iterator"
                (made,) = get_args(made)
            assert kind == made
    assert list(found) == [f"`{name}`" for name in wanted]
    for name, default in wanted.items():
        kind, shown = found[f"`{name}`"]
        assert read_type(kind) == types[name], name
        assert shown == ("" if default is REQUIRED else write(default)), name


def defaults_of(function: Callable) -> Dict[str, Any]:
    """RETURNS (Dict[str, Any]): The arguments of a function, each with its default."""
    return {
        each.name: REQUIRED if each.default is each.empty else each.default
        for each in inspect.signature(function).parameters.values()
        if each.name != "self"
    }


def read_block(text: str) -> Dict[str, Any]:
    """RETURNS (Dict[str, Any]): What a part of a config says. The sections around it
    need not be there.
    """
    parser = ConfigParser(interpolation=None)
    parser.optionxform = str
    parser.read_string(text)
    config: Dict[str, Any] = {}
    for name in parser.sections():
        section = config
        for part in name.split("."):
            section = section.setdefault(part, {})
        section.update((key, json.loads(each)) for key, each in parser[name].items())
    return config


def entry_points() -> Iterator[Tuple[str, str]]:
    """YIELDS (Tuple[str, str]): The registry and the name of what is registered."""
    parser = ConfigParser()
    parser.optionxform = str
    parser.read(ROOT / "setup.cfg", encoding="utf8")
    for group, lines in parser["options.entry_points"].items():
        for line in lines.strip().splitlines():
            yield group.removeprefix("spacy_"), line.partition("=")[0].strip()


FUNCTIONS = [
    (kind, name) for kind, name in entry_points() if kind not in ("factories", "cli")
]
COMMANDS = typer.main.get_command(app).commands


def test_every_name_has_a_section():
    points = list(entry_points())
    assert len(points) > 5
    assert ("factories", "modernbert_ner") in points and ("cli", "modernbert") in points
    assert {name for kind, name in points if kind != "cli"} <= sections().keys()
    named = {each for each in sections() if each.startswith("spacy-modernbert.")}
    assert named == {name for _, name in FUNCTIONS}


@pytest.mark.parametrize(("kind", "name"), FUNCTIONS, ids=[n for _, n in FUNCTIONS])
def test_registered_functions(kind, name):
    function = getattr(registry, kind).get(name)
    arguments = defaults_of(function)
    if arguments:
        check_arguments(name, arguments, get_type_hints(function), json.dumps)
    else:
        assert "It takes no\narguments" in sections()[name]


def test_the_factory():
    arguments = defaults_of(make_modernbert_ner)
    assert arguments.keys() - DEFAULT_CONFIG["modernbert_ner"].keys() == {"nlp", "name"}
    # The model has a block of its own.
    wanted = {
        name: REQUIRED if name == "model" else DEFAULT_CONFIG["modernbert_ner"][name]
        for name in arguments
        if name not in ("nlp", "name")
    }
    types = get_type_hints(make_modernbert_ner)
    check_arguments("modernbert_ner", wanted, types, json.dumps)


def test_its_default_config():
    (block,) = re.findall(r"```ini\n(.*?)```", sections()["modernbert_ner"], re.S)
    section = read_block(block)["components"]["modernbert_ner"]
    assert section.pop("factory") == "modernbert_ner"
    # As they are written, so that 1 is not 1.0.
    shown, wanted = (
        json.dumps(each, sort_keys=True)
        for each in (section, DEFAULT_CONFIG["modernbert_ner"])
    )
    assert shown == wanted


def test_methods_of_the_component():
    shown = [name for name, _ in rows("ModernBertNER", "Method | Description")]
    own = [name for name, each in vars(ModernBertNER).items() if callable(each)]
    assert shown == [f"`{name}`" for name in own if not name.startswith("_")]


def test_scores():
    name = "spacy-modernbert.long_ner_scorer.v1"
    shown = [names for names, _ in rows(name, "Score | Description")]
    assert ", ".join(shown).replace("`", "").split(", ") == list(score_long_ner([]))


def test_every_command_has_a_section():
    parts = re.split(r"^## (.+)\n", PAGE, flags=re.M)
    text = parts[parts.index("Commands") + 1]
    assert re.findall(r"^### (.+)$", text, re.M) == sorted(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands(command):
    function = COMMANDS[command].callback
    defaults, types = defaults_of(function), get_type_hints(function)
    wanted = {}
    for each in COMMANDS[command].params:
        kind, options = "positional", [each.name]
        if each.param_type_name != "argument":
            kind = "flag" if types[each.name] is bool else "option"
            options = [*each.opts, *each.secondary_opts]
        default = defaults[each.name].default
        if default in (None, ...) or (kind == "flag" and not default):
            default = ""
        elif isinstance(default, list):
            default = " ".join(map(str, default))
        names = ", ".join(f"`{option}`" for option in options)
        wanted[names] = (types[each.name], kind, str(default))
    found = {}
    for names, (text, default) in told(command).items():
        kind, _, place = text.partition(" (")
        found[names] = (read_type(kind), place.rstrip(")"), default)
    assert found == wanted


@pytest.mark.parametrize(
    ("section", "settings"),
    [("[pretraining]", PretrainingSettings), ("[pretraining.phases.*]", Phase)],
)
def test_settings_of_pretraining(section, settings):
    wanted = {
        each.name: REQUIRED if each.default is MISSING else each.default
        for each in fields(settings)
    }
    check_arguments(section, wanted, get_type_hints(settings), json.dumps)


def test_the_embedder_has_these_attributes():
    types = get_type_hints(Embedder)
    wanted = {each.name: types[each.name] for each in fields(Embedder)}
    for name, each in vars(Embedder).items():
        if isinstance(each, property):
            wanted[name] = get_type_hints(each.fget)["return"]
    found = {n.strip("`"): read_type(t) for n, (t, _) in told("Embedder").items()}
    assert found == wanted


METHODS = [
    name
    for name, each in vars(Embedder).items()
    if inspect.isfunction(each) and not name.startswith("_")
]


def test_the_embedder_has_these_methods():
    shown = [each for each in sections() if each.startswith("Embedder.")]
    assert shown == [f"Embedder.{name}" for name in METHODS]


@pytest.mark.parametrize(
    ("section", "function"),
    [
        ("load_embedder", load_embedder),
        ("use_doc_vector", use_doc_vector),
        *((f"Embedder.{name}", getattr(Embedder, name)) for name in METHODS),
    ],
)
def test_functions_of_python(section, function):
    check_arguments(section, defaults_of(function), get_type_hints(function), repr)


def test_what_the_package_exports():
    for name in spacy_modernbert.__all__:
        assert f"`spacy_modernbert.{name}`" in sections()["Python"]
    places = re.findall(r"`spacy_modernbert\.([\w.]+)\.(\w+)`", PAGE)
    assert len(places) > 3
    for module, name in places:
        found = __import__(f"spacy_modernbert.{module}", fromlist=[name])
        assert hasattr(found, name)


def find_variables(code: str) -> Iterator[str]:
    """YIELDS (str): The environment variables that a module reads or sets."""
    tree = ast.parse(code)
    constants = {
        node.targets[0].id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
    }
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            place, key = node.func.value, node.args[0] if node.args else None
            if ast.unparse(node.func) == "os.getenv":
                place = ast.parse("os.environ", mode="eval").body
        elif isinstance(node, ast.Subscript):
            place, key = node.value, node.slice
        else:
            continue
        if ast.unparse(place) != "os.environ":
            continue
        if isinstance(key, ast.Name) and key.id in imported:
            continue  # found where it comes from
        yield key.value if isinstance(key, ast.Constant) else constants[key.id]


@pytest.mark.parametrize(
    "code",
    [
        "os.environ['X']",
        "os.environ.get('X', 0)",
        "os.getenv('X')",
        "NAME = 'X'\nos.environ.setdefault(NAME, '0')",
    ],
)
def test_it_sees_variables(code):
    assert list(find_variables(code)) == ["X"]


def test_environment_variables():
    files = sorted(PACKAGE.rglob("*.py"))
    found = {name for path in files for name in find_variables(path.read_text("utf8"))}
    table = told("Environment variables")
    assert table.keys() == {f"`{name}`" for name in found}
    shown = {name.strip("`"): default for name, (_, default) in table.items()}
    # What the code takes where they are not set.
    code = "\n".join(path.read_text("utf8") for path in files)
    wanted = dict.fromkeys(found, "")
    pattern = r'environ\.(?:get|setdefault)\("(\w+)", "?(\w+)"?\)'
    wanted.update(re.findall(pattern, code))
    assert shown == wanted


def test_what_is_saved(trained):
    folder = trained / "modernbert_ner"
    wanted = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file()
    }
    shown = [name.strip("`") for name, _ in rows("Files", "File | Description")]
    assert len(shown) == len(wanted) and set(shown) == wanted


def find_blocks(block: Any) -> Iterator[Tuple[str, str, Dict[str, Any]]]:
    """YIELDS (Tuple[str, str, Dict[str, Any]]): A registry, a name in it, and the block
    that names it, for all that are in a config.
    """
    if not isinstance(block, dict):
        return
    for key, value in block.items():
        if key.startswith("@"):
            yield key[1:], value, block
        yield from find_blocks(value)


@pytest.mark.parametrize("block", re.findall(r"```ini\n(.*?)```", PAGE, re.S))
def test_examples_of_config(block):
    config = read_block(block)
    if "pretraining" in config:
        PretrainingSettings.from_config(config)
        return
    found = list(find_blocks(config))
    assert found
    for kind, name, values in found:
        arguments = defaults_of(registry.get(kind, name))
        given = {key for key in values if not key.startswith("@")}
        assert given <= arguments.keys()
        needed = {key for key, each in arguments.items() if each is REQUIRED}
        # Those that are blocks may be shown elsewhere.
        assert needed - given <= {"pooling", "tok2vec"}
