"""What this machine can promise: facts are collected first, then judged by pure rules."""

from pathlib import Path

from ..config.load import load_config
from ..config.settings import Config
from ..events.errors import ConfigurationError
from ..handlers.contract import Finding
from .facts import collect
from .rules import judge


def examine(data_dir: Path, config: Config | None = None) -> list[Finding]:
    """Check the machine and the data folder; changes nothing. Findings in a fixed order, good news included.

    Without `config` it is read as the service would; one that cannot be used is a finding, and the rest is then
    checked with the defaults.
    """
    findings = []
    usable = True
    if config is None:
        try:
            config = load_config(data_dir)
        except ConfigurationError as error:
            findings.append(Finding("configuration", "fail", error.message, error.advice))
            config, usable = Config(), False
        else:
            findings.append(Finding("configuration", "ok", "every key is known and has a value that is allowed"))
    judged = judge(collect(data_dir, config), config)
    return [*findings, *(judged if usable else map(_without_modules, judged))]


def _without_modules(finding: Finding) -> Finding:
    """Which modules the configuration names is not known, so those that were found may not be all."""
    if finding.name != "handlers" or finding.level != "ok":
        return finding
    message = f"{finding.message}; the modules that the configuration names in `handlers` were not looked at"
    return Finding("handlers", "warn", message, "Correct the configuration, and run `tasktrail doctor` again.")


def worst(findings: list[Finding]) -> str:
    """`fail`, `warn` or `ok`: the worst level there is."""
    levels = {finding.level for finding in findings}
    return next((level for level in ("fail", "warn") if level in levels), "ok")


__all__ = ["Finding", "examine", "worst"]
