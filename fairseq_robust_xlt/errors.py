"""The one exception that a user's mistake raises."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input: the message says what was given, what is allowed, and which flag or file:line.

    The command line prints it as one message without a stack trace and exits with status 1.
    """


def shortened(text: str, most: int = 200) -> str:
    """A text for a message, cut where it is long: a whole header, or a text that stands where a label should."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"


def unknown(what: str, given: str, known: Iterable[str], flag: str = "") -> UserError:
    """A `UserError` for a name that does not exist, with the nearest known names first."""
    names = sorted(known)
    near = difflib.get_close_matches(given, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    where = f"{flag}: " if flag else ""
    return UserError(f"{where}unknown {what} {shortened(repr(given))}; {hint}known: {', '.join(names)}")
