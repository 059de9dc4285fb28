"""Exporters: ways by which metrics leave the process."""
