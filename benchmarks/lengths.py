"""How time and memory grow: one document through `nlp.pipe`, from short to several
windows.
"""

from typing import List, Sequence

from .peers import list_ours_as_chosen, list_stock_pipelines
from .pipeline import LABELS
from .results import Results, Section
from .rows import Row
from .session import Session
from .tables import LENGTHS, table

ALL = (256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
MEMORY = 8192


def run_scaling(session: Session, lengths: Sequence[int]) -> Results:
    """Measure what "auto" takes at each length.

    session (Session): How.
    lengths (Sequence[int]): Wordpieces of a document.
    RETURNS (Results): The results; the last section has all lengths in one table.
    """
    results = session.start_results(
        "scaling", f"Time and memory over lengths, shape {session.shape}"
    )
    folder, _ = session.checkpoint()
    ours = list_ours_as_chosen(session.device)[:1]
    rows: List[Row] = []
    for length in lengths:
        section = session.measure(
            "pipe",
            f"One document of {length:,} wordpieces",
            ours,
            folder,
            {"texts": str(session.made_texts([length])), "labels": LABELS},
        )
        rows += section.rows
    session.add(results, Section("One document", rows, text=table(rows, LENGTHS)))
    return results


def run_memory(session: Session) -> Results:
    """Measure by how much one long document lets the memory grow, over that of the
    loaded pipeline.

    session (Session): How.
    RETURNS (Results): The results.
    """
    length = 300 if session.quick else MEMORY
    results = session.start_results("memory", f"Memory, shape {session.shape}")
    folder, _ = session.checkpoint()
    stock = list_stock_pipelines(session.device)[:1]
    session.add(
        results,
        session.measure(
            "pipe",
            f"One document of {length:,} wordpieces",
            [*list_ours_as_chosen(session.device), *stock],
            folder,
            {"texts": str(session.made_texts([length])), "labels": LABELS},
            reference=stock[0],
        ),
    )
    return results
