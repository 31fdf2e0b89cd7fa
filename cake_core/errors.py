"""The one error that users see as a sentence; anything else is a bug and surfaces as a traceback."""

__all__ = ["CakeError"]


class CakeError(Exception):
    """Something the user can put right.

    The message is one or two sentences: what was wrong, and what to do instead. Pages show it, the command line
    prints it on stderr and exits with 2. Any other exception is a bug and is never dressed up as a message.
    """
