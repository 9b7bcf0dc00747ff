import io
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from spacy_modernbert.corpora.files import content, decode, load_files

PATTERNS = ("ids/train.txt", "txt/*.txt")
FILES = {"ids/train.txt": b"1\n2\n", "txt/1.txt": b"one", "txt/2.txt": b"two\r\n"}
OTHERS = {
    "txt/1.copyright": b"",
    "txt/old/3.txt": b"deeper",
    "other/txt/4.txt": b"elsewhere",
    "README.md": b"",
}


def make_folder(root: Path, below: str = "") -> Path:
    for path, data in {**FILES, **OTHERS}.items():
        target = root / below / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return root


def make_archive(path: Path, mode: str, below: str = "") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in {**FILES, **OTHERS}.items():
            member = tarfile.TarInfo(below + name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize("below", ["", "litbank-3e50db0"])
def test_folder(tmp_path, below):
    assert load_files(make_folder(tmp_path, below), PATTERNS) == FILES


@pytest.mark.parametrize("below", ["", "./", "litbank-3e50db0/"])
@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
def test_archive(tmp_path, mode, below):
    # The name says nothing about the packing
    archive = make_archive(tmp_path / "corpus.tar.gz", mode, below)
    assert load_files(archive, PATTERNS) == FILES
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.tar.gz"]


def test_archive_with_hostile_members(tmp_path):
    path = tmp_path / "corpus.tar"
    with tarfile.open(path, "w") as archive:
        for name, kind in [
            ("txt/1.txt", tarfile.SYMTYPE),
            ("txt/2.txt", tarfile.CHRTYPE),
            ("txt/3.txt", tarfile.DIRTYPE),
        ]:
            member = tarfile.TarInfo(name)
            member.type = kind
            member.linkname = "/etc/passwd"
            archive.addfile(member)
        for name in ("../txt/4.txt", "/txt/5.txt", "ids/train.txt", "txt/6.txt"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    assert load_files(path, PATTERNS) == {"ids/train.txt": b"", "txt/6.txt": b""}
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.tar"]


@pytest.mark.parametrize("way", ["file", "folder", "device"])
def test_folder_with_links_out_of_it(tmp_path, way):
    """They could lead to what is private, or without end."""
    folder = make_folder(tmp_path / "corpus")
    other = make_folder(tmp_path / "other")
    if way == "file":
        (folder / "txt" / "1.txt").unlink()
        (folder / "txt" / "1.txt").symlink_to(other / "txt" / "1.txt")
    elif way == "folder":
        shutil.rmtree(folder / "txt")
        (folder / "txt").symlink_to(other / "txt", target_is_directory=True)
    else:
        (folder / "txt" / "3.txt").symlink_to(os.devnull)
    with pytest.raises(ValueError, match=r"\.txt leads out of the folder .*corpus"):
        load_files(folder, PATTERNS)


def test_folder_with_links_in_it(tmp_path):
    """And one that is a link itself."""
    folder = make_folder(tmp_path / "corpus")
    (folder / "txt" / "1.txt").rename(folder / "kept")
    (folder / "txt" / "1.txt").symlink_to(Path("..", "kept"))
    (tmp_path / "link").symlink_to(folder, target_is_directory=True)
    assert load_files(tmp_path / "link", PATTERNS) == FILES


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_folder_with_what_is_no_file(tmp_path):
    """Reading a pipe would take for ever."""
    folder = make_folder(tmp_path)
    os.mkfifo(folder / "txt" / "0.txt")
    (folder / "txt" / "3.txt").mkdir()
    assert load_files(folder, PATTERNS) == FILES


def test_archive_with_a_member_that_is_too_large(tmp_path):
    """Packed, zeros take no room."""
    path = tmp_path / "corpus.tar.gz"
    size = 64 * 2**20 + 1
    with tarfile.open(path, "w:gz") as archive, open(tmp_path / "0", "w+b") as zeros:
        zeros.truncate(size)
        member = tarfile.TarInfo("txt/1.txt")
        member.size = size
        archive.addfile(member, zeros)
    with pytest.raises(ValueError, match=r"txt/1\.txt in .* has 67,108,865 bytes"):
        load_files(path, PATTERNS)


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no corpus at .*nowhere"):
        load_files(tmp_path / "nowhere", PATTERNS)


@pytest.mark.parametrize("missing", FILES)
def test_file_missing(tmp_path, missing):
    pattern = "ids/train.txt" if missing.startswith("ids") else "txt/*.txt"
    folder = make_folder(tmp_path)
    for path in folder.glob(pattern):
        path.unlink()
    with pytest.raises(FileNotFoundError, match="no file " + pattern.replace("*", ".")):
        load_files(folder, PATTERNS)


def test_empty_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file ids/train\.txt"):
        load_files(tmp_path, PATTERNS)


@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w:bz2"])
def test_archive_cut_short(tmp_path, mode):
    path = make_archive(tmp_path / "corpus.tar", mode)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"corpus\.tar as a tar archive"):
        load_files(path, PATTERNS)


@pytest.mark.parametrize("data", [b"", b"<html>Not Found</html>"])
def test_no_archive(tmp_path, data):
    path = tmp_path / "corpus.tar.gz"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="as a tar archive"):
        load_files(path, PATTERNS)


def test_text_is_kept_as_it_is():
    text = "\ufeff one\r\ntwo\rthree\x00\u2028 α 𝛼 \n"
    assert decode({"a.txt": text.encode()}, "a.txt") == text


def test_content_missing():
    assert content(FILES, "txt/1.txt") == b"one"
    with pytest.raises(FileNotFoundError, match=r"no file txt/9\.txt"):
        content(FILES, "txt/9.txt")


def test_not_utf8():
    with pytest.raises(ValueError, match=r"a\.txt .* not UTF-8"):
        decode({"a.txt": "é".encode("latin-1")}, "a.txt")
