"""The command line: ``python -m qnn``, with a command for each thing that is done by hand."""

import argparse
import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qnn import reference
from qnn.cell import (
    DATASETS,
    INPUT_BITS,
    NETWORKS,
    PART,
    Cell,
    Folding,
    Policy,
    Quantization,
    Thresholds,
    dataset_name,
)
from qnn.errors import CellError, CheckpointError, EquivalenceError, QnnError
from qnn.gate import commands as gate_commands

# torch and Brevitas take seconds to import: `--help` and a wrong cell's name are answered without them.
# And what `doctor` may find missing is imported by the commands that need it.
if TYPE_CHECKING:
    from qnn.checkpoints import Checkpoint
    from qnn.doctor import Report
    from qnn.training import Epoch

__all__ = ["main"]

CELL_HELP = "A3W3 (A2W2 to A8W8: bits of activations and weights) or float"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m qnn", description="Train, evaluate and export quantised networks.")
    commands = parser.add_subparsers(dest="command", required=True)

    train = commands.add_parser(
        "train",
        help="train a cell; an interrupted training goes on where it was",
        description="Train a cell with the study's Table I. The same command goes on with an interrupted training.",
    )
    train.add_argument("cell", help=CELL_HELP)
    train.add_argument("--network", default=NETWORKS[0], help=" or ".join(NETWORKS))
    train.add_argument("--batch-size", type=int, help="100")
    train.add_argument("--learning-rate", type=float, help="0.01")
    train.add_argument("--validation", type=int, metavar="N", help="hold N training images out and log their error")
    train.add_argument("--threads", type=int, help="1")
    train.set_defaults(run=_train)

    sweep = commands.add_parser(
        "sweep",
        help="train many cells at once; an interrupted sweep goes on where it was",
        description="Train cells at once with the study's Table I. The same command goes on after an interruption.",
    )
    sweep.add_argument("--cells", type=_names, metavar="A3W3,A4W4", help="those to train (all 49)")
    sweep.add_argument(
        "--input-bits", type=int, default=INPUT_BITS, metavar="N", help="bits of the first quantiser: 2 to 8 (8)"
    )
    sweep.add_argument("--threads", type=int, help="processes, of one thread each (one for each core)")
    sweep.set_defaults(run=_sweep)
    for command in (train, sweep):
        command.add_argument("--dataset", default=DATASETS[0], help=" or ".join(DATASETS))
        command.add_argument(
            "--folder", type=Path, default=Path("runs"), help="for state, logs, checkpoints (%(default)s)"
        )
        command.add_argument("--epochs", type=int, help="100")
        command.add_argument("--milestones", type=int, nargs="*", help="epochs after which the rate is a tenth: 90 95")
        command.add_argument("--seed", type=int, help="0")

    ship = commands.add_parser(
        "ship",
        help="make a finished run's checkpoints those of the repository",
        description="Copy a finished run's checkpoints to fixtures/checkpoints and write their accuracy floors.",
    )
    ship.add_argument("folder", type=Path, help="of the run")
    ship.set_defaults(run=_ship)
    report = commands.add_parser(
        "report",
        help="figures and tables of the accuracy and hardware studies, as one page",
        description=(
            "Draw the accuracy study from fixtures/histories and the hardware study from rows of results: index.html, "
            "and its figures as SVG and PNG."
        ),
    )
    report.add_argument("--folder", type=Path, default=Path("report"), help="to write into (%(default)s)")
    report.add_argument(
        "--collect", type=Path, nargs="+", default=[], metavar="RUN", help="first take in these finished runs' folders"
    )
    report.add_argument(
        "--results", type=Path, default=Path("results"), help="folder of result rows; the newest count (%(default)s)"
    )
    report.set_defaults(run=_report)
    search = commands.add_parser(
        "search",
        help="the fastest balanced folding of cells that fits a part",
        description="Synthesise balanced foldings, the fastest first, until one fits a part beside FINN's shell.",
    )
    search.add_argument("cells", nargs="+", metavar="cell", help=CELL_HELP.removesuffix(" or float"))
    search.add_argument("--part", default=PART, help=PART)
    search.set_defaults(run=_search)
    diff = commands.add_parser(
        "diff",
        help="a few images of a cell through every hop, and the first node that differs",
        description="Test images through every hop of a cell, from Brevitas to the RTL, compared node by node.",
    )
    diff.add_argument("cell", help=CELL_HELP.removesuffix(" or float"))
    diff.add_argument("--image", type=int, nargs="+", default=[0], metavar="N", help="numbers of test images (0)")
    diff.add_argument("--folding", default="8x8", help="PE x SIMD (%(default)s)")
    diff.add_argument("--policy", default="uniform", help=" or ".join(Policy))
    diff.add_argument("--thresholds", default="finn", help=" or ".join(Thresholds))
    diff.set_defaults(run=_diff)
    check = commands.add_parser(
        "check",
        help="a QONNX model of yours through every hop",
        description=(
            "A QONNX model (Brevitas, QKeras, the QONNX model zoo) through every hop to RTL, resources and throughput. "
            "Exit status: 0 all hops ran and are equal, 1 something differs, 2 nothing differs but something could "
            "not be checked."
        ),
    )
    check.add_argument("model", type=Path, help="the .onnx file, of batch 1")
    check.add_argument(
        "--samples", type=Path, metavar="in.npz", help="x [N, ...] and, if there are labels, y [N] (random inputs)"
    )
    check.add_argument("--input", metavar="uint8", help="integers that the accelerator takes (as annotated, or uint8)")
    check.add_argument("--scale", default="1", metavar="1/255", help="the model gets scale * x + shift of them (1)")
    check.add_argument("--shift", default="0", metavar="-1", help="see --scale (0); write --shift=-1/2")
    check.add_argument("--folding", "--foldings", default="8x8", help="PE x SIMD (%(default)s)")
    check.add_argument("--policy", default="uniform", help=" or ".join(Policy))
    check.add_argument("--part", default=PART, help=PART)
    check.set_defaults(run=_check)
    for command in (search, diff):
        command.add_argument("--dataset", default=DATASETS[0], help=" or ".join(DATASETS))
    for command in (search, diff, check):
        command.add_argument(
            "--store",
            type=Path,
            default=Path(os.environ.get("QNN_STORE", ".store")),
            help="folder of built artifacts ($QNN_STORE or .store)",
        )
        command.add_argument("--results", type=Path, default=Path("results"), help="folder of results (%(default)s)")
    gate_commands.add_commands(commands)
    evaluate = commands.add_parser("evaluate", help="accuracy of a checkpoint on the 10,000 test images")
    evaluate.set_defaults(run=_evaluate)
    export = commands.add_parser("export", help="write a checkpoint's network as QONNX")
    export.set_defaults(run=_export)
    for command in (evaluate, export):
        command.add_argument("checkpoint", help=f"a .safetensors file, or the cell of a shipped one: {CELL_HELP}")
        command.add_argument("--dataset", help=f"of a shipped cell: {' or '.join(DATASETS)} ({DATASETS[0]})")
    export.add_argument("model", type=Path, help="the file to write, for example model.onnx")
    doctor = commands.add_parser(
        "doctor",
        help="what was found on this machine, what it allows, and what to do about the rest",
        description=(
            "Packages, tools, data, this machine, and the kinds of evidence that can be had here. "
            "Exit status 0 where the default benchmark can run, 1 otherwise."
        ),
    )
    doctor.add_argument(
        "--store",
        type=Path,
        default=Path(os.environ.get("QNN_STORE", ".store")),
        help="folder of built artifacts ($QNN_STORE or .store)",
    )
    doctor.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    doctor.set_defaults(run=_doctor)
    return parser


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name.strip()]


