"""Figures and page: they show the table's numbers, can be read, need no network, and say what is missing."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layout import require_apart
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from scipy.stats import t as student  # type: ignore[import-untyped]

from qnn import claims, figures, histories, page
from qnn.cli import main
from qnn.errors import HistoryError
from qnn.histories import COLUMNS, PROVENANCE, TRAINING
from qnn.page import write_report

BITS = range(2, 9)
CELLS = [(a, w) for a in BITS for w in BITS]


def test_error(a: int, w: int, seed: int, epochs: int, epoch: int) -> float:
    """Made up, with every number another one: falls with weight bits and epochs, and at the milestones."""
    noise = ((a * 7 + w * 13 + seed * 29 + epoch * 17) % 11 - 5) / 10_000
    falls = sum(epoch > milestone for milestone in histories.SCHEDULES[epochs])
    return float(round(0.115 + 0.02 / w**1.5 + 0.05 / epoch - 0.003 * falls + noise, 4))


test_error.__test__ = False  # type: ignore[attr-defined]


def lines(cells: list[tuple[int, int]], seed: int, epochs: int, input_bits: int = 8) -> list[str]:
    return [
        f"{epochs},{seed},A{a}W{w},{input_bits},{epoch},0.40000,0.150000,{test_error(a, w, seed, epochs, epoch):.4f}"
        for a, w in cells
        for epoch in range(1, epochs + 1)
    ]


def floats(seed: int) -> list[str]:
    return [
        f"100,{seed},float,,{epoch},0.3,0.14,{test_error(8, 8, seed, 100, epoch) - 0.004:.4f}"
        for epoch in range(1, 101)
    ]


def write(folder: Path, dataset: str, rows: list[str]) -> None:
    """The table of `rows`, and that of its trainings."""
    folder.mkdir(exist_ok=True)
    (folder / f"{dataset}.csv").write_text("\n".join([",".join(COLUMNS), *rows]) + "\n")
    trainings = dict.fromkeys(",".join(row.split(",")[: len(TRAINING)]) for row in rows)
    told = [f"{training},2026-01-02T03:04:05+00:00,2.12.1,0.13.0,3.11.7,2,abc" for training in trainings]
    (folder / f"{dataset}.trainings.csv").write_text("\n".join([",".join(PROVENANCE), *told]) + "\n")


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fashion-MNIST with all there is; MNIST with one seed of 100 epochs alone."""
    folder = tmp_path_factory.mktemp("tables")
    everything = [*lines(CELLS, 0, 40), *lines([(3, 3)], 0, 100, input_bits=2)]
    for seed in (0, 1):
        everything += [*lines(CELLS, seed, 100), *floats(seed)]
    write(folder, "fashion-mnist", everything)
    write(folder, "mnist", lines(CELLS, 0, 100))
    return folder


@pytest.fixture(scope="module")
def table(tables: Path) -> pd.DataFrame:
    return histories.read("fashion-mnist", tables)


