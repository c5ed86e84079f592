"""Schema of an experiment file: pydantic models, and the JSON Schema with which editors complete the YAML.

The parameters of the axes are defined where they are used: scenarios in `envs`, topologies in `graphs`, algorithms in
`dmpo`. Here they are joined, one union an axis, told apart by `name`.

`python -m experiments.config.schema` writes `schema.json` anew.
"""

import json
import operator
import re
from copy import deepcopy
from functools import lru_cache, reduce
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, create_model, field_validator

import dmpo
import envs
import graphs
from experiments.config.formats import FORMAT
from experiments.config.json_schema import Schema

SCHEMA_FILE = Path(__file__).parents[1] / "schema.json"
AXES = ("scenario", "graph", "algorithm")
COMPARING = ("compare", "evaluate_on")  # parts of a file that only `dmpo compare` reads

STRICT = ConfigDict(extra="forbid", frozen=True)


class Train(BaseModel):
    """Training: how long, on which hardware and from which random numbers."""

    model_config = STRICT

    env_steps: int = Field(
        default=200_000,
        ge=1,
        le=10**12,
        description="Simulated steps to learn from, summed over all environments.",
    )
    num_envs: int = Field(
        default=16, ge=1, le=4096, description="Number of environments that are simulated side by side."
    )
    workers: int = Field(
        default=1, ge=1, le=256, description="Number of SUMO processes that the environments are spread over."
    )
    worker_timeout: float = Field(
        default=envs.WORKER_TIMEOUT,
        ge=1,
        le=86_400,
        description="Time in s for a SUMO process to start or to answer; one that takes longer is replaced.",
    )
    seed: int = Field(
        default=0, ge=0, le=2**31 - 1, description="Seed of all random numbers; the same seed gives the same run."
    )
    device: str = Field(default="cpu", description="Device that holds the networks, such as cpu, cuda or cuda:1.")
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="Precision of the matrix products in policies and value functions. Where the processor multiplies "
        "bfloat16, it can be faster, with three digits instead of seven; parameters and models stay float32.",
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="CPU threads of PyTorch; null means as many as SUMO leaves cores, at most 4.",
    )
    update_threads: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="CPU threads of PyTorch during updates, while SUMO waits; null means as many as threads where that "
        "is given, and otherwise all cores, at most 4.",
        validate_default=True,
    )

    @field_validator("update_threads")
    @classmethod
    def _as_many_as_threads(cls, number: int | None, info: ValidationInfo) -> int | None:
        return number or info.data.get("threads")


class Evaluate(BaseModel):
    """Evaluation during training: when, and in which scenario. It plays one episode from each reference start."""

    model_config = STRICT

    every: int = Field(
        default=10_000,
        ge=1,
        le=10**12,
        description="Simulated steps between evaluations, each of which writes a checkpoint. A checkpoint places the "
        "vehicles anew, without SUMO's last digits: checkpoints at other steps change the last digits of what follows.",
    )
    scenario: dict[str, Any] = Field(
        default_factory=dict, description="Parameters of the scenario that differ in evaluation from those in training."
    )


class WandB(BaseModel):
    """Project on Weights & Biases that shows a run."""

    model_config = STRICT

    project: str = Field(
        min_length=1,
        max_length=128,
        pattern=r"^[^/\\#?%:]+$",
        description="Project on Weights & Biases that the run belongs to.",
    )
    entity: str | None = Field(
        default=None,
        min_length=1,
        max_length=128,
        description="User or team that owns the project; null means the user who is logged in.",
    )
    mode: Literal["online", "offline"] = Field(
        default="online",
        description="Whether to upload while training; offline uses no network, and `wandb sync` uploads later.",
    )


class Log(BaseModel):
    """Logging: how often metrics are written to metrics.jsonl, and where else they go."""

    model_config = STRICT

    every: int = Field(
        default=0,
        ge=0,
        le=10**12,
        description="Simulated steps between lines of training metrics; 0 writes a line for each iteration.",
    )
    tensorboard: Literal["auto"] | bool = Field(
        default="auto",
        description="Whether to write metrics for TensorBoard as well; auto does so where it is installed.",
    )
    wandb: WandB | None = Field(
        default=None, description="Where to send metrics on Weights & Biases as well; null sends none."
    )


class Experiment(BaseModel):
    """An experiment: what happens on the road, who talks to whom, how each agent learns."""

    model_config = STRICT

    format: Literal[2] = Field(
        default=FORMAT,
        description="Version of the names and values in this file; `dmpo migrate` rewrites an older one.",
    )
    name: str = Field(
        max_length=100,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$",
        description="Name of the run's folder; left out, it is made of the names of algorithm and scenario.",
    )
    scenario: Any
    graph: Any
    algorithm: Any
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    log: Log = Log()


