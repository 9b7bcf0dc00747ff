from benchmarks.markdown import make_table


def test_words_at_the_left_and_numbers_at_the_right() -> None:
    assert make_table(
        ["", "n", "why"], [["a", "1", ""], ["b", "", "late"]], (0, 2)
    ) == [
        "| | n | why |",
        "| --- | ---: | --- |",
        "| a | 1 | |",
        "| b | | late |",
    ]