def _describe(row: "Epoch") -> str:
    validation = "" if row.validation_error is None else f"validation error {row.validation_error:6.2%}  "
    return (
        f"epoch {row.epoch:3}  loss {row.loss:.4f}  train error {row.train_error:6.2%}  "
        f"test error {row.test_error:6.2%}  {validation}rate {row.learning_rate:g}  {row.images_per_s:,.0f} images/s"
    )


def _chosen(options: argparse.Namespace) -> dict[str, Any]:
    """The training's settings among the options that were given."""
    from qnn import training

    names = {field.name for field in fields(training.Settings)}
    chosen = {name: value for name, value in vars(options).items() if name in names and value is not None}
    if "milestones" in chosen:
        chosen["milestones"] = tuple(chosen["milestones"])
    return chosen


def _train(options: argparse.Namespace) -> None:
    cell = Cell(
        network=options.network,
        dataset=dataset_name(options.dataset),
        quantization=Quantization.parse(options.cell),
    )
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from qnn import checkpoints, datasets, training

    settings = training.Settings(**_chosen(options))
    images = datasets.load(cell.dataset, "train")
    test = datasets.load(cell.dataset, "test")
    per_epoch = (len(images) - settings.validation) // settings.batch_size * settings.batch_size
    columns = (TextColumn(str(cell)), BarColumn(), TextColumn("{task.percentage:3.0f} %"), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task("", total=settings.epochs * per_epoch)

        def on_epoch(row: "Epoch") -> None:
            progress.update(task, completed=row.epoch * per_epoch)
            progress.console.print(_describe(row), highlight=False, soft_wrap=True)

        trained = training.train(
            cell,
            settings,
            train=images,
            test=test,
            folder=options.folder,
            on_epoch=on_epoch,
            on_images=lambda count: progress.advance(task, count),
        )
    path = options.folder / f"{cell}.safetensors"
    checkpoints.save(path, trained)
    print(f"{cell}: test accuracy {1 - trained.log[-1].test_error:.2%}, checkpoint {path}")


FEW_CELLS = 4
"""So many at most have a line each in every epoch of a sweep."""


def _describe_all(rows: Mapping[str, "Epoch"]) -> list[str]:
    """One epoch of a sweep: a line for each cell, or, where they are many, one for all."""
    if len(rows) <= FEW_CELLS:
        return [f"{cell}  {_describe(row)}" for cell, row in rows.items()]
    errors = sorted((row.test_error, cell.rpartition("-")[2]) for cell, row in rows.items())
    (best, best_cell), (worst, worst_cell) = errors[0], errors[-1]
    row = next(iter(rows.values()))
    return [
        f"epoch {row.epoch:3}  test error {best:6.2%} ({best_cell}) to {worst:6.2%} ({worst_cell}), "
        f"median {errors[len(errors) // 2][0]:6.2%}  rate {row.learning_rate:g}  "
        f"{row.images_per_s * len(rows):,.0f} network-images/s"
    ]


def _sweep(options: argparse.Namespace) -> None:
    dataset = dataset_name(options.dataset)
    asked = None if options.cells is None else [Quantization.parse(name) for name in options.cells]
    if asked == []:
        raise CellError("the set of cells is empty: name at least one, from A2W2 to A8W8")
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from qnn import checkpoints, datasets, training
    from qnn.sweep import ALL, default_threads, sweep

    cells = [Cell(dataset=dataset, quantization=quantization) for quantization in (asked or ALL)]
    settings = training.Settings(**{"threads": default_threads(), **_chosen(options)})
    images, test = datasets.load(dataset, "train"), datasets.load(dataset, "test")
    per_epoch = len(images) // settings.batch_size * settings.batch_size * len(cells)
    columns = (
        TextColumn(f"{len(cells)} cells, {dataset}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %  {task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task("", total=settings.epochs * per_epoch, speed="compiling")

        def on_images(count: int) -> None:
            progress.advance(task, count)
            speed = progress.tasks[0].speed
            progress.update(task, speed="" if speed is None else f"{speed:,.0f} network-images/s")

        def on_epoch(number: int, rows: Mapping[str, "Epoch"], stopped: Mapping[str, int]) -> None:
            progress.update(task, completed=number * per_epoch)
            for line in _describe_all(rows):
                progress.console.print(line, highlight=False, soft_wrap=True)
            for cell in [cell for cell, epoch in stopped.items() if epoch == number]:
                progress.console.print(f"{cell}  stopped: its loss is no finite number in epoch {number}")

        done = sweep(
            cells,
            settings,
            train=images,
            test=test,
            folder=options.folder,
            input_bits=options.input_bits,
            on_epoch=on_epoch,
            on_images=on_images,
        )
    for trained in done.trained:
        path = options.folder / f"{trained.cell}.safetensors"
        checkpoints.save(path, trained)
        print(f"{trained.cell}: test accuracy {1 - trained.log[-1].test_error:.2%}, checkpoint {path}")
    for name, epoch in done.stopped.items():
        print(f"{name}: no checkpoint, its loss was no finite number in epoch {epoch}")


def _ship(options: argparse.Namespace) -> None:
    from qnn import shipping

    folder, floors = reference.CHECKPOINTS, reference.FOLDER / "floors.toml"
    cells = shipping.ship(options.folder, checkpoints_folder=folder, floors_path=floors)
    print(f"{len(cells)} checkpoints in {folder}, their floors in {floors}")


def _report(options: argparse.Namespace) -> None:
    from qnn import histories, page

    if options.collect:
        changed = histories.collect(options.collect, folder=histories.FOLDER)
        print(f"histories of {' and '.join(changed)} in {histories.FOLDER}")
    print(f"wrote {page.write_report(options.folder, tables=histories.FOLDER, results=options.results)}")


def _search(options: argparse.Namespace) -> None:
    from qnn import search
    from qnn.pipeline import Pipeline
    from qnn.results import append_row
    from qnn.store import Store

    reference.part(options.part)
    dataset = dataset_name(options.dataset)
    cells = [Cell(dataset=dataset, quantization=Quantization.parse(name)) for name in options.cells]
    if any(cell.quantization.is_float for cell in cells):
        raise CellError("the float network has no hardware")
    pipeline = Pipeline(store=Store(options.store), part=options.part)
    path = options.results / f"{datetime.now():%Y-%m-%dT%H%M%S}-search.jsonl"

    def on_start(candidate: search.Candidate) -> None:
        print(f"  {candidate.cell.folding}, {candidate.interval_cycles:,} cycles ...", flush=True)

    def on_trial(trial: search.Trial) -> None:
        if trial.outcome is not search.Outcome.TOO_MANY_DSP:
            print(f"  {search.describe(trial, pipeline.clock_period_ns)}", flush=True)

    for cell in cells:
        print(f"{cell} on {options.part}", flush=True)
        found = search.fastest(pipeline, cell, on_start=on_start, on_trial=on_trial)
        row = search.row(found, pipeline.clock_period_ns)
        append_row(path, row)
        skipped = found.count(search.Outcome.TOO_MANY_DSP)
        answer = row.reason or f"the fastest that fits is {row.metrics['fastest_folding']}"
        beside = "beside FINN's shell" if found.beside_shell else "with the whole part for itself"
        print(f"  {answer} {beside}; {skipped} faster ones have too many DSP slices, counted", flush=True)
    print(f"rows: {path}")


def _diff(options: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    from qnn import diff
    from qnn.pipeline import Pipeline
    from qnn.store import Store

    cell = Cell(
        dataset=dataset_name(options.dataset),
        quantization=Quantization.parse(options.cell),
        folding=Folding.parse(options.folding),
        policy=Policy.parse(options.policy),
        thresholds=Thresholds.parse(options.thresholds),
    )
    if cell.quantization.is_float:
        raise CellError("the float network has no integers and no hardware")
    pipeline, console = Pipeline(store=Store(options.store)), Console(highlight=False)
    table = Table("hop", "integers compared", "off by float32", "", box=None, pad_edge=False)
    differing = []
    with console.status("building what is not in the store ..."):
        for hop in diff.hops(pipeline, cell, options.image, options.results / "reproducers"):
            verdict = "not run" if hop.not_run else "differs" if hop.difference else "equal"
            table.add_row(hop.name, f"{hop.compared:,}", f"{hop.float32:,}", verdict)
            differing += [hop] if hop.not_run or hop.difference else []
    console.print(f"{cell}, test images {', '.join(map(str, options.image))}")
    console.print(table)
    for hop in differing:
        console.print(f"\n{hop.name}: {hop.not_run or hop.difference}", soft_wrap=True)
    if names := [hop.name for hop in differing if hop.difference]:
        raise EquivalenceError(f"{cell} differs at: {', '.join(names)}")


NOT_CHECKED = 2
"""Exit status of `check` where nothing differs, and something could not be compared."""


def _check(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.markup import escape

    from qnn.ahead import BuildAhead
    from qnn.own_hops import HOPS, Hop, Verdict, ahead, run_hop
    from qnn.own_model import OwnModel, Preprocessing
    from qnn.own_pipeline import OwnPipeline
    from qnn.report import own_table
    from qnn.store import Store
    from qnn.tools.gxx import cores

    try:
        reference.part(options.part)
        model = OwnModel(
            path=options.model,
            folding=Folding.parse(options.folding),
            policy=Policy.parse(options.policy),
            preprocessing=Preprocessing.parse(options.input, options.scale, options.shift),
            samples=options.samples,
        )
        model.require_readable()
        pipeline, console = OwnPipeline(store=Store(options.store), part=options.part), Console(highlight=False)
        found: list[Hop] = []
        with console.status("FINN reads the model ...") as status:
            samples, compilation = pipeline.samples(model), pipeline.compilation(model)
            with BuildAhead(pipeline, [ahead(model)], workers=cores()):
                for name in HOPS:
                    status.update(f"{name}: building what is not in the store ...")
                    found.append(run_hop(name, pipeline, model, reproducers=options.results / "reproducers"))
    except (QnnError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return NOT_CHECKED
    assumed = ", assumed: --input says otherwise" if compilation.assumed else ""
    console.print(f"{model} on {options.part}; input {compilation.input_type.lower()}{assumed}; {samples.source}")
    if host := (*compilation.reshapes, *compilation.host):
        console.print(f"on the host: {', '.join(host)}", soft_wrap=True)
    console.print(own_table((hop.name, hop.verdict, hop.evidence, hop.figures) for hop in found))
    for hop in found:
        if hop.detail is not None:
            console.print(f"\n{hop.name}: {escape(hop.detail)}", soft_wrap=True)
    verdicts = {hop.verdict for hop in found}
    return 1 if Verdict.DIFFERS in verdicts else NOT_CHECKED if Verdict.NOT_RUN in verdicts else 0


def _checkpoint(options: argparse.Namespace) -> "Checkpoint":
    path = Path(options.checkpoint)
    asked = None if options.dataset is None else dataset_name(options.dataset)
    named = path.suffix == ".safetensors" or path.exists()
    cell = None if named else Cell(dataset=asked or DATASETS[0], quantization=Quantization.parse(options.checkpoint))
    from qnn import checkpoints

    checkpoint = checkpoints.load(path if cell is None else reference.shipped_checkpoint(cell))
    if asked not in (None, checkpoint.cell.dataset):
        raise CheckpointError(f"{path} was trained on {checkpoint.cell.dataset}, not on {asked}")
    return checkpoint


def _evaluate(options: argparse.Namespace) -> None:
    checkpoint = _checkpoint(options)
    from qnn import datasets, training

    test = datasets.load(checkpoint.cell.dataset, "test")
    accuracy = 1 - training.evaluate(checkpoint.network, test)
    print(
        f"{checkpoint.cell}: {round(accuracy * len(test)):,} of {len(test):,} test images right, {accuracy:.2%} "
        f"({checkpoint.test_accuracy:.2%} when trained)"
    )


def _export(options: argparse.Namespace) -> None:
    checkpoint = _checkpoint(options)
    from qnn import export

    export.export(checkpoint.network, options.model)
    print(f"{checkpoint.cell}: wrote {options.model}")


def _doctor(options: argparse.Namespace) -> int:
    from qnn import doctor

    report = doctor.examine(store=options.store)
    if options.json:
        print(
            json.dumps({"ready": report.ready, "findings": [asdict(finding) for finding in report.findings]}, indent=2)
        )
    else:
        _print_findings(report)
    return 0 if report.ready else 1


def _print_findings(report: "Report") -> None:
    """A table on a terminal; a line for each finding in a log, or where the package rich is among what is missing."""
    lacking = report.lacking
    can = f"cannot run here, for want of: {', '.join(lacking)}" if lacking else "can run here"
    verdict = f"The default benchmark {can}"
    rows = [(finding.group, finding.label, finding.name, finding.detail, finding.remedy) for finding in report.findings]
    if not sys.stdout.isatty() or find_spec("rich") is None:
        for group, label, name, detail, remedy in rows:
            print(f"{group:16}{label:14}{name:28}", "  ".join(filter(None, (detail, remedy))))
        print(verdict)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    styles = {"found": "green", "warning": "yellow", "missing": "red"}
    table = Table("", "", "", "", box=None, pad_edge=False, show_header=False)
    before = None
    for group, label, name, detail, remedy in rows:
        if group != before:
            table.add_row(Text(group, style="bold"))
        before = group
        table.add_row(Text(f"  {label}", style=styles.get(label, "dim")), Text(name), Text(detail), Text(remedy or ""))
    console.print(table)
    console.print(Text(verdict, style="red" if lacking else "green"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 after an error that is told on stderr, 130 after Ctrl-C.

    ``doctor``, `check` and the gate have exit statuses of their own.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    # What follows is pytest's; argparse takes it only where no option stands behind the file of `baseline`.
    at = words.index("--") if "--" in words else len(words)
    parser = _parser()
    options = parser.parse_args(words[:at])
    if words[at + 1 :] and not hasattr(options, "further"):
        parser.error(f"{options.command} takes nothing after --")
    options.further = words[at + 1 :]
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    # Said on every import where a CUDA toolkit is installed without a card.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    try:
        status: int | None = options.run(options)
    except (QnnError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on after the last whole epoch", file=sys.stderr)
        return 130
    return status or 0
