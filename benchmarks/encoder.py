"""The encoder alone: documents of one length, and a mixed batch."""

from typing import Sequence

from .documents import draw_lengths
from .flops import needed_flops
from .peers import list_encoders, reference
from .results import Results, Section
from .session import Session

# Rows of a matrix product beyond which it gets no faster.
_MOST_ROWS = 8192


def run(session: Session, lengths: Sequence[int], mixed: bool) -> Results:
    """Measure every way to run the encoder.

    session (Session): How.
    lengths (Sequence[int]): A single document of each.
    mixed (bool): Whether to encode the mixed batch, too.
    RETURNS (Results): The results.
    """
    results = session.start_results("encoder", f"Encoder, shape {session.shape}")
    for length in lengths:
        title = f"One document of {length:,} wordpieces"
        session.add(results, _measure(session, title, [length]))
    if mixed:
        drawn = draw_lengths(8, longest=512) if session.quick else draw_lengths()
        title = (
            f"A mixed batch of {len(drawn)} documents, {min(drawn)} to "
            f"{max(drawn):,} wordpieces"
        )
        session.add(results, _measure(session, title, drawn))
    return results


def _measure(session: Session, title: str, lengths: Sequence[int]) -> Section:
    folder, config = session.checkpoint()
    peers = list_encoders(session.device, max(lengths), len(lengths))
    return session.measure(
        "encode",
        title,
        peers,
        folder,
        {"lengths": list(lengths)},
        flops=needed_flops(config, lengths),
        limit_rows=min(sum(lengths), _MOST_ROWS),
        reference=reference(session.device),
    )
