"""The one error a user is meant to read."""


class HemError(Exception):
    """Something the user can put right: the message names the thing, what is wrong and what to do.

    Entry points print the message alone and end with exit status 2; any other exception is a
    fault of the program and keeps its traceback.
    """
