"""Which commands say yes or no to what a plan holds back, and tell people? approve, reject, notify."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from flows.console import HERE, ProjectFolder, out, refusing
from flows.environment import make_prefect_home, prepare
from pipelines.errors import RefusalError, UnavailableError

app = typer.Typer()


@app.command()
@refusing
def approve(
    digest: Annotated[str, typer.Argument(help="The digest of a plan that holds something back.")],
    why: Annotated[str, typer.Option("--why", help="Kept with the approval.")] = "by hand",
    project: ProjectFolder = HERE,
) -> None:
    """Say yes to what a plan holds back, and to nothing else: those removals, or an action that waits."""
    prepare(project)
    from flows.asking import Answer
    from pipelines.observe.guard import approve as give
    from pipelines.ports import quiet
    from pipelines.publish.plan import read_plan
    from pipelines.publish.project import Project

    opened = Project.open(project, quiet)
    with opened.workspace.writing():
        plan = read_plan(opened, digest)
        given = give(opened.workspace, digest, plan, why)
    what = [f"{len(given.removals)} removals"] if given.removals else []
    what += [str(given.action)] if given.action else []
    who = _resumed(opened, plan, Answer(approve=True, why=why))
    out.print(f"approved: {' and '.join(what)}; {who} goes ahead with it, on this very data")


@app.command()
@refusing
def reject(
    digest: Annotated[str, typer.Argument(help="The digest of a plan that holds something back.")],
    why: Annotated[str, typer.Option("--why", help="Kept, and given as the reason in later decisions.")],
    project: ProjectFolder = HERE,
) -> None:
    """Say no to what a plan holds back: it is not proposed again for this data."""
    prepare(project)
    from flows.asking import Answer
    from pipelines.observe.guard import reject as refuse
    from pipelines.ports import quiet
    from pipelines.publish.plan import read_plan
    from pipelines.publish.project import Project

    opened = Project.open(project, quiet)
    with opened.workspace.writing():
        plan = read_plan(opened, digest)
        said = refuse(opened.workspace, digest, plan, why)
    what = [f"{len(said.removals)} removals"] if said.removals else []
    what += [" and ".join(said.actions)] if said.actions else []
    out.print(
        f"rejected: {' and '.join(what)}; {_resumed(opened, plan, Answer(approve=False, why=why))} goes on without it"
    )


def _resumed(opened: Any, plan: Any, answer: Any) -> str:
    """Who takes the answer up: the run that waits for it, where a server has one, else the next."""
    from flows.asking import resume

    try:
        names = resume(opened.workspace, plan, answer)
    except UnavailableError:
        names = []
    return f"the run {' and '.join(names)}, resumed," if names else "the next `ragtide run`"


@app.command()
@refusing
def notify(
    test: Annotated[bool, typer.Option("--test", help="Send a message to every block of `notify.blocks`.")] = False,
    project: ProjectFolder = HERE,
) -> None:
    """List who is told of what, and see whether Prefect has these blocks; with --test, send each a message."""
    prepare(project)
    from pipelines.workspace import Workspace

    workspace = Workspace.open(project)
    params = workspace.params.notify
    if not params.blocks:
        out.print("nobody is told of anything: `notify.blocks` in params.yaml names nobody")
        return
    make_prefect_home()
    from flows.notify import News, check, send

    check(params)
    out.print(f"{', '.join(params.blocks)}: told of {', '.join(params.about)}", soft_wrap=True)
    news = News("waits", f"ragtide: a test from {workspace.root.name}", "`ragtide notify --test` was called.", "")
    for block in params.blocks if test else ():
        try:
            send(block, news)
        except Exception as problem:
            raise RefusalError(f"{block} did not take the message: {' '.join(str(problem).split())}") from problem
        out.print(f"{block}: sent")
