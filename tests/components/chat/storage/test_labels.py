"""Labels of models stay the same, whichever servers answer."""

from __future__ import annotations

from components.chat.storage.labels import Labels

ONE, TWO = "http://one/v1", "http://two/v1"


def test_labels_stay_whichever_servers_answer_and_over_a_restart(database):
    labels = Labels(database)
    assert labels.labels_of([(ONE, "base")], nameless={ONE, TWO}) == ["base"]
    assert labels.labels_of([(ONE, "base"), (TWO, "base")], nameless={ONE, TWO}) == ["base", f"base ({TWO})"]
    assert Labels(database).labels_of([(TWO, "base")], nameless={ONE, TWO}) == [f"base ({TWO})"]


def test_two_servers_with_the_same_new_model_both_show_their_address():
    both = [(ONE, "other"), (TWO, "other")]
    assert Labels().labels_of(both, nameless={ONE, TWO}) == [f"other ({ONE})", f"other ({TWO})"]


def test_a_server_with_a_name_always_shows_it_and_needs_no_storage(database):
    assert Labels(database).labels_of([("a", "base"), (ONE, "base")], nameless={ONE}) == ["base (a)", "base"]
    with database.transaction() as tables:
        assert [tuple(row) for row in tables.execute("SELECT * FROM label")] == [(ONE, "base", "base")]


def test_a_bare_id_that_another_server_has_is_not_given_twice():
    labels = Labels()
    labels.labels_of([(ONE, "base")], nameless={ONE, TWO})
    assert labels.labels_of([(TWO, "base")], nameless={ONE, TWO}) == [f"base ({TWO})"]
