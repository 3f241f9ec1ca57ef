"""The one error of this package."""


class BenchError(Exception):
    """A measurement could not be made; the message says which and why."""
