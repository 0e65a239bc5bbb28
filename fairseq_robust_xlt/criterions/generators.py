"""Which dropout masks the passes of a step see, and that the step leaves no trace in what is drawn next."""

from __future__ import annotations

import torch
from torch import Tensor


class Generators:
    """torch's random number generators on the CPU and on one device.

    A pass begins where the first one did, or with `own` masks where the one before it ended. In the end they stand as
    after the first pass, which draws what the standard method's draws.
    """

    def __init__(self, device: torch.device, own: bool):
        self.device, self.own = device, own
        self.first = self._states()
        self.second: tuple[Tensor, Tensor | None] | None = None
        self.passes = 0

    def begin_pass(self) -> None:
        self.passes += 1
        if self.passes == 2:
            self.second = self._states()
        if not self.own:
            self._set(self.first)

    def finish(self) -> None:
        if self.second is not None:
            self._set(self.second)

    def _states(self) -> tuple[Tensor, Tensor | None]:
        return torch.get_rng_state(), torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None

    def _set(self, states: tuple[Tensor, Tensor | None]) -> None:
        cpu, cuda = states
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state(cuda, self.device)
