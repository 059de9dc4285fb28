"""Behaviour that has to be the stock SDK's."""
