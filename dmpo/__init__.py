"""The learners: local policies and models, κ-hop critics, rollouts, the training loop and checkpoints.

`learner = dmpo.make_learner(settings, graph, observation_space, action_space)`, then
`dmpo.Trainer(env, learner, steps).iterations()`. An environment is seen only through its interface.
"""

from dmpo.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from dmpo.environment import Environment
from dmpo.errors import EvaluationError, TrainingError
from dmpo.evaluate import Evaluation, evaluate
from dmpo.learner import Learner
from dmpo.registry import make_learner, names, settings
from dmpo.settings import DPPOSettings
from dmpo.trainer import Trainer

__all__ = [
    "CheckpointError",
    "DPPOSettings",
    "Environment",
    "Evaluation",
    "EvaluationError",
    "Learner",
    "Trainer",
    "TrainingError",
    "evaluate",
    "load_checkpoint",
    "make_learner",
    "names",
    "save_checkpoint",
    "settings",
]
