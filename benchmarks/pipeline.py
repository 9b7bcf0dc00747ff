"""Whole pipelines: texts in, entities out."""

from pathlib import Path
from typing import Optional, Sequence

from .documents import draw_lengths
from .peers import as_fake, in_8_bits, list_ours_as_chosen, list_stock_pipelines
from .results import Results, Section
from .session import Session

LABELS = 6


def run(
    session: Session, corpora: Sequence[str], n_documents: Optional[int], mixed: bool
) -> Results:
    """Measure `nlp.pipe`.

    session (Session): How.
    corpora (Sequence[str]): "litbank", "craft".
    n_documents (Optional[int]): How many documents of each to take; None for all.
    mixed (bool): Whether to take a mixed batch of made texts, too.
    RETURNS (Results): The results.
    """
    results = session.start_results(
        "pipeline", f"nlp.pipe, shape {session.shape}", labels=LABELS
    )
    if mixed:
        drawn = draw_lengths(6, longest=300) if session.quick else draw_lengths()
        texts = session.made_texts(drawn)
        title = f"A mixed batch of {len(drawn)} documents"
        session.add(results, _measure(session, title, texts))
    for name in corpora:
        title, texts = session.corpus_texts(name, n_documents)
        session.add(results, _measure(session, title, texts))
    return results


def _measure(session: Session, title: str, texts: Path) -> Section:
    folder, _ = session.checkpoint()
    stock = list_stock_pipelines(session.device)
    ours = list_ours_as_chosen(session.device)
    return session.measure(
        "pipe",
        title,
        [*ours, *map(in_8_bits, ours), *stock],
        folder,
        {"texts": str(texts), "labels": LABELS},
        reference=stock[0],
    )


def run_host(session: Session, n_documents: Optional[int]) -> Results:
    """Measure everything but the encoder: pipelines with an encoder that takes no time.

    session (Session): How.
    n_documents (Optional[int]): How many documents of LitBank to take; None for all.
    RETURNS (Results): The results.
    """
    results = session.start_results(
        "host", f"Everything but the encoder, shape {session.shape}"
    )
    if session.quick:
        path = session.made_texts([300])
        title = "One document of 300 wordpieces"
    else:
        title, path = session.corpus_texts("litbank", n_documents)
    folder, _ = session.checkpoint()
    peers = [list_ours_as_chosen(session.device)[0]]
    peers += list_stock_pipelines(session.device)[:1]
    for n_labels in (6, 18):
        session.add(
            results,
            session.measure(
                "pipe",
                f"{title}, {n_labels} labels",
                [as_fake(peer) for peer in peers],
                folder,
                {"texts": str(path), "labels": n_labels},
            ),
        )
    return results
