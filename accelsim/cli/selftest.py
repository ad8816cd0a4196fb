"""`accelsim selftest`: the engines' rules beside the kernels that this installation has, on this processor."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accelsim.frontend.packages import remedy
from accelsim.report.tables import plain_table

from .application import application, guarded
from .models import unswamped
from .options import Json
from .output import progress, write_json, write_tables
from .status import OK, WRONG_OUTPUTS, CallError
from .streams import give_stdout_away

if TYPE_CHECKING:
    from accelsim.frontend.selftest import Rule


@application.command()
@guarded
def selftest(
    engine: Annotated[
        str | None, typer.Option(metavar="NAME", help="The rules of this engine alone.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> int:
    """Compare every rule of every engine with this installation's own kernels.

    Exit status 1 if one does not hold. Takes under a minute.
    """
    give_stdout_away()
    from accelsim.frontend.selftest import engines, environment, rules_of

    known = engines()
    if not known:
        raise CallError(
            f"selftest: compares with the kernels of PyTorch or ONNX Runtime, and neither is there; {remedy('torch')}"
        )
    if engine is not None and engine not in known:
        raise CallError(f"--engine {engine}: this installation has the kernels of {', '.join(known)}")
    chosen = known if engine is None else (engine,)
    rules: dict[str, list[Rule]] = {}
    for name in chosen:
        with progress(f"compare with {name}"), unswamped():
            rules[name] = list(rules_of(name))
    every = [rule for name in chosen for rule in rules[name]]
    holds = all(rule.holds for rule in every)
    if as_json:
        tested: dict[str, Any] = {name: environment(name) for name in chosen}
        write_json({"holds": holds, "engines": tested, "rules": [rule.to_dict() for rule in every]})
        return OK if holds else WRONG_OUTPUTS
    table = plain_table("Rules beside this installation's kernels", ("rule", *chosen))
    by_place = {(rule.operator, rule.engine): rule for rule in every}
    for operator in dict.fromkeys(rule.operator for rule in every):
        table.add_row(operator, *(_cell(by_place.get((operator, name))) for name in chosen))
    write_tables(
        table,
        "\n".join([*_refusals(every), _summary(every, dict.fromkeys(environment(name)["with"] for name in chosen))]),
    )
    return OK if holds else WRONG_OUTPUTS


def _cell(rule: Rule | None) -> str:
    if rule is None:
        return "-"
    if not rule.holds:
        return f"{rule.differing:,} of {rule.compared:,} differ"
    if not rule.compared:
        return "no kernel" if rule.absent else "refused"
    return "holds"


def _refusals(rules: list[Rule]) -> list[str]:
    """What is refused by name, or is not there: nothing was compared."""
    found: dict[tuple[str, str], list[str]] = {}
    for rule in rules:
        if not rule.compared:
            found.setdefault((rule.operator, rule.refused), []).append(rule.engine)
    return [f"{operator} ({', '.join(names)}): {reason}" for (operator, reason), names in found.items()]


def _summary(rules: list[Rule], versions: Iterable[str]) -> str:
    compared = [rule for rule in rules if rule.compared]
    wrong = [rule for rule in compared if not rule.holds]
    said = f"{len(compared) - len(wrong)} rules hold over {sum(rule.compared for rule in compared):,} codes"
    more = f"; {len(wrong)} do not: do not trust results of these on this installation" if wrong else ""
    return f"{' and '.join(versions)}: {said}{more}."
