"""The ASAP-AES training set (the Hewlett Foundation's Automated Student Assessment Prize, 2012): columns and prompts.

Its training_set_rel3.tsv is cp1252 text with tabs and unbalanced double quotes. Read with quotes as quotes it loses
rows and mixes up labels; quotes are plain characters there. domain1_score is resolved from the two raters' scores
(prompt 1: their sum), so the raters are kept beside it, on their own scale.
"""

from __future__ import annotations

from aes_dynloss.essays.data.data_config import Columns, PromptConfig

ASAP_ENCODING = "cp1252"
ASAP_COLUMNS = Columns(essay_id="essay_id", prompt_id="essay_set", text="essay", score="domain1_score")
ASAP_RATERS = {"rater1_domain1": "rater1", "rater2_domain1": "rater2"}
# Of the competition's description; prompts 7 and 8 have score points that no essay got.
ASAP_PROMPTS = {
    "1": PromptConfig(low=2, high=12),
    "2": PromptConfig(low=1, high=6),
    "3": PromptConfig(low=0, high=3),
    "4": PromptConfig(low=0, high=3),
    "5": PromptConfig(low=0, high=4),
    "6": PromptConfig(low=0, high=4),
    "7": PromptConfig(low=0, high=30),
    "8": PromptConfig(low=0, high=60),
}
