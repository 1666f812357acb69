"""A text made as small as the model finds it likely, and brought back byte for byte.

A token of probability p takes -log2 p bits, so a file's size proves a model's bits per byte: Witten, Neal & Cleary
(1987), Arithmetic Coding for Data Compression, doi 10.1145/214762.214771; Deletang et al. 2023, arXiv:2309.10668. The
range coder is that of `constriction`: Bamler 2022, arXiv:2201.01741.

Decoding must meet every probability again, bit for bit. So both ways go through `guesses`: one token at a time, one
row, one thread, fp32 on the CPU, and shares rounded to whole numbers before the coder sees them. The same machine gives
the same numbers; another processor, or another version of PyTorch or NumPy, may add up in another order. Then decoding
goes astray somewhere and the text's checksum refuses what comes out: a wrong text is never left behind.

    magic, format          4 + 1 bytes
    the run                16 bytes: SHA-256, cut, of weights, settings and vocabulary
    the text               16 bytes: SHA-256, cut, of its bytes
    number of tokens       8 bytes
    the run's name         1 + n bytes, for people
    what the coder wrote   32-bit words
    CRC-32 of all this     4 bytes, so that damage is seen at once and not after an hour
"""

from __future__ import annotations

import codecs
import hashlib
import json
import lzma
import re
import struct
import zlib
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from charlm.errors import CorpusError, RunError, SettingsError, VocabularyError
from charlm.files import writing
from charlm.progress import Progress
from charlm.runs import checkpoint
from charlm.text.tokenizers import Tokenizer
from charlm.text.units import Ids
from charlm.writer import Writer

MAGIC, FORMAT = b"\x93clm", 1
HEAD = struct.Struct("<4sB16s16sQB")
CRC = struct.Struct("<I")
PARTS = 1 << 24  # into which constriction divides a probability of 1
PIECE = 1 << 16  # bytes of the text that are in memory at once
STRIDE = 512  # tokens between two signs of life
RAW = re.compile("([\udc80-\udcff]+)")  # how "surrogateescape" reads bytes that are not UTF-8

Weights = NDArray[np.float64]


class Packed(NamedTuple):
    """What compressing a text came to."""

    bytes: int  # of the text
    tokens: int
    compressed: int  # bytes, with everything that stands in the file
    ideal: float  # bits: the cross-entropy of the model on the text


class Head(NamedTuple):
    """What a compressed file says about itself."""

    run: bytes
    text: bytes
    tokens: int
    name: str  # of the run it was made with
    words: NDArray[np.uint32]


def compress(writer: Writer, source: Path, target: Path, *, name: str = "") -> Generator[Progress, None, Packed]:
    """Write `source` to `target` as small as a model on the CPU can; `name` tells people which run will be needed.

    Raises `VocabularyError`, before the long work, if the vocabulary cannot spell the file, `CorpusError` if it cannot
    be read, `SettingsError` if `target` cannot be written or the library is missing.
    """
    writer.must_go_on()
    stream = coder().stream
    tokens, size = 0, 0
    for ids, raw in spelled(source, writer.tokenizer):
        tokens, size = tokens + len(ids), size + len(raw)
        yield Progress("reading", size, max(size, source.stat().st_size))
    encoder, digest, bits, done = stream.queue.RangeEncoder(), hashlib.sha256(), 0.0, 0
    with made(target) as file, one_thread():
        guess = guesses(writer)
        weights = next(guess)
        for ids, raw in spelled(source, writer.tokenizer):
            digest.update(raw)
            for token in ids.tolist():
                encoder.encode(token, stream.model.Categorical(parts(weights), perfect=False))
                bits += float(np.log2(weights.sum() / max(weights[token], np.finfo(np.float64).tiny)))
                weights = guess.send(token)
                done += 1
                if done % STRIDE == 0:
                    yield Progress("compressing", done, tokens)
        if done != tokens:
            raise CorpusError(f"{source} changed while it was read; start again")
        label = name.encode("utf-8", "surrogateescape")[:255]
        head = HEAD.pack(MAGIC, FORMAT, fingerprint(writer), digest.digest()[:16], done, len(label))
        data = head + label + encoder.get_compressed().astype("<u4").tobytes()
        file.write(data + CRC.pack(zlib.crc32(data)))
    return Packed(size, done, len(data) + CRC.size, bits)


def decompress(writer: Writer, source: Path, target: Path) -> Generator[Progress, None, int]:
    """Write to `target` the text that `source` was made from; returns its bytes.

    Raises `CorpusError` if `source` is damaged or no such file, `RunError` if another run, or another machine, made it,
    `SettingsError` as `compress` does.
    """
    stream, head = coder().stream, read(source)
    if head.run != (here := fingerprint(writer)):
        raise RunError(
            f"{source} needs the run it was made with, {head.name or 'without a name'} with weights "
            f"{head.run.hex()[:8]}; the weights of this one are {here.hex()[:8]}: name the other one, or the weights "
            "as they were before it was trained on"
        )
    decoder, digest, size = stream.queue.RangeDecoder(head.words), hashlib.sha256(), 0
    with made(target) as file, one_thread():
        guess = guesses(writer)
        weights = next(guess)
        for done in range(1, head.tokens + 1):
            try:
                token = int(decoder.decode(stream.model.Categorical(parts(weights), perfect=False)))
                raw = writer.tokenizer.tokens[token]
            except (AssertionError, IndexError):  # no such words come from these guesses
                raise astray(source) from None
            file.write(raw)
            digest.update(raw)
            size += len(raw)
            weights = guess.send(token)
            if done % STRIDE == 0:
                yield Progress("decompressing", done, head.tokens)
        if digest.digest()[:16] != head.text:
            raise astray(source)
    return size


