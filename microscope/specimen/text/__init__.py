"""The specimen's own text: short documents with the concepts in them marked."""

from microscope.specimen.text.document import Document, Span
from microscope.specimen.text.generator import documents

__all__ = ["Document", "Span", "documents"]