def experiment_model() -> type[Experiment]:
    """Model of an experiment with the scenarios, topologies and algorithms that are registered now."""
    return _experiment_model(tuple(envs.names()), tuple(graphs.names()), tuple(dmpo.names()))


@lru_cache(maxsize=4)
def _experiment_model(
    scenarios: tuple[str, ...], topologies: tuple[str, ...], algorithms: tuple[str, ...]
) -> type[Experiment]:
    graph = union([graph_model(name) for name in topologies])
    scenario = union([envs.parameters(name) for name in scenarios])
    algorithm = union([dmpo.settings_of(name) for name in algorithms])
    axes: dict[str, Any] = {
        "scenario": (scenario, Field(description="What happens on the road.")),
        "graph": (
            graph | None,
            Field(None, description="Who talks to whom; if left out, the scenario's own graph says so."),
        ),
        "algorithm": (algorithm, Field(description="How each agent learns.")),
    }
    return create_model("Experiment", __base__=Experiment, __doc__=Experiment.__doc__, **axes)


@lru_cache(maxsize=256)
def graph_model(name: str) -> type[BaseModel]:
    """Pydantic model of a topology's parameters, made from the signature and docstring of its function."""
    summary, descriptions = documentation(name)
    fields: dict[str, Any] = {"name": (Literal[name], Field(description=summary))}
    for key, parameter in graphs.parameters(name).items():
        default = ... if parameter.default is parameter.empty else parameter.default
        annotation = Any if parameter.annotation is parameter.empty else parameter.annotation
        fields[key] = (annotation, Field(default, description=descriptions.get(key, f"{key} of {name}.")))
    return create_model(f"{name.title().replace('_', '')}Graph", __config__=STRICT, __doc__=summary, **fields)


def documentation(topology: str) -> tuple[str, dict[str, str]]:
    """First line of a topology's docstring, and its `Args:` by name."""
    text = graphs.docstring(topology) or topology
    described = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)*)", text, re.MULTILINE)
    parameters = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", described[1] if described else "", re.MULTILINE)
    return text.splitlines()[0], {key: " ".join(words.split()) for key, words in parameters}


def union(models: list[type[BaseModel]]) -> Any:
    """Type of a mapping that is one of these models, distinguished by `name`."""
    if len(models) == 1:
        return models[0]  # pydantic tells nothing apart where there is one model only
    return Annotated[reduce(operator.or_, models), Field(discriminator="name")]


def json_schema() -> dict[str, Any]:
    """JSON Schema of an experiment file; shared, so the caller must not change it."""
    return _json_schema(experiment_model())


@lru_cache(maxsize=4)
def _json_schema(model: type[Experiment]) -> dict[str, Any]:
    schema = model.model_json_schema()
    schema["required"].remove("name")  # filled in before validation
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def file_schema() -> dict[str, Any]:
    """JSON Schema of a file for `dmpo train` or, with the parts `compare` and `evaluate_on`, for `dmpo compare`."""
    schema = deepcopy(json_schema())
    places: dict[str, list[dict[str, str]]] = {}
    for path, pointer in Schema(schema).walk():
        if path not in (("format",), ("name",), ("train", "seed")):
            places.setdefault(".".join(path), []).append({"$ref": pointer})
    values = {key: _values(key, nodes) for key, nodes in places.items()}
    schema["properties"] |= {
        "compare": {
            "type": "object",
            "description": "For dmpo compare: lists of values by dotted key; every combination of them is trained.",
            "properties": values,
            "patternProperties": {r"^evaluate\.scenario\.": {"type": "array", "minItems": 1}},
            "additionalProperties": False,
            "minProperties": 1,
        },
        "evaluate_on": {
            "type": "object",
            "description": "For dmpo compare: overrides, such as graph.name=complete, with which every trained policy "
            "is evaluated as well, by a label of them.",
            "additionalProperties": {"type": "array", "items": {"type": "string", "pattern": "="}, "minItems": 1},
        },
    }
    # What is compared may stand in compare alone.
    schema |= {"if": {"not": {"required": ["compare"]}}, "then": {"required": schema.pop("required")}}
    return schema


def _values(key: str, nodes: list[dict[str, str]]) -> dict[str, Any]:
    """Schema of an axis of `compare`: a list of values of the key; a whole part may also be given by its name."""
    options: list[dict[str, str]] = [*nodes, *([{"type": "string"}] if key in AXES else [])]
    return {"type": "array", "items": {"anyOf": options} if len(options) > 1 else options[0], "minItems": 1}


def json_schema_text() -> str:
    """Text of `schema.json`."""
    return json.dumps(file_schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SCHEMA_FILE.write_text(json_schema_text(), encoding="utf-8")
