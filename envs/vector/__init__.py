"""Environments of any scenario in worker processes, with their arrays in shared memory."""
