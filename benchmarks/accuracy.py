"""What precisions and quantizations cost: the cosine of each wordpiece to float32."""

from dataclasses import replace
from typing import Sequence

from .peers import list_ours, reference
from .results import Results
from .rounds import Patience
from .session import Session
from .tables import ACCURACY


def run(session: Session, lengths: Sequence[int]) -> Results:
    """Compare every way to run ours with transformers in float32. Nothing is timed.

    session (Session): How.
    lengths (Sequence[int]): A single document of each.
    RETURNS (Results): The results.
    """
    results = session.start_results("accuracy", f"Accuracy, shape {session.shape}")
    folder, _ = session.checkpoint()
    # One pass, of which nobody asks how long it took.
    patience = Patience(repeats=0, timeout=session.patience.timeout)
    untimed = replace(session, anyway=True, patience=patience)
    for length in lengths:
        session.add(
            results,
            untimed.measure(
                "encode",
                f"One document of {length:,} wordpieces",
                list_ours(session.device),
                folder,
                {"lengths": [length]},
                reference=reference(session.device),
                columns=ACCURACY,
                refuse=False,
            ),
        )
    return results