def read(source: Path) -> Head:
    """A compressed file, still packed. Raises `CorpusError` for what is none, is damaged, or is of another format."""
    try:
        data = source.read_bytes()
    except OSError as error:
        raise CorpusError(f"{source} cannot be read: {error.strerror}") from None
    if data[:4] != MAGIC:
        raise CorpusError(f"{source} is not what charlm compress writes; give the .charlm file")
    if data[4:5] not in (b"", bytes([FORMAT])):
        raise CorpusError(f"{source} is of format {data[4]}, this charlm reads {FORMAT}; use the charlm that wrote it")
    body, end = data[: -CRC.size], data[-CRC.size :]
    if len(body) < HEAD.size or CRC.pack(zlib.crc32(body)) != end:
        raise CorpusError(f"{source} is damaged: its checksum is not that of what it holds; get it again")
    *_, run, text, tokens, length = HEAD.unpack_from(body)
    label, words = body[HEAD.size :][:length], body[HEAD.size + length :]
    if len(words) % 4:
        raise CorpusError(f"{source} is damaged: it ends within a word; get it again")
    return Head(run, text, tokens, label.decode("utf-8", "replace"), np.frombuffer(words, "<u4").astype(np.uint32))


def made(target: Path) -> AbstractContextManager[BinaryIO]:
    return writing(target, error=SettingsError, hint="name another file with --out")


def astray(source: Path) -> RunError:
    return RunError(
        f"{source} is whole and this is its run, but another text came out, which was not kept: this machine computes "
        "other last digits than the one that compressed it; decompress it there, with the same PyTorch and NumPy"
    )


def fingerprint(writer: Writer) -> bytes:
    """16 bytes of a hash of all that a guess depends on: weights, settings and vocabulary."""
    model = writer.model
    about = [type(model).__name__, model.config.to_dict(), list(model.spec[:2]), writer.tokenizer.sha256]
    tensors = {name: p.detach().cpu() for name, p in model.named_parameters()}
    return bytes.fromhex(checkpoint.digest(tensors, json.dumps(about, sort_keys=True)))[:16]


def guesses(writer: Writer) -> Generator[Weights, int, None]:
    """How likely each next token is (V,), up to a factor; to be sent the token that came."""
    step, token = writer.model.stepper(1), writer.tokenizer.start  # its weights are packed in one thread
    step.begin(writer.model.start(1))
    while True:
        with torch.inference_mode():
            logits = step(torch.tensor([token]))  # (1, V)
        exact = logits[0].double().numpy()
        token = yield np.exp(exact - exact.max())


def parts(weights: Weights) -> Weights:
    """Shares as whole numbers (V + 1,) with the sum 2^24 - V - 1.

    The coder itself adds 1 to each, so that no token is impossible, and its sums of such numbers are exact. One symbol
    more than there are tokens, as it knows no alphabet of one.
    """
    room = PARTS - len(weights) - 1
    counts: Weights = np.floor(np.append(weights, 0.0) * (room / weights.sum()))
    counts[weights.argmax()] += room - counts.sum()  # what rounding down left over
    return counts


def spelled(source: Path, tokenizer: Tokenizer) -> Iterator[tuple[Ids, bytes]]:
    """A file in pieces: as ids, and as the bytes that they spell. Bytes that are not UTF-8 need tokens of their own."""
    single = {token[0]: id for id, token in enumerate(tokenizer.tokens) if len(token) == 1}
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    try:
        with source.open("rb") as file:
            while True:
                piece = file.read(PIECE)
                text = decoder.decode(piece, final=not piece)
                ids = [np.zeros(0, np.int64)]
                for number, part in enumerate(RAW.split(text)):
                    if number % 2 == 0:
                        ids.append(tokenizer.encode(part))
                        continue
                    values = part.encode("utf-8", "surrogateescape")
                    if strange := set(values) - set(single):
                        raise VocabularyError(
                            f"{source} is no UTF-8 (it holds the byte 0x{min(strange):02x}) and the vocabulary cannot "
                            "spell that; a run trained with --tokenizer byte, word, bpe or unigram can"
                        )
                    ids.append(np.array([single[value] for value in values], np.int64))
                yield np.concatenate(ids), text.encode("utf-8", "surrogateescape")
                if not piece:
                    return
    except OSError as error:
        raise CorpusError(f"{source} cannot be read: {error.strerror}") from None


def xz(source: Path) -> int:
    """Bytes that `xz -9e` makes of the same file."""
    packer, size = lzma.LZMACompressor(preset=9 | lzma.PRESET_EXTREME), 0
    with source.open("rb") as file:
        while piece := file.read(1 << 20):
            size += len(packer.compress(piece))
    return size + len(packer.flush())


def coder() -> Any:
    """The library. Raises `SettingsError` where it is not installed."""
    try:
        import constriction
        import threadpoolctl  # noqa: F401
    except ImportError:
        raise SettingsError('compressing needs an extra: pip install "charlm[compress]"') from None
    return constriction


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums that are shared out among threads depend on their number: PyTorch's, and those of NumPy's BLAS."""
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)
