"""Make a controlled world: a source language l0, languages l1 to l5 at known distances, and three tasks in all of them.

Usage: make_world.py NUMBER FOLDER

Everything is a function of the world's number. Writes into FOLDER:

    corpus/LANG.txt                   text for pre-training: documents of two sentences, an empty line between them
    pieces/train                      all of it in pieces, shuffled: what fairseq-preprocess reads
    encoder/dict.txt                  the vocabulary, as XLM-R's is published (model.pt comes from pre-training)
    encoder/sentencepiece.bpe.model
    topic/, pair/, choice/            train-l0.tsv, dev-l0.tsv, test-LANG.tsv; the tables are TASK.yaml beside this file
    synonyms.json                     the source language's synonyms, for RS-DA
    words.json                        the forms of every concept in every language, for distance.py

A sentence is a scene (who does what to whom, where, how) on one of the topics, put into words by a language's lexicon
and word order. Nothing but the languages' forms, orders and amounts of text differs between languages, so their
distance is known by construction; distance.py measures what the encoder makes of it.
"""

from __future__ import annotations

import json
import random
import sys
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

import sentencepiece

TOPICS = 10
#: Concepts a topic has of each kind; adverbs and the two function words belong to no topic.
KINDS = {"noun": 6, "verb": 4, "adjective": 3, "place": 2}
ADVERBS = 4
DOCUMENTS = 20_000
#: Probability that a part of a document's first sentence comes again in its second.
RETOLD = 0.5
#: Probability that a content word of a scene comes from another topic than the scene's.
STRAY = 0.12
TRAIN = {"topic": 60, "pair": 1200, "choice": 300}
DEV, TEST = 500, 500
OPTIONS = 4


@dataclass(frozen=True)
class Language:
    """shared: share of forms that are the source's; weight: amount of text, the source's being 1; mixed: share of the
    documents that mix in source words; merged: share of concepts whose form is that of another concept."""

    name: str
    shared: float = 0.0
    weight: float = 1.0
    mixed: float = 0.0
    verb_last: bool = False
    adjective_after: bool = False
    merged: float = 0.0


SOURCE = Language("l0")
LANGUAGES = (
    SOURCE,
    Language("l1", 0.60, 0.8, 0.60),
    Language("l2", 0.45, 0.65, 0.45, adjective_after=True),
    Language("l3", 0.30, 0.5, 0.30, verb_last=True, merged=0.05),
    Language("l4", 0.20, 0.4, 0.20, merged=0.05),
    Language("l5", 0.10, 0.3, 0.10, verb_last=True, adjective_after=True, merged=0.05),
)


@dataclass(frozen=True)
class Scene:
    """Concepts; None where the scene says nothing."""

    subject: int
    verb: int
    object: int | None = None
    adjective: int | None = None
    place: int | None = None
    adverb: int | None = None


