"""Synthetic tasks: as many pairs of a source and its right target as are wanted, and one that is a running text.

The sources of a task are of several kinds, such as words of one length or dates in one form. All kinds are drawn
equally often, until a kind has no more. No source occurs twice, so the held-out ones were never trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, timedelta
from functools import partial
from itertools import pairwise, product
from random import Random
from string import ascii_lowercase
from typing import Literal, NamedTuple

from charlm.errors import SettingsError
from charlm.text.pairs import Pair

Task = Literal["reverse", "sort", "copy", "dates", "numbers", "names", "repeat"]

LONGEST = 20  # letters of a source, by default


def line(task: Task, pair: Pair) -> str:
    """A pair as a line of the task's file: two columns, or of `repeat` 0w0w, the copy task of Kitaev, Kaiser & Levskaya
    2020, arXiv:2001.04451, section 5."""
    return f"0{pair.source}0{pair.target}\n" if task == "repeat" else f"{pair.source}\t{pair.target}\n"


class SourceKind(NamedTuple):
    size: int  # number of different sources
    pair: Callable[[int], Pair]  # pair number 0 to size - 1


def make(task: Task, pairs: int, longest: int | None, seed: int) -> Iterator[Pair]:
    """`pairs` pairs with different sources, in random order.

    `longest` is the largest number of letters in a source of reverse, sort, copy and repeat; None means 20. Raises
    `SettingsError` if the task has fewer different sources, and for a `longest` of dates or numbers.
    """
    kinds = kinds_of(task, longest)
    total = sum(kind.size for kind in kinds)
    if pairs > total:
        raise SettingsError(
            f"--pairs {pairs} is more than the {total} different sources of {task}; ask for fewer"
            + (", or raise --longest" if task in ANSWERS else "")
        )
    rng = Random(seed)
    counts = shares([kind.size for kind in kinds], pairs)
    drawn = [kind.pair(n) for kind, count in zip(kinds, counts, strict=True) for n in draw(rng, kind.size, count)]
    rng.shuffle(drawn)
    return iter(drawn)


def kinds_of(task: Task, longest: int | None) -> list[SourceKind]:
    if task in ANSWERS:
        lengths = range(1, (longest or LONGEST) + 1)
        return [SourceKind(26**length, partial(letters, ANSWERS[task], length)) for length in lengths]
    if longest is not None:
        raise SettingsError(f"--longest is for {', '.join(ANSWERS)}; {task} are as long as they are; leave it out")
    if task == "dates":
        return [SourceKind((END - START).days, partial(dated, form)) for form in FORMS]
    if task == "names":
        forms = product(INTRODUCTIONS, PEOPLE)
        return [SourceKind(NAMES ** (2 * people), partial(introduced, *form, people)) for form, people in forms]
    limits = [0, *(10**digits for digits in range(1, 7))]  # a kind for each number of digits
    return [SourceKind(limit - least, partial(numbered, least)) for least, limit in pairwise(limits)]


def shares(sizes: list[int], pairs: int) -> list[int]:
    """How many of all `pairs` are of each kind: equally many, but of a kind that has fewer, all.

    `sizes` (kinds,) are the numbers of different ones, and add up to `pairs` or more.
    """
    counts = [0] * len(sizes)
    for done, kind in enumerate(sorted(range(len(sizes)), key=lambda kind: sizes[kind])):  # the smallest first
        counts[kind] = min(sizes[kind], (pairs - sum(counts)) // (len(sizes) - done))
    return counts


def draw(rng: Random, size: int, count: int) -> list[int]:
    """`count` different numbers below `size`."""
    if size < 2**63:  # the longest range that has a length in Python
        return rng.sample(range(size), count)
    drawn: dict[int, None] = {}
    while len(drawn) < count:
        drawn[rng.randrange(size)] = None
    return list(drawn)


def letters(answer: Callable[[str], str], length: int, number: int) -> Pair:
    """Word `number` of so many letters: the digits of the number to base 26."""
    source = ""
    for _ in range(length):
        number, letter = divmod(number, 26)
        source += ascii_lowercase[letter]
    return Pair(source, answer(source))


ANSWERS: dict[str, Callable[[str], str]] = {
    "reverse": lambda source: source[::-1],
    "sort": lambda source: "".join(sorted(source)),
    "copy": str,
    "repeat": str,
}


def dated(form: str, number: int) -> Pair:
    """Day `number` from 1900 on as people write it, and as ISO 8601 does."""
    day = START + timedelta(number)
    month, weekday = MONTHS[day.month - 1], WEEKDAYS[day.weekday()]
    th = "th" if day.day in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10, "th")
    short = {"mon": month[:3], "wday": weekday[:3]}
    source = form.format(y=day.year, m=day.month, d=day.day, th=th, month=month, weekday=weekday, **short)
    return Pair(source, day.isoformat())


START, END = date(1900, 1, 1), date(2100, 1, 1)
MONTHS = ["January", "February", "March", "April", "May", "June"]
MONTHS += ["July", "August", "September", "October", "November", "December"]
WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
FORMS = (  # a date in any of them is unambiguous, and no two of them write a date the same way
    "{d} {month} {y}",
    "{d}{th} of {month} {y}",
    "the {d}{th} day of {month}, {y}",
    "{month} {d}, {y}",
    "{month} {d}{th}, {y}",
    "{y} {month} {d}",
    "{weekday} {d} {month} {y}",
    "{weekday}, {month} {d}, {y}",
    "{weekday} the {d}{th} of {month} {y}",
    "{wday} {mon} {d} {y}",
    "{mon} {d} {y}",
    "{d}-{mon}-{y}",
    "{d:02}.{m:02}.{y}",  # with dots, the day comes first
    "{y}/{m:02}/{d:02}",
)


def introduced(form: str, joiner: str, people: int, number: int) -> Pair:
    """So many people introduced and greeted, by invented names that another pair is unlikely to have."""
    introductions, greetings = [], []
    for _ in range(people):
        number, name = divmod(number, NAMES)
        number, place = divmod(number, NAMES)
        introductions.append(form.format(name=named(name), place=named(place)))
        greetings.append(f"{named(name)} of {named(place)}")
    return Pair(joiner.join(introductions), "hello " + ", ".join(greetings))


def named(number: int) -> str:
    """Name `number` below `NAMES`, of two syllables."""
    first, second = divmod(number, len(SYLLABLES))
    return (SYLLABLES[first] + SYLLABLES[second]).capitalize()


ONSETS = [*"bcdfghjklmnprstvwz", "br", "dr", "gr", "kl", "sh", "tr"]
SYLLABLES = ["".join(letters) for letters in product(ONSETS, "aeiouy", "dklmnprstx")]
NAMES = len(SYLLABLES) ** 2
PEOPLE = range(1, 5)
INTRODUCTIONS = (  # and what stands between two; before each name a blank, as in the answer: bpe cuts words with it
    ("I am {name} from {place}", " and "),
    ("meet {name} from {place}", ", "),
    ("in {place} lives {name}", "; "),
)


def numbered(least: int, number: int) -> Pair:
    """The number `least + number` in words and in digits."""
    return Pair(in_words(least + number), str(least + number))


def in_words(number: int) -> str:
    """A number below a million in English words."""
    if number < 20:
        return SMALL[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return TENS[tens - 2] + (f"-{SMALL[ones]}" if ones else "")
    unit, name = (100, "hundred") if number < 1000 else (1000, "thousand")
    count, remainder = divmod(number, unit)
    separator = " and " if remainder < 100 else " "
    return f"{in_words(count)} {name}" + (separator + in_words(remainder) if remainder else "")


SMALL = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
SMALL += ["thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
