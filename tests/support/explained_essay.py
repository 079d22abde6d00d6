"""A hostile essay with all that an explanation can hold."""

from __future__ import annotations

import math

from aes_dynloss.essays.explaining.explanation import Explanation, ScoreExplanation
from aes_dynloss.essays.explaining.feature_parts import FeatureParts
from aes_dynloss.essays.explaining.language import Observation
from aes_dynloss.essays.explaining.neighbours import Neighbour
from aes_dynloss.essays.explaining.next_point import FeatureMove, FeatureValue, NextPoint
from aes_dynloss.essays.explaining.sentences import sentence_spans

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"
TEXT = f"I like {EVIL}. \u202eIt is teh\r\nend. It rains. 👩‍👩‍👧 We swim."
SCORE = ScoreExplanation(
    trait=None,
    raw=2.4004,
    score=2.0,
    low=1.0,
    high=3.0,
    contributions=[0.4, -0.2, 0.01, -0.0001],
    left_out=[0.3, -0.1, 0.0, 0.0],
    features=FeatureParts(2.0, {"lengths": 0.3004, "function_words": 0.1}),
    values=[
        FeatureValue("commas", 1.0, 99.4, math.nan),
        FeatureValue("lix", 3.0, 1.2, 4.0),
        FeatureValue("digits", 0.0, 40.0, 50.0),
    ],
    next_point=NextPoint(3.0, 0.2, [FeatureMove("commas", 1.0, 2.0, 20.0, 60.0)]),
    neighbours=[Neighbour("7", 3.0, 1.0), Neighbour(None, 2.0, 0.5)],
)
REMARK = Observation(TEXT.index("teh"), TEXT.index("teh") + 3, "teh", "typo", "Did you mean `the`?", ("the",))
ESSAY = Explanation(EVIL, "letter", TEXT, "exact", sentence_spans(TEXT), [SCORE], language=[REMARK])
