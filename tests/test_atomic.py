import errno
import os
import re
import stat
import time
from pathlib import Path

import pytest

from spacy_modernbert import atomic
from spacy_modernbert.atomic import (
    check_outputs,
    check_replaceable,
    check_writable,
    move_files,
    replacing,
    replacing_folder,
    same_place,
    staging,
    write_text,
)

from .util import contents, needs_modes


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


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@needs_modes
@pytest.mark.parametrize("of_file, of_folder", [(0o600, 0o700), (0o664, 0o775)])
def test_who_may_read_it_stays(tmp_path, of_file, of_folder):
    """And nobody else may before it is there."""
    path, folder = tmp_path / "a.txt", tmp_path / "folder"
    write_text(path, "before")
    folder.mkdir()
    path.chmod(of_file)
    folder.chmod(of_folder)
    with replacing(path) as fresh:
        fresh.write_text("after")
        assert mode(fresh) == 0o600
    with replacing_folder(folder, re.compile("a.txt")) as fresh:
        (fresh / "a.txt").write_text("after")
        assert mode(fresh) == 0o700
    assert mode(path) == of_file
    assert mode(folder) == of_folder
    assert path.read_text() == (folder / "a.txt").read_text() == "after"


@needs_modes
def test_what_is_new_is_as_the_system_has_it(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    write_text(tmp_path / "a.txt", "new")
    fill(tmp_path / "out", a="new")
    assert mode(tmp_path / "a.txt") == mode(tmp_path / "file")
    assert mode(tmp_path / "out") == mode(tmp_path / "folder")
    assert mode(tmp_path / "out" / "a.txt") == mode(tmp_path / "file")


@needs_modes
def test_windows_keeps_whom_a_folder_is_made_for(tmp_path, monkeypatch):
    """Python then makes one of the mode 0o700 for its owner alone, and for good."""
    monkeypatch.setattr(atomic, "_IS_WINDOWS", True)
    (tmp_path / "usual").mkdir()
    fill(tmp_path / "out", a="old")
    with replacing_folder(tmp_path / "out", FILES) as fresh:
        assert mode(fresh) == mode(tmp_path / "usual")
    with staging(tmp_path / "out") as fresh:
        assert mode(fresh) == mode(tmp_path / "usual")


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


@pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="needs /dev/fd")
def test_a_pipe_of_the_shell(tmp_path):
    """As `-o /dev/stdout | cat`, or `-o >(cat)`."""
    reader, writer = os.pipe()
    path = Path(f"/dev/fd/{writer}")
    check_writable(path)
    write_text(path, "text")
    assert os.read(reader, 9) == b"text"
    os.close(reader)
    os.close(writer)


def test_writable_or_not(tmp_path):
    check_writable(tmp_path / "new" / "a.txt")
    assert list(tmp_path.rglob("*")) == [tmp_path / "new"]
    with pytest.raises(IsADirectoryError, match="new"):
        check_writable(tmp_path / "new")


def test_outputs_that_are_something_else_too(tmp_path):
    a, b = tmp_path / "a", tmp_path / "new" / ".." / "a"
    check_outputs([a, None], [None, tmp_path / "b"])
    for outputs, inputs in (([a], [b]), ([a, b], [])):
        with pytest.raises(ValueError, match="a is used for more"):
            check_outputs(outputs, inputs)
    null = Path(os.devnull)
    check_outputs([null, null], [null])


def test_one_place_by_two_names(tmp_path):
    a, b, c = (tmp_path / name for name in "abc")
    a.write_text("text", encoding="utf8")
    # As a disk has it that takes `A` for `a`.
    os.link(a, b)
    assert same_place(a, b)
    assert not same_place(a, c)
    assert same_place(c, tmp_path / "new" / ".." / "c")
    with pytest.raises(ValueError, match="b is used for more"):
        check_outputs([b], [a])


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


