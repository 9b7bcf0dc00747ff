import pytest

from spacy_modernbert.atomic import replacing, write_text


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "new" / "a.txt"
    write_text(path, "été")
    assert path.read_bytes() == "été".encode()
    with replacing(path) as fresh:
        fresh.write_text("other")
        assert path.read_bytes() == "été".encode()
    assert path.read_text() == "other"
    assert list(path.parent.iterdir()) == [path]


def test_or_not_at_all(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "before")
    with pytest.raises(OSError, match="full"), replacing(path) as fresh:
        fresh.write_text("hal")
        raise OSError("full")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
