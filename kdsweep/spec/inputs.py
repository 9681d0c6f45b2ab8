"""Files and folders that a run reads: every machine that trains must see them."""

from kdsweep.spec.run import RunSpec


def inputs_of(run: RunSpec) -> dict[str, str]:
    """Paths by the dotted key of the sweep file that names them."""
    models = {"student": run.student, **({"teacher": run.teacher} if run.teacher else {})}
    paths = {
        "run.data.root": getattr(run.data, "root", None),
        "run.teacher.checkpoint": run.teacher.checkpoint if run.teacher else None,
        **{
            f"run.{name}.pretrained": getattr(choice.config, "pretrained", None)
            for name, choice in models.items()
        },
    }
    return {key: str(path) for key, path in paths.items() if path}
