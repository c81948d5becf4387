"""`mmreg prepare`: a recipe's values decoded into the cache, before anything is trained on them."""

from __future__ import annotations

from typing import Any

from mmreg.console import (
    Bar,
    Debug,
    Format,
    FormatOption,
    On,
    Quiet,
    RecipeArgument,
    Seed,
    Set,
    note,
    print_json,
    print_table,
    recipe_overrides,
    say,
)
from mmreg.importing import stdout_to_stderr


def prepare(
    recipe: RecipeArgument,
    set_: Set = None,
    seed: Seed = None,
    on: On = None,
    format_: FormatOption = Format.TABLE,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Decode all values of a recipe's table into the cache, so that trainings find them there.

    Nothing is trained. What an earlier call, or a training, has left in the cache is not decoded again; one that was
    stopped is gone on with.

    Example: mmreg prepare recipe.yaml
    """
    from mmreg.registry.engines import engine

    chosen = None if on is None else engine(on)
    from mmreg.data.cache import cache_dir
    from mmreg.data.prepared import bad_texts
    from mmreg.experiment import checked_plan, open_experiment, prepare_all
    from mmreg.recipe.recipe import read_recipe

    with stdout_to_stderr:
        plan = checked_plan(read_recipe(recipe, recipe_overrides(set_, seed=seed)))
        experiment = open_experiment(plan)
        if not quiet:
            for text in experiment.messages:
                note(text)
        with Bar(not quiet, None if quiet else say) as bar:
            prepared = prepare_all(
                plan,
                experiment.table,
                experiment.modalities,
                cache_dir(),
                lambda done, total, name: bar.advance(f"preparing {name}", done, total),
                engine=chosen,
            )
    for text in bad_texts(prepared.values()):
        note(text)
    rows: list[dict[str, Any]] = [
        {
            "modality": name,
            "rows": len(values),
            "present": int(values.present.sum()),
            "bad": len(values.bad),
            "values": int(values.index.max(initial=-1)) + 1,
            "bytes": values.nbytes,
        }
        for name, values in prepared.items()
    ]
    if format_ == Format.JSON:
        print_json({"cache": str(cache_dir()), "modalities": rows})
        return
    print_table(rows)
    if not quiet:
        say(f"all of it is in {cache_dir()}")
