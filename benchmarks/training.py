"""A step of training on one long document."""

from .peers import list_ours_as_chosen, list_stock_pipelines
from .pipeline import LABELS
from .results import Results
from .session import Session

LENGTH = 4096


def run(session: Session) -> Results:
    """Measure `nlp.update`, ours beside spacy-transformers on the whole document.

    session (Session): How.
    RETURNS (Results): The results.
    """
    length = 300 if session.quick else LENGTH
    results = session.start_results(
        "training", f"Training, shape {session.shape}", labels=LABELS
    )
    folder, _ = session.checkpoint()
    stock = list_stock_pipelines(session.device)[:1]
    ours = list_ours_as_chosen(session.device, to_train=True)
    session.add(
        results,
        session.measure(
            "train",
            f"A step on one document of {length:,} wordpieces",
            [*ours, *stock],
            folder,
            {"texts": str(session.made_texts([length])), "labels": LABELS},
            reference=stock[0],
        ),
    )
    return results
