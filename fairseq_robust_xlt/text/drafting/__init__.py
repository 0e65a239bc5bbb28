"""Drafts of benchmark tables, made by looking at a user's files."""

from fairseq_robust_xlt.text.drafting.draft import draft

__all__ = ["draft"]
