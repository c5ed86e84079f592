import io
import json
from pathlib import Path

from rich.console import Console

from experiments.comparisons.runs_progress import RunsProgress, Tail


def line(env_steps: int, wall_seconds: float, **more: float) -> str:
    return json.dumps({"env_steps": env_steps, "wall_seconds": wall_seconds} | more) + "\n"


def test_only_complete_lines_count_and_lines_may_be_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = Tail(path)
    assert not tail.read_new()
    assert (tail.env_steps, tail.rate, tail.evaluation) == (0, 0.0, {})
    written = line(0, 1.0, **{"eval/reward": -3.0}) + line(100, 6.0)
    path.write_text(written + '{"env_st', "utf-8")
    assert tail.read_new()
    assert (tail.env_steps, tail.rate, tail.evaluation["eval/reward"]) == (100, 20.0, -3.0)
    assert not tail.read_new()
    path.write_text(written + line(300, 11.0), "utf-8")
    assert tail.read_new()
    assert (tail.env_steps, tail.rate) == (300, 30.0)
    path.write_text(written, "utf-8")
    assert tail.read_new()
    assert tail.env_steps == 100


def watch(folder: Path, terminal: bool) -> str:
    out = io.StringIO()
    runs = {name: (folder / f"{name}.jsonl", 400) for name in ("a-seed0", "b-seed0", "c-seed0")}
    runs["a-seed0"][0].write_text(line(400, 1.0, **{"eval/reward": -3.0, "eval/speed": 15.0}), "utf-8")
    with RunsProgress(runs, Console(file=out, force_terminal=terminal, width=200)) as progress:
        progress.finished("a-seed0")
        runs["b-seed0"][0].write_text(line(0, 1.0) + line(200, 5.0, **{"eval/reward": -2.5}), "utf-8")
        if terminal:
            progress.update()
        progress.failed("b-seed0", "[SUMO] died")
    return out.getvalue()


def test_without_a_terminal_there_is_a_line_for_each_run_that_ends(tmp_path: Path) -> None:
    assert watch(tmp_path, terminal=False).splitlines() == [
        "a-seed0: finished, 400 steps: reward -3, speed 15 (1 of 3 runs)",
        "b-seed0: failed after 200 steps: [SUMO] died (2 of 3 runs)",
    ]


def test_a_terminal_shows_what_is_at_work_and_all_together(tmp_path: Path) -> None:
    out = watch(tmp_path, terminal=True)
    for part in ("b-seed0", "200/400", "50 steps/s", "reward -2.5", "600/1200", "2 of 3 runs"):
        assert part in out
    assert "c-seed0" not in out
