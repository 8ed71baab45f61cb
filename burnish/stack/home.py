"""Brings up the stack of some settings: its home folder first, then its parts."""

from ipaddress import ip_address

from burnish.stack import lifecycle
from burnish.stack.log_file import turn_over
from burnish.stack.parts import gateway_folder, gateway_plan, stack_plan
from flows.settings import StackSettings, keep_settings
from registry.errors import InputError
from serving.gateway import files


def bring_up(settings: StackSettings, on_ready: lifecycle.OnReady) -> None:
    """Start the stack and wait until all of it is ready; nothing is written when it cannot be started.

    Raises:
        InputError: it runs already or is being started, a port is taken, it would be open to everybody, or the gateway
            cannot be configured as the settings say.
        BurnishError: a part did not become ready; everything is stopped again.
    """
    require_keys_beyond_loopback(settings)
    plan = stack_plan(settings)
    lifecycle.check(plan)
    with lifecycle.starting(plan):
        prepare(settings)
        keep_settings(settings)
        lifecycle.start(plan, on_ready)


def require_keys_beyond_loopback(settings: StackSettings) -> None:
    """Check that a stack which others can reach lets in nobody without a key.

    Raises:
        InputError: it would.
    """
    if settings.require_keys or settings.host == "localhost":
        return
    try:
        loopback = ip_address(settings.host).is_loopback
    except ValueError:  # a host's name may be any address
        loopback = False
    if not loopback:
        raise InputError(
            f"BURNISH_HOST is {settings.host}, where others can reach the stack, and nobody would need a key; set "
            "BURNISH_REQUIRE_KEYS=true (`burnish key add` makes the first key), or bind to 127.0.0.1"
        )


def prepare(settings: StackSettings) -> None:
    """Make the folders that the parts expect, and write the gateway's configuration.

    Raises:
        InputError: Envoy does not take the configuration that follows from the settings.
    """
    folders = (
        settings.artifacts_folder,
        settings.catalog_folder,
        settings.capture_folder,
        settings.cache_folder,
        settings.work_folder,
        settings.bento_folder,
        settings.log_folder,
        settings.home / "prefect",
        settings.home / "mlflow" / "artifacts",
    )
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    gateway = gateway_plan(settings)
    turn_over(gateway.access_log)
    files.render(gateway, gateway_folder(settings))
