"""Kedro's project settings: https://docs.kedro.org/en/stable/kedro_project_setup/settings.html"""

import os
import warnings

# Set before anything that reads them is imported: nothing that Demeanor uses may call home.
os.environ.setdefault("KEDRO_DISABLE_TELEMETRY", "1")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# omegaconf 2.4 deprecates a function that Kedro 1.7 calls; nobody here can act on it.
warnings.filterwarnings("ignore", message="register_new_resolver", category=UserWarning)

from demeanor.configuration import ARGUMENTS, ConfigLoader  # noqa: E402
from demeanor.hooks import BranchHooks, CheckpointHooks, PathHooks, SummaryHooks, TrackingHooks  # noqa: E402
from demeanor.workshop_hooks import NodeProgress, WorkshopHooks  # noqa: E402

HOOKS = (
    PathHooks(), BranchHooks(), TrackingHooks(), SummaryHooks(), CheckpointHooks(), WorkshopHooks(), NodeProgress(),
)  # fmt: skip

CONFIG_LOADER_CLASS = ConfigLoader
CONFIG_LOADER_ARGS = ARGUMENTS
