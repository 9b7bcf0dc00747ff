"""The registered scorer: what can be watched, and weighted, while training."""

from typing import Any, Callable, Dict, Iterable

from spacy.scorer import get_ner_prf
from spacy.training import Example

from .consistency import check_consistency
from .documents import read_examples
from .modes import MODES, count_modes
from .slices import slice_by_length, slice_by_mention


def long_ner_scorer_v1() -> Callable[..., Dict[str, Any]]:
    """Create a scorer of entities in long documents. Registered as
    `spacy-modernbert.long_ner_scorer.v1`.

    It gives what `spacy.ner_scorer.v1` gives, and beside it, for each mode of
    SemEval-2013, `ents_<mode>_p`, `_r` and `_f` (modes: strict, exact, partial, type);
    `ents_consistency`, how many of the names that were found twice or more often in a
    document have one label; and `ents_by_length` and `ents_by_distance`, which are F by
    the length of the document and by the distance to the mention before.

    RETURNS (Callable[[Iterable[Example]], Dict[str, Any]]): The scorer.
    """
    return score_long_ner


def score_long_ner(examples: Iterable[Example], **kwargs: Any) -> Dict[str, Any]:
    """Score entities: see `long_ner_scorer_v1`.

    examples (Iterable[Example]): References, and what was found in them.
    **kwargs (Any): What spaCy hands to every scorer, for its `get_ner_prf`.
    RETURNS (Dict[str, Any]): The scores; None where there is nothing to score.
    """
    examples = list(examples)
    scores: Dict[str, Any] = dict(get_ner_prf(examples, **kwargs))
    docs = read_examples(examples)
    is_empty = scores["ents_f"] is None
    modes = count_modes(match for doc in docs for match in doc.matches)
    for mode in MODES:
        counts = modes[mode]
        scores[f"ents_{mode}_p"] = None if is_empty else counts.precision
        scores[f"ents_{mode}_r"] = None if is_empty else counts.recall
        scores[f"ents_{mode}_f"] = None if is_empty else counts.f_score
    consistency = check_consistency(docs, lambda doc: doc.found)
    # 0 and not None where no name was found twice: a score that is None once has no
    # weight in spaCy's training from then on.
    scores["ents_consistency"] = None if is_empty else consistency.share
    for key, make_slices in (
        ("ents_by_length", slice_by_length),
        ("ents_by_distance", slice_by_mention),
    ):
        slices = {each.name: each.counts.f_score for each in make_slices(docs)}
        scores[key] = slices or None
    return scores
