"""The learners: local policies and models, κ-hop critics, rollouts, the training loop and checkpoints.

`learner = dmpo.make_learner(settings, graph, observation_space, action_space)`, then
`dmpo.Trainer(env, learner, steps).iterations()`. An environment is known by its interface only.
"""

from dmpo import algorithms as algorithms
from dmpo.algorithms.dppo import DPPOSettings
from dmpo.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from dmpo.environment import Environment
from dmpo.errors import EvaluationError, TrainingError
from dmpo.evaluate import Evaluation, evaluate
from dmpo.learner import Learner, Setup
from dmpo.registry import make_learner, names, register, settings_of
from dmpo.trainer import Trainer

__all__ = [
    "CheckpointError",
    "DPPOSettings",
    "Environment",
    "Evaluation",
    "EvaluationError",
    "Learner",
    "Setup",
    "Trainer",
    "TrainingError",
    "evaluate",
    "load_checkpoint",
    "make_learner",
    "names",
    "register",
    "save_checkpoint",
    "settings_of",
]
