from __future__ import annotations

import torch

from aes_dynloss.teaching.unrolling.step_plan import Processes


def test_one_process_alone():
    alone = Processes()
    index, (rows, columns) = alone.rows(
        torch.tensor([4, -1, 2, -1, 9]), [torch.arange(10).view(5, 2), torch.tensor([5, 6, 7, 8, 9])]
    )
    assert index.tolist() == [2, 4, 9]
    assert rows.tolist() == [[4, 5], [0, 1], [8, 9]]
    assert columns.tolist() == [7, 5, 9]
    tensor = torch.ones(3)
    assert torch.equal(alone.total(tensor), tensor)
    assert alone.world_size == 1
