"""`robust-xlt cost`: the table, and what it does not know."""

from __future__ import annotations

import pytest

from fairseq_robust_xlt import recipes
from fairseq_robust_xlt.cli import main as command


def table(capsys, *arguments: str) -> dict[str, list[float]]:
    """Method -> thirds, times standard, TFLOPs, times standard, GiB, times standard."""
    assert command.main(["cost", *arguments]) == 0
    head, columns, *rows = capsys.readouterr().out.splitlines()
    assert head.startswith("calculated, not measured: ")
    assert columns.split()[0] == "method"
    return {
        name: [float(cell.removesuffix("/3")) for cell in cells] for name, *cells in (line.split() for line in rows)
    }


def test_every_method(capsys) -> None:
    rows = table(capsys)
    assert list(rows) == recipes.names()
    assert rows["standard"][:2] == [3, 1]
    assert rows["standard"][3] == rows["standard"][5] == 1
    # 2 x 85M weights x 4096 tokens x 3 passes = 2.09, attention 0.06; 278M x 16 bytes = 4.14 GiB and the activations.
    assert rows["standard"][2] == pytest.approx(2.145, abs=0.002)
    assert rows["standard"][4] == pytest.approx(6.5, abs=0.1)
    assert rows["fgm"][:2] == [7, 2.33]
    assert rows["adv"][3] == pytest.approx(5 / 3, abs=0.03)


def test_what_is_asked_for(capsys, tmp_path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text("defaults: {perturbed_weight: 1, perturbation: ascent, perturb_steps: 4}", encoding="utf-8")
    rows = table(capsys, "--method", f"fgm,{own}", "--arch", "xlmr_large", "--length", "256", "--batch-size", "8")
    assert list(rows) == ["fgm", str(own)]
    assert rows[str(own)][0] == 3 * 2 + 4 * 2 - 1
    plain = table(capsys, "--method", "fgm", "--checkpoint-activations")["fgm"]
    assert plain[3] == pytest.approx(
        2.5, abs=0.02
    )  # five forward passes of which three again, and the same gradients: 10 of 4 quarters
    saved = table(capsys, "--method", "fgm", "--precision", "memory-efficient-fp16", "--freeze-embeddings")["fgm"]
    assert saved[4] < plain[4] < table(capsys, "--method", "fgm", "--cpu")["fgm"][4]


def test_other_models(capsys) -> None:
    """A teacher is one more model in fp32, a running average one of what is trained: 278M and 86M parameters."""
    xtune = table(capsys, "--method", "xtune,xtune-stage2")
    assert xtune["xtune-stage2"][4] - xtune["xtune"][4] == pytest.approx(278.05e6 * 4 / 2**30, abs=0.011)
    frozen = ("--method", "smart", "--freeze-embeddings", "--precision", "memory-efficient-bf16")
    plain, average = (table(capsys, *frozen, "--bregman-weight", weight)["smart"] for weight in ("0", "1"))
    assert average[4] - plain[4] == pytest.approx(86.04e6 * 4 / 2**30, abs=0.011)
    assert average[0] == plain[0] + 1


def test_settings_as_in_training(capsys) -> None:
    rows = table(capsys, "--method", "adv,freelb", "--perturb-steps", "5", "--radius", "0.1")
    assert (rows["adv"][0], rows["freelb"][0]) == (13, 19)
    assert rows["adv"][1] == pytest.approx(13 / 3, abs=0.01)  # of a standard that has no steps


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--arch", "xlmr_huge"], ["--arch", "'xlmr_huge'", "xlmr_large"]),
        (["--method", "fgm,adw"], ["--method", "'adw'", "did you mean adv"]),
        (["--precision", "fp8"], ["--precision", "'fp8'", "fp16"]),
        (
            ["--method", "fgm,standard", "--perturb-steps", "5"],
            ["--perturb-steps 5", "no meaning for --method standard"],
        ),
        (["--length", "600"], ["--length 600", "512"]),
        (["--batch-size", "0"], ["--batch-size 0", "1 or larger"]),
    ],
)
def test_mistakes(capsys, arguments, said) -> None:
    assert command.main(["cost", *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    for part in said:
        assert part in err
