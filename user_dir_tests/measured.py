"""The memory of tensors as it is, for the tests that hold calculations against it."""

from __future__ import annotations

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Alive(TorchDispatchMode):
    """Counts the bytes of tensors that were made inside and are still alive."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        given = {id(leaf.untyped_storage()) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._add(leaf.untyped_storage(), given)
        return result

    def _add(self, storage, given: set[int]) -> None:
        key = storage._cdata
        if id(storage) in given or key in self.known:
            return
        self.known.add(key)
        size = storage.nbytes()
        self.bytes += size
        self.peak = max(self.peak, self.bytes)

        def gone() -> None:
            self.bytes -= size
            self.known.discard(key)

        weakref.finalize(storage, gone)
