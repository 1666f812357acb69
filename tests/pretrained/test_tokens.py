"""Tokens that were added to GPT-2's: what the `tokenizers` library does with them, we do, or we refuse them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from texts import VERSES

from charlm.config import DataSettings
from charlm.errors import RunError, VocabularyError
from charlm.pretrained.described import END, files
from charlm.pretrained.tokenizers import read
from charlm.progress import result
from charlm.text.byte_bpe import ByteBPE
from charlm.text.printed import printed
from charlm.text.tokenizers import utf8
from charlm.text.vocabulary import train_tokenizer

tokenizers = pytest.importorskip("tokenizers")

PLAIN: ByteBPE = result(train_tokenizer(DataSettings(tokenizer="bytebpe", vocab_size=300), lambda: iter([VERSES])))
SIZE = len(PLAIN.tokens)
SPECIAL = [END, "<| a b |>", "\n\n\n", "«fin»", "日本", "éé", "\u00a0", "<|unused3|>", "Ġq"]


def written(folder: Path, tokenizer: ByteBPE) -> Path:
    folder.mkdir()
    for name, content in files(tokenizer, 32).items():
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(tmp_path / "plain", PLAIN)


def change(folder: Path, file: str, **values: Any) -> None:
    path = folder / file
    value = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps(value | values), encoding="utf-8")


def added(folder: Path, *tokens: tuple[str, int], special: bool) -> None:
    flags = {"special": special, "single_word": False, "lstrip": False, "rstrip": False, "normalized": not special}
    change(folder, "tokenizer.json", added_tokens=[{"id": id, "content": text, **flags} for text, id in tokens])


@pytest.mark.parametrize("first", [0, SIZE])
def test_a_special_token_of_any_text_keeps_its_id_there_and_back(first: int, tmp_path: Path) -> None:
    vocab, merges = PLAIN.to_gpt2()
    special = {text: first + id for id, text in enumerate(SPECIAL)}
    tokenizer = ByteBPE.from_gpt2({t: id + len(SPECIAL) * (first == 0) for t, id in vocab.items()}, merges, special)
    assert tokenizer.special == special
    assert tokenizer.decode(special.values()) == "".join(SPECIAL)
    assert not {*tokenizer.encode("".join(SPECIAL)).tolist()} & {*special.values()}
    theirs = tokenizers.Tokenizer.from_file(str(written(tmp_path / "out", tokenizer) / "tokenizer.json"))
    assert theirs.get_vocab_size() == tokenizer.vocab_size
    for text, id in special.items():
        assert theirs.token_to_id(text) == id
        assert theirs.encode(f"a{text}b").ids == [*tokenizer.encode("a"), id, *tokenizer.encode("b")]
    again = read(tmp_path / "out", tokenizer.vocab_size)
    assert again.tokens == tokenizer.tokens
    assert again.to_json() == tokenizer.to_json()


def test_a_special_token_that_is_written_as_another_one_stands_in_the_way_of_an_export() -> None:
    merge = [*PLAIN.merges, (PLAIN.encode(" ")[0], PLAIN.encode("q")[0])]
    both = ByteBPE([*map(printed, PLAIN.tokens), "Ġq", printed(utf8("Ġq"))], merge)
    with pytest.raises(VocabularyError, match="special token 'Ġq' is written as another token is"):
        both.to_gpt2()


@pytest.mark.parametrize("text", ["covid", "he said", "\n\n", END])
def test_a_token_that_was_added_for_texts_is_refused_by_name(text: str, folder: Path) -> None:
    added(folder, (text, SIZE), special=False)
    theirs = tokenizers.Tokenizer.from_str((folder / "tokenizer.json").read_text(encoding="utf-8"))
    assert SIZE in theirs.encode(f"a{text}b").ids
    message = f"takes the added token {text!r} out of a text before it merges anything, which charlm does not"
    with pytest.raises(RunError) as error:
        read(folder, SIZE + 1)
    assert message in str(error.value)


def test_any_file_may_say_which_tokens_were_added(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    change(folder, "added_tokens.json", covid=SIZE)
    with pytest.raises(RunError, match="takes the added token 'covid'"):
        read(folder, SIZE + 1)
    change(folder, "special_tokens_map.json", additional_special_tokens=["covid"])
    assert read(folder, SIZE + 1).special == {"covid": SIZE}
    decoder = {str(SIZE): {"content": "covid", "special": True}, str(SIZE + 1): {"content": "flu", "special": False}}
    change(folder, "tokenizer_config.json", added_tokens_decoder=decoder)
    with pytest.raises(RunError, match="takes the added token 'flu'"):
        read(folder, SIZE + 2)
    change(folder, "tokenizer_config.json", pad_token={"content": "flu"})
    assert read(folder, SIZE + 2).special == {"covid": SIZE, "flu": SIZE + 1}
    change(folder, "tokenizer_config.json", add_prefix_space=True)
    with pytest.raises(RunError, match="add_prefix_space, which GPT-2's tokenizer has not"):
        read(folder, SIZE + 2)


@pytest.mark.parametrize("text", [".", "Ċ", "é", printed(PLAIN.tokens[-1])])
def test_an_ordinary_token_is_no_special_one(text: str, folder: Path) -> None:
    added(folder, (text, PLAIN.to_gpt2()[0][text]), special=True)
    with pytest.raises(RunError, match="out of a text before it merges anything"):
        read(folder, SIZE)


@pytest.mark.parametrize("text", ["\n", " "])
def test_two_tokens_with_the_same_bytes_are_refused(text: str, folder: Path) -> None:
    added(folder, (text, SIZE), special=True)
    with pytest.raises(RunError, match="two tokens of the vocabulary have the same bytes"):
        read(folder, SIZE + 1)


def test_tokens_beyond_the_model_are_named(folder: Path) -> None:
    added(folder, ("[PAD]", SIZE), special=True)
    message = rf"has {SIZE + 1} tokens and the model {SIZE}: '\[PAD\]' was added without resizing the model"
    with pytest.raises(RunError, match=message):
        read(folder, SIZE)
    with pytest.raises(RunError, match="they are not of one model"):
        read(folder, SIZE - 3)


def test_ids_between_tokens_may_be_free(folder: Path) -> None:
    added(folder, ("[PAD]", SIZE + 9), special=True)
    tokenizer = read(folder, SIZE + 12)
    assert tokenizer.vocab_size == SIZE + 12
    assert tokenizer.decode([SIZE + 9]) == "[PAD]"


@pytest.mark.parametrize("value", [[1], ["a"], {"a": 1}, 3, [{"content": 5, "id": 1}], [{"content": "a", "id": "b"}]])
def test_added_tokens_that_are_none_are_refused_in_one_line(value: Any, folder: Path) -> None:
    change(folder, "tokenizer.json", added_tokens=value)
    with pytest.raises(RunError):
        read(folder, SIZE)
