"""Ray with two workers gives what one process gives, and its errors reach the user as they were raised."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from chain_parts import (
    Dies,
    DiesConfig,
    DiesWithModel,
    Heard,
    Numbers,
    NumbersConfig,
    Offset,
    OffsetConfig,
    Square,
    SquareConfig,
    tree,
)

from jobs.chain import Chain, make_chain
from jobs.run_folder import RunFolder
from jobs.runners.config import RunnerConfig
from jobs.runners.run_chain import run_chain
from schemas.errors import ConfigError, InputError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(700)]
RAY = RunnerConfig(kind="ray", workers=2, object_store_mib=200)


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    from jobs.runners.ray_session import ray_session

    with pytest.MonkeyPatch.context() as patch:
        # Workers must find the steps defined beside this test.
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        with ray_session(RAY):
            yield


def chain_of(fail_at: int | None = None, offset: int = 1, model: bool = True) -> Chain:
    """Without a model a partition goes through the chain in one task, with one through Ray Data."""
    square, with_model = Square(SquareConfig(fail_at=fail_at)), Offset(OffsetConfig(offset=offset))
    return make_chain(Numbers(NumbersConfig()), [square, with_model] if model else [square])


def run(chain: Chain, path: Path, runner: RunnerConfig) -> Heard:
    heard = Heard()
    run_chain(chain, RunFolder(path), chain.plan.source.partitions(), True, runner, heard)
    return heard


@pytest.mark.parametrize("model", [True, False])
def test_the_same_files_as_in_one_process(tmp_path: Path, model: bool) -> None:
    one = run(chain_of(model=model), tmp_path / "one", RunnerConfig())
    two = run(chain_of(model=model), tmp_path / "two", RAY)
    names = ("records", "outcomes")
    assert tree(tmp_path / "one", *names) == tree(tmp_path / "two", *names)

    def counts(heard: Heard) -> list[object]:
        return sorted((c.partition, c.position, c.rows_in, c.kept, c.delta.sha256) for c, _ in heard.commits)

    assert counts(one) == counts(two)
    assert len(run(chain_of(model=model), tmp_path / "two", RAY).commits) == (12 if model else 8)


def test_a_changed_last_step_reuses_the_rest(tmp_path: Path) -> None:
    run(chain_of(), tmp_path, RAY)
    heard = run(chain_of(offset=3), tmp_path, RAY)
    assert {commit.stage for commit, found in heard.commits if not found} == {"offset"}
    run(chain_of(offset=3), tmp_path / "fresh", RunnerConfig())
    assert tree(tmp_path, "records") == tree(tmp_path / "fresh", "records")


@pytest.mark.parametrize("model", [True, False])
def test_an_error_in_a_worker_is_the_same_error(tmp_path: Path, model: bool) -> None:
    with pytest.raises(InputError) as caught:
        run(chain_of(fail_at=12, model=model), tmp_path, RAY)
    assert str(caught.value) == "number = 12: must not be this one. Change fail_at."
    # What went well before is kept.
    heard = run(chain_of(), tmp_path, RunnerConfig())
    assert any(found and commit.stage == "numbers" for commit, found in heard.commits)


@pytest.mark.parametrize(("step", "times"), [(Dies, 2), (Dies, 99), (DiesWithModel, 2), (DiesWithModel, 99)])
def test_a_worker_that_dies_is_replaced_but_not_for_ever(tmp_path: Path, step: type[Dies], times: int) -> None:
    chain = make_chain(Numbers(NumbersConfig()), [step(DiesConfig(folder=str(tmp_path), times=times))])
    if times == 2:
        run(chain, tmp_path / "run", RAY)
        run(make_chain(chain.plan.source, []), tmp_path / "one", RunnerConfig())
        assert tree(tmp_path / "run", "records") == tree(tmp_path / "one", "records")
        return
    with pytest.raises(InputError, match=r"partition.*00001-00000001.*: 5 times the worker that took .* died"):
        run(chain, tmp_path / "run", RAY)
    assert len((tmp_path / "deaths").read_text()) == 5


@pytest.mark.parametrize(
    ("gpus", "asked", "models", "expected"),
    [
        (8, None, 1, (1.0, 8)),
        (8, 1, 2, (1.0, 4)),
        (8, 2, 1, (2.0, 4)),
        (1, None, 2, (0.5, 1)),
        (1, 0.25, 1, (0.25, 4)),
        (2, None, 3, (0.66, 1)),
        (0, None, 1, (0.0, sys.maxsize)),
        (8, 0, 1, (0.0, sys.maxsize)),
    ],
)
def test_every_step_with_a_model_finds_gpus(
    monkeypatch: pytest.MonkeyPatch, gpus: float, asked: float | None, models: int, expected: tuple[float, int]
) -> None:
    from jobs.runners import ray_session

    monkeypatch.setattr(ray_session.ray, "cluster_resources", lambda: {"GPU": float(gpus)} if gpus else {})
    share, places = ray_session.gpus_of_a_worker(RunnerConfig(kind="ray", gpus_per_model=asked), models)
    assert (share, places) == expected
    assert not share or models * places * share <= gpus, "all of them at the same time"


def test_gpus_that_nobody_has_are_an_error_and_not_a_wait(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the cluster has no GPU"):
        run(chain_of(), tmp_path, RAY.model_copy(update={"gpus_per_model": 1.0}))


def test_ray_map_is_map() -> None:
    from jobs.runners.ray_session import ray_map

    assert list(ray_map(str, list(range(20)))) == [str(n) for n in range(20)]
    with pytest.raises(ConfigError, match="must be positive"):
        list(ray_map(refuse, [1, 2]))


def refuse(number: int) -> int:
    raise ConfigError("number", number, "must be positive", "Change it.")
