"""What a scenario found, and how rounds are compared."""

from collections.abc import Callable, Sequence
from statistics import median

import msgspec


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How long a run may take. `small` leaves out the largest network."""

    rounds: int = 5
    seconds: float = 6.0
    small: bool = False


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table. `met` is None where nothing was promised."""

    what: str
    reached: str
    target: str = ""
    met: bool | None = None


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """Rounds of ours and of a baseline, taken alternately."""

    ours: list[float]
    baseline: list[float]

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios."""
        return median(mine / theirs for mine, theirs in zip(self.ours, self.baseline, strict=True))


def alternate(
    title: str, options: Options, ours: Callable[[], float], baseline: Callable[[], float], *, unit: str = "/s"
) -> Compared:
    """Ours, baseline, ours, baseline ... so that what changes on the machine meanwhile meets both alike."""
    compared = Compared(ours=[], baseline=[])
    for number in range(1, options.rounds + 1):
        compared.ours.append(ours())
        compared.baseline.append(baseline())
        mine, theirs = compared.ours[-1], compared.baseline[-1]
        say(f"round {number}: {mine:,.0f}{unit} against {theirs:,.0f}{unit}, {mine / theirs:.2f} times", depth=1)
    say(f"{title}: median ratio {compared.ratio:.2f}", depth=1)
    return compared


def at_least(what: str, reached: float, target: float, *, unit: str = "") -> Finding:
    """More is better."""
    return Finding(
        what=what, reached=_figure(reached, unit), target=f"≥ {_figure(target, unit)}", met=reached >= target
    )


def at_most(what: str, reached: float, target: float, *, unit: str = "") -> Finding:
    """Less is better."""
    return Finding(
        what=what, reached=_figure(reached, unit), target=f"≤ {_figure(target, unit)}", met=reached <= target
    )


def noted(what: str, reached: float, *, unit: str = "") -> Finding:
    """For context; nothing was promised."""
    return Finding(what=what, reached=_figure(reached, unit))


def say(sentence: str, *, depth: int = 0) -> None:
    """Print at once: a run takes minutes."""
    print("  " * depth + sentence, flush=True)


def table(findings: Sequence[Finding]) -> str:
    """In Markdown, as it stands in docs/performance.md."""
    marks = {True: "yes", False: "**no**", None: ""}
    rows = [("what", "target", "reached", "met"), ("---", "---", "---", "---")]
    rows += [(finding.what, finding.target, finding.reached, marks[finding.met]) for finding in findings]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _figure(number: float, unit: str) -> str:
    digits = 0 if abs(number) >= 100 else 1 if abs(number) >= 10 else 2
    return f"{number:,.{digits}f}{' ' if unit else ''}{unit}"
