"""A choice's stem as the table words it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fairseq_robust_xlt.benchmarks import Benchmark
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.text.readers import worded


def stem(given: Mapping[str, Any], benchmark: Benchmark, where: str) -> str | None:
    """What stands before every option of an input: its stem, in the words of the table's template where it has some,
    as in training; None for no stem.

    Raises `UserError` for an input without the field `template` where every layout of the table has templates, for an
    unknown one, and for one without a stem.
    """
    found = given.get("stem")
    text = found if isinstance(found, str) and found.strip() else None
    with_templates = [layout for layout in benchmark.layouts if layout.templates]
    templates = {key: value for layout in reversed(with_templates) for key, value in layout.templates.items()}
    if not templates or ("template" not in given and len(with_templates) < len(benchmark.layouts)):
        return text
    allowed = ", ".join(templates)
    if "template" not in given:
        raise UserError(f'{where}: no "template", by which {benchmark.name} words the stem; give one of: {allowed}')
    if text is None:
        raise UserError(f"{where}: a template, and no stem that it could word")
    return worded(text, str(given["template"]), templates, "", where)
