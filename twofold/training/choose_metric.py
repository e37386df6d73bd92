"""Which metric chooses the best snapshots of a run."""

from twofold.config import Config
from twofold.data.answers import answered_by_name, equal_names
from twofold.data.manifest import Manifest
from twofold.errors import UsageError
from twofold.evaluation.features import inception_home
from twofold.evaluation.settings import HeldOutMetric
from twofold.runs import Notify

ENOUGH = 8
"""Held-out images of each domain that a KID or a FID needs; an SWD of fewer is imprecise."""


def metric_for(config: Config, manifest: Manifest, notify: Notify) -> HeldOutMetric:
    """The metric that chooses the best snapshots: the user's, or one that the held-out images allow.

    Raises:
        UsageError: they do not allow the user's.
    """
    wanted, network = config.evaluation.metric, config.evaluation.features
    fewest = min(len(side.held_out) for side in (manifest.a, manifest.b))
    known = manifest.paired or answered_by_name(manifest, config.data.val_paired)
    answers = bool(manifest.a.held_out) and known
    if wanted == "auto":
        found = automatic_metric(answers, fewest, network is not None)
        if config.evaluation.every != 0 and (line := about_metric(found, fewest, equal_names(manifest))):
            notify(line)
        return found
    if wanted in ("psnr", "ssim") and not answers:
        raise UsageError(
            f"evaluation.metric {wanted} needs held-out pairs: a paired data set, or --val folders with equal names and --paired"
        )
    if wanted == "swd" and not fewest:
        raise UsageError("evaluation.metric swd needs held-out images of A and of B: give --val A B")
    if wanted in ("kid", "fid") and network is None and not inception_home().is_file():
        raise UsageError(
            f"evaluation.metric {wanted} needs evaluation.features NETWORK, or Inception's weights at"
            f" {inception_home()}: run `twofold evaluate --download-weights`"
        )
    if wanted in ("kid", "fid") and fewest < ENOUGH:
        raise UsageError(
            f"evaluation.metric {wanted} needs {ENOUGH} held-out images of A and of B: give --val A B"
        )
    return wanted


def automatic_metric(answers: bool, fewest: int, network: bool) -> HeldOutMetric:
    """The metric for held-out images, of which the smaller domain has `fewest`."""
    if answers:
        return "psnr"
    if network and fewest >= ENOUGH:
        return "kid"
    return "swd" if fewest else "none"


def about_metric(metric: HeldOutMetric, fewest: int, same_names: bool) -> str:
    """What the user should know about an automatic metric; may be empty."""
    if metric == "none":
        return "no best snapshot will be chosen: A or B has no held-out images; give --val A B"
    if metric == "psnr":
        return ""
    hint = "; if those of equal names are answers, add --paired" if same_names else ""
    if fewest < ENOUGH:
        return (
            f"A or B has only {fewest} held-out image{'s' * (fewest > 1)}: the {metric.upper()} that chooses the best snapshots is"
            f" imprecise with fewer than {ENOUGH}{hint}"
        )
    return f"{metric.upper()} chooses the best snapshots{hint}" if hint else ""
