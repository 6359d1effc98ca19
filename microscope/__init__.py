"""Microscope: a desktop application that puts a language model under glass."""

__version__ = "0.1.0"
