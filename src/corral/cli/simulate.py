"""``corral simulate``: an ensemble and its clients under virtual time, with everything that can go wrong."""

from __future__ import annotations

import sys

import click


@click.command()
@click.option("--seed", type=click.IntRange(min=0), required=True, help="Decides everything; the same again replays.")
@click.option("--runs", type=click.IntRange(min=1), default=1, help="So many seeds, one after another.  [default: 1]")
@click.option("--servers", type=click.IntRange(1, 9), default=3, show_default=True, help="Members of the ensemble.")
@click.option("--clients", type=click.IntRange(0, 50), default=3, show_default=True, help="Clients that work on it.")
@click.option(
    "--minutes", type=click.FloatRange(min=0, min_open=True), default=0.5, show_default=True, help="Virtual minutes."
)
@click.option("--faults/--no-faults", default=True, help="Whether anything goes wrong.")
@click.option("--logs", is_flag=True, help="Show also what the servers log.")
@click.option("-q", "--quiet", is_flag=True, help="Show only how it ends.")
def simulate(
    seed: int, runs: int, servers: int, clients: int, minutes: float, faults: bool, logs: bool, quiet: bool
) -> None:
    """Simulate an ensemble: real servers and clients, virtual time, network and disks.

    Prints what happens, with the virtual time in seconds, and at the end what is wrong. Ends with status 1 if
    anything is. The digest at the end is the same for two runs only if all that happened in them was the same.
    """
    from corral.simulation.run import Scenario
    from corral.simulation.run import simulate as run

    scenario = Scenario(servers=servers, clients=clients, seconds=minutes * 60, faults=faults)
    failed = 0
    for each in range(seed, seed + runs):
        verdict = run(each, scenario, show=None if quiet else click.echo, with_logs=logs and not quiet)
        click.echo(f"{verdict}\ndigest {verdict.digest}")
        failed += bool(verdict.violations)
    if failed:
        click.echo(f"{failed} of {runs} seeds failed", err=True)
        sys.exit(1)
