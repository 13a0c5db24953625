"""``lorry feedback``: opinions and votes as training and preference data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.chat.feedback import Feedback, collect, feedback
from components.chat.storage.comparisons import NONE_IS_GOOD, TIE, Comparisons
from components.chat.storage.completion import Completion
from components.chat.storage.database import Database
from components.errors import DataError
from tests.components.chat.helpers import DONE, reply, store

BAD = Completion("no", 1, 0.1, 1.0, "stop")
CUT = Completion("cut", 1, 0.1, 1.0, "length")


def collected(database: Database) -> Feedback:
    with database.transaction() as tables:
        return collect(tables)


def texts(messages: list[dict[str, str]]) -> list[str]:
    return [message["content"] for message in messages]


def test_liked_answers_are_training_rows_with_their_system_prompt(conversations, database):
    _, good = store(conversations, "good", DONE, system="Be kind.")
    conversations.rate("ann", good, True)
    store(conversations, "nobody rated this", DONE)
    assert collected(database).liked == [
        {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "good"},
                      {"role": "assistant", "content": "yes"}]},
    ]  # fmt: skip


def test_a_liked_and_a_disliked_answer_to_one_question_are_a_pair(conversations, database):
    _, worse, better = store(conversations, "again", BAD, DONE)
    conversations.rate("ann", better, True)
    conversations.rate("ann", worse, False)
    conversations.set_note("ann", worse, "rude")
    found = collected(database)
    assert found.preferences == [
        {
            "prompt": [{"role": "user", "content": "again"}],
            "chosen": [{"role": "assistant", "content": "yes"}],
            "rejected": [{"role": "assistant", "content": "no"}],
            "note": "rude",
        }
    ]
    assert found.disliked == []
    assert [texts(row["messages"]) for row in found.liked] == [["again", "yes"]]


def test_a_liked_answer_that_is_unfinished_is_left_out(conversations, database):
    _, cut = store(conversations, "q", CUT)
    conversations.rate("ann", cut, True)
    found = collected(database)
    assert (found.liked, found.left_out) == ([], 1)


def test_an_answer_that_anybody_disliked_is_in_no_training_row(conversations, database):
    _, only_bad = store(conversations, "bad", DONE)
    _, same = store(conversations, "bad", DONE, user="bob")
    behind, bad = store(conversations, "first", DONE)
    answer = reply(conversations, conversations.add_question("ann", behind, "then", ""), DONE)
    conversations.rate("bob", same, True)
    conversations.rate("ann", answer, True)
    for turn in (only_bad, bad):
        conversations.rate("ann", turn, False)
    conversations.set_note("ann", only_bad, "wrong")
    found = collected(database)
    assert (found.liked, found.left_out, found.preferences) == ([], 2, [])
    assert [row.get("note") for row in found.disliked] == ["wrong", None]


def test_a_row_with_the_same_text_as_a_disliked_answer_is_left_out_though_nobody_rated_it_there(
    conversations, database
):
    _, bad = store(conversations, "first", DONE, system="old")
    conversations.rate("ann", bad, False)
    behind, _ = store(conversations, "first", DONE, system="old")
    liked = reply(conversations, conversations.add_question("ann", behind, "then", "old"), DONE)
    conversations.rate("ann", liked, True)
    assert (collected(database).liked, collected(database).left_out) == ([], 1)


def test_each_row_has_the_system_prompt_that_its_answer_was_given(conversations, database):
    under_old = store(conversations, "q", Completion("of old", 1, 0.1, 1.0, "stop"), system="old")
    conversations.rate("ann", under_old[1], True)
    under_new = reply(conversations, conversations.rewind("ann", under_old[0], "new"), DONE)
    conversations.rate("ann", under_new, False)
    found = collected(database)
    assert [texts(row["messages"]) for row in found.liked] == [["old", "q", "of old"]]
    assert [texts(row["prompt"]) for row in found.disliked] == [["new", "q"]]
    assert found.preferences == [], "they answer different prompts"


def test_an_opinion_that_was_removed_is_no_feedback(conversations, database):
    _, turn = store(conversations, "q", DONE)
    conversations.rate("ann", turn, True)
    conversations.rate("ann", turn, None)
    assert collected(database) == Feedback([], [], [], 0)


def test_votes_are_preferences_unless_the_best_answer_is_unfinished(database):
    comparisons = Comparisons(database)
    answers = {"A": ("base", Completion("a", 3, 0.2, 1.2, "stop")), "B": ("tuned", CUT), "C": ("third", Completion())}
    for vote in ("A", "B", TIE, NONE_IS_GOOD):
        comparisons.save("ann", vote, "q", "Be kind.", answers, blind=True)
        comparisons.vote("ann", vote, vote)
    comparisons.save("ann", "not voted on", "q", "", answers, blind=True)
    found = collected(database)
    assert [(texts(row["chosen"]), texts(row["rejected"])) for row in found.preferences] == [(["a"], ["cut"])]
    assert [texts(row["rejected"]) for row in found.disliked] == [["a"], ["cut"]]
    assert texts(found.preferences[0]["prompt"]) == ["Be kind.", "q"]


def test_a_vote_between_equal_answers_is_no_preference(database):
    comparisons = Comparisons(database)
    comparisons.save("ann", "same", "q", "", {"A": ("base", DONE), "B": ("tuned", DONE)}, blind=True)
    comparisons.vote("ann", "same", "A")
    assert collected(database).preferences == []


def test_the_command_writes_a_file_of_each_kind(conversations, tmp_path, capsys):
    _, good = store(conversations, "schön", DONE)
    _, cut = store(conversations, "q", CUT)
    for turn in (good, cut):
        conversations.rate("ann", turn, True)
    feedback(tmp_path, tmp_path / "out")
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == ["disliked.jsonl", "liked.jsonl", "preferences.jsonl"]
    text = (out / "liked.jsonl").read_text(encoding="utf-8")
    assert "schön" in text
    assert texts(json.loads(text)["messages"]) == ["schön", "yes"]
    assert (out / "disliked.jsonl").read_text() == ""
    printed = capsys.readouterr().out
    assert f"{out / 'liked.jsonl'}: 1 rows" in printed
    assert "left out: 1 liked answers" in printed


def test_the_command_says_what_is_missing(conversations, database, tmp_path):
    with pytest.raises(DataError, match=r"nowhere/chat.sqlite: .* name its folder with --data-dir"):
        feedback(Path("nowhere"), tmp_path)
    with pytest.raises(DataError, match="no example to learn from yet: nobody has liked or disliked an answer"):
        feedback(tmp_path, tmp_path / "out")
    _, cut = store(conversations, "q", CUT)
    conversations.rate("ann", cut, True)
    with pytest.raises(DataError, match="1 liked answers are unfinished"):
        feedback(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