@pytest.fixture(scope="module")
def report(tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(tmp_path_factory.mktemp("report"), tables=tables)


@pytest.fixture
def text(report: Path) -> str:
    return report.read_text()


# --- numbers ---------------------------------------------------------------------------------------------------------


def test_only_seeds_with_all_cells_of_the_study_are_compared(tmp_path: Path) -> None:
    rows = [
        *lines(CELLS, 0, 100),
        *lines(CELLS[:-1], 1, 100),
        *lines(CELLS, 2, 40),
        *lines(CELLS, 3, 100, input_bits=4),
    ]
    write(tmp_path, "mnist", [*rows, *floats(0)])
    table = histories.read("mnist", tmp_path)
    assert figures.cells_of_seeds(table, 100) == {0: 49, 1: 48}
    cells = figures.whole_cells(table, 100)
    assert set(cells["seed"]) == {0}
    assert len(cells) == 4900
    assert list(cells["test_percent"])[:3] == pytest.approx([100 * test_error(2, 2, 0, 100, k) for k in (1, 2, 3)])


def test_final_errors_are_the_last_epochs_mean_over_the_seeds(table: pd.DataFrame) -> None:
    errors = figures.final_error_percent(table, 100)
    for a, w in CELLS:
        expected = 50 * (test_error(a, w, 0, 100, 100) + test_error(a, w, 1, 100, 100))
        assert errors.loc[a, w] == pytest.approx(expected)
    assert figures.final_error_percent(table[table["seed"].eq(5)], 100).empty


def test_a_smoothed_curve_is_the_mean_of_nine_epochs_around() -> None:
    curve = pd.Series(np.random.default_rng(0).normal(size=90), index=range(1, 91))
    found = figures.smoothed(curve)
    assert list(found.index) == list(range(5, 87))
    for epoch, value in found.items():
        assert value == pytest.approx(sum(curve[k] for k in range(epoch - 4, epoch + 5)) / 9)


def block_design(errors: Callable[[int, int, int], float], seeds: int = 2) -> pd.DataFrame:
    rows = [(s, a, w, errors(s, a, w)) for s in range(seeds) for a, w in CELLS]
    return pd.DataFrame(rows, columns=["seed", "activation_bits", "weight_bits", "test_percent"])


def test_an_interval_leaves_out_what_seed_and_other_width_explain() -> None:
    found = figures.means_with_intervals(block_design(lambda s, a, w: 10 * s + a**2 + 5 / w), "weight_bits")
    assert list(found["mean"]) == pytest.approx([5 + np.mean(np.square(BITS)) + 5 / w for w in BITS])
    assert list(found["half"]) == pytest.approx([0] * 7, abs=1e-9)


@pytest.mark.parametrize(("factor", "other"), [("weight_bits", "activation_bits"), ("activation_bits", "weight_bits")])
def test_an_interval_is_students_over_the_networks_of_one_width(factor: str, other: str) -> None:
    noise = np.random.default_rng(1).normal(size=(2, 9, 9))
    last = block_design(lambda s, a, w: float(3 * s + a + noise[s, a, w]))
    found = figures.means_with_intervals(last, factor)
    for bits in BITS:
        compared = []
        for seed in range(2):
            for width in BITS:
                block = last[last["seed"].eq(seed) & last[other].eq(width)]
                own = block.loc[block[factor].eq(bits), "test_percent"].item()
                compared.append(own - block["test_percent"].mean())
        variance = np.var(compared, ddof=1) * 7 / 6
        assert found.loc[bits, "half"] == pytest.approx(student.ppf(0.975, 13) * (variance / 14) ** 0.5)


def test_an_interval_holds_the_true_mean_as_often_as_it_says() -> None:
    random = np.random.default_rng(2)
    held = []
    for _ in range(100):
        noise = random.normal(size=(2, 9, 9))
        found = figures.means_with_intervals(block_design(lambda s, a, w: float(a + noise[s, a, w])), "weight_bits")  # noqa: B023
        held += list((found["mean"] - np.mean(BITS)).abs() <= found["half"])
    assert 0.91 < np.mean(held) < 0.98


@given(
    st.lists(st.floats(-0.5, 1.5, allow_subnormal=False), max_size=10),
    st.sampled_from([0.05, 0.1]),
)
def test_labels_keep_their_order_and_are_a_gap_apart(places: list[float], gap: float) -> None:
    moved = figures._spread(places, gap)
    order = sorted(range(len(places)), key=places.__getitem__)
    apart = [moved[b] - moved[a] for a, b in pairwise(order)]
    assert all(distance >= gap - 1e-9 for distance in apart)
    assert all(place >= gap / 2 - 1e-9 for place in moved)


def test_labels_with_room_stay_where_they_are() -> None:
    assert figures._spread([0.9, 0.1, 0.5], 0.1) == [0.9, 0.1, 0.5]
    assert figures._spread([0.5, 0.52], 0.1) == pytest.approx([0.46, 0.56])


# --- figures ---------------------------------------------------------------------------------------------------------


def shipped() -> Iterator[str]:
    return (name for name in page.TITLES if histories.table_path(name).exists())


@pytest.mark.parametrize("source", ["made up", *shipped()])
@pytest.mark.parametrize("kind", page.KINDS)
def test_no_text_meets_another_or_leaves_the_figure(source: str, kind: str, table: pd.DataFrame) -> None:
    figure = page.KINDS[kind].draw(table if source == "made up" else histories.read(source))
    require_apart(figure, height=0.9)


def heights(line: Line2D) -> list[float]:
    return [float(value) for value in np.asarray(line.get_ydata())]


def test_curves_over_epochs_are_means_smoothed_only_before_the_rate_falls(table: pd.DataFrame) -> None:
    figure = figures.error_over_epochs(table)
    constant, falling = figure.axes[0], figure.axes[1]
    for k, w in enumerate(BITS):
        mean = pd.Series(
            {
                epoch: np.mean([100 * test_error(a, w, s, 100, epoch) for a in BITS for s in (0, 1)])
                for epoch in range(1, 101)
            }
        )
        raw, thick = constant.lines[2 * k], constant.lines[2 * k + 1]
        assert raw.get_linewidth() < thick.get_linewidth()
        assert heights(raw) == pytest.approx(list(mean[:90]))
        assert heights(thick) == pytest.approx(list(figures.smoothed(mean[:90])))
        after = [line for line in falling.lines if line.get_marker() == "."][k]
        assert list(np.asarray(after.get_xdata())) == list(range(90, 101))
        assert heights(after) == pytest.approx(list(mean[89:]))
    assert {"2 bits", "3", "8 bits", "float"} <= {text.get_text() for text in falling.texts}


def test_colours_of_bit_widths_get_lighter_so_that_they_can_be_told_apart_in_grey() -> None:
    lightness = [float(np.dot((0.2126, 0.7152, 0.0722), to_rgb(colour))) for colour in figures.BIT_COLOURS.values()]
    assert min(np.diff(lightness)) > 0.04
    assert max(lightness) < 0.85


def test_markers_against_bits_are_the_means_of_both_schedules(table: pd.DataFrame) -> None:
    by_weight = figures.error_against_bits(table).axes[0]
    found = {str(bars.get_label()): heights(bars.lines[0]) for bars in by_weight.containers}  # type: ignore[attr-defined]
    for label, epochs, epoch, seeds in (
        ("40 epochs", 40, 40, [0]),
        ("epoch 40 of 100", 100, 40, [0, 1]),
        ("100 epochs", 100, 100, [0, 1]),
    ):
        expected = [np.mean([100 * test_error(a, w, s, epochs, epoch) for a in BITS for s in seeds]) for w in BITS]
        assert found[label] == pytest.approx(expected)


def test_the_map_holds_every_cell_and_the_means(table: pd.DataFrame) -> None:
    errors = figures.final_error_percent(table, 100)
    axes = figures.error_map(table).axes[0]
    found = [text.get_text() for text in axes.texts]
    assert found[:49] == [f"{errors.loc[a, w]:.2f}" for a in BITS for w in BITS]
    assert found[49:] == [f"{errors.loc[a].mean():.2f}" for a in BITS] + [f"{errors[w].mean():.2f}" for w in BITS]


def test_numbers_on_every_colour_of_the_map_can_be_read() -> None:
    def luminance(colour: tuple[float, ...]) -> float:
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour]
        return float(np.dot((0.2126, 0.7152, 0.0722), linear))

    for error in np.linspace(1, 2, 101):
        colour = figures.error_colour(float(error), 1, 2)
        one, other = sorted([luminance(colour), luminance(to_rgb(figures.readable_on(colour)))])
        assert (other + 0.05) / (one + 0.05) >= 4.5


