"""The frame of the command line: a table of commands, and the one place where errors become exit codes.

Exit codes: 0 done, 1 refused by the gate, 2 an error in the input, 3 a remote side failed.
Only click and the standard library are imported before a command is known.
"""

import importlib
import sys
from dataclasses import dataclass
from typing import Any

import click

REFUSED = 1
INPUT_ERROR = 2
REMOTE_FAILED = 3
INTERRUPTED = 130


@dataclass(frozen=True)
class Entry:
    """Where a command is, and its line in ``burnish --help``."""

    target: str
    help: str


COMMANDS = {
    "push": Entry("burnish.cli.push:push", "Send a model; optimize, gate and release it."),
    "optimize": Entry("burnish.cli.optimize:optimize", "Optimize a model on files alone, without a stack."),
    "optimizations": Entry("burnish.cli.push:optimizations", "List optimizations, or show one."),
    "models": Entry("burnish.cli.versions:models", "List models and what serves."),
    "versions": Entry("burnish.cli.versions:versions", "List the versions of a model."),
    "predict": Entry("burnish.cli.predict:predict", "Ask a live model."),
    "explain": Entry("burnish.cli.explain:explain", "Say what answered a request, and what that was made from."),
    "promote": Entry("burnish.cli.release:promote", "Make a version the champion."),
    "rollback": Entry("burnish.cli.release:rollback", "Return a model to its previous champion."),
    "policy": Entry("burnish.cli.serving:policy", "Say or change how a model is served."),
    "shadow": Entry("burnish.cli.serving:shadow", "Let a version compute answered requests again, or end it."),
    "traffic": Entry("burnish.cli.serving:traffic", "Say or change which versions answer which share of the requests."),
    "experiment": Entry("burnish.cli.experiments:experiment", "Compare versions on live traffic."),
    "monitor": Entry("burnish.cli.watch:monitor", "Make a drift report of a model now."),
    "retrain": Entry("burnish.cli.watch:retrain", "Retrain a model now."),
    "build": Entry("burnish.cli.build:build", "Build the Bento of a version."),
    "tenant": Entry("burnish.cli.tenants:tenant", "Make, show, bound or remove tenants."),
    "key": Entry("burnish.cli.keys:key", "Make, list, rotate or revoke API keys."),
    "audit": Entry("burnish.cli.audit:audit", "List the audit, or check that nobody has changed it."),
    "usage": Entry("burnish.cli.audit:usage", "Say what models did for their tenants, by the hour."),
    "metrics": Entry("burnish.cli.audit:metrics", "Say how a tenant's models are, for Prometheus."),
    "logs": Entry("burnish.cli.audit:logs", "List a tenant's newest requests at the gateway."),
    "up": Entry("burnish.cli.stack:up", "Start the stack."),
    "status": Entry("burnish.cli.stack:status", "Say how the stack's parts are."),
    "workers": Entry("burnish.cli.workers:workers", "Say how the engine's workers are, or replace one."),
    "gateway": Entry("burnish.cli.gateway:gateway", "Shut a tenant out of the gateway, or make a certificate."),
    "down": Entry("burnish.cli.stack:down", "Stop the stack."),
    "demo": Entry("burnish.cli.demo:demo", "Run the whole way once, on handwritten digits."),
    "passes": Entry("burnish.cli.plugins:passes", "List optimization passes, or show one."),
    "runtimes": Entry("burnish.cli.plugins:runtimes", "List runtimes, or show one."),
    "doctor": Entry("burnish.cli.doctor:doctor", "Say what can run on this machine, and what would change it."),
}


class LazyGroup(click.Group):
    """A group that imports a command's module only when that command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command of a name; None if there is none."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{entry.target} is not a click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the listing from the table, importing nothing."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="burnish")
def cli() -> None:
    """Put the fastest version of your PyTorch model that is provably still right into production.

    Exit codes: 0 done, 1 refused by the gate, 2 an error in the input, 3 a remote side failed.
    """


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code; every expected error is one line on standard error."""
    try:
        outcome: Any = cli.main(arguments, prog_name="burnish", standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return INPUT_ERROR
    except _expected_errors() as error:
        click.echo(f"error: {error}", err=True)
        return int(error.exit_code)
    return outcome if isinstance(outcome, int) else 0


def main() -> None:
    """The console script ``burnish``."""
    sys.exit(run(sys.argv[1:]))


def _expected_errors() -> tuple[Any, ...]:
    """The roots of the error trees of the platform and of its client; asked for only once something was raised."""
    return tuple(importlib.import_module(name).BurnishError for name in ("registry.errors", "burnish.errors"))
