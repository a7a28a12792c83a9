"""Report: how a run went, for a person or a program, and what to type next."""

import shlex
import sys
from dataclasses import dataclass

from rich.markup import escape

from envhub.app import Settings
from envhub.cli.output import facts, number, out, table
from envhub.cli.policy_options import written
from envhub.cli.tally import Line, Tally
from envhub.contracts.delivery import NewsKind
from envhub.contracts.members import MemberCounts, MemberState
from envhub.monitor.loop_lag import LoopLag
from envhub.rollouts.policies import PolicySettings
from envhub.store.address import shown

SHOWN_FAILURES = 3
USUAL = Settings()


@dataclass(frozen=True, slots=True)
class Repeated:
    """What a run was told that a further command on it must be told as well."""

    settings: Settings  # with the id of the run
    verb: tuple[str, ...]  # goes on with the run whose id follows
    words: tuple[str, ...] = ()  # that it was told, but for its job

    def command(self, verb: str, *options: str) -> str:
        """A command to type, with those options that are not as usual."""
        settings = self.settings
        values = {
            "database": shown(settings.database),
            "engine": written(PolicySettings(settings.engine, settings.engine_options)),
        }
        told = [(name, values[name]) for name in options]
        written_out = [f" --{name} {shlex.quote(value)}" for name, value in told if value != getattr(USUAL, name)]
        return f"{_own_name()} {verb}{''.join(written_out)}"

    def resume(self) -> str:
        """The command that goes on with the run."""
        return shlex.join([_own_name(), *self.verb, self.settings.run_id, *self.words])


@dataclass(frozen=True, slots=True)
class Report:
    """How a run went."""

    repeated: Repeated
    tally: Tally
    members: MemberCounts
    interrupted: bool
    trainer_failed: bool
    lag: LoopLag

    @property
    def exit_code(self) -> int:
        if self.interrupted:
            return 130
        failed = (
            self.members.of(MemberState.FAILED) or self.tally.dropped[NewsKind.DEAD_LETTER] or not self.members.drained
        )
        return int(bool(self.trainer_failed or failed))

    def as_json(self) -> dict[str, object]:
        return {
            "run_id": self.repeated.settings.run_id,
            "database": shown(self.repeated.settings.database),
            "environments": {name: _facts(line) for name, line in self.tally.lines.items()},
            "members": {"submitted": self.members.submitted, **{str(s): n for s, n in self.members.by_state.items()}},
            "conserved": self.members.conserved,
            "drained": self.members.drained,
            "failures": dict(self.tally.failures.most_common()),
            "loop_lag": self.lag.as_json(),
            "dropped": dict(self.tally.dropped.most_common()),
            "length_bias": {
                "kept": self.tally.bias.kept,
                "kept_mean_tokens": self.tally.bias.mean_kept,
                "cut_off": self.tally.bias.cut_off,
                "cut_off_mean_tokens": self.tally.bias.mean_cut_off,
            },
        }

    def show(self) -> None:
        columns = ("environment", "groups", "rollouts", "mean\nreward", "tokens", "tokens/s", "outcomes")
        rows = [_row(name, line) for name, line in self.tally.lines.items()]
        if len(rows) > 1:
            rows.append(_row("all", self.tally.total()))
        out.print()
        out.print(table(columns, rows, right=columns[1:6]))
        out.print()
        out.print(f"[bold]members[/]   {self.members.equation()}", soft_wrap=True)
        show_database(self.repeated.settings)
        out.print(f"[bold]loop lag[/]  {escape(str(self.lag))}", soft_wrap=True)
        self._show_dropped()
        self._show_bias()
        self._show_failures()
        commands = self._next()
        width = max(len(command) for command, _ in commands)
        out.print("\nnext:")
        for command, meaning in commands:
            out.print(f"  [cyan]{escape(command.ljust(width))}[/]  [dim]{meaning}[/]", soft_wrap=True)

    def _show_dropped(self) -> None:
        if self.tally.dropped:
            reasons = ", ".join(f"{groups:,} {reason}" for reason, groups in self.tally.dropped.most_common())
            out.print(f"[bold]dropped[/]   groups: {escape(reasons)}", soft_wrap=True)

    def _show_bias(self) -> None:
        bias = self.tally.bias
        if bias.cut_off:
            out.print(
                f"[bold]length[/]    {bias.kept:,} members in time: {bias.mean_kept:,.0f} tokens on average; "
                f"{bias.cut_off:,} cut off for them: {bias.mean_cut_off:,.0f} so far",
                soft_wrap=True,
            )

    def _show_failures(self) -> None:
        failures = self.tally.failures.most_common()
        if failures:
            out.print("\nwhy members failed:")
            out.print(facts([(f"  {number}", escape(why)) for why, number in failures[:SHOWN_FAILURES]]))
        if len(failures) > SHOWN_FAILURES:
            out.print(f"  and {len(failures) - SHOWN_FAILURES} more reasons: trace list --status failed")

    def _next(self) -> list[tuple[str, str]]:
        repeated = self.repeated
        resume = [] if self.members.drained else [(repeated.resume(), "go on where it stopped")]
        return [
            *resume,
            (repeated.command("trace list", "database"), "the rollouts, newest first"),
            (repeated.command("verify", "database"), "check every recorded token"),
            (repeated.command("serve", "database", "engine"), "look at them in a browser"),
        ]


def show_database(settings: Settings) -> None:
    """Where a run is."""
    out.print(f"[bold]database[/]  {escape(shown(settings.database))} (run {escape(settings.run_id)})", soft_wrap=True)


def _facts(line: Line) -> dict[str, object]:
    return {
        "groups": line.groups,
        "rollouts": line.rollouts,
        "children": line.children,
        "mean_reward": line.mean_reward,
        "tokens": line.tokens,
        "tokens_per_s": line.tokens_per_s,
        "outcomes": dict(line.outcomes),
    }


def _row(name: str, line: Line) -> tuple[str, ...]:
    outcomes = [f"{number:,} {outcome}" for outcome, number in line.outcomes.most_common()]
    if line.children:
        outcomes.append(f"and {line.children:,} children")
    reward, rate = number(line.mean_reward), number(line.tokens_per_s, 0)
    return name, str(line.groups), f"{line.rollouts:,}", reward, f"{line.tokens:,}", rate, ", ".join(outcomes)


def _own_name() -> str:
    """How this command was called, so that what is printed can be typed."""
    return sys.argv[0] if "/" in sys.argv[0] and not sys.argv[0].startswith("/") else "envhub"
