"""A file is whole or as it was before, whatever happens while it is written; a place is checked before the work."""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from accelsim import files
from accelsim.errors import WriteError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fail(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def test_a_file_is_written_with_the_permissions_that_it_had_or_the_umask_gives(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        files.write(tmp_path / "new", b"one")
        files.write(tmp_path / "old", b"one")
        (tmp_path / "old").chmod(0o604)
        files.write(tmp_path / "old", "two ü\ud800")
    finally:
        os.umask(before)
    assert (tmp_path / "new").read_bytes() == b"one"
    assert (tmp_path / "old").read_bytes() == "two ü\\ud800".encode()
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "old").stat().st_mode) == 0o604
    assert names(tmp_path) == ["new", "old"]


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
@pytest.mark.parametrize("error", [fail(errno.ENOSPC), KeyboardInterrupt()], ids=["full", "interrupt"])
def test_a_failure_at_any_step_leaves_the_old_file(
    step: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "a"
    old.write_bytes(b"old")

    def raises(*_: object) -> None:
        raise error

    if step == "write":
        monkeypatch.setattr(files, "_fill", raises)
    else:
        monkeypatch.setattr(os, step, raises)
    with pytest.raises((WriteError, KeyboardInterrupt)) as raised:
        files.write(old, b"new")
    if isinstance(error, OSError):
        assert str(raised.value).startswith(f"{old}: cannot be written (no space left on device); make room")
    assert old.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_files_that_belong_together_are_replaced_together(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")

    def half() -> None:
        with files.replacing() as put:
            put(tmp_path / "a", b"new")
            assert (tmp_path / "a").read_bytes() == b"old"
            put(tmp_path / "absent" / "b", b"new")

    with pytest.raises(WriteError, match="no folder"):
        half()
    assert (tmp_path / "a").read_bytes() == b"old"
    with files.replacing() as put:
        put(tmp_path / "a", b"new")
        put(tmp_path / "b", b"new")
        assert not (tmp_path / "b").exists()
    assert [(tmp_path / name).read_bytes() for name in names(tmp_path)] == [b"new", b"new"]


def test_a_link_stays_a_link_and_what_it_points_at_is_written(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/next")
    (tmp_path / "folder" / "next").symlink_to("file")
    files.write(tmp_path / "link", b"one")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder" / "next").is_symlink()
    assert (tmp_path / "folder" / "file").read_bytes() == b"one"
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(WriteError, match="circle"):
        files.write(tmp_path / "round", b"one")


def test_pipes_devices_and_open_files_are_written_directly(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    files.write(tmp_path / "pipe", b"through")
    reader.join()
    assert read == [b"through"]
    files.write("/dev/null", b"nowhere")
    with (tmp_path / "open").open("wb") as file:
        files.write(f"/dev/fd/{file.fileno()}", b"here")
        assert os.stat(tmp_path / "open").st_ino == os.fstat(file.fileno()).st_ino
    assert (tmp_path / "open").read_bytes() == b"here"
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_a_full_device_is_named() -> None:
    with pytest.raises(WriteError, match=r"/dev/full: cannot be written \(no space left on device\); make room"):
        files.write("/dev/full", b"x")


@pytest.fixture
def places(tmp_path: Path) -> Path:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to("absent/x")
    return tmp_path


WRONG = {
    "folder": "it is a folder",
    "absent/x": "there is no folder",
    "file/x": "a part of the path is a file",
    "x" * 300: "give a shorter name",
    "nul\0": "cannot be the name of a file",
    "half\ud800": "cannot be the name of a file",
    "dangling": "there is no folder",
}


@pytest.mark.parametrize("name", WRONG, ids=lambda name: name[:8].encode("unicode_escape").decode())
def test_what_cannot_be_written_is_said_before_and_when_it_is_written(name: str, places: Path) -> None:
    before = names(places)
    for attempt in (lambda path: files.check_writable(path), lambda path: files.write(path, b"x")):
        with pytest.raises(WriteError, match=WRONG[name]) as raised:
            attempt(f"{places}/{name}")
        assert str(raised.value).isprintable()
        assert names(places) == before


def test_what_can_be_written_passes_and_is_left_alone(places: Path) -> None:
    (places / "file").write_bytes(b"old")
    for name in ("file", "free", "folder/free"):
        files.check_writable(places / name)
    files.check_writable(places / "new" / "newer" / "free", make_folders=True)
    files.check_folder(places / "folder")
    files.check_folder(places / "new" / "newer")
    files.check_writable("/dev/null")
    assert names(places) == ["dangling", "file", "folder"]
    assert (places / "file").read_bytes() == b"old"
    with pytest.raises(WriteError, match="no folder"):
        files.check_folder(places / "file")
    with pytest.raises(WriteError, match="a part of the path"):
        files.check_writable(places / "file" / "new" / "x", make_folders=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_permissions_are_asked_for_before_the_work(places: Path) -> None:
    (places / "file").chmod(0o444)
    (places / "folder").chmod(0o555)
    for name in ("file", "folder/x"):
        with pytest.raises(WriteError, match="permission"):
            files.check_writable(places / name)
