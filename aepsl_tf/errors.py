"""The one exception that a user can cause and mend."""


class InputError(ValueError):
    """Bad input, told in one line: what is wrong, where, and what to do.

    Command lines print the message and exit non-zero; every other exception keeps its traceback,
    because it is a fault of ours.
    """
