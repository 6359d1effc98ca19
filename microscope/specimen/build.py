"""Builds a specimen from nothing: text, tokenizer, model, SAEs, pages, demonstrations.

The folder appears whole or not at all: everything is written into a hidden folder beside it,
which takes its name at the end. Two builds at once do not meet; the last to end stays.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeVar

import msgspec
import torch
from transformers.utils import logging as transformers_logging

from microscope.core.errors import FileNotWritten
from microscope.core.sites import resid_post
from microscope.specimen.activations import collect_residuals
from microscope.specimen.demos import DemoSearch, KnownRuns
from microscope.specimen.model import held_out_loss, new_model, token_rows, train_model
from microscope.specimen.pages import measure_pages
from microscope.specimen.saes import measure, save_sae, train_sae
from microscope.specimen.text import documents
from microscope.specimen.tokenizer import train_tokenizer
from microscope.storage.feature_pages import FeaturePages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    from microscope.specimen.recipe import Recipe
    from microscope.specimen.saes import Sae
    from microscope.specimen.text import Document

    OnProgress = Callable[[str, int, int], None]

Item = TypeVar("Item")

TOTAL = 1000
_SHARES = {
    "Writing the text": 60,
    "Making the tokenizer": 20,
    "Training the model": 600,
    "Training the SAEs": 180,
    "Measuring the features": 60,
    "Looking for demonstrations": 80,
}
"""The steps of a build and how much of the time each takes, in parts of `TOTAL`."""
_HELD_OUT_FROM = 1_000_000_000
"""Held-out documents are numbered from here; no training text is as long."""
_MEASURED_ROWS = 100
_CHECKED = 8
"""Held-out texts that the program checks itself on: the model knows no other kind of text."""
_STALE_SECONDS = 86_400.0
_RENAMES = 20


def build(recipe: Recipe, folder: Path, on_progress: OnProgress) -> None:
    """Make a specimen; one that stands in `folder` is replaced when the new one is complete.

    `on_progress` is told what is being done and how far the whole is: (text, done, total).

    Raises:
        FileNotWritten: the disk is full, or the folder cannot be written to.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _building_folder(folder) as building:
            _Build(recipe, building, _Reporter(on_progress)).run()
            _publish(building, folder)
    except OSError as error:
        raise FileNotWritten(
            f"The specimen could not be written to {folder}: {error}. Make room on the disk, "
            "or choose a folder that you may write to."
        ) from error


class _Reporter:
    """Turns the progress of steps into the progress of the whole."""

    def __init__(self, on_progress: OnProgress) -> None:
        self._on_progress = on_progress
        self._before = 0
        self._last = (-1, "")

    def step(self, text: str, done: int, total: int) -> None:
        """Say how far a step is."""
        names = list(_SHARES)
        before = sum(_SHARES[name] for name in names[: names.index(text)])
        now = before + _SHARES[text] * done // max(1, total)
        if (now, text) != self._last:
            self._last = (now, text)
            self._on_progress(text, now, TOTAL)

    def counted(self, text: str, items: Iterable[Item], total: int) -> Iterator[Item]:
        """Pass items on and count them."""
        for number, item in enumerate(items):
            self.step(text, number, total)
            yield item
        self.step(text, total, total)


