"""How the configuration is put together: conf/base, the environment, and on top what is one's own in conf/local."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from kedro.config import MissingConfigException, OmegaConfigLoader

LOCAL = "local"
#: Kedro's own also match in folders of any depth, so that what conf/local says of one environment would count in all.
PATTERNS = {kind: [f"{kind}*", f"{kind}*/**"] for kind in ("catalog", "parameters", "credentials", "mlflow", "globals")}
ARGUMENTS: dict[str, Any] = {
    "base_env": "base",
    "default_run_env": "demo",
    "config_patterns": PATTERNS,
    "merge_strategy": {"parameters": "soft"},
}
"""`CONFIG_LOADER_ARGS` of the settings."""


class ConfigLoader(OmegaConfigLoader):
    """Kedro's loader, with three additions.

    conf/local is read on top of every environment, and conf/local/<environment> on top of that one: a place for paths
    and choices of one's own that Git does not see. The global `corpus`, which names the folders below data/, is the
    environment's name where no globals.yml says otherwise. A file `parameters_<anything>.yml` of an environment takes
    the place of the entries of that name in its `parameters.yml`, whole: a copy of an environment is changed by a file.
    """

    env: str | None
    base_env: str

    def __getitem__(self, key: str) -> dict[str, Any]:
        if key in self.data:  # given by somebody, not read
            return super().__getitem__(key)
        environment = self.env or self.default_run_env
        own = {} if environment in (LOCAL, self.base_env) else self._own(environment, key)
        try:
            made = self._merged(super().__getitem__(key), own, key)
        except MissingConfigException:
            if not own:
                raise
            made = own  # credentials, for example, stand nowhere else
        return {"corpus": environment, **made} if key == "globals" else made

    def _check_duplicates(self, key: str, config_per_file: dict[Path, Any]) -> None:
        """Kedro calls it between reading and merging the files of one environment."""
        if key == "parameters":
            particular = {name for path, entries in config_per_file.items() if path.stem != key for name in entries}
            for path, entries in config_per_file.items():
                for name in particular & set(entries) if path.stem == key else ():
                    del entries[name]
        super()._check_duplicates(key, config_per_file)

    def _own(self, environment: str, key: str) -> dict[str, Any]:
        return self._merged(self._alone(LOCAL, key), self._alone(f"{LOCAL}/{environment}", key), key)

    def _alone(self, environment: str, key: str) -> dict[str, Any]:
        """What one environment says by itself; {} where it is not there."""
        before = self.env, self.base_env
        self.env = self.base_env = environment
        try:
            return super().__getitem__(key)
        except MissingConfigException:
            return {}
        finally:
            self.env, self.base_env = before

    def _merged(self, made: dict[str, Any], own: dict[str, Any], key: str) -> dict[str, Any]:
        if self.merge_strategy.get(key) != "soft":
            return {**made, **own}
        from omegaconf import OmegaConf

        merged: Any = OmegaConf.to_container(OmegaConf.merge(made, own))
        return merged


def loader_of(conf: Path, environment: str | None = None) -> ConfigLoader:
    """The loader of a configuration folder, for commands without a session of Kedro's; None: the default one."""
    with warnings.catch_warnings():  # as in settings.py: nobody here can act on it
        warnings.filterwarnings("ignore", message="register_new_resolver", category=UserWarning)
        return ConfigLoader(str(conf), env=environment, **ARGUMENTS)
