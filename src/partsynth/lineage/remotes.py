"""DVC's remotes: whether what reaches them is installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from partsynth.store.addresses import masked

# scheme -> the package that DVC needs for it, and the command that brings it
NEEDED = {
    "s3": ("dvc_s3", 'pip install "partsynth[s3]"'),
    "gs": ("dvc_gs", "pip install dvc-gs"),
    "azure": ("dvc_azure", "pip install dvc-azure"),
    "gdrive": ("dvc_gdrive", "pip install dvc-gdrive"),
    "oss": ("dvc_oss", "pip install dvc-oss"),
    "hdfs": ("dvc_hdfs", "pip install dvc-hdfs"),
    "webdav": ("dvc_webdav", "pip install dvc-webdav"),
    "webdavs": ("dvc_webdav", "pip install dvc-webdav"),
    "ssh": ("dvc_ssh", 'pip install "dvc[ssh]"'),
}


def lacking(url: str) -> str | None:
    """The command that brings what a remote's address needs; None where all is there."""
    package, command = NEEDED.get(url.partition("://")[0] if "://" in url else "", ("", ""))
    return command if package and find_spec(package) is None else None


def remote_faults(root: Path, only: str | None = None) -> list[str]:
    """What keeps the configured remotes, or one, from being used, as sentences; none outside a DVC repository."""
    from dvc.config import Config, ConfigError

    absolute = root.absolute()
    home = next((f / ".dvc" for f in (absolute, *absolute.parents) if (f / ".dvc").is_dir()), None)
    if home is None:
        return []
    try:
        config = Config(str(home))
    except ConfigError as error:
        return [f"{home / 'config'}: {error}"]
    if only is not None and only not in config["remote"]:
        return [f"DVC has no remote {only!r}; it has {', '.join(sorted(config['remote'])) or 'none'}: dvc remote add"]
    faults = []
    for name, settings in sorted(config["remote"].items()):
        if only not in (None, name):
            continue
        if command := lacking(settings.get("url", "")):
            faults.append(f"DVC's remote {name} ({masked(settings['url'])}) cannot be used yet: {command}")
    default = config["core"].get("remote")
    if only is None and default and default not in config["remote"]:
        faults.append(f"{home / 'config'}: core.remote names {default!r}, which is no remote: dvc remote list")
    return faults