def test_some_files_of_a_folder(tmp_path):
    folder = tmp_path / "out"
    with staging(folder) as fresh:
        (fresh / "a.txt").write_text("before")
        (fresh / "b.txt").write_text("stays")
        move_files(fresh, folder)
    (tmp_path / "linked.txt").touch()
    (folder / "c.txt").symlink_to(tmp_path / "linked.txt")
    with pytest.raises(OSError, match="full"), staging(folder) as fresh:
        (fresh / "a.txt").write_text("hal")
        raise OSError("full")
    assert (folder / "a.txt").read_text() == "before"
    with staging(folder) as fresh:
        (fresh / "a.txt").write_text("after")
        (fresh / "c.txt").write_text("of a link")
        (fresh / "d").mkdir()
        (fresh / "d" / "e.txt").write_text("new")
        assert (folder / "a.txt").read_text() == "before"
        move_files(fresh, folder)
    assert (tmp_path / "linked.txt").read_text() == "of a link"
    (folder / "c.txt").unlink()
    assert contents(folder) == {
        "a.txt": b"after",
        "b.txt": b"stays",
        "d/e.txt": b"new",
    }


def test_a_folder_that_can_be_replaced(tmp_path):
    check_replaceable(tmp_path / "new" / "folder", re.compile("a"))
    assert list(tmp_path.rglob("*")) == [tmp_path / "new"]
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="which is a file"):
        check_replaceable(tmp_path / "file", re.compile("a"))


FILES = re.compile(r"[abc]\.txt|d")


def fill(folder, **texts):
    with replacing_folder(folder, FILES) as fresh:
        for name, text in texts.items():
            (fresh / f"{name}.txt").write_text(text)
        (fresh / "d").mkdir()
        (fresh / "d" / "e").write_text("e")


def refuse(monkeypatch, number, path):
    """Let something not be renamed, nor anything into it."""

    def guard(rename):
        def guarded(source, target):
            within = [path in Path(each).parents for each in (source, target)]
            if path in (Path(source), Path(target)) or within[0] != within[1]:
                raise OSError(number, os.strerror(number))
            rename(source, target)

        return guarded

    monkeypatch.setattr(os, "rename", guard(os.rename))
    monkeypatch.setattr(os, "replace", guard(os.replace))


@pytest.mark.parametrize(
    ("is_mount", "number"),
    [(True, errno.EBUSY), (False, errno.EBUSY), (False, errno.EXDEV)],
)
def test_a_folder_that_cannot_be_renamed(tmp_path, monkeypatch, is_mount, number):
    """A mount point, beside which nothing can be written; one of the same file system,
    which is not told from a folder; or a folder of a lower layer of a container.
    """
    folder = tmp_path / "out"
    fill(folder, a="old", b="old")
    (folder / ".DS_Store").touch()
    (folder / "lost+found").mkdir()
    if is_mount:
        monkeypatch.setattr(os.path, "ismount", lambda path: path == folder)
        monkeypatch.setattr(os, "access", lambda path, mode: path == folder)
    refuse(monkeypatch, number, folder)
    check_replaceable(folder, FILES)
    with pytest.raises(OSError, match="full"), replacing_folder(folder, FILES) as fresh:
        assert fresh.parent == (folder if is_mount else tmp_path)
        (fresh / "a.txt").write_text("half")
        raise OSError("full")
    old = {"a.txt": b"old", "b.txt": b"old", "d/e": b"e", ".DS_Store": b""}
    assert contents(folder) == old
    fill(folder, a="new", c="new")
    new = {"a.txt": b"new", "c.txt": b"new", "d/e": b"e", ".DS_Store": b""}
    assert contents(folder) == new
    folders = [path for path in tmp_path.rglob("*") if path.is_dir()]
    assert sorted(folders) == [folder, folder / "d", folder / "lost+found"]


