"""A loss: ln cosh of the error."""

from torch import Tensor
from torch.nn.functional import softplus

from aes_dynloss import Elements, register_loss


@register_loss("log_cosh")
def log_cosh(elements: Elements) -> Tensor:
    """Ln cosh(5 e), of the error e on [0, 1]: squared near 0, absolute far from it, (E,)."""
    size = 5 * (elements.scores - elements.targets).abs()
    return size + softplus(-2 * size) - 0.6931471805599453  # ln cosh without exp of a large number
