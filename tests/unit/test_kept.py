"""What the tests fetch or build for themselves is made once, and is whole when it is there."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.peers import collector_build, kept, prometheus_package
from tests.peers.kept import NotHad, keep, run


def test_what_is_kept_is_made_once(tmp_path: Path) -> None:
    """A second call finds what the first has made, and makes nothing."""
    made: list[Path] = []

    def make(into: Path) -> None:
        made.append(into)
        (into / "program").write_text("whole")

    assert [keep(tmp_path / "place", make) for _ in range(2)] == [True, False]
    assert len(made) == 1
    assert (tmp_path / "place" / "program").read_text() == "whole"


def test_what_is_made_in_part_is_not_there(tmp_path: Path) -> None:
    """While it is made, and after making it has failed, there is nothing under the name, and what was made is gone."""
    place = tmp_path / "place"

    def fail(into: Path) -> None:
        (into / "program").write_text("half")
        assert not place.exists()
        raise NotHad("no network")

    with pytest.raises(NotHad, match="no network"):
        keep(place, fail)
    assert [found.name for found in tmp_path.iterdir()] == [".place.lock"]


def test_what_a_killed_run_has_left_is_removed(tmp_path: Path) -> None:
    """The next run removes the unfinished folder of one that was killed."""
    left = tmp_path / ".place-killed"
    left.mkdir()
    keep(tmp_path / "place", lambda _: None)

    assert not left.exists()


def test_runs_at_once_make_it_once(tmp_path: Path) -> None:
    """Of two runs at once one makes it, the other waits and finds it."""
    inside, go_on = threading.Event(), threading.Event()
    made: list[bool] = []

    def make(_: Path) -> None:
        inside.set()
        assert go_on.wait(10)

    def both() -> None:
        made.append(keep(tmp_path / "place", make))

    threads = [threading.Thread(target=both) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert inside.wait(10)
    go_on.set()
    for thread in threads:
        thread.join()

    assert sorted(made) == [False, True]


def test_a_command_that_fails_is_told_in_one_line(tmp_path: Path) -> None:
    """The error has the command's status and its last line; one that does not exist is named."""
    log = tmp_path / "log"
    command = [sys.executable, "-c", "print('first'); print('no route to host'); raise SystemExit(3)"]
    with pytest.raises(NotHad, match=r"ended with 3 \(fetching\): no route to host$"):
        run(command, log, tmp_path, "fetching")
    with pytest.raises(NotHad, match=r"^no-such-command is not installed$"):
        run(["no-such-command"], log, tmp_path, "fetching")


@pytest.mark.parametrize("module", [collector_build, prometheus_package])
def test_without_the_tools_there_is_one_line_and_a_status(module: object, tmp_path: Path) -> None:
    """Where neither Go nor apt-get is in the path, the program says so in one line and ends with 1."""
    name = module.__name__  # type: ignore[attr-defined]
    done = subprocess.run(
        [sys.executable, "-m", name],
        env={"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)},
        cwd=Path(kept.__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("make ")