@needs_modes
@pytest.mark.parametrize("way", ["renamed", "copied", "moved up"])
def test_who_may_read_the_files_of_a_folder_stays(tmp_path, monkeypatch, way):
    folder = tmp_path / "out"
    fill(folder, a="old", b="old")
    modes = {"a.txt": 0o600, "b.txt": 0o640, "d": 0o700, "d/e": 0o604}
    for name, wanted in modes.items():
        (folder / name).chmod(wanted)
    if way == "copied":
        refuse(monkeypatch, errno.EBUSY, folder)
    if way == "moved up":
        monkeypatch.chdir(folder)
    fill(folder, a="new", b="new", c="new")
    assert (folder / "a.txt").read_text() == "new"
    assert {name: mode(folder / name) for name in modes} == modes
    (tmp_path / "other").touch()
    assert mode(folder / "c.txt") == mode(tmp_path / "other")


def before_it_is_there(monkeypatch, folder, act):
    """Let something happen, once, where a fresh folder is about to take its place."""
    rename = os.rename

    def act_and_rename(source, target):
        if Path(target) == folder:
            monkeypatch.setattr(os, "rename", rename)
            act()
        rename(source, target)

    monkeypatch.setattr(os, "rename", act_and_rename)


def test_another_process_that_saves_to_the_same_folder(tmp_path, monkeypatch):
    """Which is told of, and not what could not be put back."""
    folder = tmp_path / "out"
    fill(folder, a="old")
    before_it_is_there(monkeypatch, folder, lambda: fill(folder, a="another's"))
    with pytest.raises(OSError, match=r"\.out\..*\.tmp' -> "):
        fill(folder, a="new")
    assert (folder / "a.txt").read_text() == "another's"


def test_what_is_interrupted_is_put_back(tmp_path, monkeypatch):
    folder = tmp_path / "out"
    fill(folder, a="old")

    def interrupt():
        raise KeyboardInterrupt

    before_it_is_there(monkeypatch, folder, interrupt)
    with pytest.raises(KeyboardInterrupt):
        fill(folder, a="new")
    assert contents(folder) == {"a.txt": b"old", "d/e": b"e"}
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("within", ["out", "out/d"])
def test_the_current_folder_stays(tmp_path, monkeypatch, within):
    """Else the shell that started this would stand in a folder that is gone."""
    folder = tmp_path / "out"
    fill(folder, a="old")
    monkeypatch.chdir(tmp_path / within)
    number = folder.stat().st_ino
    fill(folder, b="new")
    assert folder.stat().st_ino == number
    assert contents(folder) == {"b.txt": b"new", "d/e": b"e"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_current_folder_that_is_gone(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for name in ("a", "b"):
        fill(tmp_path / "out", **{name: "text"})
        assert contents(tmp_path / "out") == {f"{name}.txt": b"text", "d/e": b"e"}


def test_a_folder_in_one_that_may_not_be_written(tmp_path, monkeypatch):
    """As one's own among those of others."""
    folder = tmp_path / "out"
    fill(folder, a="old")
    monkeypatch.setattr(os, "access", lambda path, mode: path == folder)
    check_replaceable(folder, FILES)
    with replacing_folder(folder, FILES) as fresh:
        assert fresh.parent == folder
        (fresh / "b.txt").write_text("new")
    assert contents(folder) == {"b.txt": b"new"}


def test_windows_tries_whether_a_folder_may_be_written(tmp_path, monkeypatch):
    """`os.access` says so of all."""
    mine, anothers = tmp_path / "mine", tmp_path / "anothers"
    fill(anothers / "out", a="old")
    touch = Path.touch

    def refuse(path, *args, **options):
        if path.parent == anothers:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        touch(path, *args, **options)

    monkeypatch.setattr(atomic, "_IS_WINDOWS", True)
    monkeypatch.setattr(os, "access", lambda path, mode: True)
    monkeypatch.setattr(Path, "touch", refuse)
    check_writable(mine / "a.txt")
    check_replaceable(mine / "out", FILES)
    for check in (check_writable, lambda path: check_replaceable(path, FILES)):
        with pytest.raises(PermissionError, match="new"):
            check(anothers / "new")
    # It is filled within itself.
    check_replaceable(anothers / "out", FILES)
    with replacing_folder(anothers / "out", FILES) as fresh:
        assert fresh.parent == anothers / "out"
    assert {*tmp_path.rglob("*")} == {mine, anothers, anothers / "out"}


def test_a_file_that_cannot_be_renamed(tmp_path, monkeypatch):
    """As one that is mounted by itself."""
    path = tmp_path / "a.txt"
    write_text(path, "before")
    refuse(monkeypatch, errno.EBUSY, path)
    write_text(path, "after")
    assert path.read_text() == "after" and list(tmp_path.iterdir()) == [path]


def test_a_disk_that_is_full_is_told_of(tmp_path, monkeypatch):
    """What cannot be renamed for another reason is not copied either."""
    path, folder = tmp_path / "a.txt", tmp_path / "out"
    write_text(path, "before")
    fill(folder, a="before")
    for place in (path, folder):
        refuse(monkeypatch, errno.ENOSPC, place)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        write_text(path, "after")
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        fill(folder, a="after")
    assert path.read_text() == (folder / "a.txt").read_text() == "before"
    assert sorted(tmp_path.iterdir()) == [path, folder]


def test_what_was_left_by_a_process_that_was_killed(tmp_path, monkeypatch):
    fill(tmp_path / "out", a="a")
    left = [".out.01234567.tmp", ".out.89abcdef.old"]
    for name in (*left, ".output.01234567.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").touch()
    # Somebody may still write to it.
    fill(tmp_path / "out", a="b")
    assert all((tmp_path / name).is_dir() for name in left)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 100_000)
    # Until there is a new one, they may be all that there is.
    with (
        pytest.raises(OSError, match="full"),
        replacing_folder(tmp_path / "out", FILES),
    ):
        raise OSError("full")
    assert all((tmp_path / name).is_dir() for name in left)
    fill(tmp_path / "out", a="c")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"out", ".output.01234567.tmp"}


