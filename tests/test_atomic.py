import os
import re

import pytest

from spacy_modernbert.atomic import (
    check_replaceable,
    check_writable,
    replacing,
    replacing_folder,
    write_text,
)


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


def test_a_link_stays_a_link(tmp_path):
    path, link = tmp_path / "a.txt", tmp_path / "link"
    path.write_text("before")
    link.symlink_to(path)
    write_text(link, "after")
    assert link.is_symlink() and path.read_text() == "after"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_what_is_no_file_is_written_to(tmp_path):
    """Such as /dev/stdout, which root could replace by a file."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    check_writable(path)
    write_text(path, "text")
    assert os.read(reader, 9) == b"text" and path.is_fifo()
    os.close(reader)


def test_writable_or_not(tmp_path):
    check_writable(tmp_path / "new" / "a.txt")
    assert list(tmp_path.rglob("*")) == [tmp_path / "new"]
    with pytest.raises(IsADirectoryError, match="new"):
        check_writable(tmp_path / "new")


def test_a_folder_appears_whole(tmp_path):
    folder = tmp_path / "new" / "folder"
    for text in ("first", "second"):
        with replacing_folder(folder, re.compile("a")) as fresh:
            (fresh / "a").write_text(text)
            assert folder.exists() == (text == "second")
        assert (folder / "a").read_text() == text
        # Left there by a file manager: nobody would miss it.
        (folder / ".DS_Store").write_bytes(b"")
    with (
        pytest.raises(OSError, match="full"),
        replacing_folder(folder, re.compile("a")) as fresh,
    ):
        (fresh / "a").write_text("third")
        raise OSError("full")
    assert (folder / "a").read_text() == "second"
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize("name", ["notes.txt", ".git"])
def test_a_folder_with_files_of_others(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with (
        pytest.raises(ValueError, match=re.escape(name)),
        replacing_folder(tmp_path, re.compile("a")),
    ):
        pytest.fail("began")
    with pytest.raises(ValueError, match=re.escape(name)):
        check_replaceable(tmp_path, re.compile("a"))


def test_a_folder_that_can_be_replaced(tmp_path):
    check_replaceable(tmp_path / "new" / "folder", re.compile("a"))
    assert list(tmp_path.rglob("*")) == [tmp_path / "new"]
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="which is a file"):
        check_replaceable(tmp_path / "file", re.compile("a"))
