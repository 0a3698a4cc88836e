"""What holds for every attempt of a worker, whatever it runs. Part of the first frame to a worker."""

from typing import Literal, TypeAlias

import msgspec

SandboxMode: TypeAlias = Literal["off", "auto", "require"]


class Sandbox(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The operator's own bounds."""

    mode: SandboxMode = "off"
    """Whether attempts are walled in: never, as far as the kernel can, or else not at all."""
    protected: tuple[str, ...] = ()
    """Real paths that no attempt may reach, but for its own folder: the data folder and what else holds secrets."""
    landlock: int = 0
    """The version of Landlock that this machine has; 0: none. It and `seccomp` are filled in by the executor."""
    seccomp: bool = False
    """Whether system calls can be filtered."""
    memory_limit: int = 0
    """Bytes of address space an attempt may have at most; 0: by its estimate alone."""
    cpu_limits: dict[str, float] = {}
    """Task type → CPU seconds that its attempts may use, in place of the type's own rule; 0: any."""
    input_roots: tuple[str, ...] = ()
    """Real paths below which inputs must lie; empty: anywhere."""
    output_roots: tuple[str, ...] = ()

    @property
    def walled(self) -> bool:
        """Whether attempts run in processes of their own, behind whatever there is."""
        return self.mode != "off" and (self.landlock > 0 or self.seccomp)
