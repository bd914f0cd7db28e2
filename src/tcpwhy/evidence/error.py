"""What is wrong with the input goes in, one line and a hint for the user come out."""

from __future__ import annotations


class EvidenceError(Exception):
    """The input as a whole is unusable.

    `str()` is `WHERE: WHAT`, lower case and without a full stop; `hint` says what to do, or is empty.
    """

    def __init__(self, where: str, what: str, hint: str = "") -> None:
        """`where` is the file or argument, with `:line` or `:key` where known.

        `what` says what is wrong and what was expected.
        """
        super().__init__(f"{where}: {what}")
        self.where = where
        self.what = what
        self.hint = hint
