import io
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments import tables
from experiments.runs.folder import RunFolder
from experiments.runs.records import RunRecord
from tests.experiments.conftest import tiny_experiment


def printed(table: Any, width: int = 80) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width).print(table)
    return out.getvalue().splitlines()


REPORT = {
    "env_steps": 1000,
    "episodes": [{}] * 20,
    "metrics": {
        "eval/reward": -6.6123,
        "eval/return": -3967.4,
        "eval/speed": 15.33,
        "eval/speed_final": 15.0,
        "eval/collisions": 0.0,
        "eval/length": 600.0,
        "eval/reward_sampled": -5.9,
        "eval/collisions_sampled": 3.0,
    },
    "controllers": {
        "constant (0.5, 0)": {
            "eval/reward": -839.47,
            "eval/return": -503679.1,
            "eval/speed": 19.76,
            "eval/speed_final": 20.16,
            "eval/collisions": 20.0,
            "eval/length": 600.0,
        },
        "no speed known": {"eval/reward": 1.0, "eval/return": 2.0, "eval/collisions": 0.0, "eval/length": 30.0},
    },
}


def test_the_comparison_fits_a_narrow_terminal_and_cuts_nothing() -> None:
    lines = printed(tables.comparison(REPORT, "[a run] after 1,000 steps"))
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "…" not in text
    assert "[a run] after 1,000 steps" in text
    rows = {line.strip().split("  ")[0]: line.split() for line in lines}
    assert rows["trained policy"][-6:] == ["-6.612", "-3,967", "15.33", "15", "none", "60"]
    assert rows["trained, sampled"][-4:] == ["-5.9", "3", "of", "20"]
    assert rows["constant (0.5, 0)"][-8:] == ["-839.5", "-503,679", "19.76", "20.16", "20", "of", "20", "60"]
    assert rows["no speed known"][-4:] == ["1", "2", "none", "3"]


def test_how_vehicles_drive_fits_a_terminal_and_leaves_out_what_is_not_known() -> None:
    measured = {key: 1234.5678 if key == "eval/throughput" else 0.12345 for *_, key in tables._DRIVING}
    rows = {name: metrics | measured for name, metrics in REPORT["controllers"].items()}
    rows["no speed known"] = REPORT["controllers"]["no speed known"]
    lines = printed(tables.driving(REPORT | {"metrics": REPORT["metrics"] | measured, "controllers": rows}))
    assert "…" not in "".join(lines)
    trained = next(line for line in lines if "trained policy" in line).split()
    assert trained[2:] == ["0.123"] * 6 + ["1,235"] + ["0.123"] * 2
    assert next(line for line in lines if "no speed known" in line).split() == ["no", "speed", "known"]


def test_a_comparison_shows_mean_and_spread_over_seeds_beside_the_controllers() -> None:
    metrics = [
        {"eval/reward": r, "eval/return": -4000.0, "eval/speed": 15.0, "eval/collisions": 0.0} for r in (-9, -11)
    ]
    reports = [{"metrics": found, "controllers": {"constant (0, 0)": metrics[1]}} for found in metrics]
    records = [
        RunRecord("dmpo", tiny_experiment(f"train.seed={seed}"), RunFolder(Path("run")), [], report)
        for seed, report in enumerate(reports)
    ]
    (table,) = tables.over_seeds(records)
    rows = [" ".join(line.split()) for line in printed(table)]
    assert "cacc_catchup" in rows[0]
    assert "dmpo (2) -10 ± 1.4 -4,000 ± 0 15 ± 0 0 ± 0" in rows
    assert "constant (0, 0) -11 -4,000 15 0" in rows