def test_files_left_by_a_process_that_was_killed(tmp_path, monkeypatch):
    """Each may be as large as the file that it was to replace."""
    left, anothers = tmp_path / ".a.txt.01234567.tmp", tmp_path / ".b.txt.01234567.tmp"
    for path in (left, anothers):
        path.touch()
    # Somebody may still write to it.
    write_text(tmp_path / "a.txt", "one")
    assert left.is_file()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 100_000)
    write_text(tmp_path / "a.txt", "two")
    assert {*tmp_path.iterdir()} == {tmp_path / "a.txt", anothers}


def hold(monkeypatch, n_times):
    """Let what is renamed be open elsewhere for a while, as on Windows by a scanner.

    RETURNS (List[float]): The seconds that were waited, to be filled.
    """
    waited = []

    def guard(rename):
        def guarded(source, target):
            if len(waited) < n_times:
                raise PermissionError(errno.EACCES, "in use by another process")
            rename(source, target)

        return guarded

    monkeypatch.setattr(time, "sleep", waited.append)
    monkeypatch.setattr(os, "rename", guard(os.rename))
    monkeypatch.setattr(os, "replace", guard(os.replace))
    return waited


@pytest.mark.parametrize("way", ["file", "folder", "moved up"])
def test_windows_does_not_rename_what_is_open(tmp_path, monkeypatch, way):
    folder = tmp_path / "out"
    fill(folder, a="old")
    if way == "moved up":
        monkeypatch.chdir(folder)
    monkeypatch.setattr(atomic, "_IS_WINDOWS", True)
    waited = hold(monkeypatch, 3)
    if way == "file":
        write_text(folder / "a.txt", "new")
    else:
        fill(folder, a="new")
    assert (folder / "a.txt").read_text() == "new"
    assert waited == [0.1, 0.2, 0.3]


@pytest.mark.parametrize("is_windows", [True, False])
def test_what_stays_open_is_told_of(tmp_path, monkeypatch, is_windows):
    write_text(tmp_path / "a.txt", "old")
    monkeypatch.setattr(atomic, "_IS_WINDOWS", is_windows)
    waited = hold(monkeypatch, 1000)
    with pytest.raises(PermissionError, match="in use"):
        write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert 5 < sum(waited) < 15 if is_windows else not waited
