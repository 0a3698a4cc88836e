"""What holds for every attempt of a worker, whatever it runs. Part of the first frame to a worker."""

import msgspec


class Sandbox(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The operator's own bounds."""

    memory_limit: int = 0
    """Bytes of address space an attempt may have at most; 0: by its estimate alone."""
    cpu_limits: dict[str, float] = {}
    """Task type → CPU seconds that its attempts may use, in place of the type's own rule; 0: any."""
    input_roots: tuple[str, ...] = ()
    """Real paths below which inputs must lie; empty: anywhere."""
    output_roots: tuple[str, ...] = ()
