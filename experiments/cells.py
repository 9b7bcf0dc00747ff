"""The experiments: which recipes are trained on what, and compared with what."""

from dataclasses import dataclass, replace
from typing import Dict, Iterator, Optional, Sequence, Tuple

SEEDS = (0, 1, 2)

# Steps of training, on each corpus. On the real ones, a step sees a document.
STEPS = {"litbank": 420, "craft": 300, "roster": 540, "roster-long": 1080}

# What a budget multiplies the steps by.
TIMES = {"two-thirds": 2 / 3, "steps": 1, "double": 2, "fivefold": 5}

# How much two windows share, in wordpieces.
OVERLAPS = {128: 32, 512: 128, 2048: 256, 8192: 512}


@dataclass(frozen=True)
class Cell:
    """One pipeline that is trained, and tested.

    recipe (str): `configs/<recipe>.cfg`.
    weights (Optional[str]): What the encoder starts from: "pretrained"; "random", as
        `modernbert encoder` makes it; "drawn", as transformers draws it, so that keys
        do not match queries; None if the recipe has no encoder.
    trains_encoder (bool): Whether the encoder is trained, where the recipe does it, or
        only what is above it.
    window (Optional[int]): In wordpieces; None if the recipe has windows of its own.
    budget (str): "steps": as many steps as its peers. "time": as many as fit into the
        time that the reference took. Or another of `TIMES`: a part or a multiple of the
        steps.
    average (bool): Whether the mean of the weights over the steps is tested, for the
        weights that have one, or those of the last step.
    corpus (str): The corpus: a folder of `corpus/`.
    seed (int): The seed of the training; and of the weights, if they are not
        pretrained.
    """

    recipe: str
    weights: Optional[str] = "pretrained"
    trains_encoder: bool = True
    window: Optional[int] = None
    budget: str = "steps"
    average: bool = True
    corpus: str = ""
    seed: int = 0

    @property
    def variant(self) -> str:
        """RETURNS (str): What is trained, without corpus and seed."""
        parts = [
            self.recipe,
            self.weights,
            None if self.trains_encoder else "frozen",
            None if self.window is None else str(self.window),
            None if self.average else "last",
            f"equal-{self.budget}",
        ]
        return "-".join(part for part in parts if part)

    @property
    def name(self) -> str:
        """RETURNS (str): A name that no other cell has."""
        return f"{self.corpus}-{self.variant}-seed{self.seed}"


# What others are compared with.
REFERENCE = Cell("mini", window=8192)

_CNN = Cell("cnn", weights=None)
STOCK = Cell("spacy-transformers")
# With what a word looks like beside the encoder's vector.
WORDS = Cell("mini-words", window=8192)
# With convolutions over the vectors of encoder and word; the encoder is not trained.
FROZEN = Cell("mini-frozen", window=8192)
# With a recognizer as in `STOCK`.
PLAIN = Cell("mini-plain", window=8192)


@dataclass(frozen=True)
class Experiment:
    """What is compared.

    title (str): What it tells.
    cells (Tuple[Cell, ...]): What is trained, on each corpus and with each seed. The
        first is what the others are compared with.
    corpora (Tuple[str, ...]): Folders of `corpus/`.
    """

    title: str
    cells: Tuple[Cell, ...]
    corpora: Tuple[str, ...] = ("litbank", "craft")


def _look_up(recipe: str) -> Tuple[Cell, ...]:
    whole = Cell(recipe, window=8192)
    random = replace(whole, weights="random")
    return (
        whole,
        replace(whole, window=128),
        # Short documents come first, so these take less than two thirds of the time.
        replace(whole, budget="two-thirds"),
        replace(random, budget="two-thirds"),
        random,
        replace(random, budget="double"),
        replace(random, weights="drawn", budget="double"),
    )


EXPERIMENTS: Dict[str, Experiment] = {
    "windows": Experiment(
        "How much of a document the encoder sees at once",
        tuple(Cell("mini", window=window) for window in reversed(OVERLAPS)),
    ),
    "baselines": Experiment(
        "Beside spaCy's CNN, and the same encoder in spacy-transformers",
        (
            REFERENCE,
            PLAIN,
            *(
                replace(cell, budget=budget)
                for cell in (_CNN, STOCK)
                for budget in ("steps", "time")
            ),
        ),
    ),
    "pretraining": Experiment(
        "The pretrained encoder, and the same one from random weights",
        (REFERENCE, replace(REFERENCE, weights="random")),
    ),
    "plain": Experiment(
        "Vectors as they are, and a narrower recognizer: windows and random weights",
        (
            REFERENCE,
            *(replace(PLAIN, window=window) for window in reversed(OVERLAPS)),
            replace(PLAIN, weights="random"),
        ),
    ),
    "words": Experiment(
        "Beside the vector of the encoder, one of the word itself",
        (REFERENCE, WORDS, replace(WORDS, weights="random"), _CNN),
    ),
    "frozen": Experiment(
        "An encoder that is not trained, under spaCy's convolutions",
        (
            FROZEN,
            replace(FROZEN, window=128),
            # The same convolutions, over an encoder that has read nothing.
            replace(FROZEN, weights="random"),
            _CNN,
            replace(FROZEN, budget="fivefold"),
            replace(_CNN, budget="fivefold"),
        ),
    ),
    "averages": Experiment(
        "Weights that are averaged over the steps, and those of the last step",
        (
            PLAIN,
            replace(PLAIN, average=False),
            STOCK,
            replace(STOCK, average=False),
        ),
    ),
    "lookup": Experiment(
        "Names that are explained elsewhere, up to 2,000 words away",
        (
            *_look_up("roster"),
            # An encoder that is not trained does not learn to look names up.
            Cell("roster", trains_encoder=False, window=8192),
            # These two read documents in any order, and not short ones first.
            FROZEN,
            REFERENCE,
        ),
        corpora=("roster",),
    ),
    "lookup-far": Experiment(
        "Names that are explained elsewhere, up to 6,000 words away",
        _look_up("roster-long"),
        corpora=("roster-long",),
    ),
}


def cells_of(
    experiment: Experiment, corpora: Sequence[str], seeds: Sequence[int]
) -> Iterator[Cell]:
    """The cells of an experiment, in the order in which they can be run.

    experiment (Experiment): The experiment.
    corpora (Sequence[str]): Folders of `corpus/`.
    seeds (Sequence[int]): The seeds.
    YIELDS (Cell): The cells: all variants with one seed, then with the next, so that a
        run that is cut short has something to compare.
    """
    for corpus in corpora:
        for seed in seeds:
            for cell in experiment.cells:
                yield replace(cell, corpus=corpus, seed=seed)
