"""`tasktrail witness add|list|remove`: the witnesses that are asked to sign each seal, too."""

import click

from .command import CliCommand, CliGroup, everywhere, pass_session
from .completion import SuggestedParam, witness_names
from .parameters import GivenTextParam
from .proof import refuse_no_address, witness_keys
from .session import Session
from .terminal import Column, plain, print_json, say


@click.group("witness", cls=CliGroup, params=everywhere(root=False))
def witness_command() -> None:
    """Have other services sign each seal; they refuse a seal that does not continue what they have signed."""


@witness_command.command(
    "add",
    cls=CliCommand,
    examples=[
        ("tasktrail witness add https://witness.example --key witness.key", "asked from the next seal on"),
        ("tasktrail witness add https://witness.example --key w1+e42b2f2c+BDtq…", "the key itself"),
    ],
)
@click.argument("address", metavar="URL")
@click.option(
    "--key", metavar="KEY|FILE", type=GivenTextParam(), required=True, help="Its public key, from its operator."
)
@pass_session
def start_asking(session: Session, address: str, key: str) -> None:
    """Have the witness at URL sign each seal, from the next one on.

    URL is the part of its address before `/add-checkpoint`; its operator knows it. Give the operator the name and the
    public key that `tasktrail seal` prints. A running service needs no restart. Witnesses are kept in the file
    witnesses.json of the data folder.
    """
    from ..projections.proof.witness_list import Witness

    session.files_only("witness")
    refuse_no_address(address, "Give the part of the address before `/add-checkpoint`.")
    (checked,) = witness_keys([key])
    session.environment.add_witness(session, Witness(address, checked.text))
    if session.as_json:
        print_json({"witness": checked.name, "url": address, "key": checked.text})
    else:
        say(f"the witness {plain(checked.name)} is asked to sign from the next seal on")


_COLUMNS = (Column("NAME"), Column("SIGNED UP TO"), Column("AT", leaves=2), Column("URL", "text"))


@witness_command.command(
    "list", cls=CliCommand, examples=[("tasktrail witness list", "who is asked, and how far each has signed")]
)
@pass_session
def list_witnesses(session: Session) -> None:
    """List the witnesses, and up to which position each has signed, in the 20 newest seals."""
    session.files_only("witness")
    witnesses = session.environment.witnesses(session)
    if session.as_json:
        for one, signed in witnesses:
            fields = {"witness": signed.witness, "url": one.url, "key": one.key}
            print_json(fields | {"position": signed.position, "at": signed.at or None})
        return
    if not witnesses:
        say("There is no witness. `tasktrail witness add --help` tells how to add one.")
        return
    rows = [
        (plain(signed.witness), str(signed.position or "–"), signed.at or "–", plain(one.url))
        for one, signed in witnesses
    ]
    session.layout().table(_COLUMNS, rows)


@witness_command.command(
    "remove",
    cls=CliCommand,
    examples=[("tasktrail witness remove witness.example/w1", "asked no more; what it has signed stays")],
)
@click.argument("witness", metavar="URL|NAME", type=SuggestedParam("witness", witness_names))
@pass_session
def stop_asking(session: Session, witness: str) -> None:
    """Stop asking the witness of this name, or all at this address. Their signatures stay with the seals."""
    session.files_only("witness")
    for one in session.environment.remove_witnesses(session, witness):
        if session.as_json:
            print_json({"witness": one.name, "url": one.url, "key": one.key})
        else:
            say(f"the witness {plain(one.name)} is asked no more")
