"""Early stopping: the epoch of the least loss on validation bags is kept."""

from dataclasses import dataclass, field

from torch import Tensor, nn


@dataclass
class BestEpoch:
    """The best epoch so far by its validation loss, counted from 0, and the weights that it left."""

    epoch: int = -1
    loss: float = float("inf")
    weights: dict[str, Tensor] = field(default_factory=dict)

    def heed(self, epoch: int, loss: float, net: nn.Module) -> None:
        """Keep what an epoch left if it is better than all before."""
        if loss < self.loss:
            self.epoch, self.loss = epoch, loss
            self.weights = {name: value.clone() for name, value in net.state_dict().items()}

    def restore(self, net: nn.Module) -> None:
        """Put the weights of the best epoch back, if there is one."""
        if self.weights:
            net.load_state_dict(self.weights)
