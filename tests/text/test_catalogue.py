"""Downloads survive interruptions, are checked before they count, and never touch a file of the user's."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from charlm import files
from charlm.errors import CorpusError
from charlm.progress import Progress
from charlm.text import catalogue
from charlm.text.catalogue import ENTRIES, Entry, Part, bundled, bundled_path, copy, fetch, find

TEXT = b"All the world's a stage,\n" * 40_000  # 1 MB: several pieces


class Server(ThreadingHTTPServer):
    """Serves `files`; `log` holds (path, Range header) of what was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.log: list[tuple[str, str | None]] = []
        self.ranges, self.cut = True, 0  # whether Range is understood; hang up this many bytes early

    def entry(self, files: dict[str, bytes], text: str, **how: object) -> Entry:
        """An entry whose parts are these files, which the server has."""
        self.files |= {f"/{name}": content for name, content in files.items()}
        address = f"http://127.0.0.1:{self.server_port}"
        parts = tuple(
            Part(name, f"{address}/{name}", len(content), hashlib.sha256(content).hexdigest())
            for name, content in files.items()
        )
        return Entry("test", "a test", "none", text, parts, **how)  # type: ignore[arg-type]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers["Range"]
        self.server.log.append((self.path, asked))
        if self.path not in self.server.files:
            return self.send_error(404)
        content = self.server.files[self.path]
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.server.ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : len(content) - self.server.cut])
        return None

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def run(entry: Entry, folder: Path) -> tuple[Path, list[Progress]]:
    seen, work = [], fetch(entry, folder)
    while True:
        try:
            seen.append(next(work))
        except StopIteration as end:
            return end.value, seen


