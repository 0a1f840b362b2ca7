"""The cluster files: a Slurm script and a RayJob manifest that say what the command line understands."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from pair_files import ROOT, editmill, write_config, write_pairs

CLUSTER = ROOT / "jobs" / "cluster"


def test_the_manifest_runs_a_command_that_exists_on_containers_that_agree() -> None:
    manifest = yaml.safe_load((CLUSTER / "rayjob.yaml").read_text())
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayJob")
    program, command, *options = shlex.split(manifest["spec"]["entrypoint"])
    assert program == "editmill"
    told = editmill(command, *options)
    assert told.returncode == 2
    assert "pipeline.yaml" in told.stderr
    assert "No such option" not in told.stderr
    cluster = manifest["spec"]["rayClusterSpec"]
    templates = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    pods = [template["template"]["spec"] for template in templates]
    assert len({container["image"] for pod in pods for container in pod["containers"]}) == 1
    for pod in pods:
        mounted = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_the_slurm_script_checks_then_runs_on_every_node_it_was_given(tmp_path: Path) -> None:
    # Stand-ins for what only a Slurm node has, and for editmill, whose runs other tests have.
    calls = tmp_path / "calls"
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, body in {
        "scontrol": 'printf "node-a\\nnode-b\\n"',
        "srun": f'echo "srun $*" >> {calls}',
        "editmill": f'echo "editmill $*" >> {calls}',
    }.items():
        (tools / name).write_text(f"#!/bin/bash\n{body}\n")
        (tools / name).chmod(0o755)
    (tools / "activate").write_text("")
    environment = {
        **os.environ,
        "PATH": f"{tools}:{os.environ['PATH']}",
        "EDITMILL_ENVIRONMENT": str(tmp_path),
        "SLURM_JOB_NODELIST": "node-[a-b]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_ON_NODE": "16",
    }
    config = write_config(tmp_path / "job.yaml", write_pairs(tmp_path / "pairs"))
    ended = subprocess.run([CLUSTER / "slurm.sh", config], env=environment, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr
    check, ray = calls.read_text().splitlines()
    assert check == f"editmill run {config} --check"
    assert ray == (
        "srun ray symmetric-run --address node-a:6379 --min-nodes 2 --num-cpus 16 -- "
        f"editmill run {config} --runner ray --address auto"
    )
    assert subprocess.run([CLUSTER / "slurm.sh"], capture_output=True, timeout=240).returncode == 2


@pytest.mark.parametrize(("code", "queued"), [(0, False), (75, True), (2, False)])
def test_the_training_script_starts_a_rank_for_each_task_and_queues_itself_again_when_unfinished(
    tmp_path: Path, code: int, queued: bool
) -> None:
    # Stand-ins again; `srun` starts two tasks, and the ranks' own command is known to Python's parser.
    calls, tools = tmp_path / "calls", tmp_path / "bin"
    tools.mkdir()
    for name, body in {
        "scontrol": f'[ "$1" = show ] && printf "node-a\\nnode-b\\n" || echo "scontrol $*" >> {calls}',
        "srun": 'shift; for task in 0 1; do SLURM_PROCID=$task SLURM_LOCALID=0 SLURM_NTASKS=2 "$@" || code=$?; done; '
        "exit ${code:-0}",
        "python": f'echo "$RANK $LOCAL_RANK $WORLD_SIZE $MASTER_ADDR:$MASTER_PORT $*" >> {calls}; exit {code}',
    }.items():
        (tools / name).write_text(f"#!/bin/bash\n{body}\n")
        (tools / name).chmod(0o755)
    (tools / "activate").write_text("")
    environment = {
        **os.environ,
        "PATH": f"{tools}:{os.environ['PATH']}",
        "EDITMILL_ENVIRONMENT": str(tmp_path),
        "SLURM_JOB_NODELIST": "node-[a-b]",
        "SLURM_JOB_ID": "7",
    }
    environment.pop("MASTER_PORT", None)
    script = CLUSTER / "train.slurm.sh"
    ended = subprocess.run(
        [script, "train.yaml", "--set", "steps=9"], env=environment, capture_output=True, text=True, timeout=60
    )
    ranks = [
        f"{rank} 0 2 node-a:20007 -m trainer.train train.yaml --set steps=9 --unfinished-code 75" for rank in (0, 1)
    ]
    assert calls.read_text().splitlines() == ranks + (["scontrol requeue 7"] if queued else [])
    assert ended.returncode == (0 if queued else code), ended.stderr
    assert subprocess.run([script], capture_output=True, timeout=240).returncode == 2
