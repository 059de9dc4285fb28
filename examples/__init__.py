"""Holds the runnable examples; a package so that each can be started with `python -m examples.<name>`."""
