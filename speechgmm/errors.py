"""The exceptions and the warning that speechgmm raises."""


class SpeechGMMError(Exception):
    """Base of every error that speechgmm raises on purpose."""


class InputError(SpeechGMMError, ValueError):
    """Something the caller gave cannot be used; the message names it, the limit and the likely cause."""


class FormatError(SpeechGMMError, ValueError):
    """A file is not what it claims to be; the message names the file and the field that is wrong."""


class SpeechGMMWarning(UserWarning):
    """The result is valid, but something was changed or doubtful on the way to it."""
