"""The errors that what a user gives to sqznet can cause."""


class InputError(ValueError):
    """Something given to sqznet is wrong: a path, a flag, a file's content.

    Its text says what was expected, what came, where, and what to do. The commands print it
    without a traceback and exit with code 1; any other exception is a bug of ours and keeps its traceback.
    """


class Reject(Exception):
    """A photograph cannot be used; the text says why. The name of its file is for who catches this to add."""


class NotAnImage(Reject):
    """It is no photograph of any format that is read."""
