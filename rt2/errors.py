"""The error that is meant for the user."""


class UserError(ValueError):
    """Something that the user can mend; the message says what and how.

    The commands print it without a traceback.
    """


class ConfigError(UserError):
    """A config field with a value that does not exist or does not fit."""
