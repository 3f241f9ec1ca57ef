"""The one error that a wrong configuration raises."""

__all__ = ["ConfigError"]


class ConfigError(ValueError):
    """A setting has a wrong value, or two settings do not go together.

    ``keys`` are the settings that the message is about, in the spelling of ``zoo.cfg``; whoever knows where
    they were written (file and line) puts that in front of the message.
    """

    def __init__(self, message: str, *keys: str) -> None:
        super().__init__(message)
        self.keys = keys
