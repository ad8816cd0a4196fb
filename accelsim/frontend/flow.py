"""Which calls of a recording make a tensor, and which take it."""

from __future__ import annotations

from collections import defaultdict

import torch

from .calls import Call, Recording


class Flow:
    """The calls of a recording by the tensors between them."""

    def __init__(self, recording: Recording) -> None:
        self._makers: dict[int, Call] = {}
        self._users: dict[int, list[Call]] = defaultdict(list)
        self._outputs = [id(output) for output in recording.outputs]
        self._positions = {id(call): position for position, call in enumerate(recording.calls)}
        for call in recording.calls:
            for tensor in call.tensors:
                self._users[id(tensor)].append(call)
            for tensor in call.results:
                self._makers.setdefault(id(tensor), call)

    def maker(self, tensor: torch.Tensor) -> Call | None:
        """The call that made a tensor; None for inputs and parameters."""
        return self._makers.get(id(tensor))

    def position(self, call: Call) -> int:
        """The number of a call."""
        return self._positions[id(call)]

    def uses(self, tensor: torch.Tensor) -> int:
        """How many calls take a tensor, and outputs are it."""
        return len(self.users(tensor)) + self._outputs.count(id(tensor))

    def users(self, tensor: torch.Tensor) -> list[Call]:
        """The calls that take a tensor."""
        return self._users[id(tensor)]

    def users_beside(self, tensor: torch.Tensor, call: Call) -> list[Call]:
        """The calls that take a tensor and are not on the way to `call`."""
        before, open_ = {id(call)}, [call]
        while open_:
            makers = [self.maker(source) for source in open_.pop().tensors]
            new = [maker for maker in makers if maker is not None and id(maker) not in before]
            before.update(id(maker) for maker in new)
            open_ += new
        return [user for user in self.users(tensor) if id(user) not in before]