class World:
    """The concepts, which of them go together, and the lexicon of each language."""

    def __init__(self, number: int):
        self.number = number
        rng = self.generator("lexicon")
        self.of: dict[str, list[list[int]]] = {}  # kind -> topic -> concepts
        self.topic: list[int] = []  # of each concept, -1 for none
        for kind, count in KINDS.items():
            self.of[kind] = [self._concepts(topic, count) for topic in range(TOPICS)]
        self.adverbs = self._concepts(-1, ADVERBS)
        self.article, self.preposition = self._concepts(-1, 2)
        # A noun has its own verbs, adjectives and place, so that words of one topic can be told from each other.
        self.habits = {
            noun: {
                kind: rng.sample(self.of[kind][topic], size)
                for kind, size in (("verb", 2), ("adjective", 2), ("place", 1))
            }
            for topic in range(TOPICS)
            for noun in self.of["noun"][topic]
        }
        self.forms = self._lexicons(rng)

    def generator(self, purpose: str) -> random.Random:
        return random.Random(f"{self.number} {purpose}")

    def _concepts(self, topic: int, count: int) -> list[int]:
        first = len(self.topic)
        self.topic += [topic] * count
        return list(range(first, first + count))

    def _lexicons(self, rng: random.Random) -> dict[str, list[list[str]]]:
        """language -> concept -> its forms: 1 or 2 (synonyms) in the source, 1 in a target.

        All are new words, but for those that a target shares with the source or with another concept of its own.
        """
        used: set[str] = set()

        def word() -> str:
            while True:
                form = "".join(rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(rng.randint(2, 3)))
                if form not in used:
                    used.add(form)
                    return form

        concepts = len(self.topic)
        forms = {}
        for language in LANGUAGES:
            most = 2 if language == SOURCE else 1
            forms[language.name] = own = [[word() for _ in range(rng.randint(1, most))] for _ in range(concepts)]
            order = rng.sample(range(concepts), concepts)
            shared, merged = round(language.shared * concepts), round(language.merged * concepts)
            if language != SOURCE:
                for concept in order[:shared]:
                    own[concept] = list(forms[SOURCE.name][concept])
            for concept, other in zip(order[shared : shared + merged], order[::-1], strict=False):
                own[concept] = own[other]
        return forms

    def scene(self, rng: random.Random, topic: int, detail: float) -> Scene:
        """A scene on a topic; `detail` is the probability of each part beside subject and verb."""

        def of(kind: str) -> int:
            stray = rng.random() < STRAY
            return rng.choice(self.of[kind][rng.randrange(TOPICS) if stray else topic])

        def habit(kind: str) -> int:
            return rng.choice(self.habits[subject][kind]) if rng.random() < 0.6 else of(kind)

        subject = of("noun")
        verb = habit("verb")
        parts = [rng.random() < detail for _ in range(4)]
        return Scene(
            subject,
            verb,
            object=of("noun") if parts[0] else None,
            adjective=habit("adjective") if parts[1] else None,
            place=habit("place") if parts[2] else None,
            adverb=rng.choice(self.adverbs) if parts[3] else None,
        )

    def say(self, rng: random.Random, scene: Scene, language: Language, mixed: float = 0.0) -> str:
        """The scene as a sentence of that language; which synonym, is drawn. `mixed`: share of source words in it."""
        subject = [scene.subject] if scene.adjective is None else [scene.adjective, scene.subject]
        if language.adjective_after:
            subject.reverse()
        object_ = [] if scene.object is None else [self.article, scene.object]
        place = [] if scene.place is None else [self.preposition, scene.place]
        adverb = [] if scene.adverb is None else [scene.adverb]
        rest = [*object_, scene.verb] if language.verb_last else [scene.verb, *object_]
        return self.words(rng, [self.article, *subject, *rest, *place, *adverb], language, mixed)

    def words(self, rng: random.Random, concepts: list[int], language: Language, mixed: float = 0.0) -> str:
        names = [SOURCE.name if rng.random() < mixed else language.name for _ in concepts]
        return " ".join(rng.choice(self.forms[name][concept]) for name, concept in zip(names, concepts, strict=True))

    # ---- text for pre-training -------------------------------------------------------------------------------------

    def corpus(self) -> dict[str, list[list[str]]]:
        """language -> documents of two sentences, of which the second retells half of the first."""
        total = sum(language.weight for language in LANGUAGES)
        result = {}
        for language in LANGUAGES:
            rng = self.generator(f"corpus {language.name}")
            result[language.name] = [
                self._document(rng, language) for _ in range(round(DOCUMENTS * language.weight / total))
            ]
        return result

    def _document(self, rng: random.Random, language: Language) -> list[str]:
        topic = rng.randrange(TOPICS)
        first = self.scene(rng, topic, 0.5)
        new = self.scene(rng, topic, 0.5)
        second = Scene(*(a if rng.random() < RETOLD else b for a, b in zip(astuple(first), astuple(new), strict=True)))
        mixed = 0.5 if rng.random() < language.mixed else 0.0
        return [self.say(rng, scene, language, mixed) for scene in (first, second)]

    # ---- tasks -----------------------------------------------------------------------------------------------------

    def task(self, name: str, split: str) -> dict[str, list[list[str]]]:
        """language -> rows of columns, the label first; the same examples line by line in every language."""
        languages = LANGUAGES if split == "test" else (SOURCE,)
        rng = self.generator(f"{name} {split}")
        size = {"train": TRAIN[name], "dev": DEV, "test": TEST}[split]
        examples = [getattr(self, f"_{name}")(rng, index) for index in range(size)]
        rows = {}
        for language in languages:
            rng = self.generator(f"{name} {split} {language.name}")
            rows[language.name] = [
                [label, *(self._text(rng, text, language) for text in texts)] for label, texts in examples
            ]
        return rows

    def _text(self, rng: random.Random, meant: Scene | list[int], language: Language) -> str:
        return self.say(rng, meant, language) if isinstance(meant, Scene) else self.words(rng, meant, language)

    def _topic(self, rng: random.Random, index: int):
        """One short scene; its topic."""
        topic = index % TOPICS
        return f"topic{topic}", [self.scene(rng, topic, 0.3)]

    def _pair(self, rng: random.Random, index: int):
        """Two scenes; whether they are on the same topic."""
        first = rng.randrange(TOPICS)
        second = first if index % 2 else (first + rng.randrange(1, TOPICS)) % TOPICS
        return ("different", "same")[index % 2], [self.scene(rng, topic, 0.4) for topic in (first, second)]

    def _choice(self, rng: random.Random, index: int):
        """A scene and four places with an adjective; which of them is on the scene's topic."""
        topics = rng.sample(range(TOPICS), OPTIONS)
        right = index % OPTIONS
        options = [[rng.choice(self.of[kind][topic]) for kind in ("adjective", "place")] for topic in topics]
        return "ABCD"[right], [self.scene(rng, topics[right], 0.3), *options]


