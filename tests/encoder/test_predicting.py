"""Graphs that are compiled for a number of threads."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from spacy_modernbert.encoder.predicting import PerProcess


@pytest.fixture
def made():
    return []


@pytest.fixture
def get(made):
    graph = PerProcess()

    def make(n_threads):
        made.append(n_threads)
        return f"for {n_threads}"

    return lambda n_threads: graph.get(n_threads, make)


def test_made_again_for_another_number(get, made):
    assert [get(n) for n in (2, 2, 1, 1, 2)] == [f"for {n}" for n in (2, 2, 1, 1, 2)]
    assert made == [2, 1, 2]


def test_threads_that_differ_for_good(get, made):
    """As those of OpenMP do. The last change counts, and nothing is made in turn."""
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(get, 2).result() == "for 2"
        for _ in range(3):
            assert get(1) == pool.submit(get, 2).result() == "for 1"
        assert made == [2, 1]
        assert pool.submit(get, 4).result() == get(1) == "for 4"
        assert made == [2, 1, 4]
