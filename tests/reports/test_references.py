from __future__ import annotations

import pytest

from aes_dynloss.errors import DataError
from aes_dynloss.reports.predictions import read_predictions
from aes_dynloss.tables.columns import ColumnNames
from aes_dynloss.tables.score_range import ScoreRange

RANGES = {"1": ScoreRange(1, 6), "2": ScoreRange(0, 3)}
HUMAN = (
    r"^r.csv has no column 'reference'; found 'essay_id', 'human'. Name the column of the human scores with "
    "--reference-column or --map reference=COLUMN.$"
)
PREDICTIONS = "essay_id,prompt_id,score\na,1,4\nb,1,2\nc,2,3\n"


@pytest.fixture
def joined(tmp_path):
    def join(predictions, references, **options):
        (tmp_path / "p.csv").write_text(predictions, encoding="utf-8")
        (tmp_path / "r.csv").write_text(references, encoding="utf-8")
        return read_predictions(tmp_path / "p.csv", references=tmp_path / "r.csv", **options)

    return join


def test_essays_meet_by_id_in_any_order(joined):
    found = joined(PREDICTIONS, "essay_id,reference,second_reference\nc,0,1\na,5,\nb,3,2\n", ranges=RANGES).table
    assert found["essay_id"].tolist() == ["a", "b", "c"]
    assert found["reference"].tolist() == [5, 3, 0]
    assert found["second_reference"].fillna(-1).tolist() == [-1, 2, 1]
    assert found["score"].tolist() == [4, 2, 3]


def test_ids_that_start_again_in_each_prompt_meet_by_prompt_too(joined):
    predictions = "essay_id,prompt_id,score\n1,1,4\n1,2,3\n"
    found = joined(predictions, "essay_id,prompt_id,reference\n1,2,0\n1,1,5\n", ranges=RANGES).table
    assert found["reference"].tolist() == [5, 0]


def test_prompts_that_the_references_alone_know(joined):
    found = joined("essay_id,score\na,4\nc,3\n", "essay_id,prompt_id,reference\nc,2,0\na,1,5\n", ranges=RANGES)
    assert found.table["prompt_id"].tolist() == ["1", "2"]
    assert not any("prompt column" in note for note in found.notes)


def test_a_blank_reference_column_gives_way(joined):
    predictions = "essay_id,prompt_id,reference,score\na,1,,4\n"
    assert joined(predictions, "essay_id,reference\na,5\n", ranges=RANGES).table["reference"].tolist() == [5]


def test_both_files_may_call_their_scores_score(joined):
    found = joined(
        PREDICTIONS, "essay_id,score\na,5\nb,3\nc,0\n", columns=ColumnNames(reference="score"), ranges=RANGES
    )
    assert found.table["reference"].tolist() == [5, 3, 0]
    assert found.table["score"].tolist() == [4, 2, 3]


def test_the_prompt_column_may_be_in_either_file(joined):
    names = ColumnNames(prompt_id="set")
    found = joined("essay_id,score\na,4\n", "essay_id,set,reference\na,1,5\n", columns=names, ranges=RANGES)
    assert found.table["prompt_id"].tolist() == ["1"]
    with pytest.raises(DataError, match=r"Neither p.csv nor its references have a column 'set' for prompt_id"):
        joined("essay_id,score\na,4\n", "essay_id,reference\na,5\n", columns=names)


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        (
            PREDICTIONS,
            "essay_id,reference\na,5\n",
            r"p.csv and r.csv must hold the same essays. In p.csv and not in r.csv: essay 'b', essay 'c' \(2 in all\).*"
            "--map essay_id=COLUMN; if they are numbers of rows, score again with --id-column",
        ),
        (
            PREDICTIONS,
            "essay_id,reference\na,5\nb,3\nc,0\n" + "".join(f"x{row},1\n" for row in range(7)),
            r"In r.csv and not in p.csv: essay 'x0', .*essay 'x4', \.\.\. \(7 in all\)",
        ),
        (PREDICTIONS, "essay_id,reference\na,5\nb,3\nc,0\na,4\n", "r.csv has more than one row for essay 'a'. Keep"),
        (PREDICTIONS + "a,2,1\n", "essay_id,reference\na,5\nb,3\nc,0\n", "p.csv has more than one row for essay 'a'"),
        (
            PREDICTIONS,
            "essay_id,prompt_id,reference\na,1,5\nb,2,3\nc,2,0\n",
            r"In r.csv and not in p.csv: essay 'b' of prompt '2' \(1 in all\)",
        ),
        (PREDICTIONS, "essay_id,reference\na,5\nb,x\nc,0\n", r"Row 3 of r.csv \(essay 'b'\): reference 'x' is not"),
        (
            PREDICTIONS,
            "essay_id,reference\nc,0\na,5\n\nb,7\n",
            r"^Row 5 of r.csv \(essay 'b'\): reference 7 is no score point of prompt 1's range 1 to 6",
        ),
        (
            PREDICTIONS,
            "essay_id,reference,second_reference\nc,0,\na,5,9\nb,3,\n",
            r"^Row 3 of r.csv \(essay 'a'\): second_reference 9 is no score point",
        ),
        (PREDICTIONS, "essay_id,reference\nc,0\nb,3\na,1e51\n", r"^Row 4 of r.csv \(essay 'a'\): reference 1e\+51 is"),
        (PREDICTIONS, "essay_id,human\na,5\nb,3\nc,0\n", HUMAN),
        (
            "essay_id,reference,score\na,5,4\n",
            "essay_id,reference\na,5\n",
            "p.csv holds reference itself. Leave out r.csv, or drop that column",
        ),
    ],
)
def test_files_that_do_not_fit(joined, predictions, references, message):
    with pytest.raises(DataError, match=message):
        joined(predictions, references, ranges=RANGES)


@pytest.mark.parametrize("references", ["essay_id,reference\na,5\nc,0\n", "essay_id,reference\na,5\nb,\nc,0\n"])
def test_a_few_essays_without_a_human_score_are_set_aside_and_named(joined, references):
    found = joined(PREDICTIONS, references, ranges=RANGES)
    assert found.table["essay_id"].tolist() == ["a", "c"]
    assert found.table["reference"].tolist() == [5, 0]
    assert found.notes[0] == (
        "1 of 3 essays in p.csv have no human score in r.csv: essay 'b'. The figures are those of the others."
    )


def test_an_essay_without_a_human_score_on_several_traits_is_one(joined):
    predictions = "essay_id,form,form_raw,style,style_raw\na,3,3.1,2,2.2\nb,4,3.9,3,3.3\nc,1,1.2,2,1.8\n"
    found = joined(predictions, "essay_id,form,style\na,3,2\nb,,\nc,1,2\n", ranges={"all": ScoreRange(1, 6)})
    assert found.notes[0] == (
        "1 of 3 essays in p.csv have no human score of some trait in r.csv: essay 'b'. The figures are those of the "
        "others."
    )
