"""A folder of documents under random changes, for property tests of the index."""

from __future__ import annotations

import os
import textwrap
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path, PurePosixPath

from tests.factories import write

NAMES = ("a.md", "guide/b.md", "guide/c.txt", "Neu ü/it's.md", "guide/deep/d.markdown")
TITLES = ("Lantern", "Harbour")
PARAGRAPHS = (
    "The lantern burns for nine hours on one filling of oil.",
    "A harbour pilot comes aboard two miles before the light.",
    "Orders over fifty crowns are sent without a fee, by the next post that leaves the town in the morning. What comes "
    "in after ten is sent on the day after, and nothing leaves the town on a Sunday or while the ferry is laid up.",
    "| part | price |\n| --- | --- |\n| wick | 2 |\n| glass | 7 |\n| oil, a can of it | 11 |\n| hook for a wall | 3 |",
)
# A wrapped line may begin with a number and a dot without being an item of a list.
WITH_A_YEAR = (
    "Version 4 of the lantern, first sold in spring, reaches the end of its life in May 2031. After that day it gets "
    "no repair. Whoever has it in use by then is asked to write to the office, and to say why that is so"
)
UNREADABLE = (b"", b" \n", b"\x80 no text", b"a\0b")


@dataclass(frozen=True)
class Page:
    """A document: its content, and its line width and line ends, which must not affect the rows."""

    title: str
    paragraphs: tuple[str, ...]
    width: int = 60
    line_end: str = "\n"

    def encode(self, path: str) -> bytes:
        parts = [paragraph if "|" in paragraph else self._wrapped(paragraph) for paragraph in self.paragraphs]
        if not path.lower().endswith(".txt"):
            parts = [f"# {self.title}", *parts[:-1], "## The last part", parts[-1]]
        return ("\n\n".join(parts) + "\n").replace("\n", self.line_end).encode()

    def _wrapped(self, paragraph: str) -> str:
        return textwrap.fill(paragraph, self.width, break_on_hyphens=False, break_long_words=False)


class Folder:
    """Documents on disk. Each change is chosen by two numbers; an impossible one changes nothing."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.pages: dict[str, Page] = {}
        self.unreadable: dict[str, bytes] = {}
        self._earlier: dict[str, list[Page]] = {}
        self._numbers = count(1)
        for number in range(3):
            self._put(NAMES[number], Page(TITLES[number % 2], PARAGRAPHS[number : number + 2]))

    def content(self, path: str) -> bytes:
        return self.unreadable.get(path, self.pages[path].encode(path))

    # Changes that may bring new text.

    def add(self, which: int, what: int) -> None:
        free = [name for name in NAMES if name not in self.pages]
        if free:
            self._put(free[which % len(free)], Page(TITLES[what % 2], (self._text(what), self._text(what + 1))))

    def edit(self, which: int, what: int) -> None:
        path, page = self._pick(which)
        at = what % len(page.paragraphs)
        self._put(path, self._with(page, at, at + 1, self._text(which + what)))

    def insert(self, which: int, what: int) -> None:
        path, page = self._pick(which)
        at = what % len(page.paragraphs)
        self._put(path, self._with(page, at, at, self._text(which + what)))

    def rename_and_edit(self, which: int, what: int) -> None:
        path, _ = self._pick(which)
        self.rename(which, what)
        self.edit(sorted(self.pages).index(path) if path in self.pages else which, what)

    def cut(self, which: int, what: int) -> None:
        path, page = self._pick(which)
        if len(page.paragraphs) > 1:
            at = what % len(page.paragraphs)
            self._put(path, self._with(page, at, at + 1))

    # Changes that bring no new text.

    def delete(self, which: int, what: int) -> None:
        path, _ = self._pick(which)
        if len(self.pages) > 1:
            (self.root / path).unlink()
            self._forget(path)

    def rename(self, which: int, what: int) -> None:
        path, _ = self._pick(which)
        self._move({path: str(PurePosixPath(path).with_stem(f"named {what % 3}"))})

    def move_folder(self, which: int, what: int) -> None:
        path, _ = self._pick(which)
        old, new = PurePosixPath(path).parent, PurePosixPath(("guide", "manual", "Guide/deep")[what % 3])
        moved = [name for name in self.pages if old == PurePosixPath(name).parent]
        self._move({name: str(new / PurePosixPath(name).name) for name in moved})

    def change_case(self, which: int, what: int) -> None:
        path, _ = self._pick(which)
        self._move({path: path.swapcase()})

    def swap(self, which: int, what: int) -> None:
        (first, page), (second, other_page) = self._pick(which), self._pick(what)
        if PurePosixPath(first).suffix == PurePosixPath(second).suffix:
            self._put(first, other_page)
            self._put(second, page)

    def touch(self, which: int, what: int) -> None:
        os.utime(self.root / self._pick(which)[0], (what, what))

    def rewrap(self, which: int, what: int) -> None:
        path, page = self._pick(which)
        self._put(path, replace(page, width=20 + what % 80, line_end=("\n", "\r\n")[what % 2]))

    def revert(self, which: int, what: int) -> None:
        path, _ = self._pick(which)
        self._put(path, self._earlier[path][what % len(self._earlier[path])])

    def spoil(self, which: int, what: int) -> None:
        path, _ = self._pick(which)
        self.unreadable[path] = write(self.root / path, UNREADABLE[what % len(UNREADABLE)]).read_bytes()

    def repair(self, which: int, what: int) -> None:
        if self.unreadable:
            path = sorted(self.unreadable)[which % len(self.unreadable)]
            self._put(path, self.pages[path])

    def repair_all(self) -> None:
        while self.unreadable:
            self.repair(0, 0)

    def _pick(self, which: int) -> tuple[str, Page]:
        return sorted(self.pages.items())[which % len(self.pages)]

    def _text(self, what: int) -> str:
        """A paragraph that other pages may have too, or a new one."""
        usual = PARAGRAPHS[what % len(PARAGRAPHS)]
        return usual if what % 3 else f"Notice {next(self._numbers)}: {usual}".replace(": |", ":\n\n|")

    def _with(self, page: Page, start: int, end: int, *new: str) -> Page:
        return replace(page, paragraphs=(*page.paragraphs[:start], *new, *page.paragraphs[end:]))

    def _put(self, path: str, page: Page) -> None:
        self.unreadable.pop(path, None)
        self.pages[path] = page
        self._earlier.setdefault(path, []).append(page)
        write(self.root / path, page.encode(path))

    def _move(self, names: dict[str, str]) -> None:
        if set(names.values()) & set(self.pages):
            return
        for old, new in names.items():
            page, bad = self.pages[old], self.unreadable.get(old)
            (self.root / new).parent.mkdir(parents=True, exist_ok=True)
            (self.root / old).rename(self.root / new)
            self._forget(old)
            self.pages[new] = page
            self._earlier.setdefault(new, []).append(page)
            if bad is not None:
                self.unreadable[new] = bad

    def _forget(self, path: str) -> None:
        del self.pages[path]
        self.unreadable.pop(path, None)


WITHOUT_NEW_TEXT = (
    "delete",
    "rename",
    "move_folder",
    "change_case",
    "touch",
    "rewrap",
    "revert",
    "spoil",
    "repair",
    "swap",
)
CHANGES = ("add", "edit", "insert", "rename_and_edit", "cut", *WITHOUT_NEW_TEXT)
