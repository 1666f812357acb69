"""Lossless compression of a text by a model: arithmetic coding with the probabilities of its next tokens.

A token of probability p takes -log2 p bits, so the size of the file proves the model's bits per byte: Witten, Neal &
Cleary (1987), Arithmetic Coding for Data Compression, doi 10.1145/214762.214771; Deletang et al. 2023,
arXiv:2309.10668. The range coder is that of `constriction`: Bamler 2022, arXiv:2201.01741.

Decompressing must compute every probability again, bit for bit. So both directions use `predictions`: one token at a
time, one row, one thread, fp32 on the CPU, and probabilities rounded to whole numbers for the coder. The same machine
computes the same numbers; another processor, or another version of PyTorch or NumPy, may add up in another order. Then
the decoder goes wrong somewhere, the checksum of the text does not match, and no file is written.

    magic, format          4 + 1 bytes
    the run                16 bytes: SHA-256, truncated, of weights, settings and vocabulary
    the text               16 bytes: SHA-256, truncated, of its bytes
    number of tokens       8 bytes
    the run's name         1 + n bytes, for people
    output of the coder    32-bit words
    CRC-32 of all this     4 bytes, so that damage is noticed at once and not after an hour
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
HEADER = struct.Struct("<4sB16s16sQB")
CRC = struct.Struct("<I")
TOTAL = 1 << 24  # constriction's probabilities are whole numbers with this sum
PIECE = 1 << 16  # bytes of the text that are in memory at once
STRIDE = 512  # tokens between two reports of progress
UNDECODED = re.compile("([\udc80-\udcff]+)")  # how "surrogateescape" reads bytes that are not UTF-8

Weights = NDArray[np.float64]


class Packed(NamedTuple):
    """Sizes of a text and of its compressed file."""

    bytes: int  # of the text
    tokens: int
    compressed: int  # bytes of the whole file
    ideal: float  # bits: the cross-entropy of the model on the text


class Archive(NamedTuple):
    """The parts of a compressed file."""

    run: bytes  # hash
    text: bytes  # hash
    tokens: int
    name: str  # of the run that compressed it
    words: NDArray[np.uint32]  # output of the coder


def compress(writer: Writer, source: Path, target: Path, *, name: str = "") -> Generator[Progress, None, Packed]:
    """Compress the file `source` into `target` with a model on the CPU; `name` is that of the run, for people.

    Raises `VocabularyError`, before the long work, if the vocabulary lacks characters of the file, `CorpusError` if it
    cannot be read, `SettingsError` if `target` cannot be written or the library is missing.
    """
    writer.check_can_continue()
    stream = library().stream
    tokens, size = 0, 0
    for ids, raw in encoded_pieces(source, writer.tokenizer):
        tokens, size = tokens + len(ids), size + len(raw)
        yield Progress("reading", size, max(size, source.stat().st_size))
    encoder, digest, bits, done = stream.queue.RangeEncoder(), hashlib.sha256(), 0.0, 0
    with writing_to(target) as file, one_thread():
        prediction = predictions(writer)
        weights = next(prediction)
        for ids, raw in encoded_pieces(source, writer.tokenizer):
            digest.update(raw)
            for token in ids.tolist():
                encoder.encode(token, stream.model.Categorical(whole_numbers(weights), perfect=False))
                bits += float(np.log2(weights.sum() / max(weights[token], np.finfo(np.float64).tiny)))
                weights = prediction.send(token)
                done += 1
                if done % STRIDE == 0:
                    yield Progress("compressing", done, tokens)
        if done != tokens:
            raise CorpusError(f"{source} changed while it was read; start again")
        label = name.encode("utf-8", "surrogateescape")[:255]
        header = HEADER.pack(MAGIC, FORMAT, fingerprint(writer), digest.digest()[:16], done, len(label))
        data = header + label + encoder.get_compressed().astype("<u4").tobytes()
        file.write(data + CRC.pack(zlib.crc32(data)))
    return Packed(size, done, len(data) + CRC.size, bits)


def decompress(writer: Writer, source: Path, target: Path) -> Generator[Progress, None, int]:
    """Decompress the file `source` into `target`; returns the bytes of the text.

    Raises `CorpusError` if `source` is no compressed file or damaged, `RunError` if another run or another machine
    compressed it, `SettingsError` as `compress` does.
    """
    stream, archive = library().stream, read(source)
    if archive.run != (own := fingerprint(writer)):
        raise RunError(
            f"{source} needs the run it was made with, {archive.name or 'without a name'} with weights "
            f"{archive.run.hex()[:8]}; the weights of this one are {own.hex()[:8]}: name the other one, or the weights "
            "as they were before it was trained on"
        )
    decoder, digest, size = stream.queue.RangeDecoder(archive.words), hashlib.sha256(), 0
    with writing_to(target) as file, one_thread():
        prediction = predictions(writer)
        weights = next(prediction)
        for done in range(1, archive.tokens + 1):
            try:
                token = int(decoder.decode(stream.model.Categorical(whole_numbers(weights), perfect=False)))
                raw = writer.tokenizer.tokens[token]
            except (AssertionError, IndexError):  # no output of the coder for these probabilities
                raise other_machine(source) from None
            file.write(raw)
            digest.update(raw)
            size += len(raw)
            weights = prediction.send(token)
            if done % STRIDE == 0:
                yield Progress("decompressing", done, archive.tokens)
        if digest.digest()[:16] != archive.text:
            raise other_machine(source)
    return size


def read(source: Path) -> Archive:
    """The parts of a compressed file. Raises `CorpusError` for one that is none, is damaged, or has another format."""
    try:
        data = source.read_bytes()
    except OSError as error:
        raise CorpusError(f"{source} cannot be read: {error.strerror}") from None
    if data[:4] != MAGIC:
        raise CorpusError(f"{source} is not what charlm compress writes; give the .charlm file")
    if data[4:5] not in (b"", bytes([FORMAT])):
        raise CorpusError(f"{source} is of format {data[4]}, this charlm reads {FORMAT}; use the charlm that wrote it")
    body, end = data[: -CRC.size], data[-CRC.size :]
    if len(body) < HEADER.size or CRC.pack(zlib.crc32(body)) != end:
        raise CorpusError(f"{source} is damaged: its checksum is not that of what it holds; get it again")
    *_, run, text, tokens, length = HEADER.unpack_from(body)
    label, words = body[HEADER.size :][:length], body[HEADER.size + length :]
    if len(words) % 4:
        raise CorpusError(f"{source} is damaged: it ends within a word; get it again")
    return Archive(run, text, tokens, label.decode("utf-8", "replace"), np.frombuffer(words, "<u4").astype(np.uint32))


def writing_to(target: Path) -> AbstractContextManager[BinaryIO]:
    return writing(target, error=SettingsError, hint="name another file with --out")


def other_machine(source: Path) -> RunError:
    return RunError(
        f"{source} is whole and this is its run, but another text came out, which was not kept: this machine computes "
        "other last digits than the one that compressed it; decompress it there, with the same PyTorch and NumPy"
    )


def fingerprint(writer: Writer) -> bytes:
    """16 bytes of a hash of all that the probabilities depend on: weights, settings and vocabulary."""
    model = writer.model
    about = [type(model).__name__, model.config.to_dict(), list(model.spec[:2]), writer.tokenizer.sha256]
    tensors = {name: p.detach().cpu() for name, p in model.named_parameters()}
    return bytes.fromhex(checkpoint.digest(tensors, json.dumps(about, sort_keys=True)))[:16]


def predictions(writer: Writer) -> Generator[Weights, int, None]:
    """The probabilities of the next token (V,), up to a factor. The token that follows is to be sent in."""
    step, token = writer.model.stepper(1), writer.tokenizer.start  # its weights are packed in one thread
    step.begin(writer.model.start(1))
    while True:
        with torch.inference_mode():
            logits = step(torch.tensor([token]))  # (1, V)
        exact = logits[0].double().numpy()
        token = yield np.exp(exact - exact.max())


def whole_numbers(weights: Weights) -> Weights:
    """Probabilities, up to a factor, (V,) -> whole numbers (V + 1,) with the sum 2^24 - V - 1.

    The coder adds 1 to all of them, so that no token is impossible, and its sums of whole numbers are exact. The last
    one stands for no token: the coder refuses an alphabet of one symbol.
    """
    total = TOTAL - len(weights) - 1
    counts: Weights = np.floor(np.append(weights, 0.0) * (total / weights.sum()))
    counts[weights.argmax()] += total - counts.sum()  # what rounding down left over
    return counts


def encoded_pieces(source: Path, tokenizer: Tokenizer) -> Iterator[tuple[Ids, bytes]]:
    """(ids, the bytes that they stand for) of every piece of a file. Raises `VocabularyError` for what has no token."""
    single = {token[0]: id for id, token in enumerate(tokenizer.tokens) if len(token) == 1}  # for what is not UTF-8
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    try:
        with source.open("rb") as file:
            while True:
                piece = file.read(PIECE)
                text = decoder.decode(piece, final=not piece)
                ids = [np.zeros(0, np.int64)]
                for number, part in enumerate(UNDECODED.split(text)):
                    if number % 2 == 0:
                        ids.append(tokenizer.encode(part))
                        continue
                    values = part.encode("utf-8", "surrogateescape")
                    if lacking := set(values) - set(single):
                        raise VocabularyError(
                            f"{source} is no UTF-8 (it holds the byte 0x{min(lacking):02x}) and the vocabulary cannot "
                            "spell that; a run trained with --tokenizer byte, word, bpe, bytebpe or unigram can"
                        )
                    ids.append(np.array([single[value] for value in values], np.int64))
                yield np.concatenate(ids), text.encode("utf-8", "surrogateescape")
                if not piece:
                    return
    except OSError as error:
        raise CorpusError(f"{source} cannot be read: {error.strerror}") from None


def xz(source: Path) -> int:
    """The size in bytes of a file compressed by `xz -9e`."""
    packer, size = lzma.LZMACompressor(preset=9 | lzma.PRESET_EXTREME), 0
    with source.open("rb") as file:
        while piece := file.read(1 << 20):
            size += len(packer.compress(piece))
    return size + len(packer.flush())


def library() -> Any:
    """The module `constriction`. Raises `SettingsError` where it is not installed."""
    try:
        import constriction
        import threadpoolctl  # noqa: F401
    except ImportError:
        raise SettingsError('compressing needs an extra: pip install -e ".[compress]"') from None
    return constriction


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread, in PyTorch and in NumPy's BLAS: sums depend on the number of threads."""
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)
