"""The Bregman proximal term of SMART (Jiang et al. 2020, arXiv 1911.03437), in its momentum form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.perturbation import unwrapped


class Proximal:
    """Holds the model near a running average of itself: the symmetric KL between the predictions of both.

        average_0 = theta_0        average_t = decay * average_(t-1) + (1 - decay) * theta_t

    The average is kept in fp32, of the trained parameters alone. It is part of a run's state: `state_dict`.
    """

    def __init__(self, decay: float):
        self.decay = decay
        self.average: dict[str, Tensor] = {}
        self.update = -1

    def follow(self, model: nn.Module, update: int) -> None:
        """Move the average to the model as it is at the beginning of this update; once an update.

        Raises `UserError` in a run that goes on from a checkpoint without the average.
        """
        if update == self.update:
            return
        if not update:
            self.average = {}  # a fresh start from a checkpoint brings that of the run before
        elif not self.average:
            raise UserError(
                "--bregman-weight: the checkpoint holds no running average to go on from, or --reset-dataloader has "
                "left it out; with --reset-optimizer the run starts anew"
            )
        parameters = dict(unwrapped(model).named_parameters())
        for name, parameter in parameters.items():
            if not parameter.requires_grad:
                continue
            now = parameter.detach().float()
            if name not in self.average:
                self.average[name] = now.clone()
            else:
                self.average[name] = self.average[name].to(now.device).lerp_(now, 1 - self.decay)
        self.update = update

    @torch.no_grad()
    def logits(self, model: nn.Module, logits: Callable[[Callable[..., Any]], Tensor]) -> Tensor:
        """Class scores of the averaged model; `logits` takes the model that it is to call."""
        inner = unwrapped(model)
        parameters = dict(inner.named_parameters())
        # After a resume the average is on the CPU, and stays there if the update before it had overflown.
        average = {name: value.to(parameters[name]) for name, value in self.average.items()}
        return logits(lambda **net_input: functional_call(inner, average, (), net_input))

    def state_dict(self) -> dict[str, Any]:
        return {"average": self.average, "update": self.update}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.average, self.update = dict(state["average"]), int(state["update"])