def write(world: World, folder: Path) -> None:
    corpus = world.corpus()
    for name, documents in corpus.items():
        _write(folder / "corpus" / f"{name}.txt", [line for document in documents for line in (*document, "")])
    everything = [document for documents in corpus.values() for document in documents]
    processor = _vocabulary([sentence for document in everything for sentence in document], folder / "encoder")
    world.generator("order").shuffle(everything)
    sentences = [line for document in everything for line in (*document, "")]
    _write(folder / "pieces/train", [" ".join(pieces) for pieces in processor.encode(sentences, out_type=str)])
    for name in TRAIN:
        for split in ("train", "dev", "test"):
            for language, rows in world.task(name, split).items():
                _write(folder / name / f"{split}-{language}.tsv", ["\t".join(row) for row in rows])
    synonyms = {form: [s for s in forms if s != form] for forms in world.forms[SOURCE.name] for form in forms}
    _json(folder / "synonyms.json", {form: others for form, others in synonyms.items() if others})
    _json(
        folder / "words.json",
        {"languages": [asdict(lang) for lang in LANGUAGES], "topic": world.topic, "forms": world.forms},
    )


def _vocabulary(sentences: list[str], folder: Path) -> sentencepiece.SentencePieceProcessor:
    """Train a SentencePiece model that keeps words whole, and write the fairseq dictionary of its pieces."""
    folder.mkdir(parents=True, exist_ok=True)
    words = {word for sentence in sentences for word in sentence.split()}
    model = folder / "sentencepiece.bpe.model"
    with open(model, "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=file,
            model_type="word",
            vocab_size=len(words) + 3,
            normalization_rule_name="nmt_nfkc",
            minloglevel=2,
        )
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    _write(folder / "dict.txt", [f"{processor.id_to_piece(i)} 1" for i in range(3, processor.get_piece_size())])
    return processor


def _write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=None, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(World(int(sys.argv[1])), Path(sys.argv[2]))
