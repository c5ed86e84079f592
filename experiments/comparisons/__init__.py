"""Many runs: training them side by side, statistics, reports."""
