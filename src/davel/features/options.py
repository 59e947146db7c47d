"""What `davel extract` can be told, as values. Nothing here needs torch: the command line reads it for its help."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from davel.compute.cluster import ClusterOptions
from davel.core.config import put
from davel.core.options import OptionError, option

if TYPE_CHECKING:
    from davel.features.family import Precision
    from davel.features.reading import Settings


@dataclass(frozen=True, kw_only=True)
class ExtractOptions:
    """How the features of files are made."""

    features: str = "i3d-vggish"
    """i3d-vggish, light, one-peace, or of another package."""
    colours: str = "declared"
    """declared, or bt601 whatever a file declares, as the published ones."""
    resampler: str | None = None
    """soxr, resampy-0.2.2 or resampy-0.4.3 (default: as these features' protocol says)."""
    flow_updates: int | None = option(None, minimum=1)
    """Refinements of the flow; fewer than 20 are faster, and other features."""
    others: list[str] | None = option(None, "--option", metavar="NAME=VALUE")
    """An option of these features; may be repeated."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""
    precision: str = "float32"
    """float32, bfloat16 or float16."""
    compile: bool = False
    """Compile the networks first."""
    workers: int | None = option(None, minimum=1)
    """Processes (default: this one; for light, one per CPU)."""
    cluster: ClusterOptions = field(default_factory=ClusterOptions)

    def settings(self) -> Settings:
        """How each file's are made. OptionError or ConfigError if there are no such features or options of them."""
        from davel.features.family import family
        from davel.features.reading import Settings

        options: dict[str, Any] = {}
        for given in self.others or ():
            put(options, given)
        if self.precision not in ("float32", "bfloat16", "float16"):
            raise OptionError("precision", f"expected float32, bfloat16 or float16, got {self.precision!r}")
        for name in ("device", "precision", "compile"):
            if name in options:
                raise OptionError("others", f"is an option of its own: --{name}")
        options |= {"colours": self.colours} | ({"resampler": self.resampler} if self.resampler else {})
        if self.flow_updates is not None:
            options["flow_updates"] = self.flow_updates
        spec = family(self.features).specified(options)
        return Settings(spec, self.device, cast("Precision", self.precision), self.compile)
