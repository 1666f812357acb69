"""Texts to start with: those that come with charlm, and well-known ones to download, which are checked by SHA-256.

Sizes and hashes are those of the files as published. A text in several parts is joined in the order training,
validation, test, so that its held-out end is what its authors held out.
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
import zipfile
from collections.abc import Generator, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple
from urllib.request import Request, urlopen

from charlm.errors import CorpusError
from charlm.files import shipped, writing
from charlm.progress import Progress

PIECE = 1 << 18  # bytes read at a time


class Part(NamedTuple):
    """One published file: its name on disk, its address, and its size and hash."""

    file: str
    url: str
    bytes: int
    sha256: str


class Entry(NamedTuple):
    """A text that can be downloaded; `text` is the name of the file to train on, which `fetch` makes."""

    name: str
    description: str
    licence: str
    text: str
    parts: tuple[Part, ...]
    unpack: Literal["none", "zip", "pairs"] = "none"  # pairs: two .gz files become two columns
    members: tuple[str, ...] = ()  # files in the zip, in the order in which they are joined

    @property
    def bytes(self) -> int:
        """Size of the download."""
        return sum(part.bytes for part in self.parts)


class Bundled(NamedTuple):
    """A text that comes with charlm."""

    name: str
    description: str
    path: Path


def bundled() -> list[Bundled]:
    """The texts in `corpora/`."""
    folder = shipped("corpora")
    texts = [Bundled(name, description, folder / name) for name, description in _BUNDLED.items()]
    return [text for text in texts if text.path.exists()]


def bundled_path(name: str) -> Path | None:
    """The path of the bundled text of this name, with or without its suffix; None if there is none."""
    return next((text.path for text in bundled() if name in (text.name, text.path.stem)), None)


def find(name: str) -> Entry:
    """The entry of this name. Raises `CorpusError`, with the names that exist."""
    for entry in ENTRIES:
        if entry.name == name:
            return entry
    known = ", ".join([*(text.path.stem for text in bundled()), *(entry.name for entry in ENTRIES)])
    raise CorpusError(f"there is no text called {name!r} to fetch; there are {known}")


def copy(bundled: Path, folder: Path) -> Path:
    """Copy a text that comes with charlm into `folder`, unless it is there already; returns the path of the copy.

    Raises `CorpusError` if another file of that name is there, or if it cannot be written.
    """
    path, content = folder / bundled.name, bundled.read_bytes()
    if path.exists():
        if path.read_bytes() != content:
            raise CorpusError(f"{path} is not the {path.name} that comes with charlm; move it away and try again")
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with writing(path, error=CorpusError, hint="choose another folder with --out") as file:
        file.write(content)
    return path


def fetch(entry: Entry, folder: Path) -> Generator[Progress, None, Path]:
    """Download what is missing into `folder`, resuming an earlier try; returns the path of the text to train on.

    Raises `CorpusError` if a download fails or a file is not the one that was published.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for part in entry.parts:
        yield from _fetch_part(part, folder / part.file)
    text = folder / entry.text
    if not text.exists():
        partial = text.with_name(text.name + ".part")
        with partial.open("wb") as out:
            _unpack(entry, folder, out)
        partial.replace(text)
    return text


def _fetch_part(part: Part, path: Path) -> Iterator[Progress]:
    if path.exists():
        if wrong := _mismatch(part, path):
            raise CorpusError(f"{path} is not what {part.url} publishes: {wrong}; move it away and try again")
        return
    partial = path.with_name(path.name + ".part")
    if not partial.exists() or partial.stat().st_size < part.bytes:
        try:
            yield from _receive(part, partial)
        except (OSError, HTTPException) as error:
            raise CorpusError(
                f"{part.url} could not be downloaded: {error}; check the connection and try again, which goes on from "
                f"what has arrived, or put the file at {path} yourself"
            ) from error
    if wrong := _mismatch(part, partial):
        partial.unlink()  # a wrong beginning cannot be resumed
        raise CorpusError(f"{part.url} is not the file it should be: {wrong}; nothing was kept, try again later")
    partial.replace(path)


def _receive(part: Part, partial: Path) -> Iterator[Progress]:
    """Download the rest of a file into `partial`, or all of it if the server cannot start in the middle."""
    done = partial.stat().st_size if partial.exists() else 0
    request = Request(part.url, headers={"User-Agent": "charlm"})  # some servers refuse Python's own
    if done:
        request.add_header("Range", f"bytes={done}-")
    with urlopen(request, timeout=30) as answer:
        resumed = answer.status == 206
        done = done if resumed else 0
        with partial.open("ab" if resumed else "wb") as file:
            yield Progress(part.file, done, part.bytes)
            while piece := answer.read(PIECE):
                file.write(piece)
                done += len(piece)
                yield Progress(part.file, done, part.bytes)
    if done < part.bytes and answer.length != 0:  # 0: the server sent all that it announced, so its file is short
        raise ConnectionError(f"the connection ended after {done} of {part.bytes} bytes")


