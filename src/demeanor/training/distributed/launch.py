"""Training over several processes from inside one call, by torch elastic.

`devices: N` starts N processes on this machine. Several machines run `worker` themselves under torchrun:

    torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29400 \
        -m demeanor.training.distributed.launch JOB_FOLDER

where JOB_FOLDER is what `prepare` wrote; `collect` reads the result from it, on any of them. What they must share:

- JOB_FOLDER, under any path, and the files of the streams at the same place relative to it (a project whose `data/` is
  mounted, with the job below it);
- the folder of checkpoints under the same path, if one is given: all read it, the first writes it;
- the same versions of packages, and the function that scores, importable by its name.

Working folders may differ.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import distributed

from demeanor.data.bundle import Bundle
from demeanor.data.device import choose_device
from demeanor.data.errors import DemeanorError, InputError, Stopped
from demeanor.data.examples import Examples
from demeanor.data.files import disk_errors_told, read_json, write_json
from demeanor.data.fork_server import start_fork_server
from demeanor.data.task import Task
from demeanor.training.distributed.group import Processes
from demeanor.training.fit import Trained, fit
from demeanor.training.loop import Report, Score, TrainingFailed
from demeanor.training.settings import BranchSettings, TrainingSettings

POLL_SECONDS = 1.0
#: What every process needs, imported once; the optimisers of torch import the second.
PRELOADED = ("demeanor.training.distributed.launch", "torch._dynamo")
#: Ending of the file in which a process leaves what it raised on purpose.
FAILURE = ".failure.txt"


def process_count(training: TrainingSettings) -> int:
    """How many processes `devices` asks for on this machine.

    InputError for less than one, or more than there are GPUs.
    """
    gpus = torch.cuda.device_count() if training.device != "cpu" else 0
    if training.devices == "auto":
        return max(gpus, 1)
    if training.devices < 1:
        raise InputError("training settings", [f"devices is {training.devices}; give a number from 1, or auto"])
    if gpus and training.devices > gpus:
        raise InputError("training settings", [f"devices is {training.devices}, but there are {gpus} GPUs"])
    return training.devices


def on_cpu_alone(training: TrainingSettings) -> bool:
    """Is it trained by one process on the CPU, so that another training may go on beside it?"""
    return process_count(training) == 1 and choose_device(training.device).type == "cpu"


def train_reporting(
    branch: str,
    settings: BranchSettings,
    task: Task,
    development: Examples,
    seed: int,
    score: Score,
    checkpoints: Path | str | None,
    code_revision: str,
    also: Mapping[str, Task] | None = None,
    *,
    report: Report,
) -> Trained:
    """`train` without a bar: whoever is reported to says how far it is."""
    return train(branch, settings, task, development, seed, score, report, checkpoints, False, code_revision, also)


def train(
    branch: str,
    settings: BranchSettings,
    task: Task,
    development: Examples,
    seed: int,
    score: Score,
    report: Report = lambda metrics, epoch: None,
    checkpoints: Path | str | None = None,
    progress: bool = True,
    code_revision: str = "",
    also: Mapping[str, Task] | None = None,
) -> Trained:
    """`fit`, in this process for one device, in several for more. TrainingFailed with the first failure of any, Stopped
    where a signal ends them. InputError where several processes would learn further tasks."""
    count = process_count(settings.training)
    if count == 1:
        return fit(
            branch, settings, task, development, seed, score, report, checkpoints,
            progress=progress, code_revision=code_revision, also=also,
        )  # fmt: skip
    if also:
        raise InputError("training settings", ["further tasks (`also`) are learnt by one process"], "Set devices to 1.")
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher import LaunchConfig, elastic_launch

    with tempfile.TemporaryDirectory(prefix="demeanor-") as place:
        job = Path(place)
        prepare(job, branch, settings, task, development, seed, score, checkpoints, code_revision)
        configuration = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            start_method="forkserver",
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
        )
        start_fork_server(PRELOADED)
        try:
            with _live(job / "history.jsonl", report), _signals_given_back():
                elastic_launch(configuration, worker)(str(job))
        except SignalException as stop:  # its processes have ended by now
            raise Stopped(int(stop.sigval)) from None
        except ChildFailedError:
            failures = sorted(job.glob(f"*{FAILURE}"))
            if not failures:
                raise  # nothing that Demeanor raised on purpose: its traceback is wanted
            raise TrainingFailed(failures[0].read_text(encoding="utf-8")) from None
        return collect(job)


def prepare(
    job: Path,
    branch: str,
    settings: BranchSettings,
    task: Task,
    development: Examples,
    seed: int,
    score: Score,
    checkpoints: Path | str | None = None,
    code_revision: str = "",
) -> None:
    """Write what every process needs to `job`; features stay in their files and are memory-mapped by each."""
    development.save(job / "development")
    write_json(
        job / "job.json",
        {
            "branch": branch,
            "settings": settings.as_dict(),
            "task": task.as_dict(),
            "seed": seed,
            "score": f"{score.__module__}:{score.__name__}",
            "checkpoints": None if checkpoints is None else str(Path(checkpoints).resolve()),
            "code_revision": code_revision,
        },
    )


def worker(folder: str) -> None:
    """One of the processes: the same `fit` in each, the first one logs and saves."""
    job = Path(folder)
    description = read_json(job / "job.json")
    settings = BranchSettings(**description["settings"])
    on_gpu = torch.cuda.is_available() and settings.training.device != "cpu"
    distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        processes = Processes()
        if on_gpu:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))  # set by torch elastic for each process
        module, name = description["score"].split(":")

        def record(row: dict[str, float], epoch: int) -> None:
            if processes.is_main:
                with open(job / "history.jsonl", "a", encoding="utf-8") as handle:
                    handle.write(json.dumps([epoch, row]) + "\n")

        trained = fit(
            description["branch"],
            settings,
            Task(**description["task"]),
            Examples.load(job / "development"),
            description["seed"],
            getattr(importlib.import_module(module), name),
            record,
            description["checkpoints"],
            processes,
            code_revision=description["code_revision"],
        )
        if processes.is_main:
            trained.bundle.save(job / "bundle")
            with disk_errors_told(job), open(job / "validation.pt", "wb") as handle:
                kept = {name: torch.as_tensor(values) for name, values in trained.subsets.items()}
                torch.save({"validation": torch.as_tensor(trained.validation), "subsets": kept}, handle)
        processes.barrier()
    except DemeanorError as error:
        (job / f"{distributed.get_rank()}{FAILURE}").write_text(str(error), encoding="utf-8")
        raise
    finally:
        distributed.destroy_process_group()


def collect(job: Path) -> Trained:
    """What the first process left."""
    lines = (job / "history.jsonl").read_text(encoding="utf-8").splitlines()
    history = [json.loads(line)[1] for line in lines]
    saved = torch.load(job / "validation.pt", weights_only=True)
    subsets = {name: values.numpy() for name, values in saved["subsets"].items()}
    return Trained(Bundle.load(job / "bundle"), history, saved["validation"].numpy(), subsets)


@contextmanager
def _live(path: Path, report: Report) -> Iterator[None]:
    """Hand the rows that the first process writes to `report` while training goes on."""
    done = threading.Event()
    reported = 0

    def tell() -> None:
        nonlocal reported
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        lines = text[: text.rfind("\n") + 1].splitlines()  # the last line may still be on its way
        for line in lines[reported:]:
            epoch, row = json.loads(line)
            report(row, epoch)
        reported = len(lines)

    def follow() -> None:
        while not done.wait(POLL_SECONDS):
            tell()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        tell()


@contextmanager
def _signals_given_back() -> Iterator[None]:
    """Torch elastic puts handlers of its own in the place of those that were there, for ever."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    names = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")
    former = {number: signal.getsignal(number) for number in (getattr(signal, name, None) for name in names) if number}
    try:
        yield
    finally:
        for number, handler in former.items():
            if handler is not None:  # None: set by something that is not Python
                signal.signal(number, handler)


if __name__ == "__main__":
    worker(sys.argv[1])
