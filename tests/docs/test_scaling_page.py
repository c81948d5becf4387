"""The page about many devices: its tables are those of its script, its examples are sound, its commands are taken."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from mmreg.cli.app import build_app

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "scaling.md").read_text(encoding="utf-8")
EXAMPLES = DOCS / "examples" / "scaling"
SBATCH = (EXAMPLES / "train.sbatch").read_text(encoding="utf-8")
FIGURES = runpy.run_path(str(DOCS / "scaling_figures.py"))


def unfolded(text: str) -> str:
    """Text without the backslashes that go on with a line in the next one."""
    return re.sub(r"\\\n\s*", "", text)


def commands() -> Iterator[list[str]]:
    """The words of every mmreg command of the page and its examples."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for line in unfolded("\n".join([*blocks, SBATCH])).splitlines():
        for found in re.findall(r"(?:^|-m )(mmreg .*)", line):
            yield shlex.split(found)
    words = pod()["containers"][0]["command"]
    yield words[words.index("-m") + 1 :]


def documents() -> dict[str, Any]:
    """The objects of the Kubernetes example by their kind."""
    return {each["kind"]: each for each in yaml.safe_load_all((EXAMPLES / "job.yaml").read_text(encoding="utf-8"))}


def pod() -> dict[str, Any]:
    """What a pod of it is."""
    found: dict[str, Any] = documents()["Job"]["spec"]["template"]["spec"]
    return found


def test_the_tables_are_those_of_the_script() -> None:
    assert FIGURES["renewed"](PAGE) == PAGE, "run: python docs/scaling_figures.py"


def test_the_sum_over_a_ring_is_the_one_that_is_told() -> None:
    assert FIGURES["all_reduce_seconds"](1000, 1, 10) == 0
    assert FIGURES["all_reduce_seconds"](1000, 2, 10) == 100
    assert FIGURES["all_reduce_seconds"](1000, 4, 10) == 150
    assert FIGURES["efficiency"](1) == 1
    # 102.4 MB over 100 Gbit/s, twice but for a sixteenth, beside a step of 128 ms
    assert FIGURES["efficiency"](16) == pytest.approx(0.128 / (0.128 + 2 * 15 / 16 * 0.1024 / 12.5), rel=1e-9)
    assert "2 (N - 1) / N x bytes / bandwidth" in PAGE


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_the_command_line_takes_its_commands(words: list[str]) -> None:
    group: Any = typer.main.get_command(build_app())
    context = typer.Context(group, info_name="mmreg")
    name, command, arguments = group.resolve_command(context, words[1:])
    command.make_context(name, arguments, parent=context).close()


def launcher(words: list[str]) -> Any:
    """What torchrun makes of its options."""
    from torch.distributed.run import get_args_parser

    return get_args_parser().parse_args(words[words.index("torchrun") + 1 :])


def test_torchrun_takes_its_options() -> None:
    (page,) = re.findall(r"^torchrun .*", unfolded(PAGE), re.MULTILINE)
    (line,) = re.findall(r"^srun .*", unfolded(SBATCH), re.MULTILINE)
    for words in (shlex.split(page), shlex.split(line), pod()["containers"][0]["command"]):
        found = launcher(words)
        assert found.module
        assert found.training_script == "mmreg"
        assert found.rdzv_backend == "c10d"
        assert found.rdzv_endpoint.endswith(":29500")
        assert (found.nproc_per_node, str(found.max_restarts)) == ("8", "0")


def test_the_job_of_slurm_is_a_sound_script() -> None:
    if (bash := shutil.which("bash")) is not None:
        done = subprocess.run([bash, "-n", str(EXAMPLES / "train.sbatch")], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
    lines = SBATCH.splitlines()
    assert lines[0] == "#!/bin/bash"
    options = dict(line.removeprefix("#SBATCH --").partition("=")[::2] for line in lines if line.startswith("#SBATCH"))
    assert lines[1 : len(options) + 1] == [line for line in lines if line.startswith("#SBATCH")]  # Slurm reads no later
    assert "set -euo pipefail" in lines
    assert options["ntasks-per-node"] == "1"  # torchrun starts the others
    assert f"--nproc-per-node {options['gpus-per-node']} " in unfolded(SBATCH)
    assert options["signal"].startswith("USR1@")
    assert "SIGUSR1" in unfolded(SBATCH)
    for variable in re.findall(r"\$\w+", SBATCH):  # a path with a space stays one word
        assert variable == "$((" or re.search(rf'"[^"\n]*\{variable}[^"\n]*"', SBATCH), variable


def test_the_job_of_kubernetes_has_the_fields_that_it_needs() -> None:
    service, job = documents()["Service"], documents()["Job"]
    assert (service["apiVersion"], job["apiVersion"]) == ("v1", "batch/v1")
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert pod()["subdomain"] == service["metadata"]["name"]
    assert job["spec"]["completionMode"] == "Indexed"
    assert pod()["restartPolicy"] in ("OnFailure", "Never")
    (container,) = pod()["containers"]
    words = container["command"]
    found = launcher(words)
    assert int(found.nnodes) == job["spec"]["completions"] == job["spec"]["parallelism"]
    assert found.rdzv_endpoint.startswith(f"{job['metadata']['name']}-0.{service['metadata']['name']}:")
    assert int(found.nproc_per_node) == container["resources"]["limits"]["nvidia.com/gpu"]
    assert {each["name"] for each in container["volumeMounts"]} == {each["name"] for each in pod()["volumes"]}
    mounts = {each["mountPath"] for each in container["volumeMounts"]}
    assert {"/dev/shm", container["workingDir"]} == mounts
    (cache,) = container["env"]
    assert cache["name"] == "MMREG_CACHE_DIR"
    assert cache["value"].startswith(container["workingDir"])
