"""Batches of steps: on-policy rollouts and the replay buffer."""
