"""Measures Corral against Apache's server on one machine: the same disk, the same settings, in turn.

`python -m bench` is the way in; README.md says what each command measures and how.
"""
