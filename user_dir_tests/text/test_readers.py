import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fairseq_robust_xlt import benchmarks
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.text import Example, read

XNLI = benchmarks.load("xnli")
SIB200 = benchmarks.load("sib200")
HEADER = "index_id\tcategory\ttext\n"
ROW = "A man eats.\tSomebody eats.\tentailment\n"


def put(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_pairs_without_a_header(tmp_path):
    path = put(tmp_path, "dev-sw.tsv", 'Say "it.\tHe said it.\tentailment\nA\tB\tcontradictory\n')
    assert read(XNLI, tmp_path, "dev", "sw") == [
        Example("0", "sw", (('Say "it.', "He said it."),), 1, f"{path}:1"),
        Example("1", "sw", (("A", "B"),), 0, f"{path}:2"),
    ]


def test_sentences_with_a_header_and_ids(tmp_path):
    path = put(tmp_path, "test-ur.tsv", HEADER + '431\tgeography\t"""Turkey"" is"\n')
    assert read(SIB200, tmp_path, "test", "ur") == [Example("431", "ur", (('"Turkey" is',),), 1, f"{path}:2")]


def test_the_published_folders_are_a_second_layout(tmp_path):
    put(tmp_path, "swh_Latn/dev.tsv", HEADER + "1\tsports\tMbio\n")
    assert read(SIB200, tmp_path, "dev", "sw")[0].sequences == (("Mbio",),)
    put(tmp_path, "dev-sw.tsv", HEADER + "1\tsports\tMchezo\n")
    assert read(SIB200, tmp_path, "dev", "sw")[0].sequences == (("Mchezo",),)


@pytest.mark.parametrize("content", [ROW * 2, (ROW * 2)[:-1], (ROW * 2).replace("\n", "\r\n"), "\ufeff" + ROW * 2])
def test_line_ends_and_byte_order_marks_do_not_matter(tmp_path, content):
    put(tmp_path, "dev-en.tsv", content)
    examples = read(XNLI, tmp_path, "dev", "en")
    assert [(e.sequences, e.label) for e in examples] == [((("A man eats.", "Somebody eats."),), 1)] * 2


# Everything but what ends a field or a line: quotes, U+2028 and control characters are text.
_TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\t\n\r"), min_size=1).filter(lambda t: t.strip())


@given(st.lists(st.tuples(_TEXTS, _TEXTS, st.sampled_from(XNLI.labels)), min_size=1))
def test_what_is_written_is_read(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("round")
    put(folder, "dev-en.tsv", "\ufeff" + "".join("\t".join(row) + "\n" for row in rows))
    examples = read(XNLI, folder, "dev", "en")
    assert [(*e.sequences[0], XNLI.labels[e.label]) for e in examples] == rows
    assert [e.id for e in examples] == [str(i) for i in range(len(rows))]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (ROW + "A\tB\n", ":2: 2 columns, but line 1 has 3"),
        (ROW + "\n" + ROW, ":2: an empty line"),
        (ROW + ROW + " \n", ":3: an empty line"),
        ("\n" + ROW, ":1: an empty line"),
        ("A B neutral\n", ":1: 1 column, but layout 'xtreme' reads column 2"),
        (
            ROW + "A\tB\tNeutral\n",
            ":2: unknown label 'Neutral' in column 3; allowed: contradiction, entailment, neutral",
        ),
        (ROW + " \tB\tneutral\n", ":2: the text in column 1 is empty"),
        (ROW + "A\t\tneutral\n", ":2: the text in column 2 is empty"),
        (ROW.encode() * 2 + b"caf\xe9\tB\tneutral\n", ":3: invalid UTF-8 (byte 0xe9)"),
        ("", ": the file has no rows"),
    ],
)
def test_faults_are_told_with_file_and_line(tmp_path, content, message):
    path = put(tmp_path, "dev-en.tsv", content)
    with pytest.raises(UserError, match=re.escape(f"{path}{message}")):
        read(XNLI, tmp_path, "dev", "en")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HEADER, ": the file has no rows below its header"),
        ("index_id\tlabel\ttext\n1\tsports\tA\n", ":1: no column 'category'; the header has: index_id, label, text"),
        ("index_id\ttext\tcategory\ttext\n1\tA\tsports\tB\n", ":1: more than one column 'text'"),
        (HEADER + "7\tsports\tA\n8\tsports\tB\n7\thealth\tC\n", ":4: the id '7' occurs before, in line 2"),
        (HEADER + "\tsports\tA\n", ":2: the id is empty"),
    ],
)
def test_faults_of_files_with_a_header(tmp_path, content, message):
    path = put(tmp_path, "dev-en.tsv", content)
    with pytest.raises(UserError, match=re.escape(f"{path}{message}")):
        read(SIB200, tmp_path, "dev", "en")


def test_a_missing_file_names_every_place_looked_at(tmp_path):
    with pytest.raises(UserError, match=r"no dev file for language 'sw' in .*: dev-sw\.tsv, swh_Latn/dev\.tsv"):
        read(SIB200, tmp_path, "dev", "sw")
    with pytest.raises(UserError, match="no such data folder"):
        read(SIB200, tmp_path / "none", "dev", "sw")


def test_a_split_that_the_table_does_not_have(tmp_path):
    content = yaml.safe_load(XNLI.text)
    content["layouts"] = content["layouts"][:1]
    del content["layouts"][0]["files"]["test"]
    table = put(tmp_path, "own.yaml", yaml.safe_dump(content))
    with pytest.raises(UserError, match="benchmark 'xnli' has no test split for language 'sw'"):
        read(benchmarks.load(table), tmp_path, "test", "sw")
