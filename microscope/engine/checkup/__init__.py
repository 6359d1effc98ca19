"""The check-up: measures on the open model and SAEs whether what is shown can be trusted."""

from microscope.engine.checkup.checking import check_up

__all__ = ["check_up"]