class _Build:
    """One build, step by step, into an empty folder."""

    def __init__(self, recipe: Recipe, folder: Path, reporter: _Reporter) -> None:
        self._recipe, self._folder, self._reporter = recipe, folder, reporter
        self._card: dict[str, object] = {"recipe": asdict(recipe)}

    def run(self) -> None:
        """Do every step and write every file."""
        with torch.random.fork_rng(devices=[]), _without_progress_bars():
            texts, held_out = self._write_text()
            model, tokenizer = self._make_model(texts, held_out)
            saes = self._make_saes(model, token_rows(tokenizer, texts))
            self._make_pages(model, tokenizer, saes, held_out, texts)
        self._write_json("specimen.json", self._card)

    def _write_text(self) -> tuple[list[str], list[Document]]:
        recipe, step = self._recipe, "Writing the text"
        written = documents(recipe.n_documents, recipe.seed)
        counted = self._reporter.counted(step, written, recipe.n_documents)
        texts = [document.text for document in counted]
        held_out = list(documents(recipe.n_held_out, recipe.seed, first=_HELD_OUT_FROM))
        self._write_json("checkup.json", [document.text for document in held_out[:_CHECKED]])
        return texts, held_out

    def _make_model(
        self, texts: list[str], held_out: list[Document]
    ) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
        recipe = self._recipe.model
        self._reporter.step("Making the tokenizer", 0, 1)
        tokenizer = train_tokenizer(texts, recipe.n_vocabulary, recipe.context_length)
        model = new_model(recipe, tokenizer, self._recipe.seed)
        rows = token_rows(tokenizer, texts)
        train_model(model, rows, recipe, self._recipe.seed, self._steps("Training the model"))
        model.save_pretrained(self._folder)
        tokenizer.save_pretrained(self._folder)
        measured = [document.text for document in held_out[:_MEASURED_ROWS]]
        self._card["held_out_loss"] = held_out_loss(model, token_rows(tokenizer, measured))
        return model, tokenizer

    def _make_saes(self, model: LlamaForCausalLM, rows: list[list[int]]) -> dict[str, Sae]:
        recipe, saes, quality = self._recipe.saes, {}, {}
        x = collect_residuals(model, rows, recipe.n_tokens)  # (n_layers, n_tokens, d_model)
        for layer in range(len(x)):
            site = resid_post(layer)
            on_step = self._steps("Training the SAEs", layer, len(x))
            saes[site] = train_sae(x[layer], recipe, self._recipe.seed, on_step)
            quality[site] = asdict(measure(saes[site], x[layer]))
            context_length = self._recipe.model.context_length
            save_sae(saes[site], self._folder / "saes", site, self._recipe.name, context_length)
        self._card["saes"] = quality
        return saes

    def _make_pages(
        self,
        model: LlamaForCausalLM,
        tokenizer: PreTrainedTokenizerFast,
        saes: dict[str, Sae],
        held_out: list[Document],
        texts: list[str],
    ) -> None:
        self._reporter.step("Measuring the features", 0, 1)
        pages = measure_pages(model, tokenizer, saes, held_out)
        with FeaturePages(self._folder / "pages.sqlite", is_writable=True) as store:
            store.write(page for found in pages.values() for page in found)
        search = DemoSearch(model, tokenizer, saes, KnownRuns(texts), self._recipe.demos)
        on_step = self._steps("Looking for demonstrations")
        self._write_json("demos.json", search.find(pages, self._recipe.seed, on_step))

    def _steps(self, text: str, part: int = 0, n_parts: int = 1) -> Callable[[int, int], None]:
        """Reports the steps of one of several equal parts of a step."""

        def report(done: int, total: int) -> None:
            self._reporter.step(text, part * total + done, n_parts * total)

        return report

    def _write_json(self, name: str, value: object) -> None:
        body = msgspec.json.format(msgspec.json.encode(value), indent=2)
        (self._folder / name).write_bytes(body + b"\n")


@contextlib.contextmanager
def _building_folder(folder: Path) -> Iterator[Path]:
    """A new hidden folder beside `folder`, gone at the end unless it was renamed."""
    _remove_stale(folder)
    building = folder.parent / f".{folder.name}.building-{secrets.token_hex(6)}"
    building.mkdir()
    try:
        yield building
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _remove_stale(folder: Path) -> None:
    """Remove what builds that were killed long ago have left."""
    for left in folder.parent.glob(f".{folder.name}.*-*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(left, ignore_errors=True)


def _publish(building: Path, folder: Path) -> None:
    """Give a complete folder its name; what had the name before is removed."""
    for _ in range(_RENAMES):
        try:
            building.rename(folder)
            return
        except OSError:
            if not folder.exists():
                raise
        # Somebody's folder is there: an older one, or one that was completed just now.
        old = folder.parent / f".{folder.name}.old-{secrets.token_hex(6)}"
        with contextlib.suppress(FileNotFoundError):
            os.rename(folder, old)
            shutil.rmtree(old, ignore_errors=True)
    raise FileNotWritten(
        f"The specimen could not be put at {folder}: another program keeps writing there. "
        "Close the other program and build again."
    )


@contextlib.contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Keep transformers from drawing its own."""
    was_on = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if was_on:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
