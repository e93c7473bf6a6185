"""docs/states.md is what the code does: run `make states` after changing a transition table."""

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_of_states_is_drawn_from_the_transition_tables() -> None:
    drawn = runpy.run_path(str(DOCS / "generate_states.py"))["document"]()
    assert (DOCS / "states.md").read_text() == drawn


def test_every_state_can_be_reached_from_the_first_one() -> None:
    for machine in runpy.run_path(str(DOCS / "generate_states.py"))["MACHINES"]:
        reached, ahead = set(), [machine.begins]
        while ahead:
            state = ahead.pop()
            reached.add(state)
            ahead += [after for after in machine.transitions[state] if after not in reached]
        assert reached == set(machine.transitions), machine.title
