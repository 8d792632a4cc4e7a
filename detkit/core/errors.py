"""Define the one exception that a user's input can raise."""


class UserError(ValueError):
    """Wrong input from outside: a path, a key, a file. The message names it and the fix; the CLI prints only that."""