def test_equal_cells_have_a_colour_too() -> None:
    assert figures.error_colour(12.0, 12.0, 12.0) == figures.error_colour(0, 0, 1)


# --- the page --------------------------------------------------------------------------------------------------------


class Outline(HTMLParser):
    """Elements that are open, ids, and what is referred to."""

    VOID = frozenset({"meta", "br", "link", "img"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attributes)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name == "id":
                self.ids.append(value or "")
            elif name in ("href", "xlink:href", "src"):
                self.links.append(value or "")
            self.links += re.findall(r"url\(([^)]*)\)", value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def outline(text: str) -> Outline:
    found = Outline()
    found.feed(text)
    found.close()
    return found


def test_the_page_is_well_formed_and_refers_only_to_itself_and_to_files_beside_it(report: Path, text: str) -> None:
    found = outline(text)
    assert found.open == []
    assert len(found.ids) == len(set(found.ids)) > 100
    inside = {link.removeprefix("#") for link in found.links if link.startswith("#")}
    assert inside <= set(found.ids)
    outside = {link for link in found.links if not link.startswith("#")}
    assert outside == {
        f"{dataset}-{kind}.{form}" for dataset in page.TITLES for kind in page.KINDS for form in ("svg", "png")
    }
    assert {path.name for path in report.parent.iterdir()} == {*outside, "index.html"}
    addresses = set(re.findall(r"\w+://[^\"'\s<>]*", text))
    assert addresses == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}  # names of XML, never fetched


def test_every_figure_is_there_in_the_page_and_as_svg_and_png(report: Path, text: str) -> None:
    assert text.count("<svg") == len(page.TITLES) * len(page.KINDS)
    for path in report.parent.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")
        assert b"<text" not in path.with_suffix(".svg").read_bytes()  # letters as curves: no font is needed


def test_captions_say_data_set_seeds_schedule_and_what_is_drawn(text: str) -> None:
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", text)
    assert [caption.split(".")[0] for caption in captions] == ["Fashion-MNIST", "MNIST"] * 3
    over_epochs, _, against_bits, against_bits_mnist, error_map, _ = captions
    assert "seeds 0 and 1, 100 epochs, learning rate 0.01, multiplied by 0.1 after epochs 90 and 95" in over_epochs
    assert "14 networks" in over_epochs
    assert "running mean over 9 epochs" in over_epochs
    assert "float network, seeds 0 and 1" in over_epochs
    assert "40 epochs, learning rate 0.01, multiplied by 0.1 after epochs 36 and 38: seed 0, 7 networks" in against_bits
    assert "95 % interval" in against_bits
    assert "40 epochs: not in the table, not drawn" in against_bits_mnist
    assert "float" not in against_bits_mnist
    assert "49 cells after 100 epochs, mean over seeds 0 and 1" in error_map


def test_accuracies_and_their_drop_from_float_are_those_of_the_table(table: pd.DataFrame, text: str) -> None:
    body = text[text.index("Accuracy of every cell") :]
    rows = re.findall(r"<tr><th>(A\d|mean)</th>(.*?)</tr>", body[: body.index("MNIST</h3>", body.index("</table>"))])
    assert [name for name, _ in rows] == [*(f"A{a}" for a in BITS), "mean"]
    is_float = 50 * sum(test_error(8, 8, seed, 100, 100) - 0.004 for seed in (0, 1))
    errors = figures.final_error_percent(table, 100)
    for a, (_, row) in zip(BITS, rows, strict=False):
        cells = re.findall(r">([\d.]+)<small>([−+\d.]+)</small></td>", row)
        assert [accuracy for accuracy, _ in cells[:7]] == [f"{100 - errors.loc[a, w]:.2f}" for w in BITS]
        drops = [float(drop.replace("−", "-")) for _, drop in cells[:7]]
        assert drops == pytest.approx([is_float - errors.loc[a, w] for w in BITS], abs=0.0051)
    assert f"Float network: {100 - is_float:.2f} % (seeds 0 and 1)" in body


def test_input_bits_stand_beside_one_another(table: pd.DataFrame, text: str) -> None:
    eight, two = (100 - 100 * np.mean([test_error(3, 3, s, 100, 100) for s in seeds]) for seeds in ((0, 1), (0,)))
    assert f"<tr><td>A3W3</td><td>2</td><td>{two:.2f}</td><td>0</td></tr>" in text
    assert f"<tr><td>A3W3</td><td>8</td><td>{eight:.2f}</td><td>0 and 1</td></tr>" in text


def test_provenance_tells_trainings_versions_and_tables(tables: Path, text: str) -> None:
    last = text[text.index("Provenance") :]
    row = "<td>49 cells</td><td>100</td><td>1</td><td>8</td><td>2026-01-02T03:04:05+00:00</td><td>2.12.1</td>"
    assert row in last
    assert "<td>float</td><td>100</td><td>0</td><td>none</td>" in last
    assert "fashion-mnist.csv: complete up to 2026-01-02T03:04:05+00:00" in last
    assert f"matplotlib {matplotlib.__version__}" in last


def test_the_claims_stand_in_the_page_with_verdict_or_with_what_they_lack(tables: Path, text: str) -> None:
    part = text[text.index("claims on accuracy") : text.index("Provenance")]
    claim = claims.weight_bits_dominate(histories.read("mnist", tables), "mnist")
    assert f"{claim.estimate_points:.2f} [{claim.low_points:.2f}, {claim.high_points:.2f}]" in part
    assert f"<b>{claim.verdict}</b>" in part
    assert "<td>Fashion-MNIST</td><td>accuracy_reached</td>" in part  # it wants three seeds
    assert "not judged: the table lacks trainings" in part


def test_the_same_table_gives_the_same_bytes(tables: Path, report: Path, tmp_path: Path) -> None:
    again = write_report(tmp_path, tables=tables)
    for path in report.parent.iterdir():
        assert path.read_bytes() == (again.parent / path.name).read_bytes(), path.name


def test_what_a_table_lacks_is_said_and_the_rest_is_drawn(tmp_path: Path) -> None:
    write(tmp_path / "tables", "mnist", [*lines(CELLS, 0, 40), *lines(CELLS[:48], 1, 100)])
    text = write_report(tmp_path / "report", tables=tmp_path / "tables").read_text()
    assert "Fashion-MNIST: There is no table of its histories." in text
    assert "MNIST: Of seed 1, 100 epochs, 48 of 49 cells are there: left out." in text
    assert "The float network has not been trained for 100 epochs" in text
    assert "The table has no seed with all 49 cells of 100 epochs." in text
    assert {path.name for path in (tmp_path / "report").iterdir()} == {
        "index.html",
        "mnist-error-against-bits.svg",
        "mnist-error-against-bits.png",
    }
    assert outline(text).open == []


def test_no_table_at_all_is_one_error_that_says_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(histories, "FOLDER", tmp_path / "nowhere")
    assert main(["report", "--folder", str(tmp_path / "report")]) == 1
    told = capsys.readouterr().err
    assert re.match(r"error: there is no table of histories in .*nowhere: .*python -m qnn report --collect", told)
    assert not (tmp_path / "report").exists()


def test_a_damaged_table_leaves_the_old_page(tables: Path, tmp_path: Path) -> None:
    shutil.copytree(tables, tmp_path / "tables")
    old = write_report(tmp_path / "report", tables=tmp_path / "tables")
    before = {path: path.read_bytes() for path in old.parent.iterdir()}
    with (tmp_path / "tables" / "mnist.csv").open("a") as stream:
        stream.write("100,0,A2W2\n")
    with pytest.raises(HistoryError, match=r"mnist\.csv, line 4902: 3 fields"):
        write_report(tmp_path / "report", tables=tmp_path / "tables")
    assert {path: path.read_bytes() for path in old.parent.iterdir()} == before


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["report", "--folder", str(tmp_path / "file" / "report")]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_the_command_collects_runs_first(
    tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[object] = []

    def collect(runs: list[Path], *, folder: Path) -> list[str]:
        asked.append((runs, folder))
        return ["mnist"]

    monkeypatch.setattr(histories, "FOLDER", tables)
    monkeypatch.setattr(histories, "collect", collect)
    folder = tmp_path / "report"
    assert main(["report", "--folder", str(folder), "--collect", "one", "two"]) == 0
    assert asked == [([Path("one"), Path("two")], tables)]
    assert capsys.readouterr().out.splitlines() == [f"histories of mnist in {tables}", f"wrote {folder / 'index.html'}"]


def test_a_report_needs_no_torch_and_writes_only_into_its_folder(tmp_path: Path) -> None:
    code = (
        "import sys; from qnn.cli import main; assert main(['report']) == 0; "
        "print([name for name in ('torch', 'brevitas', 'torchvision') if name in sys.modules])"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(root)!r}); {code}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.splitlines() == ["wrote report/index.html", "[]"]
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
