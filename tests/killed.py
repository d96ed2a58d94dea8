"""The command line in a process of its own, which kills itself at a call that a test chooses."""

from __future__ import annotations

import json
import os
import pkgutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Killed:
    """The process dies at a call of a method, by SIGKILL."""

    method: str
    """Dotted name, such as `opensearchpy.OpenSearch.bulk`."""
    call: int = 1
    """Which of the calls it is, from 1."""
    about: str = ""
    """Only calls with this in their arguments are counted."""
    after: bool = False
    """Whether the call is made before the process dies."""
    constants: Mapping[str, Any] = field(default_factory=dict)
    """Dotted name of a constant → its value in that process."""

    def program(self, *arguments: str) -> list[str]:
        """The command that runs `latent-ingest` with these arguments."""
        return [sys.executable, __file__, json.dumps(asdict(self)), *arguments]

    def run(self, *arguments: str) -> None:
        """Run it, and check that it was killed."""
        done = subprocess.run(self.program(*arguments), capture_output=True, text=True)
        assert done.returncode == -signal.SIGKILL, done.stderr

    def arm(self) -> None:
        """Change the method and the constants, in this process."""
        for name, value in self.constants.items():
            module, _, constant = name.rpartition(".")
            setattr(pkgutil.resolve_name(module), constant, value)
        owner, _, name = self.method.rpartition(".")
        place = pkgutil.resolve_name(owner)
        method, calls = getattr(place, name), []

        def counted(*arguments: Any, **named: Any) -> Any:
            calls.extend([arguments] if self.about in str(arguments) else [])
            last = len(calls) >= self.call  # requests are sent at the same time
            answer = None if last and not self.after else method(*arguments, **named)
            if last:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        setattr(place, name, counted)


if __name__ == "__main__":
    # Folders of the tests have names like those of packages.
    sys.path.remove(str(Path(__file__).parent))
    Killed(**json.loads(sys.argv.pop(1))).arm()
    from latent_ingest.cli.main import cli

    cli()
