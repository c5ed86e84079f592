"""Rows of a benchmark, with the size of the work and its limit; kept as JSON and shown as one table."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from experiments.errors import ConfigError, shown


class Options(BaseModel):
    """Options of the suite.

    Attributes:
        quick: less work and fewer repeats, for seconds instead of minutes.
        whole: whether the DMPO iteration is run from end to end instead of being added up from its parts.
        device: where networks live.
        threads: of PyTorch.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    quick: bool = False
    whole: bool = False
    device: str = "cpu"
    threads: int = 1

    @property
    def rounds(self) -> int:
        """Number of repeats; their median counts."""
        return 3 if self.quick else 15


class Row(BaseModel):
    """One figure.

    Attributes:
        piece: the part of the suite it belongs to.
        what: name of the measured work.
        size: of the work.
        value: measured, in `unit`; none where it could not be.
        unit: a rate where it ends in "/s", a time otherwise.
        limit: what the machine could do at best, in the same unit: the bare simulation's rate, or the time of the
            work's floating-point operations at the rate of a large matrix product.
        obvious: what the obvious way took in the same run, in the same unit.
        shares: of the time, by part of the work.
        megabytes: peak memory of the processes of this row.
        note: a remark, above all why there is no value.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    piece: str
    what: str
    size: str
    value: float | None
    unit: str
    limit: float | None = None
    obvious: float | None = None
    shares: dict[str, float] = {}
    megabytes: float | None = None
    note: str = ""

    @property
    def reached(self) -> float | None:
        """Share of the limit that is reached, 1 at best."""
        return self._faster(self.value, self.limit)

    @property
    def ratio(self) -> float | None:
        """Speed relative to the obvious way."""
        return self._faster(self.value, self.obvious)

    def against(self, earlier: Row) -> float | None:
        """Speed relative to an earlier row of the same work."""
        return self._faster(self.value, earlier.value)

    def _faster(self, value: float | None, other: float | None) -> float | None:
        # How many times as fast the first is as the second.
        rate = self.unit.endswith("/s")
        above, below = (value, other) if rate else (other, value)
        return above / below if above is not None and below else None


class Report(BaseModel):
    """Report of a run: its options, the machine, and all rows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    options: Options
    machine: dict[str, str]
    rows: list[Row]

    def ratios(self, earlier: Report) -> list[float | None]:
        """Speed of each row relative to an earlier report; none for work that the report does not have."""
        known = {(row.piece, row.what, row.size, row.unit): row for row in earlier.rows}
        there = [known.get((row.piece, row.what, row.size, row.unit)) for row in self.rows]
        return [row.against(before) if before else None for row, before in zip(self.rows, there, strict=True)]


def read(path: Path) -> Report:
    """Report in a file.

    Raises:
        ConfigError: the file cannot be read, or holds no report.
    """
    try:
        return Report.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"--against: {shown(str(path), 300)} cannot be read ({error.strerror})") from None
    except ValidationError as error:
        first = error.errors()[0]
        why = f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"
        remedy = "give a file that `dmpo bench --output` has written"
        raise ConfigError(f"--against: {shown(str(path), 300)} is no report ({why}); {remedy}") from None


def table(report: Report, earlier: Report | None = None) -> Table:
    """Table of the rows, and of their speed relative to an earlier report."""
    machine = ", ".join(f"{name} {value}" for name, value in report.machine.items())
    caption = "Limit: the bare simulation, or the work's operations at the rate of a large matrix product."
    result = Table(title=Text(machine), caption=caption, title_justify="left", caption_justify="left", box=SIMPLE_HEAD)
    result.pad_edge, result.collapse_padding = False, True
    for heading in ("piece", "what", "size"):
        result.add_column(heading)
    for heading in ("measured", "limit", "reached", "obvious", "times", *(["against"] if earlier else []), "MB"):
        result.add_column(heading, justify="right", no_wrap=True)
    result.add_column("shares of the time, notes")
    ratios = report.ratios(earlier) if earlier else [None] * len(report.rows)
    before = ""
    for row, ratio in zip(report.rows, ratios, strict=True):
        if before and row.piece != before:
            result.add_section()
        against = [_number(ratio)] if earlier else []
        result.add_row(row.piece if row.piece != before else "", *_cells(row), *against, *_rest(row))
        before = row.piece
    return result


def _cells(row: Row) -> list[Text | str]:
    measured = "–" if row.value is None else f"{_number(row.value)} {row.unit}"
    reached = "" if row.reached is None else f"{row.reached:.0%}"
    return [
        Text(row.what),
        Text(row.size),
        measured,
        _number(row.limit),
        reached,
        *map(_number, (row.obvious, row.ratio)),
    ]


def _rest(row: Row) -> list[Text | str]:
    shares = [f"{name} {share:.0%}" for name, share in row.shares.items()]
    return [_number(row.megabytes), Text("; ".join(part for part in (", ".join(shares), row.note) if part))]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
