import io

from rich.console import Console

from experiments.progress import ProgressBar

METRICS = {
    "eval/reward": -10.1534,
    "eval/reward_sampled": -7.8,
    "eval/speed": 15.0,
    "eval/collisions": 2.0,
    "eval/length": 600,
}


def watch(terminal: bool) -> str:
    out = io.StringIO()
    with ProgressBar("[run]", Console(file=out, force_terminal=terminal, width=200)) as progress:
        progress.begin(0, 2000)
        progress.evaluated(0, METRICS)
        progress.advance(1000)
        progress.evaluated(1000, METRICS)
        progress.advance(2000)
    return out.getvalue()


def test_without_a_terminal_there_is_a_line_for_each_evaluation_only() -> None:
    first, second = watch(terminal=False).splitlines()
    assert first == "[run]: 0 steps: reward -10.15, reward_sampled -7.8, speed 15, collisions 2"
    assert second.startswith("[run]: 1,000 steps (")
    assert "steps/s" in second


def test_a_terminal_shows_a_bar_the_rate_and_the_last_evaluation() -> None:
    out = watch(terminal=True)
    for part in ("[run]", "2000/2000", "steps/s", "reward -10.15", "0:00:00"):
        assert part in out
