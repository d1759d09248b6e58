"""The image and the jobs that train on several machines: their scripts run here, with stand-ins for the cluster."""

import os
import subprocess
import tomllib

import kubernetes_validate
import pytest
import yaml

from tests.pipelines.runs import ROOT
from trellis.components import cluster
from trellis.components.files import atomic_write
from trellis.pipelines.configuration import Tree
from trellis.pipelines.settings import validate

TRAINING = ROOT / "serve" / "training"


@pytest.fixture
def stand_ins(tmp_path):
    """A function that runs a script with stand-ins for programs, `trellis` showing its arguments and `TF_CONFIG`."""

    def run(script, programs, **variables):
        shows = '#!/bin/sh\nprintf "%s\\n" "$TF_CONFIG" "$@" end\n'
        for name, text in {"trellis": shows, **programs}.items():
            with atomic_write(tmp_path / name) as part:
                part.write_text(text)
                part.chmod(0o755)
        path = f"{tmp_path}:{os.environ['PATH']}"
        done = subprocess.run(script, env={"PATH": path, **variables}, capture_output=True, text=True, check=True)
        return [each.strip().splitlines() for each in done.stdout.split("end\n") if each.strip()]

    return run


def cluster_of(monkeypatch, lines):
    """The cluster of a worker, and the configuration that it trains."""
    monkeypatch.setenv("TF_CONFIG", lines[0])
    assert lines[1] == "train"
    config = Tree().compose(lines[2:])
    validate(config)
    assert config.trainer.strategy == "multi_worker" and config.resume
    return cluster.from_environment(), config


def manifests():
    return {each["kind"]: each for each in yaml.safe_load_all((TRAINING / "kubernetes.yaml").read_text())}


def test_the_kubernetes_job_is_valid_and_its_parts_fit_together():
    by_kind = manifests()
    for manifest in by_kind.values():
        kubernetes_validate.validate(manifest, "1.31", strict=True)
    job, service = by_kind["Job"], by_kind["Service"]
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert service["spec"]["clusterIP"] == "None" and service["metadata"]["name"] == pod["subdomain"]
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == int(container["env"][0]["value"])
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def test_the_pods_of_the_kubernetes_job_are_the_workers_of_their_index(stand_ins, monkeypatch):
    (container,) = manifests()["Job"]["spec"]["template"]["spec"]["containers"]
    script = [*container["command"], *container["args"]]
    (lines,) = stand_ins(script, {}, WORKERS="4", JOB_COMPLETION_INDEX="3")
    found, config = cluster_of(monkeypatch, lines)
    port = container["ports"][0]["containerPort"]
    assert found.index == 3
    assert found.addresses == tuple(f"trellis-train-{index}.trellis-train:{port}" for index in range(4))
    assert config.export.dir.startswith("/runs/")


def test_the_tasks_of_the_slurm_job_are_the_workers_of_their_rank(stand_ins, monkeypatch):
    programs = {
        "scontrol": "#!/bin/sh\nprintf 'node1\\nnode2\\n'\n",
        "srun": '#!/bin/sh\nshift 2\nfor rank in 0 1 2 3; do SLURM_PROCID=$rank "$@"; done\n',
    }
    job = {"SLURM_JOB_NODELIST": "node[1-2]", "SLURM_JOB_ID": "12345", "SLURM_NTASKS_PER_NODE": "2"}
    tasks = stand_ins([TRAINING / "slurm.sh", "model=bilstm_crf", "model.units=8"], programs, **job)
    assert len(tasks) == 4
    for rank, lines in enumerate(tasks):
        found, config = cluster_of(monkeypatch, lines)
        assert found.index == rank and found.local_index == rank % 2
        assert found.addresses == ("node1:22345", "node1:22346", "node2:22345", "node2:22346")
        assert config.model.units == 8


def test_the_image_has_what_the_package_consists_of():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    kept = {line[1:] for line in (TRAINING / "Dockerfile.dockerignore").read_text().split() if line != "*"}
    assert all((ROOT / each).exists() for each in kept)
    packages = {name.split(".")[1] for name in project["tool"]["setuptools"]["packages"] if "." in name}
    needed = {*packages, "pyproject.toml", "requirements.lock", "README.md", *project["project"]["license-files"]}
    modules = {path.name for path in ROOT.glob("*.py")}
    assert needed | modules <= kept
    text = (TRAINING / "Dockerfile").read_text()
    assert "FROM python:3.13-slim" in text and 'ENTRYPOINT ["trellis", "train"]' in text
    assert {"train", "gpu"} <= set(project["project"]["optional-dependencies"])
