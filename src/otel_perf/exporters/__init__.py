"""Exporters: ways by which metrics leave the process."""

__all__: list[str] = []
