"""Formulas of quality: perplexity, its ratio to the base, divergence from the base, agreement with it.

Pure functions of per-window sums. Tokens of one window err together, so the window is the unit of every
interval. The evaluator and the ``evaluate`` metrics both end here, so their numbers are the same.
"""

from __future__ import annotations

import math

from olivine.evaluators.stats import Floats, Interval, clustered_mean


def perplexity(nll: Floats, tokens: Floats) -> Interval:
    """exp(sum of negative log-likelihoods / number of tokens).

    Args:
        nll: [windows] sum over a window's tokens, in nats.
        tokens: [windows] number of scored tokens.
    """
    return clustered_mean(nll, tokens).exp()


def perplexity_ratio(nll: Floats, base_nll: Floats, tokens: Floats) -> Interval:
    """Perplexity over the base's on the same tokens; text that is hard for both cancels within a window."""
    return clustered_mean(nll - base_nll, tokens).exp()


def kl_divergence(kl: Floats, tokens: Floats) -> Interval:
    """Mean KL(base || candidate) of the next-token distributions, in nats per token; [windows] sums."""
    return clustered_mean(kl, tokens).clip(0.0, math.inf)


def top1_agreement(agree: Floats, tokens: Floats) -> Interval:
    """Share of positions where candidate and base find the same token likeliest; [windows] counts."""
    return clustered_mean(agree, tokens).clip(0.0, 1.0)


def bits_per_byte(nll: Floats, text_bytes: Floats) -> Interval:
    """Negative log-likelihood in bits per byte of UTF-8 text: compares models whose tokenizers differ.

    Source: Gao et al., The Pile, arXiv 2101.00027, section 3.1.
    """
    return clustered_mean(nll / math.log(2), text_bytes)
