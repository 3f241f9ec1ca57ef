"""Corral: a coordination service that speaks Apache ZooKeeper's protocol and disk formats."""

__version__ = "0.1.0"
__all__ = ["__version__"]
