"""Terms of statistics on the page, explained to whoever points at one."""

from markupsafe import Markup

TERMS = {
    "AURC": "the share of errors among the items answered, averaged over how many are answered: lower is better",
    "BCa": "bias-corrected and accelerated bootstrap: an interval from resamples, mended for skew (Efron 1987)",
    "FLOPs": "floating-point operations, as the network's layers need them",
    "Holm": "a correction of several p-values for being several (Holm 1979)",
    "McNemar": "a test that counts the items which one model alone gets right, and those which the other alone does",
    "Wilson": "an interval for a proportion that holds for few items, too (Wilson 1927)",
    "R²": "the share of the variance of the labels that predictions explain: 1 is perfect, 0 no better than their mean",
    "calibration error": "the mean gap between a model's confidence and its accuracy, over 15 bins of confidence",
    "coverage": "the share of test items that the interval of their prediction holds; 90% should be",
    "gain": "the metric of a model less that of a baseline, on the same test items",
    "log loss": "the negative logarithm of the probability that a model gives to the right class, averaged",
    "macro F1": "the mean over the classes of F1, the harmonic mean of precision and recall: all count alike",
    "maxT": "widens several intervals so that all of them hold at once (Westfall and Young 1993)",
    "one standard error": "the noise of a mean: held-out samples cannot tell apart what differs by less",
    "temperature": "a number that logits are divided by, so that confidence is as high as accuracy",
    "validation": "the metric on held-out samples, which no contender was trained on when it was measured",
    "verdict": "helped: the interval of every gain lies above the least gain that counts; hurt: one lies below 0",
}


def term(name: str, shown: str | None = None) -> Markup:
    """A term as `shown`, by default its name, with its explanation; KeyError for one that has none."""
    return Markup('<abbr tabindex="0" title="{}">{}</abbr>').format(TERMS[name], shown or name)
