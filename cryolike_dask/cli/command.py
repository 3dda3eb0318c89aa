"""A command that refuses repeated options, whose last value would silently replace the others, and empty values."""

from __future__ import annotations

from collections import Counter

import click


class Command(click.Command):
    """A command that either uses or refuses every option that it is given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See `click.Command`.

        Raises:
            click.UsageError: an option that takes one value is given several times, or a value is empty, such as that of an unset shell
                variable.
        """
        given, _, order = self.make_parser(ctx).parse_args(args=list(args))
        rest = super().parse_args(ctx, args)
        if ctx.resilient_parsing:  # of completion
            return rest
        for option, times in Counter(order).items():
            if isinstance(option, click.Option) and times > 1 and not option.multiple:
                ctx.fail(f"{option.opts[-1]} is given {times} times. Give it once: {option.help}")
        for parameter in self.params:
            value = given.get(str(parameter.name))
            if value == "" or (isinstance(value, list | tuple) and "" in value):
                name = parameter.opts[-1] if isinstance(parameter, click.Option) else parameter.make_metavar(ctx)
                ctx.fail(f"{name} is empty. Give a value, or leave it out; in a script, check that the shell variable is set.")
        return rest
