"""What the names of files say: which split and which language a file holds."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fairseq_robust_xlt.errors import UserError

SUFFIXES = (".tsv", ".tab", ".txt", ".csv", ".jsonl", ".ndjson", ".json")
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("dev", "devel", "development", "val", "valid", "validation"), "dev"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_ISO_639_1 = (
    "aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en "
    "eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv "
    "ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne "
    "ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg sh si sk sl sm sn so sq sr ss "
    "st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu"
)
_CODES = frozenset(_ISO_639_1.split())
#: Those that are as likely words or abbreviations where no other file has a language in that place.
_WORDS = {"am", "an", "as", "be", "he", "id", "is", "it", "ml", "my", "no", "or", "so", "to"}
_DEEPEST = 3
_MOST = 5000
# A code with a script or region (swh_Latn, zh-CN) is one token, unless its first part names a split.
_TOKEN = re.compile(
    r"(?<![A-Za-z0-9])(?:(?!dev|val)[a-z]{2,3}[-_](?:[A-Z][a-z]{3}|[A-Z]{2})|[A-Za-z0-9]+)(?![A-Za-z0-9])"
)
_CODE = re.compile(r"[a-z]{2,3}(?:[-_](?:[A-Z][a-z]{3}|[A-Z]{2}))?|[A-Z]{2,3}")


@dataclass(frozen=True)
class DataFile:
    """A file of one split. `pattern` is its path in the folder with {lang} for its `language`, which is spelled as in
    the name, None where the name has none: then `words` are those of the name that might have been meant as one."""

    path: Path
    pattern: str
    split: str
    language: str | None
    words: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The path in the folder."""
        return self.pattern.replace("{lang}", self.language or "")


def known_code(value: str) -> bool:
    """Whether this is a language code beyond doubt: ISO 639-1, or one with a script or a region."""
    return value.lower() in _CODES or (len(value) > 3 and _CODE.fullmatch(value) is not None) or value.lower() == "eng"


def find(folder: Path, source: str | None) -> tuple[list[DataFile], list[str]]:
    """The data files in a folder and up to three folders below it, in the order of their names, and remarks on what
    was left out.

    A token of a name is a language where it is a language code, or stands where other files have one: of several
    such places the one with the most codes. `source` counts as a code whatever it is.
    Raises `UserError` for a folder that is not there or holds no such files.
    """
    if not folder.is_dir():
        raise UserError(f"no such data folder: {folder}")
    named: list[tuple[str, re.Match[str]]] = []
    others: list[str] = []
    for name in _names(folder):
        word = _split_word(name)
        if word is None or "{" in name or "}" in name:
            others.append(name)
        else:
            named.append((name, word))
        if len(named) + len(others) > _MOST:
            raise UserError(f"{folder}: more than {_MOST} data files; give the folder of one benchmark")
    if not named:
        raise UserError(
            f"{folder}: no {', '.join(SUFFIXES)} file with one of train, dev (valid, val, validation) and test in its "
            f"name; found {', '.join(others[:5]) or 'none'}; name them like train-en.tsv, dev-en.tsv, test-sw.tsv"
        )
    remarks = [
        f"not used: {name} (its name says none, or several, of train, dev and test, or has braces)" for name in others
    ]
    places: dict[str, set[str]] = {}
    for name, word in named:
        for code in _candidates(name, word):
            places.setdefault(_template(name, word, code), set()).add(code)
    trained = {word for name, split in named if _split(split) == "train" for word in _words(name)}
    files = []
    for name, word in named:
        language = _language(name, word, places, source, remarks)
        pattern = name if language is None else _replace(name, [(t, "{lang}") for t in _tokens(name, word, language)])
        split = _split(word)
        # A word of the training files' names means no other language than theirs; a code may be theirs.
        unknown = [w for w in _words(name) if w not in trained or (split == "train" and _CODE.fullmatch(w))]
        files.append(DataFile(folder / name, pattern, split, language, () if language else tuple(unknown)))
    return files, remarks


def _names(folder: Path) -> Iterator[str]:
    for root, folders, names in os.walk(folder):
        depth = len(Path(root).relative_to(folder).parts)
        folders[:] = sorted(f for f in folders if not f.startswith(".")) if depth < _DEEPEST else []
        for name in sorted(names):
            if name.endswith(SUFFIXES) and not name.startswith("."):
                yield (Path(root) / name).relative_to(folder).as_posix()


def _split_word(name: str) -> re.Match[str] | None:
    """The word that names the split: of the file's own name, or else of the nearest folder that has one."""
    *_, suffix = name.rpartition(".")
    start = name.rfind("/") + 1
    words = [t for t in _TOKEN.finditer(name, 0, len(name) - len(suffix) - 1) if t[0].lower() in SPLIT_WORDS]
    own = [word for word in words if word.start() >= start]
    if len({SPLIT_WORDS[word[0].lower()] for word in own}) > 1:
        return None
    found = own or words
    return found[-1] if found else None


def _stem_tokens(name: str) -> list[re.Match[str]]:
    return list(_TOKEN.finditer(name, 0, name.rfind(".")))


def _split(word: re.Match[str]) -> str:
    return SPLIT_WORDS[word[0].lower()]


def _words(name: str) -> list[str]:
    """What stands in a name in letters of any script, but for the words of splits."""
    found = re.findall(r"(?:[A-Za-z]|[^\x00-\x7f]){2,}", name[: name.rfind(".")])
    return [word for word in dict.fromkeys(found) if word.lower() not in SPLIT_WORDS]


def _candidates(name: str, word: re.Match[str]) -> list[str]:
    """The tokens that may be a language, in their order."""
    tokens = [t[0] for t in _stem_tokens(name) if t.span() != word.span()]
    return [token for token in dict.fromkeys(tokens) if _CODE.fullmatch(token) and token.lower() not in SPLIT_WORDS]


def _tokens(name: str, word: re.Match[str], code: str) -> list[re.Match[str]]:
    return [token for token in _stem_tokens(name) if token[0] == code and token.span() != word.span()]


def _replace(name: str, changes: list[tuple[re.Match[str], str]]) -> str:
    for token, new in sorted(changes, key=lambda change: -change[0].start()):
        name = name[: token.start()] + new + name[token.end() :]
    return name


def _template(name: str, word: re.Match[str], code: str) -> str:
    return _replace(name, [(word, "{split}"), *((token, "{lang}") for token in _tokens(name, word, code))])


def _language(
    name: str, word: re.Match[str], places: dict[str, set[str]], source: str | None, remarks: list[str]
) -> str | None:
    best: tuple[tuple[int, bool, int], str, set[str]] | None = None
    for position, code in enumerate(_candidates(name, word)):
        there = places[_template(name, word, code)]
        sure = {other for other in there if known_code(other) or other == source}
        sources = {source} if source else {"en", "eng"}
        # pcm beside eng is a language, new beside en is not.
        if not sure or not (code in sure or len(sure) > 1 or len(code) in map(len, sure & sources)):
            continue
        if len(there) == 1 and code.lower() in _WORDS and code not in sources:
            continue
        rank = (len(sure), bool(there & sources), position)
        if best is None or rank > best[0]:
            best = (rank, code, sure)
    if best is None:
        return None
    _, code, sure = best
    if code not in sure:
        remarks.append(f"{name}: {code!r} was taken for a language, since others stand there: {' '.join(sorted(sure))}")
    return code
