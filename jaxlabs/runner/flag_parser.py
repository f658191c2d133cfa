"""The text of a flag becomes a value; an error names the accepted values."""

from typing import Any

from absl import flags

from jaxlabs.config import ACCEPTED, ArgumentError

NONE = object()
"""Value of a flag after `--flag=none`, distinct from that of an absent flag."""

TRUTH = {"true": True, "false": False, "1": True, "0": False}


class FlagParser(flags.ArgumentParser):
    """Converts the text of one flag.

    Attributes:
      name: name of the flag.
      kind: type of its value.
      optional: whether `none` is accepted.
    """

    def __init__(self, name: str, kind: type, optional: bool = False):
        super().__init__()
        self.name, self.kind, self.optional = name, kind, optional

    def parse(self, argument: Any) -> Any:
        if not isinstance(argument, str):
            return argument
        if self.optional and argument == "none":
            return NONE
        try:
            return TRUTH[argument] if self.kind is bool else self.kind(argument)
        except (KeyError, ValueError):
            accepted = ACCEPTED[self.kind] + (" or none" if self.optional else "")
            raise ArgumentError(self.name, f"{argument!r} is not accepted; {accepted}") from None

    def flag_type(self) -> str:
        return self.kind.__name__
