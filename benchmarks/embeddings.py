"""One vector for each document, as for search and similarity."""

from .documents import draw_lengths
from .peers import list_encoders, reference
from .results import Results
from .session import Session


def run(session: Session) -> Results:
    """Measure vectors of documents: the mean over the wordpieces.

    session (Session): How.
    RETURNS (Results): The results.
    """
    results = session.start_results("embeddings", f"Embeddings, shape {session.shape}")
    folder, _ = session.checkpoint()
    lengths = draw_lengths(6, longest=300) if session.quick else draw_lengths()
    session.add(
        results,
        session.measure(
            "encode",
            f"A mixed batch of {len(lengths)} documents",
            list_encoders(session.device, max(lengths), len(lengths)),
            folder,
            {"lengths": lengths, "pool": True},
            reference=reference(session.device),
        ),
    )
    return results
