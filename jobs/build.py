"""From a pipeline config to a chain, checked as far as it can be without touching data."""

from __future__ import annotations

from jobs.chain import Chain, check_columns, make_chain
from jobs.config import PipelineConfig
from jobs.registry import make_source, make_step, step_config_class
from jobs.run_folder import REPLIES_NAME
from jobs.runners.answer_ahead import asks_vllm
from pipelines.vlm.config import GenerationConfig
from schemas.errors import ConfigError


def build_chain(config: PipelineConfig, where: str) -> Chain:
    """The chain that `config` names, checked as far as it can be without touching data.

    Args:
        where: what the config came from, for errors.

    Raises:
        ConfigError: an unknown source or step, a config that breaks a rule, a needed column that nobody provides.
    """
    [(name, values)] = config.source.items()
    source = make_source(name, values, f"{where}: source")
    steps = []
    for position, step in enumerate(config.steps):
        [(name, values)] = step.items()
        place = f"{where}: steps[{position}]"
        if issubclass(step_config_class(name, place), GenerationConfig):
            # Absolute, because a worker may stand in another folder.
            values = {"cache": str((config.folder / REPLIES_NAME).absolute()), **values}
        steps.append(make_step(name, values, place))
        if asks_vllm(steps[-1]) and config.runner.kind != "ray":
            raise ConfigError(
                f"{place}.{name}: backend.kind",
                "vllm",
                "needs the runner ray, which asks vLLM ahead of the step",
                "Write runner: {kind: ray}, or serve the model and use the backend openai.",
            )
    chain = make_chain(source, steps)
    provided = source.columns()
    check_columns(chain, provided)
    if config.pack is not None and provided is not None:
        known = {"key", *provided}.union(*(step.adds.names for step in steps))
        missing = [column for column in config.pack.record_schema.required if column not in known]
        if missing:
            raise ConfigError(
                f"{where}: pack.record = {config.pack.record} needs column '{missing[0]}'",
                sorted(known),
                "neither the source nor a step provides it",
                "Add the step that provides it, or pack the other record.",
            )
    return chain


def resolved(config: PipelineConfig, chain: Chain) -> PipelineConfig:
    """`config` with every default of its source and steps written out."""
    [source_name] = config.source
    return config.model_copy(
        update={
            "source": {source_name: chain.plan.source.config.as_json()},
            "steps": tuple({step.name: step.config.as_json()} for step in chain.steps),
        }
    )
