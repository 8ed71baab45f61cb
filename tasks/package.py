"""Step: publish a version as a Bento of its own."""

import asyncio
from pathlib import Path

from registry.records.model import ModelVersion
from registry.store.base import ArtifactStore
from serving.package import build_bento
from tasks.step import step


@step("build Bento")
async def publish_bento(version: ModelVersion, artifacts: ArtifactStore, bento_home: Path) -> str:
    """Build the version's Bento and return its tag."""
    folder = await asyncio.to_thread(artifacts.checkout, version.draft.artifact.sha256)
    return await asyncio.to_thread(build_bento, version, folder, bento_home)
