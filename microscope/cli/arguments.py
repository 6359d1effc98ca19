"""The command line's grammar: subcommands, options and their help."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from microscope import __version__
from microscope.core.cards import SPECIMEN

COMMANDS = ("open", "read", "generate", "snapshot", "doctor", "sae", "library", "labels")


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parse; without a subcommand the arguments are those of `open`.

    Raises:
        SystemExit: bad usage (code 2) or `--help` (code 0).
    """
    if not arguments or (
        arguments[0] not in COMMANDS and arguments[0] not in ("-h", "--help", "--version")
    ):
        arguments = ["open", *arguments]
    return _parser().parse_args(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="microscope",
        description="See what a language model thinks at every layer, and hold its features.",
        epilog="Without a command, the window opens: microscope [MODEL] [--sae PATH ...].",
    )
    parser.add_argument("--version", action="version", version=f"microscope {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_open(commands.add_parser("open", help="open the window (the default)"))
    _add_read(commands.add_parser("read", help="read a prompt at every layer; JSON"))
    _add_generate(commands.add_parser("generate", help="write with and without clamps; JSON"))
    _add_snapshot(commands.add_parser("snapshot", help="a picture of the window, as PNG"))
    _add_labels(commands.add_parser("labels", help="labels of features, from files"))
    doctor = commands.add_parser("doctor", help="versions, devices, memory, what is wrong")
    _add_json(doctor)
    _add_sae(commands.add_parser("sae", help="look at SAEs without opening a model; JSON"))
    _add_library(commands.add_parser("library", help="the models on this computer"))
    return parser


def _add_open(parser: argparse.ArgumentParser) -> None:
    parser.description = "Open the window."
    parser.add_argument(
        "model", nargs="?", metavar="MODEL", help="a folder, a hub id or 'specimen'"
    )
    _add_saes(parser)
    parser.add_argument("--prompt", metavar="P", help="what to start with")
    parser.add_argument("--theme", choices=("dark", "light"), help="look of the window")


def _add_read(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Read a prompt: the most probable next tokens at every site and token, the SAE "
        "features that are on, and the share of the squared norm that each SAE leaves "
        "unexplained."
    )
    _add_model(parser)
    _add_prompt(parser)
    parser.add_argument("--top", type=_positive, default=10, metavar="N", help="tokens a cell")
    parser.add_argument(
        "--max-features",
        type=_positive,
        default=1000,
        metavar="N",
        help="at most so many features a token, strongest first (default 1000)",
    )
    _add_clamps(parser)
    _add_json(parser)


def _add_generate(parser: argparse.ArgumentParser) -> None:
    parser.description = "Write twice with the same draws: without clamps and with them."
    _add_model(parser)
    _add_prompt(parser)
    _add_clamps(parser)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="key of the draws")
    for name, kind, default, text in (
        ("temperature", float, 1.0, "0 is greedy"),
        ("top-k", int, 0, "0 is off"),
        ("top-p", float, 1.0, "1 is off"),
        ("min-p", float, 0.0, "0 is off"),
        ("repetition-penalty", float, 1.0, "1 is off"),
    ):
        parser.add_argument(
            f"--{name}", type=kind, default=default, metavar="X", help=f"{text}; {default}"
        )
    _add_length(parser)
    _add_json(parser)


def _add_snapshot(parser: argparse.ArgumentParser) -> None:
    parser.description = "Render the real window offscreen, after the run has finished."
    _add_model(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="PNG", help="the picture")
    parser.add_argument("--prompt", metavar="P", help="default: the first demonstration")
    parser.add_argument("--chat", action="store_true", help="use the chat template")
    _add_clamps(parser)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="key of the draws")
    _add_length(parser)
    parser.add_argument("--select", metavar="TOKEN:SITE", help="the cursor, e.g. 3:5")
    parser.add_argument("--size", type=_size, default=(1600, 1000), metavar="WxH")
    parser.add_argument("--theme", choices=("dark", "light"), default="dark")
    parser.add_argument("--print-texts", action="store_true", help="print both texts too")


def _add_sae(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    inspect = actions.add_parser("inspect", help="what a file or folder is; JSON")
    inspect.description = (
        "Print what the SAEs at or below a path are: format, architecture, site, sizes, "
        "normalisation, dtype and remarks."
    )
    inspect.add_argument("path", metavar="PATH", help="an SAE's file or folder, or several")
    _add_json(inspect)


def _add_library(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "List the models of the Hugging Face cache, of the folders chosen in the window and "
        "of those given here, and whether they fit into the free memory."
    )
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help="more folders to look in")
    parser.add_argument(
        "--json", metavar="FILE", nargs="?", const="-", help="as JSON; - or nothing is stdout"
    )


def _add_labels(parser: argparse.ArgumentParser) -> None:
    parser.description = "Work with labels of features."
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    importing = actions.add_parser("import", help="bring labels in from a file or folder")
    importing.description = (
        "Add labels, statistics and examples to a store of feature pages. Reads what "
        "Neuronpedia, SAEDashboard and circuit-tracer write, and tables of numbers and labels "
        "(CSV, TSV, JSON); what a file is, is seen from its content."
    )
    importing.add_argument("path", type=Path, metavar="PATH", help="a file, or a folder")
    importing.add_argument("--sae", required=True, metavar="NAME", help="whose features")
    importing.add_argument(
        "--store", required=True, type=Path, metavar="FILE", help="made if there is none"
    )
    importing.add_argument(
        "--features", type=_positive, metavar="N", help="refuse a file about a larger SAE"
    )
    _add_json(importing)


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", default=SPECIMEN, metavar="M", help="a folder, a hub id or 'specimen'"
    )
    _add_saes(parser)


def _add_saes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sae",
        action="append",
        default=[],
        metavar="PATH",
        dest="saes",
        help="an SAE's folder, or a folder of them; may be repeated",
    )


def _add_prompt(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prompt", required=True, metavar="P", help="the text to go on from")
    parser.add_argument("--chat", action="store_true", help="use the chat template")


def _add_clamps(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--clamp",
        action="append",
        default=[],
        metavar="SAE:INDEX=VALUE[@MODE]",
        dest="clamps",
        help="hold a feature; MODE is clamp, add, scale or ablate; may be repeated",
    )


def _add_length(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-new-tokens", type=_positive, default=48, metavar="N", help="at most; 48"
    )


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", metavar="FILE", default="-", help="where the JSON goes; - is stdout"
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{3,5})x(\d{3,5})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 1600x1000")
    return int(match[1]), int(match[2])
