"""What an experiment file may hold, as pydantic models and as the JSON Schema that completes the YAML in editors.

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
    """How long, on what, and from which random numbers to train."""

    model_config = STRICT

    env_steps: int = Field(
        default=200_000,
        ge=1,
        le=10**12,
        description="Simulated steps of 0.1 s to learn from, of all environments.",
    )
    num_envs: int = Field(default=16, ge=1, le=4096, description="Environments side by side.")
    workers: int = Field(default=1, ge=1, le=256, description="SUMO processes that the environments are spread over.")
    worker_timeout: float = Field(
        default=envs.WORKER_TIMEOUT,
        ge=1,
        le=86_400,
        description="How long a SUMO process may take to start or to answer before it counts as hung and is replaced.",
    )
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Of everything random; the same gives the same run.")
    device: str = Field(default="cpu", description="Where the networks live: cpu, cuda, cuda:1, …")
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="Of the products in policies and values: bfloat16, where the processor multiplies it, has three "
        "digits instead of seven and can be faster. Parameters and models are float32 all the same.",
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="CPU threads of PyTorch; null is the cores that SUMO leaves, at most 4.",
    )
    update_threads: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="The same while SUMO waits for models and policies to learn; null is as many as threads where they "
        "are given, else all cores, at most 4.",
        validate_default=True,
    )

    @field_validator("update_threads")
    @classmethod
    def _as_many_as_threads(cls, number: int | None, info: ValidationInfo) -> int | None:
        return number or info.data.get("threads")


class Evaluate(BaseModel):
    """When and on what to evaluate: one episode from each reference start of the scenario, steps not counted."""

    model_config = STRICT

    every: int = Field(
        default=10_000,
        ge=1,
        le=10**12,
        description="Steps between evaluations, each with a checkpoint. For that the vehicles are placed anew at what "
        "is written down, which SUMO's last digits are not: other checkpoints, other digits in what follows.",
    )
    scenario: dict[str, Any] = Field(
        default_factory=dict, description="Parameters of the scenario that differ from training's in evaluation."
    )


class WandB(BaseModel):
    """Where on Weights & Biases a run appears."""

    model_config = STRICT

    project: str = Field(
        min_length=1, max_length=128, pattern=r"^[^/\\#?%:]+$", description="Project that the run belongs to."
    )
    entity: str | None = Field(
        default=None, min_length=1, max_length=128, description="User or team; null is the one who is logged in."
    )
    mode: Literal["online", "offline"] = Field(
        default="online", description="offline uses no network; `wandb sync` uploads the newest folder later."
    )


class Log(BaseModel):
    """What is written to metrics.jsonl, and where its lines go besides."""

    model_config = STRICT

    every: int = Field(
        default=0,
        ge=0,
        le=10**12,
        description="Steps between lines of training metrics; 0 is each iteration.",
    )
    tensorboard: Literal["auto"] | bool = Field(
        default="auto", description="Whether for TensorBoard as well; auto is where it is installed."
    )
    wandb: WandB | None = Field(default=None, description="For Weights & Biases as well; null is not.")


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
        description="Names the run folder; left out, it is made of the algorithm's and the scenario's.",
    )
    scenario: Any
    graph: Any
    algorithm: Any
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    log: Log = Log()


def experiment_model() -> type[Experiment]:
    """`Experiment` with the scenarios, topologies and algorithms that are registered now."""
    return _experiment_model(tuple(envs.names()), tuple(graphs.names()), tuple(dmpo.names()))


@lru_cache(maxsize=4)
def _experiment_model(
    scenarios: tuple[str, ...], topologies: tuple[str, ...], algorithms: tuple[str, ...]
) -> type[Experiment]:
    graph = union([graph_model(name) for name in topologies])
    scenario = union([envs.parameters(name) for name in scenarios])
    algorithm = union([dmpo.settings(name) for name in algorithms])
    axes: dict[str, Any] = {
        "scenario": (scenario, Field(description="What happens on the road.")),
        "graph": (graph | None, Field(None, description="Who talks to whom; left out, the scenario's own graph.")),
        "algorithm": (algorithm, Field(description="How each agent learns.")),
    }
    return create_model("Experiment", __base__=Experiment, __doc__=Experiment.__doc__, **axes)


@lru_cache(maxsize=256)
def graph_model(name: str) -> type[BaseModel]:
    """The parameters of a topology as a pydantic model, made from the signature of its function and its docstring."""
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
    """The type of a mapping that is one of these models, told apart by `name`."""
    if len(models) == 1:
        return models[0]  # pydantic tells nothing apart where there is one model only
    return Annotated[reduce(operator.or_, models), Field(discriminator="name")]


def json_schema() -> dict[str, Any]:
    """The JSON Schema of an experiment file; not to be changed."""
    return _json_schema(experiment_model())


@lru_cache(maxsize=4)
def _json_schema(model: type[Experiment]) -> dict[str, Any]:
    schema = model.model_json_schema()
    schema["required"].remove("name")  # filled in before validation
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def file_schema() -> dict[str, Any]:
    """The JSON Schema of a file for `dmpo train` or, with the parts `compare` and `evaluate_on`, for `dmpo compare`."""
    schema = deepcopy(json_schema())
    places: dict[str, list[dict[str, str]]] = {}
    for path, pointer in Schema(schema).walk():
        if path not in (("format",), ("name",), ("train", "seed")):
            places.setdefault(".".join(path), []).append({"$ref": pointer})
    values = {key: _values(key, nodes) for key, nodes in places.items()}
    schema["properties"] |= {
        "compare": {
            "type": "object",
            "description": "For dmpo compare: lists of values by dotted key, of which every combination is trained.",
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
    """The schema of an axis: a list of what may stand at the key, of a whole part also by its name."""
    options: list[dict[str, str]] = [*nodes, *([{"type": "string"}] if key in AXES else [])]
    return {"type": "array", "items": {"anyOf": options} if len(options) > 1 else options[0], "minItems": 1}


def json_schema_text() -> str:
    """What `schema.json` holds."""
    return json.dumps(file_schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SCHEMA_FILE.write_text(json_schema_text(), encoding="utf-8")
