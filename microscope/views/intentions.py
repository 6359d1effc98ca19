"""The interface that the window needs of whoever carries out what the user asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from microscope.core.features import FeatureId
    from microscope.core.prompts import Sampler


class Intentions(Protocol):
    """What the user can ask for; the window passes each on as it is asked."""

    def set_prompt(self, text: str) -> None:
        """Other words for the model."""

    def set_chat(self, is_chat: bool) -> None:
        """Use the chat template or not."""

    def choose_token(self, token: int) -> None:
        """Put the cursor on a token."""

    def choose_cell(self, token: int, site: int) -> None:
        """Put the cursor on a cell."""

    def choose_feature(self, feature: FeatureId | None) -> None:
        """Put the cursor on a feature."""

    def add_clamp(self, feature: FeatureId) -> None:
        """Hold a feature."""

    def set_clamp_value(self, feature: FeatureId, value: float) -> None:
        """Hold it at another value, in activation units."""

    def set_clamp_mode(self, feature: FeatureId, mode: str) -> None:
        """Hold it in another way."""

    def mute_clamp(self, feature: FeatureId, is_muted: bool) -> None:
        """Let a clamp rest, or not."""

    def remove_clamp(self, feature: FeatureId) -> None:
        """Hold a feature no longer."""

    def end_gesture(self) -> None:
        """The mouse or key is up: one step for undo ends here."""

    def set_sampler(self, sampler: Sampler) -> None:
        """Draw tokens in another way."""

    def set_seed(self, seed: int) -> None:
        """Draw with another seed."""

    def set_max_new_tokens(self, n_tokens: int) -> None:
        """Write more or fewer tokens."""

    def regenerate(self) -> None:
        """Write the text again."""

    def stop(self) -> None:
        """Stop writing."""

    def open_model(self, source: str) -> None:
        """Open a model by its folder."""

    def open_saes(self, sources: tuple[str, ...]) -> None:
        """Open SAEs by their folders."""

    def close_sae(self, name: str) -> None:
        """Close an SAE by its name."""

    def undo(self) -> None:
        """Take the last change back."""

    def redo(self) -> None:
        """Make it again."""

    def check_up(self) -> None:
        """Measure again whether the model and its SAEs are what they seem."""

    def import_labels(self, path: str, sae: str = "") -> None:
        """Bring labels in from a file for an SAE by its name, or the one the file fits."""

    def restart_engine(self) -> None:
        """Start the engine process anew."""
