"""How GPT-2's files write bytes: each as one printable character, those of Latin-1 as they are."""

from __future__ import annotations

from charlm.text.tokenizers import utf8

VISIBLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]  # bytes that GPT-2 prints as Latin-1
ORDER = [*VISIBLE, *sorted({*range(256)} - {*VISIBLE})]  # the bytes by their ids in GPT-2
PRINTED = {byte: chr(byte if byte in VISIBLE else 0x100 + id - len(VISIBLE)) for id, byte in enumerate(ORDER)}
READ = {character: byte for byte, character in PRINTED.items()}


def printed(token: bytes) -> str:
    """The token as GPT-2's files write it, a character for each byte: `Ġthe` for a space and `the`."""
    return "".join([PRINTED[byte] for byte in token])


def read(token: str) -> bytes:
    """The bytes of a token in GPT-2's files; of a special token with other characters, such as a space, its text."""
    return bytes([READ[c] for c in token]) if READ.keys() >= set(token) else utf8(token)
