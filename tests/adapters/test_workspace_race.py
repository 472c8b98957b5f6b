"""The path guard in a race: whoever swaps a directory for a link meanwhile wins nothing."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

import pytest

from conclave.adapters.workspace import descriptors
from conclave.adapters.workspace.listing import list_tree
from conclave.errors import ConclaveError
from tests.adapters.yard import LIMIT, SECRET, Yard

TRIES = 10_000


@contextmanager
def swapping(yard: Yard) -> Generator[Callable[[], int]]:
    """Swap `mine` between a directory and a link to the outside, as fast as it goes."""
    stop = threading.Event()
    swaps = 0
    inside, link = yard.home / "inside", yard.home / "link"
    (inside / "sub").mkdir(parents=True)
    link.symlink_to(yard.outside)
    here = yard.root / "mine"
    inside.rename(here)

    def swap() -> None:
        nonlocal swaps
        exchanged = descriptors._LIBC.renameat2
        root, home = os.open(yard.root, os.O_RDONLY), os.open(yard.home, os.O_RDONLY)
        while not stop.is_set():
            # RENAME_EXCHANGE: there is always one or the other, never nothing.
            assert exchanged(root, b"mine", home, b"link", 2) == 0
            swaps += 1
            if swaps % 50 == 0:
                time.sleep(0)  # waits for nothing: it lets the other thread have its turn
        os.close(root)
        os.close(home)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield lambda: swaps
    finally:
        stop.set()
        thread.join()


def race(yard: Yard, operation: Callable[[int], object]) -> tuple[int, int]:
    """Try an operation 10,000 times against the swaps; count what passed and what was refused."""
    passed = refused = 0
    with swapping(yard) as swaps:
        for n in range(TRIES):
            try:
                operation(n)
                passed += 1
            except ConclaveError:
                refused += 1
        assert swaps() > 100
    yard.assert_outside_is_whole()
    return passed, refused


@pytest.mark.parametrize("path", ["mine/file", "mine/sub/file"])
def test_reads_against_a_swapping_directory_never_read_outside(yard: Yard, path: str):
    def read(n: int) -> None:
        if n % 2:
            list_tree(yard.tree, "", recursive=True, limit=20)
        assert yard.tree.read(path, limit=LIMIT).data != SECRET

    passed, refused = race(yard, read)
    assert passed == 0  # there is no such file inside
    assert refused == TRIES


def test_writes_against_a_swapping_directory_never_write_outside(yard: Yard):
    def write(n: int) -> None:
        yard.tree.write(("mine/file", "mine/sub/file")[n % 2], b"mine", limit=LIMIT)

    passed, refused = race(yard, write)
    assert passed > 0
    assert refused > 0


def test_deletes_against_a_swapping_directory_never_delete_outside(yard: Yard):
    def delete(n: int) -> None:
        if n % 2:
            yard.tree.write("mine/sub/file", b"mine", limit=LIMIT)
        path, recursive = (("mine/sub/file", False), ("mine/sub", True))[n // 2 % 2]
        yard.tree.delete(path, recursive=recursive)

    passed, refused = race(yard, delete)
    assert passed > 0
    assert refused > 0


def test_renames_against_a_swapping_directory_never_move_outside(yard: Yard):
    yard.tree.write("here", b"mine", limit=LIMIT)

    def rename(n: int) -> None:
        pairs = [("here", "mine/here"), ("mine/here", "here"), ("mine/sub", "mine/bus")]
        source, target = pairs[n % 3]
        if n % 6 > 2 and n % 3 == 2:
            source, target = target, source
        yard.tree.rename(source, target)

    passed, refused = race(yard, rename)
    assert passed > 0
    assert refused > 0