def test_a_plain_text_is_downloaded_whole_and_says_how_far_it_is(server: Server, tmp_path: Path) -> None:
    path, seen = run(server.entry({"stage.txt": TEXT}, "stage.txt"), tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "stage.txt"
    assert path.read_bytes() == TEXT
    assert [file.name for file in path.parent.iterdir()] == ["stage.txt"]
    assert [step.done for step in seen] == sorted({step.done for step in seen})
    assert len(seen) > 3
    assert seen[-1] == ("stage.txt", len(TEXT), len(TEXT))


def test_a_text_that_is_there_already_is_not_asked_for_again(server: Server, tmp_path: Path) -> None:
    entry = server.entry({"stage.txt": TEXT}, "stage.txt")
    (tmp_path / "stage.txt").write_bytes(TEXT)
    assert run(entry, tmp_path) == (tmp_path / "stage.txt", [])
    assert server.log == []


def test_a_cut_connection_keeps_what_came_and_the_next_try_goes_on_from_there(server: Server, tmp_path: Path) -> None:
    entry = server.entry({"stage.txt": TEXT}, "stage.txt")
    server.cut = 300_000
    with pytest.raises(CorpusError, match=re.escape(entry.parts[0].url) + ".*ended after 700000 of 1000000 bytes"):
        run(entry, tmp_path)
    assert not (tmp_path / "stage.txt").exists()
    server.cut = 0
    path, seen = run(entry, tmp_path)
    assert path.read_bytes() == TEXT
    assert seen[0].done == 700_000
    assert server.log == [("/stage.txt", None), ("/stage.txt", "bytes=700000-")]


def test_a_download_stopped_by_the_user_goes_on_later(server: Server, tmp_path: Path) -> None:
    entry = server.entry({"stage.txt": TEXT}, "stage.txt")
    work = fetch(entry, tmp_path)
    while next(work).done == 0:
        pass
    work.close()
    path, seen = run(entry, tmp_path)
    assert path.read_bytes() == TEXT
    assert seen[0].done == catalogue.PIECE


def test_a_server_that_cannot_start_in_the_middle_is_read_from_the_start(server: Server, tmp_path: Path) -> None:
    entry = server.entry({"stage.txt": TEXT}, "stage.txt")
    (tmp_path / "stage.txt.part").write_bytes(TEXT[:400_000])
    server.ranges = False
    path, seen = run(entry, tmp_path)
    assert path.read_bytes() == TEXT
    assert seen[0].done == 0


def test_a_download_that_was_whole_but_not_yet_renamed_is_not_repeated(server: Server, tmp_path: Path) -> None:
    (tmp_path / "stage.txt.part").write_bytes(TEXT)
    path, _ = run(server.entry({"stage.txt": TEXT}, "stage.txt"), tmp_path)
    assert path.read_bytes() == TEXT
    assert server.log == []


@pytest.mark.parametrize("forged", [TEXT.replace(b"stage", b"shore"), TEXT[:-1], TEXT + b"!"])
def test_a_file_other_than_the_published_one_is_refused_and_not_kept(
    server: Server, tmp_path: Path, forged: bytes
) -> None:
    entry = server.entry({"stage.txt": TEXT}, "stage.txt")
    server.files["/stage.txt"] = forged
    with pytest.raises(CorpusError) as caught:
        run(entry, tmp_path)
    if len(forged) == len(TEXT):
        expected, found = entry.parts[0].sha256, hashlib.sha256(forged).hexdigest()
    else:
        expected, found = str(len(TEXT)), str(len(forged))
    assert expected in str(caught.value)
    assert found in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    server.files["/stage.txt"] = TEXT
    assert run(entry, tmp_path)[0].read_bytes() == TEXT


def test_a_file_of_the_users_with_the_same_name_is_left_alone(server: Server, tmp_path: Path) -> None:
    mine = tmp_path / "stage.txt"
    mine.write_text("my own play")
    with pytest.raises(CorpusError, match="move it away"):
        run(server.entry({"stage.txt": TEXT}, "stage.txt"), tmp_path)
    assert mine.read_text() == "my own play"
    assert server.log == []


def test_an_address_that_is_gone_is_named(server: Server, tmp_path: Path) -> None:
    entry = server.entry({"stage.txt": TEXT}, "stage.txt")
    server.files.clear()
    with pytest.raises(CorpusError, match=re.escape(entry.parts[0].url) + ".*404"):
        run(entry, tmp_path)


def test_a_server_that_is_not_there_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with Server() as server:  # closed again at the end of this block: nobody listens on its port any more
        entry = server.entry({"stage.txt": TEXT}, "stage.txt")
    with pytest.raises(CorpusError, match=r"check the connection.*stage\.txt"):
        run(entry, tmp_path)


def test_the_members_of_a_zip_are_joined_in_the_order_of_the_entry(server: Server, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("b.raw", "a.raw", "README"):
            archive.writestr(f"texts/{name}", f"this is {name}\n" * 1000)
    entry = server.entry(
        {"texts.zip": packed.getvalue()}, "texts.txt", unpack="zip", members=("texts/a.raw", "texts/b.raw")
    )
    path, _ = run(entry, tmp_path)
    assert path == tmp_path / "texts.txt"
    assert path.read_text() == "this is a.raw\n" * 1000 + "this is b.raw\n" * 1000
    assert sorted(file.name for file in tmp_path.iterdir()) == ["texts.txt", "texts.zip"]
    path.unlink()
    assert run(entry, tmp_path)[0].exists()  # made anew from the zip that is still there
    assert len(server.log) == 1


def test_two_languages_become_two_columns(server: Server, tmp_path: Path) -> None:
    files = {
        "1.de.gz": "Zwei\tHunde.\nGrün\u2028ist es.\n",
        "1.en.gz": "Two dogs.\nIt is green.\n",
        "2.de.gz": "Ende\n",
        "2.en.gz": "End\n",
    }
    packed = {name: gzip.compress(text.encode()) for name, text in files.items()}
    path, seen = run(server.entry(packed, "pairs.tsv", unpack="pairs"), tmp_path)
    assert path.read_text(encoding="utf-8") == "Zwei Hunde.\tTwo dogs.\nGrün\u2028ist es.\tIt is green.\nEnde\tEnd\n"
    assert {step.what for step in seen} == set(files)


def test_the_catalogue_is_complete() -> None:
    assert {entry.name for entry in ENTRIES} == {"tinyshakespeare", "text8", "enwik8", "wikitext-2", "multi30k"}
    for entry in ENTRIES:
        assert entry.description
        assert entry.licence
        assert entry.bytes == sum(part.bytes for part in entry.parts) > 1_000_000
        for part in entry.parts:
            assert re.fullmatch("[0-9a-f]{64}", part.sha256)
            assert part.url.startswith(("https://", "http://mattmahoney.net/"))
    sums = [part.sha256 for entry in ENTRIES for part in entry.parts]
    assert len(set(sums)) == len(sums) == 10


def test_a_text_is_found_by_name_and_a_wrong_name_lists_the_right_ones() -> None:
    assert find("text8").text == "text8.txt"
    with pytest.raises(CorpusError, match=r"'text9'.*saltmere, .*tinyshakespeare, text8, enwik8"):
        find("text9")


@pytest.mark.parametrize("part", [*find("tinyshakespeare").parts, *find("multi30k").parts], ids=lambda part: part.file)
def test_a_copy_that_somebody_downloaded_is_what_the_catalogue_expects(part: Part) -> None:
    path = Path(os.environ.get("CHARLM_DATA", "")) / part.file.replace("multi30k.", "multi30k/")
    if "CHARLM_DATA" not in os.environ or not path.exists():
        pytest.skip(f"CHARLM_DATA does not point to a folder that holds {part.file}")
    assert path.stat().st_size == part.bytes
    assert hashlib.sha256(path.read_bytes()).hexdigest() == part.sha256


def test_every_text_in_corpora_is_described() -> None:
    folder = Path(__file__).parents[2] / "corpora"
    texts = {path for path in folder.iterdir() if path.suffix != ".md"}
    assert {text.path for text in bundled()} == texts != set()
    assert all(text.description for text in bundled())


def test_an_installed_package_has_its_own_copy_of_the_bundled_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "__file__", str(tmp_path / "charlm" / "files.py"))
    assert bundled() == []
    for folder in (tmp_path / "corpora", tmp_path / "charlm" / "corpora"):
        folder.mkdir(parents=True)
        (folder / "saltmere.txt").write_text("Enter the harbour master.\n")
        assert [text.path for text in bundled()] == [folder / "saltmere.txt"]


def test_a_bundled_text_is_copied_once_and_never_over_another_file(tmp_path: Path) -> None:
    play = bundled_path("saltmere")
    assert play
    path = copy(play, tmp_path / "texts")
    assert path == tmp_path / "texts" / "saltmere.txt"
    assert path.read_bytes() == play.read_bytes()
    assert copy(play, tmp_path / "texts") == path
    path.write_text("my own play")
    with pytest.raises(CorpusError, match=r"is not the saltmere\.txt that comes with charlm; move it away"):
        copy(play, tmp_path / "texts")
    assert path.read_text() == "my own play"
