"""What all parts share: the settings, and a place for what the peers load."""

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Iterator, Mapping, Optional, Sequence, Tuple

from wasabi import msg

from spacy_modernbert.encoder.checkpoint import TOKENIZER, load_config
from spacy_modernbert.encoder.config import ModernBertConfig

from .peers import list_limits, select, why_not_timed
from .points import Peer, Point
from .results import Results, Section
from .rounds import Measured, Patience, run_rounds
from .rows import make_limit_rows, make_rows, ratios
from .shapes import make_checkpoint
from .tables import SPEED, Column, ratio_table, table
from .texts import generate_texts, make_text, read_corpus, write_texts


@dataclass(frozen=True)
class Session:
    """How the benchmarks are run.

    shape (str): A size of fresh encoders.
    device (str): "cpu", "cuda" or "mps".
    threads (int): Of every library.
    patience (Patience): How long a point is measured.
    quick (bool): Whether to try the runner instead of measuring.
    anyway (bool): Whether to time what means nothing on this machine.
    only (Tuple[str, ...]): Patterns of the names of peers; empty for all.
    tokenizer (Optional[Path]): A folder with a tokenizer; None learns one.
    corpora (Path): A folder with archives of LitBank and CRAFT.
    store (Path): Where checkpoints and exports are put.
    output (Path): Where results are written.
    """

    shape: str
    device: str
    threads: int
    patience: Patience
    quick: bool
    anyway: bool
    only: Tuple[str, ...]
    tokenizer: Optional[Path]
    corpora: Path
    store: Path
    output: Path

    def start_results(self, part: str, title: str, **settings: Any) -> Results:
        """RETURNS (Results): With nothing in them yet."""
        shared = {
            "shape": self.shape,
            "device": self.device,
            "threads": self.threads,
            "repeats": self.patience.repeats,
        }
        if self.quick:
            shared["quick"] = True
        return Results(part, title, {**shared, **settings})

    def add(self, results: Results, section: Section) -> None:
        """Add a workload to the results, and write what there is of them: a run that is
        cut off keeps what it has measured.
        """
        results.sections.append(section)
        msg.good(f"Wrote {results.write(self.output)}")

    def checkpoint(self) -> Tuple[Path, ModernBertConfig]:
        """RETURNS (Tuple[Path, ModernBertConfig]): The checkpoint of the shape, made if
        it is not there. Of each tokenizer that was given there is one.
        """
        folder = self.store / self._name_checkpoint()
        if folder.is_dir():
            return folder, load_config(folder)
        msg.text(f"Making a checkpoint of shape {self.shape}")
        texts: Sequence[str] = ()
        if self.tokenizer is None:
            texts = (
                read_corpus("litbank", self.corpora, 20)
                if self._learns_from_litbank
                else generate_texts()
            )
        return folder, make_checkpoint(self.shape, folder, self.tokenizer, texts)

    @property
    def _learns_from_litbank(self) -> bool:
        """RETURNS (bool): Whether a tokenizer is learned from LitBank, or else from
        generated sentences.
        """
        return any(self.corpora.glob("litbank*")) and not self.quick

    def _name_checkpoint(self) -> str:
        if self.tokenizer is None:
            source = "litbank" if self._learns_from_litbank else "generated"
            return f"{self.shape}-{source}"
        digest = sha256((self.tokenizer / TOKENIZER).read_bytes()).hexdigest()
        return f"{self.shape}-{digest[:8]}"

    def made_texts(self, lengths: Sequence[int]) -> Path:
        """RETURNS (Path): A file with a text of each length, in wordpieces."""
        folder, _ = self.checkpoint()
        texts = [
            make_text(folder / TOKENIZER, length, seed)
            for seed, length in enumerate(lengths)
        ]
        name = f"texts-{len(lengths)}-{sum(lengths)}.json"
        return write_texts(self.store / name, texts)

    def corpus_texts(self, corpus: str, n_documents: Optional[int]) -> Tuple[str, Path]:
        """Take the texts of a corpus.

        corpus (str): "litbank" or "craft".
        n_documents (Optional[int]): How many to take; None for all.
        RETURNS (Tuple[str, Path]): A title, and a file with the texts.
        """
        texts = read_corpus(corpus, self.corpora, n_documents)
        path = write_texts(self.store / f"{corpus}-{len(texts)}.json", texts)
        return f"{corpus}, {len(texts)} documents", path

    def measure(
        self,
        job: str,
        title: str,
        peers: Sequence[Peer],
        folder: Path,
        work: Mapping[str, Any],
        *,
        flops: Optional[int] = None,
        limit_rows: int = 0,
        reference: Optional[Peer] = None,
        columns: Sequence[Column] = SPEED,
        refuse: bool = True,
    ) -> Section:
        """Measure a workload.

        job (str): What a pass does: the name of a module in `jobs`.
        title (str): What the workload is called.
        peers (Sequence[Peer]): Who does it.
        folder (Path): The checkpoint.
        work (Mapping[str, Any]): What the job is done to.
        flops (Optional[int]): The floating-point operations that it needs.
        limit_rows (int): The rows of the matrix products to compare it with; 0 for
            none.
        reference (Optional[Peer]): Whose vectors are right; None compares none.
        columns (Sequence[Column]): Of the table.
        refuse (bool): Whether who computes other vectors than the reference is left
            out.
        RETURNS (Section): The workload, with its tables.
        """
        msg.divider(title)
        known = {peer.name: peer for peer in peers}
        peers = select(list(known.values()), self.only)
        if not peers:
            msg.warn(f"--peers names none of these: {', '.join(known)}")
        unfit = {
            peer.name: Measured(self._point(job, peer, folder, work), why_not=why_not)
            for peer in peers
            if (why_not := why_not_timed(peer, self.shape)) and not self.anyway
        }
        fit = [peer for peer in peers if peer.name not in unfit]
        if reference in fit:  # it goes first
            fit = [reference, *(peer for peer in fit if peer != reference)]
        limits = list_limits(fit, self.device) if limit_rows else []
        points = [self._point(job, peer, folder, work) for peer in fit]
        wanted = {"rows": limit_rows, "share": 0.02 if self.quick else 1.0}
        products = [self._point("matrices", limit, folder, wanted) for limit in limits]
        measured = run_rounds(
            [*points, *products],
            self.patience,
            msg.text,
            self._point(job, reference, folder, work) if reference and fit else None,
            refuse=refuse,
        )
        by_name = {**unfit, **{row.point.peer.name: row for row in measured}}
        ordered = [by_name[peer.name] for peer in peers]
        found_limits = measured[len(points) :]
        section = Section(
            title,
            rows=make_rows(title, ordered, flops, found_limits),
            limits=make_limit_rows(title, found_limits),
            ratios=ratios(ordered),
        )
        section.text = describe(section, columns)
        print(f"\n{section.text}\n")
        return section

    def _point(
        self, job: str, peer: Peer, folder: Path, work: Mapping[str, Any]
    ) -> Point:
        return Point(job, peer, str(folder), work, self.threads)


def describe(section: Section, columns: Sequence[Column]) -> str:
    """RETURNS (str): The tables of a workload."""
    parts = [table(section.rows, columns)]
    if section.limits:
        parts.append(table(section.limits, columns))
    parts.append(ratio_table(section.ratios))
    return "\n\n".join(filter(None, parts))


@contextmanager
def temporary_store(given: Optional[Path]) -> Iterator[Path]:
    """A folder for checkpoints: one that was given and stays, or one that goes."""
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        yield Path(folder)
