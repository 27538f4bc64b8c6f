"""`demeanor systems`: what may be trained."""

from __future__ import annotations

from typing import Any

import click


@click.command()
@click.option("--markdown", is_flag=True, help="As the table of the README.")
def systems(markdown: bool) -> None:
    """List all systems: tasks, streams, paper, status."""
    from demeanor.models import SYSTEMS, find_system

    if markdown:
        click.echo(systems_table())
        return
    for name in SYSTEMS:
        card = find_system(name).card
        click.echo(f"{name:<16} {card.title}: {', '.join(card.tasks)}; {card.status}")
        click.echo(f"{'':<16} roles: {roles_of(card)}; settings: {', '.join(find_system(name).Settings.model_fields)}")
        if card.paper:
            click.echo(f"{'':<16} {card.paper}")


def roles_of(card: Any) -> str:
    """Names of a system's roles, in one line."""
    return ", ".join(role if value.required else f"{role} (optional)" for role, value in card.roles.items())


def systems_table() -> str:
    """The README's table, made from the registry."""
    from demeanor.models import SYSTEMS, find_system

    lines = ["| system | what | tasks | roles | paper |", "|---|---|---|---|---|"]
    for name in SYSTEMS:
        card = find_system(name).card
        lines.append(f"| `{name}` | {card.title} | {', '.join(card.tasks)} | {roles_of(card)} | {card.paper} |")
    return "\n".join(lines)