def _mismatch(part: Part, path: Path) -> str:
    """What is wrong with the file, in words; empty if it is right."""
    size = path.stat().st_size
    if size != part.bytes:
        return f"it has {size} bytes, expected {part.bytes}"
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    actual = digest.hexdigest()
    return "" if actual == part.sha256 else f"its SHA-256 is {actual}, expected {part.sha256}"


def _unpack(entry: Entry, folder: Path, out: BinaryIO) -> None:
    """Write the text of a downloaded entry to `out`."""
    if entry.unpack == "zip":
        with zipfile.ZipFile(folder / entry.parts[0].file) as archive:
            for name in entry.members:
                with archive.open(name) as member:
                    shutil.copyfileobj(member, out)
        return
    for source, target in zip(entry.parts[::2], entry.parts[1::2], strict=True):
        with gzip.open(folder / source.file) as sources, gzip.open(folder / target.file) as targets:
            for pair in zip(sources, targets, strict=True):
                out.write(b"\t".join(line.rstrip(b"\r\n").replace(b"\t", b" ") for line in pair) + b"\n")


_BUNDLED = {
    "saltmere.txt": "a play in English, written for charlm",
    "german-english.tsv": "German sentences with their English translations, tab-separated",
    "notes.tsv": "short notes in English on six things, each with its label, tab-separated",
    "everyday.txt": "1,189 letters and small scenes on the same things, without labels",
    "saltmere-endings.jsonl": "questions on how lines of the play's last part end, for charlm choose",
}

_WIKIPEDIA = "GFDL, and since 2009 CC BY-SA 3.0 (Wikipedia's authors)"
# Addresses with a commit in them, so that their content never changes.
_CHAR_RNN = "https://raw.githubusercontent.com/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e"
_MULTI30K = "https://raw.githubusercontent.com/multi30k/dataset/a3d2e0d26b56f3846f66a952536ffed4e401d05a"


def _mahoney(name: str, description: str, bytes: int, sha256: str) -> Entry:
    part = Part(f"{name}.zip", f"http://mattmahoney.net/dc/{name}.zip", bytes, sha256)
    return Entry(name, description, _WIKIPEDIA, f"{name}.txt", (part,), "zip", (name,))


ENTRIES = (
    Entry(
        name="tinyshakespeare",
        description="scenes from Shakespeare's plays, the text of Andrej Karpathy's char-rnn (2015)",
        licence="public domain",
        text="tinyshakespeare.txt",
        parts=(
            Part(
                file="tinyshakespeare.txt",
                url=f"{_CHAR_RNN}/data/tinyshakespeare/input.txt",
                bytes=1_115_394,
                sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
            ),
        ),
    ),
    _mahoney(
        name="text8",
        description="100 million letters a-z and spaces of the English Wikipedia of 2006 (Matt Mahoney)",
        bytes=31_344_016,
        sha256="a6640522afe85d1963ad56c05b0ede0a0c000dddc9671758a6cc09b7a38e5232",
    ),
    _mahoney(
        name="enwik8",
        description="the first 100 million bytes of the English Wikipedia of 2006 with its XML (Matt Mahoney)",
        bytes=36_445_475,
        sha256="547994d9980ebed1288380d652999f38a14fe291a6247c157c3d33d4932534bc",
    ),
    Entry(
        name="wikitext-2",
        description="good articles of the English Wikipedia, raw (Merity et al. 2016, arXiv 1609.07843)",
        licence="CC BY-SA 3.0 and GFDL (Wikipedia's authors)",
        text="wikitext-2.txt",
        parts=(
            Part(
                file="wikitext-2-raw-v1.zip",
                url="https://huggingface.co/datasets/ggml-org/ci/resolve/main/wikitext-2-raw-v1.zip",
                bytes=4_721_645,
                sha256="ef7edb566e3e2b2d31b29c1fdb0c89a4cc683597484c3dc2517919c615435a11",
            ),
        ),
        unpack="zip",
        members=tuple(f"wikitext-2-raw/wiki.{split}.raw" for split in ("train", "valid", "test")),
    ),
    Entry(
        name="multi30k",
        description="31,014 image captions, German and English: train, val, test 2016 (Elliott et al. 2016)",
        licence="for non-commercial research and education, as Flickr30k",
        text="multi30k.tsv",
        parts=tuple(
            Part(f"multi30k.{file}.gz", f"{_MULTI30K}/data/task1/raw/{file}.gz", size, sha256)
            for file, size, sha256 in (
                ("train.de", 637_044, "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6"),
                ("train.en", 568_929, "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f"),
                ("val.de", 24_681, "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a"),
                ("val.en", 21_650, "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28"),
                ("test_2016_flickr.de", 22_890, "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8"),
                ("test_2016_flickr.en", 21_077, "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9"),
            )
        ),
        unpack="pairs",
    ),
)
